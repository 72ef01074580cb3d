/* The language, with a simulated outside: what good files become, and what is
 * said of bad ones, word for word. Ends with every allocation failing once. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include "conf/test-conf.h"
#include "conf/text.h"

static const char whole[] =
    "# all of the language\n"
    "set body-limit 64K; set header-timeout 1500ms\n"
    "set body-timeout 2m\n"
    "set idle-timeout 1h\n"
    "set call-timeout 1d # and a comment\n"
    "set grace 0s\n"
    "set access-log off; set workers 3; set heirs 0; set queue 9\n"
    "set user www\n"
    "set run-folder run/./x/../y/; set state-folder ../state\n"
    "forward http :80 to {\n"
    "    map GET /hello/ to hello\n"
    "    map any / to files site; map GET / to ./hello.door\n"
    "    map POST /hello \\\n"
    "        to \"/run/with \\\"blank\\\" \\\\ {}.door\"\n"
    "    map HEAD /hello to module to }\n"
    "forward http [::1]:8081 to files /srv/www\n"
    "forward http 192.0.2.1 to /etc/app/hello.door\n"
    "module hello {\n"
    "    run \"./sub/../sub/hello -x 'a  b' c\\\\ d ''\"\n"
    "    user www; timeout 250ms; folder site }\n"
    "module to { exec date }\n";

static void
test_settings(void **state)
{
    struct conf *conf = parse_good(&fake_root, whole);

    assert_string_equal(conf->file, "app/x.conf");
    assert_string_equal(conf->folder, "/etc/app");
    assert_int_equal(conf->body_limit, 65536);
    assert_int_equal(conf->header_timeout_ns, 1500000000);
    assert_int_equal(conf->body_timeout_ns, 120000000000);
    assert_int_equal(conf->idle_timeout_ns, 3600000000000);
    assert_int_equal(conf->call_timeout_ns, 86400000000000);
    assert_int_equal(conf->grace_ns, 0);
    assert_false(conf->access_log);
    assert_int_equal(conf->workers, 3);
    assert_int_equal(conf->queue, 9);
    assert_int_equal(conf->heirs, 0);
    assert_string_equal(conf->user, "www");
    assert_string_equal(conf->run_folder, "/etc/app/run/y");
    assert_string_equal(conf->state_folder, "/etc/state");
    conf_free(conf);
}

static void
test_defaults(void **state)
{
    struct conf *conf = parse_good(&fake_plain, "forward http :1 to /x/y");

    assert_int_equal(conf->body_limit, 16777216);
    assert_int_equal(conf->header_timeout_ns, 10000000000);
    assert_int_equal(conf->body_timeout_ns, 30000000000);
    assert_int_equal(conf->idle_timeout_ns, 60000000000);
    assert_int_equal(conf->call_timeout_ns, 30000000000);
    assert_int_equal(conf->grace_ns, 30000000000);
    assert_true(conf->access_log);
    assert_int_equal(conf->workers, 0);
    assert_int_equal(conf->queue, 1024);
    assert_int_equal(conf->heirs, 2);
    assert_null(conf->user);
    assert_null(conf->run_folder);
    assert_null(conf->state_folder);
    assert_int_equal(conf->n_modules, 0);
    conf_free(conf);
    conf_free(NULL);
}

static void
test_modules(void **state)
{
    static const char *const words[] = {
        "/etc/app/sub/hello", "-x", "a  b", "c d", "",
    };
    struct conf *conf = parse_good(&fake_root, whole);
    const struct conf_module *module = &conf->modules[0];

    assert_int_equal(conf->n_modules, 2);
    assert_string_equal(module->name, "hello");
    assert_int_equal(module->kind, CONF_MODULE_RUN);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(module->argv[i], words[i]);
    }
    assert_null(module->argv[5]);
    assert_string_equal(module->user, "www");
    assert_string_equal(module->folder, "/etc/app/site");
    assert_int_equal(module->timeout_ns, 250000000);
    assert_int_equal(module->where.line, 18);
    assert_int_equal(module->where.column, 8);
    module = &conf->modules[1];
    assert_string_equal(module->name, "to");
    assert_int_equal(module->kind, CONF_MODULE_EXEC);
    assert_string_equal(module->argv[0], "/usr/bin/date");
    assert_null(module->argv[1]);
    assert_null(module->user);
    assert_string_equal(module->folder, "/etc/app");
    assert_int_equal(module->timeout_ns, 30000000000);
    conf_free(conf);
}

static void
test_kinds(void **state)
{
    struct conf *conf = parse_good(
        &fake_root,
        "forward tcp :81 to lines\n"
        "forward tcp :82 pass lines\n"
        "forward tcp :83 to each\n"
        "module lines { inetd wait date; limit rate 60 }\n"
        "module php { fastcgi; address unix:sock; root site; group www }\n"
        "module w { wsgi notes; idle 0s; environment A=b=c; read site\n"
        "  secret s from notes; recycle age 1h; environment LANG= }\n"
        "module x { scripts site; start-timeout 2s }\n"
        "module each { inetd date }\n"
        "module y { exec plain date }\n"
        "module z { scripts plain site }\n");
    const struct conf_module *m = conf->modules;

    assert_int_equal(conf->listens[0].protocol, CONF_TCP_WAIT);
    assert_int_equal(conf->listens[1].protocol, CONF_TCP_WAIT);
    assert_int_equal(conf->listens[2].protocol, CONF_TCP_PASS);
    assert_int_equal(m[0].kind, CONF_MODULE_INETD);
    assert_true(m[0].is_wait);
    assert_true(m[5].is_plain);
    assert_false(m[3].is_plain);
    assert_true(m[6].is_plain);
    assert_string_equal(m[6].root, "/etc/app/site");
    assert_int_equal(conf_amount(&m[0], CONF_LIMIT_RATE), 60);
    assert_int_equal(m[1].kind, CONF_MODULE_FASTCGI);
    assert_null(m[1].argv);
    assert_string_equal(m[1].address, "unix:/etc/app/sock");
    assert_string_equal(m[1].root, "/etc/app/site");
    assert_string_equal(m[1].group, "www");
    assert_string_equal(m[2].app, "/etc/app/notes:application");
    assert_true(m[2].has_idle);
    assert_int_equal(m[2].environment.n, 2);
    assert_string_equal(m[2].environment.list[0].name, "A");
    assert_string_equal(m[2].environment.list[0].value, "b=c");
    assert_string_equal(m[2].environment.list[1].value, "");
    assert_string_equal(m[2].secrets.list[0].name, "s");
    assert_string_equal(m[2].secrets.list[0].value, "/etc/app/notes");
    assert_string_equal(m[2].reads.list[0].value, "/etc/app/site");
    assert_int_equal(conf_amount(&m[2], CONF_RECYCLE_AGE), 3600000000000);
    assert_string_equal(m[3].root, "/etc/app/site");
    assert_int_equal(m[3].start_timeout_ns, 2000000000);
    assert_int_equal(m[2].start_timeout_ns, 30000000000);
    conf_free(conf);
}

static void
test_routes(void **state)
{
    static const struct {
        const char *method, *path;
        enum conf_target_kind kind;
        const char *target;
        int line;
    } routes[] = {
        {"HEAD", "/hello", CONF_TARGET_MODULE, NULL, 15},
        {"GET", "/hello", CONF_TARGET_MODULE, NULL, 11},
        {"POST", "/hello", CONF_TARGET_DOOR, "/run/with \"blank\" \\ {}.door",
         13},
        {"GET", "/", CONF_TARGET_DOOR, "/etc/app/hello.door", 12},
        {NULL, "/", CONF_TARGET_FILES, "/etc/app/site", 12},
    };
    struct conf *conf = parse_good(&fake_root, whole);
    const struct conf_listen *listen = &conf->listens[0];

    assert_int_equal(conf->n_listens, 3);
    assert_int_equal(listen->n_routes, 5);
    for (size_t i = 0; i < 5; i++) {
        const struct conf_route *route = &listen->routes[i];
        const struct conf_target *target = &conf->targets[route->target];

        if (routes[i].method) {
            assert_string_equal(route->method, routes[i].method);
        } else {
            assert_null(route->method);
        }
        assert_string_equal(route->path, routes[i].path);
        assert_int_equal(route->path_len, strlen(routes[i].path));
        assert_int_equal(target->kind, routes[i].kind);
        if (routes[i].target) {
            assert_string_equal(target->path, routes[i].target);
        } else {
            assert_null(target->path);
        }
        assert_int_equal(route->wheres[0].line, routes[i].line);
    }
    /* hello.door stands twice in the file and is one target */
    assert_int_equal(conf->n_targets, 6);
    assert_int_equal(conf->listens[2].n_routes, 1);
    assert_int_equal(conf->listens[2].routes[0].target,
                     listen->routes[3].target);
    conf_free(conf);
}

