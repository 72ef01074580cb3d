/* Which numbers things have in the next configuration, and what changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "conf/merge.h"
#include "conf/pack.h"

static const struct conf_bounds bounds = {CONF_LISTENS_MAX, 8, 8};

static struct conf *
parse(const char *text)
{
    struct conf *conf = conf_parse("/t/x.conf", text, strlen(text), stderr);

    assert_non_null(conf);
    return conf;
}

/* What a change from OLD (packed, or not) to TEXT gives, packed. */
static struct conf *
step(const struct conf *old, const char *text, struct conf_merge *merge,
     void **p_block)
{
    struct conf *new = parse(text);
    size_t len = 0;
    struct conf *out;

    assert_int_equal(conf_merge(old, new, &bounds, merge), 0);
    *p_block = conf_pack(&merge->conf, &len);
    assert_non_null(*p_block);
    out = conf_unpack(*p_block, len);
    assert_non_null(out);
    conf_free(new);
    return out;
}

#define A "module a { run /bin/sh }\n"
#define B "module b { run /bin/cat }\n"

static void
test_numbers_stay(void **state)
{
    struct conf *old = parse(A B "forward http :1 to { map GET / to a; "
                                 "map GET /b to b; map GET /d to /d }\n");
    struct conf_merge merge;
    void *block = NULL;
    struct conf *conf =
        step(old,
             "module c { run /bin/ls }\n" B "forward http :2 to /e\n"
             "forward http :1 to { map GET /b to b; "
             "map GET /c to c; map GET / to /d }\n",
             &merge, &block);

    assert_int_equal(conf->n_modules, 3);
    assert_int_equal(merge.modules[0], CONF_GOES);
    assert_int_equal(merge.modules[1], CONF_STAYS);
    assert_int_equal(merge.modules[2], CONF_COMES);
    assert_string_equal(conf->modules[0].name, "a");
    assert_int_equal(conf->modules[0].presence, CONF_GONE);
    assert_string_equal(conf->modules[2].name, "c");
    assert_int_equal(conf->n_listens, 2);
    assert_int_equal(merge.listens[0], CONF_STAYS);
    assert_int_equal(merge.listens[1], CONF_COMES);
    assert_string_equal(conf->listens[0].text, ":1");
    assert_int_equal(conf->listens[0].n_routes, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct conf_route *r = &conf->listens[0].routes[i];
        const struct conf_target *t = &conf->targets[r->target];

        assert_int_equal(t->presence, CONF_LIVE);
        if (strcmp(r->path, "/c") == 0) {
            assert_int_equal(t->module, 2);
        } else if (strcmp(r->path, "/b") == 0) {
            assert_int_equal(t->module, 1);
            assert_int_equal(merge.targets[r->target], CONF_STAYS);
        } else {
            assert_string_equal(t->path, "/d");
            assert_int_equal(merge.targets[r->target], CONF_STAYS);
        }
    }
    conf_merge_free(&merge);
    free(block);
    conf_free(old);
}

static void
test_what_is_free_is_used_again(void **state)
{
    struct conf *first = parse(A "forward http :1 to { map GET / to a; "
                                 "map GET /d to /d }\n");
    struct conf_merge merge;
    void *one = NULL, *two = NULL;
    struct conf *conf = step(first, B "forward http :1 to b\n", &merge, &one);
    size_t n_gone = 0;

    assert_int_equal(conf->n_modules, 2);
    conf_merge_free(&merge);
    for (size_t i = 0; i < conf->n_targets; i++) {
        if (conf->targets[i].presence == CONF_GONE) {
            conf->targets[i].presence = CONF_FREE;
            n_gone++;
        }
    }
    assert_int_equal(n_gone, 2);
    conf->modules[0].presence = CONF_FREE;
    conf = step(conf,
                B "module c { run /bin/ls }\n"
                  "forward http :1 to { map GET / to b; "
                  "map GET /c to c }\n",
                &merge, &two);
    assert_int_equal(conf->n_modules, 2);
    assert_string_equal(conf->modules[0].name, "c");
    assert_int_equal(merge.modules[0], CONF_COMES);
    assert_int_equal(merge.modules[1], CONF_STAYS);
    assert_int_equal(conf->n_targets, 3);
    conf_merge_free(&merge);
    free(one);
    free(two);
    conf_free(first);
}

