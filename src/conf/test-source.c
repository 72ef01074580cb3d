/* Macros, includes, what the command line adds, and the text that a
 * configuration is printed as: with simulated files. */
#include "conf/test-conf.h"

#include <sys/un.h>

static struct conf *
parse_given(const char *text, const char *const *defines, size_t n,
            char **p_said)
{
    struct conf_options options = {defines, n};
    size_t said_len;
    FILE *errors = open_memstream(p_said, &said_len);
    struct conf *conf;

    assert_non_null(errors);
    conf = conf_parse_with(&fake_plain, &options, "app/x.conf", text,
                           strlen(text), errors);
    fclose(errors);
    return conf;
}

/* The path that the only route of listener I leads to. */
static const char *
target_path(const struct conf *conf, size_t i)
{
    assert_int_equal(conf->listens[i].n_routes, 1);
    return conf->targets[conf->listens[i].routes[0].target].path;
}

static const char macros[] =
    "port = 81; host=127.0.0.1;dir = \"/srv\" # a comment\n"
    "_x9=\"$dir/www\"\n"
    "at = \"${host}:$port\"\n"
    "words = \"date -u '+%s %S' {};#\"\n"
    "braces = \"{ map GET / to /x/y }\"; empty = \"\"; t=5\n"
    "price = \"\\$5 \\\\ \\\"$port\\\"\"\n"
    "equals = =x; method = POST; app = m\n"
    "forward http $at to $_x9/run\n"
    "forward http ${host}:8${port}8 to files ${_x9}$empty\n"
    "forward http :82 to $braces\n"
    "forward http :83 to { map \"$method\" /$equals$port to $app\n"
    " map any \"/a$t${t}b\" to \"/$price\" }\n"
    "module $app { exec $words; timeout ${t}s }\n";

static void
test_macros(void **state)
{
    struct conf *conf = parse_good(&fake_plain, macros);
    const struct conf_route *routes = conf->listens[3].routes;

    assert_string_equal(conf->listens[0].text, "127.0.0.1:81");
    assert_string_equal(target_path(conf, 0), "/srv/www/run");
    assert_string_equal(conf->listens[1].text, "127.0.0.1:8818");
    assert_string_equal(target_path(conf, 1), "/srv/www");
    /* a value is one word, whatever is in it */
    assert_string_equal(target_path(conf, 2), "/etc/app/{ map GET / to /x/y }");
    assert_string_equal(routes[0].path, "/=x81");
    assert_string_equal(routes[0].method, "POST");
    assert_string_equal(routes[1].path, "/a55b");
    assert_null(routes[1].method);
    assert_string_equal(conf->targets[routes[1].target].path, "/$5 \\ \"81\"");
    assert_string_equal(conf->modules[0].name, "m");
    assert_string_equal(conf->modules[0].argv[2], "+%s %S");
    assert_string_equal(conf->modules[0].argv[3], "{};#");
    assert_int_equal(conf->modules[0].timeout_ns, 5000000000);
    assert_int_equal(conf->n_macros, 13);
    assert_string_equal(conf->macros[3].name, "_x9");
    assert_string_equal(conf->macros[3].value, "/srv/www");
    assert_int_equal(conf->macros[3].where.line, 2);
    conf_free(conf);
}

/* What is given wins, but a file still defines a name only once. */
static void
test_given(void **state)
{
    static const char *const defines[] = {
        "port=81",
        "dir=/srv/$port",
        "empty=",
        "eq=a=b",
    };
    char *said;
    struct conf *conf =
        parse_given("port = 82\nforward http :$port to $dir/$eq$empty\n",
                    defines, 4, &said);

    assert_string_equal(said, "");
    assert_string_equal(conf->listens[0].text, ":81");
    assert_string_equal(target_path(conf, 0), "/srv/$port/a=b");
    assert_true(conf->macros[0].is_given);
    assert_int_equal(conf->macros[0].where.line, 1);
    assert_int_equal(conf->macros[1].where.line, 0);
    conf_free(conf);
    free(said);
    assert_null(parse_given("port = 82\nport = 83\ndir = a; a = $eq$empty\n"
                            "forward http :$port to /x/y\n",
                            defines, 4, &said));
    assert_string_equal(said, "app/x.conf:2:1: macro 'port' is already defined "
                              "in line 1\n");
    free(said);
}

