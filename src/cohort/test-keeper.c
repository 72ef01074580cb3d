/* The keeper as a program, with real processes: a fake worker that does as each
 * test says, modules that are shells or this program itself (--door: a thing
 * that listens), and its log read as an operator reads it. Every wait has an
 * end (20 s) and ends as soon as the expected line is there. */
#include "cohort/keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "conf/conf.h"
#include "front/worker.h"

/* --- The fake worker --------------------------------------------------- */

enum manner {
    GOOD,
    DEAF,    /* ignores every stop */
    BAD_END, /* ends with 5 when stopped */
    CANNOT_START,
    LIAR,    /* sends a message that cannot be, once ready */
    ACCUSER, /* worker 0 says once that its first door lied */
    CLOSER,  /* worker 1 once closes its control and lives */
    CHATTY,  /* sends a message of a wrong size */
    TAKEN,   /* somebody else's: tries to send a descriptor */
};

struct fake {
    const struct worker_setup *setup;
    int doors[8];
    int n_doors;
};

/* What a worker does is told through the configuration, which it sees. */
static enum manner
manner_of(const struct worker_setup *setup)
{
    return (enum manner)setup->conf->body_limit;
}

static void
tell(const struct worker_setup *setup, uint32_t kind, uint32_t target,
     uint32_t cause)
{
    struct worker_message m = {.kind = kind, .target = target, .cause = cause};

    if (write(setup->say_fd, &m, sizeof(m)) < 0) {
        _exit(9);
    }
}

static void
fake_door(struct fake *f, const struct worker_message *m, int fd)
{
    dprintf(f->setup->log_fd, "fake worker=%d got door=%u fd=%d\n",
            f->setup->index, m->target, fd >= 0);
    if (f->n_doors < 8) {
        f->doors[f->n_doors++] = fd;
    }
    if (manner_of(f->setup) == ACCUSER && f->setup->index == 0 &&
        atomic_fetch_add(&f->setup->seats[9].requests, 1) == 0) {
        tell(f->setup, WORKER_DOOR_LOST, m->target, WORKER_CAUSE_LIED);
        close(fd);
        f->n_doors--;
    }
}

/* The exit status to leave with, or -1. */
static int
fake_message(struct fake *f)
{
    char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct worker_message m;
    struct iovec part = {&m, sizeof(m)};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = room,
                         .msg_controllen = sizeof(room)};
    ssize_t n = recvmsg(f->setup->control_fd, &msg, 0);
    int fd = -1;

    if (n != sizeof(m)) {
        return 8;
    }
    if (CMSG_FIRSTHDR(&msg) != NULL) {
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
    }
    switch (m.kind) {
    case WORKER_DOOR:
        fake_door(f, &m, fd);
        return -1;
    case WORKER_DOOR_NONE:
        dprintf(f->setup->log_fd, "fake worker=%d no door=%u\n",
                f->setup->index, m.target);
        return -1;
    case WORKER_STOP:
    case WORKER_NOW:
        dprintf(f->setup->log_fd, "fake worker=%d told=%u grace=%llu\n",
                f->setup->index, m.kind, (unsigned long long)m.grace_ns);
        return manner_of(f->setup) == DEAF      ? -1
               : manner_of(f->setup) == BAD_END ? 5
                                                : 0;
    default:
        return 7;
    }
}

static int
fake_loop(struct fake *f)
{
    for (;;) {
        struct pollfd fds[9] = {{f->setup->control_fd, POLLIN, 0}};
        int status = -1;

        for (int i = 0; i < f->n_doors; i++) {
            fds[1 + i] = (struct pollfd){f->doors[i], POLLIN, 0};
        }
        poll(fds, 1 + (nfds_t)f->n_doors, -1);
        for (int i = 0; i < f->n_doors; i++) {
            if (fds[1 + i].revents != 0) { /* these tests have one target */
                close(f->doors[i]);
                f->doors[i] = f->doors[--f->n_doors];
                tell(f->setup, WORKER_DOOR_LOST, 0, WORKER_CAUSE_GONE);
                break;
            }
        }
        if (fds[0].revents != 0) {
            status = fake_message(f);
        }
        if (status >= 0) {
            return status;
        }
    }
}

