/* The keeper's side of heirs: a fake worker that really clones processes of its
 * group, which share its descriptors and wait for its death. What they do in
 * its place is not looked at here (src/front/test-heir.c). */
#include "cohort/test-keeper.h"

#include <linux/sched.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

enum manner {
    GOOD,
    MUTE,     /* its heirs take over and do not say so */
    EARLY,    /* it names its heir before it dies; that one says nothing */
    STRANGER, /* it names a process that is none of its own, once */
    WEDGED,   /* the first process does not come out of its first pass */
    CUT,      /* the first one that is told to stop dies of it */
    CRASHING, /* all of the first two lives end by a signal, each at once */
    LEAVING,  /* the first one ends with 0 and leaves its heirs */
    KEEPING,  /* it wants its door's module, and its heirs keep the door */
    UNREADY,  /* the first one dies once it has heirs, and was never ready */
};

/* Words of the shared page that no worker has, for our own use. */
static struct seat *
own_seat(const struct worker_setup *setup)
{
    return &setup->seats[64 + setup->index];
}

static enum manner
manner_of(const struct worker_setup *setup)
{
    return (enum manner)setup->conf->body_limit;
}

/* Who serves: its process number and pidfd in one word. */
static _Atomic uint64_t *
crown_of(const struct worker_setup *setup)
{
    return &own_seat(setup)->pass;
}

static uint64_t
myself(void)
{
    int fd = pidfd_open(getpid(), 0);

    return (uint64_t)getpid() << 32 | (uint32_t)fd;
}

/* An heir's wait. Returns once it is the one that serves. */
static void
wait_for_crown(const struct worker_setup *setup)
{
    for (;;) {
        uint64_t owner = atomic_load(crown_of(setup));
        struct pollfd death = {.fd = (int)(uint32_t)owner, .events = POLLIN};
        uint64_t mine;

        while (poll(&death, 1, -1) < 0 && errno == EINTR) {
        }
        if (atomic_load(&own_seat(setup)->requests) != 0) {
            _exit(0); /* it left as it should */
        }
        mine = myself();
        if (atomic_compare_exchange_strong(crown_of(setup), &owner, mine)) {
            return;
        }
        close((int)(uint32_t)mine);
    }
}

static bool
is_first(const struct worker_setup *setup)
{
    return atomic_fetch_add(&own_seat(setup)->segments, 1) == 0;
}

/* true: in an heir, which serves from now on. */
static bool
clone_heirs(const struct worker_setup *setup, int n)
{
    for (int i = 0; i < n; i++) {
        long pid = syscall(SYS_clone, CLONE_FILES | CLONE_PARENT | SIGCHLD, 0,
                           0, 0, 0);

        if (pid == 0) {
            wait_for_crown(setup);
            return true;
        }
        if (pid < 0) {
            _exit(6);
        }
        if (manner_of(setup) == EARLY && is_first(setup)) {
            tell(setup, WORKER_HEIR, 0, (uint32_t)pid);
        }
        atomic_fetch_add(&setup->seats[setup->index].heirs, 1);
        dprintf(setup->log_fd, "fake worker=%d heir pid=%ld\n", setup->index,
                pid);
    }
    return false;
}

static void
misbehave(const struct worker_setup *setup)
{
    struct seat *seat = &setup->seats[setup->index];

    switch (manner_of(setup)) {
    case STRANGER:
        if (is_first(setup)) {
            tell(setup, WORKER_HEIR, 0, (uint32_t)getppid());
        }
        break;
    case WEDGED:
        if (is_first(setup)) {
            atomic_store(&seat->awake, 1);
            for (;;) {
                pause();
            }
        }
        atomic_store(&seat->awake, 0);
        break;
    case CRASHING:
        if (atomic_load(&own_seat(setup)->areas) <= 2) {
            raise(SIGUSR1); /* no core file */
        }
        break;
    case LEAVING:
        if (is_first(setup)) {
            _exit(0);
        }
        break;
    case UNREADY:
        if (is_first(setup)) {
            raise(SIGKILL);
        }
        break;
    default:
        break;
    }
}

