/* A loop around one wait for signals. It has no descriptor to wait for, takes
 * no memory after the start, and of what is outside it reads the children's
 * numbers and ends, and a number from 1 to 3 that its keeper gives with a
 * signal. So there is nothing by which anybody could bring it down.
 *
 * What the keepers share is made before the first fork: sockets that listen,
 * those of the network and the control socket, so that whoever connects while
 * there is no keeper waits in the kernel's queue; the run folder with its lock;
 * the pipe of the workers' log; the control group. Each keeper has them by its
 * fork, and the configuration as it was read at the start.
 *
 * A dead keeper's workers become our children (we are the next subreaper). They
 * finish what they have and leave; who has not by the end of the grace, and
 * whatever else became ours, is killed.
 *
 *      keeper --exits--> status 0, 2, 3: the end;  1: the end, until was_ready
 *             --dies--> back-off, the next --TERM meanwhile--> the end
 *
 * The page of ends is written before the process is reaped, and while it is not
 * its number is nobody else's. We alone write it: it is sealed against other
 * mappings, and a keeper maps it again before it does anything else. */
#include "cohort/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/trim.h"
#include "base/util.h"
#include "cohort/control.h"
#include "cohort/keeper_priv.h"

#define ORPHAN_EXTRA (1 * NS_PER_SEC) /* beyond the grace they have */
#define ORPHAN_AGAIN (100 * NS_PER_MS)
#define ARRAY_LARGE  (128 << 10)
#define NEVER        UINT64_MAX

/* Entry i of all lies at i % REAPER_ENDS, whole once N is above i, and is
 * written over when N comes to i + REAPER_ENDS. */
struct page {
    _Atomic uint64_t n;
    struct reaper_end ends[REAPER_ENDS];
};

struct reaper {
    struct keeper *k; /* what is held; each keeper has a copy */
    struct restart unit;
    struct world world;
    struct spawn_plan plan;
    struct page *page;
    int page_fd;
    sigset_t signals;
    bool stopping; /* a keeper that dies is the last one */
    bool forced;
    bool in_order; /* the last keeper took down what is held */
    int status;
    uint64_t orphans_by;
};

static uint64_t
now_of(const struct reaper *r)
{
    return keeper_now(r->k);
}

/* --- The page --------------------------------------------------------- */

static int
make_page(struct reaper *r)
{
    void *at;

    r->page_fd = memfd_create("cardea-ends", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (r->page_fd < 0 || ftruncate(r->page_fd, sizeof(struct page)) < 0) {
        return -errno;
    }
    at = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED,
              r->page_fd, 0);
    if (at == MAP_FAILED) {
        return -errno;
    }
    r->page = at;
    return fcntl(r->page_fd, F_ADD_SEALS,
                 F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK |
                     F_SEAL_SEAL) < 0
               ? -errno
               : 0;
}

/* In a keeper: the same page in the same place, never to be written again; and
 * not in its workers. */
static int
reopen_page(const struct reaper *r)
{
    if (mmap(r->page, sizeof(*r->page), PROT_READ, MAP_SHARED | MAP_FIXED,
             r->page_fd, 0) == MAP_FAILED) {
        return -errno;
    }
    close(r->page_fd);
    (void)madvise(r->page, sizeof(*r->page), MADV_DONTFORK);
    return 0;
}

