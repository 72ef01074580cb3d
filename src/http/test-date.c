/* Dates, beside the C library's own reckoning. */
#include "test-request.h"

#include <stdio.h>
#include <time.h>

static void
test_write(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } table[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {951868799, "Tue, 29 Feb 2000 23:59:59 GMT"},
        {951868800, "Wed, 01 Mar 2000 00:00:00 GMT"},
        {1704067199, "Sun, 31 Dec 2023 23:59:59 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
        {253402300800, "Fri, 31 Dec 9999 23:59:59 GMT"},
        {-1, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {INT64_MIN, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {INT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    char out[30];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        http_date(table[i].seconds, out);
        assert_string_equal(out, table[i].text);
    }
}

/* Every day of 430 years, at a moving time of day. */
static void
test_calendar(void **state)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT",
                                        "%a %b %e %H:%M:%S %Y"};
    char out[30], text[64];

    (void)state;
    for (time_t t = 0; t < (time_t)157000 * 86400; t += 86400 + 61) {
        struct tm tm;

        assert_non_null(gmtime_r(&t, &tm));
        for (size_t i = 0; i < COUNT(forms); i++) {
            size_t n = strftime(text, sizeof(text), forms[i], &tm);

            assert_int_equal(http_date_parse(text, n), t);
            if (i == 0) {
                http_date(t, out);
                assert_string_equal(out, text);
            }
        }
    }
}

static void
test_read(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } table[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Wed Nov 16 08:49:37 1994", 784975777},
        {"Thursday, 01-Jan-70 00:00:00 GMT", 0},
        {"Friday, 31-Dec-99 23:59:59 GMT", 946684799},
        {"Saturday, 01-Jan-00 00:00:00 GMT", 946684800},
        {"Tuesday, 31-Dec-69 00:00:00 GMT", 3155673600},
        {"Wed, 31 Dec 2008 23:59:60 GMT", 1230768000},
        {"Thu, 29 Feb 2024 00:00:00 GMT", 1709164800},
        {"", -1},
        {"Sun", -1},
        {"Sun, 06 Nov 1994 08:49:37", -1},
        {"Sun, 06 Nov 1994 08:49:37 GMT ", -1},
        {" Sun, 06 Nov 1994 08:49:37 GMT", -1},
        {"Sun, 06 Nov 1994 08:49:37 UTC", -1},
        {"Sun, 06 Nov 1994 08:49:37 +0000", -1},
        {"sun, 06 Nov 1994 08:49:37 GMT", -1},
        {"Sun, 06 nov 1994 08:49:37 GMT", -1},
        {"Sun, 6 Nov 1994 08:49:37 GMT", -1},
        {"Sun,  6 Nov 1994 08:49:37 GMT", -1},
        {"Mon, 06 Nov 1994 08:49:37 GMT", -1},
        {"Sun, 00 Nov 1994 08:49:37 GMT", -1},
        {"Thu, 31 Nov 1994 08:49:37 GMT", -1},
        {"Wed, 29 Feb 2023 00:00:00 GMT", -1},
        {"Mon, 29 Feb 2100 00:00:00 GMT", -1},
        {"Sun, 32 Dec 1994 08:49:37 GMT", -1},
        {"Sun, 06 Nov 1994 24:00:00 GMT", -1},
        {"Sun, 06 Nov 1994 08:60:37 GMT", -1},
        {"Sun, 06 Nov 1994 08:49:61 GMT", -1},
        {"Sun, 06 Nov 1994 8:49:37 GMT", -1},
        {"Sun, 06 Nov 1994 08:49:3x GMT", -1},
        {"Sun, 06 Nov 19x4 08:49:37 GMT", -1},
        {"Sun, 06 Nov -994 08:49:37 GMT", -1},
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Sat, 01 Jan 0000 00:00:00 GMT", -1},
        {"Sun, 06-Nov-94 08:49:37 GMT", -1},
        {"Sunday, 06-Nov-1994 08:49:37 GMT", -1},
        {"Sunday, 06-Nov-x4 08:49:37 GMT", -1},
        {"Sunday, 06-Nov-", -1},
        {"Sun Nov 06 08:49:37 94", -1},
        {"Sun Nov  6 08:49:37 1994 ", -1},
        {"Sun Nov   08:49:37 1994", -1},
        {"784111777", -1},
        {"0", -1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len = strlen(table[i].text);
        char *copy = copy_exact(table[i].text, len);
        int64_t seconds = http_date_parse(copy, len);

        free(copy);
        if (seconds != table[i].seconds) {
            fail_msg("%s: %lld", table[i].text, (long long)seconds);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
