/* One worker a CPU. Each has a control socket and a pipe of its own, made anew
 * for every life, so that nothing of an earlier life is ever read. What a
 * worker says is checked like any stranger's word: a message that cannot be
 * ends its life. It says it by the pipe, because a socket would carry
 * descriptors as well, and one whose close takes long would hold us up. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/control.h"
#include "cohort/reload.h"

#define DEAF_PATIENCE (1 * NS_PER_SEC) /* for a worker without control */

static int
run_worker(void *arg)
{
    struct keeper_worker *w = arg;

    prctl(PR_SET_NAME, "cardea");
    tallies_keep_only(&w->keeper->tallies, w->index);
    return w->keeper->options.worker(&w->setup);
}

static void
add_fd(struct spawn_fd *fds, size_t *p_n, int fd)
{
    if (fd >= 0) {
        fds[(*p_n)++] = (struct spawn_fd){fd, fd};
    }
}

/* The descriptors that a worker keeps, at the numbers they have here. FDS has
 * room for 4 more than listeners and targets. */
static size_t
collect_fds(const struct keeper_worker *w, struct spawn_fd *fds)
{
    const struct keeper *k = w->keeper;
    size_t n = 0;

    add_fd(fds, &n, w->setup.control_fd);
    add_fd(fds, &n, w->setup.say_fd);
    add_fd(fds, &n, w->setup.log_fd);
    fds[n++] = (struct spawn_fd){k->options.log_fd, 2};
    for (size_t i = 0; i < k->conf->n_listens; i++) {
        if (k->conf->listens[i].protocol != CONF_TCP_WAIT) {
            add_fd(fds, &n, k->listen_fds[i]);
        }
    }
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        add_fd(fds, &n, k->folder_fds[i]);
    }
    return n;
}

static void said_ready(struct keeper_source *source, uint32_t events);
static void control_hung_up(struct keeper_source *source, uint32_t events);

/* The ways to and from a new life of W. What it would send up the socket is
 * refused: we would drop it unread at the end, and what lies in it too. */
static int
open_control(struct keeper_worker *w)
{
    int pair[2], ends[2];
    int rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                   pair) < 0) {
        return -errno;
    }
    w->control.fd = pair[0];
    w->setup.control_fd = pair[1];
    if (shutdown(pair[0], SHUT_RD) < 0 ||
        pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    w->said.fd = ends[0];
    w->setup.say_fd = ends[1];
    rc = keeper_watch(w->keeper, &w->control, 0); /* for its end alone */
    return rc < 0 ? rc : keeper_watch(w->keeper, &w->said, EPOLLIN);
}

static void
close_fd(int *p_fd)
{
    if (*p_fd >= 0) {
        close(*p_fd);
        *p_fd = -1;
    }
}

static void
close_control(struct keeper_worker *w)
{
    keeper_unwatch(w->keeper, &w->said);
    keeper_unwatch(w->keeper, &w->control);
}

/* The world's spawn for a worker: with fresh ways to and from it. */
static int
spawn_worker(void *ctx, const struct spawn_plan *plan, pid_t *p_pid,
             int *p_pidfd)
{
    struct keeper_worker *w = ctx;
    struct keeper *k = w->keeper;
    CLEAN_FREE struct spawn_fd *fds =
        calloc(k->conf->n_listens + k->conf->n_targets + 4, sizeof(*fds));
    struct spawn_plan mine = *plan;
    int rc;

    if (fds == NULL) {
        return -ENOMEM;
    }
    w->generation = k->generation;
    rc = open_control(w);
    if (rc == 0) {
        mine.fds = fds;
        mine.n_fds = collect_fds(w, fds);
        rc = k->real->spawn(k->real->ctx, &mine, p_pid, p_pidfd);
    }
    if (rc == 0) {
        heirs_begin(w, *p_pid);
    }
    close_fd(&w->setup.control_fd);
    close_fd(&w->setup.say_fd);
    if (rc < 0) {
        close_control(w);
    }
    return rc;
}