/* Waits for messages; the exit status. */
static int
serve(const struct worker_setup *setup)
{
    for (;;) {
        char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
        struct worker_message m;
        struct iovec part = {&m, sizeof(m)};
        struct msghdr msg = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = room,
                             .msg_controllen = sizeof(room)};
        struct pollfd in = {.fd = setup->control_fd, .events = POLLIN};

        while (poll(&in, 1, -1) < 0 && errno == EINTR) {
        }
        if (recvmsg(setup->control_fd, &msg, 0) != sizeof(m)) {
            atomic_store(&own_seat(setup)->requests, 1);
            return 8;
        }
        dprintf(setup->log_fd, "fake worker=%d got=%u target=%u by=%d\n",
                setup->index, m.kind, m.target, (int)getpid());
        if (m.kind != WORKER_STOP && m.kind != WORKER_NOW) {
            continue;
        }
        if (manner_of(setup) == CUT && is_first(setup)) {
            raise(SIGKILL);
        }
        atomic_store(&own_seat(setup)->requests, 1);
        return 0;
    }
}

/* Does an heir not say that it has taken over? */
static bool
is_silent(const struct worker_setup *setup)
{
    return manner_of(setup) == MUTE ||
           (manner_of(setup) == EARLY &&
            atomic_fetch_add(&own_seat(setup)->slots, 1) == 0);
}

int
fake_worker(const struct worker_setup *setup)
{
    int n = setup->heirs;

    signal(WORKER_POKE, SIG_IGN);
    atomic_fetch_add(&own_seat(setup)->areas, 1); /* lives */
    atomic_store(&own_seat(setup)->requests, 0);
    atomic_store(crown_of(setup), myself());
    if (manner_of(setup) != UNREADY) {
        tell(setup, WORKER_READY, 0, 0);
    }
    if (manner_of(setup) == KEEPING) {
        tell(setup, WORKER_WANTED, 0, 0);
    }
    while (clone_heirs(setup, n)) {
        n = 1;
        atomic_fetch_sub(&setup->seats[setup->index].heirs, 1);
        dprintf(setup->log_fd, "fake worker=%d took-over pid=%d\n",
                setup->index, (int)getpid());
        if (!is_silent(setup)) {
            tell(setup, WORKER_HEIR, 0, (uint32_t)getpid());
            if (setup->conf->n_targets > 0 && manner_of(setup) != KEEPING) {
                tell(setup, WORKER_DOOR_LOST, 0, WORKER_CAUSE_HEIR);
            }
        }
    }
    misbehave(setup);
    return serve(setup);
}

/* --- Tests --------------------------------------------------------------- */

/* The fake's lines and the keeper's come in any order: where to look on for the
 * fake's. */
static const char *fake_at;

static struct server *
start(enum manner manner, int n_heirs)
{
    struct server *s = server_new((int)manner);

    s->conf.heirs = (uint64_t)n_heirs;
    s->max_workers = 1;
    fake_at = NULL;
    return s;
}

/* Ends S, and with it every process of its worker's groups. */
static void
end(struct server *s, int want)
{
    kill(s->pid, SIGTERM);
    server_end(s, want);
}

static pid_t
wait_pid(struct server *s, const char **p_at, const char *words)
{
    *p_at = wait_line(s, *p_at, words);
    return pid_in((*p_at)++);
}

/* The next process that took over. */
static pid_t
wait_takeover(struct server *s)
{
    const char *line = wait_line(s, fake_at, "fake worker=0 took-over");

    fake_at = line + 1;
    return pid_in(line);
}

static void
wait_died(struct server *s, const char **p_at, pid_t pid, const char *cause)
{
    char want[128];

    snprintf(want, sizeof(want), "event=died worker=0 pid=%d cause=%s heir=yes",
             (int)pid, cause);
    *p_at = wait_line(s, *p_at, want);
}

/* Starts S: its worker, once it is ready and has all its heirs. */
static pid_t
start_whole(struct server *s, const char **p_at)
{
    const char *heir = NULL;
    pid_t pid;

    server_start(s);
    *p_at = NULL;
    pid = wait_pid(s, p_at, "event=start worker=0");
    wait_ready(s);
    for (uint64_t i = 0; i < s->conf.heirs; i++) {
        wait_pid(s, &heir, "fake worker=0 heir");
    }
    return pid;
}

