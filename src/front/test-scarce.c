/* A worker to which each segment, run, slot, area, mapping and descriptor is
 * refused once, from its start through all kinds of requests: a client gets the
 * answer, a 503 or the end of its connection, the next ones are answered, and
 * at the end nothing is in use. The worker, its sockets and the program behind
 * the door are real. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/test-scarce.h"
#include "base/util.h"
#include "cardea.h"
#include "conf/conf.h"
#include "door/dial.h"
#include "door/sys.h"
#include "front/worker_priv.h"

/* A worker's memory was made at its start: these are what it allocates. */
SCARCE_WRAP(uint32_t, ARENA_NONE, ENOMEM, arena_take, (struct arena * a), (a))
SCARCE_WRAP(uint32_t, ARENA_NONE, ENOMEM, arena_take_run, (struct arena * a),
            (a))
SCARCE_WRAP(int, -1, ENOMEM, ring_slot_take, (struct ring * r, uint32_t owner),
            (r, owner))
SCARCE_WRAP(uint64_t, 0, ENOMEM, ring_area_take,
            (struct ring * r, uint64_t size), (r, size))

#define BODY     200000u
#define FIELD    6000u /* a head of two segments */
#define LIMIT_NS (20 * NS_PER_SEC)

struct site {
    char top[64], door[96], page[96];
    pid_t app;
    struct conf *conf;
    int listener, log_fd, folder;
    uint16_t port;
};

struct life {
    struct worker worker;
    struct worker_setup setup;
    struct seat seats[2];
    struct tally_table *tallies;
    int control, folders[2];
};

/* ---- the site ---- */

static void
handler(struct cardea_request *r)
{
    size_t len;

    cardea_body(r, &len);
    cardea_printf(r, "%zu bytes", len);
}

static pid_t
start_app(const char *door)
{
    pid_t pid = __real_fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(cardea_serve_threads_at(handler, door));
    }
    return pid;
}

static uint64_t
now_ns(void)
{
    return world_real()->now(NULL);
}

static int
dial_when_there(const char *door)
{
    uint64_t end = now_ns() + LIMIT_NS;

    while (now_ns() < end) {
        int fd = door_dial(door);
        if (fd >= 0) {
            return fd;
        }
        usleep(1000);
    }
    fail_msg("the program never opened its door");
    return -1;
}

static void
site_make(struct site *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    char text[512];

    snprintf(s->top, sizeof s->top, "/tmp/cardea-scarce-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    snprintf(s->door, sizeof s->door, "%s/door", s->top);
    snprintf(s->page, sizeof s->page, "%s/page", s->top);
    int fd = open(s->page, O_WRONLY | O_CREAT, 0644);
    assert_int_equal(write(fd, "page", 4), 4);
    close(fd);
    s->app = start_app(s->door);
    int n = snprintf(text, sizeof text,
                     "set access-log off\n"
                     "forward http 127.0.0.1:0 to {\n"
                     "    map any /app to \"%s\"\n"
                     "    map GET /www to files \"%s\"\n}\n",
                     s->door, s->top);
    s->conf = conf_parse("test.conf", text, (size_t)n, stderr);
    assert_non_null(s->conf);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&in, len), 0);
    assert_int_equal(listen(s->listener, 64), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&in, &len), 0);
    s->port = ntohs(in.sin_port);
    s->log_fd = open("/dev/null", O_WRONLY);
    s->folder = open(s->top, O_PATH | O_DIRECTORY);
}

static void
site_end(struct site *s)
{
    kill(s->app, SIGKILL);
    assert_int_equal(waitpid(s->app, NULL, 0), s->app);
    close(s->listener);
    close(s->log_fd);
    close(s->folder);
    conf_free(s->conf);
    unlink(s->door);
    unlink(s->page);
    assert_int_equal(rmdir(s->top), 0);
}

/* ---- the worker, and the keeper's part for it ---- */

