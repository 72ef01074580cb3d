/* Real processes: what a child gets, and what comes back when it cannot start.
 */
#include "module/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/util.h"
#include "base/world.h"

static char *const env[] = {"PATH=/usr/bin:/bin", "X=1", NULL};

/* Runs ARGV with its standard output read into TEXT; its wait status. */
static int
run(const struct spawn_plan *plan, char *text, size_t size)
{
    struct spawn_plan mine = *plan;
    struct spawn_fd fds[1];
    struct pollfd ended = {.events = POLLIN};
    size_t len = 0;
    ssize_t got;
    pid_t pid = 0;
    int status = 0;
    int pipes[2];

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    fds[0] = (struct spawn_fd){pipes[1], 1};
    if (mine.n_fds == 0) {
        mine.fds = fds;
        mine.n_fds = 1;
    }
    assert_int_equal(spawn_start(&mine, &pid, &ended.fd), 0);
    close(pipes[1]);
    assert_true(pid > 0);
    assert_true(fcntl(ended.fd, F_GETFD) & FD_CLOEXEC);
    while ((got = read(pipes[0], text + len, size - 1 - len)) > 0) {
        len += (size_t)got;
    }
    text[len] = '\0';
    close(pipes[0]);
    assert_int_equal(poll(&ended, 1, 10000), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(ended.fd);
    return status;
}

static void
test_exec(void **state)
{
    char *const argv[] = {"sh", "-c", "echo $X; pwd; exit 3", NULL};
    struct spawn_plan plan = {.argv = argv, .envp = env, .folder = "/usr"};
    char text[256];
    int status = run(&plan, text, sizeof(text));

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3);
    assert_string_equal(text, "1\n/usr\n");
}

/* Nothing but 0, 1 and 2 (and the ls' own folder descriptor, 3). */
static void
test_no_leak(void **state)
{
    char *const argv[] = {"sh", "-c",
                          "ls /proc/self/fd; readlink /proc/$$/fd/0", NULL};
    struct spawn_plan plan = {.argv = argv, .envp = env};
    char text[256];
    int leak = open("/dev/zero", O_RDONLY); /* no O_CLOEXEC, on purpose */

    assert_true(leak > 2);
    assert_true(fcntl(leak, F_DUPFD, 500) >= 500);
    assert_int_equal(run(&plan, text, sizeof(text)), 0);
    assert_string_equal(text, "0\n1\n2\n3\n/dev/null\n");
    close(leak);
    close(500);
}

/* The limit of descriptors that the plan names, before the program begins. */
static void
test_files(void **state)
{
    char *const argv[] = {"sh", "-c", "ulimit -Sn; ulimit -Hn", NULL};
    struct rlimit files = {50, 60};
    struct spawn_plan plan = {.argv = argv, .envp = env, .files = &files};
    char text[256];

    assert_int_equal(run(&plan, text, sizeof(text)), 0);
    assert_string_equal(text, "50\n60\n");
}

