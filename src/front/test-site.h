/* A worker with its heirs and two programs, each a process of its own, and a
 * client that notes the first thing that is not as it must be: for tests that
 * kill the worker. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/util.h"
#include "cardea.h"
#include "conf/conf.h"
#include "door.h"
#include "door/dial.h"
#include "door/sys.h"
#include "front/test-listen.h"
#include "front/worker_priv.h"

#define LIMIT_MS  10000
#define CALLS_MAX (1u << 20)
#define FILE_SIZE 1500000u
#define BIG_SIZE  3000000u
#define HEIRS     2
#define FAR_LOG   500

enum port { HTTP, CALL, PASS, LOCAL, N_PORTS };

struct site {
    bool queue_all; /* each call waits for its turn first */
    char top[64], door[96], plain[96], file[96], local[96];
    pid_t app, plain_app, worker;
    int listeners[N_PORTS], control, said, log_fd, folders[8];
    uint16_t ports[N_PORTS];
    struct conf *conf;
    struct seat *seats;
    struct tally_table *tallies;
    uint8_t *calls;  /* of the app, by number: shared with it */
    uint8_t *logged; /* by number: 1: a line must be there */
    uint32_t next;   /* number of the next request */
    uint64_t rng;
};

/* ---- the programs behind the doors ---- */

static uint8_t *calls_made; /* shared: set before the fork */

static char
pattern(size_t i)
{
    return (char)('a' + (i * 7 + i / 251) % 26);
}

/* /N: the call is counted, and its body's length and hash come back; with "big"
 * a long body does. */
static void
handler(struct cardea_request *r)
{
    static char big[BIG_SIZE];
    size_t len;
    const char *body = cardea_body(r, &len);
    const char *path = strrchr(cardea_path(r), '/');
    unsigned long n = strtoul(path + 1, NULL, 10) % CALLS_MAX;
    char text[8];

    __atomic_fetch_add(&calls_made[n], 1, __ATOMIC_SEQ_CST);
    if (cardea_param(r, "big", text, sizeof text) > 0) {
        if (big[0] == 0) {
            for (size_t i = BIG_SIZE; i-- > 0;) {
                big[i] = pattern(i);
            }
        }
        cardea_write(r, big, BIG_SIZE);
        return;
    }
    cardea_printf(r, "%s %lu %zu %016llx", cardea_method(r), n, len,
                  (unsigned long long)fnv_add(FNV_BASIS, body, len));
}

/* A passed connection gets its bytes back until its end; else the bytes come
 * back. */
static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    char bytes[4096];
    ssize_t n;

    (void)cookie;
    if (n_desc == 1) {
        int fd = dp[0].d_data.d_desc.d_descriptor;
        while ((n = read(fd, bytes, sizeof bytes)) > 0 &&
               write(fd, bytes, (size_t)n) == n) {
        }
        close(fd);
        door_return(NULL, 0, NULL, 0);
    }
    if (arg_size > 4) {
        unsigned long k = strtoul(argp + 4, NULL, 10) % CALLS_MAX;
        __atomic_fetch_add(&calls_made[k], 1, __ATOMIC_SEQ_CST);
    }
    door_return(argp, arg_size, NULL, 0);
}

static pid_t
start_app(const char *door, bool plain)
{
    pid_t pid = fork();

    if (pid != 0) {
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!plain) {
        _exit(cardea_serve_threads_at(handler, door));
    }
    int d = door_create(procedure, NULL, 0);
    if (d < 0 || door_attach(d, door, 0666) < 0) {
        _exit(1);
    }
    for (;;) {
        pause();
    }
}

/* ---- the site ---- */

static uint64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t
pick(struct site *s, uint64_t below)
{
    s->rng ^= s->rng << 13;
    s->rng ^= s->rng >> 7;
    s->rng ^= s->rng << 17;
    return s->rng % below;
}

static void
give_door(struct site *s, uint32_t target, const char *path)
{
    int door = -1;

    for (int i = 0; i < 5000 && door < 0; i++) {
        door = door_dial(path);
        if (door < 0) {
            usleep(1000);
        }
    }
    assert_true(door >= 0);
    struct worker_message m = {.kind = WORKER_DOOR, .target = target};
    assert_int_equal(door_send(s->control, &m, sizeof m, &door, 1), 0);
    close(door);
}

