/* HTTP towards a program: the head that it gets, and the verdict on answers,
 * cut at every place. All literals. */
#include "hop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
head_is(const struct cgi_request *req, const char *want)
{
    size_t len;
    char *got = hop_head_new(req, &len);

    assert_int_equal(len, strlen(want));
    assert_memory_equal(got, want, len);
    free(got);
}

static void
heads_carry_what_is_not_of_one_connection(void **state)
{
    static const struct cgi_field fields[] = {
        {"Host", "evil"},
        {"Accept", "a/b"},
        {"Connection", "x-hop, Close"},
        {"X-Hop", "1"},
        {"Transfer-Encoding", "chunked"},
        {"x-forwarded-for", "10.1.1.1"},
        {"Forwarded", "for=1"},
        {"Content-Length", "7"},
        {"Upgrade", "h2c"},
        {"Expect", "100-continue"},
        {"x-request-timeout-ms", "7"},
    };
    struct cgi_request req = {.method = "POST",
                              .target = "http://h:1?q",
                              .host = "h:1",
                              .peer = "192.0.2.1",
                              .id = "77",
                              .fields = fields,
                              .n_fields = sizeof(fields) / sizeof(fields[0])};

    head_is(&req, "POST /?q HTTP/1.1\r\nHost: h:1\r\nAccept: a/b\r\n"
                  "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: h:1\r\n"
                  "X-Request-Id: 77\r\nContent-Length: 0\r\n\r\n");
    req.method = "GET";
    req.target = "/a?b=http://c";
    req.n_fields = 0;
    req.ms_left = 1500;
    head_is(&req, "GET /a?b=http://c HTTP/1.1\r\nHost: h:1\r\n"
                  "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: h:1\r\n"
                  "X-Request-Id: 77\r\nX-Request-Timeout-Ms: 1500\r\n"
                  "\r\n");
}

#define OK "HTTP/1.1 200 OK\r\n"

/* BODY: NULL if it is not whole even at the connection's end. */
static const struct {
    const char *bytes, *body;
    bool is_head, keep;
} cases[] = {
    {OK "Content-Length: 2\r\n\r\nok", "ok", false, true},
    {OK "Content-Length: 2\r\n\r\nok+", "ok", false, false},
    {OK "Content-Length: 0\r\n\r\n", "", false, true},
    {OK "Content-Length: 2\r\nConnection: close\r\n\r\nok", "ok", false, false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false, false},
    {OK "Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", "ok",
     false, true},
    {OK "\r\nto the end", "to the end", false, false},
    {OK "Content-Length: 9\r\n\r\n", "", true, true},
    {"HTTP/1.1 204 No\r\n\r\n", "", false, true},
    {"HTTP/1.1 304 No\r\nContent-Length: 7\r\n\r\n", "", false, true},
    {"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Hm\r\nA: b\r\n\r\n" OK
     "Content-Length: 2\r\n\r\nok",
     "ok", false, true},
    {"HTTP/1.1 101 Other\r\n\r\n", NULL, false, false},
    {"HTTP/1.1 100 Go\r\n\r\n", NULL, false, false},
    {OK "Content-Length: 3\r\n\r\nok", NULL, false, false},
    {OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", NULL, false, false},
    {OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", NULL,
     false, false},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", NULL, false, false},
    {OK "Transfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n", NULL, false, false},
    {OK "A: b\n\r\n", NULL, false, false},
    {OK " A: b\r\n\r\n", NULL, false, false},
    {"SSH-2.0-x\r\n\r\n", NULL, false, false},
    {"", NULL, false, false},
};

/* The verdict on case I, its first CUT bytes alone. */
static enum hop_verdict
read_cut(size_t i, size_t cut, struct hop *hop)
{
    size_t len = strlen(cases[i].bytes);
    enum hop_verdict verdict = HOP_MORE;

    memset(hop, 0, sizeof(*hop));
    hop->is_head = cases[i].is_head;
    hop->text.max = 1000;
    if (cut > 0) {
        verdict = hop_read(hop, cases[i].bytes, cut);
    }
    if (verdict == HOP_MORE && cut < len) {
        verdict = hop_read(hop, cases[i].bytes + cut, len - cut);
    }
    return verdict == HOP_MORE ? hop_read(hop, "", 0) : verdict;
}

static void
answers_are_judged_wherever_they_are_cut(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t cut = 0; cut <= strlen(cases[i].bytes); cut++) {
            struct hop hop;
            enum hop_verdict verdict = read_cut(i, cut, &hop);
            size_t n = hop.text.len - hop.head.head_len;
            bool is_right = cases[i].body == NULL ? verdict == HOP_BAD
                                                  : verdict == HOP_DONE;

            if (is_right && cases[i].body != NULL) {
                is_right =
                    n == strlen(cases[i].body) &&
                    memcmp(hop.text.bytes + hop.head.head_len, cases[i].body,
                           n) == 0 &&
                    /* What is cut off behind an answer is seen by the next. */
                    (hop.keep == cases[i].keep ||
                     cut + 1 == strlen(cases[i].bytes));
            }
            if (!is_right) {
                fail_msg("case %zu cut at %zu: %d", i, cut, verdict);
            }
            free(hop.text.bytes);
        }
    }
}

