/* What is told of files and folders: each row makes one in an empty folder. */
#include "ctl/detect.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"

static char folder[] = "/tmp/detect-XXXXXX";

static bool
is_door(const char *path)
{
    return strstr(path, "door") != NULL;
}

/* Makes FOLDER/NAME with the bytes of TEXT and MODE, and the folder before the
 * '/' in NAME. */
static void
put(const char *name, const char *text, mode_t mode)
{
    const char *slash = strchr(name, '/');
    char path[512];
    FILE *f;

    if (slash != NULL) {
        snprintf(path, sizeof(path), "%s/%.*s", folder, (int)(slash - name),
                 name);
        mkdir(path, 0755);
    }
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    chmod(path, mode);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return ftw->level > 0 ? remove(path) : 0;
}

static int
look(const char *word, const char *as, struct detect_found *found)
{
    char path[64];
    struct detect_asked asked = {
        .word = word,
        .as = as,
        .folder = folder,
        .path = path,
        .sockets = folder,
        .is_door = is_door,
    };
    int status;

    snprintf(path, sizeof(path), "relative:%s/bin", folder);
    status = detect(&asked, found);
    assert_int_equal(status == 0, found->why[0] == '\0');
    return status;
}

#define SH "#!/bin/sh\n"

static const struct row {
    const char *name, *text;
    mode_t mode;
    const char *word;
    int status, kind;
    const char *program;  /* NULL: none */
    const char *callable; /* or the index */
    const char *module;
} rows[] = {
    {"Hello World.sh", SH, 0755, "Hello World.sh", 0, CONF_MODULE_EXEC, NULL,
     "", "hello-world"},
    {"run.sh", SH, 0755, "./run.sh", 0, CONF_MODULE_EXEC, NULL, "", "run"},
    {"to.sh", SH, 0755, "to.sh", 0, CONF_MODULE_EXEC, NULL, "", "app"},
    {"control", SH, 0755, "control", 0, CONF_MODULE_EXEC, NULL, "", "app"},
    {"_.sh", SH, 0755, "_.sh", 0, CONF_MODULE_EXEC, NULL, "", "app"},
    {".hidden", SH, 0755, ".hidden", 0, CONF_MODULE_EXEC, NULL, "", "hidden"},
    {"a.sh", SH, 0644, "a.sh", 78, 0, NULL, "", ""},
    {"a.pl", "print", 0644, "a.pl", 0, CONF_MODULE_EXEC, "perl", "", "a"},
    {"a.py", "print()", 0644, "a.py", 0, CONF_MODULE_EXEC, "python3", "", "a"},
    {"a.js", "", 0644, "a.js", 0, CONF_MODULE_HTTP, "node", "", "a"},
    {"a.php", "", 0644, "a.php", 0, CONF_MODULE_FASTCGI, "php-cgi", "a.php",
     "a"},
    {"s/index.php", "", 0644, "s", 0, CONF_MODULE_FASTCGI, "php-cgi",
     "index.php", "s"},
    {"s/index.html", "", 0644, "s/", 0, DETECT_FILES, NULL, "", "s"},
    {"s/a.txt", "", 0755, "s", 0, DETECT_FILES, NULL, "", "s"},
    {"s/a.cgi", SH, 0755, "s", 0, CONF_MODULE_SCRIPTS, NULL, "", "s"},
    {"s/server.js", "", 0644, "s", 0, CONF_MODULE_HTTP, "node", "", "s"},
    {"s/package.json", "{\"main\": \"x.js\"}", 0644, "s", 78, 0, NULL, "", ""},
    {"s/package.json", "{\"main\" : \"./package.json\"}", 0644, "s", 0,
     CONF_MODULE_HTTP, "node", "", "s"},
    {"s/package.json", "{\"main\": \"../../etc/passwd", 0644, "s", 78, 0, NULL,
     "", ""},
    {"s/.x", "", 0644, "s", 78, 0, NULL, "", ""},
    {"a.go", "", 0644, "a.go", 78, 0, NULL, "", ""},
    {"config.ru", "", 0644, "config.ru", 78, 0, NULL, "", ""},
    {"app.psgi", "", 0644, "app.psgi", 78, 0, NULL, "", ""},
    {"a", "text", 0644, "b", 78, 0, NULL, "", ""},
    {"a",
     "\x7f"
     "ELF",
     0755, "a", 78, 0, NULL, "", ""},
    {"a", "#!\n", 0755, "a", 78, 0, NULL, "", ""},
    {"a", "#! /bin/sh -e", 0755, "a", 0, CONF_MODULE_EXEC, NULL, "", "a"},
    {"a", "#!/usr/bin/env perl\n", 0755, "a", 0, CONF_MODULE_EXEC, NULL, "",
     "a"},
    {"a", "#!/usr/bin/env ruby\n", 0755, "a", 78, 0, NULL, "", ""},
    {"a:b", SH, 0755, "a:b", 0, CONF_MODULE_EXEC, NULL, "", "a-b"},
    {"a.py", "import x\nxyz = x.make()", 0644, "a.py:xyz", 0, CONF_MODULE_WSGI,
     "python3", "xyz", "a"},
    {"a.py", "xyz = 1", 0644, "a.py:other", 78, 0, NULL, "", ""},
    {"a.py", "", 0644, "b.py:app", 78, 0, NULL, "", ""},
};

