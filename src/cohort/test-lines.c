/* Streams cut into lines: literal pieces in, literal lines out. */
#include "cohort/lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

struct got {
    char text[65536];
    size_t len;
    size_t longest;
};

static void
take(void *arg, const char *text, size_t len, bool more)
{
    struct got *got = arg;

    memcpy(got->text + got->len, text, len);
    got->len += len;
    got->text[got->len++] = more ? '>' : '|';
    got->text[got->len] = '\0';
    got->longest = MAX_OF(got->longest, len);
}

static void
test_pieces(void **state)
{
    static const struct {
        const char *pieces[4];
        const char *lines;
    } rows[] = {
        {{"one\ntwo\n"}, "one|two|"},
        {{"o", "n", "e\nt", "wo\n"}, "one|two|"},
        {{"\n\n"}, "||"},
        {{"no end"}, "no end|"},
        {{"a\nno ", "end"}, "a|no end|"},
        {{""}, ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct lines lines = {.len = 0};
        static struct got got;

        memset(&got, 0, sizeof(got));
        for (size_t p = 0; p < 4 && rows[i].pieces[p] != NULL; p++) {
            lines_add(&lines, rows[i].pieces[p], strlen(rows[i].pieces[p]),
                      take, &got);
        }
        lines_end(&lines, take, &got);
        assert_string_equal(got.text, rows[i].lines);
    }
}

/* A long line is cut where its quoted form reaches 1900 bytes. */
static void
test_long(void **state)
{
    static const struct {
        char byte;
        size_t piece;
    } rows[] = {{'x', 1900}, {'"', 950}, {'\\', 950}, {'\x01', 475}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct lines lines = {.len = 0};
        static struct got got;
        char bytes[5000];

        memset(&got, 0, sizeof(got));
        memset(bytes, rows[i].byte, sizeof(bytes));
        bytes[4999] = '\n';
        lines_add(&lines, bytes, sizeof(bytes), take, &got);
        assert_int_equal(got.longest, rows[i].piece);
        assert_int_equal(got.text[rows[i].piece], '>');
        assert_int_equal(got.text[got.len - 1], '|');
        assert_int_equal(got.len, 4999 + (4999 - 1) / rows[i].piece + 1);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
