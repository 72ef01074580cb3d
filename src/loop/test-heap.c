/* A connection's heap beside a simple table of blocks; saved and loaded; its
 * bounds; what it does to a library that frees twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop/heap.h"
#include "loop/test-model.h"

struct fixture {
    struct arena a;
    struct heap *h;
    uint32_t seg;
};

static int
set_up(void **state)
{
    static struct fixture f;

    assert_int_equal(arena_make(&f.a, 1, 1024), 0); /* 16 runs */
    f.seg = heap_make(&f.a);
    assert_int_equal(f.seg, 768);
    f.h = heap_at(&f.a, f.seg);
    assert_non_null(f.h);
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

static void *
do_alloc(void *heap, size_t size, bool is_lock)
{
    struct fixture *f = heap;

    return heap_alloc(&f->a, f->h, size);
}

static void *
do_realloc(void *heap, void *p, size_t size)
{
    struct fixture *f = heap;

    return heap_realloc(&f->a, f->h, p, size);
}

static void
do_free(void *heap, void *p)
{
    struct fixture *f = heap;

    heap_free(f->h, p);
}

static size_t
do_room(void *heap, const void *p)
{
    struct fixture *f = heap;

    assert_ptr_equal(heap_of(&f->a, p), f->h);
    return heap_room(p);
}

static uint32_t
some_size(uint32_t *seed)
{
    uint32_t bits = model_random(seed) % 17;

    return model_random(seed) % ((1u << bits) + 1);
}

static void
random_steps(struct fixture *f, struct model *m, uint32_t *seed, int n)
{
    const struct model_heap h = {do_alloc, do_realloc, do_free,
                                 do_room,  f,          false};

    while (n-- > 0) {
        uint32_t which = model_random(seed), how = model_random(seed);
        model_step(m, &h, which, how, some_size(seed), (uint8_t)(how >> 8));
    }
    assert_true(heap_is_sound(&f->a, f->h));
}

static void
holds_what_a_table_holds(void **state)
{
    struct fixture *f = *state;
    static struct model m;
    uint32_t seed = 7;

    memset(&m, 0, sizeof m);
    for (int i = 0; i < 2000; i++) {
        random_steps(f, &m, &seed, 7);
        if (i % 40 == 0) {
            model_check(&m);
        }
    }
    for (int i = 0; i < MODEL_BLOCKS; i++) {
        heap_free(f->h, m.blocks[i].p);
    }
    assert_int_equal(heap_live(f->h), 0);
    assert_true(heap_is_sound(&f->a, f->h));
}

/* Saved, changed, loaded: the same blocks with the same bytes. Runs that were
 * taken since are free after the lists were made anew. */
static void
is_loaded_as_it_was_saved(void **state)
{
    struct fixture *f = *state;
    static struct model m, later;
    static unsigned char saved[HEAP_SAVE_MAX], again[HEAP_SAVE_MAX];
    uint32_t seed = 3;

    memset(&m, 0, sizeof m);
    for (int i = 0; i < 300; i++) {
        random_steps(f, &m, &seed, 9);
        size_t live = heap_live(f->h);
        size_t n = heap_save(f->h, saved, sizeof saved);
        assert_true(n > live && n < live + 20000);
        later = m;
        random_steps(f, &later, &seed, (int)(model_random(&seed) % 60));
        for (int twice = 0; twice < 2; twice++) {
            assert_ptr_equal(heap_load(saved), f->h);
            assert_int_equal(heap_live(f->h), live);
            assert_true(heap_is_sound(&f->a, f->h));
            model_check(&m);
        }
        arena_forget(&f->a);
        heap_claim(&f->a, f->h);
        arena_settle(&f->a);
        assert_int_equal(heap_save(f->h, again, sizeof again), n);
        assert_true(heap_load(again) == f->h);
        model_check(&m);
    }
}

static void
is_not_saved_where_there_is_no_room(void **state)
{
    struct fixture *f = *state;
    static unsigned char saved[HEAP_SAVE_MAX];

    assert_non_null(heap_alloc(&f->a, f->h, 1000));
    size_t n = heap_save(f->h, saved, sizeof saved);
    assert_in_range(n, 1000, 3000);
    assert_int_equal(heap_save(f->h, saved, n), n);
    assert_int_equal(heap_save(f->h, saved, n - 1), 0);
    assert_int_equal(heap_save(f->h, saved, 0), 0);
}

