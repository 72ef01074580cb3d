/* OpenSSL in heirs: a server whose process is killed again and again, between
 * the library's calls and inside them, and whose TLS connections go on.
 *
 * The server is a worker in small: records in an arena, a heap for each
 * connection, a shared heap for what connections share, calls that are saved
 * before they are made, one heir that waits. This process is the client, and
 * counts: an echo over a connection that has changed its process since the
 * last one is a continuation.
 *
 * Of each direction there is one count of bytes that sockets passed (the
 * record's, settled by the kernel's counters) and one of bytes that the library
 * passed (in the heap, loaded with it); the bytes between lie in a ring. So
 * nothing that a kill can part needs to agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fuzz.h"
#include "base/util.h"
#include "front/counters.h"
#include "front/test-tls.h"
#include "loop/redo.h"
#include "loop/shared.h"

#define CONNS       12
#define MESSAGE     3000u
#define RING        32768u /* of each direction */
#define SHARED_SIZE (512 * 4096)
#define FDS         64
#define SAMPLES     400u

enum state { FREE = 0, OPEN, CLOSING };
enum kind { ACCEPT = 0, READ, WRITE, KINDS };

/* A connection: its index is its descriptor. */
struct record {
    uint32_t state, heap, buffers, handshaken;
    SSL *ssl;
    struct io *io;   /* in the heap */
    uint64_t rx, tx; /* bytes that the socket gave and took */
    uint32_t plain;  /* bytes of a message that were read */
    uint32_t echoed, ended;
};

/* What the library has taken and put out: lies in its heap. */
struct io {
    uint32_t fd;
    uint64_t taken, put;
};

/* A run: both rings would fill it, so the message has its own. */
struct buffers {
    unsigned char in[RING], out[RING];
};

struct call { /* the note of a call */
    uint32_t fd, kind, plain, echoed;
    uint64_t rx;
};

/* What is measured, for each kind of call. */
struct figure {
    uint64_t calls, cut, redone, same, different;
    uint32_t ns[SAMPLES], copy_ns[SAMPLES]; /* of the first calls */
};

struct core {
    _Atomic pid_t serving, heir_of; /* whose heir is there */
    pid_t client;
    _Atomic uint32_t takeovers, adopted;
    /* Orders. */
    _Atomic uint32_t kill_percent, twice, step, reload, stop;
    uint32_t version;
    uint32_t seed;
    SSL_CTX *_Atomic ctx;
    _Atomic uint32_t reloads, locks;
    int listener, port;
    uint64_t live, live_n;
    struct figure figures[KINDS];
    struct record records[FDS];
    unsigned char messages[FDS][MESSAGE];
    _Alignas(4096) unsigned char shared[SHARED_SIZE];
    _Alignas(4096) struct redo redo;
};

static struct arena arena;
static struct core *core;
static struct shared *shared;
static struct heap *current; /* of the connection that is served */
static bool sharing;         /* what is made now is for all of them */
static timer_t killer;

/* ---- the hooks ---- */

static void *
hook_malloc(size_t n, const char *file, int line)
{
    if (current) {
        return heap_alloc(&arena, current, n);
    }
    if (sharing) {
        return shared_alloc(shared, n,
                            file && strstr(file, "threads_pthread.c"));
    }
    return malloc(n > 0 ? n : 1);
}

static void
hook_free(void *p, const char *file, int line)
{
    struct heap *h = core ? heap_of(&arena, p) : NULL;

    if (h) {
        heap_free(h, p);
    } else if (core && shared_has(shared, p)) {
        shared_free(shared, p);
    } else {
        free(p);
    }
}

static void *
hook_realloc(void *p, size_t n, const char *file, int line)
{
    if (p == NULL) {
        return hook_malloc(n, file, line);
    }
    if (n == 0) {
        hook_free(p, file, line);
        return NULL;
    }
    struct heap *h = core ? heap_of(&arena, p) : NULL;
    if (h) {
        return heap_realloc(&arena, h, p, n);
    }
    if (core && shared_has(shared, p)) {
        return shared_realloc(shared, p, n);
    }
    return realloc(p, n);
}

/* ---- what lies between the library and the socket ---- */

static BIO_METHOD *method;

static struct buffers *
buffers_of(const struct record *r)
{
    return arena_at(&arena, r->buffers);
}

