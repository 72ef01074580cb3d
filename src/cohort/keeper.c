/* The keeper's frame: one loop over its sources and deadlines, the signals, and
 * the taking down of what setup.c made, which accepts a half-made state, so
 * that there is one way out. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/control.h"
#include "cohort/descriptors.h"
#include "cohort/listeners.h"
#include "cohort/reload.h"

uint64_t
keeper_now(const struct keeper *k)
{
    return k->real->now(k->real->ctx);
}

int
keeper_watch(struct keeper *k, struct keeper_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = source}};

    return epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0
               ? -errno
               : 0;
}

void
keeper_unwatch(struct keeper *k, struct keeper_source *source)
{
    if (source->fd >= 0) {
        /* By name: a copy of the descriptor in a child keeps it in the set. */
        epoll_ctl(k->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        close(source->fd);
        source->fd = -1;
    }
}

void
keeper_log_begin(struct keeper *k, struct log_line *line, enum log_level level,
                 const char *event)
{
    log_begin(line, k->real->wall(k->real->ctx), level, event);
}

void
keeper_log_end(struct keeper *k, struct log_line *line)
{
    line->text[line->len++] = '\n';
    sink_line(&k->sink, line->text, line->len);
}

void
keeper_log_cause(struct log_line *line, const struct restart *unit)
{
    char text[RESTART_CAUSE_MAX];

    restart_cause_text(&unit->causes[unit->last], text);
    log_text(line, "cause", text);
    log_num(line, "count", unit->causes[unit->last].count);
    if (unit->state == RESTART_WAITING) {
        log_ms(line, "wait_ms", unit->wait_ns);
    }
}

void
keeper_log_core(struct log_line *line, int status)
{
    if (WIFSIGNALED(status) && WCOREDUMP(status)) {
        log_text(line, "core", "yes");
    }
}

void
keeper_say(struct keeper *k, const char *sentence)
{
    dprintf(k->options.log_fd, "cardea: %s\n", sentence);
}

/* --- Events ----------------------------------------------------------- */

/* One portion of what workers logged; false when there is none. */
static bool
copy_log(struct keeper *k)
{
    char bytes[65536];
    ssize_t n = read(k->log_pipe.fd, bytes, sizeof(bytes));

    if (n > 0) {
        sink_stream(&k->sink, bytes, (size_t)n);
    }
    return n > 0;
}

void
keeper_log_ready(struct keeper_source *source, uint32_t events)
{
    copy_log(source->owner);
}

void
keeper_out_ready(struct keeper_source *source, uint32_t events)
{
    struct keeper *k = source->owner;

    /* Else the flush after every pass does the work. */
    if (events & (EPOLLERR | EPOLLHUP)) {
        k->sink.dead = true;
        keeper_unwatch(k, source);
    }
}

/* Children that a signal stopped or continued. */
static void
note_stops(struct keeper *k)
{
    siginfo_t info = {0};

    while (waitid(P_ALL, 0, &info, WSTOPPED | WCONTINUED | WNOHANG) == 0 &&
           info.si_pid != 0) {
        watch_stopped(k, info.si_pid, info.si_code != CLD_CONTINUED);
        life_stopped(k, info.si_pid, info.si_code != CLD_CONTINUED);
        info.si_pid = 0;
    }
}

static void
reap(struct keeper *k)
{
    for (;;) {
        siginfo_t info = {0};
        struct keeper_module *m;
        struct keeper_worker *w;
        int status = 0;

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
            if (errno == EINTR) {
                continue;
            }
            return;
        }
        if (info.si_pid == 0) {
            return;
        }
        m = modules_find(k, info.si_pid);
        w = m == NULL ? heirs_find(k, info.si_pid) : NULL;
        if (w != NULL) {
            worker_hear(w); /* it may have told who serves */
        }
        if (m != NULL && !left_begin(m)) {
            /* While its leader is not reaped the number is the group's. */
            kill(-info.si_pid, SIGKILL);
            cgroup_kill(&k->cgroup, m->conf->name);
        }
        waitpid(info.si_pid, &status, 0);
        if (m != NULL) {
            module_reaped(m, status);
        } else if (w != NULL) {
            heirs_reaped(w, info.si_pid, status);
        }
    }
}

static void
take_signal(struct keeper *k, int signal)
{
    switch (signal) {
    case SIGTERM:
        stop_begin(k, "signal-TERM", k->conf->grace_ns);
        break;
    case SIGINT:
        if (k->phase != PHASE_RUN) {
            stop_force(k, "second-int");
        } else {
            stop_begin(k, "signal-INT", k->conf->grace_ns);
        }
        break;
    case SIGQUIT:
        stop_begin(k, "signal-QUIT", STOP_NO_LIMIT);
        break;
    case SIGHUP:
        (void)reload_ask(k);
        break;
    default:
        break;
    }
}