/* Sends M on FD with a descriptor beside it. 0 or an errno. */
static int
send_right(int fd, const struct worker_message *m, int right)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec part = {(void *)(uintptr_t)m, sizeof(*m)};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};

    memcpy(CMSG_DATA(&control.header), &right, sizeof(right));
    return sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* Any way up that takes a descriptor lets it stop the keeper: by one whose last
 * close waits. */
static void
send_rights(const struct worker_setup *setup)
{
    struct worker_message m = {.kind = WORKER_READY};
    int down = send_right(setup->control_fd, &m, setup->log_fd);
    int up = send_right(setup->say_fd, &m, setup->log_fd);

    dprintf(setup->log_fd, "fake worker=%d rights down=%s up=%s\n",
            setup->index, strerrorname_np(down), strerrorname_np(up));
}

static int
fake_worker(const struct worker_setup *setup)
{
    struct fake f = {.setup = setup};
    int n = 0;

    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    dprintf(setup->log_fd, "fake worker=%d of=%d fds=%d listen=%d\n",
            setup->index, setup->n_workers, n,
            setup->conf->n_listens > 0 &&
                fcntl(setup->listen_fds[0], F_GETFD) >= 0);
    if (manner_of(setup) == CANNOT_START) {
        return 1;
    }
    tell(setup, WORKER_READY, 0, 0);
    if (manner_of(setup) == LIAR) {
        tell(setup, WORKER_DOOR_LOST, 1000, WORKER_CAUSE_GONE);
    }
    if (manner_of(setup) == CLOSER && setup->index == 1 &&
        atomic_fetch_add(&setup->seats[9].requests, 1) == 0) {
        close(setup->control_fd);
        for (;;) {
            pause();
        }
    }
    if (manner_of(setup) == TAKEN) {
        send_rights(setup);
    }
    if (manner_of(setup) == CHATTY) {
        (void)!write(setup->say_fd, "xyz", 3);
    }
    return fake_loop(&f);
}

/* --- A door and a way to it -------------------------------------------- */

static void
fill_un(struct sockaddr_un *un, const char *path)
{
    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    snprintf(un->sun_path, sizeof(un->sun_path), "%.100s", path);
}

static int
stand_in_dial(int folder_fd, const char *path)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un un;

    fill_un(&un, path);
    if (folder_fd >= 0) {
        snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/%.60s",
                 folder_fd, path);
    }
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* A server that accepts and keeps; what a module runs with --door. */
static int
serve_door(void)
{
    const char *path = getenv("CARDEA_DOOR");
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    struct sockaddr_un un;

    if (path == NULL) {
        return 2;
    }
    fill_un(&un, path);
    if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 ||
        listen(fd, 16) < 0) {
        perror("door");
        return 3;
    }
    printf("door at %s of %s\n", path, getenv("CARDEA_MODULE"));
    fflush(stdout);
    for (;;) {
        if (accept(fd, NULL, NULL) < 0) {
            return 4;
        }
    }
}

/* --- A running keeper ---------------------------------------------------- */

struct server {
    struct conf conf;
    struct conf_listen listen;
    struct conf_module modules[2];
    struct conf_target targets[1];
    char top[64];
    char run_folder[96];
    char state_folder[96];
    pid_t pid;
    int log_fd, out_fd;
    char log[1 << 18]; /* all of it so far */
    size_t log_len;
    const char *shim;
    bool not_alone; /* another one runs meanwhile */
    char out[4096];
};

static char self[4096];
static char shell[] = "sh";
static char dash_c[] = "-c";
static char door_flag[] = "--door";
static char standard_folder[] = "/";

