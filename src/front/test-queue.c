/* The lines of those who wait: whose turn it is, and what is left when somebody
 * leaves from anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>

#include "front/worker_priv.h"
#include "loop/test-cut.h"

#define SEED 0x123456789abcdefull
#define N    600u

struct table {
    struct queue q;
    struct core core;
    struct worker w;
    struct conn conns[N];
    char segments[N][ARENA_SEGMENT] __attribute__((aligned(16)));
};

static struct table *table; /* shared with a child that is cut */
#define t (*table)

static const struct queue_link *
link_at(uint32_t i)
{
    return &request_of(&t.w, &t.conns[i])->line;
}

static int
set_up(void **state)
{
    memset(&t, 0, sizeof t);
    t.core.queue_seed = SEED;
    t.w.core = &t.core;
    t.w.conns = t.conns;
    t.w.arena.base = t.segments[0];
    for (uint32_t i = 0; i < N; i++) {
        t.conns[i].seg = i;
    }
    return 0;
}

/* Connection I of the client 10.0.0.HOST waits. */
static void
add(uint32_t i, uint8_t host)
{
    static const uint8_t net[3] = {10, 0, 0};

    t.conns[i].family = 4;
    memcpy(t.conns[i].peer, net, 3);
    t.conns[i].peer[3] = host;
    queue_add(&t.q, &t.w, i);
}

static uint32_t
take(void)
{
    uint32_t i = queue_oldest(&t.q);

    if (i != QUEUE_NONE) {
        queue_take(&t.q, &t.w, i);
    }
    return i;
}

static void
nobody_waits(void **state)
{
    assert_int_equal(queue_oldest(&t.q), QUEUE_NONE);
    assert_int_equal(t.q.n, 0);
}

static void
one_client_keeps_its_order(void **state)
{
    add(7, 1);
    add(0, 1);
    add(599, 1);
    assert_int_equal(t.q.n, 3);
    assert_int_equal(queue_newest(&t.q, &t.w, queue_oldest(&t.q)), 599);
    assert_int_equal(take(), 7);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), 599);
    nobody_waits(state);
}

/* Five hundred calls of one client are there before the single ones of others
 * (in other lines, with this seed): these need not wait for them. */
static void
clients_take_turns(void **state)
{
    uint32_t last = 0;

    for (uint32_t i = 0; i < 500; i++) {
        add(i, 1);
    }
    for (uint32_t i = 500; i < 503; i++) {
        add(i, (uint8_t)i);
        assert_int_not_equal(link_at(i)->line, link_at(0)->line);
    }
    for (uint32_t k = 0; k < 8; k++) {
        uint32_t i = take();
        last = i >= 500 ? k : last;
    }
    assert_true(last >= 2 && last <= 5);
    assert_int_equal(t.q.n, 495);
}

static void
who_leaves_leaves_no_hole(void **state)
{
    for (uint32_t i = 0; i < 5; i++) {
        add(i, 1);
    }
    queue_remove(&t.q, &t.w, 2);
    queue_remove(&t.q, &t.w, 0);
    queue_remove(&t.q, &t.w, 4);
    assert_int_equal(link_at(2)->is_in, 0);
    assert_int_equal(queue_newest(&t.q, &t.w, 1), 3);
    assert_int_equal(take(), 1);
    add(4, 1);
    assert_int_equal(take(), 3);
    assert_int_equal(take(), 4);
    nobody_waits(state);
}

/* All 256 addresses of a net, in a random order of adding and leaving, against
 * plain counting. */
static void
all_are_there_once(void **state)
{
    uint32_t seed = 1, n = 0;

    for (uint32_t step = 0; step < 20000; step++) {
        seed = seed * 1664525 + 1013904223;
        uint32_t i = (seed >> 8) % N;
        if (link_at(i)->is_in) {
            queue_remove(&t.q, &t.w, i);
            n--;
        } else {
            add(i, (uint8_t)i);
            n++;
        }
        assert_int_equal(t.q.n, n);
    }
    for (; n > 0; n--) {
        uint32_t i = take();
        assert_true(i < N);
        assert_int_equal(link_at(i)->is_in, 0);
    }
    nobody_waits(state);
}

/* Who has a whole /64 is one client; who has another is not. */
static void
an_ipv6_client_is_its_net(void **state)
{
    for (uint32_t i = 0; i < 3; i++) {
        t.conns[i].family = 6;
        t.conns[i].peer[0] = 0x20;
        t.conns[i].peer[7] = i == 2;
        t.conns[i].peer[15] = (uint8_t)i;
        queue_add(&t.q, &t.w, i);
    }
    assert_int_equal(link_at(0)->line, link_at(1)->line);
    assert_int_not_equal(link_at(0)->line, link_at(2)->line);
}

/* What an heir finds of a queue that may be in use, as waiting_forget() does,
 * must be empty when it is wiped, whenever the worker was killed. */
static void
judge(void *arg)
{
    static const struct queue empty;

    if (t.q.n != 0) {
        memset(&t.q, 0, sizeof t.q);
    }
    MUST(memcmp(t.q.some, empty.some, sizeof t.q.some) == 0);
    MUST(memcmp(t.q.lines, empty.lines, sizeof t.q.lines) == 0);
}

static void
come_and_go(void *arg)
{
    add(0, 1);
    add(1, 1);
    add(2, 2);
    queue_remove(&t.q, &t.w, 1);
    queue_take(&t.q, &t.w, 0);
    queue_remove(&t.q, &t.w, 2);
}

static void
a_kill_leaves_nobody_in_a_line(void **state)
{
    struct cut cut = {.run = come_and_go, .judge = judge};

    cut.regions[0].at = (unsigned char *)&t.q;
    cut.regions[0].len = sizeof t.q;
    cut_everywhere(&cut);
    assert_true(cut.cuts > 20);
    assert_int_equal(t.q.n, 0);
}

int
main(void)
{
    table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nobody_waits, set_up),
        cmocka_unit_test_setup(one_client_keeps_its_order, set_up),
        cmocka_unit_test_setup(clients_take_turns, set_up),
        cmocka_unit_test_setup(who_leaves_leaves_no_hole, set_up),
        cmocka_unit_test_setup(all_are_there_once, set_up),
        cmocka_unit_test_setup(an_ipv6_client_is_its_net, set_up),
        cmocka_unit_test_setup(a_kill_leaves_nobody_in_a_line, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
