/* The real table keeps the contract of world.h. (The simulated worlds stand
 * beside the tests that need them.) */
#include "base/world.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void
test_clocks(void **state)
{
    const struct world *w = world_real();
    uint64_t last = w->now(w->ctx);

    assert_true(last > 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = w->now(w->ctx);

        assert_true(now >= last);
        last = now;
    }
    assert_true(w->wall(w->ctx) / 1000000000 - (uint64_t)time(NULL) + 1 <= 2);
}

static void
test_send(void **state)
{
    const struct world *w = world_real();
    char big[65536];
    int fds[2];
    ssize_t rc;

    memset(big, 'b', sizeof(big));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(w->send(w->ctx, fds[0], "abc", 3), 3);
    do { /* a blocking socket does not block */
        rc = w->send(w->ctx, fds[0], big, sizeof(big));
    } while (rc > 0);
    assert_int_equal(rc, -EAGAIN);
    close(fds[1]);
    assert_int_equal(w->send(w->ctx, fds[0], "abc", 3), -EPIPE);
    close(fds[0]);
}

static void
test_kill(void **state)
{
    const struct world *w = world_real();
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    setpgid(pid, pid);
    assert_int_equal(w->kill(w->ctx, pid, -1, SIGKILL, 1), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(w->kill(w->ctx, pid, -1, SIGKILL, 1), -ESRCH);
    assert_int_equal(w->kill(w->ctx, 0, -1, SIGKILL, 1), -ESRCH);
    assert_int_equal(w->kill(w->ctx, -1, -1, SIGKILL, 0), -ESRCH);
}

static void
test_no_spawn(void **state)
{
    const struct world *w = world_real();
    pid_t pid = 7;
    int pidfd = 7;

    assert_int_equal(w->spawn(w->ctx, NULL, &pid, &pidfd), -ENOSYS);
    assert_int_equal(pid, 7);
    assert_int_equal(pidfd, 7);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_no_spawn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
