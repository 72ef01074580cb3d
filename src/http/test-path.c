/* Decoding of paths. */
#include "test-request.h"

static const struct {
    const char *path, *out; /* NULL: refused */
} table[] = {
    {"/", "/"},
    {"/a", "/a"},
    {"/a/", "/a/"},
    {"/a/b.c", "/a/b.c"},
    {"//", "/"},
    {"///a////b//", "/a/b/"},
    {"/.", "/"},
    {"/./", "/"},
    {"/a/.", "/a/"},
    {"/a/./b", "/a/b"},
    {"/a/..", "/"},
    {"/a/../", "/"},
    {"/a/../b", "/b"},
    {"/a/b/..", "/a/"},
    {"/a/b/../..", "/"},
    {"/a/b/../../c", "/c"},
    {"/a/bc/../d/./e//f", "/a/d/e/f"},
    {"/a//../b", "/b"},
    {"/...", "/..."},
    {"/a/.../b", "/a/.../b"},
    {"/.a", "/.a"},
    {"/..a", "/..a"},
    {"/a..", "/a.."},
    {"/a./b", "/a./b"},
    {"/%41%6a%6A", "/Ajj"},
    {"/a%20b", "/a b"},
    {"/%25", "/%"},
    {"/%252e%252e/", "/%2e%2e/"},
    {"/%252f", "/%2f"},
    {"/%3f%23", "/?#"},
    {"/a/%2e%2e/b", "/b"},
    {"/a/.%2E/b", "/b"},
    {"/a/%2e/b", "/a/b"},
    {"/%c3%a4", "/\xc3\xa4"},
    {"/\xc3\xa4", "/\xc3\xa4"},
    {"/%e2%82%ac", "/\xe2\x82\xac"},
    {"/%ed%9f%bf", "/\xed\x9f\xbf"},
    {"/%ee%80%80", "/\xee\x80\x80"},
    {"/%f0%9f%98%80", "/\xf0\x9f\x98\x80"},
    {"/%f4%8f%bf%bf", "/\xf4\x8f\xbf\xbf"},
    {"/%e0%a0%80", "/\xe0\xa0\x80"},
    {"/%f0%90%80%80", "/\xf0\x90\x80\x80"},
    {"", NULL},
    {"a", NULL},
    {"*", NULL},
    {"%2fa", NULL},
    {"/..", NULL},
    {"/../", NULL},
    {"/../a", NULL},
    {"//..", NULL},
    {"/./..", NULL},
    {"/a/../..", NULL},
    {"/a/../../b", NULL},
    {"/%2e%2e", NULL},
    {"/%2e./", NULL},
    {"/%", NULL},
    {"/%4", NULL},
    {"/%4g", NULL},
    {"/%g4", NULL},
    {"/%%41", NULL},
    {"/%u0041", NULL},
    {"/% 1", NULL},
    {"/%+1", NULL},
    {"/%0x", NULL},
    {"/a%2fb", NULL},
    {"/a%2Fb", NULL},
    {"/%00", NULL},
    {"/a%00.html", NULL},
    {"/\\", NULL},
    {"/%5c", NULL},
    {"/%5C..%5C", NULL},
    {"/%01", NULL},
    {"/%0d%0a", NULL},
    {"/%09", NULL},
    {"/%1f", NULL},
    {"/%7f", NULL},
    {"/\x01", NULL},
    {"/\x7f", NULL},
    {"/%80", NULL},
    {"/%bf", NULL},
    {"/%c0%ae", NULL},
    {"/%c0%af", NULL},
    {"/%c1%bf", NULL},
    {"/%c2", NULL},
    {"/%c2a", NULL},
    {"/%c2/%80", NULL},
    {"/%e0%80%af", NULL},
    {"/%e0%9f%bf", NULL},
    {"/%e2%82", NULL},
    {"/%e2%82/", NULL},
    {"/%ed%a0%80", NULL},
    {"/%ed%bf%bf", NULL},
    {"/%f0%80%80%af", NULL},
    {"/%f0%8f%bf%bf", NULL},
    {"/%f0%9f%98", NULL},
    {"/%f4%90%80%80", NULL},
    {"/%f5%80%80%80", NULL},
    {"/%f8%88%80%80%80", NULL},
    {"/%fe", NULL},
    {"/%ff", NULL},
    {"/%ff/../a", NULL},
};

static void
test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len = strlen(table[i].path);
        char *path = copy_exact(table[i].path, len);
        char *out = copy_exact(path, len);
        int n;

        free(out);
        out = malloc(len + 1);
        assert_non_null(out);
        n = http_path_decode(path, len, out);
        if (table[i].out == NULL) {
            if (n != -1) {
                fail_msg("%s: %d, not -1", table[i].path, n);
            }
        } else {
            if (n < 0) {
                fail_msg("%s: refused", table[i].path);
            }
            assert_string_equal(out, table[i].out);
            assert_int_equal(n, strlen(table[i].out));
        }
        free(out);
        free(path);
    }
}

/* NUL as a plain byte, too. */
static void
test_nul(void **state)
{
    char out[8];

    (void)state;
    assert_int_equal(http_path_decode("/a\0b", 4, out), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
