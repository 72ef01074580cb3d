/* Which route answers: a configuration read from text, and requests against it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "conf/route.h"

static const char text[] = "forward http :1 to {\n"
                           "    map GET /a to /2\n"
                           "    map POST /a to /3\n"
                           "    map any /a/b to /4\n"
                           "    map GET /a/b to /5\n"
                           "    map HEAD /h to /6\n"
                           "    map GET /h to /7\n"
                           "    map PURGE /p/ to /8\n"
                           "    map DELETE /p/q to /9\n"
                           "    map GET /p/q to /10\n"
                           "}\n"
                           "forward http :2 to /12\n"
                           "forward http :3 to {\n"
                           "    map GET / to /14\n"
                           "    map PUT /x to /15\n"
                           "}\n";

static const struct {
    int listen;
    const char *method, *path;
    int line;          /* of the map in the file, or the status */
    const char *allow; /* with 405 */
} table[] = {
    {0, "GET", "/a", 2, NULL},
    {0, "HEAD", "/a", 2, NULL},
    {0, "POST", "/a", 3, NULL},
    {0, "GET", "/a/", 2, NULL},
    {0, "GET", "/a/x/y", 2, NULL},
    {0, "GET", "/ab", 404, NULL},
    {0, "GET", "/", 404, NULL},
    {0, "GET", "", 404, NULL},
    {0, "OPTIONS", "*", 404, NULL},
    {0, "GET", "/A", 404, NULL},
    {0, "PUT", "/a", 405, "GET, HEAD, POST"},
    {0, "get", "/a", 405, "GET, HEAD, POST"},
    {0, "GE", "/a", 405, "GET, HEAD, POST"},
    {0, "GETS", "/a", 405, "GET, HEAD, POST"},
    {0, "", "/a", 405, "GET, HEAD, POST"},
    {0, "GET", "/a/b", 5, NULL},
    {0, "HEAD", "/a/b/c", 5, NULL},
    {0, "POST", "/a/b", 4, NULL},
    {0, "ANYTHING", "/a/b", 4, NULL},
    {0, "PURGE", "/a/b", 4, NULL},
    {0, "GET", "/a/bc", 2, NULL},
    {0, "HEAD", "/h", 6, NULL},
    {0, "GET", "/h", 7, NULL},
    {0, "PURGE", "/p", 8, NULL},
    {0, "PURGE", "/p/q", 8, NULL}, /* a shorter path whose method fits */
    {0, "DELETE", "/p/q", 9, NULL},
    {0, "GET", "/p", 405, "PURGE"},
    {0, "POST", "/p/q/r", 405, "DELETE, GET, HEAD, PURGE"},
    {1, "GET", "/", 12, NULL},
    {1, "BREW", "/pot", 12, NULL},
    {1, "GET", "*", 404, NULL},
    {2, "GET", "/x", 14, NULL},
    {2, "PUT", "/x", 15, NULL},
    {2, "PUT", "/", 405, "GET, HEAD"},
    {2, "POST", "/x", 405, "GET, HEAD, PUT"},
};

static void
test_match(void **state)
{
    struct conf *conf = conf_parse("x.conf", text, strlen(text), stderr);

    assert_non_null(conf);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct conf_listen *listen = &conf->listens[table[i].listen];
        struct conf_match match;
        bool found =
            conf_route_match(listen, table[i].method, strlen(table[i].method),
                             table[i].path, strlen(table[i].path), &match);
        const char *path = table[i].path;

        if (table[i].line >= 400) {
            assert_false(found);
            assert_int_equal(match.status, table[i].line);
        } else {
            assert_true(found);
            assert_int_equal(match.status, 0);
            if (match.route->wheres[0].line != table[i].line) {
                fail_msg("%s %s: map of line %d instead of %d", table[i].method,
                         path, match.route->wheres[0].line, table[i].line);
            }
        }
        if (table[i].line == 405) {
            assert_string_equal(match.allow, table[i].allow);
            assert_int_equal(match.allow_len, strlen(table[i].allow));
        }
    }
    conf_free(conf);
}

/* Neither argument ends with NUL: what is behind them is not looked at. */
static void
test_lengths(void **state)
{
    struct conf *conf = conf_parse("x.conf", text, strlen(text), stderr);
    struct conf_match match;

    assert_non_null(conf);
    assert_true(
        conf_route_match(&conf->listens[0], "GETX", 3, "/ab", 2, &match));
    assert_int_equal(match.route->wheres[0].line, 2);
    conf_free(conf);
}

/* The largest table of methods that a file may have fits the Allow text, to
 * the last byte; one more is refused. */
static void
test_allow_full(void **state)
{
    char file[4096] = "forward http :1 to {\n";
    size_t n = strlen(file);
    struct conf_match match;
    struct conf *conf;

    for (int i = 0; i < 16; i++) {
        n += (size_t)snprintf(file + n, sizeof(file) - n,
                              "map AAAAAAAAAAAAAAAAAAA%c / to /x\n", 'A' + i);
    }
    snprintf(file + n, sizeof(file) - n, "}\n");
    conf = conf_parse("x.conf", file, strlen(file), stderr);
    assert_non_null(conf);
    assert_false(conf_route_match(&conf->listens[0], "GET", 3, "/", 1, &match));
    assert_int_equal(match.status, 405);
    assert_int_equal(match.allow_len, 16 * 20 + 15 * 2);
    assert_int_equal(strlen(match.allow), 350);
    conf_free(conf);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_allow_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
