/* Finding the running server that a verb means, and asking it. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ctl;

struct server {
    int fd; /* of its control socket; owned; -1: none */
    pid_t pid;
    uid_t uid;
    bool is_foreign;       /* root found it in another user's folders */
    char folder[PATH_MAX]; /* its run folder */
    char file[PATH_MAX];   /* its configuration; as another process said it */
    char bytes[4096];      /* that came, but for those before POS */
    size_t pos, have;
};

/* Connects to the server of -f FILE (for root: also another user's); without -f
 * to that of the first of ctl->files; without such a file to the only one that
 * runs, which is named on ctl->errors. MUST_NAME, for what changes a server:
 * all of ctl->files count, and none is taken that was not named so: what runs
 * is listed. 0, or an exit status after a sentence on ctl->errors. VERB stands
 * in sentences. */
int server_find(struct ctl *ctl, const char *verb, bool must_name,
                struct server *server);
void server_close(struct server *server);
/* Connects once more to one that was found and closed, and is not foreign.
 * false: it has ended. */
bool server_again(struct server *server);

/* Sends the request and reads the first line of the reply. 0: "ok"; else an
 * exit status after a sentence. */
int server_ask(struct ctl *ctl, const char *verb, struct server *server,
               const char *request);
/* Waits for more of the reply, until DEADLINE (monotonic ns, UINT64_MAX: for
 * ever). false: there is none (errno). */
bool server_readable(struct server *server, uint64_t deadline);
/* One line of the reply, without its newline, of at most SIZE bytes; waits
 * until DEADLINE (monotonic ns, UINT64_MAX: for ever). 1: a line; 0: the end;
 * -1: time is over, or an error (errno). */
int server_line(struct server *server, char *line, size_t size,
                uint64_t deadline);
/* Says on ctl->errors that server_line() gave -1. CTL_FAILED. */
int server_broke_off(struct ctl *ctl, const char *verb);
