/*
 * What the bench programs with many connections share: a listening socket, all
 * descriptors that are allowed, and a connection from a client address of one's
 * choice. One address has some 28,000 ports towards one server, so a crowd
 * comes from several addresses of 127/8, which all lead to this machine.
 */
#pragma once

#include "bench-util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BENCH_PORTS 10000 /* connections from one address */

/* Raises the soft limit of descriptors to the hard one; ends with status 1 and
 * a sentence if that is less than n. */
static inline void
bench_want_files(long n)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        bench_die("getrlimit");
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        bench_die("setrlimit");
    }
    if (limit.rlim_cur < (rlim_t)n) {
        fprintf(stderr,
                "%s: %ld descriptors are needed and %llu allowed: "
                "raise the hard limit (ulimit -Hn)\n",
                program_invocation_short_name, n,
                (unsigned long long)limit.rlim_cur);
        exit(1);
    }
}

/* Listens on a free port of the loopback address, non-blocking, and prints
 * where.  backlog: as of listen(2).  Ends the program if it cannot. */
static inline int
bench_listen(int backlog)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
        listen(fd, backlog) < 0 ||
        getsockname(fd, (struct sockaddr *)&sin, &len) < 0) {
        bench_die("listen");
    }
    printf("ready url=http://127.0.0.1:%u/\n", ntohs(sin.sin_port));
    fflush(stdout);
    return fd;
}

/* Adds fd to the epoll set ep; its events carry the descriptor. */
static inline void
bench_watch(int ep, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};

    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0) {
        bench_die("epoll_ctl");
    }
}

/* A connection to 127.0.0.1:port from address 127.net.1.(1 + nth / PORTS), or
 * -1 with errno.  receive: size of the receive buffer, 0: the system's; with
 * small packets besides, as from afar: the loopback device's are 64 KiB, and
 * the kernel would take megabytes from the server ahead of the reader. */
static inline int
bench_connect(int port, int net, int nth, int receive)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0) {
        return -1;
    }
    from.sin_addr.s_addr =
        htonl((127u << 24) | ((uint32_t)net << 16) | (1u << 8) |
              (1u + (uint32_t)nth / BENCH_PORTS));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (receive > 0) {
        int segment = 1400;

        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive));
        setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
    }
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}
