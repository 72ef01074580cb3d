/* Modules: programs under their own users, each with a folder for its door and
 * two pipes for what it prints. The pipes and the folder are made anew for each
 * life: what an earlier life left (a dead door, a half line) never reaches the
 * next one. A module is ended as a whole process group. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/pages.h"
#include "base/probe.h"
#include "base/util.h"
#include "cohort/shims.h"
#include "cohort/writers.h"

/* The first number of a listening socket in a module. */
#define LISTEN_FIRST 64

/* The listening sockets that M has for its own, added to FDS (there are N).
 * They have numbers that nothing else has: a shim looks which of its
 * descriptors are such. How many there are then. */
static size_t
add_listeners(const struct keeper_module *m, struct spawn_fd *fds, size_t n)
{
    const struct conf *conf = m->keeper->conf;
    int to = LISTEN_FIRST;

    for (size_t i = 0; i < conf->n_listens; i++) {
        const struct conf_listen *l = &conf->listens[i];

        if (l->protocol == CONF_TCP_WAIT && l->presence == CONF_LIVE &&
            conf->targets[l->routes[0].target].module ==
                (size_t)(m - m->keeper->modules)) {
            fds[n++] = (struct spawn_fd){m->keeper->listen_fds[i], to++};
        }
    }
    return n;
}

/* It is made again before a start. */
static void
forget_plan(struct keeper_module *m)
{
    environ_free(m->envp);
    shims_free_argv(m->argv);
    m->envp = m->argv = NULL;
    m->plan.envp = m->plan.argv = NULL;
}

/* What its start takes, of m->conf. 0 or -ENOMEM. */
static int
make_plan(struct keeper_module *m)
{
    struct keeper *k = m->keeper;

    isolate_plan(m);
    forget_plan(m);
    m->envp = environ_make(m);
    if (m->conf->kind != CONF_MODULE_RUN) {
        m->argv = shims_make_argv(m->conf, k->shim);
    }
    m->plan.argv = m->conf->kind == CONF_MODULE_RUN ? m->conf->argv : m->argv;
    m->plan.envp = m->envp;
    return m->envp == NULL || m->plan.argv == NULL ? -ENOMEM : 0;
}

/* The world's spawn for a module. */
static int
spawn_module(void *ctx, const struct spawn_plan *plan, pid_t *p_pid,
             int *p_pidfd)
{
    struct keeper_module *m = ctx;
    const struct world *real = m->keeper->real;
    struct spawn_fd fds[2 + CONF_LISTENS_MAX + SECRETS_MAX] = {{-1, 1},
                                                               {-1, 2}};
    size_t n_secrets = 0;
    struct spawn_plan mine;
    bool has_plan = m->plan.argv != NULL && m->plan.envp != NULL;
    int rc = has_plan ? 0 : make_plan(m);

    mine = *plan;
    if (rc == 0) {
        rc = runfolder_module(&m->keeper->folder, m->conf->name, m->conf->user);
    }
    if (rc == 0) {
        rc = output_open(m, fds);
    }
    if (rc == 0) {
        rc = confine_make(m, &mine.sandbox);
    }
    if (rc == 0) {
        rc = isolate_group(m, &mine.group_fd);
        bounds_watch(m);
    }
    if (rc == 0) {
        rc = secrets_open(m, fds + 2);
        n_secrets = rc == 0 ? m->conf->secrets.n : 0;
    }
    if (rc == 0) {
        mine.fds = fds;
        mine.n_fds = add_listeners(m, fds, 2 + n_secrets);
        rc = real->spawn(real->ctx, &mine, p_pid, p_pidfd);
    }
    secrets_close(fds + 2, n_secrets);
    if (mine.sandbox > 0) {
        close(mine.sandbox);
    }
    if (mine.group_fd > 0) {
        close(mine.group_fd);
    }
    for (int i = 0; i < 2; i++) {
        if (fds[i].from >= 0) {
            close(fds[i].from);
        }
        if (rc < 0) {
            keeper_unwatch(m->keeper, &m->streams[i].source);
        }
    }
    if (rc < 0) {
        writers_close(m);
    }
    return rc;
}

