/*
 * A crowd: many connections to one server, which are held and do little.
 *
 *   idle   nothing, until told to ask for a page
 *   head   send one more byte of a request's head each second
 *   body   the same of a request's body
 *   read   ask for something large, take some hundred bytes of it each second
 *
 * The harness talks to it with lines on standard input; each is answered with
 * one line of JSON, as is the beginning.
 *
 *   ask N  a request on N of the connections, spread over all of them, answers
 *          checked:  {"asked": N, "good": G}
 *   count  how many the server has neither closed nor answered unasked:
 *          {"open": N}
 *
 * The end of its input ends it.  It keeps no epoll set and no buffers, so that
 * its own share of the kernel's memory is sockets and nothing else.
 */
#include "bench-net.h"
#include "load-response.h"

#include <getopt.h>
#include <poll.h>
#include <stdbool.h>

#define CROWD_MAX          1000000
#define CROWD_WINDOW       64
#define CROWD_BUF          65536
#define CROWD_LIMIT        30000 /* ms that an answer may take */
#define CROWD_TICKS        20 /* in a second; each serves a part of the crowd */
#define CROWD_SIP          256 /* bytes that a slow reader takes at once */
#define CROWD_WINDOW_BYTES 4096

enum crowd_kind { IDLE, HEAD, BODY, READ, KINDS };

static const char *const crowd_names[KINDS] = {"idle", "head", "body", "read"};

struct crowd {
    enum crowd_kind kind;
    int port, net, n;
    const char *path;
    int *fds;
    struct response_check check;
    char line[128]; /* of input, so far */
    size_t line_len;
};

/* The beginning of what a slow client sends, or a whole request. */
static int
crowd_request(const struct crowd *c, char *out, size_t room)
{
    static const char *const forms[KINDS] = {
        [IDLE] = "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n",
        [HEAD] = "GET %s HTTP/1.1\r\nHost: bench\r\nX-Slow: ",
        [BODY] =
            "POST %s HTTP/1.1\r\nHost: b\r\nContent-Length: 999999\r\n\r\n",
        [READ] = "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n",
    };

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return snprintf(out, room, forms[c->kind], c->path);
#pragma GCC diagnostic pop
}

static bool
crowd_send(const struct crowd *c, int fd)
{
    char request[1024];
    int len = crowd_request(c, request, sizeof(request));

    return send(fd, request, (size_t)len, MSG_NOSIGNAL) == len;
}