static void
add_module(struct server *s, const char *name, char **argv)
{
    struct conf_module *m = &s->modules[s->conf.n_modules++];

    m->name = strdup(name);
    m->argv = argv;
    m->folder = standard_folder;
    m->timeout_ns = 30000000000ull;
    s->conf.modules = s->modules;
}

static void
add_door(struct server *s)
{
    static char *argv[] = {self, door_flag, NULL};

    add_module(s, "hello", argv);
    s->targets[0].kind = CONF_TARGET_MODULE;
    s->targets[0].module = s->conf.n_modules - 1;
    s->conf.targets = s->targets;
    s->conf.n_targets = 1;
}

static struct server *
server_new(enum manner manner)
{
    static char file[] = "/nowhere/test.conf";
    static char text[] = "127.0.0.1:0";
    struct server *s = calloc(1, sizeof(*s));
    struct sockaddr_in *in = (struct sockaddr_in *)&s->listen.addr;

    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->listen.addr_len = sizeof(*in);
    s->listen.text = text;
    s->conf.listens = &s->listen;
    s->conf.n_listens = 1;
    s->conf.file = file;
    s->conf.folder = standard_folder;
    s->conf.grace_ns = 3000000000ull;
    s->conf.body_limit = manner;
    snprintf(s->top, sizeof(s->top), "/tmp/test-keeper-XXXXXX");
    assert_non_null(mkdtemp(s->top));
    snprintf(s->run_folder, sizeof(s->run_folder), "%s/run", s->top);
    s->conf.run_folder = s->run_folder;
    snprintf(s->state_folder, sizeof(s->state_folder), "%s/state", s->top);
    s->conf.state_folder = s->state_folder;
    return s;
}

static void
server_start(struct server *s)
{
    int log[2];
    int out[2];

    assert_int_equal(pipe2(log, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    fflush(NULL);
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* after a test that failed */
        struct keeper_options options = {
            .worker = fake_worker,
            .dial = stand_in_dial,
            .out_fd = out[1],
            .log_fd = log[1],
            .max_workers = 2,
            .shim = s->shim,
        };

        exit(keeper_run(&s->conf, &options)); /* with the leak check */
    }
    close(log[1]);
    close(out[1]);
    s->log_fd = log[0];
    s->out_fd = out[0];
    s->log_len = 0;
    s->log[0] = '\0';
}

static uint64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Reads more log; false at its end or when there was none until DEADLINE. */
static bool
read_log(struct server *s, uint64_t deadline)
{
    struct pollfd in = {s->log_fd, POLLIN, 0};
    uint64_t now = now_ms();
    ssize_t n;

    if (poll(&in, 1, now < deadline ? (int)(deadline - now) : 0) <= 0) {
        return false;
    }
    n = read(s->log_fd, s->log + s->log_len, sizeof(s->log) - 1 - s->log_len);
    if (n <= 0) {
        return false;
    }
    s->log_len += (size_t)n;
    s->log[s->log_len] = '\0';
    return true;
}

/* The first line behind FROM that has all words of FORMAT's blank-separated
 * list; waits for it. */
static const char *
wait_line(struct server *s, const char *from, const char *words)
{
    uint64_t deadline = now_ms() + 20000;

    if (from == NULL) {
        from = s->log;
    }
    for (;;) {
        const char *line = from;
        const char *end;

        for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            char copy[512];
            char *rest = NULL;
            bool all = true;

            snprintf(copy, sizeof(copy), "%s", words);
            for (char *w = strtok_r(copy, " ", &rest); w != NULL && all;
                 w = strtok_r(NULL, " ", &rest)) {
                const char *at = strstr(line, w);

                all = at != NULL && at < end;
            }
            if (all) {
                return line;
            }
        }
        if (!read_log(s, deadline)) {
            fprintf(stderr, "no line with: %s\nin:\n%s\n", words, s->log);
            fail();
        }
    }
}

