/* The timer wheel: single steps by hand, and long random runs against a model
 * that looks at every record in every tick. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loop/wheel.h"

#define N     64u
#define NEVER 0xffffffffu

struct record {
    char before[5];
    struct wheel_link link;
    char after[3];
};

struct fixture {
    struct record records[N];
    struct wheel w;
    uint32_t fired[4096];
    uint32_t n_fired;
    void (*on_due)(struct fixture *f, uint32_t i);
};

static void
due(void *arg, uint32_t i)
{
    struct fixture *f = arg;

    assert_true(i < N);
    assert_int_equal(f->records[i].link.due, 0);
    assert_true(f->n_fired < 4096);
    f->fired[f->n_fired++] = i;
    if (f->on_due) {
        f->on_due(f, i);
    }
}

static void
init(struct fixture *f, uint32_t tick)
{
    memset(f, 0, sizeof *f);
    wheel_init(&f->w, f->records, sizeof(struct record),
               offsetof(struct record, link), tick);
}

static void
advance(struct fixture *f, uint32_t now)
{
    f->n_fired = 0;
    wheel_advance(&f->w, now, due, f);
    assert_int_equal(f->w.tick, now);
}

static void
test_arm_and_fire(void **state)
{
    static const uint32_t starts[] = {
        0, 1, 255, 256, 1000, 0x7fffffff, 0x80000000u, 0xfffffff0u};
    static const uint32_t aheads[] = {1,   2,   63,  64,  65,  254, 255,
                                      256, 257, 511, 512, 513, 5000};
    struct fixture f;

    for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
        for (size_t a = 0; a < sizeof aheads / sizeof *aheads; a++) {
            uint32_t at = starts[s] + aheads[a];
            if (at == 0) {
                continue; /* 0 says: not armed; looked at below */
            }
            init(&f, starts[s]);
            wheel_arm(&f.w, 7, at);
            for (uint32_t t = starts[s] + 1; t != at; t++) {
                advance(&f, t);
                assert_int_equal(f.n_fired, 0);
            }
            advance(&f, at);
            assert_int_equal(f.n_fired, 1);
            assert_int_equal(f.fired[0], 7);
            assert_int_equal(wheel_next(&f.w), NEVER);
            for (uint32_t i = 0; i < 600; i++) {
                advance(&f, at + 1 + i);
                assert_int_equal(f.n_fired, 0);
            }
        }
    }
}

/* The tick that would be 0 is told from "not armed". */
static void
test_tick_zero(void **state)
{
    struct fixture f;

    init(&f, 0xfffffffeu);
    wheel_arm(&f.w, 3, 0);
    assert_true(f.records[3].link.due != 0);
    advance(&f, 0xffffffffu);
    assert_int_equal(f.n_fired, 0);
    advance(&f, 1);
    assert_int_equal(f.n_fired, 1);
}

/* Due now or in the past: the next tick. */
static void
test_past(void **state)
{
    static const uint32_t pasts[] = {100, 99, 50, 1};
    struct fixture f;

    for (int i = 0; i < 4; i++) {
        init(&f, 100);
        wheel_arm(&f.w, 0, pasts[i]);
        advance(&f, 100);
        assert_int_equal(f.n_fired, 0);
        advance(&f, 101);
        assert_int_equal(f.n_fired, 1);
    }
}

static void
test_disarm(void **state)
{
    struct fixture f;

    init(&f, 10);
    wheel_disarm(&f.w, 5); /* never armed */
    for (uint32_t i = 0; i < 6; i++) {
        wheel_arm(&f.w, i, 20); /* one list */
    }
    wheel_disarm(&f.w, 0); /* its end, its middle, its head */
    wheel_disarm(&f.w, 3);
    wheel_disarm(&f.w, 5);
    wheel_disarm(&f.w, 5);
    advance(&f, 20);
    assert_int_equal(f.n_fired, 3);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 3; i++) {
        seen |= 1u << f.fired[i];
    }
    assert_int_equal(seen, 1u << 1 | 1u << 2 | 1u << 4);
    wheel_arm(&f.w, 0, 30);
    wheel_disarm(&f.w, 0);
    assert_int_equal(wheel_next(&f.w), NEVER);
}

/* Later: the link stays where it is, and is moved on when it is looked at.
 * Earlier: it moves at once. */
