/* What the writer makes of values and of nasty bytes, to the letter. (That
 * Python reads it back is tests/test_control.py.) */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

static void
test_structure(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct json j;

    json_init(&j, out);
    json_object(&j, NULL);
    json_list(&j, "empty");
    json_list_end(&j);
    json_list(&j, "list");
    json_num(&j, NULL, 1);
    json_object(&j, NULL);
    json_object_end(&j);
    json_bool(&j, NULL, false);
    json_list_end(&j);
    json_null(&j, "none");
    json_bool(&j, "yes", true);
    json_seconds(&j, "s", 12345678901ull);
    json_ms(&j, "ms", 7001999ull);
    json_num(&j, "most", UINT64_MAX);
    json_object_end(&j);
    fclose(out);
    assert_string_equal(text,
                        "{\"empty\":[],\"list\":[1,{},false],\"none\":null,"
                        "\"yes\":true,\"s\":12.345,\"ms\":7.001,"
                        "\"most\":9007199254740991}");
    free(text);
}

static const struct {
    const char *in, *out;
} rows[] = {
    {"plain", "\"plain\""},
    {"", "\"\""},
    {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
    {"\n\t\x01\x1f\x7f", "\"\\u000a\\u0009\\u0001\\u001f\\u007f\""},
    {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\xaa",
     "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\xaa\""},
    {"\xff", "\"\\ufffd\""},
    {"\xc3", "\"\\ufffd\""},            /* cut */
    {"\xe2\x82", "\"\\ufffd\\ufffd\""}, /* cut */
    {"\xf0\x9f\x9a", "\"\\ufffd\\ufffd\\ufffd\""},
    {"\xc0\xaf", "\"\\ufffd\\ufffd\""}, /* too long a form */
    {"\xe0\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\""},
    {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""}, /* a surrogate */
    {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
    {"\xc3\xa4\x80z", "\"\xc3\xa4\\ufffdz\""},
};

static void
test_strings(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        struct json j;

        json_init(&j, out);
        json_text(&j, NULL, rows[i].in);
        fclose(out);
        assert_string_equal(text, rows[i].out);
        free(text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_strings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