static void
test_given_wrong(void **state)
{
    static char huge[4200];
    static const char *const defines[] = {
        "port", "=81", "9a=1",   "a-b=1", "set=1", "x=1",
        "x=2",  huge,  "a=\xff", "a=\n",  "$x=5",  "\xc3\xa4=1",
    };
    char *said;

    memset(huge, 'x', sizeof(huge) - 1);
    memcpy(huge, "huge=", 5);
    assert_null(parse_given("forward http :81 to /x/$x\n", defines,
                            LEN(defines), &said));
    assert_string_equal(
        said,
        "-D port: write NAME=VALUE\n"
        "-D =81: a macro's name is missing before the '='\n"
        "-D 9a=1: a macro's name is made of letters, digits and '_', no digit "
        "first\n"
        "-D a-b=1: a macro's name is made of letters, digits and '_', no digit "
        "first\n"
        "-D set=1: a word of the language cannot be a macro's name\n"
        "-D x=2: this macro is given twice\n"
        "-D "
        "huge=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "...: the value is longer than 4096 bytes\n"
        "-D : what is given is no text of one line\n"
        "-D : what is given is no text of one line\n"
        "-D $x=5: a macro is defined without the '$' before its name\n"
        "-D \xc3\xa4=1: a macro's name is made of letters, digits and '_', no "
        "digit first\n");
    free(said);
}

static void
test_given_unused(void **state)
{
    static const char *const defines[] = {"prot=81", "zzz=1", "bad=1x"};
    char *said;

    assert_null(parse_given("port = 80\nforward http :$port to /x/y\n"
                            "set grace $bad\n",
                            defines, 3, &said));
    assert_string_equal(
        said,
        "-D prot: no file defines or uses this macro: did you mean "
        "'port'?\n"
        "-D zzz: no file defines or uses this macro\n"
        "app/x.conf:3:11: unknown unit in '1x': the units are ms, s, m, h "
        "and d (from macro 'bad' of -D)\n");
    free(said);
}

/* Two macros' worth of text is little; what they make of each other is not. */
static void
test_bounds(void **state)
{
    static char x[4098];
    char *text, *said;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    memset(x, 'x', 4097);
    fprintf(out, "forward http :80 to /run/x\na = \"%.4096s\"\n", x);
    for (int i = 0; i < 257; i++) {
        fprintf(out, "b%d = \"$a\"\n", i);
    }
    fclose(out);
    assert_null(parse(&fake_plain, text, len, &said));
    /* 256 values of 4 KiB are 1 MiB: one more is too much, in each respect */
    assert_string_equal(said,
                        "app/x.conf:258:1: more than 256 macros\n"
                        "app/x.conf:259:9: with this, macros make more than 1 "
                        "MiB of text\n");
    free(said);
    free(text);
    out = open_memstream(&text, &len);
    fprintf(out, "forward http :80 to /run/x\na = \"%.4097s\"\nb = \"$a\"\n",
            x);
    fclose(out);
    assert_null(parse(&fake_plain, text, len, &said));
    assert_string_equal(said,
                        "app/x.conf:2:5: the value is longer than 4096 bytes\n"
                        "app/x.conf:3:6: no macro 'a' is defined before this: "
                        "write a = \"VALUE\" above it\n");
    free(said);
    free(text);
}

/* So many modules, and so many options of one. */
static void
test_many(void **state)
{
    char *text, *said;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    fputs("forward http :80 to /run/x\n", out);
    for (int i = 0; i < 1001; i++) {
        fprintf(out, "module m%d { run date }\n", i);
    }
    fclose(out);
    assert_null(parse(&fake_plain, text, len, &said));
    assert_string_equal(said, "app/x.conf:1002:8: more than 1000 modules\n");
    free(said);
    free(text);
    out = open_memstream(&text, &len);
    fputs("forward http :80 to /run/x\nmodule m {\nrun date\n", out);
    for (int i = 0; i < 65; i++) {
        fprintf(out, "environment V%d=x\n", i);
    }
    fputs("}\n", out);
    fclose(out);
    assert_null(parse(&fake_plain, text, len, &said));
    assert_string_equal(
        said, "app/x.conf:68:1: more than 64 of 'environment' in one module\n");
    free(said);
    free(text);
}