static void
test_takeovers(void **state)
{
    struct server *s = start(GOOD, 2);
    const char *at = NULL;
    pid_t pid;

    add_door(s);
    pid = start_whole(s, &at);
    wait_line(s, at, "fake worker=0 got=2 target=0");
    for (int i = 0; i < 30; i++) {
        char want[128];

        kill(pid, SIGKILL);
        wait_died(s, &at, pid, "signal-KILL");
        pid = wait_takeover(s);
        /* the door once more, at once and to the new one */
        snprintf(want, sizeof(want), "fake worker=0 got=2 target=0 by=%d\n",
                 (int)pid);
        wait_line(s, fake_at, want);
    }
    assert_non_null(strstr(s->log, "signal-KILL count=30 heir=yes"));
    assert_null(strstr(strstr(s->log, "event=start worker=0") + 1,
                       "event=start worker=0"));
    assert_null(strstr(s->log, "event=door-lost"));
    kill(s->pid, SIGTERM);
    wait_line(s, at, "event=stopped worker=0 cause=exit-0 count=1");
    assert_null(strstr(s->log, "event=heir-died"));
    server_end(s, 0);
}

/* What ends an heir is told; the worker serves on. */
static void
test_heir_dies(void **state)
{
    struct server *s = start(GOOD, 2);
    const char *at = NULL;
    char want[128];
    pid_t worker, first, second;

    server_start(s);
    worker = wait_pid(s, &at, "event=start worker=0");
    first = wait_pid(s, &at, "fake worker=0 heir");
    second = wait_pid(s, &at, "fake worker=0 heir");
    wait_ready(s);
    kill(first, SIGKILL);
    snprintf(want, sizeof(want),
             "event=heir-died worker=0 pid=%d cause=signal-KILL", (int)first);
    at = wait_line(s, at, want);
    kill(second, SIGUSR1);
    snprintf(want, sizeof(want),
             "event=heir-died worker=0 pid=%d cause=signal-USR1", (int)second);
    at = wait_line(s, at, want);
    assert_null(strstr(s->log, "event=died"));
    /* now it has none */
    kill(worker, SIGKILL);
    at = wait_line(s, at,
                   "event=died worker=0 cause=signal-KILL count=1 "
                   "wait_ms=20.000");
    wait_line(s, at, "event=start worker=0");
    end(s, 0);
}

static void
wait_zombie(pid_t pid)
{
    uint64_t deadline = now_ms() + 20000;
    char path[64];
    char text[256];
    const char *at;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    do {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

        close(fd);
        assert_true(n > 0 && now_ms() < deadline);
        text[n] = '\0';
        at = strrchr(text, ')');
        sched_yield();
    } while (at == NULL || at[1] != ' ' || at[2] != 'Z');
}

/* All of them at once, the worker's death seen first. */
static void
test_all_die(void **state)
{
    struct server *s = start(GOOD, 2);
    const char *at = NULL;
    const char *heir = NULL;
    pid_t worker;
    int status;

    worker = start_whole(s, &at);
    assert_int_equal(kill(s->pid, SIGSTOP), 0);
    assert_int_equal(waitpid(s->pid, &status, WUNTRACED), s->pid);
    kill(-worker, SIGKILL);
    wait_zombie(worker);
    wait_zombie(wait_pid(s, &heir, "fake worker=0 heir"));
    wait_zombie(wait_pid(s, &heir, "fake worker=0 heir"));
    kill(s->pid, SIGCONT);
    wait_died(s, &at, worker, "signal-KILL");
    at = wait_line(s, at, "event=heir-died worker=0 cause=signal-KILL");
    at = wait_line(s, at, "event=heir-died worker=0 cause=signal-KILL");
    at = wait_line(s, at,
                   "event=died worker=0 cause=no-heir count=1 wait_ms=20.000");
    wait_line(s, at, "event=ready worker=0");
    end(s, 0);
}

/* An heir that does not say that it serves is not waited for for ever. */
static void
test_no_word(void **state)
{
    struct server *s = start(MUTE, 2);
    const char *at = NULL;
    pid_t worker;

    worker = start_whole(s, &at);
    kill(worker, SIGKILL);
    wait_died(s, &at, worker, "signal-KILL");
    at = wait_line(s, at, "event=kill worker=0 cause=no-heir");
    at = wait_line(s, at, "event=died worker=0 cause=no-heir count=1");
    assert_null(strstr(s->log, "event=heir-died")); /* our own kill */
    wait_line(s, at, "event=start worker=0");
    end(s, 0);
}