static void
crowd_open(struct crowd *c)
{
    /* Reset at the end: no port stays in TIME_WAIT, so that the kernel's memory
     * of one crowd is not counted to the next one. */
    struct linger none = {.l_onoff = 1, .l_linger = 0};

    bench_want_files(c->n + 16L);
    c->fds = calloc((size_t)c->n, sizeof(*c->fds));
    if (c->fds == NULL) {
        bench_die("calloc");
    }
    for (int i = 0; i < c->n; i++) {
        c->fds[i] = bench_connect(c->port, c->net, i,
                                  c->kind == READ ? CROWD_WINDOW_BYTES : 0);
        if (c->fds[i] < 0 || (c->kind != IDLE && !crowd_send(c, c->fds[i]))) {
            bench_die("connect");
        }
        setsockopt(c->fds[i], SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    }
}

/* What one slow client does once a second. */
static void
crowd_step(const struct crowd *c, int fd)
{
    char sip[CROWD_SIP];

    if (c->kind == HEAD || c->kind == BODY) {
        (void)!send(fd, "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else if (c->kind == READ) {
        (void)!recv(fd, sip, sizeof(sip), MSG_DONTWAIT);
    }
}

/* Has the server closed FD, or said something that nobody asked for? */
static bool
crowd_has_ended(const struct crowd *c, int fd)
{
    short said = c->kind == READ ? 0 : POLLIN;
    struct pollfd p = {.fd = fd, .events = (short)(said | POLLRDHUP)};

    return poll(&p, 1, 0) != 0;
}

static void
crowd_count(const struct crowd *c)
{
    int open = 0;

    for (int i = 0; i < c->n; i++) {
        open += !crowd_has_ended(c, c->fds[i]);
    }
    printf("{\"open\": %d}\n", open);
    fflush(stdout);
}

/* Reads one answer.  Blocking: it comes at once or not at all. */
static bool
crowd_answer(struct crowd *c, int fd)
{
    static char buf[CROWD_BUF];
    size_t used = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t got;
        long size;

        if (used == sizeof(buf) || poll(&p, 1, CROWD_LIMIT) != 1) {
            return false;
        }
        got = recv(fd, buf + used, sizeof(buf) - used, 0);
        if (got <= 0) {
            return false;
        }
        used += (size_t)got;
        size = response_check(&c->check, buf, used);
        if (size != RESPONSE_MORE) {
            return size == (long)used && !c->check.close;
        }
    }
}

/* The Kth of N that are spread over the crowd. */
static int
crowd_nth(const struct crowd *c, long k, long n)
{
    return c->fds[(int)((long long)k * c->n / n)];
}

static void
crowd_ask(struct crowd *c, long n)
{
    long good = 0;

    n = n > c->n ? c->n : n;
    for (long from = 0; from < n; from += CROWD_WINDOW) {
        long to = from + CROWD_WINDOW < n ? from + CROWD_WINDOW : n;
        bool sent[CROWD_WINDOW];

        for (long k = from; k < to; k++) {
            sent[k - from] = crowd_send(c, crowd_nth(c, k, n));
        }
        for (long k = from; k < to; k++) {
            good += sent[k - from] && crowd_answer(c, crowd_nth(c, k, n));
        }
    }
    printf("{\"asked\": %ld, \"good\": %ld}\n", n, good);
    fflush(stdout);
}

static void
crowd_order(struct crowd *c, const char *line)
{
    if (strcmp(line, "count") == 0) {
        crowd_count(c);
    } else if (strncmp(line, "ask ", 4) == 0 && c->kind == IDLE) {
        crowd_ask(c, bench_number("ask", line + 4, 1, CROWD_MAX));
    } else {
        fprintf(stderr, "crowd: unknown order %s\n", line);
        exit(2);
    }
}

/* Reads orders.  Returns false at the end of the input. */
static bool
crowd_listen(struct crowd *c)
{
    ssize_t got = read(STDIN_FILENO, c->line + c->line_len,
                       sizeof(c->line) - 1 - c->line_len);
    char *end;

    if (got <= 0) {
        return false;
    }
    c->line_len += (size_t)got;
    c->line[c->line_len] = '\0';
    while ((end = strchr(c->line, '\n')) != NULL) {
        *end = '\0';
        crowd_order(c, c->line);
        c->line_len -= (size_t)(end + 1 - c->line);
        memmove(c->line, end + 1, c->line_len + 1);
    }
    return c->line_len < sizeof(c->line) - 1;
}

static void
crowd_live(struct crowd *c)
{
    uint64_t tick = 1000000000u / CROWD_TICKS;
    uint64_t next = bench_now() + tick;
    int part = 0;

    for (;;) {
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        uint64_t now = bench_now();
        int timeout = c->kind == IDLE ? -1
                      : next > now    ? (int)((next - now) / 1000000u) + 1
                                      : 0;

        if (poll(&p, 1, timeout) == 1 && !crowd_listen(c)) {
            return;
        }
        if (c->kind != IDLE && bench_now() >= next) {
            next += tick;
            for (int i = part; i < c->n; i += CROWD_TICKS) {
                crowd_step(c, c->fds[i]);
            }
            part = (part + 1) % CROWD_TICKS;
        }
    }
}

static void __attribute__((noreturn)) crowd_usage(void)
{
    fprintf(stderr, "usage: crowd --port N [--kind idle|head|body|read]\n"
                    "             [--connections N] [--net N] [--path /PATH]\n"
                    "             [--body TEXT] [--cpu N]\n");
    exit(2);
}

static enum crowd_kind
crowd_kind_named(const char *name)
{
    for (int i = 0; i < KINDS; i++) {
        if (strcmp(name, crowd_names[i]) == 0) {
            return (enum crowd_kind)i;
        }
    }
    crowd_usage();
}

static void
crowd_parse(struct crowd *c, int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"kind", required_argument, NULL, 'k'},
        {"connections", required_argument, NULL, 'n'},
        {"net", required_argument, NULL, 'a'},
        {"path", required_argument, NULL, 'u'},
        {"body", required_argument, NULL, 't'},
        {"cpu", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    int o;

    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (o) {
        case 'p':
            c->port = (int)bench_number("port", optarg, 1, 65535);
            break;
        case 'k':
            c->kind = crowd_kind_named(optarg);
            break;
        case 'n':
            c->n = (int)bench_number("connections", optarg, 1, CROWD_MAX);
            break;
        case 'a':
            c->net = (int)bench_number("net", optarg, 1, 254);
            break;
        case 'u':
            c->path = optarg;
            break;
        case 't':
            c->check.body = optarg;
            c->check.body_len = strlen(optarg);
            break;
        case 'c':
            bench_pin((int)bench_number("cpu", optarg, 0, CPU_SETSIZE - 1));
            break;
        default:
            crowd_usage();
        }
    }
    if (c->port == 0 || optind != argc || c->path[0] != '/') {
        crowd_usage();
    }
}

int
main(int argc, char **argv)
{
    struct crowd c = {.n = 1, .net = 1, .path = "/"};

    crowd_parse(&c, argc, argv);
    crowd_open(&c);
    crowd_count(&c);
    crowd_live(&c);
    free(c.fds);
    return 0;
}
