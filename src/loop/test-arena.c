/* The arena: what is taken is distinct and writable, exhaustion, and the free
 * lists made anew from what is in use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loop/arena.h"

#define NONE 0xffffffffu

static void
test_make(void **state)
{
    static const struct {
        size_t head;
        uint32_t ask, first, segs, singles;
    } table[] = {
        {0, 64, 0, 64, 48},           {1, 64, 4096, 64, 48},
        {4096, 65, 4096, 64, 48},     {4097, 127, 8192, 64, 48},
        {10000, 128, 12288, 128, 96},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct arena a;
        struct stat st;
        assert_int_equal(arena_make(&a, table[i].head, table[i].ask), 0);
        assert_int_equal(a.first, table[i].first);
        assert_int_equal(a.n_segs, table[i].segs);
        assert_int_equal(a.n_singles, table[i].singles);
        assert_int_equal(a.size, table[i].first + table[i].segs * 4096);
        assert_int_equal(fstat(a.fd, &st), 0);
        assert_int_equal(st.st_size, a.size);
        memset(a.base, 1, a.size);
        arena_free(&a);
        assert_int_equal(a.fd, -1);
        arena_free(&a); /* twice is safe */
    }
}

/* All of both kinds, each once, none overlapping; then none; given back, the
 * last comes first. */
static void
test_take_and_give(void **state)
{
    struct arena a;
    uint32_t got[64], n = 0;

    assert_int_equal(arena_make(&a, 100, 64), 0);
    for (int i = 0; i < 48; i++) {
        got[n++] = arena_take(&a);
    }
    assert_int_equal(arena_take(&a), NONE);
    assert_int_equal(arena_take(&a), NONE);
    got[n++] = arena_take_run(&a);
    assert_int_equal(arena_take_run(&a), NONE);
    assert_int_equal(a.in_use, 49);
    for (uint32_t i = 0; i < n; i++) {
        size_t len = i < 48 ? 4096 : 65536;
        assert_int_equal(arena_is_run(&a, got[i]), i >= 48);
        char *p = arena_at(&a, got[i]);
        assert_true(p >= a.base + 100);
        assert_true(p + len <= a.base + a.size);
        assert_int_equal((size_t)(p - a.base) % 4096, 0);
        memset(p, (int)i + 1, len);
    }
    for (uint32_t i = 0; i < n; i++) {
        const char *p = arena_at(&a, got[i]);
        assert_int_equal(p[0], i + 1);
        assert_int_equal(p[(i < 48 ? 4096 : 65536) - 1], i + 1);
    }
    arena_give(&a, got[10]);
    arena_give(&a, got[20]);
    assert_int_equal(arena_take(&a), got[20]);
    assert_int_equal(arena_take(&a), got[10]);
    assert_int_equal(arena_take(&a), NONE);
    arena_give(&a, got[48]);
    assert_int_equal(arena_take_run(&a), got[48]);
    assert_int_equal(arena_take_run(&a), NONE);
    for (uint32_t i = 0; i < n; i++) {
        arena_give(&a, got[i]);
    }
    assert_int_equal(a.in_use, 0);
    arena_free(&a);
}

/* Two arenas with the same segments in use give the same segments on, as sets,
 * and no segment that is in use. */
static void
take_all(struct arena *a, unsigned char *marks)
{
    uint32_t s;

    while ((s = arena_take(a)) != NONE) {
        assert_true(s < 192);
        assert_int_equal(marks[s], 0);
        marks[s] = 1;
    }
    while ((s = arena_take_run(a)) != NONE) {
        assert_true(s >= 192 && s < 256);
        assert_int_equal(s % 16, 0);
        assert_int_equal(marks[s], 0);
        marks[s] = 1;
    }
}