static void
test_rearm(void **state)
{
    struct fixture f;

    init(&f, 0);
    wheel_arm(&f.w, 1, 10);
    uint32_t place = f.records[1].link.place;
    wheel_arm(&f.w, 1, 200);
    assert_int_equal(f.records[1].link.place, place);
    assert_int_equal(wheel_next(&f.w), 10);
    advance(&f, 199);
    assert_int_equal(f.n_fired, 0);
    assert_int_equal(wheel_next(&f.w), 200);
    wheel_arm(&f.w, 1, 1000);
    wheel_arm(&f.w, 1, 205);
    advance(&f, 204);
    assert_int_equal(f.n_fired, 0);
    advance(&f, 205);
    assert_int_equal(f.n_fired, 1);
    wheel_arm(&f.w, 1, 500);
    wheel_arm(&f.w, 1, 206);
    advance(&f, 206);
    assert_int_equal(f.n_fired, 1);
}

/* A sleep longer than the wheel fires what is due, once, and nothing else. */
static void
test_long_sleep(void **state)
{
    static const uint32_t sleeps[] = {256, 257, 300, 1000, 100000, 0x40000000u};
    struct fixture f;

    for (int k = 0; k < 6; k++) {
        init(&f, 77);
        wheel_arm(&f.w, 0, 78);
        wheel_arm(&f.w, 1, 77 + 255);
        wheel_arm(&f.w, 2, 77 + sleeps[k]);
        wheel_arm(&f.w, 3, 77 + sleeps[k] + 1);
        wheel_arm(&f.w, 4, 77 + sleeps[k] + 256);
        advance(&f, 77 + sleeps[k]);
        assert_int_equal(f.n_fired, 3);
        assert_int_equal(wheel_next(&f.w), 77 + sleeps[k] + 1);
        advance(&f, 77 + sleeps[k] + 1);
        assert_int_equal(f.n_fired, 1);
        assert_int_equal(f.fired[0], 3);
        advance(&f, 77 + sleeps[k] + 256);
        assert_int_equal(f.n_fired, 1);
        assert_int_equal(f.fired[0], 4);
    }
}

static void
test_time_does_not_go_back(void **state)
{
    struct fixture f;

    init(&f, 100);
    wheel_arm(&f.w, 0, 101);
    wheel_advance(&f.w, 100, due, &f);
    wheel_advance(&f.w, 50, due, &f);
    assert_int_equal(f.n_fired, 0);
    assert_int_equal(f.w.tick, 100);
    advance(&f, 101);
    assert_int_equal(f.n_fired, 1);
}

/* ---- from within ---- */

static void
arm_others(struct fixture *f, uint32_t i)
{
    if (i == 0) {
        wheel_disarm(&f->w, 1);               /* in the list being looked at */
        wheel_arm(&f->w, 0, f->w.tick + 256); /* into the same slot */
        wheel_arm(&f->w, 2, f->w.tick);       /* the next tick */
        wheel_arm(&f->w, 3, f->w.tick + 5);   /* later, from this list */
    }
}

static void
test_callbacks_arm_and_disarm(void **state)
{
    struct fixture f;

    init(&f, 0);
    f.on_due = arm_others;
    /* Lists are last in, first out: 0 is armed last, so given out first. */
    wheel_arm(&f.w, 3, 9);
    wheel_arm(&f.w, 2, 9);
    wheel_arm(&f.w, 1, 9);
    wheel_arm(&f.w, 0, 9);
    advance(&f, 9);
    assert_int_equal(f.n_fired, 1);
    assert_int_equal(f.fired[0], 0);
    advance(&f, 10);
    assert_int_equal(f.n_fired, 1);
    assert_int_equal(f.fired[0], 2);
    advance(&f, 14);
    assert_int_equal(f.n_fired, 1);
    assert_int_equal(f.fired[0], 3);
    advance(&f, 264);
    assert_int_equal(f.n_fired, 0);
    advance(&f, 265);
    assert_int_equal(f.n_fired, 1);
    assert_int_equal(f.fired[0], 0);
}

/* ---- made anew ---- */