/* Full at 8 runs or when the arena is; the largest block; nothing. */
static void
has_bounds(void **state)
{
    struct fixture *f = *state;
    void *p[9];

    assert_null(heap_alloc(&f->a, f->h, 64001));
    assert_null(heap_alloc(&f->a, f->h, SIZE_MAX));
    assert_non_null(heap_alloc(&f->a, f->h, 0));
    for (int i = 0; i < 8; i++) {
        p[i] = heap_alloc(&f->a, f->h, 64000);
        assert_non_null(p[i]);
        memset(p[i], i, 64000);
    }
    assert_null(heap_alloc(&f->a, f->h, 64000));
    assert_int_equal(f->a.in_use, 8);
    uint32_t other = heap_make(&f->a);
    while (arena_take_run(&f->a) != 0xffffffffu) {
    }
    assert_non_null(heap_alloc(&f->a, heap_at(&f->a, other), 64000));
    assert_null(heap_alloc(&f->a, heap_at(&f->a, other), 64000));
    assert_int_equal(heap_make(&f->a), 0xffffffffu);
    assert_null(heap_realloc(&f->a, f->h, p[3], 64100));
    assert_int_equal(((char *)p[3])[63999], 3);
    p[8] = heap_realloc(&f->a, f->h, NULL, 1);
    assert_non_null(p[8]);
    heap_free(f->h, NULL);
}

/* All at once, and nothing of it can be read by who has the run next. */
static void
is_dropped_whole(void **state)
{
    struct fixture *f = *state;
    static const unsigned char zero[65536];
    char *at = (char *)f->h;

    for (int i = 0; i < 200; i++) {
        char *p = heap_alloc(&f->a, f->h, (size_t)i * 10);
        memset(p, 'k', (size_t)i * 10);
        if (i % 3 == 0) {
            heap_free(f->h, p);
        }
    }
    assert_true(f->a.in_use > 1);
    heap_drop(&f->a, f->h);
    assert_int_equal(f->a.in_use, 0);
    assert_null(heap_at(&f->a, f->seg));
    for (int run = 0; run < 4; run++) {
        for (int i = 0; i < 65536; i++) {
            assert_true(at[run * 65536 + i] != 'k');
        }
    }
    assert_memory_equal(at, zero, 60000);
    assert_null(heap_of(&f->a, at + 5000));
}

static void
knows_what_is_its_own(void **state)
{
    struct fixture *f = *state;
    char *p = heap_alloc(&f->a, f->h, 100);
    int local;

    assert_ptr_equal(heap_of(&f->a, p), f->h);
    assert_ptr_equal(heap_of(&f->a, p + 99), f->h);
    assert_null(heap_of(&f->a, &local));
    assert_null(heap_of(&f->a, NULL));
    assert_null(heap_of(&f->a, f->a.base));
    assert_null(heap_of(&f->a, arena_at(&f->a, 767)));
    assert_null(heap_of(&f->a, arena_at(&f->a, 784))); /* no heap's run */
    assert_null(heap_of(&f->a, f->a.base + f->a.size));
    assert_null(heap_at(&f->a, 0));
    assert_null(heap_at(&f->a, 769));
    assert_null(heap_at(&f->a, 784));
    assert_null(heap_at(&f->a, 1024));
    assert_null(heap_at(&f->a, 0xffffffffu));
}

static void
must_abort(struct fixture *f, void (*wrong)(struct fixture *f))
{
    const struct rlimit none = {0, 0};
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        setrlimit(RLIMIT_CORE, &none);
        wrong(f);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void
free_twice(struct fixture *f)
{
    void *p = heap_alloc(&f->a, f->h, 100);

    heap_free(f->h, p);
    heap_free(f->h, p);
}

static void
free_inside(struct fixture *f)
{
    char *p = heap_alloc(&f->a, f->h, 100);

    heap_free(f->h, p + 8);
}

static void
free_overrun(struct fixture *f)
{
    char *p = heap_alloc(&f->a, f->h, 24);

    heap_alloc(&f->a, f->h, 24);
    memset(p, 0, 32);
    heap_free(f->h, p);
}

static void
ends_a_library_that_errs(void **state)
{
    must_abort(*state, free_twice);
    must_abort(*state, free_inside);
    must_abort(*state, free_overrun);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(holds_what_a_table_holds),
        CASE(is_loaded_as_it_was_saved),
        CASE(is_not_saved_where_there_is_no_room),
        CASE(has_bounds),
        CASE(is_dropped_whole),
        CASE(knows_what_is_its_own),
        CASE(ends_a_library_that_errs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
