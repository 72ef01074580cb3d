/* The environment of a command and the verdict on its output: tables of
 * requests and replies, all literals. */
#include "cgi.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The value of NAME, or NULL; fails the test if it stands there twice. */
static const char *
env_value(char **env, const char *name)
{
    const char *value = NULL;
    size_t len = strlen(name);
    int i;

    for (i = 0; env[i] != NULL; i++) {
        if (strncmp(env[i], name, len) == 0 && env[i][len] == '=') {
            assert_null(value);
            value = env[i] + len + 1;
        }
    }
    return value;
}

static size_t
env_count(char **env)
{
    size_t n = 0;

    while (env[n] != NULL) {
        n++;
    }
    return n;
}

static struct cgi_request
plain_request(void)
{
    struct cgi_request req = {
        .method = "GET",
        .target = "/env/a%20b?x=1&y=2",
        .query = "x=1&y=2",
        .host = "www.example.org:8080",
        .peer = "192.0.2.7",
        .peer_port = 54321,
        .id = "0123abcd",
        .ms_left = 29999,
        .route = "/env",
        .rest = "/a b",
    };

    return req;
}

static void
env_is_complete(void **state)
{
    static char *inherit[] = {"PATH=/bin:/usr/bin", NULL};
    static const struct {
        const char *name, *value;
    } want[] = {
        {"PATH", "/bin:/usr/bin"},
        {"GATEWAY_INTERFACE", "CGI/1.1"},
        {"SERVER_PROTOCOL", "HTTP/1.1"},
        {"SERVER_NAME", "www.example.org"},
        {"SERVER_PORT", "8080"},
        {"REQUEST_METHOD", "GET"},
        {"REQUEST_URI", "/env/a%20b?x=1&y=2"},
        {"SCRIPT_NAME", "/env"},
        {"PATH_INFO", "/a b"},
        {"QUERY_STRING", "x=1&y=2"},
        {"REMOTE_ADDR", "192.0.2.7"},
        {"REMOTE_PORT", "54321"},
        {"CARDEA_REQUEST_ID", "0123abcd"},
        {"CARDEA_TIME_LEFT_MS", "29999"},
    };
    struct cgi_request req = plain_request();
    char **env;
    size_t i;

    (void)state;
    req.inherit = inherit;
    env = cgi_env_new(&req);
    assert_non_null(env);
    for (i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        const char *value = env_value(env, want[i].name);

        assert_non_null(value);
        assert_string_equal(value, want[i].value);
    }
    assert_memory_equal(env_value(env, "SERVER_SOFTWARE"), "cardea/", 7);
    assert_int_equal(env_count(env), 15);
    free(env);
    /* Of a folder of scripts: its own path too. */
    req.script = "/srv/cgi-bin/x";
    env = cgi_env_new(&req);
    assert_non_null(env);
    assert_string_equal(env_value(env, "SCRIPT_FILENAME"), "/srv/cgi-bin/x");
    assert_int_equal(env_count(env), 16);
    free(env);
}

static void
env_of_fields(void **state)
{
    static const struct cgi_field fields[] = {
        {"Host", "www.example.org"},
        {"Accept", "text/html"},
        {"accept", "text/plain"},
        {"COOKIE", "a=1"},
        {"Cookie", "b=2"},
        {"X-Long-Name-7", "v"},
        {"Content-Encoding", "gzip"},
        /* Never passed on. */
        {"Proxy", "http://192.0.2.1:3128"},
        {"pRoXy", "http://192.0.2.2:3128"},
        {"Authorization", "Basic c2VjcmV0"},
        {"Proxy-Authorization", "Basic c2VjcmV0"},
        {"X_Under", "1"},
        {"X-Long_Name-7", "forged"},
        {"X.Dot", "1"},
        {"Content-Length", "5"},
        {"Content-Type", "a/b"},
        {"Transfer-Encoding", "chunked"},
        {"Connection", "close"},
        {"Expect", "100-continue"},
    };
    struct cgi_request req = plain_request();
    char **env;

    (void)state;
    req.fields = fields;
    req.n_fields = sizeof(fields) / sizeof(fields[0]);
    env = cgi_env_new(&req);
    assert_non_null(env);
    assert_string_equal(env_value(env, "HTTP_HOST"), "www.example.org");
    assert_string_equal(env_value(env, "HTTP_ACCEPT"), "text/html, text/plain");
    assert_string_equal(env_value(env, "HTTP_COOKIE"), "a=1; b=2");
    assert_string_equal(env_value(env, "HTTP_X_LONG_NAME_7"), "v");
    assert_string_equal(env_value(env, "HTTP_CONTENT_ENCODING"), "gzip");
    assert_null(env_value(env, "HTTP_PROXY"));
    assert_null(env_value(env, "CONTENT_LENGTH"));
    assert_null(env_value(env, "CONTENT_TYPE"));
    assert_int_equal(env_count(env), 14 + 5);
    free(env);
}