/* As wait(2) says it; waitid(2) takes it apart. */
static int
status_of(const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED) {
        return W_EXITCODE(info->si_status, 0);
    }
    return W_EXITCODE(0, info->si_status) |
           (info->si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

static void
record(struct reaper *r, const siginfo_t *info)
{
    uint64_t n = atomic_load_explicit(&r->page->n, memory_order_relaxed);

    r->page->ends[n % REAPER_ENDS] = (struct reaper_end){
        .pid = info->si_pid,
        .status = status_of(info),
        .wall_ns = r->k->real->wall(r->k->real->ctx),
        .was_keeper = info->si_pid == r->unit.pid,
    };
    /* Release: who sees the number sees the entry. */
    atomic_store_explicit(&r->page->n, n + 1, memory_order_release);
}

size_t
reaper_ends(const struct reaper *reaper, struct reaper_end *ends, size_t n,
            uint64_t *p_all)
{
    const struct page *page = reaper->page;
    uint64_t all = atomic_load_explicit(&page->n, memory_order_acquire);
    size_t found = 0;

    *p_all = all;
    /* The oldest may be written over while we read. */
    for (uint64_t i = all; i > 0 && found < MIN_OF(n, REAPER_ENDS - 1); i--) {
        ends[found] = page->ends[(i - 1) % REAPER_ENDS];
        atomic_thread_fence(memory_order_acquire); /* before the look at N */
        if (atomic_load_explicit(&page->n, memory_order_relaxed) >=
            i - 1 + REAPER_ENDS) {
            break;
        }
        found++;
    }
    return found;
}

const struct restart *
reaper_unit(const struct reaper *reaper)
{
    return &reaper->unit;
}

/* --- The log ---------------------------------------------------------- */

/* Never waits: a line that finds no room is lost. */
static void
say(const struct reaper *r, struct log_line *line)
{
    int fd = r->k->options.log_fd;
    struct pollfd room = {.fd = fd, .events = POLLOUT};

    line->text[line->len++] = '\n';
    if (send(fd, line->text, line->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
        errno == ENOTSOCK && poll(&room, 1, 0) == 1) {
        (void)!write(fd, line->text, line->len);
    }
}

static void
begin_line(const struct reaper *r, struct log_line *line, enum log_level level,
           const char *event)
{
    log_begin(line, r->k->real->wall(r->k->real->ctx), level, event);
}

/* --- The keeper ------------------------------------------------------- */

/* In the child. Its group is its own: a terminal's Ctrl-C comes to us alone,
 * and goes on to it once. */
static void __attribute__((noreturn)) be_keeper(struct reaper *r)
{
    struct keeper *k = r->k;

    prctl(PR_SET_NAME, "cardea-keeper");
    setpgid(0, 0);
    /* Without it nobody would start it anew, or end it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != k->main_pid) {
        _exit(1);
    }
    if (reopen_page(r) < 0) {
        keeper_say(k, "the page of ends cannot be mapped");
        _exit(1);
    }
    if (!SANITIZED) {
        prctl(PR_SET_DUMPABLE, 1); /* /proc/self; until setup.c is done */
    }
    k->notify.via = k->main_pid;
    exit(keeper_keep(k)); /* with a leak check */
}

static int
spawn_keeper(void *ctx, const struct spawn_plan *plan, pid_t *p_pid,
             int *p_pidfd)
{
    struct reaper *r = ctx;
    pid_t pid = fork();

    if (pid == 0) {
        be_keeper(r);
    }
    if (pid < 0) {
        return -errno;
    }
    *p_pid = pid;
    *p_pidfd = -1;
    return 0;
}

static void
started(const struct reaper *r, enum restart_act act)
{
    struct log_line line;

    if (act == RESTART_NOT_STARTED) {
        begin_line(r, &line, LOG_ERROR, "keeper-not-started");
        keeper_log_cause(&line, &r->unit);
    } else if (act == RESTART_STARTED && r->unit.n_starts > 1) {
        begin_line(r, &line, LOG_INFO, "keeper-start");
        log_num(&line, "pid", (uint64_t)r->unit.pid);
    } else {
        return;
    }
    say(r, &line);
}

static void
log_death(const struct reaper *r, pid_t pid, int status, uint64_t ran_ns)
{
    struct log_line line;

    begin_line(r, &line, LOG_ERROR, "keeper-died");
    log_num(&line, "pid", (uint64_t)pid);
    keeper_log_cause(&line, &r->unit);
    log_ms(&line, "ran_ms", ran_ns);
    keeper_log_core(&line, status);
    say(r, &line);
}

/* Is STATUS that of a keeper that had nothing more to do? */
static bool
is_order(const struct reaper *r, int status)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

    return code == 0 || code == 2 || code == 3 ||
           (code == 1 && !r->k->was_ready) || (code > 0 && r->stopping);
}

