/* Finding the running server that a verb means, and asking it. */
#pragma once

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

struct ctl;

struct server {
    int fd; /* of its control socket; owned; -1: none */
    pid_t pid;
    char folder[PATH_MAX]; /* its run folder */
};

/* Connects to the server of -f FILE; without -f to that of the first of
 * ctl->files if it is ./…, else to the only one that runs. 0, or an exit status
 * after a sentence on ctl->errors. VERB stands in sentences. */
int server_find(struct ctl *ctl, const char *verb, struct server *server);
void server_close(struct server *server);

/* Sends the request and reads the first line of the reply. 0: "ok"; else an
 * exit status after a sentence. */
int server_ask(struct ctl *ctl, const char *verb, struct server *server,
               const char *request);
/* One line of the reply, without its newline, of at most SIZE bytes; waits
 * until DEADLINE (monotonic ns, UINT64_MAX: for ever). 1: a line; 0: the end;
 * -1: time is over, or an error (errno). */
int server_line(struct server *server, char *line, size_t size,
                uint64_t deadline);