static int
bio_read(BIO *b, char *to, int n)
{
    struct io *io = BIO_get_data(b);
    const struct record *r = &core->records[io->fd];
    const unsigned char *in = buffers_of(r)->in;
    uint64_t there = r->rx - io->taken;

    BIO_clear_retry_flags(b);
    if (there == 0 || n <= 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    n = (int)MIN_OF((uint64_t)n, there);
    for (int i = 0; i < n; i++) {
        to[i] = (char)in[(io->taken + (uint64_t)i) % RING];
    }
    io->taken += (uint64_t)n;
    return n;
}

static int
bio_write(BIO *b, const char *from, int n)
{
    struct io *io = BIO_get_data(b);
    const struct record *r = &core->records[io->fd];
    unsigned char *out = buffers_of(r)->out;
    uint64_t room = RING - (io->put - r->tx);

    BIO_clear_retry_flags(b);
    if (n <= 0 || room < (uint64_t)n) {
        BIO_set_retry_write(b);
        return -1;
    }
    for (int i = 0; i < n; i++) {
        out[(io->put + (uint64_t)i) % RING] = (unsigned char)from[i];
    }
    io->put += (uint64_t)n;
    return n;
}

static long
bio_ctrl(BIO *b, int command, long n, void *p)
{
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static int
bio_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

/* ---- calls ---- */

static uint64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static uint32_t
some(uint32_t limit)
{
    core->seed = core->seed * 1664525u + 1013904223u;
    return (core->seed >> 8) % limit;
}

/* Once in a while the kernel is to kill us, at a random moment of the call. */
static void
arm_killer(uint32_t kind)
{
    const struct figure *f = &core->figures[kind];
    struct itimerspec at = {.it_value = {0, 1}};

    if (some(100) < core->kill_percent) {
        uint32_t typical = f->calls > 0 ? f->ns[0] : 50000;
        at.it_value.tv_nsec += some(MIN_OF(typical, 2000000u) * 3 / 2 + 1);
        timer_settime(killer, 0, &at, NULL);
    }
}

static void
disarm_killer(void)
{
    const struct itimerspec never = {0};

    timer_settime(killer, 0, &never, NULL);
}

/* The library's part. What it comes to is stored from the note, never added
 * to what is there: it may be the second time. */
static int
library(const struct call *c)
{
    struct record *r = &core->records[c->fd];
    int n = -1;

    current = heap_at(&arena, r->heap);
    MUST(current != NULL);
    if (c->kind == ACCEPT) {
        n = SSL_accept(r->ssl);
        r->handshaken = n == 1;
    } else if (c->kind == READ) {
        n = SSL_read(r->ssl, core->messages[c->fd] + c->plain,
                     (int)(MESSAGE - c->plain));
        r->plain = c->plain + (uint32_t)MAX_OF(n, 0);
    } else {
        n = SSL_write(r->ssl, core->messages[c->fd], (int)MESSAGE);
        r->plain = n == (int)MESSAGE ? 0 : c->plain;
        r->echoed = c->echoed + (n == (int)MESSAGE);
    }
    int error = n > 0 ? SSL_ERROR_NONE : SSL_get_error(r->ssl, n);
    r->ended = error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ &&
               error != SSL_ERROR_WANT_WRITE;
    if (r->ended && error != SSL_ERROR_ZERO_RETURN) {
        fprintf(stderr, "# the server's side: kind %u, error %d, open %u\n",
                c->kind, error, core->redo.open);
        ERR_print_errors_fp(stderr);
    }
    ERR_clear_error();
    current = NULL;
    return n;
}

/* What the library has put out from FROM on is kept and compared with what it
 * puts out the second time. */
struct first_try {
    uint64_t from, to;
    unsigned char bytes[RING];
};

static void
keep(struct first_try *t, const struct record *r, uint64_t from)
{
    t->from = from;
    t->to = r->io->put;
    for (uint64_t i = from; i < t->to; i++) {
        t->bytes[i - from] = buffers_of(r)->out[i % RING];
    }
}

static void
compare(const struct first_try *t, const struct record *r, struct figure *f)
{
    bool same = r->io->put >= t->to;

    for (uint64_t i = t->from; i < t->to && same; i++) {
        same = t->bytes[i - t->from] == buffers_of(r)->out[i % RING];
    }
    if (t->to > t->from) {
        f->same += same;
        f->different += !same;
    }
}

/* The same again without anybody's death. */
static void
once_more(const struct call *c)
{
    static struct first_try t;
    struct record *r = &core->records[c->fd];
    uint64_t put;

    MUST(redo_recover(&core->redo, shared) != NULL);
    put = r->io->put;
    library(c);
    keep(&t, r, put);
    MUST(redo_recover(&core->redo, shared) != NULL);
    library(c);
    compare(&t, r, &core->figures[c->kind]);
}

static int
make_call(uint32_t fd, uint32_t kind)
{
    struct record *r = &core->records[fd];
    struct figure *f = &core->figures[kind];
    const struct call c = {fd, kind, r->plain, r->echoed, r->rx};
    struct heap *h = heap_at(&arena, r->heap);

    uint64_t t0 = now_ns();
    redo_begin(&core->redo, h, shared, &c, sizeof c);
    uint64_t t1 = now_ns();
    if (core->step && kind != ACCEPT) {
        raise(SIGTRAP); /* who traces us steps from here */
    }
    arm_killer(kind);
    int n = library(&c);
    disarm_killer();
    if (core->twice && kind != ACCEPT) {
        once_more(&c);
    }
    redo_end(&core->redo, shared);
    if (!core->twice && core->kill_percent == 0) {
        uint32_t i = (uint32_t)(f->calls++ % SAMPLES);
        f->ns[i] = (uint32_t)(now_ns() - t1);
        f->copy_ns[i] = (uint32_t)(t1 - t0);
        core->live += kind == READ ? heap_live(h) : 0;
        core->live_n += kind == READ;
    }
    return n;
}

/* ---- connections ---- */

static bool
open_connection(int fd)
{
    struct record *r = &core->records[fd];
    const int on = 1;

    MUST(fd < FDS && r->state == FREE);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    memset(r, 0, sizeof *r);
    r->heap = heap_make(&arena);
    r->buffers = arena_take_run(&arena);
    MUST(r->heap != ARENA_NONE && r->buffers != ARENA_NONE);
    current = heap_at(&arena, r->heap);
    r->ssl = SSL_new(core->ctx);
    r->io = OPENSSL_zalloc(sizeof *r->io);
    BIO *b = BIO_new(method);
    MUST(r->ssl && r->io && b);
    r->io->fd = (uint32_t)fd;
    BIO_set_data(b, r->io);
    SSL_set_bio(r->ssl, b, b);
    current = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    r->state = OPEN;
    return true;
}

/* No SSL_free: the heap goes as one. */
static void
close_connection(uint32_t fd)
{
    struct record *r = &core->records[fd];

    r->state = CLOSING;
    atomic_signal_fence(memory_order_seq_cst);
    close((int)fd);
    atomic_signal_fence(memory_order_seq_cst);
    r->state = FREE;
    heap_drop(&arena, heap_at(&arena, r->heap));
    arena_give(&arena, r->buffers);
    redo_wipe(&core->redo);
}

static bool
send_out(uint32_t fd)
{
    struct record *r = &core->records[fd];
    bool sent = false;

    while (r->io->put > r->tx) {
        uint64_t at = r->tx % RING;
        size_t n = (size_t)MIN_OF(r->io->put - r->tx, RING - at);
        ssize_t got = send((int)fd, buffers_of(r)->out + at, n,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
        if (got <= 0) {
            break;
        }
        r->tx += (uint64_t)got;
        sent = true;
    }
    return sent;
}

/* false: the client is gone. */
static bool
receive(uint32_t fd)
{
    struct record *r = &core->records[fd];
    uint64_t at = r->rx % RING;
    size_t n = (size_t)MIN_OF(RING - (r->rx - r->io->taken), RING - at);

    if (n == 0) {
        return true;
    }
    /* Where it goes follows from the count that is stored after it. */
    ssize_t got = recv((int)fd, buffers_of(r)->in + at, n, MSG_DONTWAIT);
    if (got > 0) {
        r->rx += (uint64_t)got;
    }
    return got > 0 || (got < 0 && errno == EAGAIN);
}

/* Makes calls until the library wants more bytes. */
static bool
has_work(const struct record *r)
{
    return r->plain == MESSAGE || r->rx > r->io->taken ||
           SSL_has_pending(r->ssl);
}

static void
go(uint32_t fd)
{
    struct record *r = &core->records[fd];
    int n = 1;

    while (n > 0 && !r->ended && has_work(r)) {
        n = make_call(fd, !r->handshaken        ? ACCEPT
                          : r->plain == MESSAGE ? WRITE
                                                : READ);
        send_out(fd);
    }
}

static void
serve_connection(uint32_t fd)
{
    bool there = receive(fd);

    go(fd);
    if (!there || core->records[fd].ended) {
        close_connection(fd);
    }
}

/* ---- the worker and its heirs ---- */

static void
lock_anew(void *arg, void *lock)
{
    /* OpenSSL makes them with no attributes. */
    pthread_rwlock_init(lock, NULL);
    core->locks++;
}

/* A new configuration lies in the shared heap, so that heirs have it. */
static void
reload(void)
{
    shared_open(shared);
    sharing = true;
    core->ctx = make_context((int)core->version);
    sharing = false;
    core->reloads++;
    atomic_signal_fence(memory_order_seq_cst);
    core->reload = 0;
    atomic_signal_fence(memory_order_seq_cst);
    shared_close(shared);
}

/* Established connections of our listener that no record names. */
static void
sweep(void)
{
    struct sockaddr_in me, peer;

    for (int fd = 3; fd < FDS; fd++) {
        socklen_t len = sizeof me, peer_len = sizeof peer;
        if (core->records[fd].state != OPEN &&
            getsockname(fd, (struct sockaddr *)&me, &len) == 0 &&
            getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 &&
            me.sin_family == AF_INET && ntohs(me.sin_port) == core->port) {
            core->adopted++;
            open_connection(fd);
        }
    }
}

static void
settle(uint32_t fd)
{
    struct record *r = &core->records[fd];
    struct counters c;

    MUST(counters_read((int)fd, &c));
    MUST(c.read >= r->rx && c.read - r->io->taken <= RING);
    MUST(c.written >= r->tx && c.written <= r->io->put);
    r->rx = c.read;
    r->tx = c.written;
}

/* The heap as it was before the call that was cut; what that had put out is
 * kept. */
static void
load_call(struct first_try *t, struct call *c)
{
    memcpy(c, core->redo.note, sizeof *c);
    struct record *r = &core->records[c->fd];
    uint64_t put = r->io->put;
    MUST(redo_recover(&core->redo, shared) != NULL);
    uint64_t from = r->io->put;
    r->io->put = put;
    keep(t, r, from);
    r->io->put = from;
}

/* The call that was cut, once more. Nothing of it had left. */
static void
finish_call(const struct first_try *t, const struct call *c)
{
    struct record *r = &core->records[c->fd];
    struct figure *f = &core->figures[c->kind];

    MUST(r->rx == c->rx);
    f->cut++;
    library(c);
    f->redone++;
    if (c->kind != ACCEPT) {
        compare(t, r, f);
    }
    redo_end(&core->redo, shared);
}

static void
claim_all(void)
{
    arena_forget(&arena);
    for (uint32_t fd = 0; fd < FDS; fd++) {
        struct record *r = &core->records[fd];
        if (r->state == CLOSING) {
            close((int)fd);
            r->state = FREE;
        } else if (r->state == OPEN) {
            heap_claim(&arena, heap_at(&arena, r->heap));
            arena_claim(&arena, r->buffers);
        }
    }
    arena_settle(&arena);
}

static void
take_over(void)
{
    static struct first_try t;
    struct call c;
    bool cut = core->redo.open != 0;

    if (core->reload && !cut) {
        shared_recover(shared, true); /* half of a context: as if never */
        shared_close(shared);
    }
    if (cut) {
        load_call(&t, &c);
    } else {
        redo_recover(&core->redo, shared);
    }
    shared_each_lock(shared, lock_anew, NULL);
    claim_all();
    hold_all(4 * CONNS);
    RAND_poll();
    if (cut) {
        finish_call(&t, &c);
    }
    sweep();
    for (uint32_t fd = 0; fd < FDS; fd++) {
        if (core->records[fd].state == OPEN) {
            settle(fd);
        }
    }
    core->takeovers++;
}

static void
pass(void)
{
    struct pollfd p[FDS];
    nfds_t n = 0;

    p[n++] = (struct pollfd){core->listener, POLLIN, 0};
    for (int fd = 0; fd < FDS; fd++) {
        if (core->records[fd].state == OPEN) {
            p[n++] = (struct pollfd){fd, POLLIN, 0};
        }
    }
    poll(p, n, core->reload ? 0 : 20);
    if (core->reload) {
        reload();
    }
    for (nfds_t i = 1; i < n; i++) {
        if (p[i].revents) {
            serve_connection((uint32_t)p[i].fd);
        }
    }
    if (p[0].revents) {
        int fd =
            accept4(core->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            open_connection(fd);
        }
    }
}

static bool
is_over(void)
{
    return core->stop || getppid() != core->client;
}

/* In the heir: waits for the death of who cloned it. */
static bool
clone_heir(void)
{
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    MUST(pidfd >= 0);
    long pid =
        syscall(SYS_clone, CLONE_FILES | CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    MUST(pid >= 0);
    if (pid > 0) {
        return false;
    }
    while (poll(&p, 1, -1) != 1) {
    }
    if (is_over()) {
        _exit(0);
    }
    close(pidfd);
    return true;
}

static void
serve(void)
{
    struct sigevent kill_us = {.sigev_notify = SIGEV_SIGNAL,
                               .sigev_signo = SIGKILL};

    for (;;) {
        core->serving = getpid();
        if (clone_heir()) {
            take_over(); /* and back to the base frame */
            continue;
        }
        core->heir_of = getpid();
        MUST(timer_create(CLOCK_MONOTONIC, &kill_us, &killer) == 0);
        for (uint32_t fd = 0; fd < FDS; fd++) {
            if (core->records[fd].state == OPEN) {
                send_out(fd);
                serve_connection(fd);
            }
        }
        while (!is_over()) {
            pass();
        }
        _exit(0);
    }
}

/* ---- the client ---- */

struct client {
    SSL *ssl;
    int fd;
    uint32_t takeovers; /* at the last echo */
};

struct tally {
    uint64_t echoes, continued, lost, handshakes, cut_handshakes, idle_kills,
        kills, steps;
};

static struct client clients[CONNS];
static SSL_CTX *client_ctx, *first_ctx;
static struct tally tally;
static pid_t last_killed;
static const char *doing;               /* for messages */
static unsigned char randoms[1024][32]; /* of the server, none twice */
static size_t n_randoms;

static void
reap(void)
{
    int status;

    while (waitpid(-1, &status, WNOHANG) > 0) {
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
            fail_msg("a server ended with status %d", status);
        }
    }
}

/* Who serves, once its heir is there as well; not who is known to be dead. */
static pid_t
served_by(void)
{
    uint64_t limit = now_ns() + 60 * NS_PER_SEC;
    pid_t pid;

    while ((pid = core->serving) == last_killed || core->heir_of != pid) {
        MUST(now_ns() < limit);
        sched_yield();
    }
    return pid;
}

static void
kill_server(void)
{
    do {
        last_killed = served_by();
    } while (kill(last_killed, SIGKILL) < 0); /* it was quicker */
    MUST(waitpid(last_killed, NULL, 0) == last_killed);
    tally.kills++;
}

static bool
connect_client(struct client *c)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)core->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {20, 0};
    uint32_t before = core->takeovers;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    MUST(connect(c->fd, (struct sockaddr *)&in, sizeof in) == 0);
    c->ssl = SSL_new(client_ctx);
    SSL_set_fd(c->ssl, c->fd);
    if (SSL_connect(c->ssl) != 1) {
        tally.lost++;
        ERR_print_errors_fp(stderr);
        return false;
    }
    tally.handshakes++;
    tally.cut_handshakes += core->takeovers != before;
    c->takeovers = core->takeovers;
    if (n_randoms < ARRAY_LEN(randoms)) {
        unsigned char *r = randoms[n_randoms++];
        SSL_get_server_random(c->ssl, r, 32);
        for (size_t i = 0; i + 1 < n_randoms; i++) {
            MUST(memcmp(randoms[i], r, 32) != 0);
        }
    }
    return true;
}

static void
close_client(struct client *c)
{
    SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
    c->ssl = NULL;
}

static void
say(struct client *c, unsigned char *message)
{
    for (uint32_t i = 0; i < MESSAGE; i += 4) {
        uint32_t r = (uint32_t)random();
        memcpy(message + i, &r, 4);
    }
    if (SSL_write(c->ssl, message, MESSAGE) != (int)MESSAGE) {
        tally.lost++;
    }
}

static void
hear(struct client *c, const unsigned char *message)
{
    unsigned char answer[MESSAGE];
    uint32_t n = 0;

    while (n < MESSAGE) {
        int got = SSL_read(c->ssl, answer + n, (int)(MESSAGE - n));
        if (got <= 0) {
            tally.lost++;
            reap();
            ERR_print_errors_fp(stderr);
            fail_msg("%s: connection lost: %d, errno %d, %u takeovers, %lu "
                     "kills, served by %d",
                     doing, SSL_get_error(c->ssl, got), errno, core->takeovers,
                     tally.kills, core->serving);
        }
        n += (uint32_t)got;
    }
    assert_memory_equal(answer, message, MESSAGE);
    tally.echoes++;
    tally.continued += core->takeovers != c->takeovers;
    c->takeovers = core->takeovers;
    reap();
}

static void
echo(struct client *c)
{
    unsigned char message[MESSAGE];

    say(c, message);
    hear(c, message);
}

/* ---- one server of each version ---- */

static void
begin(int version)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    const int on = 1;

    /* A quarter of it is runs: two for each connection, and more. */
    assert_int_equal(arena_make(&arena, sizeof *core, 4 * 16 * 8 * CONNS), 0);
    core = (struct core *)arena.base;
    shared = shared_make(core->shared, SHARED_SIZE);
    assert_non_null(shared);
    core->version = (uint32_t)version;
    core->seed = (uint32_t)version;
    core->client = getpid();
    core->ctx = first_ctx = make_context(version);
    core->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(core->listener, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
    assert_int_equal(bind(core->listener, (struct sockaddr *)&in, sizeof in),
                     0);
    assert_int_equal(listen(core->listener, 64), 0);
    getsockname(core->listener, (struct sockaddr *)&in, &len);
    core->port = ntohs(in.sin_port);
    memset(&tally, 0, sizeof tally);
    client_ctx = make_client_context(version);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        hold_all(1000);
        serve();
    }
    for (int i = 0; i < CONNS; i++) {
        assert_true(connect_client(&clients[i]));
    }
}

