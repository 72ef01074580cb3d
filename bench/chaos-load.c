/*
 * Load for servers whose processes are killed meanwhile: kept connections, each
 * with one request in flight, and fresh ones, each for one request; GET and
 * POST, small and large.  Every byte of an answer is compared with what stands
 * at its position, and every request has a deadline.  Nothing is tried again: a
 * request that was begun and not answered right is a failure, of one kind, and
 * a line.  What an idle kept connection suffers is counted, but no failure.
 *
 * Odd clients (--odd) stand beside them: one sends an urgent byte in the middle
 * of its body, one half-closes behind its request, one resets in the middle of
 * it.  The first two want their answers like all others.
 */
#include "chaos-pattern.h"

#include "bench-net.h"

#include <ctype.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>

#define BUF      65536
#define HEAD_MAX 4096
#define SMALL    2000
#define EVENTS   256
#define SAMPLES  4000000u
#define KINDS(X)                                                               \
    X(REFUSED, "refused")                                                      \
    X(RESET, "reset")                                                          \
    X(CUT, "cut")                                                              \
    X(WRONG, "wrong")                                                          \
    X(TIMEOUT, "timeout")                                                      \
    X(STATUS, "status")                                                        \
    X(OTHER, "other")

enum kind {
#define X(id, word) KIND_##id,
    KINDS(X)
#undef X
        KIND_N,
};

static const char *const kind_words[] = {
#define X(id, word) word,
    KINDS(X)
#undef X
};

enum odd {
    ODD_NOT,
    ODD_URGENT,
    ODD_HALF,
    ODD_RESET,
    ODD_N,
};

static const char *const odd_words[] = {"", " urgent", " half-close", ""};

struct slot {
    int fd;
    bool is_fresh, is_busy, is_connected, must_close;
    bool is_post;
    enum odd odd;
    uint64_t id, seed, start, deadline;
    size_t size;     /* of the body, up (POST) and down */
    size_t head_len; /* of the request */
    size_t sent;     /* of head and body */
    size_t stop_at;  /* where an odd one does what it does */
    size_t n_served; /* on this connection */
    size_t in_len;   /* of the answer's head, so far */
    bool have_head;
    size_t got; /* of the answer's body */
    char head[512];
    char in[HEAD_MAX];
};

struct options {
    int port, n_kept, n_fresh, instance;
    double seconds, limit, big, kept_big, odd, rate;
    size_t big_size;
    uint64_t seed;
};

struct load {
    const struct options *opt;
    struct slot *slots;
    int n_slots, ep, n_busy;
    uint64_t random, begin, now, next_id, n_started;
    uint64_t n_ok, n_get, n_post, n_big, n_fresh, n_connections;
    uint64_t n_idle_ends, n_odd[ODD_N], up, down;
    uint64_t failed[KIND_N];
    uint32_t *samples; /* us */
    size_t n_samples;
    char buf[BUF];
};

static uint64_t
draw(struct load *l)
{
    return pattern_word(l->opt->seed, l->random++);
}

static double
draw_part(struct load *l)
{
    return (double)(draw(l) >> 11) * 0x1p-53;
}

/* TERM: begin no more, and end what was begun. */
static volatile sig_atomic_t is_told;

static void
note_term(int signal)
{
    is_told = signal;
}

/* --- Ends of requests ------------------------------------------------------
 */

static void
hang_up(struct slot *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    s->fd = -1;
    s->is_connected = false;
    s->n_served = 0;
}

static void
over(struct load *l, struct slot *s)
{
    l->n_busy -= s->is_busy;
    s->is_busy = false;
    if (s->is_fresh || s->must_close) {
        hang_up(s);
    }
}

