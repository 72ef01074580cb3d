/* Heads of replies: from plain doors, from CGI scripts, and bare fields. */
#include "test-request.h"

#include <stdio.h>

struct row {
    const char *bytes;
    size_t len;
    int verdict;
};

#define OK "HTTP/1.1 200 OK\r\n"

typedef int (*parse_function)(const char *, size_t, struct http_response *);

/* Whole, and each shorter piece: MORE until the verdict, which then stays. */
static int
parse_grown(parse_function fn, const char *bytes, size_t len,
            struct http_response *resp)
{
    int rc = 1, last = 1;

    for (size_t i = 0; i <= len; i++) {
        char *copy = copy_exact(bytes, i);

        rc = fn(copy, i, resp);
        free(copy);
        if (last != 1) {
            assert_int_equal(rc, last);
        }
        last = rc;
    }
    return rc;
}

static void
check(parse_function fn, const struct row *table, size_t n)
{
    struct http_response resp;

    for (size_t i = 0; i < n; i++) {
        int rc = parse_grown(fn, table[i].bytes, table[i].len, &resp);

        if (rc != table[i].verdict) {
            fail_msg("%s: %d, not %d", table[i].bytes, rc, table[i].verdict);
        }
    }
}

static void
test_response(void **state)
{
    static const char head[] = "HTTP/1.1 404 Not here\r\nA: b\r\n"
                               "Content-Length: 3\r\n\r\nabc";
    struct http_response resp;

    (void)state;
    assert_int_equal(http_response_parse(TEXT(head), &resp), 0);
    assert_int_equal(resp.head_len, sizeof(head) - 4);
    assert_int_equal(resp.status, 404);
    assert_int_equal(resp.minor, 1);
    assert_int_equal(resp.n_fields, 2);
    assert_true(resp.has_length);
    assert_true(resp.keep_alive);
    assert_false(resp.chunked);
    assert_int_equal(resp.content_length, 3);
    assert_memory_equal(head + resp.fields[0].value.off, "b", 1);
    assert_int_equal(http_response_parse(TEXT("HTTP/1.0 200 \r\n"
                                              "Connection: keep-alive\r\n\r\n"),
                                         &resp),
                     0);
    assert_int_equal(resp.minor, 0);
    assert_true(resp.keep_alive);
    assert_false(resp.has_length);
    assert_int_equal(
        http_response_parse(TEXT(OK "Transfer-Encoding: chunked"
                                    "\r\nConnection: close\r\n\r\n"),
                            &resp),
        0);
    assert_true(resp.chunked);
    assert_false(resp.keep_alive);
}

