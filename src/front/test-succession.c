/* A worker and its heirs, without a keeper: whoever serves is killed, and the
 * same connection is answered by the next. The door is missing on purpose: a
 * 503 of the worker's own is an answer as good as any. */
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "conf/conf.h"
#include "front/test-listen.h"
#include "front/worker_priv.h"
#include "http/http.h"

#define HEIRS 2
#define FAR   10 /* seconds: nothing here takes as long */

struct fixture {
    struct conf *conf;
    struct seat *seats;
    struct tally_table *tallies;
    struct worker_setup setup;
    pid_t group;
    int control, said, log, listener;
    uint16_t port;
};

/* What a parser must not do: any request with POISON in it kills the worker. */
int __real_http_request_parse(const char *buf, size_t len, uint32_t *p_scan,
                              struct http_request *out);
int __wrap_http_request_parse(const char *buf, size_t len, uint32_t *p_scan,
                              struct http_request *out);

int
__wrap_http_request_parse(const char *buf, size_t len, uint32_t *p_scan,
                          struct http_request *out)
{
    if (memmem(buf, len, "/poison", 7) != NULL) {
        raise(SIGSEGV);
    }
    return __real_http_request_parse(buf, len, p_scan, out);
}

static void *
shared(size_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
}

static uint64_t
now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Waits until the seat shows a worker with all its heirs that is not OLD, and
 * says which. */
static pid_t
wait_full(struct fixture *f, pid_t old)
{
    for (uint64_t end = now_ns() + FAR * NS_PER_SEC; now_ns() < end;) {
        pid_t pid = (pid_t)atomic_load(&f->seats[0].pid);
        if (pid != old && pid != 0 &&
            atomic_load(&f->seats[0].heirs) == HEIRS) {
            return pid;
        }
        usleep(200);
    }
    fail_msg("no worker with %d heirs came after %d", HEIRS, (int)old);
    return -1;
}

static int
set_up(void **state)
{
    static const char text[] = "set access-log off\n"
                               "forward http 127.0.0.1:1 to /nowhere/door\n";
    struct fixture *f = calloc(1, sizeof *f);
    int control[2], said[2], log[2];
    static const int no_folder = -1;

    assert_non_null(f);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    f->conf = conf_parse("test.conf", text, sizeof text - 1, stderr);
    assert_non_null(f->conf);
    f->listener = listen_on_loopback(&f->port);
    f->seats = shared(SEATS_MAX * sizeof *f->seats);
    f->tallies = shared(4096);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
    assert_int_equal(pipe2(said, O_NONBLOCK | O_CLOEXEC), 0);
    assert_int_equal(pipe2(log, O_NONBLOCK | O_CLOEXEC), 0);
    f->setup = (struct worker_setup){.n_workers = 1,
                                     .cpu = -1,
                                     .heirs = HEIRS,
                                     .control_fd = control[1],
                                     .say_fd = said[1],
                                     .log_fd = log[1],
                                     .conf = f->conf,
                                     .listen_fds = &f->listener,
                                     .folder_fds = &no_folder,
                                     .seats = f->seats,
                                     .tallies = f->tallies};
    f->group = fork();
    if (f->group == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(control[0]);
        close(said[0]);
        close(log[0]);
        _exit(worker_main(&f->setup));
    }
    close(control[1]);
    close(said[1]);
    close(log[1]);
    f->control = control[0];
    f->said = said[0];
    f->log = log[0];
    struct worker_message none = {.kind = WORKER_DOOR_NONE};
    assert_int_equal(send(f->control, &none, sizeof none, 0), sizeof none);
    assert_int_equal(wait_full(f, 0), f->group);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;

    kill(-f->group, SIGKILL);
    while (waitpid(-f->group, NULL, 0) > 0) {
    }
    close(f->control);
    close(f->said);
    close(f->log);
    close(f->listener);
    munmap(f->seats, SEATS_MAX * sizeof *f->seats);
    munmap(f->tallies, 4096);
    conf_free(f->conf);
    free(f);
    return 0;
}