static void
fail(struct load *l, struct slot *s, enum kind kind, const char *why)
{
    struct sockaddr_in at = {0};
    socklen_t len = sizeof(at);
    struct timespec wall;
    struct tm tm;
    char clock[16];

    if (s->fd >= 0) {
        getsockname(s->fd, (struct sockaddr *)&at, &len);
    }
    clock_gettime(CLOCK_REALTIME, &wall);
    gmtime_r(&wall.tv_sec, &tm);
    strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
    l->failed[kind]++;
    printf("failed clock=%s.%03ld at=%.3f kind=%s%s%s connection=%s%s nth=%zu "
           "method=%s "
           "size=%zu sent=%zu/%zu head=%s got=%zu after_ms=%.1f port=%u "
           "id=%llu\n",
           clock, wall.tv_nsec / 1000000, (double)(l->now - l->begin) / 1e9,
           kind_words[kind], why[0] != '\0' ? ":" : "", why,
           s->is_fresh ? "fresh" : "kept", odd_words[s->odd], s->n_served,
           s->is_post ? "POST" : "GET", s->size, s->sent,
           s->head_len + (s->is_post ? s->size : 0),
           s->have_head ? "yes" : "no", s->got,
           (double)(l->now - s->start) / 1e6, ntohs(at.sin_port),
           (unsigned long long)s->id);
    s->must_close = true;
    over(l, s);
}

static void
fail_errno(struct load *l, struct slot *s)
{
    char why[64];
    int error = errno;

    snprintf(why, sizeof(why), "%s", strerrorname_np(error));
    fail(l, s,
         error == ECONNREFUSED                        ? KIND_REFUSED
         : error == ECONNRESET || error == EPIPE      ? KIND_RESET
         : error == ETIMEDOUT || error == ENETUNREACH ? KIND_TIMEOUT
                                                      : KIND_OTHER,
         why);
}

static void
succeed(struct load *l, struct slot *s)
{
    if (l->n_samples < SAMPLES) {
        l->samples[l->n_samples++] = (uint32_t)((l->now - s->start) / 1000);
    }
    l->n_ok++;
    l->n_post += s->is_post;
    l->n_get += !s->is_post;
    l->n_big += s->size >= l->opt->big_size;
    l->n_fresh += s->is_fresh;
    l->n_odd[s->odd] += s->odd != ODD_NOT;
    l->up += s->is_post ? s->size : 0;
    l->down += s->size;
    s->n_served++;
    over(l, s);
}

/* --- Answers ---------------------------------------------------------------
 */

/* Judges the head in IN: what it must be is known to the byte's number. */
static bool
judge_head(struct load *l, struct slot *s)
{
    const char *length = strcasestr(s->in, "\r\ncontent-length:");
    char why[64];

    if (strncmp(s->in, "HTTP/1.1 200 ", 13) != 0) {
        snprintf(why, sizeof(why), "%.12s", s->in);
        for (char *c = why; *c != '\0'; c++) {
            *c = isalnum((unsigned char)*c) ? *c : '_';
        }
        fail(l, s,
             strncmp(s->in, "HTTP/1.1 ", 9) == 0 ? KIND_STATUS : KIND_WRONG,
             why);
        return false;
    }
    if (length == NULL || strtoull(length + 17, NULL, 10) != s->size) {
        fail(l, s, KIND_WRONG, "length");
        return false;
    }
    s->must_close =
        s->must_close || strcasestr(s->in, "\r\nconnection: close") != NULL;
    s->have_head = true;
    return true;
}

/* Takes N bytes of BUF. false: the request is over. */
static bool
take(struct load *l, struct slot *s, size_t n)
{
    const char *at = l->buf;

    if (!s->have_head) {
        size_t room = sizeof(s->in) - 1 - s->in_len;
        size_t len = n < room ? n : room;
        const char *end;
        size_t before = s->in_len;

        memcpy(s->in + before, at, len);
        s->in_len += len;
        s->in[s->in_len] = '\0';
        end = strstr(s->in, "\r\n\r\n");
        if (end == NULL) {
            if (len == room) {
                fail(l, s, KIND_WRONG, "head");
            }
            return len != room;
        }
        at += (size_t)(end + 4 - s->in) - before;
        n -= (size_t)(end + 4 - s->in) - before;
        s->in[end + 2 - s->in] = '\0';
        if (!judge_head(l, s)) {
            return false;
        }
    }
    if (n > s->size - s->got) {
        fail(l, s, KIND_WRONG, "more");
        return false;
    }
    if (pattern_match(at, s->seed, s->got, n) != n) {
        s->got += pattern_match(at, s->seed, s->got, n);
        fail(l, s, KIND_WRONG, "bytes");
        return false;
    }
    s->got += n;
    if (s->got < s->size) {
        return true;
    }
    if (s->is_post && s->sent < s->head_len + s->size) {
        fail(l, s, KIND_WRONG, "early");
    } else {
        succeed(l, s);
    }
    return false;
}

