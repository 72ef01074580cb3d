/* An older kernel than there is: what is newer fails as it would there, and all
 * else works. A filter cannot be taken off, so each case is a child, which ends
 * with the line of the first check that failed. Numbers are literals: headers
 * of 6.1 do not name what is newer. */
#include "base/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHECK(what)                                                            \
    if (!(what)) {                                                             \
        fprintf(stderr, "line %d: not so: %s (errno %d)\n", __LINE__, #what,   \
                errno);                                                        \
        _exit(1);                                                              \
    }
#define CHECK_FAILS(call, error) CHECK((call) == -1 && errno == (error))

static void
run_child(void (*body)(void))
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void
hide(const char *version)
{
    char why[128] = "";

    CHECK(kernel_hide(version, why, sizeof(why)) == 0);
    CHECK(why[0] == '\0');
}

static void
newer_is_hidden(void)
{
    struct iovec part = {(char[1]){0}, 1};
    int pair[2];
    int on = 1;
    socklen_t len = sizeof(on);

    hide("6.1");
    for (long nr = 451; nr < 500; nr++) {
        CHECK_FAILS(syscall(nr, 0, 0, 0, 0, 0, 0), ENOSYS);
    }
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    for (int option = 76; option < 90; option++) {
        CHECK_FAILS(setsockopt(pair[0], SOL_SOCKET, option, &on, sizeof(on)),
                    ENOPROTOOPT);
        CHECK_FAILS(getsockopt(pair[0], SOL_SOCKET, option, &on, &len),
                    ENOPROTOOPT);
    }
    CHECK_FAILS(memfd_create("x", 0x0008), EINVAL);     /* MFD_NOEXEC_SEAL */
    CHECK_FAILS(memfd_create("x", 0x0010), EINVAL);     /* MFD_EXEC */
    CHECK_FAILS(fcntl(pair[0], 1027, pair[0]), EINVAL); /* F_DUPFD_QUERY */
    CHECK_FAILS(prctl(66, 0, 0, 0, 0), EINVAL);         /* PR_GET_MDWE */
    CHECK_FAILS(prctl(68, 0, 0, 0, 0), EINVAL);
    CHECK_FAILS(syscall(SYS_pidfd_open, getpid(), O_EXCL), EINVAL);
    CHECK_FAILS(ioctl(pair[0], 0xc040ff0b, 0), ENOTTY); /* PIDFD_GET_INFO */
    CHECK_FAILS(syscall(SYS_pwritev2, 1, &part, 1, 0L, 0L, 0x40), EOPNOTSUPP);
}

static void
older_works(void)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY};
    struct ucred who;
    socklen_t len = sizeof(who);
    char byte = 'x';
    struct iovec part = {&byte, 1};
    int pair[2];
    int on = 1;
    int n;
    int fd;

    hide("6.1");
    /* The last ones that 6.1 has; EINVAL is theirs. */
    CHECK_FAILS(syscall(449, NULL, 0, 0, NULL, 0), EINVAL); /* futex_waitv */
    CHECK(syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how)) >= 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
    CHECK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &who, &len) == 0);
    CHECK(who.pid == getpid());
    CHECK(syscall(SYS_pwritev2, pair[0], &part, 1, -1L, -1L, 0) == 1);
    CHECK(ioctl(pair[1], FIONREAD, &n) == 0 && n == 1);
    CHECK((fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING)) >= 0);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) == 0);
    CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_SEAL));
    CHECK(fcntl(fd, F_DUPFD_CLOEXEC, 3) > fd);
    CHECK(prctl(PR_SET_NAME, "older") == 0);
    CHECK((fd = (int)syscall(SYS_pidfd_open, getpid(), 0)) >= 0);
    CHECK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0);
    CHECK(close_range(3, ~0u, 0) == 0);
}

/* A later version has what came until then, as far as this kernel does. */
static void
later_has_more(void)
{
    bool mine = memfd_create("x", 0x0008) >= 0;

    hide("6.3");
    CHECK_FAILS(syscall(451, 0, 0, 0, 0), ENOSYS);
    CHECK((memfd_create("x", 0x0008) >= 0) == mine);
    hide("6.1"); /* one more, on top */
    CHECK_FAILS(memfd_create("x", 0x0008), EINVAL);
}

static void
exec_inherits(void)
{
    char self[] = "/proc/self/exe";
    char *const argv[] = {self, (char[]){"--hidden"}, NULL};

    hide("6.1");
    execv(self, argv);
    CHECK(!"executed");
}

/* Root keeps the right to become another (the keeper's children do). */
static void
root_can_change_user(void)
{
    hide("6.1");
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHECK(setresgid(65534, 65534, 65534) == 0);
    CHECK(setresuid(65534, 65534, 65534) == 0);
    CHECK(geteuid() == 65534);
}

static void
works_without_root(void)
{
    CHECK(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
    hide("6.1");
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK_FAILS(memfd_create("x", 0x0008), EINVAL);
}

static void
test_hidden(void **state)
{
    run_child(newer_is_hidden);
}

static void
test_older(void **state)
{
    run_child(older_works);
}

static void
test_later(void **state)
{
    run_child(later_has_more);
}

static void
test_exec(void **state)
{
    run_child(exec_inherits);
}

static void
test_users(void **state)
{
    if (geteuid() == 0) {
        run_child(root_can_change_user);
    }
    run_child(works_without_root);
}

static void
test_versions(void **state)
{
    static const char *const bad[] = {
        "6",    "6.",  "6.0",  "6.01", "6.1.2", "6.20", "6.1x", " 6.1",
        "5.15", "7.0", "6.-1", "x",    "6.+1",  "6.1 ", "16.1", "6.99999999",
    };
    int before = prctl(PR_GET_SECCOMP);
    char why[128];

    assert_int_equal(kernel_hide(NULL, why, sizeof(why)), 0);
    assert_int_equal(kernel_hide("", why, sizeof(why)), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char want[128];

        assert_int_equal(kernel_hide(bad[i], why, sizeof(why)), -EINVAL);
        snprintf(want, sizeof(want),
                 "CARDEA_KERNEL=%s: no kernel that can be feigned; known are "
                 "6.1 to 6.19",
                 bad[i]);
        assert_string_equal(why, want);
    }
    /* Nothing was hidden from us. */
    assert_int_equal(prctl(PR_GET_SECCOMP), before);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions), cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_older),    cmocka_unit_test(test_later),
        cmocka_unit_test(test_exec),     cmocka_unit_test(test_users),
    };

    if (argc > 1 && strcmp(argv[1], "--hidden") == 0) {
        CHECK_FAILS(syscall(451, 0, 0, 0, 0), ENOSYS);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
