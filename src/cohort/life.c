/* What becomes of a module's process beyond its start and its end: is it ready
 * in time, was its program changed, is it stopped, does it take calls? The
 * machine of restart.c does what is decided here.
 *
 * All looks are rare: nothing here runs while a module is well. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/procs.h"

#define VERSION_GAP     (250 * NS_PER_MS) /* between looks at a program file */
#define FROZEN_PATIENCE (5 * NS_PER_SEC)
#define WEDGED_GAP      (1 * NS_PER_SEC) /* a quarter of it it must compute */
#define PARK_GRACE      (5 * NS_PER_SEC)
#define PARK_PATIENCE   (1 * NS_PER_SEC)  /* with workers */
#define DRAIN_PATIENCE  (500 * NS_PER_MS) /* for which calls wait */
#define DRAIN_AGAIN     (5 * NS_PER_SEC)
#define RENEW_AGAIN     (1 * NS_PER_SEC)
#define RENEW_PATIENCE  (30 * NS_PER_SEC) /* at the most */
#define RECYCLE_GAP     (1 * NS_PER_SEC)
#define JITTER          100 /* thousandths */
#define IDLE_GAP_MIN    (100 * NS_PER_MS)
#define IDLE_GAP_MAX    (10 * NS_PER_SEC)
#define TRACED_GAP      (1 * NS_PER_SEC)

/* Does a listener or a route lead to the door of module INDEX? Else nobody
 * dials it. */
static bool
is_dialled(const struct keeper *k, size_t index)
{
    const struct conf *conf = k->conf;

    for (size_t i = 0; i < conf->n_targets; i++) {
        if (conf->targets[i].kind == CONF_TARGET_MODULE &&
            conf->targets[i].presence == CONF_LIVE &&
            conf->targets[i].module == index) {
            return true;
        }
    }
    return false;
}

static size_t
index_of(const struct keeper_module *m)
{
    return (size_t)(m - m->keeper->modules);
}

static uint64_t
start_timeout(const struct keeper_module *m)
{
    return is_dialled(m->keeper, index_of(m)) ? m->conf->start_timeout_ns : 0;
}

static uint64_t
version_of(const struct keeper_module *m)
{
    const struct conf_module *conf = m->conf;
    uint64_t version = procs_version(conf->argv, conf->folder);

    if (conf->app != NULL) { /* "/PATH/FILE.py:NAME" */
        const char *end = strrchr(conf->app, ':');
        CLEAN_FREE char *file =
            strndup(conf->app, end != NULL ? (size_t)(end - conf->app)
                                           : strlen(conf->app));
        char *argv[] = {file, NULL};

        version ^= procs_version(argv, conf->folder);
    }
    return version;
}

static void
forget(struct keeper_module *m)
{
    memset(&m->life, 0, sizeof(m->life));
    m->life.look_at = m->life.idle_at = m->life.recycle_at = UINT64_MAX;
}

/* --- Without calls ---------------------------------------------------- */

bool
life_parks_at(const struct keeper *k, size_t index)
{
    const struct conf *conf = k->conf;

    if (!conf->modules[index].has_idle || !is_dialled(k, index)) {
        return false;
    }
    for (size_t i = 0; i < conf->n_listens; i++) {
        /* It accepts for itself: nobody sees its calls. */
        if (conf->listens[i].protocol == CONF_TCP_WAIT &&
            conf->listens[i].presence == CONF_LIVE &&
            conf->targets[conf->listens[i].routes[0].target].module == index) {
            return false;
        }
    }
    return true;
}

bool
life_parks(const struct keeper_module *m)
{
    return life_parks_at(m->keeper, index_of(m));
}

enum restart_act
life_begin(struct keeper_module *m)
{
    if (life_parks(m)) {
        restart_park(&m->unit, 0, keeper_now(m->keeper));
        return RESTART_NOTHING;
    }
    return restart_start(&m->unit, keeper_now(m->keeper));
}

bool
life_is_parking(const struct keeper_module *m)
{
    return m->life.back_by != 0;
}

