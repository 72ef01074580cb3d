/* The shared heap: beside a simple table of blocks; its bounds; and cut at
 * every store of taking, giving and growing a block, where the heap that an
 * heir finds must hold every block that was there, and go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/mman.h>
#include <sys/resource.h>

#include "loop/shared.h"
#include "loop/test-cut.h"
#include "loop/test-model.h"

#define SIZE (32 * 4096)

static void *
do_alloc(void *heap, size_t size, bool is_lock)
{
    return shared_alloc(heap, size, is_lock);
}

static void *
do_realloc(void *heap, void *p, size_t size)
{
    return shared_realloc(heap, p, size);
}

static void
do_free(void *heap, void *p)
{
    shared_free(heap, p);
}

static size_t
do_room(void *heap, const void *p)
{
    assert_true(shared_has(heap, p));
    return shared_room(heap, p);
}

static int
set_up(void **state)
{
    void *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(mem != MAP_FAILED);
    *state = shared_make(mem, SIZE);
    assert_ptr_equal(*state, mem);
    assert_true(shared_is_sound(*state));
    return 0;
}

static int
tear_down(void **state)
{
    return munmap(*state, SIZE);
}

static void
random_steps(struct shared *s, struct model *m, uint32_t *seed, int n)
{
    const struct model_heap h = {do_alloc, do_realloc, do_free,
                                 do_room,  s,          false};

    while (n-- > 0) {
        uint32_t which = model_random(seed), how = model_random(seed);
        uint32_t bits = model_random(seed) % 14;
        uint32_t len = model_random(seed) % ((1u << bits) + 1);
        model_step(m, &h, which, how, len, (uint8_t)(how >> 8));
    }
    assert_true(shared_is_sound(s));
}

static void
count_lock(void *arg, void *lock)
{
    MUST(lock != NULL);
    ++*(int *)arg;
}

static void
holds_what_a_table_holds(void **state)
{
    struct shared *s = *state;
    static struct model m;
    uint32_t seed = 11;

    memset(&m, 0, sizeof m);
    for (int i = 0; i < 2000; i++) {
        random_steps(s, &m, &seed, 7);
        if (i % 40 == 0) {
            model_check(&m);
            int locks = 0, want = 0;
            shared_each_lock(s, count_lock, &locks);
            for (int b = 0; b < MODEL_BLOCKS; b++) {
                want += m.blocks[b].p && m.blocks[b].is_lock;
            }
            assert_int_equal(locks, want);
        }
    }
    for (int i = 0; i < MODEL_BLOCKS; i++) {
        shared_free(s, m.blocks[i].p);
    }
    assert_int_equal(shared_live(s), 0);
    /* All in one piece again: 31 pages beside the table. */
    char *p = shared_alloc(s, 29 * 4096, false);
    assert_non_null(p);
}

/* A step that is undone leaves nothing; one that is closed leaves all. */
static void
undoes_a_step(void **state)
{
    struct shared *s = *state;
    static struct model m, inside;
    uint32_t seed = 5;

    memset(&m, 0, sizeof m);
    for (int i = 0; i < 500; i++) {
        random_steps(s, &m, &seed, 10);
        size_t live = shared_live(s);
        inside = m;
        shared_open(s);
        random_steps(s, &inside, &seed, (int)(model_random(&seed) % 40));
        if (i % 2) {
            shared_close(s);
            m = inside;
        } else {
            shared_recover(s, true);
            assert_int_equal(shared_live(s), live);
            shared_recover(s, true);
            shared_close(s);
            assert_int_equal(shared_live(s), live);
            /* What was written there is the library's own. */
            for (int b = 0; b < MODEL_BLOCKS; b++) {
                model_set(&m, b, m.blocks[b].p, m.blocks[b].len, 1);
            }
        }
        assert_true(shared_is_sound(s));
        model_check(&m);
    }
}

