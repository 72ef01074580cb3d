/* An arena of which any part cannot be had is none, and leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/test-scarce.h"
#include "loop/arena.h"

static void
test_arena(void **state)
{
    int before = scarce_count_fds();
    struct arena a;
    long n;

    for (n = 1; n < 100; n++) {
        scarce_begin(n);
        int e = arena_make(&a, 10000, 128);
        if (!scarce_end()) {
            assert_int_equal(e, 0);
            arena_free(&a);
            break;
        }
        assert_true(e == ENOMEM || e == EMFILE || e == ENOSPC);
        assert_int_equal(a.fd, -1);
        assert_null(a.base);
        assert_int_equal(scarce_count_fds(), before);
    }
    print_message("# arena: %ld\n", n - 1);
    assert_in_range(n, 4, 20);
    assert_int_equal(scarce_count_fds(), before);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
