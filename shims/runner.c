/* One command, from start to reaping. The problem is that a command may do
 * anything: never read its input, never stop writing, ignore SIGTERM, leave
 * children behind that hold the pipe open. So one poll loop does everything, no
 * write or read ever blocks, and the end is the command's own exit (told by its
 * pidfd), never the end of its output.
 *
 * Invariants: the process is not reaped before its group got SIGKILL, so that
 * neither number can have passed to a stranger; each descriptor of ours is
 * close-on-exec; in_fd, out_fd and err_fd are -1 as soon as they are closed. */
#include "runner.h"

#include "base/limits.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GRACE_MAX_NS ((int64_t)(200 * NS_PER_MS))
#define OUT_FIRST    ((size_t)16 * 1024)
#define PAUSE_MAX_MS 3600000
#define HEAR_MAX     64 /* reads of standard error after the end */

struct run {
    const struct runner_plan *plan;
    struct runner_result *res;
    pid_t pid;
    int pidfd, in_fd, out_fd, err_fd;
    size_t in_done, out_cap;
    int64_t grace_ns, term_at, kill_at; /* monotonic */
    bool judged;                        /* res->end says why it must die */
    bool termed, killed;
};

static int64_t
clock_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec;
}

static void
fd_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* The command must die for the reason END, first reason wins. */
static void
run_judge(struct run *run, enum runner_end end, int error)
{
    if (!run->judged) {
        run->judged = true;
        run->res->end = end;
        run->res->error = error;
    }
}

/* To the group and to its leader, which may have moved to another group. */
static void
run_signal(struct run *run, int sig)
{
    kill(-run->pid, sig);
    pidfd_send_signal(run->pidfd, sig, NULL, 0);
}

/* ----- starting ----- */

/* What parent and child of a vfork() share. */
struct start {
    const struct runner_plan *plan;
    int in, out; /* the command's ends; IN is -1 for /dev/null */
    int err;     /* -1: ours */
    pid_t parent;
    volatile int error; /* the child's, if it did not become the command */
};

/* Default signals, the mask empty. Nothing may arrive before that: a handler of
 * ours would run in the child, on our memory. */
