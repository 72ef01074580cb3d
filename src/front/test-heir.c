/* The seam for heirs: a worker is cloned between two passes, killed, and its
 * heir answers the next request on the same connection from the same arena and
 * descriptors. A real worker, a real door in another process, a real client. */
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
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cardea.h"
#include "conf/conf.h"
#include "door/dial.h"
#include "door/sys.h"
#include "front/heir.h"
#include "front/worker_priv.h"

struct fixture {
    char folder[64], door[96];
    pid_t app, worker;
    int control, told, tell; /* socket; pipe from the worker; pipe to it */
    uint16_t port;
    int listener;
    struct conf *conf;
    struct seat *seats;
    struct tally *tallies;
};

static void
handler(struct cardea_request *r)
{
    char ms[16];
    size_t len;
    const char *body = cardea_body(r, &len);

    if (cardea_param(r, "ms", ms, sizeof ms) > 0) {
        usleep((useconds_t)atoi(ms) * 1000);
    }
    cardea_printf(r, "%s %s %.*s", cardea_method(r), cardea_path(r), (int)len,
                  body);
}

static pid_t
start_app(const char *door)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(cardea_serve_threads_at(handler, door));
    }
    return pid;
}

/* Runs passes, and between two of them does what a byte on the pipe orders:
 * 'h' clones an heir and tells its pid, 's' stands still to be killed. The heir
 * comes out of heir_clone at the same place, as the worker. */
static void
worker_with_heirs(struct fixture *f, const struct worker_setup *setup,
                  int orders)
{
    struct worker w;
    struct pollfd p = {.fd = orders, .events = POLLIN};
    pid_t pid = 0;
    char byte = 'r';

    if (worker_begin(&w, setup) != 0 || write(f->told, &pid, sizeof pid) < 0) {
        _exit(9);
    }
    while (!w.leaving) {
        if (poll(&p, 1, 1) == 1 && read(orders, &byte, 1) == 1) {
            pid = byte == 'h' ? heir_clone(&w) : 1;
            if (pid < 0 || (pid > 0 && write(f->told, &pid, sizeof pid) !=
                                           (ssize_t)sizeof pid)) {
                _exit(8);
            }
            while (byte == 's') {
                pause();
            }
            continue;
        }
        worker_pass(&w, false);
    }
    _exit(0);
}

static int
listen_on_loopback(uint16_t *p_port)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    const int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    *p_port = ntohs(in.sin_port);
    return fd;
}

static int
dial_when_there(const char *door)
{
    for (int i = 0; i < 5000; i++) {
        int fd = door_dial(door);
        if (fd >= 0) {
            return fd;
        }
        usleep(1000);
    }
    fail_msg("the app never opened its door");
    return -1;
}

/* Gives an order between two passes; what the worker tells. 0: just listen. */
static pid_t
order(struct fixture *f, char byte)
{
    pid_t told = -1;

    if (byte != 0) {
        assert_int_equal(write(f->tell, &byte, 1), 1);
    }
    assert_int_equal(read(f->told, &told, sizeof told), (int)sizeof told);
    return told;
}

/* Waits until the worker has made two whole passes from now: whatever was sent
 * before has been dealt with. */
static void
wait_passes(const struct fixture *f)
{
    uint64_t from = atomic_load(&f->seats[0].pass);

    while (atomic_load(&f->seats[0].pass) < from + 3) {
        usleep(500);
    }
}

static void ask_until_there(int fd, const char *request);
static int client(const struct fixture *f);

