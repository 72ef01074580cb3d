/* The restart machine in a simulated world: a clock that jumps, processes that
 * die when the script says. Thousands of hours pass in milliseconds. */
#include "cohort/restart.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "base/world.h"
#include "module/spawn.h"

#define MS   1000000ull
#define SEC  1000000000ull
#define HOUR (3600 * SEC)

struct sim {
    struct world world;
    uint64_t now;
    int spawns;      /* tries */
    int spawn_error; /* what the next tries give */
    pid_t next_pid;
    int kills;
    int last_signal;
    int last_group;
    pid_t last_pid;
};

static uint64_t
sim_now(void *ctx)
{
    return ((struct sim *)ctx)->now;
}

static int
sim_spawn(void *ctx, const struct spawn_plan *plan, pid_t *p_pid, int *p_pidfd)
{
    struct sim *s = ctx;

    s->spawns++;
    if (s->spawn_error != 0) {
        return s->spawn_error;
    }
    *p_pid = ++s->next_pid;
    *p_pidfd = -1;
    return 0;
}

static int
sim_kill(void *ctx, pid_t pid, int pidfd, int signal, int group)
{
    struct sim *s = ctx;

    s->kills++;
    s->last_pid = pid;
    s->last_signal = signal;
    s->last_group = group;
    return 0;
}

static void
sim_init(struct sim *s, struct restart *r, bool group)
{
    static const struct spawn_plan plan;

    memset(s, 0, sizeof(*s));
    s->world = (struct world){
        .ctx = s, .now = sim_now, .spawn = sim_spawn, .kill = sim_kill};
    s->now = 1000 * SEC;
    restart_init(r, &s->world, &plan, group);
}

static void
check_cause(const struct restart *r, const char *text, uint64_t count)
{
    char got[RESTART_CAUSE_MAX];

    restart_cause_text(&r->causes[r->last], got);
    assert_string_equal(got, text);
    assert_int_equal(r->causes[r->last].count, count);
}

#define EXITED(n) ((n) << 8)

static void
test_backoff(void **state)
{
    static const uint64_t want[] = {20,   40,   80,   160,  320, 640,
                                    1280, 2560, 5000, 5000, 5000};
    struct backoff b = {0};

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < ARRAY_LEN(want); i++) {
            uint64_t ran = i == 0 && round > 0 ? 10 * SEC : 9999 * MS;

            assert_int_equal(backoff_next(&b, ran), want[i] * MS);
        }
    }
}

/* A process that dies at once, for a thousand hours: the starts are at the
 * times of the series and nowhere else. */
static void
test_crash_loop(void **state)
{
    static const uint64_t first[] = {20, 60, 140, 300, 620, 1260, 2540, 5100};
    struct sim s;
    struct restart r;
    uint64_t begin;
    int n = 1;

    sim_init(&s, &r, false);
    begin = s.now;
    assert_int_equal(restart_start(&r, s.now), RESTART_STARTED);
    while (s.now < begin + 1000 * HOUR) {
        assert_int_equal(r.state, RESTART_RUNNING);
        assert_true(r.pid > 0);
        restart_died(&r, SIGSEGV, s.now);
        check_cause(&r, "signal-SEGV", (uint64_t)n);
        assert_int_equal(r.state, RESTART_WAITING);
        assert_int_equal(r.pid, 0);
        s.now = r.deadline - 1; /* not a nanosecond early */
        assert_int_equal(restart_tick(&r, s.now), RESTART_NOTHING);
        s.now++;
        assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
        if ((size_t)n <= ARRAY_LEN(first)) {
            assert_int_equal(s.now - begin, first[n - 1] * MS);
        } else {
            assert_int_equal(s.now - begin,
                             5100 * MS + 5 * SEC * (uint64_t)(n - 8));
        }
        n++;
    }
    /* 1 + 8 starts in the first 5.1 s, then one each 5 s */
    assert_int_equal(s.spawns, 720008);
    assert_int_equal(r.n_starts, 720008);
    assert_int_equal(r.n_causes, 1);
    assert_int_equal(s.kills, 0);
}

static uint64_t
next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Lives of random length, failing starts in between: every end is counted,
 * every wait belongs to the series, and a good life resets it. */