static struct life *
life_new(const struct site *s)
{
    struct life *l = __real_calloc(1, sizeof *l);
    int pair[2];

    assert_non_null(l);
    l->tallies = aligned_alloc(64, 4096);
    memset(l->tallies, 0, 4096);
    assert_int_equal(
        __real_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    for (size_t t = 0; t < s->conf->n_targets; t++) {
        bool is_files = s->conf->targets[t].kind == CONF_TARGET_FILES;
        l->folders[t] = is_files ? s->folder : -1;
    }
    l->control = pair[0];
    l->setup =
        (struct worker_setup){.n_workers = 1,
                              .cpu = -1,
                              .control_fd = pair[1],
                              .say_fd = pair[1], /* a socket takes writes too */
                              .log_fd = s->log_fd,
                              .conf = s->conf,
                              .listen_fds = &s->listener,
                              .folder_fds = l->folders,
                              .seats = l->seats,
                              .tallies = l->tallies};
    return l;
}

/* Also after worker_begin() has failed: what a process that ends would do. */
static void
life_end(struct life *l)
{
    struct worker *w = &l->worker;

    if (w->core) {
        for (uint32_t g = 0; g < w->core->n_rings; g++) {
            if (w->rings[g].state != RING_CLOSED) {
                ring_close(&w->rings[g]);
            }
        }
        if (w->core->epoll >= 0) {
            close(w->core->epoll);
        }
        if (w->core->succession.self_tid != 0) {
            close(w->core->succession.self_fd);
        }
    }
    arena_free(&w->arena);
    close(l->control);
    close(l->setup.control_fd);
    free(l->tallies);
    free(l);
}

static void
give_door(struct life *l, const struct site *s, uint32_t target)
{
    struct worker_message m = {.kind = WORKER_DOOR, .target = target};
    long left = atomic_exchange(&scarce_left, 0); /* the keeper has plenty */
    int fd = dial_when_there(s->door);

    assert_int_equal(door_send(l->control, &m, sizeof m, &fd, 1), 0);
    close(fd);
    atomic_store(&scarce_left, left);
}

static void
give_doors(struct life *l, const struct site *s)
{
    for (uint32_t t = 0; t < s->conf->n_targets; t++) {
        if (l->folders[t] < 0) {
            give_door(l, s, t);
        }
    }
}

/* A pass, and a new door for each that was lost. */
static void
pass(struct life *l, const struct site *s)
{
    struct worker_message m;

    worker_stand(&l->worker);
    worker_pass(&l->worker, false);
    while (recv(l->control, &m, sizeof m, MSG_DONTWAIT) > 0) {
        if (m.kind == WORKER_DOOR_LOST) {
            give_door(l, s, m.target);
        }
    }
}

/* ---- a client ---- */

static int
client(const struct site *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons(s->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = __real_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Sends all and reads to the end, the worker running meanwhile. The status; 0:
 * closed without one. TEXT: what came. */
static int
exchange(struct life *l, const struct site *s, const char *bytes, size_t len,
         char text[4096])
{
    uint64_t end = now_ns() + LIMIT_NS;
    size_t sent = 0, got = 0;
    bool over = false;
    int fd = client(s), status = 0;

    while (!over) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n = send(fd, bytes + sent, len - sent,
                         MSG_NOSIGNAL | (sent < len ? 0 : MSG_DONTWAIT));
        sent += n > 0 ? (size_t)n : 0;
        pass(l, s);
        if (poll(&p, 1, sent < len ? 0 : 1) == 1) {
            n = recv(fd, text + got, 4095 - got, 0);
            over = n == 0 || (n < 0 && errno != EAGAIN);
            got += n > 0 ? (size_t)n : 0;
        }
        if (now_ns() > end) {
            fail_msg("no end after: %.60s", bytes);
        }
    }
    close(fd);
    text[got] = 0;
    sscanf(text, "HTTP/1.1 %d", &status);
    return status;
}

/* ---- the requests ---- */

struct asked {
    const char *start, *more; /* of the head */
    size_t field, body;
    bool chunked;
    const char *answer;
};

static const struct asked all_asked[] = {
    {"GET /app/x", "", 0, 0, false, "\r\n\r\n0 bytes"},
    {"POST /app/x", "", 0, 300, false, "\r\n\r\n300 bytes"},
    {"POST /app/x", "", 0, BODY, false, "\r\n\r\n200000 bytes"},
    {"POST /app/x", "", 0, BODY, true, "\r\n\r\n200000 bytes"},
    {"GET /app/x", "", FIELD, 0, false, "\r\n\r\n0 bytes"},
    {"GET /www/page", "", 0, 0, false, "\r\n\r\npage"},
    {"GET /www/none", "", 0, 0, false, "404"},
};

/* The request as bytes; the caller's to free. */
static char *
spell(const struct asked *a, size_t *p_len)
{
    size_t size = a->field + a->body + 1000;
    char *text = __real_malloc(size);
    int n =
        snprintf(text, size, "%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n",
                 a->start);

    if (a->field > 0) {
        n += snprintf(text + n, size - (size_t)n, "X-Large: ");
        memset(text + n, 'v', a->field);
        n += (int)a->field;
        n += snprintf(text + n, size - (size_t)n, "\r\n");
    }
    if (a->chunked) {
        n += snprintf(text + n, size - (size_t)n,
                      "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", a->body);
    } else if (a->body > 0) {
        n += snprintf(text + n, size - (size_t)n, "Content-Length: %zu\r\n\r\n",
                      a->body);
    } else {
        n += snprintf(text + n, size - (size_t)n, "\r\n");
    }
    memset(text + n, 'b', a->body);
    n += (int)a->body;
    if (a->chunked) {
        n += snprintf(text + n, size - (size_t)n, "\r\n0\r\n\r\n");
    }
    *p_len = (size_t)n;
    return text;
}

/* Asks all. How many were refused; each in one of the ways that may be. */
static int
ask_all(struct life *l, const struct site *s, long n)
{
    int refused = 0;

    for (size_t i = 0; i < ARRAY_LEN(all_asked); i++) {
        const struct asked *a = &all_asked[i];
        char text[4096];
        size_t len;
        char *bytes = spell(a, &len);
        int status = exchange(l, s, bytes, len, text);
        free(bytes);
        if ((status == 200 || status == 404) && strstr(text, a->answer)) {
            continue;
        }
        if (status != 503 && status != 0) {
            fail_msg("n=%ld, request %zu: %s", n, i, text);
        }
        refused++;
    }
    return refused;
}

/* ---- all of it ---- */

static bool
is_start_errno(int e)
{
    return e == ENOMEM || e == EMFILE || e == ENOSPC;
}

/* One life with its Nth call failing. true: one had failed. */
static bool
live(const struct site *s, long n, int *p_starts, int *p_refused)
{
    struct life *l = life_new(s);

    scarce_begin(n);
    int e = worker_begin(&l->worker, &l->setup);
    if (e != 0) {
        assert_true(scarce_end() && is_start_errno(e));
        ++*p_starts;
        life_end(l);
        return true;
    }
    give_doors(l, s);
    int refused = ask_all(l, s, n);
    bool was_short = scarce_end();
    assert_true(was_short || refused == 0);
    *p_refused += refused > 0;
    /* Only one was short: one request at most has paid for it; but where the
     * door's connection was, all that came before the next one. */
    assert_int_equal(ask_all(l, s, n), 0);
    for (uint64_t end = now_ns() + LIMIT_NS;
         l->worker.core->live > 0 && now_ns() < end;) {
        pass(l, s); /* it sees the last client's end */
    }
    assert_int_equal(l->worker.core->live, 0);
    assert_int_equal(l->worker.arena.in_use, 0);
    for (uint32_t g = 0; g < l->worker.core->n_rings; g++) {
        assert_int_equal(l->worker.rings[g].n_used, 0);
        assert_int_equal(l->worker.rings[g].segments_used, 0);
    }
    life_end(l);
    return was_short;
}

static void
test_life(void **state)
{
    struct site s;
    int starts = 0, refused = 0;
    long n = 1;

    site_make(&s);
    close(dial_when_there(s.door));
    int before = scarce_count_fds();
    while (live(&s, n, &starts, &refused) && n < 1000) {
        assert_int_equal(scarce_count_fds(), before);
        n++;
    }
    print_message("# worker: %ld calls, %d starts failed, %d refusals\n", n - 1,
                  starts, refused);
    assert_in_range(n, 20, 200);
    assert_in_range(starts, 4, 20);
    assert_true(refused >= 10);
    site_end(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
