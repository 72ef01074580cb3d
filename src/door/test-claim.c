/* Two processes and several threads claim from one ring: every published call
 * is taken exactly once. The ring lies in memory that both share; they run the
 * server's own loop of claiming and answering. */
#include "test-door.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include "door/ring.h"
#include "door/server.h"

#define CALLS 60000u

struct shared {
    _Atomic uint32_t posted, taken_by[2];
    _Atomic bool over;
    _Atomic uint8_t taken[CALLS + 1];
};

static void
nothing(void *cookie, struct door_task *task)
{
}

static struct door door = {.native = nothing};

/* What a consumer knows of the ring. */
static struct source
consumer(void *request, void *reply)
{
    struct source src = {.kind = SOURCE_RING,
                         .door = &door,
                         .conn = -1,
                         .request = request,
                         .request_size = RING_SIZE,
                         .reply = reply,
                         .reply_size = RING_SIZE,
                         .n_slots = 1024,
                         .cpu = -1};

    src.entries = (const void *)((char *)request + RING_ENTRIES_OFF);
    src.order = (const void *)((char *)request + RING_ORDER_OFF);
    src.bell = &((struct ring_request *)request)->pub;
    src.runs = calloc(1024, sizeof *src.runs);
    return src;
}

struct consumer {
    struct source src;
    struct shared *shared;
    int which;
};

static void *
consume(void *arg)
{
    struct consumer *c = arg;
    struct thread *t = calloc(1, sizeof *t);

    while (t && !c->shared->over) {
        if (!ring_take(&c->src, t)) {
            sched_yield();
            continue;
        }
        uint64_t number = t->call.entry.request_id;
        if (number <= CALLS) {
            c->shared->taken[number]++;
        }
        c->shared->taken_by[c->which]++;
        t->call.open = true;
        ring_answer(t, 0, NULL, 0);
        /* Both processes must have a part in it, however they are scheduled. */
        while (c->shared->taken_by[!c->which] == 0 && !c->shared->over) {
            sched_yield();
        }
    }
    free(t);
    return NULL;
}

static void
run_consumers(void *request, void *reply, struct shared *shared, int which)
{
    struct consumer c = {consumer(request, reply), shared, which};
    pthread_t ids[2];

    assert_non_null(c.src.runs);
    for (int i = 0; i < 2; i++) {
        ids[i] = test_thread(consume, &c);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(ids[i], NULL);
    }
    free(c.src.runs);
}

/* The caller: keeps slots full until all are posted and answered. */
static void
drive(void *request, struct ring_reply_head *reply, struct shared *shared)
{
    struct ring_request *q = request;
    struct ring_entry *entries = (void *)((char *)request + RING_ENTRIES_OFF);
    uint32_t *order = (void *)((char *)request + RING_ORDER_OFF);
    static bool busy[1024];
    static uint64_t seen[16];
    uint32_t pub = 0, answered = 0;
    int64_t end = test_now() + 3 * TEST_LIMIT_NS;

    while (answered < CALLS && test_now() < end) {
        for (uint32_t slot = 0; slot < 1024; slot++) {
            uint64_t bit = 1ull << (slot % 64);
            if (busy[slot] &&
                ((reply->done[slot / 64] ^ seen[slot / 64]) & bit) != 0) {
                seen[slot / 64] ^= bit;
                busy[slot] = false;
                answered++;
            }
            if (!busy[slot] && pub < CALLS) {
                busy[slot] = true;
                entries[slot].generation++;
                entries[slot].kind = RING_KIND_HTTP;
                entries[slot].request_id = pub + 1;
                order[pub % 1024] = slot;
                atomic_store(&q->pub, ++pub);
            }
        }
        sched_yield();
    }
    shared->over = true;
    assert_int_equal(answered, CALLS);
}

static void *
map(int fd, size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static int
memory(size_t size)
{
    int fd = memfd_create("ring", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

static void *
consumers_here(void *arg)
{
    void **parts = arg;

    run_consumers(parts[0], parts[1], parts[2], 0);
    return NULL;
}

static void
test_each_call_once(void **state)
{
    /* The caller sees the rings at other addresses, as in another process. */
    int request = memory(RING_SIZE), reply = memory(RING_SIZE);
    int both = memory(sizeof(struct shared));
    void *parts[3] = {map(request, RING_SIZE), map(reply, RING_SIZE),
                      map(both, sizeof(struct shared))};
    void *own[2] = {map(request, RING_SIZE), map(reply, RING_SIZE)};
    struct shared *shared = parts[2];
    int status;
    pid_t pid = fork(); /* no thread yet: TSan allows it */

    assert_true(pid >= 0);
    if (pid == 0) {
        run_consumers(parts[0], parts[1], shared, 1);
        _exit(0);
    }
    pthread_t here = test_thread(consumers_here, parts);
    drive(own[0], own[1], shared);
    pthread_join(here, NULL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (uint32_t i = 1; i <= CALLS; i++) {
        if (shared->taken[i] != 1) {
            fail_msg("call %u was taken %u times", i, shared->taken[i]);
        }
    }
    assert_int_equal(shared->taken_by[0] + shared->taken_by[1], CALLS);
    assert_true(shared->taken_by[0] > 0 && shared->taken_by[1] > 0);
    munmap(parts[0], RING_SIZE);
    munmap(parts[1], RING_SIZE);
    munmap(own[0], RING_SIZE);
    munmap(own[1], RING_SIZE);
    munmap(parts[2], sizeof *shared);
    close(request);
    close(reply);
    close(both);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_call_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
