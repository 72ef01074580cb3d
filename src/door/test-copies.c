/* Forked copies, seen by a caller: a child process is their parent. The words
 * of a call say what its copy does. */
#include "test-ring.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include "door/dial.h"
#include "door/native.h"

enum what { ANSWER, SLEEP, CRASH, LEAVE, LARGE, STOP, MEET };

struct order {
    uint64_t what, value;
};

/* Written by the copies, read by the test. */
struct counts {
    _Atomic int forks, starts, ends;
    _Atomic int fail_starts; /* as many starts fail */
    _Atomic uint32_t came;   /* calls of MEET so far */
    _Atomic uint32_t met;    /* as many of them as have met */
};

struct site {
    pid_t parent;
    char path[64];
    struct counts *counts;
    struct test_ring *ring;
};

static struct counts *counts; /* in parent and copies */

/* Until N have come: all sleep, and nobody looks now and then, for who waits
 * for a CPU computes. */
static void
meet(uint32_t n)
{
    if (atomic_fetch_add(&counts->came, 1) + 1 == n) {
        counts->met = n;
        door_futex_wake(&counts->met, 16, true);
    }
    for (uint32_t seen; (seen = counts->met) < n;) {
        door_futex_wait(&counts->met, seen, TEST_LIMIT_NS, true);
    }
}

static void
procedure(void *cookie, struct door_task *task)
{
    struct order o = {0};
    pid_t self = getpid();
    size_t size = sizeof self;

    memcpy(&o, task->args, task->args_len < sizeof o ? task->args_len : 0);
    if (task->args_len >= sizeof o) {
        memcpy(&o, task->args, sizeof o);
    }
    if (o.what == SLEEP) {
        usleep((useconds_t)o.value);
    } else if (o.what == CRASH) {
        raise((int)o.value);
    } else if (o.what == LEAVE) {
        _exit((int)o.value);
    } else if (o.what == STOP) {
        raise(SIGSTOP);
    } else if (o.what == MEET) {
        meet((uint32_t)o.value);
    } else if (o.what == LARGE) {
        size = o.value;
    }
    if (door_task_grow(task, 0, size) != 0) {
        task->error = ENOBUFS;
        return;
    }
    memset(task->room, 'x', size);
    memcpy(task->room, &self, sizeof self);
    task->body_size = size;
}

static void
count_fork(void *arg)
{
    ((struct counts *)arg)->forks++;
}

static int
count_start(void *arg)
{
    struct counts *c = arg;

    if (c->fail_starts > 0) {
        c->fail_starts--;
        return 1;
    }
    c->starts++;
    return 0;
}

static void
count_end(void *arg)
{
    ((struct counts *)arg)->ends++;
}

/* The child: never returns. */
static void
be_parent(struct site *s, const struct door_copy_limits *limits)
{
    struct door_copy_hooks hooks = {count_fork, NULL, count_start, count_end,
                                    s->counts};
    int d = -1, null = open("/dev/null", O_WRONLY);

    if (!getenv("COPIES_SAY")) {
        dup2(null, 2);
    }
    signal(SIGSEGV, SIG_DFL); /* cmocka's own */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (door_copies_prepare(&hooks, limits) == 0) {
        d = door_create_native(procedure, NULL, 0, 1);
    }
    if (d >= 0 && door_attach(d, s->path, 0600) == 0) {
        door_copies_serve();
    }
    _exit(99);
}

static struct test_ring *
ring_to(const struct site *s)
{
    int64_t end = test_now() + TEST_LIMIT_NS;
    int d = -1;

    while (d < 0 && test_now() < end) {
        d = door_dial(s->path);
        if (d < 0) {
            usleep(1000);
        }
    }
    assert_true(d >= 0);
    struct test_ring *t = test_ring_open(d);
    close(d);
    return t;
}

