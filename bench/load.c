/*
 * Load generator: a closed loop of kept connections, one request in flight
 * on each, in one thread with one epoll loop.  It is half of a two-CPU
 * machine, so it does as little as it can for a request (one receive, one
 * clock read, one send of the same bytes) and still checks every response.
 *
 * A round is: send on all connections, send again for each response until
 * the time is over, then wait for what is in flight.  Nothing is under way
 * at either end of a round, so the requests counted are exactly those that
 * the server's CPU time, read at both ends, was spent on.  A burst is a
 * round of no duration: every connection sends once.
 *
 * All latencies are kept and sorted, so percentiles are exact.  A failed
 * connection is counted as an error and replaced.
 */
#include "bench-util.h"
#include "load-response.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOAD_EVENTS      256
#define LOAD_BUF         65536
#define LOAD_CONNS_MAX   10000
#define LOAD_PIDS_MAX    64
#define LOAD_ERRORS_MAX  1000
#define LOAD_SAMPLE_RATE 400000 /* a second; room for latencies */

struct load_conn {
    int fd;
    bool waiting;
    size_t used; /* bytes of an unfinished response in part */
    char *part;  /* LOAD_BUF bytes, made when first needed */
    uint64_t sent;
};

struct load_options {
    int port;
    int cpu;
    int n_conns;
    bool burst;
    bool spin; /* ask again and again instead of sleeping */
    double seconds;
    double warmup;
    double stall;
    const char *path;
    int n_pids;
    clockid_t clocks[LOAD_PIDS_MAX];
};

struct load_run {
    const struct load_options *opt;
    struct load_conn *conns;
    struct response_check check;
    char request[1024];
    size_t request_len;
    char *buf;
    int ep;
    bool sending;
    bool failed;
    int n_waiting;
    uint64_t now;
    uint64_t deadline;
    uint64_t n_requests;
    uint64_t n_errors;
    uint64_t n_reconnects;
    size_t response_bytes;
    uint32_t *samples;
    size_t n_samples;
    size_t max_samples;
};

static int
load_connect(int port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    sin.sin_port = htons((uint16_t)port);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static void
load_open(struct load_run *run, struct load_conn *conn)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = conn};

    conn->used = 0;
    conn->waiting = false;
    conn->fd = load_connect(run->opt->port);
    if (conn->fd < 0 || epoll_ctl(run->ep, EPOLL_CTL_ADD, conn->fd, &ev) < 0) {
        fprintf(stderr, "load: connect: %s\n", strerror(errno));
        run->failed = true;
    }
}

static void load_fail(struct load_run *run, struct load_conn *conn);

static void
load_send(struct load_run *run, struct load_conn *conn)
{
    if (run->failed) {
        return;
    }
    conn->sent = run->now;
    conn->waiting = true;
    run->n_waiting++;
    if (send(conn->fd, run->request, run->request_len,
             MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)run->request_len) {
        load_fail(run, conn);
    }
}

/* Replaces a connection that ended; a request that was under way on it has
 * failed.  A server may close an idle connection: that is no error. */
static void
load_fail(struct load_run *run, struct load_conn *conn)
{
    if (conn->waiting) {
        run->n_errors++;
        run->n_waiting--;
    } else {
        run->n_reconnects++;
    }
    close(conn->fd);
    load_open(run, conn);
    if (run->n_errors >= LOAD_ERRORS_MAX) {
        run->failed = true;
    }
    if (run->sending && bench_now() < run->deadline) {
        run->now = bench_now();
        load_send(run, conn);
    }
}

/* A good response is there: takes the time, asks again. */
static void
load_done(struct load_run *run, struct load_conn *conn, size_t bytes)
{
    uint64_t took;

    run->now = bench_now();
    took = run->now - conn->sent;
    if (run->n_samples < run->max_samples) {
        run->samples[run->n_samples++] =
            took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    }
    run->n_requests++;
    run->n_waiting--;
    run->response_bytes = bytes;
    conn->used = 0;
    conn->waiting = false;
    if (run->now >= run->deadline) {
        run->sending = false;
    }
    if (run->check.close) {
        load_fail(run, conn);
    } else if (run->sending) {
        load_send(run, conn);
    }
}

/* Keeps the first part of a response.  Returns false if it is too long. */
static bool
load_keep(struct load_run *run, struct load_conn *conn, size_t got)
{
    if (conn->used == 0) {
        if (conn->part == NULL) {
            conn->part = malloc(LOAD_BUF);
            if (conn->part == NULL) {
                bench_die("malloc");
            }
        }
        memcpy(conn->part, run->buf, got);
    }
    conn->used += got;
    return conn->used < LOAD_BUF;
}

