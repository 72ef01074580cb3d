/* Calls that are cut at every store and made again. The "library" here is a
 * table of blocks in a connection's heap and in the shared heap; what each call
 * should come to is known from a run that nobody cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>

#include "base/util.h"
#include "loop/redo.h"
#include "loop/shared.h"
#include "loop/test-cut.h"
#include "loop/test-model.h"

#define CALLS       6u
#define SHARED_SIZE (8 * 4096)

/* All that an heir finds, at the start of the arena. */
struct core {
    uint32_t seg;            /* the connection's heap */
    uint32_t done;           /* calls */
    struct library *library; /* in that heap */
    _Alignas(4096) unsigned char shared[SHARED_SIZE];
    _Alignas(4096) struct redo redo;
};

/* The library's state: all of it lies in its heap. */
struct library {
    uint32_t seed;
    struct model own, common;
};

struct fixture {
    struct arena a;
    struct core *core;
    struct shared *shared;
    /* After N calls, of a run that was not cut. */
    uint64_t digests[CALLS + 2];
    size_t live[CALLS + 2];
    unsigned long redone, nested;
    bool cut_twice;
};

static void *
own_alloc(void *arg, size_t size, bool is_lock)
{
    struct fixture *f = arg;

    return heap_alloc(&f->a, heap_at(&f->a, f->core->seg), size);
}

static void *
own_realloc(void *arg, void *p, size_t size)
{
    struct fixture *f = arg;

    return heap_realloc(&f->a, heap_at(&f->a, f->core->seg), p, size);
}

static void
own_free(void *arg, void *p)
{
    struct fixture *f = arg;

    heap_free(heap_at(&f->a, f->core->seg), p);
}

static size_t
own_room(void *arg, const void *p)
{
    return heap_room(p);
}

static void *
common_alloc(void *arg, size_t size, bool is_lock)
{
    return shared_alloc(((struct fixture *)arg)->shared, size, is_lock);
}

static void *
common_realloc(void *arg, void *p, size_t size)
{
    return shared_realloc(((struct fixture *)arg)->shared, p, size);
}

static void
common_free(void *arg, void *p)
{
    shared_free(((struct fixture *)arg)->shared, p);
}

static size_t
common_room(void *arg, const void *p)
{
    return shared_room(((struct fixture *)arg)->shared, p);
}

/* What the library does in a call. Its fourth needs a second run. */
static void
work(struct fixture *f, uint32_t call)
{
    const struct model_heap own = {own_alloc, own_realloc, own_free,
                                   own_room,  f,           false};
    const struct model_heap common = {
        common_alloc, common_realloc, common_free, common_room, f, true};
    struct library *l = f->core->library;

    for (int i = 0; i < 4; i++) {
        uint32_t r = model_random(&l->seed);
        model_step(&l->own, &own, r % 8, r >> 8, (r >> 16) % 200,
                   (uint8_t)(r >> 24));
        r = model_random(&l->seed);
        model_step(&l->common, &common, r % 8, r >> 8, (r >> 16) % 100,
                   (uint8_t)(r >> 24));
    }
    if (call == 3) {
        own_free(f, own_alloc(f, 63000, false));
    }
    if (call == 4) {
        l->common.blocks[20].p = common_alloc(f, 5000, false);
    }
    if (call == 5) {
        common_free(f, l->common.blocks[20].p);
        l->common.blocks[20].p = NULL;
    }
}

static void
make_call(struct fixture *f, uint32_t call)
{
    work(f, call);
    f->core->done = call + 1;
    redo_end(&f->core->redo, f->shared);
}

static void
begin_call(struct fixture *f, uint32_t call)
{
    redo_begin(&f->core->redo, heap_at(&f->a, f->core->seg), f->shared, &call,
               sizeof call);
    make_call(f, call);
}

static void
all_calls(void *arg)
{
    struct fixture *f = arg;

    for (uint32_t call = 0; call < CALLS; call++) {
        begin_call(f, call);
    }
}

static uint64_t
digest(const struct fixture *f)
{
    const struct library *l = f->core->library;

    return model_digest(&l->own) * 31 + model_digest(&l->common) + l->seed;
}

/* All is as it was after N calls that nobody cut. */
static void
must_be_after(const struct fixture *f, uint32_t n)
{
    const struct heap *h = heap_at(&f->a, f->core->seg);

    MUST(h != NULL && heap_is_sound(&f->a, h));
    MUST(shared_is_sound(f->shared));
    model_check(&f->core->library->own);
    MUST(digest(f) == f->digests[n]);
    MUST(shared_live(f->shared) == f->live[n]);
}

static void
settle_runs(struct fixture *f)
{
    arena_forget(&f->a);
    heap_claim(&f->a, heap_at(&f->a, f->core->seg));
    arena_settle(&f->a);
}