static int
kill_module(void *ctx, pid_t pid, int pidfd, int signal, int group)
{
    struct keeper_module *m = ctx;
    const struct world *real = m->keeper->real;

    return real->kill(real->ctx, pid, pidfd, signal, group);
}

/* A module whose folder cannot be made gets none, and the log says why; where
 * none can be, it was said before. */
static int
make_state(struct keeper_module *m)
{
    struct keeper *k = m->keeper;
    struct log_line line;
    int rc;

    if (k->state.fd < 0) {
        return 0;
    }
    rc = statefolder_module(&k->state, m->conf->name, m->conf->user);
    if (rc < 0) {
        keeper_log_begin(k, &line, LOG_WARN, "no-state");
        log_text(&line, "module", m->conf->name);
        log_text(&line, "cause",
                 rc == -EPERM ? "the folder is another user's: move it away, "
                                "or give it to the module's user (chown -R)"
                              : strerrordesc_np(-rc));
        keeper_log_end(k, &line);
        return 0;
    }
    if (asprintf(&m->state, "%s/%s", k->state.path, m->conf->name) < 0) {
        m->state = NULL;
        return -ENOMEM;
    }
    return 0;
}

static void
clear_module(struct keeper_module *m)
{
    memset(m, 0, sizeof(*m));
    m->streams[0].source.fd = -1;
    m->streams[1].source.fd = -1;
    m->writers.listener.fd = -1;
    m->unit.pidfd = -1;
    left_init(m);
    bounds_init(m);
}

static int
init_module(struct keeper *k, size_t index)
{
    struct keeper_module *m = &k->modules[index];

    clear_module(m);
    m->keeper = k;
    m->conf = &k->conf->modules[index];
    for (int i = 0; i < 2; i++) {
        m->streams[i].source = (struct keeper_source){-1, output_ready, m};
        m->streams[i].name = i == 0 ? "stdout" : "stderr";
    }
    m->world = *k->real;
    m->world.ctx = m;
    m->world.spawn = spawn_module;
    m->world.kill = kill_module;
    restart_init(&m->unit, &m->world, &m->plan, true);
    life_init(m);
    if (asprintf(&m->door, "%s/%s/door", k->folder.path, m->conf->name) < 0) {
        m->door = NULL;
        return -ENOMEM;
    }
    if (make_state(m) < 0) {
        return -ENOMEM;
    }
    if (make_plan(m) < 0) {
        return -ENOMEM;
    }
    return runfolder_module(&k->folder, m->conf->name, m->conf->user);
}

