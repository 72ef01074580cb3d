/*
 * Floor: the least that many idle connections cost.  Accepts whatever comes and
 * parks it in an epoll set, nothing else: no record, no answer.  A server's
 * memory for an idle connection is compared with this one's, the kernel's
 * share included.  A connection that ends is closed.
 */
#include "bench-net.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#define PARK_EVENTS 64

static int
park_listen(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
        listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&sin, &len) < 0) {
        bench_die("listen");
    }
    printf("ready url=http://127.0.0.1:%u/\n", ntohs(sin.sin_port));
    fflush(stdout);
    return fd;
}

static void
park_watch(int ep, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};

    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0) {
        bench_die("epoll_ctl");
    }
}

static void
park_accept(int ep, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && errno == EMFILE) {
            epoll_ctl(ep, EPOLL_CTL_DEL, listener, NULL); /* full */
            return;
        }
        if (fd < 0 && errno == EAGAIN) {
            return;
        }
        if (fd < 0) {
            bench_die("accept");
        }
        park_watch(ep, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    }
}

static void __attribute__((noreturn)) park_serve(int listener)
{
    struct epoll_event events[PARK_EVENTS];
    int ep = epoll_create1(EPOLL_CLOEXEC);

    if (ep < 0) {
        bench_die("epoll_create1");
    }
    park_watch(ep, listener, EPOLLIN);
    for (;;) {
        int n = epoll_wait(ep, events, PARK_EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) {
                park_accept(ep, listener);
            } else if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
                close(events[i].data.fd);
            }
        }
    }
}

/* --processes: as many as it takes to hold all, where one may not have so many
 * descriptors.  They end with the first. */
int
main(int argc, char **argv)
{
    pid_t first = getpid();
    long n = 1;
    int listener;

    if (argc == 3 && strcmp(argv[1], "--processes") == 0) {
        n = bench_number("processes", argv[2], 1, 64);
    } else if (argc != 1) {
        fprintf(stderr, "usage: floor-park [--processes N]\n");
        return 2;
    }
    bench_want_files(16);
    listener = park_listen();
    while (--n > 0) {
        pid_t pid = fork();

        if (pid < 0) {
            bench_die("fork");
        }
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != first) {
                return 1;
            }
            break;
        }
    }
    park_serve(listener);
}