static void
test_random_lives(void **state)
{
    uint64_t seed = 88172645463325252ull;
    uint64_t expect = 20 * MS;
    uint64_t ends = 0;
    uint64_t counted = 0;
    struct sim s;
    struct restart r;

    sim_init(&s, &r, false);
    restart_start(&r, s.now);
    while (s.now < 5000 * HOUR) {
        uint64_t dice = next_random(&seed);
        uint64_t ran = dice % 4 == 0 ? dice % HOUR : dice % (2 * SEC);

        if (r.state == RESTART_RUNNING) {
            s.now += ran;
            restart_died(&r, dice % 3 ? EXITED(1 + (int)(dice % 2)) : SIGABRT,
                         s.now);
            expect = ran >= 10 * SEC ? 20 * MS : expect;
        } else {
            s.spawn_error = dice % 5 == 0 ? -ENOENT : 0;
            s.now = r.deadline + dice % MS;
            if (restart_tick(&r, s.now) == RESTART_STARTED) {
                continue;
            }
        }
        ends++;
        assert_int_equal(r.wait_ns, expect);
        assert_int_equal(r.deadline, s.now + expect);
        expect = expect * 2 > 5 * SEC ? 5 * SEC : expect * 2;
    }
    assert_true(ends > 10000);
    assert_int_equal(r.n_causes, 4);
    for (size_t i = 0; i < r.n_causes; i++) {
        counted += r.causes[i].count;
    }
    assert_int_equal(counted, ends);
}

static void
test_failed_start(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, false);
    s.spawn_error = -ENOENT;
    assert_int_equal(restart_start(&r, s.now), RESTART_NOT_STARTED);
    check_cause(&r, "no-start-ENOENT", 1);
    assert_int_equal(r.wait_ns, 20 * MS);
    s.now += 20 * MS;
    assert_int_equal(restart_tick(&r, s.now), RESTART_NOT_STARTED);
    check_cause(&r, "no-start-ENOENT", 2);
    assert_int_equal(r.wait_ns, 40 * MS);
    s.now += 40 * MS;
    s.spawn_error = 0;
    assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
    assert_int_equal(r.n_starts, 1);
}

/* stop in each state; nothing starts afterwards, however long one waits. */
static void
test_stop(void **state)
{
    for (int where = 0; where < 3; where++) {
        struct sim s;
        struct restart r;
        int spawns;

        sim_init(&s, &r, true);
        if (where > 0) {
            restart_start(&r, s.now);
        }
        if (where > 1) {
            restart_died(&r, EXITED(1), s.now);
        }
        restart_stop(&r, SIGTERM, 5 * SEC, s.now);
        if (where == 1) {
            assert_int_equal(r.state, RESTART_STOPPING);
            assert_int_equal(s.kills, 1);
            assert_int_equal(s.last_signal, SIGTERM);
            assert_int_equal(s.last_group, 1);
            assert_int_equal(s.last_pid, r.pid);
            restart_died(&r, SIGTERM, s.now);
            check_cause(&r, "signal-TERM", 1);
        }
        assert_int_equal(r.state, RESTART_STOPPED);
        spawns = s.spawns;
        for (int i = 0; i < 10000; i++) {
            s.now += HOUR;
            assert_int_equal(restart_tick(&r, s.now), RESTART_NOTHING);
            restart_stop(&r, SIGTERM, 0, s.now);
        }
        assert_int_equal(s.spawns, spawns);
        assert_int_equal(s.kills, where == 1);
    }
}

static void
test_doomed(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    restart_doom(&r, true); /* nobody is there */
    assert_false(r.doomed);
    restart_start(&r, s.now);
    assert_false(r.doomed);
    restart_doom(&r, true);
    assert_true(r.doomed);
    restart_doom(&r, false); /* it opened its door again */
    assert_false(r.doomed);
    restart_doom(&r, true);
    restart_died(&r, SIGABRT, s.now);
    s.now = r.deadline;
    assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
    assert_false(r.doomed); /* the next one is another */
    restart_replace(&r, RESTART_REPLACED, 2);
    restart_doom(&r, false); /* it was killed: no door helps it */
    assert_true(r.doomed);
    restart_stop(&r, SIGTERM, 5 * SEC, s.now);
    assert_true(r.doomed);
    restart_died(&r, SIGKILL, s.now);
    assert_int_equal(r.state, RESTART_STOPPED);

    /* One that is not ready when the stop comes, and one that is. */
    for (int ready = 0; ready < 2; ready++) {
        sim_init(&s, &r, true);
        r.start_timeout_ns = 5 * SEC;
        restart_start(&r, s.now);
        if (ready) {
            restart_ready(&r);
        }
        restart_stop(&r, SIGTERM, 5 * SEC, s.now);
        assert_int_equal(r.doomed, !ready);
        restart_died(&r, EXITED(64), s.now);
        assert_int_equal(r.state, RESTART_STOPPED);
    }
}