static void
test_what_is_gone_comes_back(void **state)
{
    struct conf *first = parse("forward http :1 to { map GET / to /d; "
                               "map GET /e to /e }\n");
    struct conf_merge merge;
    void *one = NULL, *two = NULL;
    struct conf *conf = step(first, "forward http :1 to /e\n", &merge, &one);

    assert_int_equal(merge.targets[0], CONF_GOES);
    conf_merge_free(&merge);
    conf = step(conf, "forward http :1 to /d\n", &merge, &two);
    assert_int_equal(conf->n_targets, 2);
    assert_int_equal(merge.targets[0], CONF_RETURNS);
    assert_int_equal(merge.targets[1], CONF_GOES);
    conf_merge_free(&merge);
    free(one);
    free(two);
    conf_free(first);
}

/* Which differences start a module anew. */
static void
test_changed_modules(void **state)
{
    static const struct {
        const char *block;
        enum conf_change change;
    } table[] = {
        {"module a { run \"/bin/sh x\"; environment N=1 }", CONF_STAYS},
        {"\n\nmodule a {\n run \"/bin/sh x\"\n environment N=1\n}", CONF_STAYS},
        {"module a { run \"/bin/sh y\"; environment N=1 }", CONF_CHANGES},
        {"module a { run \"/bin/sh x\"; environment N=2 }", CONF_CHANGES},
        {"module a { run \"/bin/sh x\" }", CONF_CHANGES},
        {"module a { run \"/bin/sh x\"; environment N=1; timeout 1s }",
         CONF_CHANGES},
        {"module a { run \"/bin/sh x\"; environment N=1; idle 9s }",
         CONF_CHANGES},
        {"module a { exec \"/bin/sh x\"; environment N=1 }", CONF_CHANGES},
    };
    char text[256];

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct conf_merge merge;
        void *block = NULL;
        struct conf *old;

        snprintf(text, sizeof(text), "%s\nforward http :1 to a\n",
                 table[0].block);
        old = parse(text);
        snprintf(text, sizeof(text), "%s\nforward http :1 to a\n",
                 table[i].block);
        (void)step(old, text, &merge, &block);
        assert_int_equal(merge.modules[0], table[i].change);
        conf_merge_free(&merge);
        free(block);
        conf_free(old);
    }
}

static void
test_refusals(void **state)
{
    static const struct {
        const char *text, *why;
    } table[] = {
        {"set workers 3\nforward http :1 to /d\n", "'set workers'"},
        {"set heirs 3\nforward http :1 to /d\n", "'set heirs'"},
        {"set user root\nforward http :1 to /d\n", "'set user'"},
        {"forward http :1 to { map GET /1 to /1; map GET /2 to /2;"
         "map GET /3 to /3; map GET /4 to /4; map GET /5 to /5;"
         "map GET /6 to /6; map GET /7 to /7; map GET /8 to /8 }\n",
         "so many targets"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct conf *old = parse("forward http :1 to /d\n");
        struct conf *new = parse(table[i].text);
        struct conf_merge merge;

        assert_int_equal(conf_merge(old, new, &bounds, &merge), -EINVAL);
        assert_non_null(strstr(merge.why, table[i].why));
        conf_merge_free(&merge);
        conf_free(new);
        conf_free(old);
    }
}

static void
test_one_that_leaves_is_waited_for(void **state)
{
    struct conf *first = parse(A "forward http :1 to a\n");
    struct conf *again = parse(A B "forward http :1 to b\n");
    struct conf_merge merge;
    void *block = NULL;
    struct conf *conf = step(first, B "forward http :1 to b\n", &merge, &block);

    conf_merge_free(&merge);
    assert_int_equal(conf_merge(conf, again, &bounds, &merge), -EAGAIN);
    conf_merge_free(&merge);
    conf->modules[0].presence = CONF_FREE;
    assert_int_equal(conf_merge(conf, again, &bounds, &merge), 0);
    conf_merge_free(&merge);
    free(block);
    conf_free(again);
    conf_free(first);
}

/* A program that accepts for itself has its socket from its start on. */
static void
test_acceptors_change_with_their_address(void **state)
{
    struct conf *old = parse("module w { inetd wait /bin/cat }\n"
                             "module v { inetd wait /bin/cat }\n"
                             "forward tcp :1 to w\nforward tcp :2 to v\n");
    struct conf_merge merge;
    void *block = NULL;
    struct conf *conf = step(old,
                             "module w { inetd wait /bin/cat }\n"
                             "module v { inetd wait /bin/cat }\n"
                             "forward tcp :3 to w\nforward tcp :2 to v\n",
                             &merge, &block);

    assert_int_equal(merge.modules[0], CONF_CHANGES);
    assert_int_equal(merge.modules[1], CONF_STAYS);
    assert_non_null(conf);
    conf_merge_free(&merge);
    free(block);
    conf_free(old);
}

static void
test_no_block(void **state)
{
    struct conf *conf = parse(A "forward http :1 to a\n");
    size_t len = 0;
    char *block = conf_pack(conf, &len);

    assert_non_null(block);
    assert_null(conf_unpack(block, 0));
    assert_null(conf_unpack(block, 64));
    assert_null(conf_unpack(block, len - 1));
    block[0] ^= 1;
    assert_null(conf_unpack(block, len));
    free(block);
    conf_free(conf);
}

/* CONF as text; the caller's. */
static char *
printed(const struct conf *conf)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    conf_print(conf, out);
    fclose(out);
    return text;
}

