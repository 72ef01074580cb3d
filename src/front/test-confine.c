/* What a worker that was taken over by an attacker can still do, tried by a
 * child that is confined like one. Each try says its errno by its exit status.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "front/confine.h"

#define NOT_CONFINED 200 /* no errno is as high */

static int folder = -1;

static int
as_errno(long rc)
{
    return rc < 0 ? errno : 0;
}

/* ---- tries: 0 or an errno ---- */

static int
reads_passwords(void)
{
    return as_errno(open("/etc/passwd", O_RDONLY));
}

static int
reads_its_folder(void)
{
    return as_errno(openat(folder, "os-release", O_RDONLY));
}

static int
writes_a_file(void)
{
    return as_errno(open("/tmp", O_TMPFILE | O_RDWR, 0600));
}

static int
forks(void)
{
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

    if (pid == 0) {
        _exit(0);
    }
    return as_errno(pid);
}

static int
clones_an_heir(void)
{
    int pidfd = -1;
    long pid =
        syscall(SYS_clone, CLONE_FILES | CLONE_PARENT | CLONE_PIDFD | SIGCHLD,
                0, &pidfd, 0, 0);

    if (pid == 0) {
        _exit(0);
    }
    return as_errno(pid);
}

static int
uses_clone3(void)
{
    return as_errno(syscall(SYS_clone3, NULL, 0));
}

static int
opens_a_socket(void)
{
    return as_errno(socket(AF_INET, SOCK_STREAM, 0));
}

static int
makes_a_pair(void)
{
    int pair[2];

    return as_errno(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
}

static int
maps_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? errno : 0;
}

static int
maps_memory(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? errno : 0;
}

static int
executes(void)
{
    char *const argv[] = {"true", NULL};

    return as_errno(execv("/bin/true", argv));
}

static int
traces(void)
{
    return as_errno(syscall(SYS_ptrace, 16 /* ATTACH */, getppid(), 0, 0));
}

static int
makes_an_io_uring(void)
{
    return as_errno(syscall(SYS_io_uring_setup, 8, NULL));
}

static int
becomes_root(void)
{
    return as_errno(syscall(SYS_setresuid, 0, 0, 0));
}

static int
signals_its_keeper(void)
{
    return as_errno(kill(getppid(), 0));
}

/* The group is how the keeper finds and ends what belongs to a worker. */
static int
leaves_its_group(void)
{
    return as_errno(setpgid(0, 0));
}

static int
begins_a_session(void)
{
    return as_errno(setsid());
}

/* ---- what comes of them ---- */

/* The exit status of TRY in a confined child; minus the signal that ended it.
 */
static int
status_of(int (*try)(void), unsigned by)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        unsigned got = confine(&folder, 1, true);
        _exit((got & by) == by ? try() : NOT_CONFINED);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    while (waitpid(-1, NULL, WNOHANG) > 0) { /* an heir, our child */
    }
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

struct try_case {
    const char *name;
    int (*try)(void);
    unsigned by; /* what it is that refuses, or allows it */
    int wanted;
};

#define TRY(name, by, wanted)                                                  \
    {                                                                          \
#name, name, CONFINE_##by, wanted                                      \
    }

static const struct try_case cases[] = {
    TRY(reads_passwords, PATHS, EACCES),
    TRY(reads_its_folder, PATHS, 0),
    TRY(writes_a_file, PATHS, EACCES),
    TRY(forks, CALLS, EACCES),
    TRY(clones_an_heir, CALLS, 0),
    TRY(uses_clone3, CALLS, ENOSYS),
    TRY(opens_a_socket, CALLS, EACCES),
    TRY(makes_a_pair, CALLS, 0),
    TRY(maps_code, CALLS, EACCES),
    TRY(maps_memory, CALLS, 0),
    TRY(signals_its_keeper, CALLS, EACCES),
    TRY(leaves_its_group, CALLS, EACCES),
    TRY(begins_a_session, CALLS, EACCES),
    TRY(executes, CALLS, -SIGSYS),
    TRY(traces, CALLS, -SIGSYS),
    TRY(makes_an_io_uring, CALLS, -SIGSYS),
    TRY(becomes_root, CALLS, -SIGSYS),
};

static void
what_a_confined_worker_can_do(void **state)
{
    int skipped = 0;

    folder = open("/usr/lib", O_PATH | O_DIRECTORY);
    assert_true(folder >= 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int got = status_of(cases[i].try, cases[i].by);
        if (got == NOT_CONFINED) {
            skipped++; /* a build for a sanitizer; an old kernel */
            continue;
        }
        if (got != cases[i].wanted) {
            fail_msg("%s: %d, not %d", cases[i].name, got, cases[i].wanted);
        }
    }
    print_message("# %d tries, %d not confined here\n",
                  (int)ARRAY_LEN(cases) - skipped, skipped);
    close(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_confined_worker_can_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