static void
give_door(struct fixture *f)
{
    int door = dial_when_there(f->door);
    struct worker_message m = {.kind = WORKER_DOOR, .target = 0};

    assert_int_equal(door_send(f->control, &m, sizeof m, &door, 1), 0);
    close(door);
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char text[256];
    int control[2], told[2], tell[2];

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    strcpy(f->folder, "/tmp/cardea-heir-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->door, sizeof f->door, "%s/door", f->folder);
    f->app = start_app(f->door);
    snprintf(text, sizeof text,
             "forward http 127.0.0.1:0 to %s\nset access-log off\n", f->door);
    f->conf = conf_parse("test.conf", text, strlen(text), stderr);
    assert_non_null(f->conf);
    f->listener = listen_on_loopback(&f->port);
    f->seats = mmap(NULL, SEATS_MAX * sizeof(struct seat),
                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    f->tallies = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control), 0);
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(tell), 0);
    int no_folder = -1;
    int log_fd = open("/dev/null", O_WRONLY);
    struct worker_setup setup = {.n_workers = 1,
                                 .cpu = -1,
                                 .control_fd = control[1],
                                 .log_fd = log_fd,
                                 .conf = f->conf,
                                 .listen_fds = &f->listener,
                                 .folder_fds = &no_folder,
                                 .seats = f->seats,
                                 .tallies = f->tallies};
    f->control = control[0];
    f->worker = fork();
    if (f->worker == 0) {
        close(control[0]);
        close(told[0]);
        close(tell[1]);
        f->told = told[1];
        worker_with_heirs(f, &setup, tell[0]);
    }
    close(control[1]);
    close(told[1]);
    close(tell[0]);
    close(log_fd);
    f->told = told[0];
    f->tell = tell[1];
    order(f, 0);
    give_door(f);
    /* One answer: the ring is there before an heir is made. A request may come
     * before the door, and is told so. */
    int fd = client(f);
    ask_until_there(fd, "GET /warm HTTP/1.1\r\nHost: a\r\n\r\n");
    close(fd);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;

    kill(f->worker, SIGKILL);
    waitpid(f->worker, NULL, 0);
    kill(f->app, SIGKILL);
    waitpid(f->app, NULL, 0);
    close(f->control);
    close(f->told);
    close(f->tell);
    close(f->listener);
    munmap(f->seats, SEATS_MAX * sizeof(struct seat));
    munmap(f->tallies, 4096);
    conf_free(f->conf);
    unlink(f->door);
    rmdir(f->folder);
    free(f);
    return 0;
}

/* ---- a client ---- */

static int
client(const struct fixture *f)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons(f->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {10, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static void
say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
                     (int)strlen(text));
}

/* Reads until TEXT has come: the end of an expected answer. */
static void
expect_end(int fd, const char *text)
{
    char buf[4096];
    size_t n = 0, len = strlen(text);

    for (;;) {
        ssize_t got = recv(fd, buf + n, sizeof buf - 1 - n, 0);
        if (got <= 0) {
            buf[n] = 0;
            fail_msg("waiting for '%s': %s after '%s'", text,
                     got == 0 ? "end" : strerror(errno), buf);
        }
        n += (size_t)got;
        if (n >= len && memcmp(buf + n - len, text, len) == 0) {
            buf[n] = 0;
            assert_memory_equal(buf, "HTTP/1.1 200 OK\r\n", 17);
            return;
        }
    }
}

/* Stops the worker between two passes and kills it; HEIR is the worker then. */
static void
kill_for(struct fixture *f, pid_t heir)
{
    int status;

    order(f, 's');
    assert_int_equal(kill(f->worker, SIGKILL), 0);
    assert_int_equal(waitpid(f->worker, &status, 0), f->worker);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    f->worker = heir;
}

static void
kill_worker(struct fixture *f)
{
    wait_passes(f);
    kill_for(f, order(f, 'h'));
}

/* ---- what the heir must do ---- */

