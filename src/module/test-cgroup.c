/* What is written to a group's files and read from them, with a folder of plain
 * files; and, where this process may make groups, real ones of the kernel. */
#include "module/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* --- Plain files ---------------------------------------------------------- */

static char top[] = "/tmp/cardea-cgroup-XXXXXX";

static void
put_file(const char *name, const char *text)
{
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", top, name);
    file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void
assert_file(const char *name, const char *want)
{
    char path[PATH_MAX];
    char text[256];
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "%s/%s", top, name);
    file = fopen(path, "re");
    assert_non_null(file);
    n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    assert_string_equal(text, want);
}

static int
setup(void **state)
{
    char path[PATH_MAX];

    if (mkdtemp(top) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/m-app", top);
    return mkdir(path, 0700);
}

static int
teardown(void **state)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -r %s", top);
    return system(command);
}

static struct cgroup
fake(bool has_memory, bool has_pids)
{
    struct cgroup group = CGROUP_NULL;

    group.fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    group.has_memory = has_memory;
    group.has_pids = has_pids;
    assert_true(group.fd >= 0);
    put_file("m-app/memory.max", "");
    put_file("m-app/memory.swap.max", "");
    put_file("m-app/pids.max", "");
    put_file("m-app/cgroup.procs", "");
    put_file("m-app/cgroup.kill", "");
    return group;
}

static void
test_bounds(void **state)
{
    struct cgroup group = fake(true, true);
    int fd = -1;

    assert_int_equal(cgroup_module(&group, "app", 67108864, 20, &fd), 0);
    assert_true(fd >= 0);
    assert_file("m-app/memory.max", "67108864");
    assert_file("m-app/memory.swap.max", "0");
    assert_file("m-app/pids.max", "20");
    assert_int_equal(cgroup_enter(fd), 0);
    assert_file("m-app/cgroup.procs", "0");
    cgroup_kill(&group, "app");
    assert_file("m-app/cgroup.kill", "1");
    close(fd);
    close(group.fd);
}

static void
test_no_bounds(void **state)
{
    struct cgroup group = fake(true, true);
    int fd = -1;

    assert_int_equal(cgroup_module(&group, "app", 0, 0, &fd), 0);
    assert_file("m-app/memory.max", "max");
    assert_file("m-app/memory.swap.max", "max");
    assert_file("m-app/pids.max", "max");
    close(fd);
    close(group.fd);
    group = fake(false, false);
    assert_int_equal(cgroup_module(&group, "app", 1, 1, &fd), 0);
    assert_file("m-app/memory.max", "");
    assert_file("m-app/pids.max", "");
    close(fd);
    close(group.fd);
}

/* A bound that cannot be written is an error, but for that of swap. */
static void
test_missing_files(void **state)
{
    struct cgroup group = fake(true, true);
    int fd = -1;

    assert_int_equal(unlinkat(group.fd, "m-app/memory.swap.max", 0), 0);
    assert_int_equal(cgroup_module(&group, "app", 1, 1, &fd), 0);
    close(fd);
    fd = -1;
    assert_int_equal(unlinkat(group.fd, "m-app/pids.max", 0), 0);
    assert_int_equal(cgroup_module(&group, "app", 1, 1, &fd), -ENOENT);
    assert_int_equal(fd, -1);
    assert_int_equal(cgroup_module(&group, "app/none", 1, 1, &fd), -ENOENT);
    close(group.fd);
}

static const struct {
    enum cgroup_event event;
    const char *text;
    int rc;
    uint64_t n;
} counts[] = {
    {CGROUP_KILLED,
     "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 0\n", 0, 3},
    {CGROUP_KILLED, "low 0\noom 5\n", -EPROTO, 0},
    {CGROUP_KILLED, "oom_kill 18446744073709551615\n", 0, UINT64_MAX},
    {CGROUP_KILLED, "oom_kill \n", -EPROTO, 0},
    {CGROUP_KILLED, "oom_kill 3x\n", -EPROTO, 0},
    {CGROUP_KILLED, "", -EPROTO, 0},
    {CGROUP_REFUSED, "max 41\n", 0, 41},
    {CGROUP_REFUSED, "max 0\n", 0, 0},
    {CGROUP_REFUSED, "maximal 41\n", -EPROTO, 0},
};