static void
env_of_a_body(void **state)
{
    static const struct cgi_field fields[] = {
        {"content-type", "application/json"},
        {"Content-Type", "second/one"},
        {"Content-Length", "999"},
    };
    struct cgi_request req = plain_request();
    char **env;

    (void)state;
    req.method = "POST";
    req.fields = fields;
    req.n_fields = 3;
    req.body_len = 16777216;
    env = cgi_env_new(&req);
    assert_non_null(env);
    assert_string_equal(env_value(env, "CONTENT_LENGTH"), "16777216");
    assert_string_equal(env_value(env, "CONTENT_TYPE"), "application/json");
    assert_null(env_value(env, "HTTP_CONTENT_TYPE"));
    assert_null(env_value(env, "HTTP_CONTENT_LENGTH"));
    free(env);
}

static void
env_of_hosts(void **state)
{
    static const struct {
        const char *host, *name, *port;
    } table[] = {
        {"example.org", "example.org", "80"},
        {"example.org:443", "example.org", "443"},
        {"[2001:db8::1]:8080", "[2001:db8::1]", "8080"},
        {"[2001:db8::1]", "[2001:db8::1]", "80"},
        {"example.org:", "example.org", "80"},
        {"example.org:70000", "example.org", "80"},
        {"example.org:8a", "example.org", "80"},
        {"", "localhost", "80"},
        {":81", "localhost", "81"},
        {"a b", "localhost", "80"},
        {"x\"><script>", "localhost", "80"},
        {"$(reboot)", "localhost", "80"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cgi_request req = plain_request();
        char **env;

        req.host = table[i].host;
        env = cgi_env_new(&req);
        assert_non_null(env);
        assert_string_equal(env_value(env, "SERVER_NAME"), table[i].name);
        assert_string_equal(env_value(env, "SERVER_PORT"), table[i].port);
        free(env);
    }
}

static void
env_of_paths(void **state)
{
    static const struct {
        const char *route, *rest, *script, *info;
    } table[] = {
        {"/env", "", "/env", ""},     {"/env", "/", "/env", "/"},
        {"/env", "/x", "/env", "/x"}, {"/", "", "", "/"},
        {"/", "/", "", "/"},          {"/", "/a/b", "", "/a/b"},
        {"/", "a/b", "", "/a/b"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cgi_request req = plain_request();
        char **env;

        req.route = table[i].route;
        req.rest = table[i].rest;
        env = cgi_env_new(&req);
        assert_non_null(env);
        assert_string_equal(env_value(env, "SCRIPT_NAME"), table[i].script);
        assert_string_equal(env_value(env, "PATH_INFO"), table[i].info);
        free(env);
    }
}

/* 100 fields of 300 bytes: the text is moved while it grows. */
static void
env_of_many_fields(void **state)
{
    static char names[100][8];
    char value[301];
    struct cgi_field fields[100];
    struct cgi_request req = plain_request();
    char **env;
    int i;

    (void)state;
    memset(value, 'v', 300);
    value[300] = '\0';
    for (i = 0; i < 100; i++) {
        snprintf(names[i], sizeof(names[i]), "F%d", i);
        fields[i] = (struct cgi_field){names[i], value};
    }
    req.fields = fields;
    req.n_fields = 100;
    env = cgi_env_new(&req);
    assert_non_null(env);
    assert_int_equal(env_count(env), 114);
    assert_string_equal(env_value(env, "HTTP_F0"), value);
    assert_string_equal(env_value(env, "HTTP_F99"), value);
    free(env);
}

static void
answers_that_are_valid(void **state)
{
    static const struct {
        const char *out;
        int status;
        const char *body;
    } table[] = {
        {"Content-Type: text/plain\n\nhello", 200, "hello"},
        {"Content-Type: text/plain\r\n\r\nhello\r\n", 200, "hello\r\n"},
        {"Content-Type: a/b\n\n", 200, ""},
        {"Status: 404 Not Found\nContent-Type: a/b\n\nno", 404, "no"},
        {"status: 201\nContent-Type: a/b\n\n", 201, ""},
        {"Location: /there\n\n", 302, ""},
        {"Location: http://example.org/\n\n", 302, ""},
        {"Status: 303 See Other\nLocation: /there\n\n", 303, ""},
        {"Status: 200 OK\nLocation: /there\n\n", 200, ""},
        {"Content-Type: a/b\n\nStatus: 500\n\n", 200, "Status: 500\n\n"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cgi_answer answer;
        char why[256];

        assert_int_equal(
            cgi_answer_parse(table[i].out, strlen(table[i].out), &answer, why),
            0);
        assert_int_equal(answer.status, table[i].status);
        assert_int_equal(answer.body_len, strlen(table[i].body));
        assert_memory_equal(answer.body, table[i].body, answer.body_len);
        assert_string_equal(why, "");
    }
}

static void
answers_that_are_not(void **state)
{
    static const struct {
        const char *out, *why;
    } table[] = {
        {"", "no output"},
        {"Content-Type: a/b\n", "no empty line ends the header"},
        {"Content-Type: a/b", "no empty line ends the header"},
        {"hello world\n", "line 1 of the header is not valid: \"hello world\""},
        {"hello world", "line 1 of the header is not valid: \"hello world\""},
        {"Content-Type: a/b\nX-A: 1\n<html>\n\nx",
         "line 3 of the header is not valid: \"<html>\""},
        {"Content-Type: a/b\r\nX A: 1\r\n\r\nx",
         "line 2 of the header is not valid: \"X A: 1\""},
        {"Status: 99\n\n", "line 1 of the header is not valid: \"Status: 99\""},
        {"Status: 100 Continue\n\n",
         "line 1 of the header is not valid: \"Status: 100 Continue\""},
        {"X-A: 1\nX-B: a\033[2Jb\n\n",
         "line 2 of the header is not valid: \"X-B: a\\x1b[2Jb\""},
        {"Content-Type: a/b\nContent-Type: c/d\n\n",
         "line 2 of the header is not valid: \"Content-Type: c/d\""},
        {"\nhello", "the header is not valid as a whole"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cgi_answer answer;
        char why[256];
        /* Exactly so long, so that a sanitizer sees one byte too many. */
        size_t len = strlen(table[i].out);
        char *out = malloc(len + 1);

        assert_non_null(out);
        memcpy(out, table[i].out, len);
        out = realloc(out, len > 0 ? len : 1);
        assert_int_equal(cgi_answer_parse(out, len, &answer, why), 502);
        assert_string_equal(why, table[i].why);
        free(out);
    }
}

/* A megabyte of one line, and a head that is too long: still one short text. */
static void
answers_that_are_long(void **state)
{
    size_t len = 1 << 20;
    char *out = malloc(len);
    struct cgi_answer answer;
    char why[256];
    size_t i;

    (void)state;
    assert_non_null(out);
    memset(out, 'x', len);
    assert_int_equal(cgi_answer_parse(out, len, &answer, why), 502);
    assert_non_null(strstr(why, "\"xxxxx"));
    assert_non_null(strstr(why, "xxx...\""));
    for (i = 0; i < len; i += 8) {
        memcpy(out + i, "X-A: 1\r\n", 8);
    }
    assert_int_equal(cgi_answer_parse(out, len, &answer, why), 502);
    assert_true(strlen(why) > 0);
    free(out);
}

static void
quotes(void **state)
{
    char out[16];

    (void)state;
    cgi_quote("abc", 3, out, sizeof(out));
    assert_string_equal(out, "abc");
    cgi_quote("a\0b\n\\\xff", 6, out, sizeof(out));
    assert_string_equal(out, "a\\x00b\\x0a...");
    cgi_quote("0123456789abcdefghij", 20, out, sizeof(out));
    assert_string_equal(out, "0123456789ab...");
    cgi_quote("", 0, out, sizeof(out));
    assert_string_equal(out, "");
}

/* Text stays text, whatever colons are in it; what is meant as a head is one.
 */
static void
answers_of_plain_commands(void **state)
{
    static const struct {
        const char *out;
        int status;
        const char *body;
    } rows[] = {
        {"Hello\n", 200, "Hello\n"},
        {"", 200, ""},
        {"\n", 200, "\n"},
        {"Note: this\nis text\n", 200, "Note: this\nis text\n"},
        {"Note: this\n\nis text\n", 200, "Note: this\n\nis text\n"},
        {"Content-Type: a/b\n", 200, "Content-Type: a/b\n"},
        {"Content-Type: a/b\nno field\n\nx", 200,
         "Content-Type: a/b\nno field\n\nx"},
        {"Content-Type: a/b\n\nx", 200, "x"},
        {"content-type: a/b\r\n\r\nx", 200, "x"},
        {"Status: 404 Not Found\n\nx", 404, "x"},
        {"Location: /there\n\n", 302, ""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cgi_answer answer;

        cgi_answer_parse_plain(rows[i].out, strlen(rows[i].out), &answer);
        assert_int_equal(answer.status, rows[i].status);
        assert_int_equal(answer.body_len, strlen(rows[i].body));
        assert_memory_equal(answer.body, rows[i].body, answer.body_len);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(env_is_complete),
        cmocka_unit_test(env_of_fields),
        cmocka_unit_test(env_of_a_body),
        cmocka_unit_test(env_of_hosts),
        cmocka_unit_test(env_of_paths),
        cmocka_unit_test(env_of_many_fields),
        cmocka_unit_test(answers_that_are_valid),
        cmocka_unit_test(answers_that_are_not),
        cmocka_unit_test(answers_that_are_long),
        cmocka_unit_test(answers_of_plain_commands),
        cmocka_unit_test(quotes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