static int
kill_worker(void *ctx, pid_t pid, int pidfd, int signal, int group)
{
    return heirs_kill_all(ctx, signal);
}

static void
init_worker(struct keeper *k, int index, int cpu)
{
    struct keeper_worker *w = &k->workers[index];

    w->keeper = k;
    w->index = index;
    w->deaf_deadline = UINT64_MAX;
    w->look_at = w->heirs.look_at = UINT64_MAX;
    w->plan.run = run_worker;
    w->plan.run_arg = w;
    w->world = *k->real;
    w->world.ctx = w;
    w->world.spawn = spawn_worker;
    w->world.kill = kill_worker;
    w->control = (struct keeper_source){-1, control_hung_up, w};
    w->said = (struct keeper_source){-1, said_ready, w};
    w->setup = (struct worker_setup){
        .index = index,
        .n_workers = k->n_workers,
        .cpu = cpu,
        .heirs = (int)MIN_OF(k->conf->heirs, HEIRS_MAX),
        .control_fd = -1,
        .say_fd = -1,
        .log_fd = k->log_write_fd,
        .conf = k->conf,
        .generation = k->generation,
        .targets_max = k->bounds.targets,
        .listen_fds = k->listen_fds,
        .folder_fds = k->folder_fds,
        .seats = k->seats,
        .tallies = tallies_of(&k->tallies, index),
        .is_confined = true,
        .reaper = k->reaper != NULL ? k->main_pid : 0,
        .keeper = getpid(),
        .change_user = k->workers_change_user,
        .uid = k->workers_uid,
        .gid = k->workers_gid,
    };
    restart_init(&w->unit, &w->world, &w->plan, true);
}

int
workers_find_user(struct keeper *k)
{
    const char *name = k->conf->user != NULL ? k->conf->user : "nobody";
    const struct passwd *user;
    char why[256];

    if (geteuid() != 0) {
        return 0;
    }
    user = getpwnam(name);
    if (user == NULL) {
        snprintf(why, sizeof(why),
                 "no user '%s' on this system for the workers: name another "
                 "with 'set user'",
                 name);
        keeper_say(k, why);
        return -ESRCH;
    }
    k->workers_change_user = true;
    k->workers_uid = user->pw_uid;
    k->workers_gid = user->pw_gid;
    return 0;
}

int
workers_init(struct keeper *k)
{
    cpu_set_t cpus;
    int n;
    int rc;
    int cpu = -1;

    if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0) {
        return -errno;
    }
    n = MIN_OF(k->conf->workers > 0 ? (int)k->conf->workers : CPU_COUNT(&cpus),
               SEATS_MAX);
    if (k->options.max_workers > 0) {
        n = MIN_OF(n, k->options.max_workers);
    }
    rc = tallies_init(&k->tallies, n, k->bounds.targets);
    if (rc < 0) {
        return rc;
    }
    k->workers = calloc((size_t)n, sizeof(*k->workers));
    if (k->workers == NULL) {
        return -ENOMEM;
    }
    k->n_workers = n;
    for (int i = 0; i < n; i++) {
        do {
            cpu = (cpu + 1) % CPU_SETSIZE;
        } while (!CPU_ISSET(cpu, &cpus));
        init_worker(k, i, cpu);
    }
    return 0;
}

void
workers_deinit(struct keeper *k)
{
    for (int i = 0; i < k->n_workers; i++) {
        close_control(&k->workers[i]);
        restart_deinit(&k->workers[i].unit);
    }
    free(k->workers);
    k->workers = NULL;
    k->n_workers = 0;
}

