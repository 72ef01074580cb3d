/* Memory that a fork does not take along: pages.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pages.h"

#define SIZE ((size_t)64 << 10)

static void
a_fork_does_not_have_it(void **state)
{
    char *at = pages_alloc_unshared(SIZE);
    int status;

    assert_non_null(at);
    assert_int_equal(at[0] | at[SIZE - 1], 0);
    memset(at, 'x', SIZE);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        /* mincore(2) fails where nothing is mapped. */
        unsigned char pages[SIZE / 4096];
        _exit(mincore(at, SIZE, pages) == -1 && errno == ENOMEM ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(at[SIZE - 1], 'x');
    pages_free(at, SIZE);
    pages_free(NULL, SIZE);
}

static void
too_much_is_refused(void **state)
{
    assert_null(pages_alloc_unshared(SIZE_MAX / 2));
    assert_int_equal(errno, ENOMEM);
}

static bool
is_last(const void *arg, size_t i)
{
    return i == *(const size_t *)arg;
}

/* Five elements of three quarters of a page end within the fourth. */
static void
pages_that_nobody_uses_go_back(void **state)
{
    size_t used = 1, page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = page / 4 * 3;
    char *at = pages_alloc(SIZE);

    assert_non_null(at);
    memset(at, 'x', SIZE);
    pages_give_back(at, 5, size, 0, is_last, &used, MADV_DONTNEED);
    assert_int_equal(at[0], 'x'); /* element 1 begins there */
    used = 0;
    pages_give_back(at, 5, size, 1, is_last, &used, MADV_DONTNEED);
    assert_int_equal(at[page - 1], 'x');
    assert_int_equal(at[page], 0);
    pages_give_back(at, 5, size, 4, is_last, &used, MADV_DONTNEED);
    assert_int_equal(at[3 * page - 1], 'x'); /* not the table's alone */
    assert_int_equal(at[3 * page], 'x');
    pages_free(at, SIZE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_does_not_have_it),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(pages_that_nobody_uses_go_back),
    };

    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