static void
end(void)
{
    for (int i = 0; i < CONNS; i++) {
        close_client(&clients[i]);
    }
    core->stop = 1;
    while (waitpid(-1, NULL, 0) > 0) {
    }
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(first_ctx);
    close(core->listener);
    arena_free(&arena);
    core = NULL;
}

/* ---- the ways to die ---- */

static void
each_echoes(int times)
{
    for (int t = 0; t < times; t++) {
        for (int i = 0; i < CONNS; i++) {
            echo(&clients[i]);
        }
    }
}

/* Killed while it waits, or between two calls. A new configuration in between:
 * also cut, made again, and used by connections that come later. */
static void
die_between_calls(int rounds)
{
    for (int t = 0; t < rounds; t++) {
        if (t % 16 == 8) {
            core->reload = 1;
            usleep((useconds_t)random() % 2000);
        }
        kill_server();
        tally.idle_kills++;
        each_echoes(1);
    }
    while (core->reload) {
        sched_yield();
    }
}

/* Killed at any moment after a message was sent. */
static void
die_at_random(int times)
{
    unsigned char message[MESSAGE];

    for (int t = 0; t < times; t++) {
        struct client *c = &clients[t % CONNS];
        served_by();
        say(c, message);
        uint64_t until = now_ns() + (uint64_t)random() % 400000;
        while (now_ns() < until) {
        }
        kill_server();
        hear(c, message);
    }
}