static void
test_kill_after_grace(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, false);
    restart_start(&r, s.now);
    restart_stop(&r, 0, 30 * SEC, s.now);
    assert_int_equal(s.kills, 0); /* told otherwise */
    restart_stop(&r, SIGTERM, 60 * SEC, s.now);
    assert_int_equal(s.last_signal, SIGTERM);
    assert_int_equal(r.deadline, s.now + 30 * SEC); /* never longer */
    restart_stop(&r, 0, 10 * SEC, s.now);
    s.now += 10 * SEC - 1;
    assert_int_equal(restart_tick(&r, s.now), RESTART_NOTHING);
    s.now++;
    assert_int_equal(restart_tick(&r, s.now), RESTART_KILLING);
    assert_int_equal(s.last_signal, SIGKILL);
    assert_int_equal(s.last_group, 0);
    assert_int_equal(r.state, RESTART_KILLED);
    restart_stop(&r, SIGTERM, 0, s.now);
    assert_int_equal(s.kills, 2);
    s.now += SEC; /* stuck in the kernel: asked again */
    assert_int_equal(restart_tick(&r, s.now), RESTART_KILLING);
    restart_died(&r, SIGKILL, s.now);
    assert_int_equal(r.state, RESTART_STOPPED);
    assert_int_equal(s.spawns, 1);
}

static void
test_no_limit(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, false);
    restart_start(&r, s.now);
    restart_stop(&r, 0, UINT64_MAX, s.now);
    s.now += 100000 * HOUR;
    assert_int_equal(restart_tick(&r, s.now), RESTART_NOTHING);
    assert_int_equal(r.state, RESTART_STOPPING);
}

static void
test_replace(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    restart_replace(&r, RESTART_REPLACED, 2); /* nothing to replace */
    assert_int_equal(s.kills, 0);
    restart_start(&r, s.now);
    restart_replace(&r, RESTART_REPLACED, 2);
    restart_replace(&r, RESTART_REPLACED, 3); /* once is enough */
    assert_int_equal(s.kills, 1);
    assert_int_equal(s.last_signal, SIGKILL);
    assert_int_equal(r.state, RESTART_RUNNING);
    restart_died(&r, SIGKILL, s.now);
    check_cause(&r, "replaced-2", 1);
    assert_int_equal(r.state, RESTART_WAITING);
    s.now = r.deadline;
    assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
    restart_died(&r, SIGKILL, s.now);
    check_cause(&r, "signal-KILL", 1);
}

static void
test_many_causes(void **state)
{
    uint64_t sum = 0;
    struct sim s;
    struct restart r;

    sim_init(&s, &r, false);
    restart_start(&r, s.now);
    for (int i = 0; i < 256; i++) {
        restart_died(&r, EXITED(i), s.now);
        s.now = r.deadline;
        restart_tick(&r, s.now);
    }
    assert_int_equal(r.n_causes, 16);
    check_cause(&r, "other", 241);
    for (size_t i = 0; i < 16; i++) {
        sum += r.causes[i].count;
    }
    assert_int_equal(sum, 256);
    restart_died(&r, EXITED(3), s.now);
    check_cause(&r, "exit-3", 2);
}

static void
test_names(void **state)
{
    assert_string_equal(restart_state_name(RESTART_IDLE), "idle");
    assert_string_equal(restart_state_name(RESTART_RUNNING), "running");
    assert_string_equal(restart_state_name(RESTART_WAITING), "waiting");
    assert_string_equal(restart_state_name(RESTART_STARTING), "starting");
    assert_string_equal(restart_state_name(RESTART_PARKING), "parking");
    assert_string_equal(restart_state_name(RESTART_PARKED), "parked");
    assert_string_equal(restart_state_name(RESTART_STOPPING), "stopping");
    assert_string_equal(restart_state_name(RESTART_KILLED), "killed");
    assert_string_equal(restart_state_name(RESTART_STOPPED), "stopped");
}

/* Ready in time, or killed and counted as late; the deadline is not the
 * back-off's. */
