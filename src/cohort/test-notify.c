/* What a manager hears, and what it cannot make us do. */
#include "cohort/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A manager's socket at PATH ('@': abstract), named in the environment. */
static int
manager(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    memcpy(at.sun_path, path, len);
    if (path[0] == '@') {
        at.sun_path[0] = '\0';
    }
    assert_int_equal(bind(fd, (struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                                      len + (path[0] == '/'))),
                     0);
    setenv("NOTIFY_SOCKET", path, 1);
    return fd;
}

static void
assert_heard(int fd, const char *text)
{
    char heard[64];
    ssize_t n = recv(fd, heard, sizeof(heard), MSG_DONTWAIT);

    assert_int_equal(n, strlen(text));
    assert_memory_equal(heard, text, strlen(text));
}

static void
test_both_kinds_of_socket(void **state)
{
    char folder[] = "/tmp/notify-XXXXXX";
    char names[2][64];

    assert_non_null(mkdtemp(folder));
    snprintf(names[0], sizeof(names[0]), "%s/s", folder);
    snprintf(names[1], sizeof(names[1]), "@notify-%d", (int)getpid());
    for (int i = 0; i < 2; i++) {
        int fd = manager(names[i]);
        struct notify notify;

        notify_init(&notify);
        assert_int_equal(notify.due, UINT64_MAX);
        notify_tick(&notify, 1000);
        notify_say(&notify, NOTIFY_READY);
        assert_heard(fd, "READY=1");
        notify_deinit(&notify);
        notify_say(&notify, NOTIFY_READY);
        assert_int_equal(recv(fd, names[1], 1, MSG_DONTWAIT), -1);
        close(fd);
    }
    unlink(names[0]);
    rmdir(folder);
}

/* Said at once and then at half the time that the manager waits. */
static void
test_signs_of_life(void **state)
{
    char name[64];
    struct notify notify;
    int fd;

    snprintf(name, sizeof(name), "@notify-life-%d", (int)getpid());
    fd = manager(name);
    setenv("WATCHDOG_USEC", "3000000", 1);
    notify_init(&notify);
    notify_tick(&notify, 100);
    assert_heard(fd, "WATCHDOG=1");
    assert_int_equal(notify.due, 1500000100);
    notify_tick(&notify, 1500000099);
    assert_int_equal(recv(fd, name, 1, MSG_DONTWAIT), -1);
    notify_tick(&notify, 1500000100);
    assert_heard(fd, "WATCHDOG=1");
    notify_deinit(&notify);
    setenv("WATCHDOG_PID", "1", 1);
    notify_init(&notify);
    assert_int_equal(notify.due, UINT64_MAX);
    notify_deinit(&notify);
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
    close(fd);
}

static void
test_what_cannot_be(void **state)
{
    static const char *const paths[] = {
        "",
        "/",
        "@",
        "relative",
        "vsock:2:1",
        ("/a-path-of-more-than-a-hundred-and-eight-bytes/xxxxxxxxxxxxxxxxxxxxxx"
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")};
    static const char *const times[] = {"", "-1", "x", "1x",
                                        "99999999999999999999"};
    struct notify notify;
    char name[64];

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        setenv("NOTIFY_SOCKET", paths[i], 1);
        notify_init(&notify);
        assert_int_equal(notify.fd, -1);
        notify_deinit(&notify);
    }
    snprintf(name, sizeof(name), "@notify-none-%d", (int)getpid());
    setenv("NOTIFY_SOCKET", name, 1);
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        setenv("WATCHDOG_USEC", times[i], 1);
        notify_init(&notify);
        assert_int_equal(notify.due, UINT64_MAX);
        notify_say(&notify, NOTIFY_READY); /* nobody listens */
        notify_deinit(&notify);
    }
    unsetenv("NOTIFY_SOCKET");
    notify_init(&notify);
    assert_int_equal(notify.fd, -1);
    notify_deinit(&notify);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_kinds_of_socket),
        cmocka_unit_test(test_signs_of_life),
        cmocka_unit_test(test_what_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