static struct site *
site_new(struct door_copy_limits limits)
{
    struct site *s = calloc(1, sizeof *s);

    assert_non_null(s);
    snprintf(s->path, sizeof s->path, "/tmp/cardea-copies-%d-%lld",
             (int)getpid(), (long long)test_now());
    s->counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(s->counts != MAP_FAILED);
    s->parent = fork();
    if (s->parent == 0) {
        counts = s->counts;
        be_parent(s, &limits);
    }
    s->ring = ring_to(s);
    return s;
}

static bool
no_child(void *arg)
{
    return waitpid(-1, NULL, WNOHANG) < 0;
}

/* All that was forked must go once the parent is dead and the rings are
 * closed; we are the subreaper. */
static void
site_end(struct site *s)
{
    kill(s->parent, SIGKILL);
    if (s->ring) {
        test_ring_close(s->ring);
    }
    assert_true(test_until(no_child, NULL));
    unlink(s->path);
    munmap(s->counts, 4096);
    free(s);
}

static uint32_t
post(struct test_ring *t, enum what what, uint64_t value)
{
    struct order o = {what, value};

    return test_ring_post(t, 2, &o, sizeof o, 0);
}

/* The next answer: the pid of its copy, or a negative errno. */
static int
answer(struct test_ring *t)
{
    static __thread struct {
        struct test_ring *ring;
        uint32_t n, slots[RING_SLOTS];
    } left;
    struct ring_result result;
    pid_t pid;

    if (left.ring != t || left.n == 0) {
        assert_true(test_ring_wait(t));
        left.ring = t;
        left.n = t->n_answered;
        memcpy(left.slots, t->answered, sizeof left.slots);
    }
    uint32_t slot = left.slots[--left.n];
    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    if (result.error != 0) {
        ring_slot_give(&t->r, slot);
        return -result.error;
    }
    assert_true(result.data_len >= sizeof pid);
    memcpy(&pid, result.data, sizeof pid);
    ring_slot_give(&t->r, slot);
    return pid;
}

static int
call(struct test_ring *t, enum what what, uint64_t value)
{
    post(t, what, value);
    return answer(t);
}

/* Calls that follow one another are one copy's; its parent serves none. */
static void
test_one_copy(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    int first = call(s->ring, ANSWER, 0);

    assert_true(first > 0);
    assert_int_not_equal(first, s->parent);
    for (int i = 0; i < 200; i++) {
        assert_true(call(s->ring, ANSWER, 0) > 0);
    }
    assert_in_range(s->counts->starts, 1, 2);
    site_end(s);
}

/* Nor do calls of two callers in turn bring another. */
static void
test_turns_are_no_crowd(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    struct test_ring *other = ring_to(s);
    uint32_t starts;

    /* One that knows both, and the older has left. */
    while (call(s->ring, ANSWER, 0) != call(other, ANSWER, 0)) {
    }
    starts = s->counts->starts;
    for (int i = 0; i < 2000; i++) {
        assert_true(call(s->ring, i % 2 ? ANSWER : SLEEP, 100) > 0);
        assert_true(call(other, i % 2 ? ANSWER : SLEEP, 100) > 0);
    }
    assert_int_equal(s->counts->starts, starts);
    test_ring_close(other);
    site_end(s);
}

/* As many calls at once, as many copies; not more the second time. */
static void
test_high_water(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    int pids[16];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 16; i++) {
            post(s->ring, MEET, (uint64_t)(round + 1) * 16);
        }
        for (int i = 0; i < 16; i++) {
            pids[i] = answer(s->ring);
            assert_true(pids[i] > 0);
            for (int k = 0; k < i; k++) {
                assert_int_not_equal(pids[i], pids[k]);
            }
        }
    }
    /* One is forked too many where a free one was slow to come. */
    assert_in_range(s->counts->starts, 16, 18);
    assert_in_range(s->counts->forks, 16, 18);
    site_end(s);
}

/* So many at once as there were before, or fewer, again and again: whoever was
 * called in vain, for another one was quicker, is called the next time, too. */
