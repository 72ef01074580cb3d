/* The keeper as a program, with real processes: a fake worker that does as each
 * test says, modules that are shells or this program itself (--door: a thing
 * that listens), and its log read as an operator reads it. Every wait has an
 * end (20 s) and ends as soon as the expected line is there. */
#include "cohort/test-keeper.h"

static char shell[] = "sh";
static char dash_c[] = "-c";

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

int
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

    return test_main(argc, argv, tests, ARRAY_LEN(tests));
}
