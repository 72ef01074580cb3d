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
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cardea.h"
#include "conf/conf.h"
#include "door.h"
#include "door/dial.h"
#include "door/sys.h"
#include "front/heir.h"
#include "front/test-listen.h"
#include "front/worker_priv.h"

#define FAR 900 /* descriptors that a worker never comes to */

struct fixture {
    char folder[64], door[96], path[96];
    bool is_unix;
    pid_t app, worker;
    int control, told, tell; /* socket; pipe from the worker; pipe to it */
    uint16_t port;
    int listener;
    struct conf *conf;
    struct seat *seats;
    struct tally_table *tallies;
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

/* A plain door for forward tcp: a passed connection gets its bytes back, one
 * read at a time, until its end; "big" is 20 MB, "slow" takes 300 ms, and
 * anything else comes back. */
static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    static char big[20000000];
    char bytes[4096];
    ssize_t n;

    if (n_desc == 1) {
        int fd = dp[0].d_data.d_desc.d_descriptor;
        while ((n = read(fd, bytes, sizeof bytes)) > 0 &&
               write(fd, bytes, (size_t)n) == n) {
        }
        close(fd);
        door_return(NULL, 0, NULL, 0);
    }
    if (arg_size == 3 && memcmp(argp, "big", 3) == 0) {
        memset(big, 'b', sizeof big);
        door_return(big, sizeof big, NULL, 0);
    }
    if (arg_size == 4 && memcmp(argp, "slow", 4) == 0) {
        usleep(300000);
    }
    door_return(argp, arg_size, NULL, 0);
}

static int
serve_plain(const char *door)
{
    int d = door_create(procedure, NULL, 0);

    if (d < 0 || door_attach(d, door, 0666) < 0) {
        return 1;
    }
    for (;;) {
        pause();
    }
}

static pid_t
start_app(const char *door, bool plain)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(plain ? serve_plain(door)
                    : cardea_serve_threads_at(handler, door));
    }
    return pid;
}

/* ---- a death in the middle of a call ---- */

/* What the worker is to die in, set by an order; its heir was cloned before and
 * does not have it. 'r': after a read, 'w': after a write of part of an answer,
 * 'p': after a descriptor was sent; each before it is recorded. */
static char tear;
static int tear_told;

static void
stand_still_if(char what)
{
    const pid_t there = 1;

    if (tear == what) {
        if (write(tear_told, &there, sizeof there) < 0) {
            _exit(7);
        }
        for (;;) {
            pause();
        }
    }
}

/* These stand in for libc's in this program. */
ssize_t
recv(int fd, void *to, size_t len, int flags)
{
    ssize_t n = syscall(SYS_recvfrom, fd, to, len, flags, NULL, NULL);

    if (n > 0) {
        stand_still_if('r');
    }
    return n;
}

ssize_t
sendmsg(int fd, const struct msghdr *msg, int flags)
{
    ssize_t n = syscall(SYS_sendmsg, fd, msg, flags);

    if (n > 0 && msg->msg_controllen > 0) {
        stand_still_if('p');
    } else if (n > 4096) {
        stand_still_if('w');
    }
    return n;
}

/* Runs passes, and between two of them does what a byte on the pipe orders:
 * 'h' clones an heir and tells its pid, 's' stands still to be killed. The heir
 * comes out of heir_clone at the same place, as the worker. */
