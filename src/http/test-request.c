/* Request heads: what is made of the good ones, and every limit at its edge. */
#include "test-request.h"

#include <stdio.h>

#define HOST "Host: example.org\r\n"

static void
assert_span(const char *buf, struct http_span span, const char *text)
{
    assert_int_equal(span.len, strlen(text));
    assert_memory_equal(buf + span.off, text, span.len);
}

static void
test_spans(void **state)
{
    static const char head[] = "GET /a/b?c=d&e HTTP/1.1\r\n"
                               "Host: example.org:8080\r\n"
                               "Accept: \t text/html, */* \t\r\n"
                               "X-Empty:\r\n"
                               "\r\n"
                               "GET /next";
    const struct http_field *field;
    struct http_request req;

    (void)state;
    assert_int_equal(parse(TEXT(head), &req), 0);
    assert_int_equal(req.head_len, sizeof(head) - 1 - 9);
    assert_int_equal(req.method, HTTP_GET);
    assert_int_equal(req.minor, 1);
    assert_true(req.keep_alive);
    assert_false(req.expect_continue);
    assert_false(req.chunked);
    assert_false(req.has_length);
    assert_true(req.path_is_plain);
    assert_int_equal(req.content_length, 0);
    assert_span(head, req.method_name, "GET");
    assert_span(head, req.target, "/a/b?c=d&e");
    assert_span(head, req.path, "/a/b");
    assert_span(head, req.query, "c=d&e");
    assert_span(head, req.host, "example.org:8080");
    assert_int_equal(req.n_fields, 3);
    assert_span(head, req.fields[0].name, "Host");
    assert_span(head, req.fields[1].value, "text/html, */*");
    assert_span(head, req.fields[2].name, "X-Empty");
    assert_span(head, req.fields[2].value, "");
    field = http_field_find(head, req.fields, req.n_fields, "accept", 6);
    assert_ptr_equal(field, &req.fields[1]);
    assert_null(http_field_find(head, req.fields, req.n_fields, "accep", 5));
}

static void
test_more(void **state)
{
    static const char head[] =
        "POST /x HTTP/1.1\r\n" HOST "Content-Length: 12\r\n\r\n";
    struct http_request req;
    size_t at;

    (void)state;
    for (size_t i = 0; i < sizeof(head) - 1; i++) {
        assert_int_equal(parse_whole(head, i, &req), 1);
    }
    assert_int_equal(parse_fed(head, sizeof(head) - 1, 1, &at, &req), 0);
    assert_int_equal(at, sizeof(head) - 1);
    assert_true(req.has_length);
    assert_int_equal(req.content_length, 12);
}

static void
test_methods(void **state)
{
    static const struct {
        const char *name;
        int method;
    } table[] = {
        {"GET", HTTP_GET},         {"HEAD", HTTP_HEAD},
        {"POST", HTTP_POST},       {"PUT", HTTP_PUT},
        {"DELETE", HTTP_DELETE},   {"PATCH", HTTP_PATCH},
        {"OPTIONS", HTTP_OPTIONS}, {"TRACE", HTTP_TRACE},
        {"get", HTTP_OTHER},       {"GETT", HTTP_OTHER},
        {"BREW", HTTP_OTHER},      {"M-SEARCH", HTTP_OTHER},
        {"!#$%&'*+", HTTP_OTHER},
    };
    struct http_request req;
    char head[80];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        int n = snprintf(head, sizeof(head), "%s / HTTP/1.1\r\n" HOST "\r\n",
                         table[i].name);

        assert_int_equal(parse(head, (size_t)n, &req), 0);
        assert_int_equal(req.method, table[i].method);
        assert_span(head, req.method_name, table[i].name);
    }
}