static void
act_on(struct keeper_worker *w, enum restart_act act)
{
    struct keeper *k = w->keeper;
    struct log_line line;

    if (act == RESTART_NOTHING) {
        return;
    }
    keeper_log_begin(k, &line, act == RESTART_STARTED ? LOG_INFO : LOG_ERROR,
                     act == RESTART_STARTED       ? "start"
                     : act == RESTART_NOT_STARTED ? "start-failed"
                                                  : "kill");
    log_num(&line, "worker", (uint64_t)w->index);
    if (act == RESTART_NOT_STARTED) {
        keeper_log_cause(&line, &w->unit);
    } else {
        log_num(&line, "pid", (uint64_t)w->unit.pid);
    }
    if (act == RESTART_KILLING) {
        log_text(&line, "cause", "grace-over");
    }
    keeper_log_end(k, &line);
    if (act == RESTART_STARTED) {
        w->ready = false;
        doors_worker_started(k, w->index);
    }
}

void
workers_start(struct keeper *k)
{
    for (int i = 0; i < k->n_workers; i++) {
        act_on(&k->workers[i],
               restart_start(&k->workers[i].unit, keeper_now(k)));
    }
}

static void
log_kill(struct keeper_worker *w, const char *cause)
{
    struct log_line line;

    keeper_log_begin(w->keeper, &line, LOG_ERROR, "kill");
    log_num(&line, "worker", (uint64_t)w->index);
    log_num(&line, "pid", (uint64_t)w->unit.pid);
    log_text(&line, "cause", cause);
    keeper_log_end(w->keeper, &line);
}

/* To the process that serves alone. */
static void
signal_serving(struct keeper_worker *w, int signal)
{
    const struct world *real = w->keeper->real;

    if (w->unit.pid > 0 && !heirs_wait(w)) {
        (void)real->kill(real->ctx, w->unit.pid, w->unit.pidfd, signal, 0);
    }
}

void
worker_replace(struct keeper_worker *w, const char *cause)
{
    log_kill(w, cause);
    signal_serving(w, SIGKILL);
}

void
worker_end_trust(struct keeper_worker *w, const char *cause)
{
    log_kill(w, cause);
    /* First the kill: the end of its socket would tell it to leave by itself,
     * and give it time that it is not trusted with. */
    if (w->unit.pid > 0) {
        (void)heirs_kill_all(w, SIGKILL);
    }
    close_control(w);
}

void
worker_poke(struct keeper_worker *w)
{
    signal_serving(w, WORKER_POKE);
}

uint64_t
workers_deadline(const struct keeper *k)
{
    uint64_t first = watch_deadline(k);

    for (int i = 0; i < k->n_workers; i++) {
        first = MIN_OF(first, k->workers[i].unit.deadline);
        first = MIN_OF(first, k->workers[i].deaf_deadline);
        first = MIN_OF(first, k->workers[i].heirs.look_at);
    }
    return first;
}

void
workers_tick(struct keeper *k, uint64_t now)
{
    watch_tick(k, now);
    for (int i = 0; i < k->n_workers; i++) {
        struct keeper_worker *w = &k->workers[i];

        if (w->deaf_deadline <= now) {
            w->deaf_deadline = UINT64_MAX;
            if (w->unit.state == RESTART_RUNNING) {
                worker_end_trust(w, "control-closed");
            }
        }
        heirs_tick(w, now);
        act_on(w, restart_tick(&w->unit, now));
    }
}

bool
workers_all_ready(const struct keeper *k)
{
    for (int i = 0; i < k->n_workers; i++) {
        if (!k->workers[i].ready) {
            return false;
        }
    }
    return true;
}

void
worker_died(struct keeper_worker *w, int status)
{
    struct keeper *k = w->keeper;
    bool killed = w->unit.state == RESTART_KILLED;
    uint64_t now = keeper_now(k);
    struct log_line line;
    bool asked;

    stop_note_end(k, &w->unit, status, killed);
    restart_died(&w->unit, status, now);
    close_control(w);
    w->ready = false;
    watch_forget(w);
    w->looks_asked = w->looks_done = 0;
    tallies_fold(&k->tallies, w->index);
    atomic_store_explicit(&k->seats[w->index].connections, 0,
                          memory_order_relaxed);
    w->deaf_deadline = UINT64_MAX;
    doors_worker_died(k, w->index);
    asked = w->unit.state == RESTART_STOPPED;
    keeper_log_begin(k, &line, asked ? LOG_INFO : LOG_ERROR,
                     asked ? "stopped" : "died");
    log_num(&line, "worker", (uint64_t)w->index);
    keeper_log_cause(&line, &w->unit);
    log_ms(&line, "ran_ms", now - w->unit.started_at);
    keeper_log_core(&line, status);
    keeper_log_end(k, &line);
    control_looked(k); /* who waited for it does so no longer */
    if (!k->ready_said && k->phase == PHASE_RUN && WIFEXITED(status) &&
        WEXITSTATUS(status) == 1) {
        k->failed = true; /* it said why in the log */
        stop_begin(k, "worker-cannot-start", 0);
    }
}