int
modules_init(struct keeper *k)
{
    k->modules = pages_alloc(k->bounds.modules * sizeof(*k->modules));
    if (k->modules == NULL || past_init(k) < 0) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < k->conf->n_modules; i++) {
        int rc = life_parks_at(k, i) ? 0 : init_module(k, i);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static void
deinit_module(struct keeper_module *m)
{
    keeper_unwatch(m->keeper, &m->streams[0].source);
    keeper_unwatch(m->keeper, &m->streams[1].source);
    free(m->streams[0].lines);
    free(m->streams[1].lines);
    writers_deinit(m);
    left_end(m);
    bounds_deinit(m);
    restart_deinit(&m->unit);
    forget_plan(m);
    free(m->door);
    free(m->state);
}

void
modules_deinit(struct keeper *k)
{
    if (k->modules == NULL) {
        return;
    }
    FOR_EACH_MODULE (k, m) {
        deinit_module(m);
    }
    past_deinit(k);
    pages_free(k->modules, k->bounds.modules * sizeof(*k->modules));
    k->modules = NULL;
}

/* Why M's process was started, as `cardea why` takes it. */
static const char *
why_started(const struct keeper_module *m)
{
    const struct restart_cause *last = &m->unit.causes[m->unit.last];

    if (m->unit.n_causes == 0) {
        return life_parks(m) ? "called" : "configured";
    }
    return last->why == RESTART_UNUSED     ? "called"
           : last->why != RESTART_RECYCLED ? "ended"
           : last->code == RESTART_BY_CONF ? "changed"
                                           : "recycled";
}

static void
act_on(struct keeper_module *m, enum restart_act act)
{
    struct keeper *k = m->keeper;
    struct log_line line;

    if (act == RESTART_NOTHING) {
        return;
    }
    keeper_log_begin(k, &line, act == RESTART_STARTED ? LOG_INFO : LOG_ERROR,
                     act == RESTART_STARTED       ? "start"
                     : act == RESTART_NOT_STARTED ? "start-failed"
                                                  : "kill");
    log_text(&line, "module", m->conf->name);
    if (act == RESTART_NOT_STARTED) {
        log_text(&line, "program",
                 m->plan.argv != NULL ? m->plan.argv[0] : "?");
        log_text(&line, "folder", m->conf->folder);
        keeper_log_cause(&line, &m->unit);
    } else {
        log_num(&line, "pid", (uint64_t)m->unit.pid);
    }
    if (act == RESTART_STARTED) {
        log_text(&line, "why", why_started(m));
    }
    if (act == RESTART_KILLING || act == RESTART_TOO_LATE) {
        log_text(&line, "cause",
                 act == RESTART_KILLING ? "grace-over" : "late");
    }
    keeper_log_end(k, &line);
    if (act == RESTART_STARTED || act == RESTART_NOT_STARTED) {
        life_changed(m);
    }
    if (act == RESTART_STARTED) {
        growth_begin(m);
        PROBE2(start, m->conf->name, m->unit.pid);
        doors_module_started(m);
    }
}

void
modules_start(struct keeper *k)
{
    FOR_EACH_MODULE (k, m) {
        act_on(m, life_begin(m));
    }
}

/* M is parked. Is nothing left of its last process, either? */
static bool
is_at_rest(const struct keeper_module *m)
{
    return m->conf->presence == CONF_LIVE && life_parks(m) &&
           m->unit.n_starts > 0 && m->streams[0].source.fd < 0 &&
           m->streams[1].source.fd < 0 && m->writers.n == 0 &&
           m->writers.listener.fd < 0 && !left_is_there(m) &&
           m->output.dropped == 0 && bounds_are_told(m) && doors_are_back(m);
}

static bool
has_record(const void *keeper, size_t index)
{
    return ((const struct keeper *)keeper)->modules[index].conf != NULL;
}

/* Its record goes until the next call; the pages too, where no neighbour has
 * one in them. */
static void
put_away(struct keeper_module *m)
{
    struct keeper *k = m->keeper;

    if (past_keep(m) == 0) {
        doors_module_ends(m);
        modules_free(m);
        pages_give_back(k->modules, k->bounds.modules, sizeof(*m),
                        (size_t)(m - k->modules), has_record, k, MADV_DONTNEED);
    }
}

void
modules_tick(struct keeper *k, uint64_t now)
{
    output_tick(k, now);
    bounds_tick(k, now);
    FOR_EACH_MODULE (k, m) {
        act_on(m, restart_tick(&m->unit, now));
        if (m->unit.state == RESTART_PARKED && is_at_rest(m)) {
            put_away(m);
        }
    }
}

struct keeper_module *
modules_find(struct keeper *k, pid_t pid)
{
    FOR_EACH_MODULE (k, m) {
        if (m->unit.pid == pid) {
            return m;
        }
    }
    return NULL;
}

void
module_reaped(struct keeper_module *m, int status)
{
    struct keeper *k = m->keeper;
    bool killed = m->unit.state == RESTART_KILLED;
    uint64_t now = keeper_now(k);
    struct log_line line;
    enum restart_why why;
    bool asked, fine;

    output_drain(m);
    stop_note_end(k, &m->unit, status, killed);
    if (bounds_killed(m, status)) {
        restart_blame_memory(&m->unit);
    }
    PROBE3(end, m->conf->name, m->unit.pid, status);
    restart_died(&m->unit, status, now);
    life_changed(m);
    doors_module_died(m);
    why = m->unit.causes[m->unit.last].why;
    asked = m->unit.state == RESTART_STOPPED;
    fine = asked || why == RESTART_UNUSED || why == RESTART_RECYCLED;
    keeper_log_begin(k, &line, fine ? LOG_INFO : LOG_ERROR,
                     asked                     ? "stopped"
                     : why == RESTART_UNUSED   ? "parked"
                     : why == RESTART_RECYCLED ? "recycled"
                                               : "died");
    log_text(&line, "module", m->conf->name);
    keeper_log_cause(&line, &m->unit);
    log_ms(&line, "ran_ms", now - m->unit.started_at);
    keeper_log_end(k, &line);
}

/* --- Another configuration ------------------------------------------------ */

static void
log_lack(struct keeper_module *m, int rc)
{
    struct log_line line;

    keeper_log_begin(m->keeper, &line, LOG_ERROR, "start-failed");
    log_text(&line, "module", m->conf->name);
    log_errno(&line, -rc);
    keeper_log_end(m->keeper, &line);
}

void
modules_add(struct keeper *k, size_t index)
{
    int rc = life_parks_at(k, index) ? 0 : init_module(k, index);

    if (rc < 0) {
        log_lack(&k->modules[index], rc);
    }
}

const struct restart *
modules_unit(const struct keeper *k, size_t index, struct restart *room)
{
    return k->modules[index].conf != NULL ? &k->modules[index].unit
                                          : past_unit(k, index, room);
}

const uint64_t *
modules_copy_ends(const struct keeper *k, size_t index)
{
    return k->modules[index].conf != NULL ? k->modules[index].copy_ends
                                          : past_copy_ends(k, index);
}

struct keeper_module *
modules_need(struct keeper *k, size_t index)
{
    struct keeper_module *m = &k->modules[index];
    int rc;

    if (m->conf != NULL) {
        return m;
    }
    rc = init_module(k, index);
    if (rc == 0) {
        rc = doors_module_begins(m);
    }
    if (rc < 0) {
        log_lack(m, rc);
        doors_module_ends(m);
        deinit_module(m);
        memset(m, 0, sizeof(*m));
        return NULL;
    }
    past_restore(m);
    act_on(m, life_begin(m));
    return m;
}

void
modules_renew(struct keeper_module *m, bool changed)
{
    struct keeper *k = m->keeper;
    int rc;

    if (m->conf == NULL) {
        return; /* modules_begin() looks */
    }
    m->conf = &k->conf->modules[m - k->modules];
    rc = make_plan(m);
    if (rc < 0) {
        log_lack(m, rc);
    } else if (changed) {
        life_renew(m);
    }
}

void
modules_begin(struct keeper *k)
{
    for (size_t i = 0; i < k->conf->n_modules; i++) {
        struct keeper_module *m = &k->modules[i];

        if (m->conf == NULL && k->conf->modules[i].presence == CONF_LIVE &&
            !life_parks_at(k, i)) {
            (void)modules_need(k, i); /* it did */
            continue;
        }
        if (m->conf != NULL && m->conf->presence == CONF_LIVE &&
            m->unit.state == RESTART_IDLE && m->plan.argv != NULL &&
            m->plan.envp != NULL) {
            life_init(m);
            act_on(m, life_begin(m));
        }
    }
}

void
modules_free(struct keeper_module *m)
{
    if (m->conf != NULL) {
        deinit_module(m);
        memset(m, 0, sizeof(*m));
    }
}