static const char *
wait_ready(struct server *s)
{
    size_t len = 0;

    wait_line(s, NULL, "event=ready took_ms= workers=");
    while (len == 0 || s->out[len - 1] != '\n') {
        ssize_t n = read(s->out_fd, s->out + len, sizeof(s->out) - 1 - len);

        assert_true(n > 0);
        len += (size_t)n;
    }
    s->out[len] = '\0';
    return s->out;
}

static pid_t
pid_in(const char *line)
{
    const char *at = strstr(line, " pid=");

    assert_non_null(at);
    return (pid_t)strtol(at + 5, NULL, 10);
}

/* Waits for the keeper's end; nothing may be left of it. Frees S. */
static void
server_end(struct server *s, int want)
{
    int status;

    while (read_log(s, now_ms() + 20000)) {
    }
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != want) {
        fprintf(stderr, "status %x\n%s\n", (unsigned)status, s->log);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), want);
    for (const char *at = s->log; (at = strstr(at, "event=start ")) != NULL;
         at++) {
        assert_int_equal(kill(-pid_in(at), 0), -1);
        assert_int_equal(errno, ESRCH);
    }
    /* We are a subreaper: an orphan would have become our child. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), s->not_alone ? 0 : -1);
    assert_int_equal(access(s->run_folder, F_OK), -1);
    assert_int_equal(rmdir(s->top), 0);
    close(s->log_fd);
    close(s->out_fd);
    for (size_t i = 0; i < s->conf.n_modules; i++) {
        free(s->modules[i].name);
    }
    free(s);
}

/* --- Tests --------------------------------------------------------------- */

static void
test_start_and_stop(void **state)
{
    struct server *s = server_new(GOOD);
    const char *line;
    char want[256];
    struct stat st;

    add_door(s);
    server_start(s);
    line = wait_ready(s);
    snprintf(want, sizeof(want), " pid=%d workers=2 modules=1 run-folder=%s\n",
             (int)s->pid, s->run_folder);
    assert_memory_equal(line, "ready url=http://127.0.0.1:", 27);
    assert_string_equal(strchr(line + 27, '/') + 1, want);
    wait_line(s, NULL, "event=door-open module=hello workers=2");
    wait_line(s, NULL, "fake worker=0 got door=0 fd=1");
    wait_line(s, NULL, "fake worker=1 got door=0 fd=1");
    /* 0, 1, 2, control, pipe, log, listener */
    wait_line(s, NULL, "fake worker=0 of=2 fds=7 listen=1");
    wait_line(s, NULL,
              "event=output module=hello stream=stdout text=\"door hello\"");
    snprintf(want, sizeof(want), "%s/hello/door", s->run_folder);
    assert_int_equal(stat(want, &st), 0);
    kill(s->pid, SIGTERM);
    wait_line(s, NULL, "event=stop cause=signal-TERM grace_ms=3000.000");
    wait_line(s, NULL, "fake worker=1 told=5 grace=3000000000");
    line = wait_line(s, NULL, "event=stopped worker=0 cause=exit-0");
    line = wait_line(s, line, "event=stopped module=hello cause=signal-TERM");
    wait_line(s, line, "event=end cause=stopped");
    server_end(s, 0);
}

static void
test_worker_killed(void **state)
{
    static const char *const waits[] = {"20.000", "40.000", "80.000"};
    struct server *s = server_new(GOOD);
    const char *at;

    add_door(s);
    server_start(s);
    wait_ready(s);
    at = wait_line(s, NULL, "event=start worker=1");
    for (int i = 0; i < 3; i++) {
        char want[128];

        kill(pid_in(at), SIGKILL);
        snprintf(want, sizeof(want),
                 "event=died worker=1 cause=signal-KILL count=%d wait_ms=%s",
                 i + 1, waits[i]);
        at = wait_line(s, at, want);
        at = wait_line(s, at, "event=start worker=1");
        wait_line(s, at, "fake worker=1 got door=0 fd=1");
        wait_line(s, at, "event=ready worker=1");
        wait_line(s, at, "event=door-open module=hello");
    }
    assert_null(strstr(s->log, "event=kill")); /* the kernel's, not ours */
    kill(s->pid, SIGINT);
    server_end(s, 0);
}