static void
test_again_and_again(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    uint32_t came = 0;

    for (uint32_t round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < 8; i++) {
            post(s->ring, MEET, came + 8);
        }
        came += 8;
        for (uint32_t i = 0; i < 8; i++) {
            assert_true(answer(s->ring) > 0);
        }
        /* Short ones: those that are called find them taken. */
        for (uint32_t i = 0; i < 12; i++) {
            post(s->ring, SLEEP, 1000);
        }
        for (uint32_t i = 0; i < 12; i++) {
            assert_true(answer(s->ring) > 0);
        }
    }
    site_end(s);
}

/* Not more than the limit says; the others wait. */
static void
test_limit(void **state)
{
    struct site *s = site_new((struct door_copy_limits){.most = 2});

    for (int i = 0; i < 6; i++) {
        post(s->ring, SLEEP, 20000);
    }
    for (int i = 0; i < 6; i++) {
        assert_true(answer(s->ring) > 0);
    }
    assert_true(s->counts->starts <= 2);
    site_end(s);
}

/* A full house of copies that do not know a new ring makes room for one that
 * does. */
static void
test_limit_and_rings(void **state)
{
    struct site *s = site_new((struct door_copy_limits){.most = 2});

    for (int i = 0; i < 10; i++) {
        post(s->ring, SLEEP, 20000);
        post(s->ring, SLEEP, 20000);
        ring_flush(&s->ring->r);
        struct test_ring *other = ring_to(s);
        assert_true(call(other, ANSWER, 0) > 0);
        assert_true(answer(s->ring) > 0);
        assert_true(answer(s->ring) > 0);
        test_ring_close(other);
    }
    site_end(s);
}

/* Who ends within a call costs that call, and no other. */
static void
test_crash(void **state)
{
    static const struct order ways[] = {
        {CRASH, SIGKILL}, {CRASH, SIGSEGV}, {LEAVE, 0}, {LEAVE, 3}};
    struct site *s = site_new((struct door_copy_limits){0});

    for (int round = 0; round < 40; round++) {
        const struct order *way = &ways[round % 4];
        int failed = 0;
        for (int i = 0; i < 4; i++) {
            post(s->ring, SLEEP, 3000);
        }
        post(s->ring, (enum what)way->what, way->value);
        for (int i = 0; i < 5; i++) {
            int pid = answer(s->ring);
            failed += pid < 0;
            assert_true(pid > 0 || pid == -EINTR);
        }
        assert_int_equal(failed, 1);
    }
    site_end(s);
}

/* Killed at any instant: each call has an answer or an error, soon. */
static void
test_killed(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    int failed = 0, last = call(s->ring, ANSWER, 0);

    for (int i = 0; i < 300; i++) {
        post(s->ring, ANSWER, 0);
        ring_flush(&s->ring->r);
        if (i % 2 == 0) {
            for (volatile int k = 0; k < i * 20; k++) {
            }
            kill(last, SIGKILL);
        }
        int pid = answer(s->ring);
        assert_true(pid > 0 || pid == -EINTR);
        failed += pid < 0;
        last = pid > 0 ? pid : last;
    }
    assert_true(failed <= 150);
    site_end(s);
}

/* A stopped copy that is called is replaced, and so is one that is stopped in
 * its call once that is past its time. */
static void
test_stopped(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    int first = call(s->ring, ANSWER, 0), second;

    kill(first, SIGSTOP);
    second = call(s->ring, ANSWER, 0);
    assert_true(second > 0);
    assert_int_not_equal(second, first);
    uint32_t slot = post(s->ring, STOP, 0), number = s->ring->r.pub - 1;
    ring_entry(&s->ring->r, slot)->deadline = (uint64_t)test_now();
    ring_flush(&s->ring->r);
    while (!ring_was_claimed(&s->ring->r, number)) {
        usleep(1000);
    }
    ring_withdraw(&s->ring->r, slot);
    assert_int_equal(answer(s->ring), -EINTR);
    assert_true(call(s->ring, ANSWER, 0) > 0);
    site_end(s);
}

