/* The listening sockets of a configuration. */
#pragma once

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

struct conf;
struct conf_listen;

/* The file of a Unix socket, as we made it; ino 0: none of ours. */
struct listeners_file {
    dev_t dev;
    ino_t ino;
};

/* Opens a socket for every conf->listens into FDS and FILES (as many of each):
 * non-blocking, close-on-exec, listening; the caller owns them. For an address
 * whose port nobody wrote, the next free one of a hundred. A Unix socket's file
 * has its mode from the start; one that nobody listens on is replaced. Changes
 * the umask for a moment: no other thread may be there. 0; or a negative errno
 * after one sentence in WHY, with all FDS closed and their files removed. */
int listeners_open(const struct conf *conf, int *fds,
                   struct listeners_file *files, char *why, size_t why_size);

/* The same for a start: an address that another program holds is asked for
 * again for a second. The processes of a server that was killed end a moment
 * after it, and who starts it again at once should not have to know that. */
int listeners_open_soon(const struct conf *conf, int *fds,
                        struct listeners_file *files, char *why,
                        size_t why_size);

/* Removes the files that are still those that were made. Before the sockets are
 * closed: then no other Cardea has taken ours for dead. */
void listeners_remove(const struct conf *conf,
                      const struct listeners_file *files);

/* Where the socket FD of L is reached, as it is bound: "http://127.0.0.1:8080/"
 * (a wildcard address shows as the loopback), "tcp://127.0.0.1:9000" where no
 * HTTP is spoken, "unix:/run/app.sock". */
#define LISTENERS_URL_MAX 128
void listeners_url(const struct conf_listen *l, int fd,
                   char url[LISTENERS_URL_MAX]);