/* Exchanged numbers arrive where they should. */
static void
test_swap(void **state)
{
    char *const argv[] = {"sh", "-c",
                          "readlink /proc/$$/fd/7 /proc/$$/fd/9 >&8", NULL};
    struct spawn_fd fds[3];
    struct spawn_plan plan = {
        .argv = argv, .envp = env, .fds = fds, .n_fds = 3};
    struct pollfd ended = {.events = POLLIN};
    char text[256] = "";
    int pipes[2];
    pid_t pid;

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    int full = open("/dev/full", O_RDONLY | O_CLOEXEC);

    dup2(zero, 9);
    dup2(full, 7);
    fds[0] = (struct spawn_fd){9, 7};
    fds[1] = (struct spawn_fd){7, 9};
    fds[2] = (struct spawn_fd){pipes[1], 8};
    assert_int_equal(spawn_start(&plan, &pid, &ended.fd), 0);
    close(pipes[1]);
    assert_int_equal(poll(&ended, 1, 10000), 1);
    assert_true(read(pipes[0], text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "/dev/zero\n/dev/full\n");
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(pipes[0]);
    close(ended.fd);
    close(zero);
    close(full);
    close(7);
    close(9);
}

static void
test_signals(void **state)
{
    char *const argv[] = {"sh", "-c",
                          "grep -E 'Sig(Blk|Ign)' /proc/self/status; "
                          "read -r pid name state parent group rest "
                          "</proc/$$/stat; "
                          "test $group = $$ || echo no group",
                          NULL};
    struct spawn_plan plan = {.argv = argv, .envp = env};
    char text[256];
    sigset_t set;
    sigset_t old;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &old);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(run(&plan, text, sizeof(text)), 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
    signal(SIGPIPE, SIG_DFL);
    assert_string_equal(text, "SigBlk:\t0000000000000000\n"
                              "SigIgn:\t0000000000000000\n");
}

static void
test_errors(void **state)
{
    char *const missing[] = {"/nowhere/program", NULL};
    char *const plain[] = {"/etc/passwd", NULL};
    char *const truth[] = {"true", NULL};
    const struct {
        struct spawn_plan plan;
        int error;
    } rows[] = {
        {{.argv = missing, .envp = env}, -ENOENT},
        {{.argv = plain, .envp = env}, -EACCES},
        {{.argv = truth, .envp = env, .folder = "/nowhere"}, -ENOENT},
        {{.argv = truth, .envp = env, .folder = "/etc/passwd"}, -ENOTDIR},
        {{.argv = truth, .envp = env, .user = "no-such-user-here"}, -ESRCH},
        {{.argv = truth, .envp = env, .group = "no-such-group"}, -ENODATA},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        pid_t pid = 77;
        int pidfd = 77;

        assert_int_equal(spawn_start(&rows[i].plan, &pid, &pidfd),
                         rows[i].error);
        assert_int_equal(pid, 77);
        assert_int_equal(pidfd, 77);
        /* and no zombie is left */
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
    }
}

static void
test_user(void **state)
{
    char *const argv[] = {"sh", "-c", "id -un; id -Gn; id -ru", NULL};
    struct spawn_plan plan = {.argv = argv, .envp = env, .user = "nobody"};
    char text[256];

    if (geteuid() != 0) {
        pid_t pid;
        int pidfd;

        plan.user = "root";
        assert_int_equal(spawn_start(&plan, &pid, &pidfd), -EPERM);
        return;
    }
    assert_int_equal(run(&plan, text, sizeof(text)), 0);
    assert_string_equal(text, "nobody\nnogroup\n65534\n");
}

/* A group instead of the user's own. */
static void
test_group(void **state)
{
    char *const argv[] = {"sh", "-c", "id -un; id -gn; id -Gn", NULL};
    struct spawn_plan plan = {
        .argv = argv, .envp = env, .user = "nobody", .group = "daemon"};
    char text[256];

    if (geteuid() != 0) {
        pid_t pid;
        int pidfd;

        plan.user = NULL;
        assert_int_equal(spawn_start(&plan, &pid, &pidfd), -EPERM);
        return;
    }
    assert_int_equal(run(&plan, text, sizeof(text)), 0);
    assert_string_equal(text, "nobody\ndaemon\ndaemon\n");
    plan.user = NULL; /* our user, another group */
    assert_int_equal(run(&plan, text, sizeof(text)), 0);
    assert_memory_equal(text, "root\ndaemon\n", 12);
    plan.user = "root"; /* no change at all */
    plan.group = "root";
    assert_int_equal(run(&plan, text, sizeof(text)), 0);
    assert_memory_equal(text, "root\nroot\n", 10);
}

/* Of all bounds; and no right is gained by executing another's program. */
static void
test_limits(void **state)
{
    char *const argv[] = {"sh", "-c",
                          "ulimit -v; ulimit -n; ulimit -t; ulimit -Ht; "
                          "grep NoNewPrivs /proc/self/status",
                          NULL};
    struct rlimit files = {50, 60};
    struct limits limits = {.n = 0};
    struct spawn_plan plan = {
        .argv = argv, .envp = env, .files = &files, .limits = &limits};
    char text[256];

    limits_add(&limits, RLIMIT_AS, 512 << 20);
    limits_add(&limits, RLIMIT_NOFILE, 40);
    limits_add(&limits, RLIMIT_CPU, 9);
    assert_int_equal(run(&plan, text, sizeof(text)), 0);
    assert_string_equal(text, "524288\n40\n9\n10\nNoNewPrivs:\t1\n");
}

static int
count_fds(void *arg)
{
    int n = 0;

    for (int fd = 0; fd < 1000; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n == *(int *)arg && getpgrp() == getpid() ? 42 : 1;
}

static void
test_run_form(void **state)
{
    char *const argv[] = {"worker", NULL};
    int want = 4;
    struct spawn_fd fds[] = {{0, 0}, {1, 1}, {2, 2}, {0, 5}};
    struct spawn_plan plan = {.argv = argv,
                              .run = count_fds,
                              .run_arg = &want,
                              .fds = fds,
                              .n_fds = 4};
    char text[8];
    int status = run(&plan, text, sizeof(text));

    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void
test_world(void **state)
{
    const struct world *w = spawn_world();
    char *const argv[] = {"sleep", "1000", NULL};
    struct spawn_plan plan = {.argv = argv, .envp = env};
    int status;
    pid_t pid;
    int pidfd;

    assert_int_equal(w->spawn(w->ctx, &plan, &pid, &pidfd), 0);
    assert_int_equal(w->kill(w->ctx, pid, pidfd, SIGTERM, 0), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    assert_int_equal(w->kill(w->ctx, pid, pidfd, SIGTERM, 0), -ESRCH);
    close(pidfd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec),   cmocka_unit_test(test_no_leak),
        cmocka_unit_test(test_swap),   cmocka_unit_test(test_signals),
        cmocka_unit_test(test_errors), cmocka_unit_test(test_user),
        cmocka_unit_test(test_group),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_files),  cmocka_unit_test(test_run_form),
        cmocka_unit_test(test_world),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