static void
write_file(struct site *s)
{
    snprintf(s->file, sizeof s->file, "%s/f.txt", s->top);
    int fd = open(s->file, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    char bytes[4096];
    size_t at = 0;

    while (at < FILE_SIZE) {
        size_t n = MIN_OF(sizeof bytes, FILE_SIZE - at);
        for (size_t i = 0; i < n; i++) {
            bytes[i] = pattern(at + i);
        }
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
        at += n;
    }
    close(fd);
}

static void
read_conf(struct site *s)
{
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "forward http 127.0.0.1:0 to {\n"
                     "    map any /app to \"%s\"\n"
                     "    map GET /www to files \"%s\"\n}\n"
                     "forward tcp 127.0.0.1:0 to \"%s\"\n"
                     "forward tcp 127.0.0.1:0 pass \"%s\"\n"
                     "forward http unix:%s to {\n"
                     "    map any /app to \"%s\"\n"
                     "    map GET /www to files \"%s\"\n}\n",
                     s->door, s->top, s->plain, s->plain, s->local, s->door,
                     s->top);

    s->conf = conf_parse("test.conf", text, (size_t)n, stderr);
    assert_non_null(s->conf);
    assert_int_equal(s->conf->n_listens, N_PORTS);
}

static void
start_worker(struct site *s, int control, int say)
{
    struct worker_setup setup = {.n_workers = 1,
                                 .cpu = sched_getcpu(),
                                 .heirs = HEIRS,
                                 .control_fd = control,
                                 .say_fd = say,
                                 .log_fd = s->log_fd,
                                 .conf = s->conf,
                                 .listen_fds = s->listeners,
                                 .folder_fds = s->folders,
                                 .seats = s->seats,
                                 .tallies = s->tallies,
                                 .queue_all = s->queue_all};

    s->worker = fork();
    if (s->worker == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        close(s->control);
        _exit(worker_main(&setup));
    }
}

static pid_t killed; /* the last that was */

static bool
has_heirs(const struct site *s)
{
    return (pid_t)atomic_load(&s->seats[0].pid) != killed &&
           atomic_load(&s->seats[0].heirs) == HEIRS;
}

static void
wait_until(struct site *s, bool (*is_so)(const struct site *), const char *what)
{
    uint64_t end = now_ms() + LIMIT_MS;

    while (!is_so(s)) {
        if (now_ms() > end) {
            fail_msg("waited too long for %s", what);
        }
        usleep(200);
    }
}

static bool
has_rings(const struct site *s)
{
    return atomic_load(&s->seats[0].rings) >= 2 && has_heirs(s);
}

/* On the worker's CPU: a step is a switch to it and back. */
static void
stay_here(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    sched_setaffinity(0, sizeof set, &set);
}

static struct site *
site_begin(uint64_t seed)
{
    struct site *s = calloc(1, sizeof *s);
    int control[2], said[2];

    s->rng = seed * 0x9e3779b97f4a7c15ull | 1;
    s->next = 1;
    s->queue_all = (seed & 1) != 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    snprintf(s->top, sizeof s->top, "/tmp/cardea-exact-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    snprintf(s->door, sizeof s->door, "%s/door", s->top);
    snprintf(s->plain, sizeof s->plain, "%s/plain", s->top);
    snprintf(s->local, sizeof s->local, "%s/sock", s->top);
    calls_made = s->calls = mmap(NULL, CALLS_MAX, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s->seats = mmap(NULL, SEATS_MAX * sizeof(struct seat),
                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s->tallies = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s->logged = calloc(1, CALLS_MAX);
    write_file(s);
    s->app = start_app(s->door, false);
    s->plain_app = start_app(s->plain, true);
    read_conf(s);
    for (int p = 0; p < LOCAL; p++) {
        s->listeners[p] = listen_on_loopback(&s->ports[p]);
    }
    s->listeners[LOCAL] = listen_on_unix(s->local);
    for (size_t t = 0; t < s->conf->n_targets; t++) {
        bool files = s->conf->targets[t].kind == CONF_TARGET_FILES;
        s->folders[t] = files ? open(s->top, O_PATH | O_DIRECTORY) : -1;
    }
    s->log_fd = memfd_create("log", 0);
    fcntl(s->log_fd, F_SETFL, O_APPEND);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control), 0);
    s->control = control[0];
    assert_int_equal(pipe2(said, O_NONBLOCK | O_CLOEXEC), 0);
    s->said = said[0];
    start_worker(s, control[1], said[1]);
    stay_here();
    close(control[1]);
    close(said[1]);
    for (uint32_t t = 0; t < s->conf->n_targets; t++) {
        if (s->folders[t] < 0) {
            bool plain = strstr(s->conf->targets[t].path, "plain") != NULL;
            give_door(s, t, plain ? s->plain : s->door);
        }
    }
    return s;
}

/* What a keeper would do: hear the worker, and reap those that died. */
static void
tidy(const struct site *s)
{
    char bytes[4096];

    while (read(s->said, bytes, sizeof bytes) > 0) {
    }
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

static void
site_end(struct site *s)
{
    kill(-s->worker, SIGKILL);
    kill(s->app, SIGKILL);
    kill(s->plain_app, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) {
    }
    unlink(s->door);
    unlink(s->plain);
    unlink(s->local);
    unlink(s->file);
    rmdir(s->top);
    conf_free(s->conf);
    free(s->logged);
    free(s);
}

/* ---- a client ---- */

struct client {
    struct site *site;
    int fd;
    uint32_t first; /* number of its first request */
    int phase, stop_at;
    bool killed; /* the worker was */
    char wrong[512];
};

static void wrong(struct client *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
wrong(struct client *c, const char *format, ...)
{
    va_list args;

    if (c->wrong[0] == 0) {
        va_start(args, format);
        vsnprintf(c->wrong, sizeof c->wrong, format, args);
        va_end(args);
    }
}

static void
dial(struct client *c, enum port port)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons(c->site->ports[port]),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval limit = {LIMIT_MS / 1000, 0};
    const int on = 1;
    bool local = port == LOCAL;

    snprintf(un.sun_path, sizeof un.sun_path, "%s", c->site->local);
    c->fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, local ? (void *)&un : (void *)&in,
                local ? sizeof un : sizeof in) < 0) {
        wrong(c, "connect: %s", strerror(errno));
    }
}