static void
keeper_ended(struct reaper *r, int status)
{
    uint64_t now = now_of(r);
    uint64_t ran = now - r->unit.started_at;
    pid_t pid = r->unit.pid;
    bool in_order = is_order(r, status);

    if (in_order || r->stopping) {
        r->status = in_order ? WEXITSTATUS(status) : 3;
        restart_stop(&r->unit, 0, NEVER / 2, now);
    }
    restart_died(&r->unit, status, now);
    r->in_order = in_order;
    if (in_order) {
        return;
    }
    log_death(r, pid, status, ran);
    r->orphans_by =
        now + MIN_OF(r->k->conf->grace_ns, STOP_NO_LIMIT) + ORPHAN_EXTRA;
}

/* --- Signals ------------------------------------------------------------ */

/* From our keeper alone, and no other number. */
static void
take_word(struct reaper *r, const siginfo_t *info)
{
    if (info->si_code != SI_QUEUE || info->si_pid != r->unit.pid) {
        return;
    }
    if (info->si_value.sival_int == NOTIFY_READY) {
        r->k->was_ready = true;
    } else if (info->si_value.sival_int == NOTIFY_STOPPING) {
        r->stopping = true;
    }
    notify_say(&r->k->notify, (enum notify_word)info->si_value.sival_int);
}

static void
take_signal(struct reaper *r, const siginfo_t *info)
{
    bool ends = info->si_signo == SIGTERM || info->si_signo == SIGINT ||
                info->si_signo == SIGQUIT;

    if (info->si_signo == SIGCHLD) {
        return; /* each pass looks */
    }
    if (info->si_signo == NOTIFY_SIGNAL) {
        take_word(r, info);
        return;
    }
    r->forced = r->forced || (info->si_signo == SIGINT && r->stopping);
    r->stopping = r->stopping || ends;
    if (r->unit.pid > 0) {
        kill(r->unit.pid, info->si_signo);
    } else if (ends) {
        restart_stop(&r->unit, 0, 0, now_of(r));
    }
}

/* Takes one signal, if one comes before DEADLINE. */
static void
wait_signal(struct reaper *r, uint64_t deadline)
{
    uint64_t now = now_of(r);
    uint64_t left = deadline > now ? deadline - now : 0;
    struct timespec limit = {(time_t)(left / NS_PER_SEC),
                             (long)(left % NS_PER_SEC)};
    siginfo_t info;

    if (sigtimedwait(&r->signals, &info, deadline == NEVER ? NULL : &limit) >
        0) {
        take_signal(r, &info);
    }
}

/* What the keeper said before its end counts: its signals are taken first. */
static void
take_words(struct reaper *r)
{
    static const struct timespec at_once;
    siginfo_t info;
    sigset_t words;

    sigemptyset(&words);
    sigaddset(&words, NOTIFY_SIGNAL);
    while (sigtimedwait(&words, &info, &at_once) > 0) {
        take_word(r, &info);
    }
}

/* Reaps who has ended. false: we have no child. */
static bool
reap(struct reaper *r)
{
    for (;;) {
        siginfo_t info = {0};

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return false;
        }
        if (info.si_pid == 0) {
            return true;
        }
        if (info.si_pid == r->unit.pid) {
            take_words(r);
        }
        /* Written down before it is reaped: until then its number is its. */
        record(r, &info);
        while (waitpid(info.si_pid, NULL, 0) < 0 && errno == EINTR) {
        }
        if (info.si_pid == r->unit.pid) {
            keeper_ended(r, status_of(&info));
        }
    }
}