static void
test_request_lines(void **state)
{
    static const struct {
        const char *line;
        int status;
    } table[] = {
        {"GET / HTTP/1.1", 0},
        {"GET / HTTP/1.0", 0},
        {"GET / HTTP/1.2", 0},
        {"GET / HTTP/1.9", 0},
        {"GET / HTTP/2.0", 505},
        {"GET / HTTP/0.9", 505},
        {"GET / HTTP/9.9", 505},
        {"PRI * HTTP/2.0", 505},
        {"GET / HTTP/1.", 400},
        {"GET / HTTP/1", 400},
        {"GET / HTTP/11", 400},
        {"GET / HTTP/1.10", 400},
        {"GET / HTTP/01.1", 400},
        {"GET / HTTP/1.x", 400},
        {"GET / HTTP/x.1", 400},
        {"GET / http/1.1", 400},
        {"GET / Http/1.1", 400},
        {"GET / HTTP 1.1", 400},
        {"GET / HTTP/1.1 ", 400},
        {"GET / XHTTP/1.1", 400},
        {"GET / ICY/1.1", 400},
        {"GET /", 400},
        {"GET", 400},
        {"GET ", 400},
        {"GET  ", 400},
        {"GET HTTP/1.1", 400},
        {"GET  HTTP/1.1", 400},
        {" GET / HTTP/1.1", 400},
        {"GET  / HTTP/1.1", 400},
        {"GET /  HTTP/1.1", 400},
        {"GET\t/ HTTP/1.1", 400},
        {"GET /\tHTTP/1.1", 400},
        {"/ HTTP/1.1", 400},
        {"G(T / HTTP/1.1", 400},
        {"G\xc3\x84T / HTTP/1.1", 400},
        {"GET a HTTP/1.1", 400},
        {"GET ?a HTTP/1.1", 400},
        {"GET /a#b HTTP/1.1", 400},
        {"GET /a?b#c HTTP/1.1", 400},
        {"GET /a b HTTP/1.1", 400},
        {"GET /\x7f HTTP/1.1", 400},
        {"GET /\x01 HTTP/1.1", 400},
        {"GET /\xc3\xa4 HTTP/1.1", 400},
        {"GET /?\xc3\xa4 HTTP/1.1", 400},
        {"GET /a\\b HTTP/1.1", 0},
        {"GET /\"<>^`{|} HTTP/1.1", 0},
        {"GET /? HTTP/1.1", 0},
        {"GET /?a?/b HTTP/1.1", 0},
        {"OPTIONS * HTTP/1.1", 0},
        {"GET * HTTP/1.1", 400},
        {"OPTIONS ** HTTP/1.1", 400},
        {"OPTIONS *?a HTTP/1.1", 400},
        {"CONNECT example.org:443 HTTP/1.1", 0},
        {"CONNECT [::1]:443 HTTP/1.1", 0},
        {"CONNECT [::1] HTTP/1.1", 400},
        {"CONNECT example.org HTTP/1.1", 400},
        {"CONNECT example.org: HTTP/1.1", 400},
        {"CONNECT example.org:x HTTP/1.1", 400},
        {"CONNECT :443 HTTP/1.1", 400},
        {"CONNECT / HTTP/1.1", 400},
        {"CONNECT http://example.org/ HTTP/1.1", 400},
        {"GET example.org:443 HTTP/1.1", 400},
        {"GET http://example.org/ HTTP/1.1", 0},
        {"GET HTTP://EXAMPLE.org/ HTTP/1.1", 0},
        {"GET https://example.org/ HTTP/1.1", 0},
        {"GET http://example.org HTTP/1.1", 0},
        {"GET http://example.org?a HTTP/1.1", 0},
        {"OPTIONS http://example.org HTTP/1.1", 0},
        {"GET http://example.net/ HTTP/1.1", 400},
        {"GET http://example.org:80/ HTTP/1.1", 400},
        {"GET http://user@example.org/ HTTP/1.1", 400},
        {"GET http:///a HTTP/1.1", 400},
        {"GET http:// HTTP/1.1", 400},
        {"GET http:/example.org/ HTTP/1.1", 400},
        {"GET httpx://example.org/ HTTP/1.1", 400},
        {"GET ftp://example.org/ HTTP/1.1", 400},
        {"GET http://example.org/#a HTTP/1.1", 400},
    };
    struct http_request req;
    char head[120];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        int n =
            snprintf(head, sizeof(head), "%s\r\n" HOST "\r\n", table[i].line);
        int rc = parse(head, (size_t)n, &req);

        if (rc != table[i].status) {
            fail_msg("%s: %d, not %d", table[i].line, rc, table[i].status);
        }
    }
}