static void
test_rows(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct detect_found found;

        put("bin/perl", "", 0755);
        put("bin/python3", "", 0755);
        put("bin/node", "", 0755);
        put("bin/php-cgi", "", 0755);
        put(row->name, row->text, row->mode);
        assert_int_equal(look(row->word, NULL, &found), row->status);
        if (row->status == 0) {
            assert_int_equal(found.kind, row->kind);
            assert_string_equal(found.program != NULL ? found.program : "",
                                row->program != NULL ? row->program : "");
            assert_string_equal(found.callable[0] != '\0' ? found.callable
                                                          : found.index,
                                row->callable);
            assert_string_equal(found.name, row->module);
            assert_memory_equal(found.file, folder, strlen(folder));
        }
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
}

/* What of a program in Python is an application. */
static const struct {
    const char *text;
    int status, kind;
    const char *callable;
} pythons[] = {
    {"app = 1", 0, CONF_MODULE_WSGI, "app"},
    {"app=Flask(__name__)\n", 0, CONF_MODULE_WSGI, "app"},
    {"app: Flask = Flask(__name__)\n", 0, CONF_MODULE_WSGI, "app"},
    {"app = a\napplication = b", 0, CONF_MODULE_WSGI, "application"},
    {"def application(e, s):\n  pass", 0, CONF_MODULE_WSGI, "application"},
    {"from x import app", 0, CONF_MODULE_WSGI, "app"},
    {"from x import y as app # z", 0, CONF_MODULE_WSGI, "app"},
    {"from x import (y, app)", 0, CONF_MODULE_WSGI, "app"},
    {"from app import x", 0, CONF_MODULE_EXEC, ""},
    {"from x import app as y", 0, CONF_MODULE_EXEC, ""},
    {"import application.x", 0, CONF_MODULE_EXEC, ""},
    {" app = 1", 0, CONF_MODULE_EXEC, ""},
    {"app == 1", 0, CONF_MODULE_EXEC, ""},
    {"app.run = 1", 0, CONF_MODULE_EXEC, ""},
    {"apps = 1\nmy_app = 1", 0, CONF_MODULE_EXEC, ""},
    {"# app = 1", 0, CONF_MODULE_EXEC, ""},
    {"'''\napp = 1\n'''", 0, CONF_MODULE_EXEC, ""},
    {"x = \"\"\"\napp = 1\n", 0, CONF_MODULE_EXEC, ""},
    {"x = '\"\"\"'\napp = 1\n", 0, CONF_MODULE_WSGI, "app"},
    {"x = 'it\\'s' # '''\napp = 1\n", 0, CONF_MODULE_WSGI, "app"},
    {"async def app(s, r, t):", 78, 0, ""},
    {"app = FastAPI()", 78, 0, ""},
    {"app = starlette.Starlette(x)", 78, 0, ""},
    {"app = NotFastAPI()", 0, CONF_MODULE_WSGI, "app"},
    {"", 0, CONF_MODULE_EXEC, ""},
    {"'", 0, CONF_MODULE_EXEC, ""},
    {"'\\", 0, CONF_MODULE_EXEC, ""},
    {"app", 0, CONF_MODULE_EXEC, ""},
};

static void
test_python(void **state)
{
    put("bin/python3", "", 0755);
    for (size_t i = 0; i < ARRAY_LEN(pythons); i++) {
        struct detect_found found;

        put("a.py", pythons[i].text, 0644);
        assert_int_equal(look("a.py", NULL, &found), pythons[i].status);
        if (pythons[i].status == 0) {
            assert_int_equal(found.kind, pythons[i].kind);
            assert_string_equal(found.callable, pythons[i].callable);
        }
    }
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void
test_sockets(void **state)
{
    static const char *const names[] = {"a.door", "a.sock", "php8.2-fpm.sock"};
    struct detect_found found;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        CLEAN_FD int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s", folder, names[i]);
        assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    }
    assert_int_equal(look("a.door", NULL, &found), 0);
    assert_int_equal(found.kind, DETECT_DOOR);
    assert_int_equal(look("a.sock", NULL, &found), 78);
    assert_int_equal(look("a.sock", "run", &found), 64);
    assert_int_equal(look("a.sock", "http", &found), 0);
    assert_memory_equal(found.address, "unix:/tmp/detect-", 17);
    put("index.php", "", 0644);
    assert_int_equal(look("index.php", NULL, &found), 0);
    assert_null(found.program);
    assert_non_null(strstr(found.address, "/php8.2-fpm.sock"));
    assert_int_equal(look("/dev/null", NULL, &found), 78);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Names that no configuration can hold, and those that are too long. */
static void
test_names(void **state)
{
    char *word = calloc(1, PATH_MAX + 2);
    struct detect_found found;

    put("a\nb", SH, 0755);
    assert_int_equal(look("a\nb", NULL, &found), 78);
    put("a\x1b[2J", SH, 0755);
    assert_int_equal(look("a\x1b[2J", NULL, &found), 78);
    put("a\xff", SH, 0755);
    assert_int_equal(look("a\xff", NULL, &found), 78);
    assert_int_equal(look("", NULL, &found), 64);
    memset(word, 'a', PATH_MAX + 1);
    assert_int_equal(look(word, NULL, &found), 64);
    word[255] = '\0';
    put(word, SH, 0755);
    assert_int_equal(look(word, NULL, &found), 0);
    assert_int_equal(strlen(found.name), 32);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(word);
}

static int
make_folder(void **state)
{
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int
remove_folder(void **state)
{
    return rmdir(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_python),
        cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
