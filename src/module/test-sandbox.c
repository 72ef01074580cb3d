/* What a confined process reaches, tried in a child: nobody comes out again. */
#include "module/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char top[] = "/tmp/cardea-sandbox-XXXXXX";

static void
make_file(const char *name)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", top, name);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

static int
setup(void **state)
{
    static const char *const folders[] = {"read", "write", "other"};
    char path[256];

    if (mkdtemp(top) == NULL) {
        return -1;
    }
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", top, folders[i]);
        if (mkdir(path, 0700) < 0) {
            return -1;
        }
    }
    make_file("read/file");
    make_file("write/file");
    make_file("other/file");
    make_file("alone");
    return 0;
}

static int
teardown(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf %s", top);
    return system(command); /* NOLINT: a name of our own */
}

/* 0, or the errno, of an open beneath the top. */
static int
try_open(const char *name, int flags)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", top, name);
    fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno;
    }
    close(fd);
    return 0;
}

static int
try_rename(const char *from, const char *to)
{
    char paths[2][256];

    snprintf(paths[0], sizeof(paths[0]), "%s/%s", top, from);
    snprintf(paths[1], sizeof(paths[1]), "%s/%s", top, to);
    return rename(paths[0], paths[1]) < 0 ? errno : 0;
}

/* The number of the first line that is not as it should be, or 0. */
static int
look_around(int fd)
{
    const int version = sandbox_version();

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sandbox_enter(fd) != 0) {
        return __LINE__;
    }
#define EXPECT(what, error)                                                    \
    if ((what) != (error)) {                                                   \
        return __LINE__;                                                       \
    }
    EXPECT(try_open("read/file", O_RDONLY), 0);
    EXPECT(try_open("read", O_RDONLY | O_DIRECTORY), 0);
    EXPECT(try_open("read/file", O_WRONLY), EACCES);
    EXPECT(try_open("read/new", O_WRONLY | O_CREAT), EACCES);
    EXPECT(try_open("write/file", O_RDWR), 0);
    EXPECT(try_open("write/new", O_WRONLY | O_CREAT), 0);
    EXPECT(try_open("other/file", O_RDONLY), EACCES);
    EXPECT(try_open("other", O_RDONLY | O_DIRECTORY), EACCES);
    EXPECT(try_open("alone", O_RDONLY), 0);
    EXPECT(try_open("alone", O_WRONLY), EACCES);
    EXPECT(try_open("", O_RDONLY | O_DIRECTORY), EACCES);
    EXPECT(try_rename("write/new", "write/newer"), 0);
    EXPECT(try_rename("write/newer", "other/newer"),
           version >= 2 ? EACCES : EXDEV);
    EXPECT(version >= 6 ? kill(getppid(), 0) < 0 && errno == EPERM : 1, 1);
    return 0;
}

static void
test_confined(void **state)
{
    char paths[3][256];
    struct sandbox_path list[4];
    size_t bad = 77;
    int status = -1;
    int fd = -1;
    pid_t pid;

    if (sandbox_version() == 0) {
        skip();
    }
    snprintf(paths[0], sizeof(paths[0]), "%s/read", top);
    snprintf(paths[1], sizeof(paths[1]), "%s/write", top);
    snprintf(paths[2], sizeof(paths[2]), "%s/alone", top);
    list[0] = (struct sandbox_path){paths[0], SANDBOX_READ, false};
    list[1] =
        (struct sandbox_path){paths[1], SANDBOX_READ | SANDBOX_WRITE, false};
    list[2] = (struct sandbox_path){paths[2], SANDBOX_READ, false};
    list[3] = (struct sandbox_path){"/nowhere/at-all", SANDBOX_READ, true};
    assert_int_equal(sandbox_make(list, 4, &fd, &bad), 0);
    assert_int_equal(bad, 4);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    pid = fork();
    if (pid == 0) {
        int line = look_around(fd);

        if (line != 0) {
            fprintf(stderr, "%s:%d: not as it should be\n", __FILE__, line);
        }
        _exit(line != 0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(fd);
}

static void
test_errors(void **state)
{
    const struct sandbox_path list[] = {
        {"/usr", SANDBOX_READ, false},
        {"/nowhere/at-all", SANDBOX_READ, false},
    };
    size_t bad = 77;
    int fd = 77;

    if (sandbox_version() == 0) {
        assert_int_equal(sandbox_make(list, 2, &fd, &bad), -EOPNOTSUPP);
        assert_int_equal(bad, 2);
        return;
    }
    assert_int_equal(sandbox_make(list, 2, &fd, &bad), -ENOENT);
    assert_int_equal(bad, 1);
    assert_int_equal(fd, 77);
    assert_int_equal(sandbox_enter(-1), -EBADF);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_confined),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
