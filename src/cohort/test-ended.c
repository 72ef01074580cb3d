/* Lines that tell of the end of a copy or of a command, and lines that only
 * look so. */
#include "cohort/ended.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

#define ID "0123456789abcdef"

static void
test_table(void **state)
{
    static const struct {
        const char *line, *name, *cause, *pid, *request;
    } rows[] = {
        {"cardea: copy 77 is killed: its call is past its time request=" ID,
         "deadline", "deadline", "77", ID},
        {"cardea: copy 77 is killed: its call is past its time", "deadline",
         "deadline", "77", NULL},
        {"cardea: copy 1234567890 is killed: it was not ready in time", "late",
         "late", "1234567890", NULL},
        {"cardea: copy 7 is killed: it is stopped request=" ID, "frozen",
         "frozen", "7", ID},
        {"cardea: copy 7 was ended by signal 11 (Segmentation fault)", "signal",
         "signal-SEGV", "7", NULL},
        {"cardea: copy 7 was ended by signal 9 (Killed) in request " ID,
         "signal", "signal-KILL", "7", ID},
        {"cardea: copy 7 was ended by signal 999 () before it was ready",
         "signal", "signal-other", "7", NULL},
        {"cardea: copy 7 exited with status 0 in request " ID, "exit", "exit-0",
         "7", ID},
        {"cardea: copy 7 exited with status 255", "exit", "exit-255", "7",
         NULL},
        {"cardea-exec: request " ID
         ": the command was killed: its time was over (process 12)",
         "deadline", "deadline", "12", ID},
        /* None: */
        {"", NULL, NULL, NULL, NULL},
        {"hello", NULL, NULL, NULL, NULL},
        {"cardea: copy ", NULL, NULL, NULL, NULL},
        {"cardea: copy x exited with status 1", NULL, NULL, NULL, NULL},
        {"cardea: copy 12345678901 exited with status 1", NULL, NULL, NULL,
         NULL},
        {"cardea: copy 7", NULL, NULL, NULL, NULL},
        {"cardea: copy 7 left", NULL, NULL, NULL, NULL},
        {"cardea: copy 7 is killed: for fun", NULL, NULL, NULL, NULL},
        {"cardea: copy 7 is killed: it is stopped request=12", NULL, NULL, NULL,
         NULL},
        {"cardea: copy 7 is killed: it is stopped request=" ID "0", NULL, NULL,
         NULL, NULL},
        {"cardea: copy 7 is killed: it is stopped x", NULL, NULL, NULL, NULL},
        {"cardea: copy 7 was ended by signal 9", NULL, NULL, NULL, NULL},
        {"cardea: copy 7 was ended by signal 9 (Killed", NULL, NULL, NULL,
         NULL},
        {"cardea: copy 7 was ended by signal  (Killed)", NULL, NULL, NULL,
         NULL},
        {"cardea: copy 7 exited with status ", NULL, NULL, NULL, NULL},
        {"cardea: copy 7 exited with status 1 in request 7", NULL, NULL, NULL,
         NULL},
        {"cardea: copy 7 exited with status 1234", NULL, NULL, NULL, NULL},
        {"cardea-exec: request - : the command was killed", NULL, NULL, NULL,
         NULL},
        {"request a: the command was killed: its time was over (process 12)",
         NULL, NULL, NULL, NULL},
        {"cardea-exec: request a: the command was killed: its time was over",
         NULL, NULL, NULL, NULL},
        {"cardea-exec: request a: the command was killed: its time was over "
         "(process )",
         NULL, NULL, NULL, NULL},
        {"cardea-exec: request a: the command was killed: its time was over "
         "(process 7",
         NULL, NULL, NULL, NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ended e;
        char cause[ENDED_CAUSE_MAX];
        bool is = ended_parse(rows[i].line, strlen(rows[i].line), &e);

        assert_int_equal(is, rows[i].name != NULL);
        if (!is) {
            assert_int_equal(e.why, ENDED_N);
            assert_null(e.pid);
            assert_null(e.request);
            continue;
        }
        ended_cause(&e, cause);
        assert_string_equal(ended_name(e.why), rows[i].name);
        assert_string_equal(cause, rows[i].cause);
        assert_int_equal(e.pid_len, strlen(rows[i].pid));
        assert_memory_equal(e.pid, rows[i].pid, e.pid_len);
        if (rows[i].request == NULL) {
            assert_null(e.request);
        } else {
            assert_int_equal(e.request_len, strlen(rows[i].request));
            assert_memory_equal(e.request, rows[i].request, e.request_len);
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