static void
test_counts(void **state)
{
    struct cgroup group = fake(true, true);

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        const char *file = counts[i].event == CGROUP_KILLED
                               ? "m-app/memory.events"
                               : "m-app/pids.events";
        uint64_t n = 0;
        int fd;

        put_file(file, counts[i].text);
        fd = cgroup_watch(&group, "app", counts[i].event);
        assert_true(fd >= 0);
        assert_int_equal(cgroup_count(fd, counts[i].event, &n), counts[i].rc);
        assert_true(n == counts[i].n);
        /* Again from its beginning. */
        assert_int_equal(cgroup_count(fd, counts[i].event, &n), counts[i].rc);
        close(fd);
    }
    assert_int_equal(cgroup_watch(&group, "none", CGROUP_KILLED), -ENOENT);
    close(group.fd);
}

/* --- The kernel's --------------------------------------------------------- */

/* What a process of a module is, that has left group and session; and it has
 * none of the keeper's descriptors, of which one is the lock. */
static pid_t
hide(const struct cgroup *group, int fd)
{
    pid_t pid = fork();

    if (pid == 0) {
        alarm(60);
        close(group->fd);
        close(group->parent_fd);
        if (cgroup_enter(fd) < 0) {
            _exit(1);
        }
        setsid();
        for (;;) {
            pause();
        }
    }
    assert_true(pid > 0);
    return pid;
}

/* The group of PID, as the kernel says it, has END as its end. */
static bool
is_in(pid_t pid, const char *end)
{
    char path[64];
    char text[PATH_MAX];
    FILE *file;
    bool found = false;

    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    while (!found && fgets(text, sizeof(text), file) != NULL) {
        text[strcspn(text, "\n")] = '\0';
        found = strncmp(text, "0::", 3) == 0 && strlen(text) > strlen(end) &&
                strcmp(text + strlen(text) - strlen(end), end) == 0;
    }
    fclose(file);
    return found;
}

static void
begin(struct cgroup *group)
{
    if (cgroup_init(group, true) < 0) {
        print_message("# no group can be made here\n");
        skip();
    }
}

static void
wait_in(pid_t pid, const char *end)
{
    for (int i = 0; i < 1000 && !is_in(pid, end); i++) {
        usleep(1000);
    }
    assert_true(is_in(pid, end));
}

static void
test_kill(void **state)
{
    struct cgroup group;
    char path[PATH_MAX];
    struct stat st;
    pid_t pid;
    int fd = -1;
    int status;

    begin(&group);
    assert_int_equal(cgroup_module(&group, "app", 0, 0, &fd), 0);
    pid = hide(&group, fd);
    wait_in(pid, "/m-app");
    cgroup_kill(&group, "none");
    cgroup_kill(&group, "app");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(fd);
    cgroup_deinit(&group);
    /* Where we were before, nothing of it is left. */
    assert_int_equal(group.fd, -1);
    assert_int_equal(cgroup_find(path, sizeof(path)), 0);
    snprintf(path + strlen(path), sizeof(path) - strlen(path), "/cardea.%d",
             (int)getpid());
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(errno, ENOENT);
}

/* A keeper that was killed: its group is ended by the next, and only then. */
static void
test_stale(void **state)
{
    struct cgroup group;
    char end[64];
    pid_t keeper;
    pid_t hidden = -1;
    int fds[2];
    char word;

    begin(&group);
    assert_int_equal(pipe(fds), 0);
    keeper = fork();
    if (keeper == 0) {
        struct cgroup own;
        int fd = -1;

        alarm(60);
        if (cgroup_init(&own, false) == 0 &&
            cgroup_module(&own, "app", 0, 0, &fd) == 0) {
            hidden = hide(&own, fd);
        }
        if (write(fds[1], &hidden, sizeof(hidden)) != sizeof(hidden)) {
            _exit(1);
        }
        close(fds[0]);
        close(fds[1]);
        for (;;) {
            pause();
        }
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &hidden, sizeof(hidden)), sizeof(hidden));
    /* The hidden one holds the pipe's end until it is no more. */
    assert_true(hidden > 0);
    snprintf(end, sizeof(end), "/cardea.%d/m-app", (int)keeper);
    wait_in(hidden, end);
    cgroup_remove_stale(&group);
    assert_true(is_in(hidden, end));
    kill(keeper, SIGKILL);
    assert_int_equal(waitpid(keeper, NULL, 0), keeper);
    cgroup_remove_stale(&group);
    assert_int_equal(read(fds[0], &word, 1), 0);
    close(fds[0]);
    cgroup_deinit(&group);
}

int
main(void)
{
    alarm(60); /* as its children: none stays for ever */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),        cmocka_unit_test(test_no_bounds),
        cmocka_unit_test(test_missing_files), cmocka_unit_test(test_counts),
        cmocka_unit_test(test_kill),          cmocka_unit_test(test_stale),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
