/* A start for which anything is short is a negative errno, no child is left,
 * and no descriptor; the next start works. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/test-scarce.h"
#include "module/spawn.h"

static void
test_start(void **state)
{
    static char path[] = "/bin/true";
    static char *argv[] = {path, NULL};
    const struct spawn_plan plan = {.argv = argv};
    int before = scarce_count_fds();
    long n;

    for (n = 1; n < 100; n++) {
        pid_t pid = -1;
        int pidfd = -1;
        scarce_begin(n);
        int rc = spawn_start(&plan, &pid, &pidfd);
        bool was_short = scarce_end();
        if (rc == 0) {
            assert_int_equal(waitpid(pid, NULL, 0), pid);
            close(pidfd);
        } else {
            assert_true(was_short);
            assert_true(rc == -EMFILE || rc == -ENOMEM || rc == -EAGAIN);
        }
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(scarce_count_fds(), before);
        if (!was_short) {
            break;
        }
    }
    print_message("# spawn: %ld\n", n - 1);
    assert_in_range(n, 2, 20);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
