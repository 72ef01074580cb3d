/* Chunked bodies: each whole, byte by byte and cut in two at every place. */
#include "test-request.h"

#include "http/chunk.h"

struct result {
    int rc;
    size_t out, used;
    char body[40000];
};

/* Feeds pieces of STEP bytes, the first of FIRST. */
static void
decode(const char *bytes, size_t len, size_t first, size_t step,
       struct result *r)
{
    struct http_chunk c = {0};
    size_t at = 0, n = first;

    r->rc = 1;
    r->out = r->used = 0;
    while (r->rc == 1 && at < len) {
        size_t piece = len - at < n ? len - at : n, out, used;
        char *copy = copy_exact(bytes + at, piece);

        r->rc = http_chunk_decode(&c, copy, piece, &out, &used);
        assert_true(out <= used && used <= piece);
        assert_true(r->rc != 1 || used == piece);
        memcpy(r->body + r->out, copy, out);
        free(copy);
        r->out += out;
        r->used += used;
        at += piece;
        n = step;
    }
}

static struct result whole, part;

/* All ways to cut; the result stays in WHOLE. */
static void
decode_all(const char *bytes, size_t len)
{
    decode(bytes, len, len, len, &whole);
    decode(bytes, len, 1, 1, &part);
    for (size_t i = 1;; i++) {
        assert_int_equal(part.rc, whole.rc);
        assert_int_equal(part.out, whole.out);
        assert_int_equal(part.used, whole.used);
        assert_memory_equal(part.body, whole.body, whole.out);
        if (i >= len) {
            break;
        }
        decode(bytes, len, i, len, &part);
    }
}