static void
test_relink(void **state)
{
    struct fixture f;

    init(&f, 1000);
    for (uint32_t i = 0; i < N; i++) {
        if (i % 3 != 0) {
            wheel_arm(&f.w, i, 1000 + 1 + i * 7);
        }
    }
    advance(&f, 1100);
    uint32_t gone = f.n_fired;
    /* What the links say is worthless after a crash in the middle. */
    for (uint32_t i = 0; i < N; i++) {
        f.records[i].link.next = 0xdeadbeef;
        f.records[i].link.prev = i * 12345;
        f.records[i].link.place = i;
    }
    wheel_init(&f.w, f.records, sizeof(struct record),
               offsetof(struct record, link), 1200);
    for (uint32_t i = 0; i < N; i++) {
        wheel_relink(&f.w, i);
    }
    for (uint32_t t = 1201; t <= 1500; t++) {
        f.n_fired = 0;
        wheel_advance(&f.w, t, due, &f);
        gone += f.n_fired;
        for (uint32_t k = 0; k < f.n_fired; k++) {
            uint32_t wanted = 1001 + f.fired[k] * 7;
            assert_int_equal(t, wanted > 1201 ? wanted : 1201);
        }
    }
    assert_int_equal(gone, N - (N + 2) / 3);
    assert_int_equal(wheel_next(&f.w), NEVER);
}

/* ---- the model ---- */

struct model {
    uint64_t due[N]; /* 0: not armed; else the tick, not wrapped, plus one */
};

static uint32_t
below(uint32_t n)
{
    return (uint32_t)random() % n;
}

static uint32_t
some_time_ahead(void)
{
    switch (below(5)) {
    case 0:
        return 1 + below(3);
    case 1:
        return 1 + below(300);
    case 2:
        return 250 + below(12);
    case 3:
        return 500 + below(30);
    default:
        return 1 + below(3000);
    }
}

/* Compares one advance: what fired is exactly what the model has due. */
static void
check(struct fixture *f, struct model *m, uint64_t now)
{
    uint32_t seen[N] = {0};

    for (uint32_t k = 0; k < f->n_fired; k++) {
        seen[f->fired[k]]++;
    }
    for (uint32_t i = 0; i < N; i++) {
        uint32_t expected = m->due[i] != 0 && m->due[i] - 1 <= now;
        assert_int_equal(seen[i], expected);
        if (expected) {
            m->due[i] = 0;
        }
    }
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < N; i++) {
        if (m->due[i] != 0 && m->due[i] - 1 < first) {
            first = m->due[i] - 1;
        }
    }
    uint32_t next = wheel_next(&f->w);
    if (first == UINT64_MAX) {
        return; /* a stale list may still be looked at */
    }
    /* It looks no later than the first is due, and not now. The number that
     * says "nothing" is passed over. */
    first += (uint32_t)first == NEVER;
    assert_true(next != NEVER);
    assert_true(next - (uint32_t)now >= 1);
    assert_true(next - (uint32_t)now <= (uint32_t)(first - now));
}

static void
run_model(uint64_t start, unsigned int seed)
{
    struct fixture f;
    struct model m = {{0}};
    uint64_t now = start;

    srandom(seed);
    init(&f, (uint32_t)start);
    for (int step = 0; step < 20000; step++) {
        uint32_t i = below(N);
        switch (below(8)) {
        case 0:
            wheel_disarm(&f.w, i);
            m.due[i] = 0;
            break;
        case 1:
        case 2:
        case 3:
        case 4: {
            uint64_t at = now + some_time_ahead();
            wheel_arm(&f.w, i, (uint32_t)at);
            at += (uint32_t)at == 0;
            m.due[i] = at + 1;
            break;
        }
        case 5:
            if (below(200) == 0) { /* an heir takes over */
                wheel_init(&f.w, f.records, sizeof(struct record),
                           offsetof(struct record, link), (uint32_t)now);
                for (uint32_t k = 0; k < N; k++) {
                    wheel_relink(&f.w, k);
                }
            }
            break;
        default:
            now += below(50) == 0 ? below(2000) : 1 + below(4);
            f.n_fired = 0;
            wheel_advance(&f.w, (uint32_t)now, due, &f);
            check(&f, &m, now);
        }
    }
}

static void
test_against_a_model(void **state)
{
    run_model(1, 1);
    run_model(1000, 2);
    run_model(0x7fffff00u, 3);
    run_model(0xffff8000u, 4); /* over the wrap */
    run_model(0xfffffff0u, 5);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arm_and_fire),
        cmocka_unit_test(test_tick_zero),
        cmocka_unit_test(test_past),
        cmocka_unit_test(test_disarm),
        cmocka_unit_test(test_rearm),
        cmocka_unit_test(test_long_sleep),
        cmocka_unit_test(test_time_does_not_go_back),
        cmocka_unit_test(test_callbacks_arm_and_disarm),
        cmocka_unit_test(test_relink),
        cmocka_unit_test(test_against_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