static void
say_bytes(struct client *c, const void *bytes, size_t len)
{
    if (send(c->fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len) {
        wrong(c, "send: %s", strerror(errno));
    }
}

static void say(struct client *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
say(struct client *c, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    say_bytes(c, text, (size_t)n);
}

/* One byte, or the end. -1: neither came. */
static int
get_byte(struct client *c)
{
    unsigned char byte;
    ssize_t n = recv(c->fd, &byte, 1, 0);

    if (n < 0) {
        wrong(c, "receive: %s", strerror(errno));
    }
    return n == 1 ? byte : -1;
}

/* A reply's head; its length field. */
static size_t
expect_head(struct client *c, int status)
{
    char head[2048], line[64];
    size_t n = 0;

    while (c->wrong[0] == 0 && n < sizeof head - 1 &&
           !(n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0)) {
        int byte = get_byte(c);
        if (byte < 0) {
            head[n] = 0;
            wrong(c, "the end within a head: '%s'", head);
            return 0;
        }
        head[n++] = (char)byte;
    }
    head[n] = 0;
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    if (strncmp(head, line, strlen(line)) != 0) {
        wrong(c, "not '%s': '%.200s'", line, head);
    }
    const char *length = strstr(head, "Content-Length: ");
    return length ? strtoul(length + 16, NULL, 10) : 0;
}

/* N bytes that must follow the pattern from AT on. */
static void
expect_pattern(struct client *c, size_t at, size_t n)
{
    static char bytes[65536];

    while (n > 0 && c->wrong[0] == 0) {
        ssize_t got = recv(c->fd, bytes, MIN_OF(n, sizeof bytes), 0);
        if (got <= 0) {
            wrong(c, "%zu bytes too few: %s", n,
                  got == 0 ? "end" : strerror(errno));
            return;
        }
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] != pattern(at + (size_t)i)) {
                wrong(c, "wrong byte at %zu", at + (size_t)i);
                return;
            }
        }
        at += (size_t)got;
        n -= (size_t)got;
    }
}

/* What is there of the pattern from AT on: room for the worker to send again.
 * Where it goes on. */
static size_t
drain(struct client *c, size_t at)
{
    static char bytes[65536];
    ssize_t got;

    while ((got = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] != pattern(at + (size_t)i)) {
                wrong(c, "wrong byte at %zu", at + (size_t)i);
                return at;
            }
        }
        at += (size_t)got;
    }
    return at;
}

static void
expect_text(struct client *c, const char *text)
{
    char bytes[512];
    size_t n = 0, len = strlen(text);

    while (n < len && c->wrong[0] == 0) {
        int byte = get_byte(c);
        if (byte < 0) {
            wrong(c, "the end, not '%s'", text);
            return;
        }
        bytes[n++] = (char)byte;
    }
    if (c->wrong[0] == 0 && memcmp(bytes, text, len) != 0) {
        wrong(c, "not '%s': '%.*s'", text, (int)len, bytes);
    }
}

static void
expect_answer(struct client *c, const char *method, uint32_t number,
              const char *body, size_t len)
{
    char text[128];
    size_t n = expect_head(c, 200);

    c->site->logged[number] = 1;
    snprintf(text, sizeof text, "%s %u %zu %016llx", method, number, len,
             (unsigned long long)fnv_add(FNV_BASIS, body, len));
    if (n != strlen(text)) {
        wrong(c, "length %zu of '%s'", n, text);
    }
    expect_text(c, text);
}

static void
expect_end(struct client *c)
{
    unsigned char byte;
    ssize_t n = c->wrong[0] ? 0 : recv(c->fd, &byte, 1, 0);

    if (n != 0) {
        wrong(c, "no end: %s", n > 0 ? "a byte" : strerror(errno));
    }
}

static uint32_t
new_number(struct client *c)
{
    return c->site->next++;
}