/* PortunusD's own lines, as far as they are HTTP. */
static void
test_portunusd(void **state)
{
    struct conf *conf =
        parse_good(&fake_plain, "forward http 0.0.0.0:80 to "
                                "/var/run/hello.door\n"
                                "forward http 0.0.0.0:81 to {\n"
                                "  map GET /primes to /var/run/primes.door\n"
                                "  map POST /primes to /var/run/add.door\n"
                                "  map PUT /p to /var/run/put.door\n"
                                "  map DELETE /p to /var/run/delete.door\n"
                                "}\n");

    assert_int_equal(conf->n_targets, 5);
    assert_string_equal(conf->targets[0].path, "/var/run/hello.door");
    assert_int_equal(conf->listens[1].n_routes, 4);
    conf_free(conf);
}

static void
test_addresses(void **state)
{
    static const struct {
        const char *text, *host;
        int family, port;
        bool is_default;
    } good[] = {
        {":80", "::", AF_INET6, 80, false},
        {":0", "::", AF_INET6, 0, false},
        {":65535", "::", AF_INET6, 65535, false},
        {"0.0.0.0:80", "0.0.0.0", AF_INET, 80, false},
        {"127.0.0.1", "127.0.0.1", AF_INET, 8080, true},
        {"localhost", "127.0.0.1", AF_INET, 8080, true},
        {"localhost:0", "127.0.0.1", AF_INET, 0, false},
        {"[::1]", "::1", AF_INET6, 8080, true},
        {"[2001:db8::7]:443", "2001:db8::7", AF_INET6, 443, false},
    };
    static const char *const bad[] = {
        "",
        ":",
        ":65536",
        ":080",
        ":+1",
        ": 1",
        "8080",
        "::1",
        "::1:80",
        "[::1",
        "[]",
        "[::1]80",
        "[::1]:",
        "[::g]:80",
        "[127.0.0.1]:1",
        "1.2.3:4",
        "1.2.3.4.:5",
        "256.0.0.1:1",
        "unix:/x",
        "example.org:80",
        "*:80",
        "1.2.3.4:x",
        "[fe80::1%lo]:1",
        ":999999",
        "localhos:1",
    };

    for (size_t i = 0; i < LEN(good); i++) {
        struct conf_listen listen = {0};
        const struct sockaddr_in *in4 = (void *)&listen.addr;
        const struct sockaddr_in6 *in6 = (void *)&listen.addr;
        bool is_6 = good[i].family == AF_INET6;
        char host[64];

        assert_null(
            conf_address_parse(good[i].text, strlen(good[i].text), &listen));
        assert_int_equal(listen.addr.ss_family, good[i].family);
        assert_int_equal(listen.addr_len, is_6 ? sizeof(*in6) : sizeof(*in4));
        assert_int_equal(ntohs(is_6 ? in6->sin6_port : in4->sin_port),
                         good[i].port);
        inet_ntop(good[i].family,
                  is_6 ? (void *)&in6->sin6_addr : (void *)&in4->sin_addr, host,
                  sizeof(host));
        assert_string_equal(host, good[i].host);
        assert_int_equal(listen.is_default_port, good[i].is_default);
    }
    for (size_t i = 0; i < LEN(bad); i++) {
        struct conf_listen listen = {0};

        if (!conf_address_parse(bad[i], strlen(bad[i]), &listen)) {
            fail_msg("'%s' was taken for an address", bad[i]);
        }
    }
}

