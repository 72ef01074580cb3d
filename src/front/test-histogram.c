/* Buckets, shares and the median that follows. */
#include "front/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
test_each_time_has_its_bucket(void **state)
{
    assert_int_equal(histogram_index(0), 0);
    assert_int_equal(histogram_index(1023), 0);
    assert_int_equal(histogram_index(1024), 1);
    assert_int_equal(histogram_index(2047), 1);
    assert_int_equal(histogram_index(2048), 2);
    assert_int_equal(histogram_index(68719476735), 26);
    assert_int_equal(histogram_index(68719476736), 27);
    assert_int_equal(histogram_index(UINT64_MAX), 27);
    assert_int_equal(histogram_end(0), 1024);
    assert_int_equal(histogram_end(26), 68719476736);
    assert_true(histogram_end(27) == UINT64_MAX);
    for (uint64_t ns = 1; ns < 1ull << 40; ns = ns * 3 + 1) {
        unsigned b = histogram_index(ns);
        assert_true(ns < histogram_end(b));
        assert_true(b == 0 || ns >= histogram_end(b - 1));
    }
    (void)state;
}

static void
test_shares_lie_within_their_bucket(void **state)
{
    uint64_t counts[28] = {0};

    assert_int_equal(histogram_share(counts, 500), 0);
    counts[10] = 100; /* 2^19 to 2^20 ns */
    assert_in_range(histogram_share(counts, 500), 780000, 792000);
    counts[20] = 1;
    assert_in_range(histogram_share(counts, 500), 780000, 800000);
    assert_in_range(histogram_share(counts, 1000), 1 << 29, 1 << 30);
    counts[27] = 1000; /* no end: twice its beginning */
    assert_in_range(histogram_share(counts, 999), 1ull << 36, 1ull << 37);
    (void)state;
}

static void
test_the_median_follows(void **state)
{
    uint64_t median = 0;

    median = histogram_follow(median, 5000);
    assert_int_equal(median, 5000);
    for (int i = 0; i < 30; i++) {
        median = histogram_follow(median, 100000);
    }
    assert_int_equal(median, 100000);
    /* A few long ones among many short ones do not move it far. */
    for (int i = 0; i < 1000; i++) {
        median = histogram_follow(median, i % 10 == 0 ? 90000000 : 2000);
    }
    assert_in_range(median, 2000, 2500);
    for (int i = 0; i < 100; i++) {
        median = histogram_follow(median, 0);
    }
    assert_int_equal(median, 1); /* and never "none" again */
    assert_true(histogram_follow(UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    (void)state;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_time_has_its_bucket),
        cmocka_unit_test(test_shares_lie_within_their_bucket),
        cmocka_unit_test(test_the_median_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