static void
next_request_on_same_connection(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    say(fd, "GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_end(fd, "GET /one ");
    kill_worker(f);
    say(fd, "GET /two HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_end(fd, "GET /two ");
    close(fd);
}

static void
many_generations(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    char ask[64], answer[32];

    for (int i = 0; i < 30; i++) {
        snprintf(ask, sizeof ask, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i);
        snprintf(answer, sizeof answer, "GET /%d ", i);
        say(fd, ask);
        expect_end(fd, answer);
        kill_worker(f);
    }
    close(fd);
}

static void
call_in_flight_is_answered(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    say(fd, "GET /warm HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_end(fd, "GET /warm ");
    say(fd, "GET /slow?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
    kill_worker(f);
    expect_end(fd, "GET /slow ");
    close(fd);
    /* The counters went on: the first request of all, and these two. */
    assert_int_equal(f->tallies[0].calls, 3);
    assert_int_equal(f->tallies[0].in_flight, 0);
}

static void
half_a_head_and_half_a_body(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    say(fd, "POST /half HTTP/1.1\r\nHo");
    kill_worker(f);
    say(fd, "st: a\r\nContent-Length: 10\r\n\r\n01234");
    kill_worker(f);
    say(fd, "56789");
    expect_end(fd, "POST /half 0123456789");
    close(fd);
}

static void
half_a_chunked_body(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    say(fd, "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5\r\nab");
    kill_worker(f);
    say(fd, "cde\r\n3\r\nfgh\r\n");
    kill_worker(f);
    say(fd, "0\r\n\r\n");
    expect_end(fd, "POST /c abcdefgh");
    close(fd);
}

static void
new_connection_after_death(void **state)
{
    struct fixture *f = *state;

    kill_worker(f);
    int fd = client(f);
    say(fd, "GET /new HTTP/1.1\r\nHost: a\r\n\r\n");
    expect_end(fd, "GET /new ");
    close(fd);
}

/* Asks until the door answers; until then it may be 503, and nothing else. */
static void
ask_until_there(int fd, const char *request)
{
    for (bool there = false; !there;) {
        char answer[2048];
        say(fd, request);
        ssize_t n = recv(fd, answer, sizeof answer - 1, 0);
        assert_true(n > 12);
        there = memcmp(answer, "HTTP/1.1 200", 12) == 0;
        assert_true(there || memcmp(answer, "HTTP/1.1 503", 12) == 0);
    }
}

/* A ring that was opened after the clone is not in the heir: it says so to the
 * keeper, and goes on with a new one. */
static void
door_given_after_the_clone(void **state)
{
    struct fixture *f = *state;
    struct worker_message m;
    size_t none = 0;
    int fd = client(f);
    pid_t heir = order(f, 'h');

    give_door(f);
    ask_until_there(fd, "GET /before HTTP/1.1\r\nHost: a\r\n\r\n");
    kill_for(f, heir);
    do {
        assert_int_equal(door_wait_readable(f->control, 5 * NS_PER_SEC), 0);
        assert_int_equal(door_receive(f->control, &m, sizeof m, NULL, &none,
                                      NULL, MSG_DONTWAIT),
                         0);
    } while (m.kind != WORKER_DOOR_LOST);
    give_door(f);
    ask_until_there(fd, "GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    close(fd);
}

static void
hundred_idle_connections(void **state)
{
    struct fixture *f = *state;
    int fds[100];

    for (int i = 0; i < 100; i++) {
        fds[i] = client(f);
        say(fds[i], "GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        expect_end(fds[i], "GET /a ");
    }
    kill_worker(f);
    for (int i = 0; i < 100; i++) {
        say(fds[i], "GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
        expect_end(fds[i], "GET /b ");
        close(fds[i]);
    }
}

static void
listener_has_what_heirs_need(void **state)
{
    struct fixture *f = *state;
    int on = 0, fd = client(f);
    socklen_t len = sizeof on;

    /* Accepted sockets inherit it, so an urgent byte cannot shift counts. */
    assert_int_equal(
        getsockopt(f->listener, SOL_SOCKET, SO_OOBINLINE, &on, &len), 0);
    assert_int_equal(on, 1);
    assert_int_equal(send(fd, "G", 1, MSG_OOB), 1);
    say(fd, "ET /urgent HTTP/1.1\r\nHost: a\r\n\r\n");
    kill_worker(f);
    expect_end(fd, "GET /urgent ");
    close(fd);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(next_request_on_same_connection),
        CASE(many_generations),
        CASE(call_in_flight_is_answered),
        CASE(half_a_head_and_half_a_body),
        CASE(half_a_chunked_body),
        CASE(new_connection_after_death),
        CASE(door_given_after_the_clone),
        CASE(hundred_idle_connections),
        CASE(listener_has_what_heirs_need),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