static void
test_address_overlap(void **state)
{
    static const struct {
        const char *a, *b;
        bool overlap;
    } table[] = {
        {":80", ":80", true},
        {":80", ":81", false},
        {":0", ":0", false},
        {":80", "127.0.0.1:80", true},
        {":80", "[::1]:80", true},
        {"0.0.0.0:80", "127.0.0.1:80", true},
        {"0.0.0.0:80", "[::1]:80", false},
        {"0.0.0.0:80", ":80", true},
        {"127.0.0.1:80", "127.0.0.2:80", false},
        {"127.0.0.1", "127.0.0.1:8080", true},
        {"127.0.0.1", ":8080", false},
        {"localhost", "127.0.0.1", true},
    };

    for (size_t i = 0; i < LEN(table); i++) {
        struct conf_listen a = {0}, b = {0};

        assert_null(conf_address_parse(table[i].a, strlen(table[i].a), &a));
        assert_null(conf_address_parse(table[i].b, strlen(table[i].b), &b));
        assert_int_equal(conf_address_overlap(&a, &b), table[i].overlap);
        assert_int_equal(conf_address_overlap(&b, &a), table[i].overlap);
    }
}

static void
test_numbers(void **state)
{
    static const struct {
        const char *text;
        enum conf_number size, time;
        uint64_t value;
    } table[] = {
        {"0K", CONF_NUMBER_OK, CONF_NUMBER_UNIT, 0},
        {"3K", CONF_NUMBER_OK, CONF_NUMBER_UNIT, 3072},
        {"1M", CONF_NUMBER_OK, CONF_NUMBER_UNIT, 1048576},
        {"2G", CONF_NUMBER_OK, CONF_NUMBER_UNIT, 2147483648},
        {"17179869183G", CONF_NUMBER_OK, CONF_NUMBER_UNIT,
         18446744072635809792u},
        {"17179869184G", CONF_NUMBER_RANGE, CONF_NUMBER_UNIT, 0},
        {"18446744073709551616K", CONF_NUMBER_RANGE, CONF_NUMBER_RANGE, 0},
        {"5ms", CONF_NUMBER_UNIT, CONF_NUMBER_OK, 5000000},
        {"5s", CONF_NUMBER_UNIT, CONF_NUMBER_OK, 5000000000},
        {"5m", CONF_NUMBER_UNIT, CONF_NUMBER_OK, 300000000000},
        {"2h", CONF_NUMBER_UNIT, CONF_NUMBER_OK, 7200000000000},
        {"3d", CONF_NUMBER_UNIT, CONF_NUMBER_OK, 259200000000000},
        {"213504d", CONF_NUMBER_UNIT, CONF_NUMBER_RANGE, 0},
        {"7", CONF_NUMBER_NO_UNIT, CONF_NUMBER_NO_UNIT, 0},
        {"", CONF_NUMBER_BAD, CONF_NUMBER_BAD, 0},
        {"M", CONF_NUMBER_BAD, CONF_NUMBER_BAD, 0},
        {"-1K", CONF_NUMBER_BAD, CONF_NUMBER_BAD, 0},
        {"1.5s", CONF_NUMBER_BAD, CONF_NUMBER_BAD, 0},
        {"1k", CONF_NUMBER_UNIT, CONF_NUMBER_UNIT, 0},
        {"1m30s", CONF_NUMBER_UNIT, CONF_NUMBER_OK, 90000000000},
        {"1d2h3m4s5ms", CONF_NUMBER_UNIT, CONF_NUMBER_OK, 93784005000000},
        {"1s0ms", CONF_NUMBER_UNIT, CONF_NUMBER_OK, 1000000000},
        {"1M1K", CONF_NUMBER_UNIT, CONF_NUMBER_SUM, 0},
        {"1s1s", CONF_NUMBER_UNIT, CONF_NUMBER_SUM, 0},
        {"1s1m", CONF_NUMBER_UNIT, CONF_NUMBER_SUM, 0},
        {"1m30", CONF_NUMBER_UNIT, CONF_NUMBER_NO_UNIT, 0},
        {"1m.5s", CONF_NUMBER_UNIT, CONF_NUMBER_SUM, 0},
        {"213503d86400s", CONF_NUMBER_UNIT, CONF_NUMBER_RANGE, 0},
    };

    for (size_t i = 0; i < LEN(table); i++) {
        const char *text = table[i].text;
        uint64_t value = 0;

        assert_int_equal(conf_size_parse(text, strlen(text), &value),
                         table[i].size);
        assert_int_equal(value, table[i].size == 0 ? table[i].value : 0);
        value = 0;
        assert_int_equal(conf_time_parse(text, strlen(text), &value),
                         table[i].time);
        assert_int_equal(value, table[i].time == 0 ? table[i].value : 0);
    }
}