static void
receive(struct load *l, struct slot *s)
{
    while (s->fd >= 0) {
        ssize_t n = recv(s->fd, l->buf, BUF, 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (!s->is_busy && n <= 0) {
            l->n_idle_ends++; /* between two requests: it may */
            hang_up(s);
        } else if (!s->is_busy) {
            s->start = l->now;
            fail(l, s, KIND_WRONG, "unasked");
        } else if (n == 0) {
            fail(l, s, KIND_CUT, "");
        } else if (n < 0) {
            fail_errno(l, s);
        } else if (!take(l, s, (size_t)n)) {
            return;
        }
    }
}

/* --- Requests --------------------------------------------------------------
 */

static void
reset(struct load *l, struct slot *s)
{
    struct linger at_once = {1, 0};

    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    l->n_odd[ODD_RESET]++;
    s->must_close = true;
    over(l, s);
}

/* What is sent next, at *P_AT; its length. */
static size_t
chunk(struct load *l, struct slot *s, const char **p_at, int *p_flags)
{
    size_t all = s->head_len + (s->is_post ? s->size : 0);
    size_t end = s->odd == ODD_RESET ? s->stop_at : all;
    size_t len;

    *p_flags = MSG_NOSIGNAL;
    if (s->sent < s->head_len) {
        *p_at = s->head + s->sent;
        return s->head_len < end ? s->head_len - s->sent : end - s->sent;
    }
    len = end - s->sent < BUF ? end - s->sent : BUF;
    if (s->odd == ODD_URGENT && s->sent == s->stop_at) {
        *p_flags |= MSG_OOB;
        len = 1;
    } else if (s->odd == ODD_URGENT && s->sent < s->stop_at &&
               len > s->stop_at - s->sent) {
        len = s->stop_at - s->sent;
    }
    pattern_fill(l->buf, s->seed, s->sent - s->head_len, len);
    *p_at = l->buf;
    return len;
}

static void
transmit(struct load *l, struct slot *s)
{
    size_t all = s->head_len + (s->is_post ? s->size : 0);

    while (s->is_busy && s->fd >= 0 && s->sent < all) {
        const char *at;
        int flags;
        size_t len = chunk(l, s, &at, &flags);
        ssize_t n = len > 0 ? send(s->fd, at, len, flags) : 0;

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n < 0) {
            fail_errno(l, s);
            return;
        }
        s->sent += (size_t)n;
        if (s->odd == ODD_RESET && s->sent >= s->stop_at) {
            reset(l, s);
            return;
        }
    }
    if (s->is_busy && s->odd == ODD_HALF && s->sent == all) {
        shutdown(s->fd, SHUT_WR);
        s->stop_at = all;
    }
}

static void
compose(struct load *l, struct slot *s)
{
    bool big = draw_part(l) < (s->is_fresh ? l->opt->big : l->opt->kept_big);
    size_t all;

    s->is_post = draw(l) % 2 == 0;
    s->size = big ? l->opt->big_size : draw(l) % SMALL;
    s->seed = draw(l) >> 16;
    s->id = ((uint64_t)l->opt->instance << 24) | (l->next_id++ & 0xffffff);
    s->odd = s->is_fresh && draw_part(l) < l->opt->odd
                 ? ODD_URGENT + draw(l) % (ODD_N - 1)
                 : ODD_NOT;
    s->is_post = s->is_post || s->odd == ODD_URGENT;
    s->size += s->odd == ODD_URGENT;
    s->head_len = (size_t)snprintf(
        s->head, sizeof(s->head),
        "%s /chaos?n=%zu&seed=%llu&id=%llu HTTP/1.1\r\nHost: localhost\r\n",
        s->is_post ? "POST" : "GET", s->size, (unsigned long long)s->seed,
        (unsigned long long)s->id);
    if (s->is_post) {
        s->head_len += (size_t)snprintf(s->head + s->head_len,
                                        sizeof(s->head) - s->head_len,
                                        "Content-Length: %zu\r\n", s->size);
    }
    s->head_len += (size_t)snprintf(s->head + s->head_len,
                                    sizeof(s->head) - s->head_len, "\r\n");
    all = s->head_len + (s->is_post ? s->size : 0);
    s->stop_at = s->odd == ODD_URGENT ? s->head_len + draw(l) % s->size
                                      : 1 + draw(l) % (all - 1);
    s->sent = s->in_len = s->got = 0;
    s->have_head = s->must_close = false;
}