static void
test_folder(void **state)
{
    struct conf *conf = parse_good(&fake_plain, "forward http :80 to /run/x\n"
                                                "include ./conf.d/\n"
                                                "include empty\n"
                                                "forward http :83 to m\n"
                                                "forward http :84 to $a\n");

    assert_int_equal(conf->n_listens, 5);
    assert_string_equal(conf->listens[1].text, ":81");
    assert_string_equal(conf->listens[2].text, ":82");
    /* relative paths start at the file in which they stand */
    assert_string_equal(target_path(conf, 1), "/etc/app/conf.d/a.door");
    assert_string_equal(target_path(conf, 2), "/etc/app/conf.d/b.door");
    assert_string_equal(target_path(conf, 4), "/etc/app/a.door");
    assert_string_equal(conf->modules[0].argv[0], "/etc/app/hello");
    assert_string_equal(conf->modules[0].folder, "/etc/app/conf.d");
    assert_int_equal(conf->n_files, 3);
    assert_string_equal(conf->files[0].name, "app/x.conf");
    assert_string_equal(conf->files[1].name, "app/./conf.d/10-a.conf");
    assert_string_equal(conf->files[2].name, "app/./conf.d/20-b.conf");
    assert_string_equal(conf->files[1].path, "/etc/app/conf.d/10-a.conf");
    assert_int_equal(conf->files[1].from.line, 2);
    assert_string_equal(conf_where_file(conf, conf->listens[2].where),
                        "app/./conf.d/20-b.conf");
    assert_int_equal(conf->n_left_out, 4);
    assert_string_equal(conf->left_out[0], "app/./conf.d/.conf");
    conf_free(conf);
}

/* What is said of a text that includes; whole lines. */
static void
test_include_wrong(void **state)
{
    static const struct {
        const char *text, *said;
    } table[] = {
        {"include mixed\nset grace 3s\n",
         "app/x.conf:2:5: 'grace' is already set in app/mixed/a.conf:1\n"
         "app/mixed/a.conf:2:5: 'grace' is already set in line 1\n"
         "app/mixed/b.conf:1:5: 'grace' is already set in app/mixed/a.conf:1\n"
         "app/mixed/b.conf:1:15: unknown word 'oops': expected 'forward', "
         "'include', 'module', 'set' or NAME =\n"
         "app/mixed/c.conf: cannot be included: it is no plain file (by the "
         "folder's include in app/x.conf:1)\n"
         "app/mixed/d.conf:1:1: this byte is not UTF-8: save the file as "
         "UTF-8\n"},
        {"include self.conf\n",
         "app/self.conf:1:9: files include each other: app/self.conf -> "
         "app/self.conf\n"},
        {"include ring1.conf\n",
         "app/./sub/../ring3.conf:2:11: files include each other: "
         "app/ring1.conf "
         "-> app/./ring2.conf -> app/./sub/../ring3.conf -> app/ring1.conf\n"},
        {"include d1.conf\n",
         "app/d8.conf:1:9: files include one another too deep: 8 levels are "
         "possible\n"},
        {"include conf.d\ninclude link.conf\n",
         "app/x.conf:2:9: 'app/conf.d/20-b.conf' is already included in line "
         "1\n"},
        {"include huge.conf\n",
         "app/huge.conf:1:1: the file is larger than 1 MiB\n"},
        {"forward http :81 to /x/y\ninclude conf.d",
         "app/conf.d/10-a.conf:2:14: address ':81' is already taken by ':81' "
         "in "
         "app/x.conf:1\n"},
        {"include conf.d; module m { run date }",
         "app/x.conf:1:24: module 'm' is already defined in "
         "app/conf.d/10-a.conf:3\n"},
        {"include macros.conf\nport = 82; forward http :82 to /x/y",
         "app/x.conf:2:1: macro 'port' is already defined in "
         "app/macros.conf:1\n"},
        {"include macros.conf\nset grace $port; forward http :82 to /x/y",
         "app/x.conf:2:11: '81' has no unit: write ms, s, m, h or d behind it "
         "(from macro 'port' in app/macros.conf:1)\n"},
        /* braces pair within each file */
        {"include open.conf\nmap GET / to /x/y\n}\n",
         "app/x.conf:2:1: 'map' belongs inside 'forward http ADDRESS to { }'\n"
         "app/x.conf:3:1: '}' without a '{'\n"
         "app/open.conf:1:21: this '{' is never closed: add the '}'\n"},
    };

    for (size_t i = 0; i < LEN(table); i++) {
        char *said;

        assert_null(
            parse(&fake_plain, table[i].text, strlen(table[i].text), &said));
        assert_string_equal(said, table[i].said);
        free(said);
    }
}

