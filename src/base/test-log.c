/* Lines as a reader sees them: literal input, literal output. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"

static void
check_line(const struct log_line *line, const char *want)
{
    assert_int_equal(line->len, strlen(want));
    assert_memory_equal(line->text, want, line->len);
}

static void
test_times(void **state)
{
    static const struct {
        uint64_t wall_ns;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {951782399999000000ull, "2000-02-28T23:59:59.999Z"},
        {951782400000000000ull, "2000-02-29T00:00:00.000Z"},
        {951868800000000000ull, "2000-03-01T00:00:00.000Z"},
        {1709164800000000000ull, "2024-02-29T00:00:00.000Z"},
        {1735689599123456789ull, "2024-12-31T23:59:59.123Z"},
        {1795194000123000000ull, "2026-11-20T17:00:00.123Z"},
        {4107542400000000000ull, "2100-03-01T00:00:00.000Z"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct log_line line;

        log_begin(&line, rows[i].wall_ns, LOG_INFO, "x");
        assert_memory_equal(line.text, rows[i].text, 24);
        assert_memory_equal(line.text + 24, " level=info event=x", 19);
    }
}

static void
test_values(void **state)
{
    static const struct {
        const char *value;
        size_t len;
        const char *text;
    } rows[] = {
        {"plain", 5, "k=plain"},
        {"/a/b?c&d", 8, "k=/a/b?c&d"},
        {"a\\b", 3, "k=a\\b"},
        {"", 0, "k=\"\""},
        {"two words", 9, "k=\"two words\""},
        {"a=b", 3, "k=\"a=b\""},
        {"say \"hi\"", 8, "k=\"say \\\"hi\\\"\""},
        {"a \\b", 4, "k=\"a \\\\b\""},
        {"x\nevent=y", 9, "k=\"x\\x0aevent=y\""},
        {"\0\x7f\xff", 3, "k=\"\\x00\\x7f\\xff\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct log_line line = {.len = 0};

        log_bytes(&line, "k", rows[i].value, rows[i].len);
        check_line(&line, rows[i].text);
    }
}

static void
test_numbers(void **state)
{
    struct log_line line = {.len = 0};

    log_num(&line, "a", 0);
    log_num(&line, "b", 18446744073709551615ull);
    log_ms(&line, "c", 0);
    log_ms(&line, "d", 1234567);
    log_ms(&line, "e", 20000000);
    log_errno(&line, ENOENT);
    log_errno(&line, 99999);
    check_line(&line, "a=0 b=18446744073709551615 c=0.000 d=1.234 e=20.000"
                      " error=\"No such file or directory\" error=99999");
}

static void
test_levels(void **state)
{
    struct log_line line;

    log_begin(&line, 0, LOG_DEBUG, "e");
    check_line(&line, "1970-01-01T00:00:00.000Z level=debug event=e");
    log_begin(&line, 0, LOG_WARN, "e");
    check_line(&line, "1970-01-01T00:00:00.000Z level=warn event=e");
    log_begin(&line, 0, LOG_ERROR, "e");
    check_line(&line, "1970-01-01T00:00:00.000Z level=error event=e");
}

/* A field is whole or absent, at each length around the limit of 2047. */
static void
test_full(void **state)
{
    char big[4096];

    memset(big, 'v', sizeof(big));
    for (size_t len = 2030; len < 2060; len++) {
        struct log_line line = {.len = 0};

        log_bytes(&line, "k", big, len);
        assert_int_equal(line.len, len + 2 <= 2047 ? len + 2 : 0);
    }
    memset(big, ' ', sizeof(big));
    for (size_t len = 2030; len < 4096; len++) {
        struct log_line line = {.len = 0};

        log_bytes(&line, "k", big, len);
        assert_int_equal(line.len, len + 4 <= 2047 ? len + 4 : 0);
        log_num(&line, "n", 7);
        assert_true(line.len <= 2047);
    }
}

static void
test_end(void **state)
{
    struct log_line line;
    char got[64];
    int fds[2];

    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    log_begin(&line, 0, LOG_INFO, "end");
    errno = EDOM;
    assert_int_equal(log_end(&line, fds[1]), 0);
    assert_int_equal(errno, EDOM);
    assert_int_equal(read(fds[0], got, sizeof(got)), 46);
    assert_memory_equal(got, "1970-01-01T00:00:00.000Z level=info event=end\n",
                        46);
    close(fds[0]);
    close(fds[1]);
    log_begin(&line, 0, LOG_INFO, "end");
    assert_int_equal(log_end(&line, -1), -1);
    assert_int_equal(errno, EDOM);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),   cmocka_unit_test(test_values),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_levels),
        cmocka_unit_test(test_full),    cmocka_unit_test(test_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