static bool
open_connection(struct load *l, struct slot *s)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)l->opt->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                             .data.ptr = s};
    int on = 1;

    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        bench_die("socket");
    }
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    l->n_connections++;
    if (connect(s->fd, (struct sockaddr *)&to, sizeof(to)) < 0 &&
        errno != EINPROGRESS) {
        fail_errno(l, s);
        return false;
    }
    if (epoll_ctl(l->ep, EPOLL_CTL_ADD, s->fd, &ev) < 0) {
        bench_die("epoll_ctl");
    }
    return true;
}

static void
begin(struct load *l, struct slot *s)
{
    compose(l, s);
    s->is_busy = true;
    l->n_busy++;
    l->n_started++;
    s->start = l->now = bench_now();
    s->deadline = s->start + (uint64_t)(l->opt->limit * 1e9);
    if (s->fd < 0) {
        open_connection(l, s); /* it goes on when it is writable */
    } else {
        transmit(l, s);
    }
}

/* --- The loop --------------------------------------------------------------
 */

static void
handle(struct load *l, struct slot *s, uint32_t events)
{
    if (!s->is_connected && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        int error = 0;
        socklen_t len = sizeof(error);

        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error != 0) {
            errno = error;
            fail_errno(l, s);
            return;
        }
        s->is_connected = true;
    }
    if ((events & EPOLLOUT) != 0) {
        transmit(l, s);
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        receive(l, s);
    }
}

/* Begins what may begin; ends what is too late. */
static void
tick(struct load *l, bool may_begin)
{
    uint64_t allowed =
        l->opt->rate > 0
            ? (uint64_t)((double)(l->now - l->begin) / 1e9 * l->opt->rate) + 1
            : UINT64_MAX;
    int from = (int)(l->n_started % (uint64_t)l->n_slots);

    for (int i = 0; i < l->n_slots; i++) {
        struct slot *s = &l->slots[(from + i) % l->n_slots];

        if (s->is_busy && l->now > s->deadline) {
            fail(l, s, KIND_TIMEOUT, "");
        }
        if (!s->is_busy && may_begin && l->n_started < allowed) {
            begin(l, s);
        }
    }
}

static void
run(struct load *l)
{
    uint64_t end;

    l->begin = l->now = bench_now();
    end = l->begin + (uint64_t)(l->opt->seconds * 1e9);
    while ((l->now < end && !is_told) || l->n_busy > 0) {
        struct epoll_event events[EVENTS];
        int n;

        tick(l, l->now < end && !is_told);
        n = epoll_wait(l->ep, events, EVENTS, 1);
        l->now = bench_now();
        for (int i = 0; i < n; i++) {
            struct slot *s = events[i].data.ptr;

            if (s->fd >= 0) {
                handle(l, s, events[i].events);
            }
        }
    }
}

static double
percentile(const struct load *l, double part)
{
    return l->n_samples == 0
               ? 0
               : l->samples[(size_t)((double)(l->n_samples - 1) * part)] / 1e3;
}

