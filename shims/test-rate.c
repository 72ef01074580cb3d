/* Starts within a minute, by a clock of the test's own. */
#include "rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECOND 1000000000ll

static void
so_many_within_a_minute(void **state)
{
    struct rate rate = {.max = 3};

    for (int minute = 0; minute < 3; minute++) {
        int64_t at = 5 * SECOND + minute * 60 * SECOND;

        assert_int_equal(rate_take(&rate, at), RATE_YES);
        assert_int_equal(rate_take(&rate, at + SECOND), RATE_YES);
        assert_int_equal(rate_take(&rate, at + 2 * SECOND), RATE_YES);
        assert_int_equal(rate_take(&rate, at + 3 * SECOND), RATE_NO_FIRST);
        assert_int_equal(rate_take(&rate, at + 3 * SECOND), RATE_NO);
        assert_int_equal(rate_take(&rate, at + 60 * SECOND - 1), RATE_NO);
    }
}

static void
a_minute_begins_with_its_first_start(void **state)
{
    struct rate rate = {.max = 1};

    assert_int_equal(rate_take(&rate, 0), RATE_YES);
    /* A pause of a minute and a half: the next one begins at its end. */
    assert_int_equal(rate_take(&rate, 90 * SECOND), RATE_YES);
    assert_int_equal(rate_take(&rate, 121 * SECOND), RATE_NO_FIRST);
    assert_int_equal(rate_take(&rate, 150 * SECOND), RATE_YES);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(so_many_within_a_minute),
        cmocka_unit_test(a_minute_begins_with_its_first_start),
    };

    return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
