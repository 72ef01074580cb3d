/* What the shim asks of memory, descriptors and processes fails once each: a
 * command's environment is whole or none, a verdict is the same or shorter, a
 * run ends with an errno and leaves no process and no descriptor. */
#include "cgi.h"
#include "groups.h"
#include "runner.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/test-scarce.h"

/* ---- CGI as data ---- */

static void
test_environment(void **state)
{
    static char value[30000];
    const struct cgi_field fields[] = {{"X-Large", value}, {"X-Last", "last"}};
    const struct cgi_request req = {.method = "POST",
                                    .target = "/x",
                                    .query = "",
                                    .host = "example.org",
                                    .peer = "192.0.2.7",
                                    .peer_port = 4711,
                                    .id = "0123",
                                    .route = "/x",
                                    .rest = "",
                                    .fields = fields,
                                    .n_fields = 2,
                                    .body_len = 5};
    bool was_short = true;
    long n;

    memset(value, 'v', sizeof value - 1);
    for (n = 1; n < 100 && was_short; n++) {
        bool has_last = false;
        scarce_begin(n);
        char **env = cgi_env_new(&req);
        was_short = scarce_end();
        assert_true((env == NULL) == was_short);
        for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
            has_last |= strcmp(env[i], "HTTP_X_LAST=last") == 0;
        }
        assert_true(has_last || was_short);
        free(env);
    }
    print_message("# environment: %ld\n", n - 2);
    assert_in_range(n, 4, 20);
}

static void
test_verdict(void **state)
{
    static const char out[] = "Content-Type: text/plain\nno field\n\nbody";
    struct cgi_answer answer;
    char why[CGI_WHY_SIZE];
    bool was_short = true;
    long n;

    for (n = 1; n < 100 && was_short; n++) {
        scarce_begin(n);
        int status = cgi_answer_parse(out, sizeof out - 1, &answer, why);
        was_short = scarce_end();
        assert_int_equal(status, 502);
        assert_string_equal(
            why, was_short ? "the header is not valid as a whole"
                           : "line 2 of the header is not valid: \"no field\"");
    }
    print_message("# verdict: %ld\n", n - 2);
    assert_int_equal(n, 3);
}

/* ---- a run ---- */

static void
run_once(struct runner_result *result, _Atomic pid_t *group)
{
    static char *env[] = {"PATH=/usr/bin:/bin", NULL};
    static char *argv[] = {"/bin/sh", "-c", "cat; head -c 100000 /dev/zero",
                           NULL};
    const struct runner_plan plan = {.argv = argv,
                                     .envp = env,
                                     .in = "input",
                                     .in_len = 5,
                                     .out_max = 1 << 20,
                                     .time_ns = 60000000000ll,
                                     .group = group};

    runner_run(&plan, result);
}

static void
test_run(void **state)
{
    _Atomic pid_t group = -1;
    int before = scarce_count_fds();
    bool was_short = true;
    long n;

    for (n = 1; n < 100 && was_short; n++) {
        struct runner_result res;
        scarce_begin(n);
        run_once(&res, &group);
        was_short = scarce_end();
        if (was_short) {
            assert_int_equal(res.end, RUNNER_FAILED);
            assert_true(res.error == ENOMEM || res.error == EMFILE);
        } else {
            assert_int_equal(res.end, RUNNER_EXITED);
            assert_int_equal(res.exit_code, 0);
            assert_int_equal(res.out_len, 100005);
            assert_memory_equal(res.out, "input", 5);
        }
        runner_result_clear(&res);
        assert_int_equal(group, -1);
        assert_int_equal(scarce_count_fds(), before);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
    }
    print_message("# run: %ld\n", n - 2);
    assert_in_range(n, 6, 20);
}

/* ---- the watching process ---- */

static void
test_groups(void **state)
{
    int before = scarce_count_fds();
    bool was_short = true;
    long n;

    for (n = 1; n < 100 && was_short; n++) {
        scarce_begin(n);
        struct groups *groups = groups_start();
        int error = errno;
        was_short = scarce_end();
        assert_true((groups == NULL) == was_short);
        assert_int_equal(scarce_count_fds(), before);
        if (groups == NULL) {
            assert_true(error == EMFILE || error == ENOMEM || error == EAGAIN);
            assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
            assert_int_equal(errno, ECHILD);
        } else {
            /* The watching process: it ends with us, and is ours to end. */
            assert_int_equal(waitpid(-1, NULL, WNOHANG), 0);
            munmap(groups, sizeof *groups);
        }
    }
    print_message("# groups: %ld\n", n - 2);
    assert_int_equal(n, 5);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_verdict),
        cmocka_unit_test(test_run),
        /* The last: what it starts lives until we end. */
        cmocka_unit_test(test_groups),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
