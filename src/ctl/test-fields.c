/* Lines of the log, and bytes that are none. */
#include "ctl/fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

static void
test_lines(void **state)
{
    static const struct {
        const char *line, *key, *value; /* KEY NULL: no line */
    } rows[] = {
        {"2026Z level=info event=x", "time", "2026Z"},
        {"2026Z level=info event=x", "event", "x"},
        {"2026Z a=", "a", ""},
        {"2026Z a=\"\"", "a", ""},
        {"2026Z a=\"b c=d\" e=f", "a", "b c=d"},
        {"2026Z a=\"b c=d\" e=f", "e", "f"},
        {"2026Z a=\"\\\"\\\\\\x41\\x0a\"", "a", "\"\\A\n"},
        {"2026Z a=\"\\x00\"", "a", "?"},
        {"2026Z a=b=c", "a", "b=c"},
        {"2026Z a=1 a=2", "a", "1"},
        {"2026Z a=1", "b", ""},
        {"2026Z ", "time", "2026Z"},
        {"2026Z", NULL, NULL},
        {"", NULL, NULL},
        {" a=b", NULL, NULL},
        {"a=b c=d", NULL, NULL},
        {"2026Z a", NULL, NULL},
        {"2026Z =b", NULL, NULL},
        {"2026Z a=\"b", NULL, NULL},
        {"2026Z a=\"b\"c", NULL, NULL},
        {"2026Z a=\"b\\", NULL, NULL},
        {"2026Z a=b  c=d", NULL, NULL},
    };
    static struct fields f;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(fields_parse(&f, rows[i].line), rows[i].key != NULL);
        if (rows[i].key != NULL) {
            assert_string_equal(fields_text(&f, rows[i].key), rows[i].value);
        }
    }
    (void)state;
}

static void
test_bounds(void **state)
{
    static struct fields f;
    static char line[5000];

    snprintf(line, sizeof line, "2026Z");
    for (int i = 0; i < 200; i++) {
        strncat(line, " a=b", sizeof line - strlen(line) - 1);
    }
    assert_true(fields_parse(&f, line));
    assert_int_equal(f.n, 96);
    memset(line, 'x', 4097);
    memcpy(line, "2026Z a=", 8);
    line[4096] = '\0';
    assert_true(fields_parse(&f, line));
    line[4096] = 'x';
    line[4097] = '\0';
    assert_false(fields_parse(&f, line));
    (void)state;
}

static void
test_json(void **state)
{
    static struct fields f;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct json j;

    assert_true(fields_parse(
        &f, "2026Z id=0000000000000012 pid=77 run_ms=12.345 zero=0 octal=012 "
            "name=5 list=1,2 big=99999999999999999999 half=1.5 at=0.001"));
    assert_int_equal(fields_num(&f, "pid"), 77);
    assert_int_equal(fields_num(&f, "run_ms"), 12);
    assert_int_equal(fields_num(&f, "none"), 0);
    assert_int_equal(fields_num(&f, "time"), 2026);
    json_init(&j, out);
    json_object(&j, NULL);
    fields_json(&f, &j);
    json_object_end(&j);
    fclose(out);
    assert_string_equal(
        text, "{\"time\":\"2026Z\",\"id\":\"0000000000000012\",\"pid\":77,"
              "\"run_ms\":12.345,\"zero\":0,\"octal\":\"012\",\"name\":\"5\","
              "\"list\":\"1,2\",\"big\":\"99999999999999999999\","
              "\"half\":\"1.5\",\"at\":0.001}");
    free(text);
    (void)state;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