static void
too_much_is_said_early(void **state)
{
    static const char announced[] = OK "Content-Length: 1001\r\n\r\n";
    struct hop hop = {.text = {.max = 1000}};
    char more[600] = "";

    assert_int_equal(hop_read(&hop, announced, sizeof(announced) - 1), HOP_BIG);
    free(hop.text.bytes);
    hop = (struct hop){.text = {.max = 1000}};
    assert_int_equal(hop_read(&hop, OK "\r\n", 19), HOP_MORE);
    memset(more, 'x', sizeof(more));
    assert_int_equal(hop_read(&hop, more, sizeof(more)), HOP_MORE);
    assert_int_equal(hop_read(&hop, more, sizeof(more)), HOP_BIG);
    free(hop.text.bytes);
}

static void
interim_answers_have_an_end(void **state)
{
    struct hop hop = {.text = {.max = 1000}};

    for (int i = 0; i < 8; i++) {
        assert_int_equal(hop_read(&hop, "HTTP/1.1 100 Go\r\n\r\n", 19),
                         HOP_MORE);
    }
    assert_int_equal(hop_read(&hop, "HTTP/1.1 100 Go\r\n\r\n", 19), HOP_BAD);
    free(hop.text.bytes);
}

static void
a_head_has_a_bound(void **state)
{
    size_t size = (size_t)300 * 1024, len = 0;
    char *value = malloc(size + 1);
    struct cgi_field field = {"A", value};
    struct cgi_request req = {.method = "GET",
                              .target = "/",
                              .host = "h",
                              .peer = "p",
                              .id = "1",
                              .fields = &field,
                              .n_fields = 1};

    memset(value, 'a', size);
    value[size] = '\0';
    assert_null(hop_head_new(&req, &len));
    value[1000] = '\0';
    char *got = hop_head_new(&req, &len);
    assert_non_null(got);
    free(got);
    free(value);
}

static void
fields_that_a_connection_names_are_its_own(void **state)
{
    static const char text[] =
        "HTTP/1.1 200 OK\r\nX-Hop: 1\r\nConnectiom: y\r\n"
        "Connection: a, x-hop\r\ny: 2\r\n\r\n";
    struct http_response *head = calloc(1, sizeof(*head));

    assert_int_equal(http_response_parse(text, sizeof(text) - 1, head),
                     HTTP_OK);
    assert_int_equal(head->n_fields, 4);
    assert_true(hop_is_named(text, head, &head->fields[0].name));
    assert_false(hop_is_named(text, head, &head->fields[3].name));
    free(head);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_carry_what_is_not_of_one_connection),
        cmocka_unit_test(answers_are_judged_wherever_they_are_cut),
        cmocka_unit_test(too_much_is_said_early),
        cmocka_unit_test(interim_answers_have_an_end),
        cmocka_unit_test(a_head_has_a_bound),
        cmocka_unit_test(fields_that_a_connection_names_are_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
