/* The walk and openat2 say the same of every path, and it is what is meant. */
#include "base/beneath.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char top[] = "/tmp/cardea-beneath-XXXXXX";
static int top_fd = -1;

static void
make(const char *name)
{
    int fd = openat(top_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static int
setup(void **state)
{
    if (mkdtemp(top) == NULL) {
        return -1;
    }
    top_fd = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top_fd < 0 || mkdirat(top_fd, "in", 0700) < 0 ||
        mkdirat(top_fd, "in/deep", 0700) < 0 ||
        symlinkat("file", top_fd, "in/link") < 0 ||
        symlinkat("deep", top_fd, "in/deep-link") < 0 ||
        symlinkat("/etc", top_fd, "in/out") < 0 ||
        symlinkat("nowhere", top_fd, "in/dangling") < 0) {
        return -1;
    }
    make("secret");
    make("in/file");
    make("in/deep/file");
    return 0;
}

static int
teardown(void **state)
{
    static const char *const files[] = {
        "in/deep/file", "in/link", "in/deep-link", "in/out",
        "in/dangling",  "in/file", "secret"};

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        unlinkat(top_fd, files[i], 0);
    }
    unlinkat(top_fd, "in/deep", AT_REMOVEDIR);
    unlinkat(top_fd, "in", AT_REMOVEDIR);
    close(top_fd);
    return rmdir(top);
}

static const struct {
    const char *path;
    int error; /* 0: it opens */
} cases[] = {
    {"file", 0},
    {"deep/file", 0},
    {"deep//file", 0},
    {"./deep/./file", 0},
    {"deep", 0},
    {"deep/", 0},
    {".", 0},
    {"", ENOENT},
    {"none", ENOENT},
    {"none/file", ENOENT},
    {"file/", ENOTDIR},
    {"file/file", ENOTDIR},
    {"link", ELOOP},
    {"dangling", ELOOP},
    {"deep-link/file", ELOOP},
    {"deep-link/", ELOOP},
    {"out/passwd", ELOOP},
    {"/etc/passwd", EXDEV},
    {"..", EXDEV},
    {"../secret", EXDEV},
    {"deep/../../secret", EXDEV},
};

typedef int open_by(int folder_fd, const char *path, int flags, bool one_mount);

static int
error_of(open_by *by, int in, const char *path, int flags, bool one_mount)
{
    int fd = by(in, path, flags, one_mount);
    int error = fd < 0 ? errno : 0;

    if (fd >= 0) {
        close(fd);
    }
    return error;
}

static void
test_paths(void **state)
{
    static const int flags[] = {O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                                O_PATH | O_CLOEXEC};
    int in = openat(top_fd, "in", O_PATH | O_DIRECTORY | O_CLOEXEC);

    assert_true(in >= 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t j = 0; j < 4; j++) {
            int walked =
                error_of(beneath_walk, in, cases[i].path, flags[j % 2], j >= 2);
            int opened =
                error_of(beneath_open, in, cases[i].path, flags[j % 2], j >= 2);

            if (walked != cases[i].error || opened != cases[i].error) {
                fail_msg("\"%s\" %zu: walked %d, opened %d, not %d",
                         cases[i].path, j, walked, opened, cases[i].error);
            }
        }
    }
    close(in);
}

static void
test_long_names(void **state)
{
    char name[NAME_MAX + 2];

    memset(name, 'x', sizeof(name));
    name[NAME_MAX + 1] = '\0';
    assert_int_equal(error_of(beneath_walk, top_fd, name, O_PATH, false),
                     ENAMETOOLONG);
    assert_int_equal(error_of(beneath_open, top_fd, name, O_PATH, false),
                     ENAMETOOLONG);
    name[NAME_MAX] = '\0';
    assert_int_equal(error_of(beneath_walk, top_fd, name, O_PATH, false),
                     ENOENT);
}

/* What is opened is what the path names. */
static void
test_file_is_the_one(void **state)
{
    struct stat want, got;
    int fd = beneath_walk(top_fd, "in/deep/file", O_RDONLY | O_CLOEXEC, true);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &got), 0);
    assert_int_equal(fstatat(top_fd, "in/deep/file", &want, 0), 0);
    assert_int_equal(got.st_ino, want.st_ino);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
}

/* Another mount is seen; "/" has one below it everywhere that tests run. */
static void
test_mounts(void **state)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

    assert_true(root >= 0);
    assert_int_equal(error_of(beneath_walk, root, "proc/self", O_PATH, true),
                     EXDEV);
    assert_int_equal(error_of(beneath_open, root, "proc/version", O_PATH, true),
                     EXDEV);
    assert_int_equal(
        error_of(beneath_walk, root, "proc/version", O_PATH, false), 0);
    close(root);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_file_is_the_one),
        cmocka_unit_test(test_mounts),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
