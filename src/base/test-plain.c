/* What a terminal is shown of somebody else's text. */
#include "base/plain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/util.h"

static void
test_put(void **state)
{
    static const struct {
        const char *text, *shown;
    } table[] = {
        {"", ""},
        {"/run/cardea", "/run/cardea"},
        {"\x1b[31mred\x07\n\t\r\x7f", "?[31mred?????"},
        {"\xc3\xa4\xe2\x82\xac", "\xc3\xa4\xe2\x82\xac"},
        {"\xc2\x9b"
         "31m\xc2\xa0",
         "?31m\xc2\xa0"},
        {"\xff\xc3(", "?"
                      "?("},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);

        plain_put(out, table[i].text);
        fclose(out);
        assert_string_equal(text, table[i].shown);
        free(text);
    }
}

static void
test_short(void **state)
{
    static const struct {
        const char *text;
        int columns, took;
        const char *shown;
    } table[] = {
        {"", 8, 0, ""},
        {"12345678", 8, 8, "12345678"},
        {"123456789", 8, 8, "12...789"},
        {"/srv/www/site/none.door", 14, 14, "/srv/...e.door"},
        /* Characters are counted, not bytes, and never cut. */
        {"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", 8,
         8, "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"},
        {"\xc3\xa4\xc3\xa4zzzzz\x1b"
         "b\xc3\xb6",
         8, 8, "\xc3\xa4\xc3\xa4...?b\xc3\xb6"},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);

        assert_int_equal(plain_put_short(out, table[i].text, table[i].columns),
                         table[i].took);
        fclose(out);
        assert_string_equal(text, table[i].shown);
        free(text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
