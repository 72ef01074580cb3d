/* A caller by ring, as an event loop is one, for the tests. */
#pragma once

#include "test-door.h"

#include <sys/epoll.h>

#include "door/ring.h"
#include "door/sys.h"

struct test_ring {
    struct ring r;
    struct ring_tables tables;
    int epoll; /* edges, as a loop has them: wakes are read now and then */
    uint32_t n_answered;
    uint32_t answered[RING_SLOTS]; /* slots, in the order they came */
};

/* Room for a ring: it is large. */
static inline struct test_ring *
test_ring_new(void)
{
    struct test_ring *t = calloc(1, sizeof *t);

    assert_non_null(t);
    ring_init(&t->r, &t->tables);
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    assert_true(t->epoll >= 0);
    return t;
}

/* Waits for the welcome. 0 or an errno. */
static inline int
test_ring_greet(struct test_ring *t)
{
    int e = EAGAIN;

    while (e == EAGAIN) {
        if (door_wait_readable(t->r.conn, TEST_LIMIT_NS) != 0) {
            return ETIMEDOUT;
        }
        e = ring_greeted(&t->r);
    }
    return e;
}

/* The connection's events are told from now on. */
static inline void
test_ring_listen(struct test_ring *t)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};

    assert_int_equal(epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->r.conn, &ev), 0);
}

/* A ring to the door behind D, ready, as of a loop that runs on CPU. */
static inline struct test_ring *
test_ring_open_on(int d, int cpu)
{
    struct test_ring *t = test_ring_new();

    assert_int_equal(ring_open(&t->r, fcntl(d, F_DUPFD_CLOEXEC, 0), cpu, NULL),
                     0);
    assert_int_equal(test_ring_greet(t), 0);
    test_ring_listen(t);
    return t;
}

/* The same, of a loop that runs anywhere. */
static inline struct test_ring *
test_ring_open(int d)
{
    return test_ring_open_on(d, -1);
}

static inline void
test_ring_close(struct test_ring *t)
{
    ring_close(&t->r);
    close(t->epoll);
    free(t);
}

/* Publishes a call with LEN bytes of arguments. Its slot. */
static inline uint32_t
test_ring_post(struct test_ring *t, uint32_t kind, const void *args, size_t len,
               uint32_t owner)
{
    int slot = ring_slot_take(&t->r, owner);

    assert_true(slot >= 0);
    struct ring_entry *e = ring_entry(&t->r, (uint32_t)slot);
    e->kind = kind;
    e->args_off = ring_area_take(&t->r, len);
    assert_true(e->args_off != 0);
    e->args_len = len;
    if (len > 0) {
        memcpy(ring_at(&t->r, e->args_off), args, len);
    }
    e->body_off = e->body_len = 0;
    e->deadline = (uint64_t)test_now() + TEST_LIMIT_NS;
    ring_slot_area(&t->r, (uint32_t)slot, e->args_off, len);
    test_wrote();
    ring_publish(&t->r, (uint32_t)slot);
    return (uint32_t)slot;
}

static inline void
test_ring_answered(void *arg, struct ring *r, uint32_t owner, uint32_t slot)
{
    struct test_ring *t = arg;

    (void)r;
    (void)owner;
    assert_true(t->n_answered < RING_SLOTS);
    t->answered[t->n_answered++] = slot;
}

/* Waits until at least one answer is there (they are in t->answered). false:
 * none came in 20 s, or the server hung up. */
static inline bool
test_ring_wait(struct test_ring *t)
{
    int64_t end = test_now() + TEST_LIMIT_NS;

    t->n_answered = 0;
    ring_flush(&t->r);
    while (ring_poll(&t->r, test_ring_answered, t) == 0) {
        struct epoll_event ev = {0};
        ring_sleep(&t->r);
        if (!ring_has_answer(&t->r) && epoll_wait(t->epoll, &ev, 1, 10) == 1 &&
            (ev.events & EPOLLIN) != 0) {
            ring_woken(&t->r);
        }
        ring_wake(&t->r);
        ring_nudge(&t->r, (uint64_t)test_now(), 5000000);
        if ((ev.events & (EPOLLRDHUP | EPOLLHUP)) != 0 &&
            !ring_has_answer(&t->r)) {
            return false;
        }
        if (test_now() > end) {
            return false;
        }
    }
    test_reads();
    return true;
}