static void
worker_with_heirs(struct fixture *f, const struct worker_setup *setup,
                  int orders)
{
    struct worker w;
    struct pollfd p = {.events = POLLIN};
    pid_t pid = 0;
    char byte = 'r';

    /* Out of the reach of the sweep, which closes what no record names. */
    orders = p.fd = dup2(orders, FAR);
    f->told = dup2(f->told, FAR + 1);

    if (worker_begin(&w, setup) != 0 || write(f->told, &pid, sizeof pid) < 0) {
        _exit(9);
    }
    while (!w.leaving) {
        if (poll(&p, 1, 1) == 1 && read(orders, &byte, 1) == 1) {
            if (strchr("rwp", byte)) {
                tear = byte;
                tear_told = f->told;
            }
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
        worker_stand(&w);
        worker_pass(&w, false);
    }
    _exit(0);
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

/* FORM: of the forward, with places for an address and a door. */
static struct fixture *
begin(const char *form, bool is_unix, bool plain)
{
    struct fixture *f = calloc(1, sizeof *f);
    char text[512];
    int control[2], told[2], tell[2];

    prctl(PR_SET_CHILD_SUBREAPER, 1);
    snprintf(f->folder, sizeof f->folder, "/tmp/cardea-heir-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->door, sizeof f->door, "%s/door", f->folder);
    snprintf(f->path, sizeof f->path, "%s/sock", f->folder);
    f->is_unix = is_unix;
    f->app = start_app(f->door, plain);
    int n = snprintf(text, sizeof text, "set access-log off\nforward ");
    snprintf(text + n, sizeof text - (size_t)n, form,
             is_unix ? f->path : "127.0.0.1:0", f->door);
    f->conf = conf_parse("test.conf", text, strlen(text), stderr);
    assert_non_null(f->conf);
    f->listener =
        is_unix ? listen_on_unix(f->path) : listen_on_loopback(&f->port);
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
                                 .say_fd =
                                     control[1], /* a socket takes writes too */
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
    return f;
}

static int
set_up(void **state)
{
    struct fixture *f = begin("http %s to %s\n", false, false);

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
    unlink(f->path);
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
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval limit = {10, 0};
    int fd =
        socket(f->is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(un.sun_path, sizeof un.sun_path, "%s", f->path);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(f->is_unix
                         ? connect(fd, (struct sockaddr *)&un, sizeof un)
                         : connect(fd, (struct sockaddr *)&in, sizeof in),
                     0);
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
    assert_int_equal(f->tallies->entries[1].calls, 3);
    assert_int_equal(f->tallies->entries[1].in_flight, 0);
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

/* More calls than the ring takes while nobody serves it: the rest waits in the
 * worker, some with bodies, and all are answered after its death. */
static void
calls_that_wait_are_answered(void **state)
{
    struct fixture *f = *state;
    char text[128];
    int fds[100];

    assert_int_equal(kill(f->app, SIGSTOP), 0);
    for (int i = 0; i < 100; i++) {
        fds[i] = client(f);
        snprintf(text, sizeof text,
                 "POST /q%d HTTP/1.1\r\nHost: a\r\n"
                 "Content-Length: %d\r\n\r\n%s",
                 i, i % 2 == 0 ? 4 : 0, i % 2 == 0 ? "body" : "");
        say(fds[i], text);
    }
    wait_passes(f);
    assert_int_equal(atomic_load(&f->tallies->entries[1].queued), 36);
    kill_worker(f);
    wait_passes(f);
    assert_int_equal(atomic_load(&f->tallies->entries[1].queued), 36);
    assert_int_equal(kill(f->app, SIGCONT), 0);
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "POST /q%d %s", i,
                 i % 2 == 0 ? "body" : "");
        expect_end(fds[i], text);
        close(fds[i]);
    }
    wait_passes(f);
    assert_int_equal(atomic_load(&f->tallies->entries[1].queued), 0);
    assert_int_equal(atomic_load(&f->seats[0].areas), 0);
}

/* ---- forward tcp ---- */

/* Reads N bytes that must all be C. */
static void
expect_bytes(int fd, size_t n, char c)
{
    static char buf[1 << 16];

    while (n > 0) {
        ssize_t got = recv(fd, buf, n < sizeof buf ? n : sizeof buf, 0);
        if (got <= 0) {
            fail_msg("%zu bytes too few: %s", n,
                     got == 0 ? "end" : strerror(errno));
        }
        for (ssize_t i = 0; i < got; i++) {
            assert_int_equal(buf[i], c);
        }
        n -= (size_t)got;
    }
}

static void
expect_text(int fd, const char *text)
{
    char buf[256];
    size_t n = 0;

    while (n < strlen(text)) {
        ssize_t got = recv(fd, buf + n, strlen(text) - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
    }
    assert_memory_equal(buf, text, n);
}

static void
expect_end_of(int fd)
{
    char byte;

    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

/* The end comes, orderly or by a reset, before MOST bytes have come. */
static void
expect_cut(int fd, size_t most)
{
    char buf[1 << 16];
    size_t n = 0;
    ssize_t got;

    while ((got = recv(fd, buf, sizeof buf, 0)) > 0) {
        n += (size_t)got;
    }
    assert_true(got == 0 || errno == ECONNRESET);
    assert_true(n < most);
    close(fd);
}

/* The ring is there before an heir is made: a connection waits for it. */
static void
warm(struct fixture *f, const char *text)
{
    int fd = client(f);

    say(fd, text);
    expect_text(fd, text);
    shutdown(fd, SHUT_WR);
    expect_end_of(fd);
}

static int
set_up_call(void **state)
{
    struct fixture *f = begin("tcp %s to %s\n", false, true);

    warm(f, "warm");
    *state = f;
    return 0;
}

static int
set_up_pass(void **state)
{
    struct fixture *f = begin("tcp %s pass %s\n", false, true);

    warm(f, "warm");
    *state = f;
    return 0;
}

static int
set_up_unix(void **state)
{
    struct fixture *f = begin("tcp unix:%s to %s\n", true, true);

    warm(f, "warm");
    *state = f;
    return 0;
}

/* Kills the worker where the order WHAT made it stand still; ACT leads it
 * there. */
static void
tear_at(struct fixture *f, char what, int fd, const char *text)
{
    int status;
    pid_t heir;

    wait_passes(f);
    heir = order(f, 'h');
    assert_int_equal(order(f, what), 1);
    if (text) {
        say(fd, text);
    }
    assert_int_equal(order(f, 0), 1);
    assert_int_equal(kill(f->worker, SIGKILL), 0);
    assert_int_equal(waitpid(f->worker, &status, 0), f->worker);
    f->worker = heir;
}

static void
raw_bytes_after_death(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    kill_worker(f);
    say(fd, "hello");
    expect_text(fd, "hello");
    expect_end_of(fd);
}

static void
raw_call_in_flight(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    say(fd, "slow");
    kill_worker(f);
    expect_text(fd, "slow");
    expect_end_of(fd);
}

/* The bytes lie where the dead worker said that they would. */
static void
raw_read_without_a_record(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 5; i++) {
        int fd = client(f);
        tear_at(f, 'r', fd, "hello");
        expect_text(fd, "hello");
        expect_end_of(fd);
    }
    warm(f, "after");
}

static void
raw_answer_half_sent(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    say(fd, "big");
    expect_bytes(fd, 100000, 'b');
    kill_worker(f);
    expect_bytes(fd, 20000000 - 100000, 'b');
    expect_end_of(fd);
}

static void
raw_write_without_a_record(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 3; i++) {
        int fd = client(f);
        tear_at(f, 'w', fd, "big");
        expect_bytes(fd, 20000000, 'b');
        expect_end_of(fd);
    }
    warm(f, "after");
}

/* The connection is the door's, whoever the worker is; and its end is seen. */
static void
passed_connection_goes_on(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    say(fd, "one");
    expect_text(fd, "one");
    kill_worker(f);
    say(fd, "two");
    expect_text(fd, "two");
    kill_worker(f);
    shutdown(fd, SHUT_WR);
    expect_end_of(fd);
    warm(f, "after");
}

/* It was sent, and nobody noted it: it is sent again, and served once; a second
 * copy in the door would keep it open after the door's close. */
static void
passed_without_a_record(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 5; i++) {
        int status, fd = -1;
        wait_passes(f);
        pid_t heir = order(f, 'h');
        assert_int_equal(order(f, 'p'), 1);
        fd = client(f);
        assert_int_equal(order(f, 0), 1);
        assert_int_equal(kill(f->worker, SIGKILL), 0);
        assert_int_equal(waitpid(f->worker, &status, 0), f->worker);
        f->worker = heir;
        say(fd, "once");
        expect_text(fd, "once");
        shutdown(fd, SHUT_WR);
        expect_end_of(fd);
    }
    warm(f, "after");
}

/* A Unix socket has no counters: what was between two calls goes on ... */
static void
unix_goes_on(void **state)
{
    struct fixture *f = *state;
    int idle = client(f), slow = client(f), big = client(f);

    say(slow, "slow");
    say(big, "big");
    expect_bytes(big, 100000, 'b');
    kill_worker(f);
    say(idle, "hello");
    expect_text(idle, "hello");
    expect_end_of(idle);
    expect_text(slow, "slow");
    expect_end_of(slow);
    expect_bytes(big, 20000000 - 100000, 'b');
    expect_end_of(big);
}

/* ... and so does what was cut within a read, of which the peek offset tells;
 * what was cut within a send is closed, for it cannot be known. */
static void
unix_cut_within_a_call_ends(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);

    tear_at(f, 'r', fd, "hello");
    expect_text(fd, "hello");
    expect_end_of(fd);
    fd = client(f);
    tear_at(f, 'w', fd, "big");
    expect_cut(fd, 20000000);
    warm(f, "after");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define CASE_OF(name, begin)                                                   \
    cmocka_unit_test_setup_teardown(name, set_up_##begin, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(next_request_on_same_connection),
        CASE(many_generations),
        CASE(call_in_flight_is_answered),
        CASE(half_a_head_and_half_a_body),
        CASE(half_a_chunked_body),
        CASE(calls_that_wait_are_answered),
        CASE(new_connection_after_death),
        CASE(door_given_after_the_clone),
        CASE(hundred_idle_connections),
        CASE(listener_has_what_heirs_need),
        CASE_OF(raw_bytes_after_death, call),
        CASE_OF(raw_call_in_flight, call),
        CASE_OF(raw_read_without_a_record, call),
        CASE_OF(raw_answer_half_sent, call),
        CASE_OF(raw_write_without_a_record, call),
        CASE_OF(passed_connection_goes_on, pass),
        CASE_OF(passed_without_a_record, pass),
        CASE_OF(unix_goes_on, unix),
        CASE_OF(unix_cut_within_a_call_ends, unix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