static void
test_near(void **state)
{
    static const char *const names[] = {"forward", "module", "set", NULL};
    static const struct {
        const char *word, *near;
    } table[] = {
        {"forwrad", "forward"}, {"foward", "forward"}, {"frwrd", "forward"},
        {"modul", "module"},    {"mdoule", "module"},  {"st", "set"},
        {"sets", "set"},        {"x", NULL},           {"", NULL},
        {"listen", NULL},       {"fwd", NULL},
    };

    for (size_t i = 0; i < LEN(table); i++) {
        const char *near =
            conf_name_near(names, table[i].word, strlen(table[i].word));

        if (table[i].near) {
            assert_non_null(near);
            assert_string_equal(near, table[i].near);
        } else {
            assert_null(near);
        }
    }
}

static void
test_paths(void **state)
{
    static const struct {
        const char *path, *absolute;
    } table[] = {
        {"x", "/a/b/x"},
        {"./x/", "/a/b/x"},
        {"../x", "/a/x"},
        {"..", "/a"},
        {"../..", "/"},
        {"../../../x", "/x"},
        {"/x//y/./z", "/x/y/z"},
        {"/x/../..", "/"},
        {"", "/a/b"},
        {"/", "/"},
        {"/..x/.y", "/..x/.y"},
    };
    struct conf_memory memory = {0};

    for (size_t i = 0; i < LEN(table); i++) {
        assert_string_equal(conf_path_absolute(&memory, "/a/b", table[i].path,
                                               strlen(table[i].path)),
                            table[i].absolute);
    }
    conf_memory_free(&memory);
}