/* All calls of M so far; *P_BUSY: one is not answered. */
static uint64_t
calls_of(const struct keeper_module *m, bool *p_busy)
{
    const struct keeper *k = m->keeper;
    uint64_t n = 0;

    *p_busy = false;
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (k->targets[i].module == m) {
            struct tally_sum sum;

            tallies_growth(&k->tallies, i, &sum);
            n += sum.calls;
            *p_busy |= sum.in_flight > 0;
        }
    }
    return n;
}

/* Its idle time begins, or goes on. */
static void
look_again(struct keeper_module *m, uint64_t now)
{
    uint64_t gap = MAX_OF(m->conf->idle_ns / 4, IDLE_GAP_MIN);

    m->life.idle_at = now + MIN_OF(gap, IDLE_GAP_MAX);
}

/* The workers keep some of its doors, or a call came: it stays. */
static void
stay(struct keeper_module *m, uint64_t now)
{
    m->life.back_by = 0;
    m->life.idle_since = now;
    doors_give_again(m);
    if (m->life.renews) {
        m->life.patience = MIN_OF(2 * m->life.patience, RENEW_PATIENCE);
        m->life.recycle_at = now + RENEW_AGAIN;
    } else if (m->life.recycle_at != UINT64_MAX) {
        m->life.recycle_at = now + DRAIN_AGAIN;
    }
    if (life_parks(m)) {
        look_again(m, now);
    }
}

/* No worker has a door of M: its process may end. */
static void
end_unused(struct keeper_module *m, uint64_t now)
{
    struct restart_cause cause = {RESTART_RECYCLED, (int)m->life.recycled, 0};
    char text[RESTART_CAUSE_MAX];
    struct log_line line;

    keeper_log_begin(m->keeper, &line, LOG_INFO,
                     m->life.recycled != 0 ? "recycle" : "park");
    log_text(&line, "module", m->conf->name);
    log_num(&line, "pid", (uint64_t)m->unit.pid);
    if (m->life.recycled != 0) {
        restart_cause_text(&cause, text);
        log_text(&line, "cause", text);
        restart_recycle(&m->unit, m->life.recycled, PARK_GRACE, now);
    } else {
        log_ms(&line, "idle_ms", now - m->life.idle_since);
        restart_park(&m->unit, PARK_GRACE, now);
    }
    keeper_log_end(m->keeper, &line);
    forget(m);
}

/* Its doors were asked back. */
static void
wait_for_doors(struct keeper_module *m, uint64_t now)
{
    if (m->keeper->phase != PHASE_RUN) {
        m->life.back_by = 0;
    } else if (doors_are_back(m)) {
        end_unused(m, now);
    } else if (now >= m->life.back_by) {
        stay(m, now);
    }
}

/* M runs, and is parked when nobody calls it. Its end is safe once no worker
 * has its door: a call that comes then waits, and asks for it. */
static void
judge_idle(struct keeper_module *m, uint64_t now)
{
    bool busy;
    uint64_t n_calls;

    n_calls = calls_of(m, &busy);
    if (busy || n_calls != m->life.n_calls) {
        m->life.n_calls = n_calls;
        m->life.idle_since = now;
    }
    if (busy || now - m->life.idle_since < m->conf->idle_ns) {
        look_again(m, now);
        return;
    }
    m->life.back_by = now + PARK_PATIENCE;
    m->life.idle_at = UINT64_MAX;
    m->life.recycled = 0;
    doors_ask_back(m, false);
}

/* --- Recycling -------------------------------------------------------- */

/* Is VALUE above what AMOUNT says, with M's jitter? */
static bool
is_above(const struct keeper_module *m, enum conf_amount amount, uint64_t value)
{
    uint64_t most = conf_amount(m->conf, amount);

    return most > 0 && value >= most + most / 1000 * m->life.jitter +
                                    most % 1000 * m->life.jitter / 1000;
}

static void
begin_recycling(struct keeper_module *m, uint64_t now)
{
    bool busy;

    if (conf_amount(m->conf, CONF_RECYCLE_CALLS) == 0 &&
        conf_amount(m->conf, CONF_RECYCLE_MEMORY) == 0 &&
        conf_amount(m->conf, CONF_RECYCLE_AGE) == 0) {
        return;
    }
    m->life.n_calls_begin = calls_of(m, &busy);
    /* Only to differ from one process to the next. */
    m->life.jitter = (now / 1000 + (uint64_t)m->unit.pid * 7919) % JITTER;
    m->life.recycle_at = now + RECYCLE_GAP;
}