/* Killed by a timer that was set as the call began. */
static void
die_in_calls(int times)
{
    core->kill_percent = 40;
    for (int t = 0; t < times; t++) {
        echo(&clients[t % CONNS]);
    }
    core->kill_percent = 0;
}

static void
die_in_handshakes(int times)
{
    for (int t = 0; t < times; t++) {
        struct client fresh;
        core->kill_percent = 70;
        bool good = connect_client(&fresh);
        core->kill_percent = 0;
        assert_true(good);
        echo(&fresh);
        close_client(&fresh);
    }
}

/* Killed at a chosen instruction of a call: we step there. */
static void
die_at_an_instruction(int times)
{
    unsigned char message[MESSAGE];
    int status;

    for (int t = 0; t < times; t++) {
        struct client *c = &clients[t % CONNS];
        pid_t pid = served_by();
        long skip = random() % 2, n = random() % 4000;
        MUST(ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0);
        core->step = 1;
        say(c, message);
        MUST(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
        while (skip-- > 0) {
            MUST(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
            MUST(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
        }
        core->step = 0;
        while (n-- > 0 && core->redo.open) {
            MUST(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
            MUST(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
        }
        MUST(kill(pid, SIGKILL) == 0);
        MUST(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        last_killed = pid;
        tally.kills++;
        tally.steps++;
        hear(c, message);
    }
}

static int
compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint32_t
median(const uint32_t *samples, uint32_t n)
{
    uint32_t sorted[SAMPLES];

    memcpy(sorted, samples, sizeof sorted);
    qsort(sorted, n, sizeof *sorted, compare_numbers);
    return sorted[n / 2];
}

static void
say_figures(const char *name)
{
    static const char *const kinds[] = {"accept", "read", "write"};

    print_message("# %s: %lu echoes, %lu of them continuations, %lu lost; %u "
                  "takeovers, %u adopted\n",
                  name, tally.echoes, tally.continued, tally.lost,
                  core->takeovers, core->adopted);
    print_message("# %s: %lu handshakes, %lu of them cut; %lu kills at a "
                  "chosen instruction; %u contexts made while serving, %u "
                  "locks made anew\n",
                  name, tally.handshakes, tally.cut_handshakes, tally.steps,
                  core->reloads, core->locks);
    for (int k = 0; k < KINDS; k++) {
        const struct figure *f = &core->figures[k];
        uint32_t n = (uint32_t)MIN_OF(f->calls, SAMPLES);
        print_message("# %s: %s: cut %lu, made again %lu, same bytes %lu, "
                      "different %lu; call %u ns, copy %u ns\n",
                      name, kinds[k], f->cut, f->redone, f->same, f->different,
                      median(f->ns, n), median(f->copy_ns, n));
    }
    print_message("# %s: %lu bytes live a connection, %lu in the shared heap\n",
                  name, core->live / MAX_OF(core->live_n, 1u),
                  shared_live(shared));
}

static void
run(int version, const char *name)
{
    begin(version);
    doing = "nobody dies";
    each_echoes(30); /* nobody dies: what a call costs */
    doing = "twice";
    core->twice = 1;
    each_echoes(25);
    core->twice = 0;
    assert_true(core->figures[WRITE].same >= 25 * CONNS);
    doing = "between calls";
    die_between_calls(85);
    doing = "at random";
    die_at_random(120);
    doing = "in calls";
    die_in_calls(300);
    doing = "in handshakes";
    die_in_handshakes(60);
    doing = "at an instruction";
    die_at_an_instruction(20);
    say_figures(name);
    assert_int_equal(tally.lost, 0);
    assert_true(tally.continued >= 1000);
    assert_int_equal(tally.steps, 20);
    assert_true(tally.cut_handshakes > 0);
    assert_true(core->reloads > 0);
    assert_true(shared_is_sound(shared));
    for (int k = 0; k < KINDS; k++) {
        const struct figure *f = &core->figures[k];
        assert_true(f->cut > 0);
        assert_int_equal(f->cut, f->redone);
        assert_int_equal(f->different, 0);
    }
    end();
}

static void
tls_1_2_goes_on(void **state)
{
    run(TLS1_2_VERSION, "TLS 1.2");
}

static void
tls_1_3_goes_on(void **state)
{
    run(TLS1_3_VERSION, "TLS 1.3");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls_1_2_goes_on),
        cmocka_unit_test(tls_1_3_goes_on),
    };

    /* Before OpenSSL takes anything. */
    MUST(CRYPTO_set_mem_functions(hook_malloc, hook_realloc, hook_free) == 1);
    signal(SIGPIPE, SIG_IGN);
    make_certificate();
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "ring");
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
    BIO_meth_set_create(method, bio_create);
    warm_up(TLS1_2_VERSION);
    warm_up(TLS1_3_VERSION);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    BIO_meth_free(method);
    X509_free(cert);
    EVP_PKEY_free(key);
    return failed;
}