static void
test_late(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    r.start_timeout_ns = 3 * SEC;
    restart_start(&r, s.now);
    assert_int_equal(r.state, RESTART_STARTING);
    assert_true(restart_is_up(&r));
    s.now += 3 * SEC - 1;
    assert_int_equal(restart_tick(&r, s.now), RESTART_NOTHING);
    s.now++;
    assert_int_equal(restart_tick(&r, s.now), RESTART_TOO_LATE);
    assert_int_equal(s.last_signal, SIGKILL);
    restart_ready(&r); /* said too late */
    assert_int_equal(r.state, RESTART_STARTING);
    s.now += SEC; /* its end is not seen: again */
    assert_int_equal(restart_tick(&r, s.now), RESTART_TOO_LATE);
    restart_died(&r, SIGKILL, s.now);
    check_cause(&r, "late", 1);
    assert_int_equal(r.n_early, 0);
    assert_int_equal(r.wait_ns, 20 * MS);
    s.now += 20 * MS;
    assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
    restart_ready(&r);
    assert_int_equal(r.state, RESTART_RUNNING);
    s.now += 1000 * HOUR;
    assert_int_equal(restart_tick(&r, s.now), RESTART_NOTHING);
    restart_died(&r, SIGKILL, s.now); /* not by us */
    check_cause(&r, "signal-KILL", 1);
}

/* An end before it is ready, and a stop then. */
static void
test_early(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    r.start_timeout_ns = SEC;
    restart_start(&r, s.now);
    restart_died(&r, EXITED(7), s.now);
    check_cause(&r, "exit-7", 1);
    assert_int_equal(r.n_early, 1);
    s.now = r.deadline;
    restart_tick(&r, s.now);
    restart_stop(&r, SIGTERM, 5 * SEC, s.now);
    assert_int_equal(r.state, RESTART_STOPPING);
    assert_int_equal(r.deadline, s.now + 5 * SEC);
    restart_died(&r, SIGTERM, s.now);
    assert_int_equal(r.state, RESTART_STOPPED);
    assert_int_equal(r.n_early, 1);
}

/* Waits grow with the deaths of one version; another is tried at once. */
static void
test_version(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    r.version = 1;
    restart_start(&r, s.now);
    for (int i = 0; i < 12; i++) {
        restart_died(&r, EXITED(1), s.now);
        restart_version(&r, 1, s.now); /* as before */
        assert_true(r.deadline > s.now);
        if (i < 11) {
            s.now = r.deadline;
            restart_tick(&r, s.now);
        }
    }
    assert_int_equal(r.wait_ns, 5 * SEC);
    restart_version(&r, 2, s.now);
    assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
    restart_died(&r, EXITED(1), s.now);
    assert_int_equal(r.wait_ns, 20 * MS);
    restart_stop(&r, SIGTERM, 0, s.now);
    restart_version(&r, 3, s.now); /* never again */
    assert_int_equal(restart_tick(&r, s.now + HOUR), RESTART_NOTHING);
}

/* What the kernel ended for want of memory, not we. */
static void
test_out_of_memory(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    r.start_timeout_ns = SEC;
    restart_start(&r, s.now);
    restart_blame_memory(&r);
    restart_died(&r, SIGKILL, s.now);
    check_cause(&r, "out-of-memory", 1);
    assert_int_equal(r.n_early, 1); /* it was not ready */
    assert_int_equal(r.state, RESTART_WAITING);
    restart_tick(&r, r.deadline);
    restart_ready(&r);
    restart_replace(&r, RESTART_WEDGED, 0);
    restart_blame_memory(&r);
    restart_died(&r, SIGKILL, s.now);
    check_cause(&r, "wedged", 1); /* ours was first */
    restart_tick(&r, r.deadline);
    restart_stop(&r, SIGTERM, SEC, s.now);
    restart_blame_memory(&r);
    restart_died(&r, SIGKILL, s.now);
    check_cause(&r, "signal-KILL", 1);
}

