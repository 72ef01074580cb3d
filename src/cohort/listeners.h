/* The listening sockets of a configuration. */
#pragma once

#include <stddef.h>
#include <sys/socket.h>

struct conf;
struct conf_listen;

/* Opens a socket for every conf->listens into FDS (as many): non-blocking,
 * close-on-exec, listening; the caller owns them. For an address whose port
 * nobody wrote, the next free one of a hundred. 0; or a negative errno after
 * one sentence in WHY, with all FDS closed. */
int listeners_open(const struct conf *conf, int *fds, char *why,
                   size_t why_size);

/* "http://127.0.0.1:8080/" of the socket FD as it is bound; a wildcard address
 * shows as the loopback. Empty if FD is none of TCP. */
#define LISTENERS_URL_MAX 128
void listeners_url(int fd, char url[LISTENERS_URL_MAX]);