/* Heirs that a signal stopped are continued when they are needed. */
static void
test_stopped_heirs(void **state)
{
    struct server *s = start(GOOD, 2);
    const char *at = NULL;
    pid_t worker, heir;

    worker = start_whole(s, &at);
    heir = wait_pid(s, &at, "fake worker=0 heir");
    kill(heir, SIGSTOP);
    heir = wait_pid(s, &at, "fake worker=0 heir");
    kill(heir, SIGSTOP);
    kill(worker, SIGKILL);
    wait_died(s, &at, worker, "signal-KILL");
    wait_takeover(s);
    end(s, 0);
}

/* Named before the death of the one before it was seen. */
static void
test_named_early(void **state)
{
    struct server *s = start(EARLY, 1);
    const char *at = NULL;
    pid_t worker;

    worker = start_whole(s, &at);
    for (int i = 0; i < 3; i++) {
        wait_line(s, fake_at, "fake worker=0 heir");
        kill(worker, SIGKILL);
        wait_died(s, &at, worker, "signal-KILL");
        worker = wait_takeover(s);
    }
    assert_null(strstr(s->log, "event=kill"));
    end(s, 0);
}

static void
test_stranger(void **state)
{
    struct server *s = start(STRANGER, 2);
    const char *at;

    server_start(s);
    at = wait_line(s, NULL, "event=kill worker=0 cause=bad-message");
    at = wait_line(s, at, "event=died worker=0 cause=signal-KILL count=1");
    wait_line(s, at, "event=ready worker=0");
    wait_ready(s);
    end(s, 0);
}

/* A worker that stands still, in a pass or stopped, goes and not its heirs. */
static void
test_stuck(void **state)
{
    struct server *s = start(WEDGED, 2);
    const char *at = NULL;
    pid_t pid;

    add_door(s);
    server_start(s);
    pid = wait_pid(s, &at, "event=start worker=0");
    for (int i = 0; i < 2; i++) {
        at = wait_line(s, at, "event=kill worker=0 cause=stuck");
        assert_int_equal(pid_in(at), pid);
        wait_died(s, &at, pid, "signal-KILL");
        pid = wait_takeover(s);
        if (i == 0) {
            wait_line(s, fake_at, "got=2"); /* the keeper knows it */
            kill(pid, SIGSTOP);
        }
    }
    end(s, 0);
}

/* It took the order to stop with it: its heir gets it too, with what is left
 * of the grace, and leaves in order. */
static void
test_stop_again(void **state)
{
    struct server *s = start(CUT, 2);
    const char *at = NULL;
    pid_t pid;
    char want[128];

    pid = start_whole(s, &at);
    kill(s->pid, SIGTERM);
    wait_died(s, &at, pid, "signal-KILL");
    pid = wait_takeover(s);
    snprintf(want, sizeof(want), "fake worker=0 got=5 target=0 by=%d\n",
             (int)pid);
    wait_line(s, fake_at, want);
    wait_line(s, at, "event=stopped worker=0 cause=exit-0 count=1");
    server_end(s, 0);
}

/* A fault that comes back in each heir ends the seat. */
static void
test_too_many(void **state)
{
    struct server *s = start(CRASHING, 2);
    const char *at = NULL;

    server_start(s);
    at = wait_line(s, at, "event=kill worker=0 cause=too-many-deaths");
    at = wait_line(s, at, "event=died worker=0 cause=no-heir count=1");
    at = wait_line(s, at, "event=start worker=0");
    at = wait_line(s, at, "event=kill worker=0 cause=too-many-deaths");
    at = wait_line(s, at, "event=died worker=0 cause=no-heir count=2");
    wait_line(s, at, "event=start worker=0");
    wait_ready(s);
    end(s, 0);
}

/* It ended as if it were to, and told its heirs nothing: one goes on. */
static void
test_leaves(void **state)
{
    struct server *s = start(LEAVING, 2);
    const char *at = NULL;
    pid_t pid;

    server_start(s);
    pid = wait_pid(s, &at, "event=start worker=0");
    wait_died(s, &at, pid, "exit-0");
    wait_ready(s);
    wait_takeover(s);
    end(s, 0);
}

