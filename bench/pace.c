/*
 * An open loop: requests at moments that are fixed beforehand, whatever the
 * server does, each on a kept connection that is free.  A latency counts from
 * the moment at which the request was due, so a server that stalls is charged
 * with all that would have come meanwhile (a closed loop would send, and
 * measure, nothing).  All samples are kept: percentiles are exact.
 *
 * --fresh asks on a new connection each time and takes whatever is said for an
 * answer: for a caller whose server is expected to fail.
 *
 * Invariant: every request that was due ends as a sample; one without a good
 * answer is an error besides, and its sample is the time until that was known.
 */
#include "bench-net.h"
#include "load-response.h"

#include <getopt.h>
#include <stdbool.h>
#include <sys/epoll.h>

#define PACE_CONNS  1024
#define PACE_BUF    65536
#define PACE_EVENTS 64
#define PACE_GRACE  5000000000u /* ns for what is under way at the end */

struct pace_conn {
    int fd; /* -1: none */
    bool busy;
    uint64_t due;
    size_t used;
    char part[4096]; /* an answer so far */
};

struct pace {
    int port, net, n_conns;
    double rate, seconds;
    bool fresh;
    char request[1024];
    int request_len;
    struct response_check check;
    struct pace_conn *conns;
    int free[PACE_CONNS]; /* a stack of idle ones */
    int n_free;
    int ep;
    uint64_t start, now;
    long total, begun, ended, errors;
    uint64_t *samples;
    uint64_t late; /* greatest delay of a send that was our own fault */
};

static uint64_t
pace_due(const struct pace *p, long k)
{
    return p->start + (uint64_t)((double)k * 1e9 / p->rate);
}

static void
pace_connect(struct pace *p, int i)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP,
                             .data.u32 = (uint32_t)i};
    struct pace_conn *c = &p->conns[i];

    c->fd = bench_connect(p->port, p->net, 0, 0);
    if (c->fd < 0 || epoll_ctl(p->ep, EPOLL_CTL_ADD, c->fd, &ev) < 0) {
        bench_die("connect");
    }
}

static void
pace_close(struct pace_conn *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}

static void
pace_end(struct pace *p, int i, bool good)
{
    struct pace_conn *c = &p->conns[i];

    p->samples[p->ended++] = p->now - c->due;
    p->errors += !good;
    c->busy = false;
    if (p->fresh || !good || p->check.close) {
        pace_close(c);
    }
    p->free[p->n_free++] = i;
}

static void
pace_begin(struct pace *p)
{
    int i = p->free[--p->n_free];
    struct pace_conn *c = &p->conns[i];

    c->due = pace_due(p, p->begun++);
    c->busy = true;
    c->used = 0;
    if (c->fd < 0) {
        pace_connect(p, i);
    }
    if (send(c->fd, p->request, (size_t)p->request_len,
             MSG_NOSIGNAL | MSG_DONTWAIT) != p->request_len) {
        p->now = bench_now();
        pace_end(p, i, false);
    }
}

static void
pace_read(struct pace *p, int i)
{
    struct pace_conn *c = &p->conns[i];
    ssize_t got =
        recv(c->fd, c->part + c->used, sizeof(c->part) - c->used, MSG_DONTWAIT);
    long size;

    p->now = bench_now();
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (!c->busy) {
        pace_close(c); /* an idle one that the server ended; or a lie */
        p->errors += got > 0;
        return;
    }
    if (p->fresh) {
        pace_end(p, i, got > 0);
        return;
    }
    c->used += got > 0 ? (size_t)got : 0;
    size =
        got <= 0 ? RESPONSE_BAD : response_check(&p->check, c->part, c->used);
    if (size == RESPONSE_MORE && c->used < sizeof(c->part)) {
        return;
    }
    pace_end(p, i, size > 0 && (size_t)size == c->used);
}

/* Sends what is due, as far as connections are free. */
static void
pace_send(struct pace *p)
{
    while (p->begun < p->total && p->n_free > 0 &&
           pace_due(p, p->begun) <= bench_now()) {
        uint64_t due = pace_due(p, p->begun);
        uint64_t late = bench_now() - due;

        /* With a free connection all along, lateness is ours. */
        if (p->n_free == p->n_conns && late > p->late) {
            p->late = late;
        }
        pace_begin(p);
    }
}

static void
pace_wait(struct pace *p)
{
    struct epoll_event events[PACE_EVENTS];
    struct timespec ts = {.tv_nsec = 100000000};
    int n;

    if (p->begun < p->total && p->n_free > 0) {
        uint64_t due = pace_due(p, p->begun);
        uint64_t now = bench_now();
        uint64_t wait = due > now ? due - now : 0;

        ts.tv_nsec = (long)(wait < 100000000 ? wait : 100000000);
    }
    n = epoll_pwait2(p->ep, events, PACE_EVENTS, &ts, NULL);
    for (int i = 0; i < n; i++) {
        pace_read(p, (int)events[i].data.u32);
    }
}