static void
test_good(void **state)
{
    static const struct {
        const char *bytes, *body;
        size_t left; /* bytes behind the body */
        int rc;
    } table[] = {
        {"0\r\n\r\n", "", 0, 2},
        {"000000000000000\r\n\r\n", "", 0, 2},
        {"5\r\nhello\r\n0\r\n\r\n", "hello", 0, 2},
        {"5\r\nhello\r\n0\r\n\r\nGET /", "hello", 5, 2},
        {"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", 0, 2},
        {"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
         "01234567890123456789", 0, 2},
        {"000000000000002\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0, 2},
        {"1;a\r\nx\r\n0;b\r\n\r\n", "x", 0, 2},
        {"1;a=b\r\nx\r\n0\r\n\r\n", "x", 0, 2},
        {"1;a=b;c=\"d\";e\r\nx\r\n0\r\n\r\n", "x", 0, 2},
        {"1 ; a = b ;\tc = \"d\" ;e\r\nx\r\n0\r\n\r\n", "x", 0, 2},
        {"1;a=\"\"\r\nx\r\n0\r\n\r\n", "x", 0, 2},
        {"1;a=\"b \\\" \\\\ ;=:\xc3\xa4\t{}\"\r\nx\r\n0\r\n\r\n", "x", 0, 2},
        {"1;f=f;g=\"f\\f\"\r\nx\r\n0\r\n\r\n", "x", 0, 2},
        {"0\r\nA: b\r\n\r\n", "", 0, 2},
        {"0\r\nA:\r\nbad: \"c\\ ;=:{\xc3\xa4\r\n\r\nX", "", 1, 2},
        {"0\r\nContent-Length: 5\r\n\r\n", "", 0, 2},
        {"", "", 0, 1},
        {"5", "", 0, 1},
        {"5\r", "", 0, 1},
        {"5\r\nhel", "hel", 0, 1},
        {"5\r\nhello", "hello", 0, 1},
        {"5\r\nhello\r\n", "hello", 0, 1},
        {"5\r\nhello\r\n0\r\n", "hello", 0, 1},
        {"5\r\nhello\r\n0\r\n\r", "hello", 0, 1},
        {"5\r\nhello\r\n0\r\nA: b\r\n", "hello", 0, 1},
        {"fffffffffffffff\r\nx", "x", 0, 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len = strlen(table[i].bytes);

        decode_all(table[i].bytes, len);
        if (whole.rc != table[i].rc) {
            fail_msg("%s: %d", table[i].bytes, whole.rc);
        }
        assert_int_equal(whole.out, strlen(table[i].body));
        assert_memory_equal(whole.body, table[i].body, whole.out);
        assert_int_equal(whole.used, len - table[i].left);
    }
}

static void
test_bad(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } table[] = {
        {TEXT("\r\n")},
        {TEXT("\n")},
        {TEXT("x")},
        {TEXT("g\r\n")},
        {TEXT(" 5\r\nhello\r\n")},
        {TEXT("\t5\r\nhello\r\n")},
        {TEXT("+5\r\nhello\r\n")},
        {TEXT("-5\r\nhello\r\n")},
        {TEXT("-0\r\n\r\n")},
        {TEXT("0x5\r\nhello\r\n")},
        {TEXT("0X5\r\nhello\r\n")},
        {TEXT("5_0\r\nhello\r\n")},
        {TEXT("5h\r\nhello\r\n")},
        {TEXT("5.0\r\nhello\r\n")},
        {TEXT("\"5\"\r\nhello\r\n")},
        {TEXT(";a\r\nhello\r\n")},
        {TEXT("5 \r\nhello\r\n")},
        {TEXT("5\t\r\nhello\r\n")},
        {TEXT("5 5\r\nhello\r\n")},
        {TEXT("0000000000000000\r\n\r\n")},
        {TEXT("0000000000000005\r\nhello\r\n")},
        {TEXT("1000000000000000\r\n")},
        {TEXT("ffffffffffffffff\r\n")},
        {TEXT("10000000000000005\r\nhello\r\n")},
        {TEXT("5\nhello\n0\n\n")},
        {TEXT("5\nhello\r\n")},
        {TEXT("5\rhello\r\n")},
        {TEXT("5\r\r\nhello\r\n")},
        {TEXT("5\0\r\nhello\r\n")},
        {TEXT("5\r\nhello\n")},
        {TEXT("5\r\nhello\r\r")},
        {TEXT("5\r\nhello0\r\n")},
        {TEXT("5\r\nhello!\r\n")},
        {TEXT("5\r\nhello\r\n\r\n")},
        {TEXT("1;\r\nx\r\n")},
        {TEXT("1;;\r\nx\r\n")},
        {TEXT("1;a;\r\nx\r\n")},
        {TEXT("1;a \r\nx\r\n")},
        {TEXT("1;a=b \r\nx\r\n")},
        {TEXT("1;a=\"b\" \r\nx\r\n")},
        {TEXT("1;a=\r\nx\r\n")},
        {TEXT("1;=b\r\nx\r\n")},
        {TEXT("1;a b\r\nx\r\n")},
        {TEXT("1;a=b c\r\nx\r\n")},
        {TEXT("1;a==b\r\nx\r\n")},
        {TEXT("1;a=\"b\"c\r\nx\r\n")},
        {TEXT("1;a=b\"c\"\r\nx\r\n")},
        {TEXT("1;a=\"b\r\nx\r\n")},
        {TEXT("1;a=\"b\\\r\nx\r\n")},
        {TEXT("1;a\nx\r\n")},
        {TEXT("1;a=b\nx\r\n")},
        {TEXT("1;a=\"\n\"\r\nx\r\n")},
        {TEXT("1;a\rx\r\n")},
        {TEXT("1;a\0\r\nx\r\n")},
        {TEXT("1;a=\"\0\"\r\nx\r\n")},
        {TEXT("1;a=\"\x7f\"\r\nx\r\n")},
        {TEXT("1;a=\"\\\x01\"\r\nx\r\n")},
        {TEXT("1;\xc3\xa4\r\nx\r\n")},
        {TEXT("1:a\r\nx\r\n")},
        {TEXT("0\r\n\n")},
        {TEXT("0\r\n\rX")},
        {TEXT("0\r\nA\r\n\r\n")},
        {TEXT("0\r\n: b\r\n\r\n")},
        {TEXT("0\r\nA : b\r\n\r\n")},
        {TEXT("0\r\n A: b\r\n\r\n")},
        {TEXT("0\r\nA: b\r\n c\r\n\r\n")},
        {TEXT("0\r\nA: b\n\r\n")},
        {TEXT("0\r\nA: b\rc\r\n\r\n")},
        {TEXT("0\r\nA: b\0\r\n\r\n")},
        {TEXT("0\r\nA: b\x7f\r\n\r\n")},
        {TEXT("0\r\nA/B: c\r\n\r\n")},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        decode_all(table[i].bytes, table[i].len);
        if (whole.rc != 400) {
            fail_msg("row %zu: %s: %d", i, table[i].bytes, whole.rc);
        }
    }
}

/* A verdict stays. */
static void
test_final(void **state)
{
    struct http_chunk c = {0};
    char bad[] = "x", good[] = "0\r\n\r\n", more[] = "0\r\n\r\n";
    size_t out, used;

    (void)state;
    assert_int_equal(http_chunk_decode(&c, bad, 1, &out, &used), 400);
    assert_int_equal(http_chunk_decode(&c, good, 5, &out, &used), 400);
    assert_int_equal(used, 0);
    memset(&c, 0, sizeof(c));
    assert_int_equal(http_chunk_decode(&c, good, 5, &out, &used), 2);
    assert_int_equal(used, 5);
    assert_int_equal(http_chunk_decode(&c, more, 5, &out, &used), 2);
    assert_int_equal(used, 0);
    assert_int_equal(http_chunk_decode(&c, more, 0, &out, &used), 2);
}

static void
test_limits(void **state)
{
    static const struct {
        const char *before;
        size_t fill;
        const char *after;
        int rc;
    } table[] = {
        {"1;", 1023, "\r\nx\r\n0\r\n\r\n", 2},
        {"1;", 1024, "\r\nx\r\n0\r\n\r\n", 400},
        {"1;", 1023, "\r\nx\r\n1;b\r\nx\r\n0;c\r\n\r\n", 2},
        {"1;a=\"", 1019, "\"\r\nx\r\n0\r\n\r\n", 2},
        {"1;a=\"", 1020, "\"\r\nx\r\n0\r\n\r\n", 400},
        {"0\r\na:", 8188, "\r\n\r\n", 2},
        {"0\r\na:", 8189, "\r\n\r\n", 400},
        {"0\r\na:b\r\na:", 8183, "\r\n\r\n", 2},
        {"0\r\na:b\r\na:", 8184, "\r\n\r\n", 400},
        {"0;e\r\na:", 8188, "\r\n\r\n", 2},
        {"0\r\n", 8193, "", 400},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        char *text = calloc(1, 10000);
        size_t n = strlen(table[i].before);

        assert_non_null(text);
        memcpy(text, table[i].before, n);
        memset(text + n, 'a', table[i].fill);
        memcpy(text + n + table[i].fill, table[i].after,
               strlen(table[i].after) + 1);
        n = strlen(text);
        decode(text, n, n, n, &whole);
        assert_int_equal(whole.rc, table[i].rc);
        decode(text, n, 1, 1, &whole);
        assert_int_equal(whole.rc, table[i].rc);
        decode(text, n, 1000, 13, &whole);
        assert_int_equal(whole.rc, table[i].rc);
        free(text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_final),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