static void
test_targets(void **state)
{
    static const struct {
        const char *method, *target, *path, *query;
        bool plain;
    } table[] = {
        {"GET", "/", "/", "", true},
        {"GET", "/a/b.html", "/a/b.html", "", true},
        {"GET", "/a/", "/a/", "", true},
        {"GET", "/?", "/", "", true},
        {"GET", "/a?b/../%2f?c", "/a", "b/../%2f?c", true},
        {"GET", "/~u/x;y=z,*'()!@:$&+=", "/~u/x;y=z,*'()!@:$&+=", "", true},
        {"GET", "/a%20b", "/a%20b", "", false},
        {"GET", "/a//b", "/a//b", "", false},
        {"GET", "//", "//", "", false},
        {"GET", "/./a", "/./a", "", false},
        {"GET", "/a/..", "/a/..", "", false},
        {"GET", "/a\\b", "/a\\b", "", false},
        {"OPTIONS", "*", "*", "", false},
        {"CONNECT", "example.org:80", "", "", false},
        {"GET", "http://example.org", "/", "", true},
        {"GET", "http://example.org/", "/", "", true},
        {"GET", "http://example.org?q", "/", "q", true},
        {"GET", "http://example.org/a/b?c?d", "/a/b", "c?d", true},
        {"GET", "https://example.org/a//b", "/a//b", "", false},
        {"GET", "http://example.org/a%41", "/a%41", "", false},
        {"GET", "http://example.org/.a", "/.a", "", false},
    };
    struct http_request req;
    char head[120];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        int n = snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\n" HOST "\r\n",
                         table[i].method, table[i].target);

        assert_int_equal(parse(head, (size_t)n, &req), 0);
        assert_span(head, req.target, table[i].target);
        assert_span(head, req.path, table[i].path);
        assert_span(head, req.query, table[i].query);
        assert_span(head, req.host, "example.org");
        assert_int_equal(req.path_is_plain, table[i].plain);
    }
}

/* Plain must mean that decoding changes nothing; every path of up to five of
 * these marks is tried. */
static void
test_plain(void **state)
{
    static const char marks[] = "/.a%\\2";
    unsigned n_plain = 0;

    (void)state;
    for (unsigned k = 0; k < 6 * 6 * 6 * 6 * 6; k++) {
        char head[64] = "GET /", out[64];
        size_t n = 5;
        struct http_request req;

        for (unsigned r = k; r > 0; r /= 6) {
            head[n++] = marks[r % 6];
        }
        memcpy(head + n, " HTTP/1.0\r\n\r\n", 14);
        assert_int_equal(parse_whole(head, n + 13, &req), 0);
        if (req.path_is_plain) {
            n_plain++;
            assert_int_equal(http_path_decode(head + 4, n - 4, out), n - 4);
            assert_memory_equal(head + 4, out, n - 4);
        }
    }
    assert_true(n_plain > 100);
}

static void
test_absolute_host(void **state)
{
    static const char old[] = "GET http://a.example.org:81/b HTTP/1.0\r\n\r\n";
    static const char both[] = "GET http://a.example.org/b HTTP/1.0\r\n"
                               "Host: A.Example.ORG\r\n\r\n";
    static const char wide[] = "GET http://a~/ HTTP/1.1\r\nHost: a^\r\n\r\n";
    static const char mark[] = "GET http://[::1]/ HTTP/1.1\r\n"
                               "Host: [::2]\r\n\r\n";
    struct http_request req;

    (void)state;
    assert_int_equal(parse(TEXT(old), &req), 0);
    assert_span(old, req.host, "a.example.org:81");
    assert_int_equal(parse(TEXT(both), &req), 0);
    assert_span(both, req.host, "a.example.org");
    assert_int_equal(parse(TEXT(wide), &req), 400);
    assert_int_equal(parse(TEXT(mark), &req), 400);
}