void
keeper_signals_ready(struct keeper_source *source, uint32_t events)
{
    struct keeper *k = source->owner;
    struct signalfd_siginfo info;

    while (read(source->fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            note_stops(k);
            reap(k);
        } else {
            take_signal(k, (int)info.ssi_signo);
        }
    }
}

/* --- Loop ------------------------------------------------------------- */

static uint64_t
next_deadline(const struct keeper *k, uint64_t now)
{
    uint64_t first = doors_deadline(k);

    first = MIN_OF(first, workers_deadline(k));
    FOR_EACH_MODULE (k, m) {
        first = MIN_OF(first, m->unit.deadline);
    }
    first = MIN_OF(first, life_deadline(k));
    first = MIN_OF(first, left_deadline(k));
    first = MIN_OF(first, output_deadline(k));
    first = MIN_OF(first, bounds_deadline(k));
    first = MIN_OF(first, control_deadline(k));
    first = MIN_OF(first, k->notify.due);
    first = MIN_OF(first, reload_deadline(k));
    return MIN_OF(first, ready_deadline(k));
}

static int
timeout_ms(uint64_t deadline, uint64_t now)
{
    if (deadline == UINT64_MAX) {
        return -1;
    }
    if (deadline <= now) {
        return 0;
    }
    return (int)MIN_OF((deadline - now + NS_PER_MS - 1) / NS_PER_MS, 3600000);
}

static void
flush(struct keeper *k)
{
    uint64_t lost = sink_take_lost(&k->sink);
    struct epoll_event event = {.events = 0, .data = {.ptr = &k->out}};

    if (lost > 0) {
        struct log_line line;

        keeper_log_begin(k, &line, LOG_WARN, "log-lost");
        log_num(&line, "lines", lost);
        keeper_log_end(k, &line);
    }
    sink_flush(&k->sink);
    event.events = k->sink.stuck ? EPOLLOUT : 0;
    epoll_ctl(k->epoll_fd, EPOLL_CTL_MOD, k->out.fd, &event);
}

static void
loop(struct keeper *k)
{
    while (k->phase != PHASE_DONE) {
        uint64_t now = keeper_now(k);
        struct epoll_event event;
        int n;

        workers_tick(k, now);
        life_tick(k, now);
        left_tick(k, now);
        modules_tick(k, now);
        reload_tick(k, now);
        doors_tick(k, now);
        ready_check(k, now);
        stop_advance(k);
        control_tick(k, now);
        notify_tick(&k->notify, now);
        flush(k);
        if (k->phase == PHASE_DONE) {
            return;
        }
        /* One at a time: a source may be gone after another's turn. */
        n = epoll_wait(k->epoll_fd, &event, 1,
                       timeout_ms(next_deadline(k, now), keeper_now(k)));
        if (n == 1) {
            struct keeper_source *source = event.data.ptr;

            source->ready(source, event.events);
        }
    }
}

/* --- End ------------------------------------------------------------- */