/* Reads once.  Returns true if there may be more to read. */
static bool
load_read_once(struct load_run *run, struct load_conn *conn)
{
    char *base = conn->used == 0 ? run->buf : conn->part;
    size_t room = LOAD_BUF - conn->used;
    ssize_t got = recv(conn->fd, base + conn->used, room, MSG_DONTWAIT);
    size_t have;
    long size;

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (got <= 0 || !conn->waiting) {
        if (got > 0) {
            run->n_errors++; /* bytes nobody asked for */
        }
        load_fail(run, conn);
        return false;
    }
    have = conn->used + (size_t)got;
    size = response_check(&run->check, base, have);
    if (size == RESPONSE_MORE && load_keep(run, conn, (size_t)got)) {
        return true; /* an end may have come with the same edge */
    }
    if (size <= 0 || (size_t)size != have) {
        load_fail(run, conn);
        return false;
    }
    load_done(run, conn, have);
    return false;
}

/* Waits for events; if none comes for too long, fails what is waiting. */
static int
load_wait(struct load_run *run, struct epoll_event *events)
{
    uint64_t limit = bench_now() + (uint64_t)(run->opt->stall * 1e9);
    int timeout = run->opt->spin ? 0 : (int)(run->opt->stall * 1e3);
    int n;

    do {
        n = epoll_wait(run->ep, events, LOAD_EVENTS, timeout);
    } while (n <= 0 && bench_now() < limit);
    if (n <= 0) {
        fprintf(stderr, "load: %d requests without an answer\n",
                run->n_waiting);
        run->n_errors += (uint64_t)run->n_waiting;
        run->failed = true;
    }
    return n;
}

/* Sends, repeats until the deadline, waits for the rest. */
static void
load_round(struct load_run *run, double seconds)
{
    struct epoll_event events[LOAD_EVENTS];

    run->sending = true;
    run->now = bench_now();
    run->deadline = run->now + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < run->opt->n_conns; i++) {
        if (run->opt->burst) {
            run->now = bench_now();
        }
        load_send(run, &run->conns[i]);
    }
    run->sending = seconds > 0;
    while (run->n_waiting > 0 && !run->failed) {
        int n = load_wait(run, events);

        for (int i = 0; i < n && !run->failed; i++) {
            while (load_read_once(run, events[i].data.ptr)) {
            }
        }
    }
    run->sending = false;
}

/* CPU time of the server's processes, ended threads included, in us; below
 * zero if one of them cannot be read. */
