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
#include "bench-util.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* Listens on a free port of the loopback address and prints where. */
static int
floor_listen(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);
    int fd;

    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
        listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&sin, &len) < 0) {
        bench_die("listen");
    }
    printf("ready url=http://127.0.0.1:%u/\n", ntohs(sin.sin_port));
    fflush(stdout);
    return fd;
}

static void
floor_watch(int ep, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.fd = fd};

    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0) {
        bench_die("epoll_ctl");
    }
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
        floor_watch(ep, fd, EPOLLIN | EPOLLET);
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
    floor_watch(ep, listener, EPOLLIN);
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
    floor_serve(floor_listen(), answer, bytes);
    return 0;
}
