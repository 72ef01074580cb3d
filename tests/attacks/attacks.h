/* What several attacks need. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SURE(x)                                                                \
    do {                                                                       \
        if (!(x)) {                                                            \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #x,        \
                    strerror(errno));                                          \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

/* A connection whose end waits for a peer that never reads: whoever closes it
 * last waits too, 20 seconds. */
static inline int
lingering(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    struct linger linger = {.l_onoff = 1, .l_linger = 20};
    const int small = 4096;
    static char much[1 << 16];
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    SURE(l >= 0 && fd >= 0 &&
         setsockopt(l, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0 &&
         setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0 &&
         listen(l, 1) == 0 &&
         getsockname(l, (struct sockaddr *)&at, &len) == 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SURE(connect(fd, (struct sockaddr *)&at, len) == 0 || errno == EINPROGRESS);
    peer = accept(l, NULL, NULL); /* stays open, and is never read */
    SURE(peer >= 0 && close(l) == 0);
    SURE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    while (send(fd, much, sizeof much, MSG_NOSIGNAL) > 0) {
    }
    return fd;
}
