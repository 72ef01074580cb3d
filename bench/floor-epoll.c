/*
 * Floor: the least a server can do for a request.  One thread, a bare
 * edge-triggered epoll loop, kept connections; whatever arrives is received
 * with one call and answered with one send of a constant.  Nothing is
 * parsed, so this is no HTTP server: it measures the kernel's share of the
 * work, and every ratio of the bench is against it.
 *
 * Invariant: one receive per event is enough.  The load generator keeps one
 * small request in flight per connection, so a receive shorter than the
 * buffer has emptied the socket and the next request makes a new edge.
 *
 * The answer has exactly --bytes bytes, so that the floor moves as many
 * bytes as the server it is compared with; a padding field fills it up.
 */
#include "bench-net.h"

#include <getopt.h>
#include <stdbool.h>

#define FLOOR_BODY   "Well, hello to you too!\n"
#define FLOOR_EVENTS 256

static const char floor_head[] = "HTTP/1.1 200 OK\r\n"
                                 "Content-Type: text/plain\r\n"
                                 "Content-Length: 24\r\n";

/* Fills out with the answer; bytes is the size of the whole of it.  Returns
 * the size really made: never less than the shortest answer, and the
 * shortest one also when bytes leaves no room for the padding's name. */
static size_t
floor_answer(char *out, size_t room, size_t bytes)
{
    size_t base = sizeof(floor_head) - 1 + 2 + sizeof(FLOOR_BODY) - 1;
    size_t field = sizeof("X-Pad: \r\n") - 1;
    int pad = bytes > base + field ? (int)(bytes - base - field) : 0;

    if (pad == 0) {
        return (size_t)snprintf(out, room, "%s\r\n%s", floor_head, FLOOR_BODY);
    }
    return (size_t)snprintf(out, room, "%sX-Pad: %0*d\r\n\r\n%s", floor_head,
                            pad, 0, FLOOR_BODY);
}

static void
floor_accept(int ep, int listener)
{
    int one = 1;

    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        bench_watch(ep, fd, EPOLLIN | EPOLLET);
    }
}

static void
floor_serve(int listener, const char *answer, size_t answer_len)
{
    struct epoll_event events[FLOOR_EVENTS];
    char buf[4096];
    int ep = epoll_create1(EPOLL_CLOEXEC);

    if (ep < 0) {
        bench_die("epoll_create1");
    }
    bench_watch(ep, listener, EPOLLIN);
    for (;;) {
        int n = epoll_wait(ep, events, FLOOR_EVENTS, -1);

        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            ssize_t got;

            if (fd == listener) {
                floor_accept(ep, listener);
                continue;
            }
            got = recv(fd, buf, sizeof(buf), 0);
            if (got < 0 && errno == EAGAIN) {
                continue;
            }
            if (got <= 0 || send(fd, answer, answer_len, MSG_NOSIGNAL) !=
                                (ssize_t)answer_len) {
                close(fd);
            }
        }
    }
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"cpu", required_argument, NULL, 'c'},
        {"bytes", required_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    char answer[4096];
    size_t bytes = 0;
    int cpu = -1;
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'c') {
            cpu = (int)bench_number("cpu", optarg, 0, CPU_SETSIZE - 1);
        } else if (opt == 'b') {
            bytes = (size_t)bench_number("bytes", optarg, 0, 4000);
        } else {
            fprintf(stderr, "usage: floor-epoll [--cpu N] [--bytes N]\n");
            return 2;
        }
    }
    bench_pin(cpu);
    bytes = floor_answer(answer, sizeof(answer), bytes);
    floor_serve(bench_listen(1024), answer, bytes);
    return 0;
}