/* The heir speaks for one that never said that it was ready. */
static void
test_heir_before_ready(void **state)
{
    struct server *s = start(UNREADY, 2);
    const char *at = NULL;
    pid_t pid;

    server_start(s);
    pid = wait_pid(s, &at, "event=start worker=0");
    wait_died(s, &at, pid, "signal-KILL");
    wait_ready(s);
    pid = wait_takeover(s);
    kill(pid, SIGKILL);
    wait_died(s, &at, pid, "signal-KILL");
    wait_takeover(s);
    end(s, 0);
}

/* Waits until *P_PID is told KIND (enum worker_message_kind) of its door, kills
 * it, and waits for what the one that takes over, in *P_PID, is told first. Is
 * it the same? */
static bool
is_told_again(struct server *s, const char **p_at, pid_t *p_pid, int kind)
{
    char want[128];
    const char *line, *by;

    snprintf(want, sizeof(want), "fake worker=0 got=%d target=0 by=%d\n", kind,
             (int)*p_pid);
    wait_line(s, NULL, want);
    kill(*p_pid, SIGKILL);
    wait_died(s, p_at, *p_pid, "signal-KILL");
    *p_pid = wait_takeover(s);
    snprintf(want, sizeof(want), "target=0 by=%d\n", (int)*p_pid);
    by = wait_line(s, NULL, want);
    for (line = by; line > s->log && line[-1] != '\n'; line--) {
    }
    snprintf(want, sizeof(want), "fake worker=0 got=%d ", kind);
    return strncmp(line, want, strlen(want)) == 0;
}

/* What its door was asked is asked of the heir, before anything else. If we
 * came too late, the keeper had changed its mind: once more. */
static void
check_told_again(struct server *s, const char **p_at, pid_t *p_pid, int kind)
{
    for (int i = 0; i < 4; i++) {
        if (is_told_again(s, p_at, p_pid, kind)) {
            return;
        }
    }
    fail_msg("no heir was told %d again, in:\n%s", kind, s->log);
}

static void
test_told_to_park_again(void **state)
{
    struct server *s = start(KEEPING, 2);
    const char *at = NULL;
    pid_t pid;

    add_door(s);
    s->modules[0].start_timeout_ns = 5000000000u;
    s->modules[0].has_idle = true;
    s->modules[0].idle_ns = 1000000;
    pid = start_whole(s, &at);
    check_told_again(s, &at, &pid, 13);
    end(s, 0);
}

static void
test_told_to_drain_and_keep_again(void **state)
{
    uint64_t amounts[CONF_AMOUNTS] = {0};
    struct server *s = start(KEEPING, 2);
    const char *at = NULL;
    pid_t pid;

    add_door(s);
    s->modules[0].start_timeout_ns = 5000000000u;
    amounts[CONF_RECYCLE_AGE] = 1;
    s->modules[0].amounts = amounts;
    pid = start_whole(s, &at);
    check_told_again(s, &at, &pid, 14);
    check_told_again(s, &at, &pid, 15);
    end(s, 0);
}

/* The keeper is gone: worker and heirs leave by themselves. */
static void
test_keeper_killed(void **state)
{
    struct server *s = start(GOOD, 2);
    const char *at = NULL;
    pid_t worker;
    int status;

    worker = start_whole(s, &at);
    kill(s->pid, SIGKILL);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    /* we are a subreaper: they are ours now */
    for (int i = 0; i < 3; i++) {
        assert_true(waitpid(-worker, &status, 0) > 0);
    }
    assert_int_equal(kill(-worker, 0), -1);
    server_free(s);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takeovers),
        cmocka_unit_test(test_heir_dies),
        cmocka_unit_test(test_all_die),
        cmocka_unit_test(test_no_word),
        cmocka_unit_test(test_stopped_heirs),
        cmocka_unit_test(test_named_early),
        cmocka_unit_test(test_stranger),
        cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_stop_again),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_heir_before_ready),
        cmocka_unit_test(test_told_to_park_again),
        cmocka_unit_test(test_told_to_drain_and_keep_again),
        cmocka_unit_test(test_keeper_killed),
    };

    return test_main(argc, argv, tests, ARRAY_LEN(tests));
}