/* M runs. Is its process to be replaced? */
static void
judge_recycling(struct keeper_module *m, uint64_t now)
{
    bool busy;

    m->life.recycle_at = now + RECYCLE_GAP;
    if (m->keeper->phase != PHASE_RUN) {
        return;
    }
    if (m->life.renews) {
        m->life.recycled = RESTART_BY_CONF;
        m->life.back_by = now + m->life.patience;
        doors_ask_back(m, true);
        return;
    }
    if (is_above(m, CONF_RECYCLE_CALLS,
                 calls_of(m, &busy) - m->life.n_calls_begin)) {
        m->life.recycled = RESTART_BY_CALLS;
    } else if (is_above(m, CONF_RECYCLE_AGE, now - m->unit.started_at)) {
        m->life.recycled = RESTART_BY_AGE;
    } else if (is_above(m, CONF_RECYCLE_MEMORY, procs_memory(m->unit.pid))) {
        m->life.recycled = RESTART_BY_MEMORY;
    } else {
        return;
    }
    m->life.back_by = now + DRAIN_PATIENCE;
    doors_ask_back(m, true);
}

void
life_renew(struct keeper_module *m)
{
    uint64_t now = keeper_now(m->keeper);

    m->unit.start_timeout_ns = start_timeout(m);
    switch (m->unit.state) {
    case RESTART_RUNNING:
        m->life.renews = true;
        m->life.patience = DRAIN_PATIENCE;
        if (m->life.back_by == 0) {
            judge_recycling(m, now);
        }
        break;
    case RESTART_STARTING:
        restart_replace(&m->unit, RESTART_RECYCLED, RESTART_BY_CONF);
        break;
    case RESTART_WAITING:
        m->unit.version++; /* another than it was */
        m->life.look_at = now;
        break;
    case RESTART_IDLE:
    case RESTART_PARKING:
    case RESTART_PARKED: /* its next start is by the new one */
    case RESTART_STOPPING:
    case RESTART_KILLED:
    case RESTART_STOPPED:
        break;
    }
}

int
life_wanted(struct keeper *k, uint32_t target)
{
    uint64_t now = keeper_now(k);
    const struct conf_target *t;
    struct keeper_module *m;

    if (target >= k->conf->n_targets) {
        return -EPROTO;
    }
    t = &k->conf->targets[target];
    if (t->kind != CONF_TARGET_MODULE || t->presence == CONF_FREE) {
        return -EPROTO;
    }
    m = modules_need(k, t->module);
    if (m == NULL) {
        return 0; /* it asks again */
    }
    if (m->life.back_by != 0) {
        stay(m, now);
    }
    restart_want(&m->unit, now);
    return 0;
}

/* --- Starts and ends -------------------------------------------------- */

void
life_init(struct keeper_module *m)
{
    forget(m);
    m->unit.start_timeout_ns = start_timeout(m);
    m->unit.version = version_of(m);
}

void
life_ready(struct keeper_module *m)
{
    struct keeper *k = m->keeper;
    struct log_line line;

    if (m->unit.state != RESTART_STARTING) {
        return;
    }
    restart_ready(&m->unit);
    keeper_log_begin(k, &line, LOG_INFO, "ready");
    log_text(&line, "module", m->conf->name);
    log_num(&line, "pid", (uint64_t)m->unit.pid);
    log_ms(&line, "took_ms", keeper_now(k) - m->unit.started_at);
    keeper_log_end(k, &line);
    begin_recycling(m, keeper_now(k));
    if (m->life.renews) {
        m->life.recycle_at = keeper_now(k);
    }
    if (life_parks(m)) {
        m->life.idle_since = keeper_now(k);
        look_again(m, m->life.idle_since);
    }
}

void
life_changed(struct keeper_module *m)
{
    forget(m);
    if (m->unit.state == RESTART_WAITING) {
        m->life.look_at = keeper_now(m->keeper) + VERSION_GAP;
    }
}