/* A folder of one file more than is possible, of which each may be read. */
struct crowd {
    size_t n, size;
};

static int
crowd_file(void *ctx, const char *path)
{
    return strcmp(path, "/etc/d") == 0 ? CONF_FILE_FOLDER : CONF_FILE_PLAIN;
}

static ssize_t
crowd_read(void *ctx, const char *path, char *buffer, size_t size,
           uint64_t *p_device, uint64_t *p_inode)
{
    const struct crowd *crowd = ctx;

    memset(buffer, '\n', crowd->size);
    return (ssize_t)crowd->size;
}

static int
crowd_list(void *ctx, const char *path,
           int (*each)(void *arg, const char *name), void *arg)
{
    const struct crowd *crowd = ctx;
    int rc = 0;

    for (size_t i = 0; i < crowd->n && rc == 0; i++) {
        char name[32];

        snprintf(name, sizeof(name), "%zu.conf", i);
        rc = each(arg, name);
    }
    return rc;
}

static void
test_crowd(void **state)
{
    static const struct {
        struct crowd crowd;
        const char *said;
    } table[] = {
        {{1023, 0}, ""}, /* and the first file */
        {{1024, 0}, "x.conf:1:9: more than 1024 files\n"},
        {{5000, 0}, "x.conf:1:9: more than 1024 files\n"},
        {{15, 1024 * 1024}, ""},
        {{16, 1024 * 1024},
         "d/9.conf:1:1: with this file, all that was read is larger than 16 "
         "MiB\n"},
    };
    static const char text[] = "include d\nforward http :80 to /x/y\n";

    for (size_t i = 0; i < LEN(table); i++) {
        struct crowd crowd = table[i].crowd;
        const struct conf_outside outside = {
            .ctx = &crowd,
            .folder = "/etc",
            .path = "/bin",
            .file = crowd_file,
            .read = crowd_read,
            .list = crowd_list,
            .user = fake_user,
            .group = fake_user,
        };
        char *said;
        size_t len;
        FILE *errors = open_memstream(&said, &len);
        struct conf *conf = conf_parse_with(&outside, NULL, "x.conf", text,
                                            sizeof(text) - 1, errors);

        fclose(errors);
        assert_string_equal(said, table[i].said);
        assert_int_equal(conf != NULL, said[0] == '\0');
        conf_free(conf);
        free(said);
    }
}

static void
test_unix(void **state)
{
    struct conf *conf = parse_good(
        &fake_plain, "forward http unix:/run/x mode 0660 to /x/y\n"
                     "forward tcp \"unix:hello.door\" pass /x/y\n"
                     "forward tcp unix:/run/y mode 600 to mode\n"
                     "forward http 127.0.0.1 to include\n"
                     "module mode { run date }; module include { run date }\n");
    const struct sockaddr_un *un = (const void *)&conf->listens[0].addr;

    assert_int_equal(un->sun_family, AF_UNIX);
    assert_string_equal(un->sun_path, "/run/x");
    assert_int_equal(conf->listens[0].addr_len, sizeof(*un));
    assert_int_equal(conf->listens[0].mode, 0660);
    assert_false(conf->listens[0].is_default_port);
    un = (const void *)&conf->listens[1].addr;
    assert_string_equal(un->sun_path, "/etc/app/hello.door");
    assert_int_equal(conf->listens[1].mode, 0666);
    assert_int_equal(conf->listens[1].protocol, CONF_TCP_PASS);
    assert_int_equal(conf->listens[2].mode, 0600);
    assert_true(conf->listens[3].is_default_port);
    conf_free(conf);
}