static void
recover(struct fixture *f)
{
    struct core *core = f->core;
    const struct heap *h = redo_recover(&core->redo, f->shared);
    uint32_t call = core->done;

    if (h) {
        memcpy(&call, core->redo.note, sizeof call);
        MUST(core->done == call || core->done == call + 1);
        MUST(h == heap_at(&f->a, core->seg));
    }
    must_be_after(f, call);
    settle_runs(f);
}

/* What an heir does; then the next call. */
static void
redo(void *arg)
{
    struct fixture *f = arg;
    struct core *core = f->core;
    uint32_t call = core->done;

    recover(f);
    if (core->redo.open) {
        memcpy(&call, core->redo.note, sizeof call);
        make_call(f, call);
        f->redone++;
        call++;
        must_be_after(f, call);
    }
    MUST(core->done == call);
    if (call <= CALLS) {
        begin_call(f, call);
        must_be_after(f, call + 1);
    }
}

static void
recover_only(void *arg)
{
    struct fixture *f = arg;

    redo_recover(&f->core->redo, f->shared);
}

static void
watch(struct fixture *f, struct cut *c)
{
    unsigned char *run = arena_at(&f->a, f->core->seg);

    c->arg = f;
    c->regions[0].at = (unsigned char *)f->core;
    c->regions[0].len = offsetof(struct core, redo.saved) + 12000;
    c->regions[1].at = run;
    c->regions[1].len = 12000;
    c->regions[2].at = run + 65536 - 64; /* its last block ends there */
    c->regions[2].len = 64 + 128;        /* a second run, when it is there */
    c->regions[3].at = run + 2 * 65536 - 4096; /* and behind a large block */
    c->regions[3].len = 4096;
}

/* An heir that recovers is cut at every store too, once in a while. */
static void
redo_cut_twice(void *arg)
{
    static unsigned int n;
    struct fixture *f = arg;
    struct cut c = {.run = recover_only, .judge = redo};

    if (n++ % 150 == 0) {
        watch(f, &c);
        cut_everywhere(&c);
        f->nested += c.cuts;
    }
    redo(f);
}

static void
run_uncut(struct fixture *f)
{
    for (uint32_t n = 0; n <= CALLS; n++) {
        f->digests[n] = digest(f);
        f->live[n] = shared_live(f->shared);
        begin_call(f, n);
    }
    f->digests[CALLS + 1] = digest(f);
    f->live[CALLS + 1] = shared_live(f->shared);
}

static int
set_up(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof f);
    assert_int_equal(arena_make(&f.a, sizeof(struct core), 256), 0);
    f.core = (struct core *)f.a.base;
    f.shared = shared_make(f.core->shared, SHARED_SIZE);
    f.core->seg = heap_make(&f.a);
    f.core->library = own_alloc(&f, sizeof(struct library), false);
    memset(f.core->library, 0, sizeof(struct library));
    f.core->library->seed = 77;
    *state = &f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;

    arena_free(&f->a);
    return 0;
}

static void
comes_to_the_same_after_a_cut_at_any_store(void **state)
{
    struct fixture *f = *state;
    struct cut c = {.run = all_calls, .judge = redo_cut_twice};
    static unsigned char saved[HEAP_SAVE_MAX], shared[SHARED_SIZE];

    /* What it comes to uncut; then back to the start. */
    assert_true(heap_save(heap_at(&f->a, f->core->seg), saved, sizeof saved));
    memcpy(shared, f->core->shared, sizeof shared);
    run_uncut(f);
    assert_non_null(heap_load(saved));
    memcpy(f->core->shared, shared, sizeof shared);
    f->core->done = 0;
    settle_runs(f);
    watch(f, &c);
    cut_everywhere(&c);
    print_message("# %lu instructions, %lu states, %lu calls made again, %lu "
                  "states of an heir that was cut\n",
                  c.steps, c.cuts, f->redone, f->nested);
    assert_true(c.cuts > 500);
    assert_true(f->redone > 300);
    assert_true(f->nested > 200);
    must_be_after(f, CALLS);
}

static void
wipes_what_was_saved(void **state)
{
    struct fixture *f = *state;
    static const unsigned char zero[4096];

    memset(f->core->library, 'k', sizeof(uint32_t));
    redo_begin(&f->core->redo, heap_at(&f->a, f->core->seg), NULL, "x", 1);
    redo_end(&f->core->redo, NULL);
    assert_memory_not_equal(f->core->redo.saved, zero, sizeof zero);
    assert_null(redo_recover(&f->core->redo, NULL));
    redo_wipe(&f->core->redo);
    assert_memory_equal(f->core->redo.saved, zero, sizeof zero);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(comes_to_the_same_after_a_cut_at_any_store),
        CASE(wipes_what_was_saved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
