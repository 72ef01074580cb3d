/* Unit tests of procs.c: real processes, real files. */
#include "cohort/procs.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* A child in a group of its own: one that computes, or one that waits. */
static pid_t
child(bool computes)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        for (volatile unsigned i = 0;; i++) {
            if (!computes) {
                pause();
            }
        }
    }
    setpgid(pid, pid);
    return pid;
}

static void
end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
test_cpu(void **state)
{
    pid_t busy = child(true);
    pid_t lazy = child(false);
    time_t until = time(NULL) + 20;

    while (procs_group(busy).cpu_ticks < 3) {
        assert_true(time(NULL) < until);
    }
    assert_true(procs_group(lazy).cpu_ticks < 3);
    assert_int_equal(procs_group(lazy).tracer, 0);
    end(busy);
    end(lazy);
    assert_int_equal(procs_group(busy).cpu_ticks, 0);
}

static void
test_traced(void **state)
{
    pid_t pid = child(false);

    assert_int_equal(procs_held_by(pid), 0);
    assert_int_equal(ptrace(PTRACE_ATTACH, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(procs_held_by(pid), getpid());
    assert_int_equal(procs_group(pid).tracer, getpid());
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    end(pid);
    assert_int_equal(procs_held_by(pid), 0);
}

static void
test_memory(void **state)
{
    assert_true(procs_memory(getpid()) > 100000);
    assert_int_equal(procs_memory(0x7ffffffe), 0);
}

static void
put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void
test_version(void **state)
{
    char folder[] = "/tmp/test-procs-XXXXXX";
    char path[64];
    char name[] = "app.sh";
    char shell[] = "-x";
    char *argv[] = {shell, name, NULL};
    char *none[] = {shell, NULL};
    uint64_t first;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/app.sh", folder);
    assert_int_equal(procs_version(argv, folder), procs_version(none, folder));
    put(path, "one");
    first = procs_version(argv, folder);
    assert_int_not_equal(first, procs_version(none, folder));
    assert_int_equal(first, procs_version(argv, folder));
    put(path, "other");
    assert_int_not_equal(first, procs_version(argv, folder));
    first = procs_version(argv, folder);
    assert_int_equal(chmod(path, 0700), 0);
    assert_int_not_equal(first, procs_version(argv, folder));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(procs_version(argv, folder), procs_version(NULL, folder));
    assert_int_equal(rmdir(folder), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_traced),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