void
worker_is_ready(struct keeper_worker *w)
{
    struct keeper *k = w->keeper;
    struct log_line line;

    if (w->ready) {
        return;
    }
    w->ready = true;
    watch_awake(w);
    keeper_log_begin(k, &line, LOG_INFO, "ready");
    log_num(&line, "worker", (uint64_t)w->index);
    log_num(&line, "pid", (uint64_t)w->unit.pid);
    log_ms(&line, "took_ms", keeper_now(k) - w->unit.started_at);
    keeper_log_end(k, &line);
}

static int
take_heir(struct keeper_worker *w, const struct worker_message *m)
{
    int rc = heirs_said(w, m->cause);

    if (rc == 0) {
        reload_worker_passed(w, m->target);
    }
    return rc;
}

static int
take_message(struct keeper_worker *w, const struct worker_message *m)
{
    switch (m->kind) {
    case WORKER_READY:
        worker_is_ready(w);
        return 0;
    case WORKER_LOOKED:
        if (w->looks_done == w->looks_asked) {
            return heirs_looked(w) ? 0 : -EPROTO;
        }
        w->looks_done++;
        control_looked(w->keeper);
        return 0;
    case WORKER_AWAKE:
        watch_awake(w);
        return 0;
    case WORKER_DOOR_LOST:
        return doors_lost(w->keeper, w->index, m->target, m->cause);
    case WORKER_NO_DESCS:
        return doors_no_descs(w->keeper, m->target);
    case WORKER_WANTED:
        return life_wanted(w->keeper, m->target);
    case WORKER_HEIR:
        return take_heir(w, m);
    case WORKER_CONF_IS:
        reload_worker_has(w, m->grace_ns);
        return 0;
    case WORKER_UNUSED:
        return reload_unused(w, m);
    case WORKER_STALLED:
        return life_stalled(w->keeper, w->index, m->target);
    default:
        return -EPROTO;
    }
}

/* It is ending; or it closed its ear or mouth, and then it must end. */
static void
gone_deaf(struct keeper_worker *w)
{
    close_control(w);
    w->deaf_deadline = keeper_now(w->keeper) + DEAF_PATIENCE;
}

static void
control_hung_up(struct keeper_source *source, uint32_t events)
{
    gone_deaf(source->owner);
}

static void
said_ready(struct keeper_source *source, uint32_t events)
{
    struct keeper_worker *w = source->owner;
    struct worker_message message;

    for (int i = 0; i < 64 && source->fd >= 0; i++) {
        ssize_t n = read(source->fd, &message, sizeof(message));

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            gone_deaf(w);
            return;
        }
        if (n != sizeof(message) || take_message(w, &message) < 0) {
            worker_end_trust(w, "bad-message");
            return;
        }
    }
}

void
worker_hear(struct keeper_worker *w)
{
    if (w->said.fd >= 0) {
        said_ready(&w->said, 0);
    }
}

int
worker_send(struct keeper_worker *w, const struct worker_message *message,
            int fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)message, sizeof(*message)};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};

    if (w->control.fd < 0) {
        return -ENOTCONN;
    }
    if (fd >= 0) {
        msg.msg_control = control.room;
        msg.msg_controllen = sizeof(control.room);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    if (sendmsg(w->control.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        return -errno;
    }
    return 0;
}
