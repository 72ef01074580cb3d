/* Every deadline of a connection, in simulated time: hours pass in
 * milliseconds. The worker is real, its sockets are real, its clock is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "conf/conf.h"
#include "front/worker_priv.h"

struct clock {
    uint64_t now;
};

static uint64_t
clock_now(void *ctx)
{
    return ((struct clock *)ctx)->now;
}

static uint64_t
clock_wall(void *ctx)
{
    return 1700000000ull * NS_PER_SEC + ((struct clock *)ctx)->now;
}

struct fixture {
    struct clock clock;
    struct world world;
    struct worker_setup setup;
    struct worker worker;
    struct seat seats[2];
    struct tally_table *tallies;
    struct conf *conf;
    int listener, control, folder, log_fd, client;
    uint16_t port;
};

static int
set_up(void **state)
{
    static const char text[] = "forward http 127.0.0.1:0 to files \"/usr\"\n"
                               "set access-log off\n"
                               "set header-timeout 10s\n"
                               "set body-timeout 30s\n"
                               "set idle-timeout 2h\n";
    struct fixture *f = calloc(1, sizeof *f);
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int pair[2];

    assert_non_null(f);
    f->clock.now = 5 * NS_PER_SEC;
    f->world =
        (struct world){.ctx = &f->clock, .now = clock_now, .wall = clock_wall};
    f->conf = conf_parse("test.conf", text, sizeof text - 1, stderr);
    assert_non_null(f->conf);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&in, len), 0);
    assert_int_equal(listen(f->listener, 16), 0);
    getsockname(f->listener, (struct sockaddr *)&in, &len);
    f->port = ntohs(in.sin_port);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    f->folder = open("/usr", O_PATH | O_DIRECTORY);
    f->log_fd = open("/dev/null", O_WRONLY);
    f->control = pair[0];
    f->tallies = aligned_alloc(64, 4096);
    memset(f->tallies, 0, 4096);
    f->setup =
        (struct worker_setup){.n_workers = 1,
                              .cpu = -1,
                              .control_fd = pair[1],
                              .say_fd = pair[1], /* a socket takes writes too */
                              .log_fd = f->log_fd,
                              .conf = f->conf,
                              .listen_fds = &f->listener,
                              .folder_fds = &f->folder,
                              .seats = f->seats,
                              .tallies = f->tallies,
                              .world = &f->world};
    assert_int_equal(worker_begin(&f->worker, &f->setup), 0);
    f->client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(f->client, (struct sockaddr *)&in, len), 0);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < f->worker.core->top; i++) {
        if (f->worker.conns[i].state != CONN_FREE) {
            conn_close(&f->worker, i);
        }
    }
    close(f->worker.core->epoll);
    close(f->worker.core->succession.self_fd);
    arena_free(&f->worker.arena);
    close(f->client);
    close(f->listener);
    close(f->folder);
    close(f->log_fd);
    close(f->control);
    close(f->setup.control_fd);
    conf_free(f->conf);
    free(f->tallies);
    free(f);
    return 0;
}

static void
passes(struct fixture *f, int n)
{
    while (n-- > 0) {
        worker_stand(&f->worker);
        worker_pass(&f->worker, false);
    }
}

/* Moves the clock in steps, as a worker that wakes now and then sees it. */
static void
let_pass(struct fixture *f, uint64_t ns, uint64_t step)
{
    uint64_t until = f->clock.now + ns;

    while (f->clock.now < until) {
        f->clock.now += MIN_OF(step, until - f->clock.now);
        worker_stand(&f->worker);
        worker_pass(&f->worker, false);
    }
}

static void
say(struct fixture *f, const char *text)
{
    assert_int_equal(send(f->client, text, strlen(text), MSG_NOSIGNAL),
                     (int)strlen(text));
    passes(f, 3);
}

/* What has come: "" nothing, else text; *P_END: the worker closed. */
static const char *
heard(struct fixture *f, char *buf, size_t size, bool *p_end)
{
    ssize_t n = recv(f->client, buf, size - 1, MSG_DONTWAIT);

    *p_end = n == 0;
    buf[n > 0 ? n : 0] = 0;
    return buf;
}

static void
expect_silence(struct fixture *f)
{
    char buf[4096];
    bool end;

    assert_string_equal(heard(f, buf, sizeof buf, &end), "");
    assert_false(end);
}

static void
expect_status(struct fixture *f, const char *start)
{
    char buf[4096];
    bool end;

    heard(f, buf, sizeof buf, &end);
    buf[strlen(start)] = 0;
    assert_string_equal(buf, start);
}

static void
head_must_come_in_ten_seconds(void **state)
{
    struct fixture *f = *state;

    say(f, "GET / HT");
    let_pass(f, 9900 * NS_PER_MS, 50 * NS_PER_MS);
    expect_silence(f);
    let_pass(f, 250 * NS_PER_MS, 50 * NS_PER_MS);
    expect_status(f, "HTTP/1.1 408 Request Timeout");
}

/* More bytes do not buy more time: the head as a whole has ten seconds. */
static void
dripping_head_gets_no_more_time(void **state)
{
    struct fixture *f = *state;

    say(f, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 9; i++) {
        let_pass(f, NS_PER_SEC, 100 * NS_PER_MS);
        say(f, "A: b\r\n");
        expect_silence(f);
    }
    let_pass(f, 1200 * NS_PER_MS, 100 * NS_PER_MS);
    expect_status(f, "HTTP/1.1 408 Request Timeout");
}

static void
idle_connection_lives_two_hours(void **state)
{
    struct fixture *f = *state;
    char buf[4096];
    bool end;

    passes(f, 3);
    let_pass(f, 7199 * NS_PER_SEC, 10 * NS_PER_SEC);
    expect_silence(f);
    assert_int_equal(f->worker.core->live, 1);
    let_pass(f, 2 * NS_PER_SEC, NS_PER_SEC);
    assert_string_equal(heard(f, buf, sizeof buf, &end), "");
    assert_true(end);
    assert_int_equal(f->worker.core->live, 0);
}

/* Each answered request starts the two hours anew. */
static void
request_renews_idle_time(void **state)
{
    struct fixture *f = *state;

    passes(f, 3);
    for (int i = 0; i < 3; i++) {
        let_pass(f, 7000 * NS_PER_SEC, 100 * NS_PER_SEC);
        say(f, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
        expect_status(f, "HTTP/1.1 404 Not Found");
    }
    assert_int_equal(f->worker.core->live, 1);
}

/* A clock that jumps a day ahead (a suspended machine) ends what is due, at
 * once, and nothing breaks. */
static void
long_sleep(void **state)
{
    struct fixture *f = *state;

    passes(f, 3);
    f->clock.now += 24 * 3600 * NS_PER_SEC;
    passes(f, 2);
    assert_int_equal(f->worker.core->live, 0);
}

/* The date of replies follows the clock. */
static void
date_follows_clock(void **state)
{
    struct fixture *f = *state;
    char buf[4096];
    bool end;

    f->clock.now = 0;
    say(f, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_non_null(strstr(heard(f, buf, sizeof buf, &end),
                           "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"));
    f->clock.now = 3600 * NS_PER_SEC;
    say(f, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_non_null(strstr(heard(f, buf, sizeof buf, &end),
                           "Date: Tue, 14 Nov 2023 23:13:20 GMT\r\n"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(head_must_come_in_ten_seconds),
        CASE(dripping_head_gets_no_more_time),
        CASE(idle_connection_lives_two_hours),
        CASE(request_renews_idle_time),
        CASE(long_sleep),
        CASE(date_follows_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