/* What a server keeps says the same, without places, and each text once. */
static void
test_compact(void **state)
{
    static const char some[] =
        "p = /d\n"
        "module c { run \"/bin/sh -c true\"; "
        "limit files 99; environment A=b }\n"
        "module d { run \"/bin/sh -c true\"; floor 0; "
        "ceiling 3; recycle calls 7 }\n"
        "set domain a.example\n" A "forward http :1 to { map GET / to a; "
        "map any /c to c; map GET $p to d }\n"
        "forward http unix:/tmp/s mode 0600 to a\n";
    struct conf *conf =
        conf_compact(conf_parse("/tmp/x.conf", some, strlen(some), stderr));
    char *once = printed(conf);
    struct conf *again =
        conf_compact(conf_parse("/tmp/x.conf", once, strlen(once), stderr));
    char *twice = printed(again);

    assert_non_null(conf->block);
    assert_null(conf->settings);
    assert_null(conf->modules[0].wheres);
    assert_null(conf->listens[0].routes[0].wheres);
    assert_ptr_equal(conf->modules[0].argv, conf->modules[1].argv);
    assert_string_equal(conf->modules[0].argv[2], "true");
    assert_ptr_equal(conf->modules[0].folder, conf->modules[2].folder);
    assert_int_equal(conf_amount(&conf->modules[0], CONF_LIMIT_FILES), 99);
    assert_int_equal(conf_amount(&conf->modules[1], CONF_RECYCLE_CALLS), 7);
    assert_null(conf->modules[2].amounts);
    assert_true(conf_is_set(&conf->modules[0], CONF_OPTION_LIMIT));
    assert_false(conf_is_set(&conf->modules[0], CONF_OPTION_FOLDER));
    assert_non_null(strstr(once, "map GET /d to d\n"));
    assert_non_null(strstr(once, "    limit files 99\n"));
    assert_string_equal(once, twice);
    conf_free(conf);
    conf_free(again);
    free(once);
    free(twice);
}

/* More texts than the first table of them has room for. */
static void
test_many_texts(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct conf *conf;

    assert_non_null(out);
    fprintf(out, "module a { run /bin/sh;");
    for (int i = 0; i < 60; i++) {
        fprintf(out, " environment A%d=x%d;", i, i);
    }
    fprintf(out, " }\nforward http :1 to {\n");
    for (int i = 0; i < 200; i++) {
        fprintf(out, "map GET /%d to a\n", i);
    }
    fprintf(out, "}\n");
    fclose(out);
    conf = conf_compact(parse(text));
    free(text);
    for (int i = 0; i < 60; i++) {
        char name[8], value[8];

        snprintf(name, sizeof(name), "A%d", i);
        snprintf(value, sizeof(value), "x%d", i);
        assert_string_equal(conf->modules[0].environment.list[i].name, name);
        assert_string_equal(conf->modules[0].environment.list[i].value, value);
    }
    for (size_t i = 0; i < 200; i++) {
        const struct conf_route *route = &conf->listens[0].routes[i];

        assert_int_equal(strlen(route->path), route->path_len);
        assert_string_equal(route->method, "GET");
    }
    conf_free(conf);
}

/* One that went is not said to be served. */
static void
test_what_went_is_not_printed(void **state)
{
    struct conf *old = parse(A B "forward http :1 to a\n"
                                 "forward http :2 to b\n");
    struct conf_merge merge;
    void *block = NULL;
    struct conf *conf = step(old, A "forward http :1 to a\n", &merge, &block);
    char *text = printed(conf);

    assert_null(strstr(text, "module b"));
    assert_null(strstr(text, ":2"));
    assert_non_null(strstr(text, "module a"));
    free(text);
    conf_merge_free(&merge);
    free(block);
    conf_free(old);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_stay),
        cmocka_unit_test(test_what_is_free_is_used_again),
        cmocka_unit_test(test_what_is_gone_comes_back),
        cmocka_unit_test(test_changed_modules),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_one_that_leaves_is_waited_for),
        cmocka_unit_test(test_acceptors_change_with_their_address),
        cmocka_unit_test(test_no_block),
        cmocka_unit_test(test_compact),
        cmocka_unit_test(test_many_texts),
        cmocka_unit_test(test_what_went_is_not_printed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
