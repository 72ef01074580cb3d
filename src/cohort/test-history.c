/* Kinds, order, and what is left when a ring has gone round. */
#include "cohort/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "2026-11-26T20:00:00.123Z level=info event="

static void
test_kinds(void **state)
{
    static const struct {
        const char *text;
        enum history_kind kind;
    } rows[] = {
        {HEAD "started module=a\n", HISTORY_EVENT},
        {HEAD "output module=a text=b\n", HISTORY_OUTPUT},
        {HEAD "request id=1 status=200 total_ms=1.000\n", HISTORY_ACCESS},
        {HEAD "request id=1 status=200 total_ms=999.999\n", HISTORY_ACCESS},
        {HEAD "request id=1 status=200 total_ms=1000.000\n", HISTORY_TELLS},
        {HEAD "request id=1 queue_ms=99.000 total_ms=99.1\n", HISTORY_ACCESS},
        {HEAD "request id=1 queue_ms=100.00 total_ms=101.1\n", HISTORY_TELLS},
        {HEAD "request id=1 total_ms=1.0 cause=full\n", HISTORY_TELLS},
        {HEAD "request id=1 total_ms=99.999\n", HISTORY_ACCESS},
        {HEAD "request id=1 cause=full total_ms=100.0\n", HISTORY_TELLS},
        {HEAD "request id=1 queue_ms=100.0 total_ms=.\n", HISTORY_TELLS},
        {HEAD "request id=1 x_total_ms=1.0 cause=full n=1\n", HISTORY_TELLS},
        {HEAD "requests id=1 cause=full\n", HISTORY_EVENT},
        {HEAD "request", HISTORY_EVENT},
        {"no line of ours, request cause=x\n", HISTORY_EVENT},
        {"\n", HISTORY_EVENT},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(history_kind(rows[i].text, strlen(rows[i].text)),
                         rows[i].kind);
    }
    (void)state;
}

static size_t
add(struct history *h, const char *event, int n)
{
    char line[256];
    int len = snprintf(line, sizeof(line), HEAD "%s n=%d\n", event, n);

    history_add(h, line, (size_t)len);
    return (size_t)len;
}

static int
next(const struct history *h, struct history_mark *mark)
{
    char line[HISTORY_LINE + 1];
    size_t len = history_next(h, mark, line);
    int n = -1;

    line[len] = '\0';
    if (len > 0) {
        assert_int_equal(line[len - 1], '\n');
        assert_int_equal(sscanf(strstr(line, " n="), " n=%d", &n), 1);
    }
    return n;
}

static void
test_lines_come_in_order(void **state)
{
    struct history h;
    struct history_mark mark = {0};

    assert_int_equal(history_init(&h), 0);
    assert_int_equal(next(&h, &mark), -1);
    add(&h, "request id=1", 0);
    add(&h, "started", 1);
    add(&h, "output module=a", 2);
    add(&h, "request cause=full", 3);
    add(&h, "died", 4);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(next(&h, &mark), i);
    }
    assert_int_equal(next(&h, &mark), -1);
    add(&h, "started", 5);
    assert_int_equal(next(&h, &mark), 5);
    assert_int_equal(next(&h, &mark), -1);
    history_deinit(&h);
    history_deinit(&h);
    (void)state;
}

static void
test_accesses_drive_out_only_accesses(void **state)
{
    struct history h;
    struct history_mark mark = {0}, slow = {0};
    int n, last = -1, many = 0;

    assert_int_equal(history_init(&h), 0);
    add(&h, "died", 0);
    for (int i = 1; i <= 100000; i++) {
        add(&h, "request id=1", i);
        if (i == 10) {
            assert_int_equal(next(&h, &slow), 0);
            assert_int_equal(next(&h, &slow), 1);
        }
    }
    assert_int_equal(next(&h, &mark), 0);
    while ((n = next(&h, &mark)) >= 0) {
        assert_true(last < 0 || n == last + 1);
        last = n;
        many++;
    }
    assert_int_equal(last, 100000);
    assert_in_range(many, 4000, 20000);
    /* Who reads slowly misses some, and never sees half of one. */
    n = next(&h, &slow);
    assert_int_equal(n, 100001 - many);
    /* One that is too long is left out, not cut. */
    static char line[HISTORY_LINE + 1];
    memset(line, 'x', sizeof(line));
    history_add(&h, line, sizeof(line));
    assert_int_equal(next(&h, &mark), -1);
    history_deinit(&h);
    (void)state;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_lines_come_in_order),
        cmocka_unit_test(test_accesses_drive_out_only_accesses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