/* Kills what has had its time. */
static void
end_orphans(struct reaper *r)
{
    uint64_t now = now_of(r);

    if (now < r->orphans_by) {
        return;
    }
    r->orphans_by =
        stop_kill_children(r->unit.pid) > 0 ? now + ORPHAN_AGAIN : NEVER;
}

static void
keep_keeper(struct reaper *r)
{
    started(r, restart_start(&r->unit, now_of(r)));
    while (r->unit.state != RESTART_STOPPED) {
        wait_signal(r, MIN_OF(r->unit.deadline, r->orphans_by));
        reap(r);
        end_orphans(r);
        if (r->unit.state == RESTART_WAITING) {
            started(r, restart_tick(&r->unit, now_of(r)));
        }
    }
}

/* Nobody connects any more; who is connected has the rest of the grace. */
static void
end_rest(struct reaper *r)
{
    struct keeper *k = r->k;

    for (size_t i = 0; i < k->conf->n_listens; i++) {
        close(k->listen_fds[i]);
        k->listen_fds[i] = -1;
    }
    control_deinit(k, r->status);
    while (!r->forced && r->orphans_by != NEVER && reap(r) &&
           now_of(r) < r->orphans_by) {
        wait_signal(r, r->orphans_by);
    }
    stop_orphans();
    if (r->forced && r->status == 0) {
        r->status = 2;
    }
    if (r->in_order) {
        keeper_forget(k, r->status);
    } else {
        keeper_free(k, r->status);
    }
}

/* --- Beginning ---------------------------------------------------------- */

static void
block_signals(struct reaper *r, sigset_t *before)
{
    static const int taken[] = {SIGTERM, SIGINT,  SIGQUIT, SIGHUP,
                                SIGUSR1, SIGUSR2, SIGCHLD};
    static const struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t all;

    sigemptyset(&r->signals);
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        sigaddset(&r->signals, taken[i]);
    }
    sigaddset(&r->signals, NOTIFY_SIGNAL);
    all = r->signals;
    sigaddset(&all, SIGPIPE); /* of a log that nobody reads */
    sigaddset(&all, SIGTTOU);
    /* Ignored (as some parents hand on), children would be reaped unseen. */
    sigaction(SIGCHLD, &standard, NULL);
    sigprocmask(SIG_BLOCK, &all, before);
}

static int
set_up(struct reaper *r)
{
    int rc = setup_hold(r->k);

    if (rc < 0) {
        return rc;
    }
    rc = make_page(r);
    if (rc < 0) {
        keeper_say(r->k, "no memory file for the ends of processes");
        return rc;
    }
    if (!SANITIZED) {
        prctl(PR_SET_DUMPABLE, 0);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    r->world = *r->k->real;
    r->world.ctx = r;
    r->world.spawn = spawn_keeper;
    restart_init(&r->unit, &r->world, &r->plan, false);
    trim_process(); /* of what reading the configuration has used */
    return 0;
}

int
reaper_run(const struct conf *conf, const struct keeper_options *options)
{
    struct reaper r = {.k = keeper_new(conf, options),
                       .page_fd = -1,
                       .status = 1,
                       .orphans_by = NEVER};
    sigset_t mask;

    if (r.k == NULL) {
        return 1;
    }
    r.k->reaper = &r;
    /* A large array is fresh pages of its own, touched as it is used: what
     * reading the files gave back would be cleared for it, and be in every
     * process that is forked. (It is the default, until such a block is freed.)
     */
    mallopt(M_MMAP_THRESHOLD, ARRAY_LARGE);
    block_signals(&r, &mask);
    if (set_up(&r) == 0) {
        r.status = 0;
        keep_keeper(&r);
        end_rest(&r);
    } else {
        keeper_free(r.k, r.status);
    }
    if (r.page != NULL) {
        munmap(r.page, sizeof(*r.page));
    }
    if (r.page_fd >= 0) {
        close(r.page_fd);
    }
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return r.status;
}