static double
load_server_cpu(const struct load_options *opt)
{
    double us = 0;

    for (int i = 0; i < opt->n_pids; i++) {
        struct timespec ts;

        if (clock_gettime(opt->clocks[i], &ts) < 0) {
            return -1;
        }
        us += (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
    }
    return us;
}

static double
load_own_cpu(void)
{
    struct rusage ru;

    getrusage(RUSAGE_SELF, &ru);
    return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1e6 +
           (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
}

static int
load_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* The latency in us that a share of all samples does not exceed. */
static double
load_percentile(const struct load_run *run, double share)
{
    size_t rank = (size_t)(share * (double)run->n_samples);

    if (run->n_samples == 0) {
        return 0;
    }
    if (rank >= run->n_samples) {
        rank = run->n_samples - 1;
    }
    return run->samples[rank] / 1e3;
}

/* Gives the server time to reach its wait, so that its clocks stand still. */
static void
load_settle(void)
{
    struct timespec ts = {.tv_nsec = 5000000};

    nanosleep(&ts, NULL);
}

static void
load_measure(struct load_run *run)
{
    const struct load_options *opt = run->opt;
    double server;
    double own;
    double took;
    uint64_t start;

    if (opt->warmup > 0 && !opt->burst) {
        load_round(run, opt->warmup);
    }
    load_settle();
    run->n_requests = 0;
    run->n_samples = 0;
    server = load_server_cpu(opt);
    own = load_own_cpu();
    start = bench_now();
    load_round(run, opt->burst ? 0 : opt->seconds);
    took = (double)(run->now - start) / 1e9;
    own = load_own_cpu() - own;
    load_settle();
    server =
        opt->n_pids == 0 || server < 0 ? -1 : load_server_cpu(opt) - server;

    qsort(run->samples, run->n_samples, sizeof(*run->samples), load_compare);
    printf("{\"connections\": %d, \"requests\": %llu, \"errors\": %llu, "
           "\"reconnects\": %llu, \"complete\": %s, \"seconds\": %.6f, "
           "\"response_bytes\": %zu, \"samples\": %zu, ",
           opt->n_conns, (unsigned long long)run->n_requests,
           (unsigned long long)run->n_errors,
           (unsigned long long)run->n_reconnects,
           run->failed ? "false" : "true", took, run->response_bytes,
           run->n_samples);
    printf("\"min_us\": %.3f, \"p50_us\": %.3f, \"p90_us\": %.3f, "
           "\"p99_us\": %.3f, \"max_us\": %.3f, \"client_cpu_us\": %.0f, "
           "\"server_cpu_us\": ",
           load_percentile(run, 0), load_percentile(run, 0.5),
           load_percentile(run, 0.9), load_percentile(run, 0.99),
           load_percentile(run, 1), own);
    if (server < 0) {
        printf("null}\n");
    } else {
        printf("%.3f}\n", server);
    }
}

static void
load_prepare(struct load_run *run)
{
    const struct load_options *opt = run->opt;
    int n;

    n = snprintf(run->request, sizeof(run->request),
                 "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", opt->path,
                 opt->port);
    if (n < 0 || (size_t)n >= sizeof(run->request)) {
        errno = ENAMETOOLONG;
        bench_die("--path");
    }
    run->request_len = (size_t)n;
    run->max_samples =
        (size_t)((opt->seconds + opt->warmup + 1) * LOAD_SAMPLE_RATE);
    run->samples = mmap(NULL, run->max_samples * sizeof(*run->samples),
                        PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    run->conns = calloc((size_t)opt->n_conns, sizeof(*run->conns));
    run->buf = malloc(LOAD_BUF);
    run->ep = epoll_create1(EPOLL_CLOEXEC);
    if (run->samples == MAP_FAILED || run->conns == NULL || run->buf == NULL ||
        run->ep < 0) {
        bench_die("prepare");
    }
    for (int i = 0; i < opt->n_conns; i++) {
        load_open(run, &run->conns[i]);
        if (run->failed) {
            exit(1);
        }
    }
}

static void
load_release(struct load_run *run)
{
    for (int i = 0; i < run->opt->n_conns; i++) {
        close(run->conns[i].fd);
        free(run->conns[i].part);
    }
    munmap(run->samples, run->max_samples * sizeof(*run->samples));
    free(run->conns);
    free(run->buf);
    close(run->ep);
}

static double
load_real(const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= 0 && value <= 600)) {
        fprintf(stderr, "load: --%s: %s is not a number from 0 to 600\n",
                option, text);
        exit(2);
    }
    return value;
}

/* Reads "12,34,56" into CPU clocks of these processes. */
static void
load_pids(struct load_options *opt, char *text)
{
    char *save;

    for (char *one = strtok_r(text, ",", &save); one != NULL;
         one = strtok_r(NULL, ",", &save)) {
        pid_t pid = (pid_t)bench_number("pids", one, 1, INT32_MAX);

        if (opt->n_pids == LOAD_PIDS_MAX) {
            errno = E2BIG;
            bench_die("--pids");
        }
        errno = clock_getcpuclockid(pid, &opt->clocks[opt->n_pids]);
        if (errno != 0) {
            bench_die("--pids");
        }
        opt->n_pids++;
    }
}

static void __attribute__((noreturn)) load_usage(void)
{
    fprintf(stderr,
            "usage: load --port N [--path /PATH] [--body TEXT] [--cpu N]\n"
            "            [--connections N] [--seconds S] [--warmup S]\n"
            "            [--stall S] [--pids A,B,...] [--spin]\n"
            "       load --port N --burst N [--path /PATH] ...\n");
    exit(2);
}

static void
load_parse(struct load_options *opt, struct response_check *check, int argc,
           char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"path", required_argument, NULL, 'u'},
        {"body", required_argument, NULL, 't'},
        {"cpu", required_argument, NULL, 'c'},
        {"connections", required_argument, NULL, 'n'},
        {"burst", required_argument, NULL, 'b'},
        {"seconds", required_argument, NULL, 's'},
        {"warmup", required_argument, NULL, 'w'},
        {"stall", required_argument, NULL, 'l'},
        {"pids", required_argument, NULL, 'i'},
        {"spin", no_argument, NULL, 'x'},
        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'p':
            opt->port = (int)bench_number("port", optarg, 1, 65535);
            break;
        case 'u':
            opt->path = optarg;
            break;
        case 't':
            check->body = optarg;
            check->body_len = strlen(optarg);
            break;
        case 'c':
            opt->cpu = (int)bench_number("cpu", optarg, 0, CPU_SETSIZE - 1);
            break;
        case 'b':
            opt->burst = true; /* and the number, as for connections */
            __attribute__((fallthrough));
        case 'n':
            opt->n_conns =
                (int)bench_number("connections", optarg, 1, LOAD_CONNS_MAX);
            break;
        case 's':
            opt->seconds = load_real("seconds", optarg);
            break;
        case 'w':
            opt->warmup = load_real("warmup", optarg);
            break;
        case 'l':
            opt->stall = load_real("stall", optarg);
            break;
        case 'i':
            load_pids(opt, optarg);
            break;
        case 'x':
            opt->spin = true;
            break;
        default:
            load_usage();
        }
    }
    if (opt->port == 0 || optind != argc || opt->path[0] != '/') {
        load_usage();
    }
}

int
main(int argc, char **argv)
{
    struct load_options opt = {
        .cpu = -1,
        .n_conns = 1,
        .seconds = 1,
        .warmup = 0.2,
        .stall = 10,
        .path = "/",
    };
    struct load_run run = {.opt = &opt};
    int status;

    load_parse(&opt, &run.check, argc, argv);
    bench_pin(opt.cpu);
    load_prepare(&run);
    load_measure(&run);
    status = run.failed || run.n_errors > 0 ? 1 : 0;
    load_release(&run);
    return status;
}