static bool
five_have_left(void *arg)
{
    return ((struct counts *)arg)->ends >= 5;
}

/* A ring that is opened later is served too; one that ends harms nobody. */
static void
test_rings(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    int first = call(s->ring, ANSWER, 0);

    assert_true(first > 0);
    for (int i = 0; i < 5; i++) {
        struct test_ring *other = ring_to(s);
        assert_true(call(other, ANSWER, 0) > 0);
        assert_true(call(s->ring, ANSWER, 0) > 0);
        assert_true(call(other, ANSWER, 0) > 0);
        test_ring_close(other);
        assert_true(call(s->ring, ANSWER, 0) > 0);
    }
    /* Each made one more than there were, and the older one leaves. */
    assert_true(test_until(five_have_left, s->counts));
    site_end(s);
}

/* What needs the heap comes from whichever copy, and goes back to it. */
static void
test_large(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});

    for (int i = 0; i < 60; i++) {
        for (int k = 0; k < 4; k++) {
            post(s->ring, LARGE, 15000000);
        }
        for (int k = 0; k < 4; k++) {
            assert_true(answer(s->ring) > 0);
        }
    }
    site_end(s);
}

/* Copies outlive their parent while a ring does. */
static void
test_orphans(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    int first = call(s->ring, ANSWER, 0);

    kill(s->parent, SIGKILL);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(call(s->ring, ANSWER, 0), first);
    }
    site_end(s);
}

/* Copies that have served for long enough are replaced. */
static void
test_recycled(void **state)
{
    struct site *s = site_new((struct door_copy_limits){.calls = 20});
    int changes = 0, last = 0;

    for (int i = 0; i < 200; i++) {
        int pid = call(s->ring, ANSWER, 0);
        assert_true(pid > 0);
        changes += pid != last;
        last = pid;
    }
    assert_in_range(changes, 200 / 22, 200 / 18 + 1);
    assert_in_range(s->counts->ends, 200 / 22 - 1, 200 / 18 + 1);
    site_end(s);
}

/* A start that fails is tried again, later. */
static void
test_failed_starts(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    int first = call(s->ring, ANSWER, 0);
    int64_t before = test_now();

    s->counts->fail_starts = 3;
    kill(first, SIGKILL);
    assert_true(call(s->ring, ANSWER, 0) > 0);
    /* 20, 40 and 80 ms. */
    assert_true(test_now() - before >= 100000000);
    assert_int_equal(s->counts->fail_starts, 0);
    site_end(s);
}

/* A channel finds no thread there, and is refused at once. */
static void
test_channel(void **state)
{
    struct site *s = site_new((struct door_copy_limits){0});
    int d = door_dial(s->path);
    char byte = 0;
    door_arg_t arg = {.data_ptr = &byte, .data_size = 1};

    assert_true(d >= 0);
    assert_int_equal(door_call(d, &arg), -1);
    assert_true(errno == ENOTSUP || errno == EBADF);
    close(d);
    site_end(s);
}

/* Where there is a door already, no copies can be. */
static void
test_refused(void **state)
{
    struct door_copy_hooks hooks = {0};
    struct door_copy_limits limits = {0};
    pid_t pid = fork();

    if (pid == 0) {
        int d = door_create_native(procedure, NULL, 0, 1);
        bool ok = d >= 0 && door_copies_prepare(&hooks, &limits) == EBUSY &&
                  door_copies_serve() == EBUSY;
        _exit(ok ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_copy),
        cmocka_unit_test(test_turns_are_no_crowd),
        cmocka_unit_test(test_high_water),
        cmocka_unit_test(test_again_and_again),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_and_rings),
        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_rings),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_orphans),
        cmocka_unit_test(test_recycled),
        cmocka_unit_test(test_failed_starts),
        cmocka_unit_test(test_channel),
        cmocka_unit_test(test_refused),
    };

    setvbuf(stdout, NULL, _IOLBF, 0); /* forked with nothing unwritten */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