static void
close_all(int *fds, size_t n)
{
    for (size_t i = 0; fds != NULL && i < n; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(fds);
}

void
keeper_free(struct keeper *k, int status)
{
    doors_deinit(k);
    workers_deinit(k);
    modules_deinit(k);
    if (k->reaper == NULL || getpid() == k->main_pid) {
        cgroup_deinit(&k->cgroup); /* the reaper is in it too */
    }
    runfolder_remove(&k->folder);
    statefolder_close(&k->state, k->conf);
    control_deinit(k, status);
    tallies_deinit(&k->tallies);
    notify_deinit(&k->notify);
    if (k->listen_files != NULL) {
        listeners_remove(k->conf, k->listen_files);
        free(k->listen_files);
    }
    close_all(k->listen_fds, k->conf->n_listens);
    close_all(k->folder_fds, k->conf->n_targets);
    if (k->seats != NULL) {
        munmap(k->seats, SEATS_MAX * sizeof(struct seat));
    }
    keeper_unwatch(k, &k->signals);
    keeper_unwatch(k, &k->out);
    keeper_unwatch(k, &k->log_pipe);
    if (k->log_write_fd >= 0) {
        close(k->log_write_fd);
    }
    if (k->epoll_fd >= 0) {
        close(k->epoll_fd);
    }
    sink_deinit(&k->sink);
    history_deinit(&k->history);
    reload_deinit(k);
    free(k);
}

/* Says that there could be more connections, and how. */
static void
log_few_files(struct keeper *k)
{
    /* A worker's own, about: its doors take 4, its listeners and folders 1. */
    uint64_t own = 16 + 5 * k->conf->n_targets + k->conf->n_listens;
    uint64_t each;
    struct log_line line;

    if (k->n_files >= DESCRIPTORS) {
        return;
    }
    each = k->n_files > own ? k->n_files - own : 0;
    keeper_log_begin(k, &line, each < DESCRIPTORS_FEW ? LOG_WARN : LOG_INFO,
                     "few-descriptors");
    log_num(&line, "limit", k->n_files);
    log_num(&line, "connections", each * (uint64_t)k->n_workers);
    log_text(&line, "hint",
             "the limit of descriptors has room for so many connections at "
             "once; for more, raise the hard limit before the start: ulimit "
             "-Hn, or LimitNOFILE= of systemd");
    keeper_log_end(k, &line);
}

static void
run(struct keeper *k)
{
    struct log_line line;

    k->started_at = keeper_now(k);
    log_few_files(k);
    isolate_tell(k);
    modules_start(k); /* first: they need longest to be ready */
    workers_start(k);
    loop(k);
    stop_orphans();
    while (copy_log(k)) {
    }
    keeper_log_begin(k, &line, LOG_INFO, "end");
    log_text(&line, "cause",
             k->forced   ? "forced"
             : k->failed ? "start-failed"
             : k->errors ? "stopped-with-errors"
                         : "stopped");
    keeper_log_end(k, &line);
    flush(k);
    sink_finish(&k->sink, 1000);
}

void
keeper_forget(struct keeper *k, int status)
{
    runfolder_close(&k->folder);
    if (k->listen_files != NULL) {
        memset(k->listen_files, 0,
               k->conf->n_listens * sizeof(*k->listen_files));
    }
    keeper_free(k, status);
}

struct keeper *
keeper_new(const struct conf *conf, const struct keeper_options *options)
{
    struct keeper *k = calloc(1, sizeof(*k));

    if (k == NULL) {
        dprintf(options->log_fd, "cardea: out of memory\n");
        return NULL;
    }
    k->conf = conf;
    k->generation = 1;
    /* As much again, and some: what is not used costs no memory. */
    k->bounds = (struct conf_bounds){
        .listens = CONF_LISTENS_MAX,
        .modules = 2 * conf->n_modules + 128,
        .targets = MAX_OF(MIN_OF(2 * conf->n_targets + 128, TARGETS_MAX),
                          conf->n_targets),
    };
    k->reload.file = -1;
    k->options = *options;
    k->real = spawn_world();
    k->main_pid = getpid();
    k->born_at = keeper_now(k);
    k->epoll_fd = -1;
    k->look_at = UINT64_MAX;
    k->log_write_fd = -1;
    k->cgroup = (struct cgroup)CGROUP_NULL;
    k->folder.fd = -1;
    k->state.fd = -1;
    k->signals.fd = -1;
    k->inotify.fd = -1;
    k->log_pipe.fd = -1;
    k->out.fd = -1;
    notify_init(&k->notify);
    return k;
}

/* Every line of the log is remembered. Accesses that end badly come from the
 * workers even where nobody wants a log of accesses. */
static bool
see_line(void *arg, const char *text, size_t len)
{
    struct keeper *k = arg;

    history_add(&k->history, text, len);
    return k->conf->access_log || history_kind(text, len) < HISTORY_TELLS;
}

int
keeper_keep(struct keeper *k)
{
    int status = 1;

    if (sink_init(&k->sink, k->options.log_fd) < 0 ||
        history_init(&k->history) < 0) {
        dprintf(k->options.log_fd, "cardea: out of memory\n");
        keeper_free(k, status);
        return status;
    }
    k->sink.sees = see_line;
    k->sink.arg = k;
    if (setup_rest(k) == 0) {
        run(k);
        status = k->forced ? 2 : k->failed ? 1 : k->errors ? 3 : 0;
    }
    if (status == 1 && k->was_ready) {
        keeper_forget(k, status); /* the next one needs it */
    } else {
        keeper_free(k, status);
    }
    return status;
}

int
keeper_run(const struct conf *conf, const struct keeper_options *options)
{
    struct keeper *k = keeper_new(conf, options);
    sigset_t mask;
    int status = 1;

    if (k == NULL) {
        return 1;
    }
    sigprocmask(SIG_SETMASK, NULL, &mask);
    if (setup_hold(k) == 0) {
        status = keeper_keep(k);
    } else {
        keeper_free(k, status);
    }
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return status;
}
