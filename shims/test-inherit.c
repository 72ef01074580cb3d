/* What of a shim's environment a command gets. */
#include "inherit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static void
test_environment(void **state)
{
    static char *const set[] = {
        "PATH=/bin",           "CARDEA_DOOR=/run/x",
        "CARDEA_STATE=/var/x", "CARDEA_DOORS=stay",
        "CARDEA_MODULE=m",     "CARDEA_CONTROL=/c",
        "HTTP_PROXY=http://",  "REQUEST_METHOD=GET",
        "CARDEA_SECRET_KEY=3", "EMPTY=",
        "CARDEA_SECRET_TWO=5", "CARDEA_SECRET_BAD=7x",
        "CARDEA_LIMITS=cpu=7", NULL,
    };
    static const char *const want[] = {
        "PATH=/bin",
        "CARDEA_STATE=/var/x",
        "CARDEA_DOORS=stay",
        "CARDEA_SECRET_KEY=3",
        "EMPTY=",
        "CARDEA_SECRET_TWO=5",
        "CARDEA_SECRET_BAD=7x",
    };
    char **before = environ;
    struct inherit inherit;

    environ = (char **)set;
    assert_int_equal(inherit_read(&inherit), 0);
    environ = before;
    for (size_t i = 0; i < 7; i++) {
        assert_string_equal(inherit.env[i], want[i]);
    }
    assert_null(inherit.env[7]);
    assert_int_equal(inherit.first_closed, 6);
    assert_int_equal(inherit.limits.n, 1);
    assert_int_equal(inherit.limits.list[0].resource, RLIMIT_CPU);
    assert_int_equal(inherit.limits.list[0].bound.rlim_cur, 7);
    free(inherit.env);
}

static void
test_nothing(void **state)
{
    char **before = environ;
    struct inherit inherit;

    environ = NULL;
    assert_int_equal(inherit_read(&inherit), 0);
    environ = before;
    assert_null(inherit.env[0]);
    assert_int_equal(inherit.first_closed, 3);
    assert_int_equal(inherit.limits.n, 0);
    free(inherit.env);
}

static void
test_wrong_limits(void **state)
{
    static char *const set[] = {"CARDEA_LIMITS=cpu", NULL};
    char **before = environ;
    struct inherit inherit;

    environ = (char **)set;
    assert_int_equal(inherit_read(&inherit), -1);
    assert_int_equal(errno, EINVAL);
    environ = before;
    assert_null(inherit.env);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_wrong_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
