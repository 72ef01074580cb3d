/* Bounds as text and back, and as a process feels them. */
#include "base/limits.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"

static void
test_format(void **state)
{
    struct limits limits = {.n = 0};
    char text[LIMITS_TEXT] = "x";

    limits_format(&limits, text);
    assert_string_equal(text, "");
    limits_add(&limits, RLIMIT_CPU, 10);
    limits_add(&limits, RLIMIT_AS, 268435456);
    limits_add(&limits, RLIMIT_NOFILE, 64);
    limits_add(&limits, RLIMIT_NPROC, 9223372036854775807);
    limits_add(&limits, RLIMIT_NPROC, 5); /* a fifth finds no place */
    limits_format(&limits, text);
    assert_string_equal(text, "cpu=10 memory=268435456 files=64 "
                              "processes=9223372036854775807");
}

static void
test_parse(void **state)
{
    static const char *const wrong[] = {
        "cpu",
        "cpu=",
        "cpu=x",
        "cpu=-1",
        "cpu=1 ",
        " cpu=1",
        "cpu=1  files=2",
        "cpu=1,files=2",
        "cpu=1 cpu=2",
        "heap=1",
        "cpu=9223372036854775808",
        "cpu=99999999999999999999999",
        "cpu=1x",
    };
    struct limits limits;

    assert_int_equal(limits_parse("files=7 cpu=10", &limits), 0);
    assert_int_equal(limits.n, 2);
    assert_int_equal(limits.list[0].resource, RLIMIT_NOFILE);
    assert_int_equal(limits.list[0].bound.rlim_cur, 7);
    assert_int_equal(limits.list[0].bound.rlim_max, 7);
    assert_int_equal(limits.list[1].resource, RLIMIT_CPU);
    assert_int_equal(limits.list[1].bound.rlim_cur, 10);
    assert_int_equal(limits.list[1].bound.rlim_max, 11);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        limits.n = 1;
        assert_int_equal(limits_parse(wrong[i], &limits), -EINVAL);
        assert_int_equal(limits.n, 0);
    }
    assert_int_equal(limits_parse("", &limits), 0);
    assert_int_equal(limits_parse(NULL, &limits), 0);
    assert_int_equal(limits.n, 0);
}

/* In a child: bounds cannot be taken back. */
static int
apply_in_child(void)
{
    struct limits limits = {.n = 0};
    struct rlimit now;

    limits_add(&limits, RLIMIT_NOFILE, 40);
    if (limits_apply(&limits) != 0 || getrlimit(RLIMIT_NOFILE, &now) != 0 ||
        now.rlim_cur != 40 || now.rlim_max != 40) {
        return 1;
    }
    limits.list[0].bound.rlim_cur = 50; /* more than is allowed: stays 40 */
    limits.list[0].bound.rlim_max = 50;
    if (limits_apply(&limits) != 0 || getrlimit(RLIMIT_NOFILE, &now) != 0 ||
        now.rlim_cur != 40 || now.rlim_max != 40) {
        return 2;
    }
    limits.list[0].resource = 12345;
    return limits_apply(&limits) == -EINVAL ? 0 : 3;
}

static void
test_apply(void **state)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        _exit(apply_in_child());
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_apply),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
