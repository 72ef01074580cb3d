/* Addresses of the program behind the shim, and sockets that it gets. */
#pragma once

#include <sys/socket.h>

/* "unix:/path", or "host:port" with a numeric host, an IPv6 one in brackets.
 * 0, or -1: it is neither. */
int listen_parse(const char *text, struct sockaddr_storage *addr,
                 socklen_t *p_len);

/* A listening Unix socket that has no name any more when this returns: nobody
 * finds it but by *ADDR, which leads through *P_PATH_FD, a descriptor of the
 * caller as the socket itself, and works in this process alone. HINT is a path
 * beside which there may be a file for a moment; NULL: none. The socket, or -1
 * with errno. */
int listen_unix(const char *hint, struct sockaddr_storage *addr,
                socklen_t *p_len, int *p_path_fd);

/* A listening socket at a free port of 127.0.0.1, or -1 with errno. */
int listen_loopback(struct sockaddr_storage *addr, socklen_t *p_len);

/* Does a connection wait to be accepted? */
int listen_is_awaited(int fd);
