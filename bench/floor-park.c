/*
 * Floor: the least that many idle connections cost.  Accepts whatever comes and
 * parks it in an epoll set, nothing else: no record, no answer.  A server's
 * memory for an idle connection is compared with this one's, the kernel's
 * share included.  A connection that ends is closed.
 */
#include "bench-net.h"

#include <signal.h>
#include <sys/prctl.h>

#define PARK_EVENTS 64

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
        bench_watch(ep, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    }
}

static void __attribute__((noreturn)) park_serve(int listener)
{
    struct epoll_event events[PARK_EVENTS];
    int ep = epoll_create1(EPOLL_CLOEXEC);

    if (ep < 0) {
        bench_die("epoll_create1");
    }
    bench_watch(ep, listener, EPOLLIN);
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
    listener = bench_listen(4096);
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