void
life_stopped(struct keeper *k, pid_t pid, bool stopped)
{
    struct keeper_module *m = modules_find(k, pid);

    if (m == NULL || !restart_is_up(&m->unit)) {
        return;
    }
    m->life.frozen = stopped;
    m->life.told_traced = false;
    m->life.look_at = stopped ? keeper_now(k) + FROZEN_PATIENCE : UINT64_MAX;
}

int
life_stalled(struct keeper *k, int worker, uint32_t target)
{
    struct keeper_module *m;

    if (!doors_is_one(k, target)) {
        return -EPROTO;
    }
    m = k->targets[target].module;
    if (m == NULL || m->unit.state != RESTART_RUNNING ||
        !k->targets[target].links[worker].open ||
        k->targets[target].links[worker].incarnation != m->unit.n_starts ||
        m->life.look_at != UINT64_MAX) {
        return 0; /* of an earlier life, or looked at already */
    }
    m->life.cpu_ticks = procs_group(m->unit.pid).cpu_ticks;
    m->life.look_at = keeper_now(k) + WEDGED_GAP;
    return 0;
}

/* Says once that TRACER holds M, which would be killed else. */
static void
tell_traced(struct keeper_module *m, pid_t tracer)
{
    struct log_line line;

    if (m->life.told_traced) {
        return;
    }
    m->life.told_traced = true;
    keeper_log_begin(m->keeper, &line, LOG_WARN, "traced");
    log_text(&line, "module", m->conf->name);
    log_num(&line, "pid", (uint64_t)m->unit.pid);
    log_num(&line, "tracer", (uint64_t)tracer);
    keeper_log_end(m->keeper, &line);
}

static void
replace(struct keeper_module *m, enum restart_why why)
{
    struct restart_cause cause = {.why = why};
    char text[RESTART_CAUSE_MAX];
    struct log_line line;

    restart_cause_text(&cause, text);
    keeper_log_begin(m->keeper, &line, LOG_ERROR, "kill");
    log_text(&line, "module", m->conf->name);
    log_num(&line, "pid", (uint64_t)m->unit.pid);
    log_text(&line, "cause", text);
    keeper_log_end(m->keeper, &line);
    restart_replace(&m->unit, why, 0);
}

/* The process is up, and was stopped or took no calls when it was last seen. */
static void
judge(struct keeper_module *m, uint64_t now)
{
    struct procs_group group = procs_group(m->unit.pid);

    m->life.look_at = UINT64_MAX;
    if (group.tracer != 0) {
        tell_traced(m, group.tracer);
        /* One that was stopped may be so still when it is let go. */
        m->life.look_at = m->life.frozen ? now + TRACED_GAP : UINT64_MAX;
    } else if (m->life.frozen) {
        replace(m, RESTART_FROZEN);
    } else if (group.cpu_ticks - m->life.cpu_ticks <
               (uint64_t)sysconf(_SC_CLK_TCK) / 4) {
        replace(m, RESTART_WEDGED);
    }
}

static void
run_tick(struct keeper_module *m, uint64_t now)
{
    if (m->life.back_by != 0) {
        wait_for_doors(m, now);
    } else if (m->life.idle_at <= now) {
        judge_idle(m, now);
    } else if (m->life.recycle_at <= now) {
        judge_recycling(m, now);
    }
}

void
life_tick(struct keeper *k, uint64_t now)
{
    FOR_EACH_MODULE (k, m) {
        bool waits = m->unit.state == RESTART_WAITING;

        if (m->unit.state == RESTART_RUNNING) {
            run_tick(m, now);
        }
        if (m->life.look_at > now && !(waits && m->unit.deadline <= now)) {
            continue;
        }
        if (waits) {
            restart_version(&m->unit, version_of(m), now);
            m->life.look_at = now + VERSION_GAP;
        } else if (restart_is_up(&m->unit)) {
            judge(m, now);
        } else {
            m->life.look_at = UINT64_MAX;
        }
    }
}

uint64_t
life_deadline(const struct keeper *k)
{
    uint64_t first = UINT64_MAX;

    FOR_EACH_MODULE (k, m) {
        first = MIN_OF(first, m->life.look_at);
        first = MIN_OF(first, m->life.idle_at);
        first = MIN_OF(first, m->life.recycle_at);
        if (m->life.back_by != 0) {
            first = MIN_OF(first, m->life.back_by);
        }
    }
    return first;
}