static void
test_bytes(void **state)
{
    static const struct {
        const char *text;
        size_t len, bad;
    } table[] = {
        {"a\tb\n", 4, 4},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\xaa", 9, 9},
        {"a\0b", 3, 1},
        {"ab\r\n", 4, 2},
        {"a\x1b", 2, 1},
        {"a\x7f", 2, 1},
        {"\xef\xbb\xbfx", 4, 0},
        {"a\xc2\x85", 3, 1},         /* control, U+0085 */
        {"a\xc0\xaf", 3, 1},         /* overlong */
        {"a\xe0\x80\xaf", 4, 1},     /* overlong */
        {"a\xed\xa0\x80", 4, 1},     /* surrogate */
        {"a\xf4\x90\x80\x80", 5, 1}, /* above U+10FFFF */
        {"a\xf0\x80\x80\x80", 5, 1}, /* overlong */
        {"a\xe2\x82", 3, 1},         /* cut */
        {"a\x80", 2, 1},
        {"a\xff", 2, 1},
    };

    for (size_t i = 0; i < LEN(table); i++) {
        const char *why = NULL;

        assert_int_equal(conf_bytes_check(table[i].text, table[i].len, &why),
                         table[i].bad);
        assert_int_equal(why != NULL, table[i].bad < table[i].len);
    }
}

#define F                                                                      \
    "forward http :80 to /run/x\n" /* line 1, where it is of no matter         \
                                    */

static const struct bad {
    const char *text, *said; /* lines of SAID, "app/x.conf:" before each */
    size_t len;              /* if TEXT holds a NUL */
} bad[] = {
#include "conf/test-conf-bad.def"
};

static void
test_bad(void **state)
{
    int failed = 0;

    for (size_t i = 0; i < LEN(bad); i++) {
        size_t len = bad[i].len ? bad[i].len : strlen(bad[i].text);
        char *said, expected[4096] = "", *line, *save, *copy;
        size_t n = 0;
        struct conf *conf = parse(&fake_plain, bad[i].text, len, &said);

        copy = strdup(bad[i].said);
        for (line = strtok_r(copy, "\n", &save); line;
             line = strtok_r(NULL, "\n", &save)) {
            n += (size_t)snprintf(expected + n, sizeof(expected) - n,
                                  "app/x.conf:%s\n", line);
            assert_true(n < sizeof(expected));
        }
        free(copy);
        if (strcmp(said, expected) != 0 || conf) {
            print_error("of:\n%s\nwas said:\n%sinstead of:\n%s", bad[i].text,
                        said, expected);
            failed++;
        }
        conf_free(conf);
        free(said);
    }
    assert_int_equal(failed, 0);
}

static void
test_user_unknown(void **state)
{
    static const char text[] = F "set user wwww\n"
                                 "module a { run date; user \"\" }\n";
    char *said;

    assert_null(parse(&fake_root, text, strlen(text), &said));
    assert_string_equal(said, "app/x.conf:2:10: no user 'wwww' on this system\n"
                              "app/x.conf:3:27: no user '' on this system\n");
    free(said);
}