static void
test_response_table(void **state)
{
    static const struct row table[] = {
        {TEXT(OK "\r\n"), 0},
        {TEXT("HTTP/1.1 200 \r\n\r\n"), 0},
        {TEXT("HTTP/1.1 599 \xc3\xa4\tb\r\n\r\n"), 0},
        {TEXT("HTTP/1.1 100 Continue\r\n\r\n"), 0},
        {TEXT("HTTP/1.7 200 OK\r\n\r\n"), 0},
        {TEXT("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"), 0},
        {TEXT("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), 0},
        {TEXT("HTTP/1.1 200 OK\r\nA: b\r\n"), 1},
        {TEXT("HTTP/1.1 200\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 099 X\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 600 X\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 20 OK\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 2000 OK\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 2x0 OK\r\n\r\n"), 502},
        {TEXT("HTTP/1.1  200 OK\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 200 O\x01K\r\n\r\n"), 502},
        {TEXT("HTTP/2.0 200 OK\r\n\r\n"), 502},
        {TEXT("http/1.1 200 OK\r\n\r\n"), 502},
        {TEXT("HTTP/1.1\r\n\r\n"), 502},
        {TEXT("\r\n" OK "\r\n"), 502},
        {TEXT(" " OK "\r\n"), 502},
        {TEXT("HTTP/1.1 200 OK\n\n"), 502},
        {TEXT(OK "A: b\n\r\n"), 502},
        {TEXT(OK "A: b\rc\r\n\r\n"), 502},
        {TEXT(OK "A: b\0c\r\n\r\n"), 502},
        {TEXT(OK "A : b\r\n\r\n"), 502},
        {TEXT(OK "A: b\r\n c\r\n\r\n"), 502},
        {TEXT(OK ": b\r\n\r\n"), 502},
        {TEXT(OK "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), 502},
        {TEXT(OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
         502},
        {TEXT(OK "Content-Length: +1\r\n\r\n"), 502},
        {TEXT(OK "Content-Length: 18446744073709551616\r\n\r\n"), 502},
        {TEXT(OK "Transfer-Encoding: gzip\r\n\r\n"), 502},
        {TEXT(OK "Connection: a b\r\n\r\n"), 502},
        {TEXT("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 204 X\r\nContent-Length: 1\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n"), 502},
        {TEXT("HTTP/1.1 103 X\r\nContent-Length: 1\r\n\r\n"), 502},
    };

    (void)state;
    check(http_response_parse, table, COUNT(table));
}

static void
test_cgi(void **state)
{
    static const char head[] = "Content-Type: text/plain\n"
                               "Status: 404 Not Found\r\n"
                               "X_y: z\n\nbody";
    static const struct {
        const char *head;
        int status;
        unsigned n_fields;
    } table[] = {
        {"Content-Type: a/b\n\n", 200, 1},
        {"Content-Type: a/b\r\n\r\n", 200, 1},
        {"Content-Type: a/b\n\r\n", 200, 1},
        {"Status: 204\n\n", 204, 0},
        {"Status: 500 \n\n", 500, 0},
        {"STATUS:201 Made\n\n", 201, 0},
        {"Location: http://example.org/\n\n", 302, 1},
        {"Location: urn:a\n\n", 302, 1},
        {"Location: /a:b\n\n", 200, 1},
        {"Location: a/b:c\n\n", 200, 1},
        {"Location: 1a:c\n\n", 200, 1},
        {"Location: :c\n\n", 200, 1},
        {"Location: http://example.org/\nStatus: 301 X\n\n", 301, 1},
        {"Status: 307 X\nLocation: http://example.org/\n\n", 307, 1},
        {"Set-Cookie: a=b\nSet-Cookie: c=d\n\n", 200, 2},
    };
    struct http_response resp;

    (void)state;
    assert_int_equal(http_cgi_parse(TEXT(head), &resp), 0);
    assert_int_equal(resp.head_len, sizeof(head) - 5);
    assert_int_equal(resp.status, 404);
    assert_int_equal(resp.n_fields, 2);
    assert_int_equal(resp.minor, 1);
    assert_false(resp.chunked);
    assert_false(resp.has_length);
    assert_memory_equal(head + resp.fields[1].name.off, "X_y", 3);
    assert_int_equal(resp.fields[1].value.len, 1);
    assert_int_equal(
        http_cgi_parse(TEXT("Status: 200\nContent-Length: 12\n\n"), &resp), 0);
    assert_true(resp.has_length);
    assert_int_equal(resp.content_length, 12);
    for (size_t i = 0; i < COUNT(table); i++) {
        assert_int_equal(parse_grown(http_cgi_parse, table[i].head,
                                     strlen(table[i].head), &resp),
                         0);
        assert_int_equal(resp.status, table[i].status);
        assert_int_equal(resp.n_fields, table[i].n_fields);
    }
}

static void
test_cgi_table(void **state)
{
    static const struct row table[] = {
        {TEXT(""), 1},
        {TEXT("Content-Type: a/b\n"), 1},
        {TEXT("Content-Type: a/b\r\n\r"), 1},
        {TEXT("\n"), 502},
        {TEXT("\r\n"), 502},
        {TEXT("\nA: b\n\n"), 502},
        {TEXT("A\n\n"), 502},
        {TEXT(": b\n\n"), 502},
        {TEXT("A : b\n\n"), 502},
        {TEXT("A: b\n c\n\n"), 502},
        {TEXT("A: b\rc\n\n"), 502},
        {TEXT("A: b\r\r\n\n"), 502},
        {TEXT("A: b\0c\n\n"), 502},
        {TEXT("A: b\x7f\n\n"), 502},
        {TEXT("HTTP/1.1 200 OK\nA: b\n\n"), 502},
        {TEXT("Status:\n\n"), 502},
        {TEXT("Status: 20\n\n"), 502},
        {TEXT("Status: 2000\n\n"), 502},
        {TEXT("Status: 200OK\n\n"), 502},
        {TEXT("Status: 600 X\n\n"), 502},
        {TEXT("Status: 100 Continue\n\n"), 502},
        {TEXT("Status: 101 X\n\n"), 502},
        {TEXT("Status: ok\n\n"), 502},
        {TEXT("Status: 200\nStatus: 200\n\n"), 502},
        {TEXT("Content-Type: a/b\ncontent-type: a/b\n\n"), 502},
        {TEXT("Location: /a\nLocation: /a\n\n"), 502},
        {TEXT("Status: 200\nContent-Length: x\n\n"), 502},
        {TEXT("Content-Length: 1\nContent-Length: 1\n\n"), 502},
        {TEXT("Status: 204\nContent-Length: 1\n\n"), 502},
        {TEXT("A: b\nTransfer-Encoding: chunked\n\n"), 502},
    };

    (void)state;
    check(http_cgi_parse, table, COUNT(table));
}

static void
test_fields(void **state)
{
    static const struct row table[] = {
        {TEXT(""), 0},
        {TEXT("A: b\r\n"), 0},
        {TEXT("A:\r\nB:c\r\n"), 0},
        {TEXT("A: b"), 502},
        {TEXT("A: b\r"), 502},
        {TEXT("A: b\n"), 502},
        {TEXT("A: b\r\n\r\n"), 502},
        {TEXT("\r\n"), 502},
        {TEXT("\n"), 502},
        {TEXT("A: b\r\nB"), 502},
        {TEXT("A: b\nB: c\r\n"), 502},
        {TEXT("A: b\rB: c\r\n"), 502},
        {TEXT("A: b\0\r\n"), 502},
        {TEXT("A\0: b\r\n"), 502},
        {TEXT("A : b\r\n"), 502},
        {TEXT("A b: c\r\n"), 502},
        {TEXT(": c\r\n"), 502},
        {TEXT("A: b\r\n c\r\n"), 502},
    };
    struct http_field fields[100];
    uint32_t n;

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        char *copy = copy_exact(table[i].bytes, table[i].len);

        assert_int_equal(http_fields_parse(copy, table[i].len, fields, &n),
                         table[i].verdict);
        free(copy);
    }
    assert_int_equal(
        http_fields_parse(TEXT("A: b\r\nCc:  dd \r\n"), fields, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(fields[1].name.off, 6);
    assert_int_equal(fields[1].name.len, 2);
    assert_int_equal(fields[1].value.off, 11);
    assert_int_equal(fields[1].value.len, 2);
}

/* 100 fields, a line of 8192 bytes, 32768 bytes in all: and one more. */
static void
test_limits(void **state)
{
    char *text = malloc(40000);
    struct http_field fields[100];
    struct http_response resp;
    uint32_t n;

    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < 101; i++) {
        memcpy(text + i * 6, "a: b\r\n", 7);
    }
    assert_int_equal(http_fields_parse(text, 600, fields, &n), 0);
    assert_int_equal(n, 100);
    assert_int_equal(http_fields_parse(text, 606, fields, &n), 502);
    memcpy(text + 606, "\r\n", 3);
    assert_int_equal(http_cgi_parse(text, 608, &resp), 502);
    memcpy(text + 600, "\r\n", 3);
    assert_int_equal(http_cgi_parse(text, 602, &resp), 0);
    assert_int_equal(resp.n_fields, 100);

    memset(text, 'a', 40000);
    memcpy(text, "a: ", 3);
    memcpy(text + 8192, "\r\n\r\n", 4);
    assert_int_equal(http_fields_parse(text, 8194, fields, &n), 0);
    assert_int_equal(http_cgi_parse(text, 8196, &resp), 0);
    memcpy(text + 8192, "a\r\n\r\n", 5);
    assert_int_equal(http_fields_parse(text, 8195, fields, &n), 502);
    assert_int_equal(http_cgi_parse(text, 8197, &resp), 502);
    assert_int_equal(http_cgi_parse(text, 32767, &resp), 502);

    memset(text, 'a', 40000);
    for (size_t i = 0; i < 4; i++) {
        memcpy(text + i * 8192, "a:", 2);
        memcpy(text + i * 8192 + 8190, "\r\n", 2);
    }
    assert_int_equal(http_fields_parse(text, 32768, fields, &n), 0);
    memcpy(text + 32766, "a\r\n", 3);
    assert_int_equal(http_fields_parse(text, 32769, fields, &n), 502);

    memset(text, 'a', 40000);
    assert_int_equal(http_cgi_parse(text, 32767, &resp), 1);
    assert_int_equal(http_cgi_parse(text, 32768, &resp), 502);
    memcpy(text, OK, 17);
    assert_int_equal(http_response_parse(text, 8209, &resp), 1);
    assert_int_equal(http_response_parse(text, 8210, &resp), 502);
    free(text);
}

static void
test_is_free(void **state)
{
    static const char *const bound[] = {
        "Connection",
        "Keep-Alive",
        "Transfer-Encoding",
        "Content-Length",
        "Upgrade",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Date",
        "cOnTeNt-LeNgTh",
        "date",
    };
    static const char *const open[] = {
        "Content-Type",   "Set-Cookie", "Server",   "Dat", "Dates", "T", "",
        "Content_Length", "X-Date",     "Location",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bound); i++) {
        assert_false(http_field_is_free(bound[i], strlen(bound[i])));
    }
    for (size_t i = 0; i < COUNT(open); i++) {
        assert_true(http_field_is_free(open[i], strlen(open[i])));
    }
}

static void
test_reason(void **state)
{
    (void)state;
    assert_string_equal(http_reason(100), "Continue");
    assert_string_equal(http_reason(200), "OK");
    assert_string_equal(http_reason(226), "IM Used");
    assert_string_equal(http_reason(308), "Permanent Redirect");
    assert_string_equal(http_reason(404), "Not Found");
    assert_string_equal(http_reason(414), "URI Too Long");
    assert_string_equal(http_reason(417), "Expectation Failed");
    assert_string_equal(http_reason(431), "Request Header Fields Too Large");
    assert_string_equal(http_reason(451), "Unavailable For Legal Reasons");
    assert_string_equal(http_reason(505), "HTTP Version Not Supported");
    assert_string_equal(http_reason(511), "Network Authentication Required");
    assert_string_equal(http_reason(104), "");
    assert_string_equal(http_reason(306), "");
    assert_string_equal(http_reason(418), "");
    assert_string_equal(http_reason(452), "");
    assert_string_equal(http_reason(509), "");
    assert_string_equal(http_reason(99), "");
    assert_string_equal(http_reason(600), "");
    assert_string_equal(http_reason(0), "");
    assert_string_equal(http_reason(-200), "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_response), cmocka_unit_test(test_response_table),
        cmocka_unit_test(test_cgi),      cmocka_unit_test(test_cgi_table),
        cmocka_unit_test(test_fields),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_is_free),  cmocka_unit_test(test_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