/* What `set metrics` stands for, and that it is printed as it was written. */
static void
test_metrics(void **state)
{
    static const char *const rows[][2] = {
        {"127.0.0.1:9464", "set metrics 127.0.0.1:9464  # app/x.conf:1\n"},
        {"127.1.2.3:9464", "set metrics 127.1.2.3:9464  # app/x.conf:1\n"},
        {"[::1]:9464", "set metrics [::1]:9464  # app/x.conf:1\n"},
        {"unix:/run/m", "set metrics unix:/run/m  # app/x.conf:1\n"},
        {":9464 public", "set metrics :9464 public  # app/x.conf:1\n"},
        {"10.0.0.1:9464 public",
         "set metrics 10.0.0.1:9464 public  # app/x.conf:1\n"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char text[200];
        size_t len;

        snprintf(text, sizeof(text),
                 "set metrics %s\nforward http :80 to /a.door\n", rows[i][0]);
        struct conf *conf = parse_good(&fake_plain, text);
        assert_int_equal(conf->n_modules, 1);
        assert_string_equal(conf->modules[0].name, "cardea-metrics");
        assert_true(conf->modules[0].is_hidden);
        assert_string_equal(conf->modules[0].argv[0], "/usr/bin/cardea");
        assert_string_equal(conf->modules[0].argv[1], "metrics");
        assert_string_equal(conf->modules[0].argv[3], "/etc/app/x.conf");
        assert_null(conf->modules[0].argv[4]);
        assert_int_equal(conf->n_listens, 2);
        assert_false(conf->listens[0].is_hidden);
        assert_true(conf->listens[1].is_hidden);
        assert_int_equal(conf->listens[1].n_routes, 1);
        char *printed = NULL;
        FILE *out = open_memstream(&printed, &len);
        conf_print(conf, out);
        fclose(out);
        assert_non_null(strstr(printed, rows[i][1]));
        assert_null(strstr(printed, "cardea-metrics"));
        free(printed);
        conf_free(conf);
    }
}

static void
test_domain(void **state)
{
    struct conf *conf = parse_good(&fake_plain, "set domain WWW.Example-1.org\n"
                                                "forward http :80 to /x/y\n");

    assert_string_equal(conf->domain, "www.example-1.org");
    conf_free(conf);
    conf = parse_good(&fake_plain, "forward http :80 to /x/y\n");
    assert_null(conf->domain);
    conf_free(conf);
}

/* The printed text without what changes: where things come from. */
static char *
print_plain(const struct conf *conf)
{
    char *text, *out;
    size_t len, n = 0;
    FILE *file = open_memstream(&text, &len);

    conf_print(conf, file);
    fclose(file);
    out = calloc(1, len + 1);
    assert_non_null(out);
    for (char *line = text, *end; *line; line = end + 1) {
        char *comment = NULL;

        end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        for (char *at = line; (at = strstr(at, "  # ")); at++) {
            if (!strchr(at, '"')) {
                comment = at; /* else it stands in a string */
                break;
            }
        }
        if (comment) {
            *comment = '\0';
        }
        if (line[0] != '#') {
            n += (size_t)snprintf(out + n, len + 1 - n, "%s\n", line);
        }
    }
    free(text);
    return out;
}

/* What is printed means the same: it is printed as the same text again. */
static void
test_print_again(void **state)
{
    static const char more[] =
        "set body-limit 1023K; set grace 0s; set idle-timeout 90s\n"
        "set header-timeout 1m1ms; set access-log off; set domain a.b\n"
        "set run-folder \"/r \\$ \\\\ \\\" # x\"\n"
        "forward http unix:./hello.door mode 0620 to files site\n"
        "forward tcp :81 to \"/a  # b\"\n"
        "forward tcp :82 pass /x\n"
        "forward http [::1] to { map POST / to module set; map any /x to set2\n"
        " map \"GTE\" \"/x y\" to /d; map HEAD /x to files site }\n"
        "forward http :83 to { map GET / to /x/y }\n"
        "module set { run \"date 'a  b' '' \\\\' \\\\\\\\ 'x\\\"\\$y' "
        "it\\\\'s '#;{}'\" }\n"
        "module set2 { exec date; timeout 1500ms; folder / }\n";
    static const char kinds[] =
        "forward tcp :81 to lines; forward tcp :82 pass lines\n"
        "forward http :80 to { map GET /p to php; map GET /q to s }\n"
        "module lines { inetd wait \"date -u\"; limit rate 60 }\n"
        "module p { exec plain \"date -u\" }\n"
        "module lines2 { inetd \"date wait\"; idle 0s; floor 1; recycle age "
        "36h }\n"
        "module php { fastcgi; address unix:/run/a; root site; index a.php }\n"
        "module s { scgi date; start-timeout 5s; limit memory 1536M }\n"
        "module h { http \"date x\"; address [::1]:81; calls per copy 8; limit "
        "cpu "
        "90s }\n"
        "module w { wsgi notes:app; python /usr/bin/date; copies 7\n"
        " floor 0; ceiling 9; queue 5 }\n"
        "module x { scripts site; environment \"A=b \\$ \\\" #\"\n"
        " environment B=; secret a-1 from notes; secret b from sub/hello\n"
        " read site; read \"/\"; write notes; limit files 16; limit "
        "processes 1\n recycle calls 5; recycle memory 1G; idle 90s }\n";
    static const char *const files[] = {macros, more, kinds,
                                        "include conf.d\nb = $a"};

    for (size_t i = 0; i < LEN(files); i++) {
        struct conf *conf = parse_good(&fake_plain, files[i]);
        char *first = print_plain(conf), *second;

        conf_free(conf);
        conf = parse_good(&fake_plain, first);
        second = print_plain(conf);
        assert_string_equal(first, second);
        conf_free(conf);
        free(first);
        free(second);
    }
}

static void
test_print(void **state)
{
    static const char *const defines[] = {"port=8181", "only=1h"};
    char *said, *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    struct conf *conf = parse_given("port = 82\n"
                                    "include conf.d\n"
                                    "at = \"127.0.0.1:$port\"\n"
                                    "forward http \"$at\" to {\n"
                                    "    map GET /a to m\n"
                                    "    map any /a/b to files ./site\n"
                                    "}\n"
                                    "forward tcp unix:/run/x pass /run/y.door\n"
                                    "set grace $only; set idle-timeout 1m30s\n",
                                    defines, 2, &said);

    assert_string_equal(said, "");
    assert_non_null(conf);
    conf_print(conf, out);
    fclose(out);
    assert_string_equal(
        text,
        "# read: app/x.conf\n"
        "# read: app/conf.d/10-a.conf (included in app/x.conf:2)\n"
        "# read: app/conf.d/20-b.conf (included in app/x.conf:2)\n"
        "# left out: app/conf.d/.conf (only names *.conf are read)\n"
        "# left out: app/conf.d/.hidden.conf (only names *.conf are read)\n"
        "# left out: app/conf.d/README (only names *.conf are read)\n"
        "\n"
        "# Macros: below, their values stand in their places.\n"
        "port = \"8181\"  # -D, instead of app/x.conf:1\n"
        "only = \"1h\"  # -D\n"
        "a = \"./a.door\"  # app/conf.d/10-a.conf:1\n"
        "at = \"127.0.0.1:8181\"  # app/x.conf:3\n"
        "\n"
        "set body-limit 16M  # default\n"
        "set header-timeout 10s  # default\n"
        "set body-timeout 30s  # default\n"
        "set idle-timeout 90s  # app/x.conf:9\n"
        "set call-timeout 30s  # default\n"
        "set grace 1h  # app/x.conf:9, $only of -D\n"
        "set access-log on  # default\n"
        "# workers: one a CPU  # default\n"
        "set queue 1024  # default\n"
        "set heirs 2  # default\n"
        "set core-files off  # default\n"
        "# metrics: none  # default\n"
        "# domain: none  # default\n"
        "# user: nobody, where Cardea is started as root  # default\n"
        "# run-folder: chosen at the start  # default\n"
        "# state-folder: chosen at the start  # default\n"
        "\n"
        "module m {  # app/conf.d/10-a.conf:3\n"
        "    run \"/etc/app/hello\"  # app/conf.d/10-a.conf:3\n"
        "    folder /etc/app/conf.d  # default\n"
        "    # user: Cardea's own  # default\n"
        "    timeout 30s  # default\n"
        "    start-timeout 30s  # default\n"
        "}\n"
        "\n"
        "forward http :81 to /etc/app/conf.d/a.door  # app/conf.d/10-a.conf:2, "
        "$a\n"
        "\n"
        "forward http :82 to /etc/app/conf.d/b.door  # app/conf.d/20-b.conf:1\n"
        "\n"
        "forward http 127.0.0.1:8181 to {  # app/x.conf:4, $at\n"
        "    map any /a/b to files /etc/app/site  # app/x.conf:6\n"
        "    map GET /a to m  # app/x.conf:5\n"
        "}\n"
        "\n"
        "forward tcp unix:/run/x mode 0666 pass /run/y.door  # mode: default  "
        "# app/x.conf:8\n");
    conf_free(conf);
    free(said);
    free(text);
}

/* Every part of a line that came from a macro says so. */
static void
test_print_macros(void **state)
{
    char *said, *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    struct conf *conf = parse_given("d = /run\np = /a\nm = 0600\nv = GET\n"
                                    "forward http unix:$d/s mode $m to {\n"
                                    "    map $v $p to $d/x.door\n"
                                    "    map any $p$v to $d/x.door\n"
                                    "    map any / to $d/$p.door\n"
                                    "}\n"
                                    "forward tcp :83 to $d/echo.door\n"
                                    "f = conf.d\ninclude $f\n",
                                    NULL, 0, &said);

    assert_string_equal(said, "");
    assert_non_null(conf);
    conf_print(conf, out);
    fclose(out);
    assert_non_null(strstr(
        text, "forward http unix:/run/s mode 0600 to {  # app/x.conf:5, $d, "
              "$m\n"
              "    map any /aGET to /run/x.door  # app/x.conf:7, $p and "
              "others, $d\n"
              "    map GET /a to /run/x.door  # app/x.conf:6, $v, $p, $d\n"
              "    map any / to /run/a.door  # app/x.conf:8, $d and others\n"));
    assert_non_null(strstr(
        text, "forward tcp :83 to /run/echo.door  # app/x.conf:10, $d\n"));
    assert_non_null(strstr(
        text,
        "# read: app/conf.d/10-a.conf (included in app/x.conf:12, $f)\n"));
    conf_free(conf);
    free(said);
    free(text);
}

/* What is wrong with the bounds of growth, each said at its place. */
static void
test_growth_refused(void **state)
{
    static const char text[] = "forward http :0 to a\n"
                               "module a { exec date; floor 2 }\n"
                               "module b { inetd wait date; floor 0 }\n"
                               "forward tcp :0 to b\n"
                               "module c { run date; floor 9; ceiling 3 }\n"
                               "module d { run date; calls 3 }\n";
    static const char *const says[] = {
        "2:23: 'floor' is 0 or 1 for a module with 'exec'",
        "3:29: 'floor 0' is of no use to a module with 'inetd wait'",
        "5:22: 'floor' is above 'ceiling' in line 5",
        "6:22: write calls per copy NUMBER",
    };
    char *said;

    (void)state;
    assert_null(parse(&fake_plain, text, strlen(text), &said));
    for (size_t i = 0; i < LEN(says); i++) {
        assert_non_null(strstr(said, says[i]));
    }
    free(said);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_macros),
        cmocka_unit_test(test_given),
        cmocka_unit_test(test_given_wrong),
        cmocka_unit_test(test_given_unused),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_include_wrong),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_domain),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_print_again),
        cmocka_unit_test(test_print),
        cmocka_unit_test(test_print_macros),
        cmocka_unit_test(test_growth_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
