/* Starting a process so that nothing of ours leaks into it: descriptors,
 * signals, rights. All that can fail before the fork (the user's name) is done
 * before it; what fails between fork and exec travels back over a pipe whose
 * write end closes by itself when the exec succeeds, so the caller's call gives
 * the true error and no half-started process is left.
 *
 * Invariants: between fork and exec only async-signal-safe calls run, but for
 * the run form, whose caller must be single-threaded; a child that could not
 * start is reaped here. */
#include "module/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/util.h"
#include "base/world.h"
#include "module/cgroup.h"
#include "module/identity.h"
#include "module/sandbox.h"

/* Default actions and an empty mask. The handlers of faults stay for the run
 * form: they are a sanitizer's, and an exec drops them anyway. */
static void
reset_signals(void)
{
    static const struct sigaction standard = {.sa_handler = SIG_DFL};
    /* libc does not let its own two signals be touched; a parent that ignores
     * them (some supervisors ignore all 64) hands that on. Zeroes: SIG_DFL. */
    static const char kernel_standard[32] = {0};
    sigset_t none;

    for (int sig = 32; sig < SIGRTMIN; sig++) {
        syscall(SYS_rt_sigaction, sig, kernel_standard, NULL, 8);
    }
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        struct sigaction now;

        if (sigaction(sig, NULL, &now) == 0 &&
            (now.sa_handler == SIG_IGN ||
             (sig != SIGSEGV && sig != SIGBUS && sig != SIGFPE &&
              sig != SIGILL && now.sa_handler != SIG_DFL))) {
            sigaction(sig, &standard, NULL);
        }
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool
is_wanted(const struct spawn_plan *plan, int fd)
{
    for (size_t i = 0; i < plan->n_fds; i++) {
        if (plan->fds[i].to == fd) {
            return true;
        }
    }
    return false;
}

/* The lowest descriptor above FD that stays open, or -1. */
static int
next_wanted(const struct spawn_plan *plan, int error_fd, int fd)
{
    int best = error_fd > fd ? error_fd : -1;

    for (size_t i = 0; i < plan->n_fds; i++) {
        int to = plan->fds[i].to;

        if (to > fd && (best < 0 || to < best)) {
            best = to;
        }
    }
    return best;
}

static void
close_others(const struct spawn_plan *plan, int error_fd)
{
    int last = 2;

    for (;;) {
        int next = next_wanted(plan, error_fd, last);

        if (next < 0) {
            break;
        }
        if (next > last + 1) {
            close_range((unsigned)last + 1, (unsigned)next - 1, 0);
        }
        last = next;
    }
    close_range((unsigned)last + 1, UINT_MAX, 0);
}

/* 0, 1 and 2 exist always: a program that opens a file must not get one of
 * these numbers and have its error messages written there. */
static int
fill_standard(const struct spawn_plan *plan)
{
    for (int fd = 0; fd <= 2; fd++) {
        int null_fd;

        if (is_wanted(plan, fd)) {
            continue;
        }
        close(fd);
        null_fd = open("/dev/null", O_RDWR | O_NOCTTY);
        if (null_fd != fd) {
            return null_fd < 0 ? -errno : -EBADF;
        }
    }
    return 0;
}

/* Copies every source above all numbers in play (where nothing is open any
 * more, so the copies' numbers are known), then each down to its place. */
static int
place_fds(const struct spawn_plan *plan, int *p_error_fd)
{
    int base = *p_error_fd + 1;

    for (size_t i = 0; i < plan->n_fds; i++) {
        base = MAX_OF(base, MAX_OF(plan->fds[i].to, plan->fds[i].from) + 1);
    }
    close_range((unsigned)base, UINT_MAX, 0);
    if (fcntl(*p_error_fd, F_DUPFD_CLOEXEC, base) != base) {
        return -EMFILE;
    }
    *p_error_fd = base;
    for (size_t i = 0; i < plan->n_fds; i++) {
        if (fcntl(plan->fds[i].from, F_DUPFD_CLOEXEC, base + 1 + (int)i) < 0) {
            return -errno;
        }
    }
    for (size_t i = 0; i < plan->n_fds; i++) {
        if (dup2(base + 1 + (int)i, plan->fds[i].to) < 0) {
            return -errno;
        }
    }
    close_others(plan, *p_error_fd);
    return fill_standard(plan);
}

/* A program must not outlive the keeper that alone can end or replace it, be it
 * killed. Not a worker: that one sees it by its control socket. */
static int
die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
        return -errno;
    }
    return getppid() == parent ? 0 : -ESRCH; /* dead before we could ask */
}

/* For a program: it belongs to its control group, nothing that it executes
 * gains rights, and it stays within its paths. First of all, while the ruleset
 * is still open: it keeps nobody from what is left to do. */