static void
test_park(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    r.start_timeout_ns = SEC;
    restart_park(&r, SEC, s.now);
    assert_int_equal(r.state, RESTART_PARKED);
    s.now += 1000 * HOUR;
    assert_int_equal(restart_tick(&r, s.now), RESTART_NOTHING);
    assert_int_equal(s.spawns, 0);
    restart_want(&r, s.now);
    assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
    restart_want(&r, s.now);      /* it is there */
    restart_park(&r, SEC, s.now); /* not before it is ready */
    assert_int_equal(r.state, RESTART_STARTING);
    restart_ready(&r);
    restart_park(&r, SEC, s.now);
    assert_int_equal(r.state, RESTART_PARKING);
    assert_int_equal(s.last_signal, SIGTERM);
    assert_false(restart_is_up(&r));
    s.now += SEC; /* it does not end */
    assert_int_equal(restart_tick(&r, s.now), RESTART_KILLING);
    assert_int_equal(s.last_signal, SIGKILL);
    restart_died(&r, SIGKILL, s.now);
    check_cause(&r, "unused", 1);
    assert_int_equal(r.state, RESTART_PARKED);
    restart_want(&r, s.now);
    restart_tick(&r, s.now);
    restart_ready(&r);
    restart_park(&r, SEC, s.now);
    restart_want(&r, s.now); /* a call came while it was ending */
    restart_died(&r, SIGTERM, s.now);
    check_cause(&r, "unused", 2);
    assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
    restart_ready(&r);
    restart_park(&r, SEC, s.now);
    restart_stop(&r, SIGTERM, SEC, s.now);
    assert_int_equal(r.state, RESTART_STOPPING);
    restart_want(&r, s.now);
    restart_died(&r, SIGTERM, s.now);
    assert_int_equal(r.state, RESTART_STOPPED);
    check_cause(&r, "signal-TERM", 1);
}

/* A start that fails while it is wanted waits like any other; in PARKED a stop
 * is final. */
static void
test_wanted_start_fails(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    restart_park(&r, SEC, s.now);
    restart_want(&r, s.now);
    s.spawn_error = -EAGAIN;
    assert_int_equal(restart_tick(&r, s.now), RESTART_NOT_STARTED);
    assert_int_equal(r.state, RESTART_WAITING);
    assert_int_equal(r.deadline, s.now + 20 * MS);
    restart_want(&r, s.now);
    assert_int_equal(r.deadline, s.now + 20 * MS);
    sim_init(&s, &r, true);
    restart_park(&r, SEC, s.now);
    restart_stop(&r, SIGTERM, SEC, s.now);
    assert_int_equal(r.state, RESTART_STOPPED);
    restart_want(&r, s.now);
    assert_int_equal(restart_tick(&r, s.now), RESTART_NOTHING);
}

/* One that is replaced without a fault: the next is due at its end, whatever
 * the back-off. */
static void
test_recycle(void **state)
{
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    restart_start(&r, s.now);
    for (int i = 1; i <= 100; i++) {
        restart_recycle(&r, RESTART_BY_AGE, SEC, s.now);
        assert_int_equal(r.state, RESTART_PARKING);
        assert_int_equal(s.last_signal, SIGTERM);
        restart_recycle(&r, RESTART_BY_CALLS, SEC, s.now);
        assert_int_equal(s.kills, i);
        restart_died(&r, SIGTERM, s.now);
        check_cause(&r, "recycled-age", (uint64_t)i);
        assert_int_equal(restart_tick(&r, s.now), RESTART_STARTED);
    }
    restart_recycle(&r, RESTART_BY_AGE, SEC, s.now);
    restart_stop(&r, SIGTERM, SEC, s.now);
    restart_died(&r, SIGTERM, s.now);
    check_cause(&r, "signal-TERM", 1);
    assert_int_equal(r.state, RESTART_STOPPED);
}

/* Each cause of ours is counted under its own name. */
static void
test_own_causes(void **state)
{
    static const struct {
        enum restart_why why;
        int code;
        const char *text;
    } rows[] = {
        {RESTART_FROZEN, 0, "frozen"},
        {RESTART_WEDGED, 0, "wedged"},
        {RESTART_RECYCLED, RESTART_BY_CALLS, "recycled-calls"},
        {RESTART_RECYCLED, RESTART_BY_MEMORY, "recycled-memory"},
        {RESTART_RECYCLED, RESTART_BY_AGE, "recycled-age"},
    };
    struct sim s;
    struct restart r;

    sim_init(&s, &r, true);
    restart_start(&r, s.now);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        restart_replace(&r, rows[i].why, rows[i].code);
        restart_died(&r, SIGKILL, s.now);
        check_cause(&r, rows[i].text, 1);
        s.now = r.deadline;
        restart_tick(&r, s.now);
    }
    assert_int_equal(s.kills, ARRAY_LEN(rows));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_crash_loop),
        cmocka_unit_test(test_random_lives),
        cmocka_unit_test(test_failed_start),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_doomed),
        cmocka_unit_test(test_kill_after_grace),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_many_causes),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_early),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_park),
        cmocka_unit_test(test_wanted_start_fails),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_recycle),
        cmocka_unit_test(test_own_causes),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