static int
client(const struct fixture *f)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons(f->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {FAR, 0};
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

/* One whole answer, of a worker's own, and not a byte more. */
static void
expect_503(int fd)
{
    char buf[4096];
    size_t n = 0;

    while (n < sizeof buf - 1) {
        ssize_t got = recv(fd, buf + n, sizeof buf - 1 - n, 0);
        if (got <= 0) {
            buf[n] = 0;
            fail_msg("%s after '%s'", got == 0 ? "end" : strerror(errno), buf);
        }
        n += (size_t)got;
        buf[n] = 0;
        const char *body = strstr(buf, "\r\n\r\n");
        const char *length = strcasestr(buf, "\r\ncontent-length: ");
        if (body != NULL && length != NULL &&
            n == (size_t)(body + 4 - buf) + strtoul(length + 18, NULL, 10)) {
            assert_memory_equal(buf, "HTTP/1.1 503 ", 13);
            return;
        }
    }
    fail_msg("an answer without an end");
}

static void
ask(int fd)
{
    say(fd, "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    expect_503(fd);
}

/* Kills PID, which is ours to wait for whoever made it. */
static void
kill_and_reap(pid_t pid, int signal)
{
    int status;

    assert_int_equal(kill(pid, signal), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal);
}

/* What the worker said, of KIND: how often. */
static int
count_said(const struct fixture *f, uint32_t kind, uint32_t *p_last)
{
    struct worker_message m;
    int n = 0;

    while (read(f->said, &m, sizeof m) == (ssize_t)sizeof m) {
        if (m.kind == kind) {
            n++;
            *p_last = m.cause;
        }
    }
    return n;
}

/* ---- the cases ---- */

static void
one_connection_outlives_two_hundred_workers(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    pid_t pid = f->group;
    uint32_t last = 0;

    ask(fd);
    for (int i = 0; i < 200; i++) {
        kill_and_reap(pid, SIGKILL);
        ask(fd); /* before the heirs are all there again */
        pid = wait_full(f, pid);
        if (i % 10 == 9) {
            assert_int_equal(count_said(f, WORKER_HEIR, &last), 10);
            assert_int_equal(last, pid);
        }
    }
    assert_int_equal(atomic_load(&f->seats[0].takeovers), 200);
    close(fd);
}

static void
dead_heirs_are_replaced(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    for (int i = 0; i < 20; i++) {
        int status;
        /* Whoever of the group is not the one that serves. */
        for (pid_t pid = f->group + 1;; pid++) {
            if (getpgid(pid) == f->group && kill(pid, SIGKILL) == 0) {
                assert_int_equal(waitpid(pid, &status, 0), pid);
                break;
            }
        }
        for (uint64_t end = now_ns() + FAR * NS_PER_SEC;
             atomic_load(&f->seats[0].heirs) != HEIRS && now_ns() < end;) {
            usleep(200);
        }
        ask(fd);
    }
    assert_int_equal(atomic_load(&f->seats[0].pid), f->group);
    assert_int_equal(atomic_load(&f->seats[0].takeovers), 0);
    close(fd);
}

static void
a_fault_is_told_and_the_second_ends_its_connection(void **state)
{
    struct fixture *f = *state;
    int good = client(f), bad = client(f);
    char log[16384];
    int status;

    ask(good);
    say(bad, "GET /poison HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 2; i++) {
        assert_true(waitpid(-f->group, &status, 0) > 0);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    }
    char byte;
    assert_true(recv(bad, &byte, 1, 0) <= 0);
    ask(good); /* nobody else has noticed */
    ssize_t n = read(f->log, log, sizeof log - 1);
    assert_true(n > 0);
    log[n] = 0;
    assert_non_null(strstr(log, "event=dead-worker worker=0 fault=SEGV"));
    assert_non_null(strstr(log, "state=head"));
    char *poison = strstr(log, "event=poison");
    assert_non_null(poison);
    assert_non_null(strstr(poison, "head=\"GET /poison HTTP/1.1"));
    assert_null(strstr(poison + 1, "event=poison"));
    close(good);
    close(bad);
}

static void
a_signal_from_elsewhere_is_no_fault(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    pid_t pid = f->group;

    say(fd, "GET / HTTP/1.1\r\n"); /* the same step of one request */
    for (int i = 0; i < 5; i++) {
        kill_and_reap(pid, SIGABRT);
        pid = wait_full(f, pid);
    }
    say(fd, "Host: a\r\nAccept: text/html\r\n\r\n");
    expect_503(fd);
    close(fd);
}

static void
all_leave_in_good_order(void **state)
{
    struct fixture *f = *state;
    struct worker_message stop = {.kind = WORKER_STOP, .grace_ns = NS_PER_SEC};
    int status;

    kill_and_reap(f->group, SIGKILL);
    (void)wait_full(f, f->group);
    assert_int_equal(send(f->control, &stop, sizeof stop, 0), sizeof stop);
    for (int i = 0; i < 1 + HEIRS; i++) {
        assert_true(waitpid(-f->group, &status, 0) > 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_int_equal(waitpid(-f->group, &status, WNOHANG), -1);
}

static void
a_stopped_heir_holds_up_nobody(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    pid_t pid = f->group;

    /* The first heir that a death would wake cannot run. */
    for (pid_t heir = f->group + 1;; heir++) {
        if (getpgid(heir) == f->group && kill(heir, SIGSTOP) == 0) {
            break;
        }
    }
    kill_and_reap(pid, SIGKILL);
    ask(fd);
    close(fd);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(one_connection_outlives_two_hundred_workers),
        CASE(dead_heirs_are_replaced),
        CASE(a_fault_is_told_and_the_second_ends_its_connection),
        CASE(a_signal_from_elsewhere_is_no_fault),
        CASE(all_leave_in_good_order),
        CASE(a_stopped_heir_holds_up_nobody),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