static int
confine(const struct spawn_plan *plan)
{
    int rc = 0;

    if (plan->run != NULL) {
        return 0;
    }
    if (plan->group_fd > 0) {
        rc = cgroup_enter(plan->group_fd);
    }
    if (rc < 0) {
        return rc;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return -errno;
    }
    return plan->sandbox > 0 ? sandbox_enter(plan->sandbox) : 0;
}

static int
prepare_child(const struct spawn_plan *plan, const struct identity *who,
              pid_t parent, int *p_error_fd)
{
    int rc;

    if (setpgid(0, 0) < 0) {
        return -errno;
    }
    rc = confine(plan);
    if (rc == 0) {
        rc = place_fds(plan, p_error_fd);
    }
    if (rc == 0 && plan->files != NULL &&
        setrlimit(RLIMIT_NOFILE, plan->files) < 0) {
        rc = -errno;
    }
    if (rc == 0 && plan->limits != NULL) {
        rc = limits_apply(plan->limits);
    }
    if (rc == 0) {
        rc = identity_become(who);
    }
    if (rc == 0 && plan->run == NULL) {
        rc = die_with(parent); /* after the user: a change forgets it */
    }
    if (rc == 0 && plan->folder != NULL && chdir(plan->folder) < 0) {
        rc = -errno;
    }
    reset_signals();
    return rc;
}

static void __attribute__((noreturn))
child_main(const struct spawn_plan *plan, const struct identity *who,
           pid_t parent, int error_fd)
{
    int rc = prepare_child(plan, who, parent, &error_fd);

    if (rc == 0 && plan->run != NULL) {
        close(error_fd);
        _exit(plan->run(plan->run_arg));
    }
    if (rc == 0) {
        char *const nothing[] = {NULL};

        execvpe(plan->argv[0], plan->argv,
                plan->envp != NULL ? plan->envp : nothing);
        rc = -errno;
    }
    if (write(error_fd, &rc, sizeof(rc)) != sizeof(rc)) {
        _exit(126);
    }
    _exit(127);
}

/* 0 when the child ran, else its negative errno (and it is reaped). */
static int
wait_started(pid_t pid, int error_fd)
{
    int error = 0;
    ssize_t got;

    do {
        got = read(error_fd, &error, sizeof(error));
    } while (got < 0 && errno == EINTR);
    if (got == 0) {
        return 0;
    }
    if (got < 0) {
        kill(pid, SIGKILL); /* it may be running: we cannot tell */
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    return got == sizeof(error) && error < 0 ? error : -EIO;
}

static pid_t
fork_blocked(const struct spawn_plan *plan, const struct identity *who,
             int error_fd)
{
    sigset_t all;
    sigset_t old;
    pid_t parent = getpid();
    pid_t pid;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    pid = fork();
    if (pid == 0) {
        child_main(plan, who, parent, error_fd);
    }
    if (pid < 0) {
        pid = -errno;
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    return pid;
}

int
spawn_start(const struct spawn_plan *plan, pid_t *p_pid, int *p_pidfd)
{
    struct identity who;
    int fds[2];
    int rc = identity_find(plan->user, plan->group, &who);
    pid_t pid;

    if (rc < 0) {
        return rc;
    }
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    pid = fork_blocked(plan, &who, fds[1]);
    close(fds[1]);
    rc = pid < 0 ? (int)pid : wait_started(pid, fds[0]);
    close(fds[0]);
    if (rc < 0) {
        return rc;
    }
    *p_pid = pid;
    /* Ours and not reaped, so the number still means this process. */
    *p_pidfd = pidfd_open(pid, 0);
    if (*p_pidfd < 0) {
        rc = -errno;
        kill(-pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
        return rc;
    }
    fcntl(*p_pidfd, F_SETFD, FD_CLOEXEC);
    return 0;
}

static int
real_spawn(void *ctx, const struct spawn_plan *plan, pid_t *p_pid, int *p_pidfd)
{
    return spawn_start(plan, p_pid, p_pidfd);
}

static uint64_t
real_now(void *ctx)
{
    return world_real()->now(NULL);
}

static uint64_t
real_wall(void *ctx)
{
    return world_real()->wall(NULL);
}

static int
real_kill(void *ctx, pid_t pid, int pidfd, int signal, int group)
{
    return world_real()->kill(NULL, pid, pidfd, signal, group);
}

static ssize_t
real_send(void *ctx, int fd, const void *bytes, size_t len)
{
    return world_real()->send(NULL, fd, bytes, len);
}

const struct world *
spawn_world(void)
{
    static const struct world whole = {
        .now = real_now,
        .wall = real_wall,
        .spawn = real_spawn,
        .kill = real_kill,
        .send = real_send,
    };

    return &whole;
}
