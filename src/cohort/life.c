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
#define TRACED_GAP      (1 * NS_PER_SEC)

/* Does a listener or a route lead to the door of M? Else nobody dials it. */
static bool
is_dialled(const struct keeper_module *m)
{
    const struct conf *conf = m->keeper->conf;

    for (size_t i = 0; i < conf->n_targets; i++) {
        if (conf->targets[i].kind == CONF_TARGET_MODULE &&
            conf->targets[i].module == (size_t)(m - m->keeper->modules)) {
            return true;
        }
    }
    return false;
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

void
life_init(struct keeper_module *m)
{
    memset(&m->life, 0, sizeof(m->life));
    m->life.look_at = UINT64_MAX;
    m->unit.start_timeout_ns = is_dialled(m) ? m->conf->start_timeout_ns : 0;
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
}

void
life_changed(struct keeper_module *m)
{
    memset(&m->life, 0, sizeof(m->life));
    m->life.look_at = UINT64_MAX;
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

    if (target >= k->conf->n_targets || k->targets[target].path == NULL) {
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

void
life_tick(struct keeper *k, uint64_t now)
{
    for (size_t i = 0; i < k->conf->n_modules; i++) {
        struct keeper_module *m = &k->modules[i];
        bool waits = m->unit.state == RESTART_WAITING;

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

    for (size_t i = 0; i < k->conf->n_modules; i++) {
        first = MIN_OF(first, k->modules[i].life.look_at);
    }
    return first;
}