/* The 21st mistake and those after it are only counted as one line. */
static void
test_twenty(void **state)
{
    char text[26 * 2 + 1] = "", *said, *at;
    int lines = 0;

    for (int i = 0; i < 26; i++) {
        memcpy(text + 2 * i, "x\n", 2);
    }
    assert_null(parse(&fake_plain, text, strlen(text), &said));
    for (at = said; (at = strchr(at, '\n')); at++) {
        lines++;
    }
    assert_int_equal(lines, 21);
    assert_non_null(strstr(said, "app/x.conf:20:1: unknown word 'x'"));
    assert_null(strstr(said, "app/x.conf:21:1"));
    assert_non_null(strstr(said, "x.conf: too many mistakes: only the first "
                                 "20 are shown\n"));
    free(said);
}

static void
test_huge(void **state)
{
    size_t len = 1024 * 1024;
    char *text = malloc(len + 1), *said;
    struct conf *conf;

    assert_non_null(text);
    memset(text, '\n', len + 1);
    memcpy(text, F, strlen(F));
    conf = parse(&fake_plain, text, len, &said);
    assert_string_equal(said, "");
    assert_non_null(conf);
    conf_free(conf);
    free(said);
    assert_null(parse(&fake_plain, text, len + 1, &said));
    assert_string_equal(said,
                        "app/x.conf:1:1: the file is larger than 1 MiB\n");
    free(said);
    /* braces without end must not exhaust the parser's stack */
    memset(text, '{', len);
    assert_null(parse(&fake_plain, text, len, &said));
    assert_non_null(strstr(said, "1:9: blocks cannot be nested so deep"));
    free(said);
    free(text);
}

static void
test_load(void **state)
{
    char name[] = "/tmp/test-conf-XXXXXX", *said;
    int fd = mkstemp(name);
    size_t len;
    FILE *errors = open_memstream(&said, &len);
    struct conf *conf;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "forward http :0 to files .\n", 27), 27);
    close(fd);
    conf = conf_load(name, NULL, errors);
    assert_non_null(conf);
    assert_string_equal(conf->targets[0].path, "/tmp");
    conf_free(conf);
    unlink(name);
    assert_null(conf_load(name, NULL, errors));
    assert_null(conf_load("/", NULL, errors));
    fclose(errors);
    assert_non_null(strstr(said, ": cannot open: No such file"));
    assert_non_null(strstr(said, "/: cannot read: Is a directory\n"));
    free(said);
}

/* The linker sends the parser's calls here (--wrap). */
static long allocations_left = -1;
static bool only_one_fails;

void *__real_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);

static bool
allocation_fails(void)
{
    if (allocations_left > 0 && --allocations_left == 0) {
        return true;
    }
    return allocations_left == 0 && !only_one_fails;
}

void *
__wrap_calloc(size_t n, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

/* TEXT with every allocation failing in turn: nothing but "out of memory" is
 * said, nothing leaks (the sanitizer looks), and at last the file is read.
 * The number of allocations. */
static long
starve(const char *text, const struct conf_options *options)
{
    char said[4096];
    long n;

    for (n = 1; n < 100000; n++) {
        FILE *errors = fmemopen(said, sizeof(said), "w");
        struct conf *conf;

        assert_non_null(errors);
        setvbuf(errors, NULL, _IONBF, 0);
        memset(said, 0, sizeof(said));
        allocations_left = n;
        conf = conf_parse_with(&fake_root, options, "app/x.conf", text,
                               strlen(text), errors);
        allocations_left = -1;
        fclose(errors);
        if (conf) {
            conf_free(conf);
            break;
        }
        assert_string_equal(said, "app/x.conf: out of memory\n");
    }
    return n;
}

static void
test_no_memory(void **state)
{
    static const char *const defines[] = {"p=81", "q=x"};
    static const struct conf_options options = {defines, 2};
    static const char more[] =
        "a1 = 1; a2 = \"$p\"; a3 = \"${a2}0\\\\\"; a4 = x; p = 5\n"
        "include \"./conf.d\"\n"
        "include macros.conf; include d9.conf; include empty\n"
        "set domain \"${q}.Org\"\n"
        "forward http unix:/run/$q mode 0600 to /x/$a4/$a1\n"
        "forward tcp $host:$a2$a1 pass \"/x/$a3\"\n";

    for (int i = 0; i < 2; i++) {
        only_one_fails = i == 1;
        assert_in_range(starve(whole, NULL), 50, 1000);
        assert_in_range(starve(more, &options), 80, 1000);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_modules),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_portunusd),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_address_overlap),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_near),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_user_unknown),
        cmocka_unit_test(test_twenty),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