static void
test_connection(void **state)
{
    static const struct {
        int minor;
        const char *fields;
        bool keeps;
    } table[] = {
        {1, "", true},
        {0, "", false},
        {1, "Connection: close\r\n", false},
        {1, "connection: CLOSE\r\n", false},
        {1, "Connection: keep-alive\r\n", true},
        {0, "Connection: keep-alive\r\n", true},
        {0, "Connection: Keep-Alive\r\n", true},
        {0, "Connection: close\r\n", false},
        {0, "Connection: keep-alive, close\r\n", false},
        {0, "Connection: close, keep-alive\r\n", false},
        {1, "Connection: keep-alive,close\r\n", false},
        {1, "Connection: te , close\r\n", false},
        {1, "Connection: a,\t b ,,close,\r\n", false},
        {1, "Connection: te\r\nConnection: close\r\n", false},
        {1, "Connection: close\r\nConnection: keep-alive\r\n", false},
        {0, "Connection: x\r\nConnection: y, keep-alive\r\n", true},
        {1, "Connection: closed\r\n", true},
        {1, "Connection: clos\r\n", true},
        {1, "Connection: upgrade\r\nUpgrade: h2c\r\n", true},
        {0, "Connection: keep-alives\r\n", false},
        {0, "Keep-Alive: timeout=5\r\n", false},
        {1, "Proxy-Connection: close\r\n", true},
    };
    struct http_request req;
    char head[160];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        int n =
            snprintf(head, sizeof(head), "GET / HTTP/1.%d\r\n" HOST "%s\r\n",
                     table[i].minor, table[i].fields);

        assert_int_equal(parse(head, (size_t)n, &req), 0);
        assert_int_equal(req.minor, table[i].minor);
        assert_int_equal(req.keep_alive, table[i].keeps);
    }
}

static void
test_expect(void **state)
{
    struct http_request req;

    (void)state;
    assert_int_equal(
        parse(TEXT("PUT / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n\r\n"),
              &req),
        0);
    assert_true(req.expect_continue);
    assert_int_equal(parse(TEXT("PUT / HTTP/1.0\r\n"
                                "Expect: 100-continue\r\n\r\n"),
                           &req),
                     0);
    assert_false(req.expect_continue);
}

/* FILL times 'a' between two texts. To be freed. */
static char *
padded(const char *before, size_t fill, const char *after, size_t *p_len)
{
    size_t b = strlen(before), a = strlen(after);
    char *head = malloc(b + fill + a + 1);

    assert_non_null(head);
    memcpy(head, before, b);
    memset(head + b, 'a', fill);
    memcpy(head + b + fill, after, a + 1);
    *p_len = b + fill + a;
    return head;
}

static void
test_line_limits(void **state)
{
    static const struct {
        const char *before;
        size_t fill;
        const char *after;
        int status;
        size_t at; /* where a slow sender is stopped; 0: at the end */
    } table[] = {
        {"GET /", 8178, " HTTP/1.1\r\n" HOST "\r\n", 0, 0},
        {"GET /", 8179, " HTTP/1.1\r\n" HOST "\r\n", 414, 8193},
        {"GET /", 20000, " HTTP/1.1\r\n" HOST "\r\n", 414, 8193},
        {"", 8193, " / HTTP/1.1\r\n" HOST "\r\n", 414, 8193},
        {"GET / HTTP/1.1\r\n" HOST "A: ", 8189, "\r\n\r\n", 0, 0},
        {"GET / HTTP/1.1\r\n" HOST "A: ", 8190, "\r\n\r\n", 431, 8228},
        {"GET / HTTP/1.1\r\n" HOST "", 8191, ":\r\n\r\n", 0, 0},
        {"GET / HTTP/1.1\r\n" HOST "", 8192, ":\r\n\r\n", 431, 8228},
        {"GET / HTTP/1.1\r\n" HOST "A: ", 30000, "\r\n\r\n", 431, 8228},
    };
    struct http_request req;

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len, at;
        char *head =
            padded(table[i].before, table[i].fill, table[i].after, &len);

        assert_int_equal(parse(head, len, &req), table[i].status);
        assert_int_equal(parse_fed(head, len, 1, &at, &req), table[i].status);
        assert_int_equal(at, table[i].at != 0 ? table[i].at : len);
        free(head);
    }
}

