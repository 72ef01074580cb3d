/* cardea_secret(): from a variable to a descriptor. */
#include "cardea.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void
test_found(void **state)
{
    char number[16];
    int fd = open("/dev/null", O_RDONLY); /* no O_CLOEXEC: as it arrives */

    assert_true(fd > 2);
    snprintf(number, sizeof(number), "%d", fd);
    setenv("CARDEA_SECRET_DB_KEY2", number, 1);
    assert_int_equal(cardea_secret("db-key2"), fd);
    assert_int_equal(cardea_secret("DB_KEY2"), fd);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    assert_int_equal(cardea_secret("db-key2"), -1);
    assert_int_equal(errno, EBADF);
}

static void
test_errors(void **state)
{
    static const char *const wrong[] = {"",   "x",           "3x",
                                        "-1", "99999999999", "1000000"};
    static const char long_name[] =
        "a2345678901234567890123456789012345678901234567890123456789012345";

    for (size_t i = 0; i < 6; i++) {
        setenv("CARDEA_SECRET_WRONG", wrong[i], 1);
        errno = 0;
        assert_int_equal(cardea_secret("wrong"), -1);
        assert_int_equal(errno, EBADF);
    }
    errno = 0;
    assert_int_equal(cardea_secret("none"), -1);
    assert_int_equal(errno, ENOENT);
    errno = 0;
    assert_int_equal(cardea_secret(long_name), -1);
    assert_int_equal(errno, ENOENT);
    errno = 0;
    assert_int_equal(cardea_secret(""), -1);
    assert_int_equal(errno, ENOENT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