static int
compare_samples(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* One line of JSON; 1 if a request failed. */
static int
report(struct load *l)
{
    uint64_t failed = 0;

    qsort(l->samples, l->n_samples, sizeof(*l->samples), compare_samples);
    for (int i = 0; i < KIND_N; i++) {
        failed += l->failed[i];
    }
    printf("{\"requests\": %llu, \"ok\": %llu, \"failed\": %llu",
           (unsigned long long)(l->n_ok + failed), (unsigned long long)l->n_ok,
           (unsigned long long)failed);
    for (int i = 0; i < KIND_N; i++) {
        printf(", \"%s\": %llu", kind_words[i],
               (unsigned long long)l->failed[i]);
    }
    printf(", \"get\": %llu, \"post\": %llu, \"big\": %llu, \"fresh\": %llu, "
           "\"connections\": %llu, \"idle_ends\": %llu, \"urgent\": %llu, "
           "\"half_closes\": %llu, \"resets\": %llu, \"bytes_up\": %llu, "
           "\"bytes_down\": %llu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f, \"seconds\": %.3f}\n",
           (unsigned long long)l->n_get, (unsigned long long)l->n_post,
           (unsigned long long)l->n_big, (unsigned long long)l->n_fresh,
           (unsigned long long)l->n_connections,
           (unsigned long long)l->n_idle_ends,
           (unsigned long long)l->n_odd[ODD_URGENT],
           (unsigned long long)l->n_odd[ODD_HALF],
           (unsigned long long)l->n_odd[ODD_RESET], (unsigned long long)l->up,
           (unsigned long long)l->down, percentile(l, 0.5), percentile(l, 0.99),
           percentile(l, 1), (double)(l->now - l->begin) / 1e9);
    return failed > 0;
}

static double
real(const char *option, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= 0 && value <= 1e9)) {
        fprintf(stderr, "chaos-load: --%s: %s is no number\n", option, text);
        exit(2);
    }
    return value;
}

static void
read_options(struct options *o, int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"kept", required_argument, NULL, 'k'},
        {"fresh", required_argument, NULL, 'f'},
        {"seconds", required_argument, NULL, 's'},
        {"limit", required_argument, NULL, 'l'},
        {"big", required_argument, NULL, 'b'},
        {"kept-big", required_argument, NULL, 'B'},
        {"big-size", required_argument, NULL, 'z'},
        {"odd", required_argument, NULL, 'o'},
        {"rate", required_argument, NULL, 'r'},
        {"seed", required_argument, NULL, 'e'},
        {"instance", required_argument, NULL, 'i'},
        {NULL, 0, NULL, 0},
    };
    int c, at;

    *o = (struct options){.n_kept = 16,
                          .n_fresh = 4,
                          .seconds = 10,
                          .limit = 10,
                          .kept_big = -1,
                          .big_size = 1 << 20,
                          .seed = 1};
    while ((c = getopt_long(argc, argv, "", options, &at)) != -1) {
        const char *name = c != '?' ? options[at].name : "";

        switch (c) {
        case 'p':
            o->port = (int)bench_number(name, optarg, 1, 65535);
            break;
        case 'k':
            o->n_kept = (int)bench_number(name, optarg, 0, 10000);
            break;
        case 'f':
            o->n_fresh = (int)bench_number(name, optarg, 0, 10000);
            break;
        case 'i':
            o->instance = (int)bench_number(name, optarg, 0, 1);
            break;
        case 'z':
            o->big_size = (size_t)bench_number(name, optarg, 1, 1 << 24);
            break;
        case 'e':
            o->seed = (uint64_t)bench_number(name, optarg, 0, INT64_MAX);
            break;
        case 's':
            o->seconds = real(name, optarg);
            break;
        case 'l':
            o->limit = real(name, optarg);
            break;
        case 'B':
            o->kept_big = real(name, optarg);
            break;
        case 'b':
            o->big = real(name, optarg);
            break;
        case 'o':
            o->odd = real(name, optarg);
            break;
        case 'r':
            o->rate = real(name, optarg);
            break;
        default:
            exit(2);
        }
    }
    if (o->kept_big < 0) {
        o->kept_big = o->big;
    }
    if (o->port == 0 || o->n_kept + o->n_fresh == 0) {
        fputs("chaos-load: --port, and --kept or --fresh, are needed\n",
              stderr);
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    struct options o;
    static struct load l;

    read_options(&o, argc, argv);
    signal(SIGTERM, note_term);
    l.opt = &o;
    l.n_slots = o.n_kept + o.n_fresh;
    l.slots = calloc((size_t)l.n_slots, sizeof(*l.slots));
    l.samples = calloc(SAMPLES, sizeof(*l.samples));
    l.ep = epoll_create1(EPOLL_CLOEXEC);
    if (l.slots == NULL || l.samples == NULL || l.ep < 0) {
        bench_die("start");
    }
    for (int i = 0; i < l.n_slots; i++) {
        l.slots[i].fd = -1;
        l.slots[i].is_fresh = i >= o.n_kept;
    }
    run(&l);
    return report(&l);
}