static void
test_module_crash_loop(void **state)
{
    static char script[] = "echo I cannot >&2; exit 7";
    static char *argv[] = {shell, dash_c, script, NULL};
    struct server *s = server_new(GOOD);
    const char *at = NULL;

    add_module(s, "broken", argv);
    server_start(s);
    wait_ready(s);
    for (int i = 0; i < 5; i++) {
        char want[128];

        at = wait_line(s, at, "event=start module=broken");
        at = wait_line(s, at,
                       "event=output module=broken stream=stderr "
                       "text=\"I cannot\"");
        snprintf(want, sizeof(want),
                 "event=died module=broken cause=exit-7 count=%d "
                 "wait_ms=%d.000",
                 i + 1, 20 << i);
        at = wait_line(s, at, want);
    }
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

/* What a module leaves behind, in its group or out of it, goes with us. */
static void
test_orphans(void **state)
{
    static char script[] = "sleep 1000 & echo $! on; setsid sleep 1000 & wait";
    static char *argv[] = {shell, dash_c, script, NULL};
    struct server *s = server_new(GOOD);
    uint64_t deadline = now_ms() + 20000;
    const char *at;
    pid_t member;

    add_module(s, "family", argv);
    server_start(s);
    wait_ready(s);
    at = wait_line(s, NULL, "event=start module=family");
    member = (pid_t)strtol(
        strstr(wait_line(s, at, "event=output module=family text="), "text=") +
            6,
        NULL, 10);
    assert_true(member > 1);
    assert_int_equal(kill(member, 0), 0);
    kill(pid_in(at), SIGKILL);
    at = wait_line(s, at, "event=died module=family cause=signal-KILL");
    /* with its leader the group goes, and is reaped */
    while (kill(member, 0) == 0) {
        assert_true(now_ms() < deadline);
        sched_yield();
    }
    at = wait_line(s, at, "event=start module=family");
    wait_line(s, at, "event=output module=family text=");
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

static void
test_door_lost(void **state)
{
    struct server *s = server_new(GOOD);
    const char *at;

    add_door(s);
    server_start(s);
    wait_ready(s);
    at = wait_line(s, NULL, "event=start module=hello");
    kill(pid_in(at), SIGKILL);
    wait_line(s, at, "event=died module=hello cause=signal-KILL count=1");
    wait_line(s, at, "event=door-lost module=hello worker=0 cause=gone");
    wait_line(s, at, "event=door-lost module=hello worker=1 cause=gone");
    at = wait_line(s, at + 1, "event=start module=hello");
    wait_line(s, at, "event=door-open module=hello workers=2");
    wait_line(s, at, "fake worker=0 got door=0 fd=1");
    wait_line(s, at, "fake worker=1 got door=0 fd=1");
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

static void
test_door_lied(void **state)
{
    struct server *s = server_new(ACCUSER);
    const char *at;

    add_door(s);
    server_start(s);
    at = wait_line(s, NULL, "event=door-lost module=hello worker=0 cause=lied");
    wait_line(s, at, "event=kill module=hello cause=lied");
    at = wait_line(s, at, "event=died module=hello cause=replaced-2 count=1");
    at = wait_line(s, at, "event=start module=hello");
    wait_line(s, at, "event=door-open module=hello workers=2");
    wait_ready(s);
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

static void
test_missing_program(void **state)
{
    static char nothing[] = "/nowhere/program";
    static char *argv[] = {nothing, NULL};
    struct server *s = server_new(GOOD);

    add_door(s);
    s->modules[0].argv = argv;
    server_start(s);
    wait_line(s, NULL,
              "event=start-failed module=hello "
              "program=/nowhere/program cause=no-start-ENOENT "
              "count=3 wait_ms=80.000");
    assert_non_null(strstr(wait_ready(s), " waiting=hello\n"));
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

static void
test_liars(void **state)
{
    static const enum manner manners[] = {LIAR, CHATTY};

    for (size_t i = 0; i < ARRAY_LEN(manners); i++) {
        struct server *s = server_new(manners[i]);
        const char *at;

        add_door(s);
        server_start(s);
        at = wait_line(s, NULL, "event=kill worker=0 cause=bad-message");
        at = wait_line(s, at, "event=died worker=0 cause=signal-KILL");
        wait_line(s, at, "event=start worker=0");
        kill(s->pid, SIGTERM);
        while (read_log(s, now_ms() + 20000)) {
        }
        assert_non_null(strstr(s->log, "event=end"));
        /* a worker may have been killed while it was stopping: 0 or 3 */
        server_end(s, strstr(s->log, "with-errors") != NULL ? 3 : 0);
    }
}

static void
test_control_closed(void **state)
{
    struct server *s = server_new(CLOSER);
    const char *at;

    server_start(s);
    at = wait_line(s, NULL, "event=kill worker=1 cause=control-closed");
    at = wait_line(s, at, "event=died worker=1 cause=signal-KILL");
    wait_line(s, at, "event=ready worker=1");
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

static void
test_no_descriptor_from_a_worker(void **state)
{
    struct server *s = server_new(TAKEN);

    server_start(s);
    wait_line(s, NULL, "fake worker=0 rights down=EPIPE up=ENOTSOCK");
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

static void
test_cannot_start(void **state)
{
    struct server *s = server_new(CANNOT_START);

    add_door(s);
    server_start(s);
    wait_line(s, NULL, "event=stop cause=worker-cannot-start");
    server_end(s, 1);
}

static void
test_bad_end(void **state)
{
    struct server *s = server_new(BAD_END);

    server_start(s);
    wait_ready(s);
    kill(s->pid, SIGTERM);
    wait_line(s, NULL, "event=stopped worker=0 cause=exit-5 count=1");
    wait_line(s, NULL, "event=end cause=stopped-with-errors");
    server_end(s, 3);
}

static void
test_grace_over(void **state)
{
    struct server *s = server_new(DEAF);

    s->conf.grace_ns = 50000000;
    server_start(s);
    wait_ready(s);
    kill(s->pid, SIGTERM);
    wait_line(s, NULL, "event=kill worker=0 cause=grace-over");
    server_end(s, 3);
}

static void
test_second_int(void **state)
{
    static char script[] = "trap '' TERM; echo on; while :; do sleep 1; done";
    static char *argv[] = {shell, dash_c, script, NULL};
    struct server *s = server_new(DEAF);

    s->conf.grace_ns = 1000000000000ull;
    add_module(s, "deaf", argv);
    server_start(s);
    wait_ready(s);
    wait_line(s, NULL, "event=output module=deaf text=on");
    kill(s->pid, SIGINT);
    wait_line(s, NULL, "fake worker=0 told=5");
    wait_line(s, NULL, "fake worker=1 told=5");
    kill(s->pid, SIGINT);
    wait_line(s, NULL, "fake worker=0 told=6");
    wait_line(s, NULL, "event=kill module=deaf cause=grace-over");
    wait_line(s, NULL, "event=end cause=forced");
    server_end(s, 2);
}

static void
test_locked(void **state)
{
    struct server *s = server_new(GOOD);
    struct server *other = server_new(GOOD);

    server_start(s);
    wait_ready(s);
    other->conf.run_folder = s->run_folder;
    other->not_alone = true;
    server_start(other);
    wait_line(other, NULL, "another cardea runs on this configuration");
    server_end(other, 1);
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

static void
test_bad_folder(void **state)
{
    static char nowhere[] = "/nowhere/files";
    struct server *s = server_new(GOOD);

    s->targets[0].kind = CONF_TARGET_FILES;
    s->targets[0].path = nowhere;
    s->targets[0].where.line = 4;
    s->targets[0].where.column = 9;
    s->conf.targets = s->targets;
    s->conf.n_targets = 1;
    server_start(s);
    wait_line(s, NULL, "/nowhere/test.conf:4:9: /nowhere/files: directory");
    server_end(s, 1);
}

/* An exec module goes through the shim, with its time and folder. */
static void
test_shim(void **state)
{
    static char echo[] = "echo";
    static char word[] = "a word";
    static char *argv[] = {echo, word, NULL};
    struct server *s = server_new(GOOD);

    add_module(s, "cgi", argv);
    s->modules[0].kind = CONF_MODULE_EXEC;
    s->modules[0].timeout_ns = 2500000000ull;
    s->shim = "/bin/echo";
    server_start(s);
    wait_line(s, NULL,
              "event=output module=cgi stream=stdout "
              "text=\"--timeout 2.500 --folder / -- echo a word\"");
    kill(s->pid, SIGTERM);
    server_end(s, 0);
    s = server_new(GOOD);
    add_module(s, "cgi", argv);
    s->modules[0].kind = CONF_MODULE_EXEC;
    server_start(s); /* there is none beside this program */
    wait_line(s, NULL,
              "event=start-failed module=cgi /cardea-exec "
              "cause=no-start-ENOENT");
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

/* Of our environment a module gets four words and its own four. */
static void
test_environment(void **state)
{
    static char script[] =
        "env | grep -v -E '^([A-Z]*SAN_OPTIONS|PWD|SHLVL|_)=' | "
        "sort | tr '\\n' ' '; echo; pwd";
    static char *argv[] = {shell, dash_c, script, NULL};
    struct server *s = server_new(GOOD);
    char want[1024];

    setenv("CARDEA_SECRET", "1", 1);
    setenv("HOME", "/home", 1);
    setenv("LANG", "C", 1);
    setenv("TZ", "UTC", 1);
    add_module(s, "words", argv);
    server_start(s);
    snprintf(want, sizeof(want),
             "text=\"CARDEA_CONTROL=%s/control CARDEA_DOOR=%s/words/door "
             "CARDEA_MODULE=words CARDEA_OUTPUT=%s/words/output "
             "CARDEA_STATE=%s/words HOME=/home LANG=C "
             "PATH=/usr/bin:/bin TZ=UTC \"\n",
             s->run_folder, s->run_folder, s->run_folder, s->state_folder);
    wait_line(s, NULL, "event=output module=words text=/");
    assert_non_null(strstr(s->log, want));
    kill(s->pid, SIGTERM);
    server_end(s, 0);
}

static int
run_child_mode(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[1], "--door") == 0 ? serve_door() : -1;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_and_stop),
        cmocka_unit_test(test_worker_killed),
        cmocka_unit_test(test_module_crash_loop),
        cmocka_unit_test(test_orphans),
        cmocka_unit_test(test_door_lost),
        cmocka_unit_test(test_door_lied),
        cmocka_unit_test(test_missing_program),
        cmocka_unit_test(test_liars),
        cmocka_unit_test(test_control_closed),
        cmocka_unit_test(test_no_descriptor_from_a_worker),
        cmocka_unit_test(test_cannot_start),
        cmocka_unit_test(test_bad_end),
        cmocka_unit_test(test_grace_over),
        cmocka_unit_test(test_second_int),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_bad_folder),
        cmocka_unit_test(test_shim),
        cmocka_unit_test(test_environment),
    };
    int status = run_child_mode(argc, argv);
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (status >= 0) {
        return status;
    }
    self[n > 0 ? n : 0] = '\0';
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setenv("PATH", "/usr/bin:/bin", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
