/* Which script a path means, in a real folder. */
#include "scripts.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char folder[64];
    int fd;
};

static void
file_make(const struct place *place, const char *name, mode_t mode)
{
    int fd = openat(place->fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int
setup(void **state)
{
    static struct place place;

    snprintf(place.folder, sizeof place.folder, "/tmp/test-scripts-XXXXXX");
    assert_non_null(mkdtemp(place.folder));
    place.fd = open(place.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(place.fd >= 0);
    file_make(&place, "run.sh", 0755);
    file_make(&place, "a b", 0755);
    file_make(&place, "plain", 0644);
    file_make(&place, ".hidden", 0755);
    assert_int_equal(mkdirat(place.fd, "sub", 0755), 0);
    file_make(&place, "sub/deep", 0755);
    assert_int_equal(symlinkat("run.sh", place.fd, "link"), 0);
    assert_int_equal(symlinkat("sub/deep", place.fd, "deep"), 0);
    assert_int_equal(symlinkat("/bin/true", place.fd, "out"), 0);
    assert_int_equal(symlinkat("../x", place.fd, "up"), 0);
    assert_int_equal(symlinkat("missing", place.fd, "broken"), 0);
    assert_int_equal(symlinkat("/proc/self/exe", place.fd, "magic"), 0);
    assert_int_equal(mkfifoat(place.fd, "pipe", 0755), 0);
    *state = &place;
    return 0;
}

static int
teardown(void **state)
{
    static const char *const names[] = {"run.sh",   "a b",   "plain", ".hidden",
                                        "sub/deep", "link",  "deep",  "out",
                                        "broken",   "magic", "pipe",  "up"};
    struct place *place = *state;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unlinkat(place->fd, names[i], 0);
    }
    unlinkat(place->fd, "sub", AT_REMOVEDIR);
    close(place->fd);
    return rmdir(place->folder);
}

static void
paths_of_scripts(void **state)
{
    static const struct {
        const char *route, *rest, *name, *script_name, *info;
    } table[] = {
        {"/cgi-bin", "/run.sh", "run.sh", "/cgi-bin/run.sh", ""},
        {"/cgi-bin", "/run.sh/", "run.sh", "/cgi-bin/run.sh", "/"},
        {"/cgi-bin", "/run.sh/a/../b", "run.sh", "/cgi-bin/run.sh", "/a/../b"},
        {"/", "run.sh", "run.sh", "/run.sh", ""},
        {"/", "/run.sh/more", "run.sh", "/run.sh", "/more"},
        {"/x/y", "/a b//z", "a b", "/x/y/a b", "//z"},
        {"/x", "/link/i", "link", "/x/link", "/i"},
        {"/x", "/deep", "deep", "/x/deep", ""},
    };
    const struct place *place = *state;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct script script;
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", place->folder, table[i].name);
        assert_int_equal(script_find(place->fd, place->folder, table[i].route,
                                     table[i].rest, &script),
                         0);
        assert_string_equal(script.path, path);
        assert_string_equal(script.route, table[i].script_name);
        assert_string_equal(script.info, table[i].info);
        script_clear(&script);
        assert_null(script.path);
    }
}

static void
paths_of_nothing(void **state)
{
    static const char *const table[] = {
        "",       "/",        "//run.sh", "/.",        "/..",    "/../run.sh",
        "/none",  "/.hidden", "/sub",     "/pipe",     "/out",   "/up",
        "/magic", "/broken",  "/run.sh ", "/sub/deep", "/RUN.SH"};
    const struct place *place = *state;
    struct script script;
    char text[400];

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(
            script_find(place->fd, place->folder, "/x", table[i], &script),
            404);
        assert_null(script.path);
    }
    memset(text, 'a', sizeof(text) - 1);
    text[0] = '/';
    for (size_t len = 254; len < 258; len++) {
        text[len] = '\0';
        assert_int_equal(
            script_find(place->fd, place->folder, "/x", text, &script), 404);
        text[len] = 'a';
    }
}

static void
a_file_that_may_not_be_run(void **state)
{
    const struct place *place = *state;
    struct script script;

    assert_int_equal(
        script_find(place->fd, place->folder, "/x", "/plain/y", &script), 403);
    assert_non_null(strstr(script.path, "/plain"));
    script_clear(&script);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_of_scripts),
        cmocka_unit_test(paths_of_nothing),
        cmocka_unit_test(a_file_that_may_not_be_run),
    };

    return cmocka_run_group_tests_name("scripts", tests, setup, teardown);
}
