/* Lines that name their request, and lines that only look so. */
#include "cohort/tag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

static void
test_table(void **state)
{
    static const struct {
        const char *line, *request, *pid, *text;
    } rows[] = {
        {"request 1f-2 [345]: hello", "1f-2", "345", "hello"},
        {"request 1f-2: hello", "1f-2", NULL, "hello"},
        {"request - [345]: hello", NULL, "345", "hello"},
        {"request a: ", "a", NULL, ""},
        {"request -: x", NULL, NULL, "x"},
        {"request a_B.9 [1]: : [2]: x", "a_B.9", "1", ": [2]: x"},
        {"cardea-exec: request 1f-2: killed", "1f-2", NULL,
         "cardea-exec: request 1f-2: killed"},
        {"cardea-x: request a [7]: b", "a", "7", "cardea-x: request a [7]: b"},
        /* None: */
        {"", "", NULL, NULL},
        {"request", "", NULL, NULL},
        {"request ", "", NULL, NULL},
        {"request : x", "", NULL, NULL},
        {"request a", "", NULL, NULL},
        {"request a:x", "", NULL, NULL},
        {"request a b: x", "", NULL, NULL},
        {"request a [: x", "", NULL, NULL},
        {"request a []: x", "", NULL, NULL},
        {"request a [12: x", "", NULL, NULL},
        {"request a [1x]: x", "", NULL, NULL},
        {"request a [12345678901]: x", "", NULL, NULL},
        {"Request a: x", "", NULL, NULL},
        {" request a: x", "", NULL, NULL},
        {"cardea-: request a: x", "", NULL, NULL},
        {"cardea-exec request a: x", "", NULL, NULL},
        {"cardea-exec: a: x", "", NULL, NULL},
        {"nginx: request a: x", "", NULL, NULL},
        {"request a\"b: x", "", NULL, NULL},
        /* 65 bytes */
        {"request "
         "12345678901234567890123456789012345678901234567890123456789012345"
         ": x",
         "", NULL, NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t len = strlen(rows[i].line);
        struct tag tag;
        bool is = tag_parse(rows[i].line, len, &tag);

        assert_int_equal(is, rows[i].text != NULL);
        if (!is) {
            assert_null(tag.request);
            assert_null(tag.pid);
            assert_int_equal(tag.len, 0);
            continue;
        }
        assert_string_equal(rows[i].line + tag.len, rows[i].text);
        if (rows[i].request == NULL) {
            assert_null(tag.request);
        } else {
            assert_int_equal(tag.request_len, strlen(rows[i].request));
            assert_memory_equal(tag.request, rows[i].request, tag.request_len);
        }
        if (rows[i].pid == NULL) {
            assert_null(tag.pid);
        } else {
            assert_int_equal(tag.pid_len, strlen(rows[i].pid));
            assert_memory_equal(tag.pid, rows[i].pid, tag.pid_len);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