static void
test_field_limits(void **state)
{
    char head[2000] = "GET / HTTP/1.1\r\n" HOST;
    struct http_request req;
    size_t n, at;

    (void)state;
    for (unsigned i = 1; i < 100; i++) {
        strncat(head, "a: b\r\n", sizeof head - strlen(head) - 1);
    }
    n = strlen(head);
    snprintf(head + n, sizeof head - n, "\r\n");
    assert_int_equal(parse(head, n + 2, &req), 0);
    assert_int_equal(req.n_fields, 100);
    snprintf(head + n, sizeof head - n, "a: b\r\n\r\n");
    assert_int_equal(parse(head, n + 8, &req), 431);
    assert_int_equal(parse_fed(head, n + 8, 1, &at, &req), 431);
    assert_int_equal(at, n + 1);
}

static void
test_head_limits(void **state)
{
    static const struct {
        size_t fill;
        int status;
        size_t at;
    } table[] = {{8142, 0, 32768}, {8143, 431, 32768}, {8150, 431, 32768}};
    static char head[40000];
    struct http_request req;

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len, at;
        char *line = padded("A: ", 8187, "\r\n", &len);

        assert_int_equal(len, 8192);
        snprintf(head, sizeof(head), "GET / HTTP/1.1\r\n%s%s%s%sA: ", HOST,
                 line, line, line);
        len = strlen(head);
        assert_int_equal(len, 16 + 19 + 3 * 8192 + 3);
        memset(head + len, 'b', table[i].fill + 8);
        len += table[i].fill + 8;
        memcpy(head + len, "\r\n\r\n", 4);
        assert_int_equal(parse(head, len + 4, &req), table[i].status);
        assert_int_equal(parse_fed(head, len + 4, 1, &at, &req),
                         table[i].status);
        assert_int_equal(at, table[i].at);
        free(line);
    }
}

/* What no later byte can mend is refused at once. */
static void
test_early(void **state)
{
    static const struct {
        const char *bytes;
        size_t len, at;
        int status;
    } table[] = {
        {TEXT("\n"), 1, 400},
        {TEXT("GET / HTTP/1.1\n"), 15, 400},
        {TEXT("GET /\0 HTTP/1.1"), 6, 400},
        {TEXT("GET /\r HTTP/1.1"), 7, 400},
        {TEXT("GET / HTTP/1.1\r\nA: b\nC"), 21, 400},
        {TEXT("GET / HTTP/1.1\r\nA: b\rC"), 22, 400},
    };
    struct http_request req;

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t at;

        assert_int_equal(parse(table[i].bytes, table[i].len, &req),
                         table[i].status);
        assert_int_equal(parse_fed(table[i].bytes, table[i].len, 1, &at, &req),
                         table[i].status);
        assert_int_equal(at, table[i].at);
    }
}

static void
test_pipeline(void **state)
{
    static const char two[] = "GET /1 HTTP/1.1\r\n" HOST "\r\n"
                              "GET /2 HTTP/1.1\r\n" HOST "\r\n";
    struct http_request req;
    uint32_t scan = 0;

    (void)state;
    assert_int_equal(http_request_parse(two, 19, &scan, &req), 1);
    assert_int_equal(http_request_parse(two, sizeof(two) - 1, &scan, &req), 0);
    assert_int_equal(scan, 0);
    assert_int_equal(req.head_len, (sizeof(two) - 1) / 2);
    assert_span(two, req.target, "/1");
    assert_int_equal(http_request_parse(two + req.head_len,
                                        sizeof(two) - 1 - req.head_len, &scan,
                                        &req),
                     0);
    assert_span(two + req.head_len, req.target, "/2");
}

static void
test_skip_empty(void **state)
{
    (void)state;
    assert_int_equal(http_skip_empty(TEXT("")), 0);
    assert_int_equal(http_skip_empty(TEXT("\r")), 0);
    assert_int_equal(http_skip_empty(TEXT("\r\n")), 2);
    assert_int_equal(http_skip_empty(TEXT("\r\n\r\n\r")), 4);
    assert_int_equal(http_skip_empty(TEXT("\r\n\r\nG")), 4);
    assert_int_equal(http_skip_empty(TEXT("\n\r\n")), 0);
    assert_int_equal(http_skip_empty(TEXT("G\r\n")), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_more),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_request_lines),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_absolute_host),
        cmocka_unit_test(test_connection),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_line_limits),
        cmocka_unit_test(test_field_limits),
        cmocka_unit_test(test_head_limits),
        cmocka_unit_test(test_early),
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_skip_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