static void
run_forget(unsigned int seed)
{
    struct arena a;
    unsigned char used[256] = {0};
    uint32_t n_used = 0;

    srandom(seed);
    assert_int_equal(arena_make(&a, 1, 256), 0);
    for (int step = 0; step < 2000; step++) {
        uint32_t s = (uint32_t)random() % 256;
        if (random() % 10 < (int)(seed % 9) + 1) {
            if (used[s]) {
                arena_give(&a, s);
                used[s] = 0;
                n_used--;
            }
        } else {
            s = random() % 4 ? arena_take(&a) : arena_take_run(&a);
            if (s != NONE) {
                assert_int_equal(used[s], 0);
                used[s] = 1;
                n_used++;
            }
        }
        assert_int_equal(a.in_use, n_used);
    }
    arena_forget(&a);
    for (uint32_t s = 256; s-- > 0;) {
        if (used[s]) {
            arena_claim(&a, s);
        }
    }
    arena_claim(&a, 256); /* nonsense of a broken record is ignored */
    arena_claim(&a, NONE);
    arena_settle(&a);
    assert_int_equal(a.in_use, n_used);
    take_all(&a, used);
    for (uint32_t s = 0; s < 256; s++) {
        assert_int_equal(used[s], s < 192 || s % 16 == 0);
    }
    for (uint32_t s = 0; s < 256; s++) {
        if (used[s]) {
            arena_give(&a, s);
        }
    }
    assert_int_equal(a.in_use, 0);
    arena_free(&a);
}

static void
test_made_anew(void **state)
{
    for (unsigned int seed = 0; seed < 30; seed++) {
        run_forget(seed);
    }
}

static uint64_t
resident(const struct arena *a)
{
    struct stat st;

    assert_int_equal(fstat(a->fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Pages of segments that were free from one look to the next go back to the
 * system, but for the last few; what is in use keeps its bytes. */
static void
test_trim(void **state)
{
    struct arena a;
    uint32_t segs[48], run;

    assert_int_equal(arena_make(&a, 4096, 64), 0);
    assert_false(arena_is_fat(&a, 8));
    memset(a.base, 7, 4096);
    for (int i = 0; i < 48; i++) {
        segs[i] = arena_take(&a);
        memset(arena_at(&a, segs[i]), 7, 4096);
    }
    run = arena_take_run(&a);
    memset(arena_at(&a, run), 7, 65536);
    arena_trim(&a, 8); /* all in use: nothing happens */
    assert_false(arena_is_fat(&a, 8));
    assert_int_equal(resident(&a), 4096 + 48 * 4096 + 65536);
    for (int i = 0; i < 47; i++) {
        arena_give(&a, segs[i]);
    }
    assert_true(arena_is_fat(&a, 8));
    arena_trim(&a, 8); /* free, but in use since the look before */
    assert_int_equal(resident(&a), 4096 + 48 * 4096 + 65536);
    arena_trim(&a, 8);
    assert_int_equal(resident(&a), 4096 + (1 + 8) * 4096 + 65536);
    assert_false(arena_is_fat(&a, 8));
    arena_give(&a, run);
    assert_true(arena_is_fat(&a, 8));
    arena_trim(&a, 8);
    arena_trim(&a, 8);
    assert_int_equal(resident(&a), 4096 + (1 + 8) * 4096);
    assert_int_equal(a.base[0], 7);
    assert_int_equal(((char *)arena_at(&a, segs[47]))[4095], 7);
    arena_free(&a);
}

/* What is taken at every look is left alone, however much else goes. Taken
 * again, trimmed segments are as good as others, and are trimmed again. */
static void
test_trim_again(void **state)
{
    struct arena a;
    uint32_t segs[192], run;

    assert_int_equal(arena_make(&a, 1, 256), 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 192; i++) {
            segs[i] = arena_take(&a);
            assert_true(segs[i] != NONE);
            memset(arena_at(&a, segs[i]), 7, 4096);
        }
        run = arena_take_run(&a);
        memset(arena_at(&a, run), 7, 65536);
        for (int i = 0; i < 192; i++) {
            arena_give(&a, segs[(i * 7 + round) % 192]);
        }
        arena_give(&a, run);
        for (int look = 0; look < 4; look++) {
            for (int i = 0; i < 20; i++) {
                segs[i] = arena_take(&a);
                memset(arena_at(&a, segs[i]), 7, 4096);
            }
            for (int i = 20; i-- > 0;) {
                arena_give(&a, segs[i]);
            }
            arena_trim(&a, 0);
        }
        assert_int_equal(resident(&a), 20 * 4096);
    }
    unsigned char marks[256] = {0};
    take_all(&a, marks);
    for (uint32_t s = 0; s < 256; s++) {
        assert_int_equal(marks[s], s < 192 || s % 16 == 0);
    }
    arena_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),       cmocka_unit_test(test_take_and_give),
        cmocka_unit_test(test_made_anew),  cmocka_unit_test(test_trim),
        cmocka_unit_test(test_trim_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
