/* Lines on the control socket and what they are understood as. */
#include "cohort/asked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

static const struct row {
    const char *line;
    size_t len; /* 0: as long as it is */
    enum control_asked asked;
    const char *why; /* its beginning */
} rows[] = {
    {"status", 0, ASKED_STATUS, ""},
    {"status\r", 0, ASKED_STATUS, ""},
    {"  status \t", 0, ASKED_STATUS, ""},
    {"status json", 0, ASKED_STATUS_JSON, ""},
    {"status \t  json\r", 0, ASKED_STATUS_JSON, ""},
    {"stop", 0, ASKED_STOP, ""},
    {"stop now", 0, ASKED_STOP_NOW, ""},
    {"help", 0, ASKED_HELP, ""},
    {"configuration", 0, ASKED_CONFIGURATION, ""},
    {"statusjson", 0, ASKED_NOTHING, "no request 'statusjson'; help"},
    {"stop  now please", 0, ASKED_NOTHING, "no request 'stop now please'"},
    {"STATUS", 0, ASKED_NOTHING, "no request 'STATUS'"},
    {"stat", 0, ASKED_NOTHING, "no request 'stat'"},
    {"", 0, ASKED_NOTHING, "nothing asked"},
    {"\r", 0, ASKED_NOTHING, "nothing asked"},
    {" \t ", 0, ASKED_NOTHING, "nothing asked"},
    {"status\0", 7, ASKED_NOTHING, "not a request"},
    {"stop\rnow", 0, ASKED_NOTHING, "not a request"},
    {"stop\nnow", 0, ASKED_NOTHING, "not a request"},
    {"\x1b[2Jstop", 0, ASKED_NOTHING, "not a request"},
    {"st\xc3\xb6p", 0, ASKED_NOTHING, "not a request"},
    {"GET / HTTP/1.1\r", 0, ASKED_NOTHING, "no request 'GET / HTTP/1.1'"},
};

static void
test_rows(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        size_t len = row->len > 0 ? row->len : strlen(row->line);
        char why[ASKED_WHY_MAX] = "";

        assert_int_equal(control_asked(row->line, len, why), row->asked);
        assert_memory_equal(why, row->why, strlen(row->why));
        assert_true(row->why[0] != '\0' || why[0] == '\0');
    }
}

/* Any length, also around the room that it has for words. */
static void
test_long(void **state)
{
    char line[4096];
    char why[ASKED_WHY_MAX];

    memset(line, 'x', sizeof(line));
    for (size_t len = 1; len <= sizeof(line); len++) {
        assert_int_equal(control_asked(line, len, why), ASKED_NOTHING);
        assert_memory_equal(why, len < 63 ? "no request" : "not a request", 10);
    }
    memset(line, ' ', sizeof(line));
    memcpy(line + 2000, "stop", 4);
    assert_int_equal(control_asked(line, sizeof(line), why), ASKED_STOP);
}

/* What is sent for a request is understood as it. */
static void
test_words(void **state)
{
    char why[ASKED_WHY_MAX];

    for (enum control_asked a = ASKED_HELP; a <= ASKED_STOP_NOW; a++) {
        const char *words = control_words(a);

        assert_int_equal(control_asked(words, strlen(words), why), a);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
