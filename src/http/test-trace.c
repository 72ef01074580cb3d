/* traceparent: what is one, and what restarts the trace. */
#include "http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ID   "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"

static const struct {
    const char *text;
    bool good;
} rows[] = {
    {"00-" ID "-" SPAN "-01", true},
    {"00-" ID "-" SPAN "-00", true},
    {"00-" ID "-" SPAN "-ff", true},
    {"cc-" ID "-" SPAN "-01", true},
    {"cc-" ID "-" SPAN "-01-what-comes-later", true},
    {"cc-" ID "-" SPAN "-01.", false},
    {"00-" ID "-" SPAN "-01-", false},
    {"ff-" ID "-" SPAN "-01", false},
    {"00-00000000000000000000000000000000-" SPAN "-01", false},
    {"00-00000000000000000000000000000001-" SPAN "-01", true},
    {"00-" ID "-0000000000000000-01", false},
    {"00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", false},
    {"00-" ID "-" SPAN "-0g", false},
    {"00-" ID "-" SPAN "-0", false},
    {"0--" ID "-" SPAN "-01", false},
    {"00_" ID "-" SPAN "-01", false},
    {"00-" ID "_" SPAN "-01", false},
    {"00-" ID "-" SPAN "_01", false},
    {"00-" ID "-b7ad6b716920333x-01", false},
    {"00-xaf7651916cd43dd8448eb211c80319c-" SPAN "-01", false},
    {"00-0af7651916cd43dd8448eb211c80319x-" SPAN "-01", false},
    {"", false},
    {"00", false},
};

static void
test_rows(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = strlen(rows[i].text);
        char *exact = malloc(len + 1); /* ASan sees a look beyond */
        struct http_trace trace;

        memcpy(exact, rows[i].text, len);
        exact = realloc(exact, len > 0 ? len : 1);
        assert_int_equal(http_trace_parse(exact, len, &trace), rows[i].good);
        free(exact);
    }
    (void)state;
}

static void
test_printed(void **state)
{
    struct http_trace trace;
    char text[56];

    assert_true(http_trace_parse("cc-" ID "-" SPAN "-ff-x", 57, &trace));
    assert_true(trace.id[0] == 0x0af7651916cd43ddull);
    assert_true(trace.id[1] == 0x8448eb211c80319cull);
    assert_true(trace.span == 0xb7ad6b7169203331ull);
    assert_int_equal(trace.flags, 0xff);
    trace.span = 0x1f;
    http_trace_print(&trace, text);
    /* Our version, and only the flags that it knows. */
    assert_string_equal(text, "00-" ID "-000000000000001f-01");
    (void)state;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
