/* The limit of descriptors: what is asked for, what is left when that is
 * refused, and that a process really has it afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "cohort/descriptors.h"

static void
test_wish(void **state)
{
    static const struct {
        rlim_t soft, hard;
        uint64_t nr_open;
        rlim_t first_soft, first_hard, second_soft, second_hard;
    } table[] = {
        /* A usual login: within the hard limit. */
        {1024, 1048576, 1048576, 131072, 1048576, 131072, 1048576},
        /* Too low: raised if allowed, else all that there is. */
        {1024, 4096, 1048576, 131072, 131072, 4096, 4096},
        {20000, 20000, 1048576, 131072, 131072, 20000, 20000},
        /* Somebody asked for more. */
        {500000, 500000, 1048576, 500000, 500000, 500000, 500000},
        {RLIM_INFINITY, RLIM_INFINITY, 1073741816, 1048576, RLIM_INFINITY,
         1048576, RLIM_INFINITY},
        /* The kernel's bound is lower. */
        {1024, 4096, 65536, 65536, 65536, 4096, 4096},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct rlimit given = {table[i].soft, table[i].hard};
        struct descriptors_wish wish =
            descriptors_wish(&given, table[i].nr_open);

        assert_int_equal(wish.first.rlim_cur, table[i].first_soft);
        assert_int_equal(wish.first.rlim_max, table[i].first_hard);
        assert_int_equal(wish.second.rlim_cur, table[i].second_soft);
        assert_int_equal(wish.second.rlim_max, table[i].second_hard);
    }
}

/* In a child, which has 100 descriptors, 300 at the most: with the right to
 * raise that it gets what it wants, without it the 300. */
static void
raise_from_few(void)
{
    struct rlimit few = {100, 300};
    struct rlimit given;
    struct rlimit now;
    uint32_t files;

    if (setrlimit(RLIMIT_NOFILE, &few) < 0) {
        _exit(1);
    }
    files = descriptors_raise(&given);
    if (getrlimit(RLIMIT_NOFILE, &now) < 0 || given.rlim_cur != 100 ||
        given.rlim_max != 300 || now.rlim_cur != files) {
        _exit(2);
    }
    _exit(files == 300 || (files > 300 && files <= 131072) ? 0 : 3);
}

static void
test_raise(void **state)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        raise_from_few();
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wish),
        cmocka_unit_test(test_raise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