/* What never got an answer, and what was never sent because nothing did. */
static void
pace_give_up(struct pace *p)
{
    p->now = bench_now();
    for (int i = 0; i < p->n_conns; i++) {
        if (p->conns[i].busy) {
            pace_end(p, i, false);
        }
    }
    while (p->begun < p->total) {
        p->samples[p->ended++] = p->now - pace_due(p, p->begun++);
        p->errors++;
    }
}

static void
pace_run(struct pace *p)
{
    uint64_t limit;

    p->start = bench_now() + 1000000;
    limit = pace_due(p, p->total) + PACE_GRACE;
    while (p->ended < p->total && bench_now() < limit) {
        pace_send(p);
        pace_wait(p);
    }
    pace_give_up(p);
}

static int
pace_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static double
pace_share(const struct pace *p, double share)
{
    long rank = (long)(share * (double)p->ended);

    return (double)p->samples[rank < p->ended ? rank : p->ended - 1] / 1e3;
}

static void
pace_print(struct pace *p)
{
    qsort(p->samples, (size_t)p->ended, sizeof(*p->samples), pace_compare);
    printf("{\"requests\": %ld, \"errors\": %ld, \"p50_us\": %.1f, "
           "\"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"max_us\": %.1f, \"own_late_us\": %.1f}\n",
           p->ended, p->errors, pace_share(p, 0.5), pace_share(p, 0.9),
           pace_share(p, 0.99), pace_share(p, 0.999), pace_share(p, 1),
           (double)p->late / 1e3);
}

static double
pace_real(const char *option, const char *text, double most)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value > 0 && value <= most)) {
        fprintf(stderr, "pace: --%s: %s is not a number up to %.0f\n", option,
                text, most);
        exit(2);
    }
    return value;
}

static void __attribute__((noreturn)) pace_usage(void)
{
    fprintf(stderr, "usage: pace --port N [--path /PATH] [--body TEXT]\n"
                    "            [--rate N] [--seconds S] [--connections N]\n"
                    "            [--net N] [--cpu N] [--fresh]\n");
    exit(2);
}

static const char *
pace_parse(struct pace *p, int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"path", required_argument, NULL, 'u'},
        {"body", required_argument, NULL, 't'},
        {"rate", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {"connections", required_argument, NULL, 'n'},
        {"net", required_argument, NULL, 'a'},
        {"cpu", required_argument, NULL, 'c'},
        {"fresh", no_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    const char *path = "/";
    int o;

    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (o) {
        case 'p':
            p->port = (int)bench_number("port", optarg, 1, 65535);
            break;
        case 'u':
            path = optarg;
            break;
        case 't':
            p->check.body = optarg;
            p->check.body_len = strlen(optarg);
            break;
        case 'r':
            p->rate = pace_real("rate", optarg, 100000);
            break;
        case 's':
            p->seconds = pace_real("seconds", optarg, 600);
            break;
        case 'n':
            p->n_conns =
                (int)bench_number("connections", optarg, 1, PACE_CONNS);
            break;
        case 'a':
            p->net = (int)bench_number("net", optarg, 1, 254);
            break;
        case 'c':
            bench_pin((int)bench_number("cpu", optarg, 0, CPU_SETSIZE - 1));
            break;
        case 'f':
            p->fresh = true;
            break;
        default:
            pace_usage();
        }
    }
    if (p->port == 0 || optind != argc || path[0] != '/') {
        pace_usage();
    }
    return path;
}

static void
pace_prepare(struct pace *p, const char *path)
{
    p->request_len = snprintf(p->request, sizeof(p->request),
                              "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
                              path, p->port);
    if (p->request_len >= (int)sizeof(p->request)) {
        errno = ENAMETOOLONG;
        bench_die("--path");
    }
    p->total = (long)(p->rate * p->seconds);
    p->total = p->total > 0 ? p->total : 1;
    p->samples = calloc((size_t)p->total, sizeof(*p->samples));
    p->conns = calloc((size_t)p->n_conns, sizeof(*p->conns));
    p->ep = epoll_create1(EPOLL_CLOEXEC);
    if (p->samples == NULL || p->conns == NULL || p->ep < 0) {
        bench_die("prepare");
    }
    for (int i = 0; i < p->n_conns; i++) {
        p->conns[i].fd = -1;
        p->free[p->n_free++] = i;
        if (!p->fresh) {
            pace_connect(p, i);
        }
    }
}

int
main(int argc, char **argv)
{
    struct pace p = {.n_conns = 16, .net = 254, .rate = 500, .seconds = 1};
    const char *path = pace_parse(&p, argc, argv);
    int status;

    pace_prepare(&p, path);
    pace_run(&p);
    pace_print(&p);
    status = p.errors > 0;
    for (int i = 0; i < p.n_conns; i++) {
        pace_close(&p.conns[i]);
    }
    free(p.samples);
    free(p.conns);
    return status;
}