static void
child_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    int sig;

    for (sig = 1; sig < NSIG; sig++) {
        sigaction(sig, &action, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Secrets are read from their start by each command: a descriptor that several
 * share has one place, so each gets one of its own. Without /proc the place is
 * set back, and two that read at once may disturb each other. */
static void
child_secrets(int first_closed)
{
    for (int fd = 3; fd < first_closed && fd < 100; fd++) {
        char path[] = "/proc/self/fd/\0\0";
        int own;

        path[14] = (char)('0' + (fd < 10 ? fd : fd / 10));
        path[15] = (char)(fd < 10 ? '\0' : '0' + fd % 10);
        own = open(path, O_RDONLY | O_CLOEXEC);
        if (own < 0 || dup2(own, fd) < 0) {
            (void)lseek(fd, 0, SEEK_SET);
        }
    }
}

/* In the child, on the parent's memory and stack, while the parent's thread
 * waits: only system calls, and nothing is changed but START->error and the
 * group's number. That is there before the command can do anything, and if the
 * parent died before it was there, the command does not start: see groups.c. */
static _Noreturn void
child_main(struct start *start)
{
    const struct runner_plan *plan = start->plan;

    setpgid(0, 0);
    if (plan->group != NULL) {
        atomic_store(plan->group, getpid());
    }
    if (getppid() != start->parent) {
        _exit(127);
    }
    if (start->in < 0) {
        start->in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    if (dup2(start->in, 0) == 0 && dup2(start->out, 1) == 1 &&
        (start->err < 0 || dup2(start->err, 2) == 2) &&
        (plan->folder == NULL || chdir(plan->folder) == 0)) {
        /* Another thread may hold what it could not mark yet. */
        close_range((unsigned)MAX_OF(plan->first_closed, 3), ~0U,
                    CLOSE_RANGE_CLOEXEC);
        child_secrets(plan->first_closed);
        child_signals();
        start->error = plan->limits != NULL ? -limits_apply(plan->limits) : 0;
        if (start->error != 0) {
            _exit(127);
        }
        execvpe(plan->argv[0], plan->argv, plan->envp);
    }
    start->error = errno;
    _exit(127);
}

/* vfork() neither copies our memory nor cares for the locks of other threads;
 * the frame of this function must outlive the child's use of the stack, so it
 * does nothing else. */
__attribute__((noinline)) static pid_t
child_start(struct start *start)
{
    pid_t pid = vfork(); /* NOLINT: posix_spawn() cannot store its number */

    if (pid == 0) {
        child_main(start); /* NOLINT: nothing but system calls */
    }
    return pid;
}

/* 0 and *P_PID, or an errno and there is no child. */
static int
command_start(struct start start, pid_t *p_pid)
{
    const struct runner_plan *plan = start.plan;
    sigset_t all, before;
    pid_t before_group = plan->group != NULL ? atomic_load(plan->group) : 0;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *p_pid = child_start(&start);
    if (*p_pid < 0) {
        rc = errno;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0 || start.error == 0) {
        return rc;
    }
    if (plan->group != NULL) {
        atomic_store(plan->group, before_group);
    }
    while (waitpid(*p_pid, NULL, 0) < 0 && errno == EINTR) {
    }
    return start.error;
}

static int
fd_unblock(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? errno : 0;
}

/* The pipes that PLAN needs, ours without waiting. 0 or an errno. */
static int
pipes_open(const struct runner_plan *plan, int in[2], int out[2], int err[2])
{
    int rc = 0;

    if ((!plan->has_fd && plan->in_len > 0 && pipe2(in, O_CLOEXEC) < 0) ||
        (!plan->has_fd && pipe2(out, O_CLOEXEC) < 0) ||
        (plan->err != NULL && pipe2(err, O_CLOEXEC) < 0)) {
        rc = errno;
    }
    if (rc == 0 && in[1] >= 0) {
        rc = fd_unblock(in[1]);
    }
    if (rc == 0 && out[0] >= 0) {
        rc = fd_unblock(out[0]);
    }
    if (rc == 0 && err[0] >= 0) {
        rc = fd_unblock(err[0]);
    }
    return rc;
}

/* Pipes and process. 0, or an errno and nothing is left open. */
static int
run_start(struct run *run)
{
    const struct runner_plan *plan = run->plan;
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
    int rc = pipes_open(plan, in, out, err);

    if (rc == 0) {
        rc = command_start(
            (struct start){.plan = plan,
                           .in = plan->has_fd ? plan->fd : in[0],
                           .out = plan->has_fd ? plan->fd : out[1],
                           .err = err[1],
                           .parent = getpid()},
            &run->pid);
    }
    fd_close(&in[0]);
    fd_close(&out[1]);
    fd_close(&err[1]);
    if (rc != 0) {
        fd_close(&in[1]);
        fd_close(&out[0]);
        fd_close(&err[0]);
        return rc;
    }
    run->in_fd = in[1];
    run->out_fd = out[0];
    run->err_fd = err[0];
    return 0;
}

/* ----- while it runs ----- */

static void
run_feed(struct run *run)
{
    const char *from = run->plan->in;
    ssize_t n = write(run->in_fd, from + run->in_done,
                      run->plan->in_len - run->in_done);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n >= 0) {
        run->in_done += (size_t)n;
    }
    /* EPIPE: it does not want the rest, which is its right. */
    if (n < 0 || run->in_done == run->plan->in_len) {
        fd_close(&run->in_fd);
    }
}

/* Room for more output; one byte beyond out_max shows that there is more. */
static bool
run_grow(struct run *run)
{
    size_t max = run->plan->out_max + 1;
    size_t cap = run->out_cap == 0 ? OUT_FIRST : run->out_cap * 2;
    char *out;

    if (run->res->out_len < run->out_cap) {
        return true;
    }
    cap = MIN_OF(cap, max);
    out = realloc(run->res->out, cap);
    if (out == NULL) {
        run_judge(run, RUNNER_FAILED, ENOMEM);
        return false;
    }
    run->res->out = out;
    run->out_cap = cap;
    return true;
}

/* Reads once. False: nothing more to read now, or ever. */
static bool
run_collect(struct run *run)
{
    struct runner_result *res = run->res;
    ssize_t n;

    if (!run_grow(run)) {
        fd_close(&run->out_fd);
        return false;
    }
    n = read(run->out_fd, res->out + res->out_len, run->out_cap - res->out_len);
    if (n < 0) {
        return errno == EINTR;
    }
    if (n == 0) {
        fd_close(&run->out_fd);
        return false;
    }
    res->out_len += (size_t)n;
    if (res->out_len > run->plan->out_max) {
        run_judge(run, RUNNER_BIG, 0);
        fd_close(&run->out_fd);
        return false;
    }
    return true;
}

/* Reads once. False: nothing more to read now, or ever. */
static bool
run_hear(struct run *run)
{
    char bytes[4096];
    ssize_t n = read(run->err_fd, bytes, sizeof(bytes));

    if (n < 0) {
        return errno == EINTR;
    }
    if (n == 0) {
        fd_close(&run->err_fd);
        return false;
    }
    run->plan->err(run->plan->err_arg, bytes, (size_t)n);
    return true;
}

/* Decides about its life, and sends the signals that follow. */
static void
run_watch(struct run *run, int64_t now)
{
    if (!run->judged && run->plan->gone != NULL &&
        run->plan->gone(run->plan->gone_arg)) {
        run_judge(run, RUNNER_GONE, 0);
        run->kill_at = MIN_OF(run->kill_at, now + run->grace_ns);
    }
    if (now >= run->term_at) {
        run_judge(run, RUNNER_LATE, 0);
    }
    if (!run->judged) {
        return;
    }
    if (run->res->end == RUNNER_BIG || run->res->end == RUNNER_FAILED) {
        run->kill_at = now;
    } else if (!run->termed) {
        /* It has its time to end, also where we come late to ask it. */
        run_signal(run, SIGTERM);
        run->termed = true;
        run->kill_at = MAX_OF(run->kill_at, now + run->grace_ns);
    }
    if (!run->killed && now >= run->kill_at) {
        run_signal(run, SIGKILL);
        run->killed = true;
    }
}

/* Milliseconds until run_watch() has something to do. */
static int
run_pause(const struct run *run, int64_t now)
{
    int64_t at = run->judged ? run->kill_at : run->term_at;
    int64_t ms = (at - now + (int64_t)NS_PER_MS - 1) / (int64_t)NS_PER_MS;
    int64_t max = run->plan->gone != NULL ? RUNNER_ASK_MS : PAUSE_MAX_MS;

    if (run->killed || ms > max) {
        return (int)max;
    }
    return ms < 0 ? 0 : (int)ms;
}

static void
run_loop(struct run *run)
{
    for (;;) {
        struct pollfd fds[4];
        int64_t now = clock_now();

        run_watch(run, now);
        fds[0] = (struct pollfd){.fd = run->in_fd, .events = POLLOUT};
        fds[1] = (struct pollfd){.fd = run->out_fd, .events = POLLIN};
        fds[2] = (struct pollfd){.fd = run->pidfd, .events = POLLIN};
        fds[3] = (struct pollfd){.fd = run->err_fd, .events = POLLIN};
        if (poll(fds, 4, run_pause(run, now)) < 0) {
            continue; /* EINTR; poll sets no revents then */
        }
        if (fds[0].revents != 0) {
            run_feed(run);
        }
        if (fds[1].revents != 0) {
            run_collect(run);
        }
        if (fds[3].revents != 0) {
            run_hear(run);
        }
        if (fds[2].revents != 0) {
            return;
        }
    }
}

/* ----- the end ----- */

/* What is in the pipe still counts; what a child writes that got away does
 * not, so an empty pipe ends it whoever holds the other end, and so does the
 * deadline. */
static void
run_drain(struct run *run)
{
    while (run->out_fd >= 0 && !run->judged && run_collect(run)) {
        if (clock_now() >= run->kill_at) {
            run_judge(run, RUNNER_LATE, 0);
        }
    }
    for (int i = 0; i < HEAR_MAX && run->err_fd >= 0 && run_hear(run); i++) {
    }
}

static void
run_reap(struct run *run)
{
    siginfo_t info;

    memset(&info, 0, sizeof(info));
    while (waitid(P_PID, (id_t)run->pid, &info, WEXITED) < 0 &&
           errno == EINTR) {
    }
    if (info.si_code == CLD_EXITED) {
        run->res->exit_code = info.si_status;
    } else {
        run->res->signal = info.si_status;
    }
}

void
runner_run(const struct runner_plan *plan, struct runner_result *result)
{
    struct run run = {.plan = plan,
                      .res = result,
                      .pidfd = -1,
                      .in_fd = -1,
                      .out_fd = -1,
                      .err_fd = -1};
    int64_t now = clock_now();
    pid_t before = plan->group != NULL ? atomic_load(plan->group) : 0;

    memset(result, 0, sizeof(*result));
    if (plan->time_ns <= 0) {
        result->end = RUNNER_LATE;
        return;
    }
    run.grace_ns = MIN_OF(plan->time_ns / 10, GRACE_MAX_NS);
    run.kill_at = now + plan->time_ns;
    run.term_at = run.kill_at - run.grace_ns;
    result->error = run_start(&run);
    if (result->error != 0) {
        result->end = RUNNER_FAILED;
        return;
    }
    result->pid = run.pid;
    run.pidfd = pidfd_open(run.pid, 0);
    if (run.pidfd >= 0) {
        run_loop(&run);
    } else {
        run_judge(&run, RUNNER_FAILED, errno);
    }
    kill(-run.pid, SIGKILL);
    kill(run.pid, SIGKILL);
    run_drain(&run);
    if (plan->group != NULL) {
        atomic_store(plan->group, before);
    }
    run_reap(&run);
    fd_close(&run.in_fd);
    fd_close(&run.out_fd);
    fd_close(&run.err_fd);
    fd_close(&run.pidfd);
}

void
runner_result_clear(struct runner_result *result)
{
    free(result->out);
    memset(result, 0, sizeof(*result));
}