static void
has_bounds(void **state)
{
    struct shared *s = *state;
    static char small[4 * 4096] __attribute__((aligned(4096)));
    int n = 0;

    assert_null(shared_make(small, 3 * 4096));
    assert_non_null(shared_make(small, 4 * 4096));
    assert_null(shared_alloc(s, SIZE, false));
    assert_null(shared_alloc(s, SIZE_MAX, false));
    assert_null(shared_alloc(s, 2049, true)); /* no lock is that large */
    assert_false(shared_has(s, small));
    assert_false(shared_has(s, s));
    assert_false(shared_has(s, (char *)s + SIZE));
    shared_open(s);
    while (shared_alloc(s, 0, false)) {
        n++;
    }
    assert_int_equal(n, 1024);
    void *large = shared_alloc(s, 5000, false);
    assert_null(large); /* the step is full; the pages are not lost */
    shared_recover(s, true);
    assert_int_equal(shared_live(s), 0);
    shared_close(s);
    for (n = 0; shared_alloc(s, 4096, false); n++) {
    }
    assert_in_range(n, 25, 31);
    assert_null(shared_alloc(s, 1, false));
    assert_true(shared_is_sound(s));
}

/* ---- cut ---- */

struct cut_test {
    struct shared *s;
    struct model m; /* blocks that nobody touches */
    size_t live;    /* theirs */
    void *grown;    /* one that grows and is given */
    size_t most;
};

/* Small and large ones; a page that fills, and one that empties; pages that are
 * split, joined and taken again. */
static void
take_and_give(void *arg)
{
    struct cut_test *t = arg;
    struct shared *s = t->s;
    void *p[6];

    p[0] = shared_alloc(s, 2000, false);
    p[1] = shared_alloc(s, 2000, true);
    p[2] = shared_alloc(s, 2000, false);
    p[3] = shared_alloc(s, 9000, false);
    p[4] = shared_alloc(s, 100, false);
    shared_free(s, p[3]);
    p[3] = shared_realloc(s, p[4], 5000);
    shared_free(s, p[0]);
    shared_free(s, p[1]);
    shared_free(s, p[2]);
    p[5] = shared_alloc(s, 16000, false);
    shared_free(s, p[3]);
    shared_free(s, p[5]);
}

static void
an_heir_goes_on(void *arg)
{
    struct cut_test *t = arg;
    uint32_t seed = 9;

    shared_recover(t->s, false);
    MUST(shared_is_sound(t->s));
    MUST(shared_live(t->s) >= t->live && shared_live(t->s) <= t->most);
    model_check(&t->m);
    struct model m = t->m;
    random_steps(t->s, &m, &seed, 20);
    model_check(&m);
}

static void
is_usable_after_a_cut_at_any_store(void **state)
{
    static struct cut_test t;
    static struct cut c = {.run = take_and_give, .judge = an_heir_goes_on};
    uint32_t seed = 21;

    t.s = *state;
    random_steps(t.s, &t.m, &seed, 30);
    t.live = shared_live(t.s);
    t.most = t.live + 2048 * 3 + 12288 + 8192 + 16384;
    c.arg = &t;
    c.regions[0].at = *state;
    c.regions[0].len = SIZE;
    cut_everywhere(&c);
    print_message("# %lu instructions, %lu states\n", c.steps, c.cuts);
    assert_true(c.cuts > 20);
    assert_int_equal(shared_live(t.s), t.live);
}

static void
ends_a_library_that_frees_twice(void **state)
{
    const struct rlimit none = {0, 0};
    int status;

    for (int large = 0; large < 3; large++) {
        pid_t pid = fork();
        if (pid == 0) {
            setrlimit(RLIMIT_CORE, &none);
            signal(SIGABRT, SIG_DFL);
            char *p = shared_alloc(*state, large ? 5000 : 100, false);
            shared_free(*state, large == 2 ? p + 16 : p);
            shared_free(*state, p);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
    }
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(holds_what_a_table_holds),
        CASE(undoes_a_step),
        CASE(has_bounds),
        CASE(is_usable_after_a_cut_at_any_store),
        CASE(ends_a_library_that_frees_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
