/* What the bounds of modules' control groups did. The kernel ends a process for
 * want of memory, or refuses to make one, without a word to us: only counters
 * of the group tell. They are watched, so that the log names the module while
 * its program still wonders; and where the process that died is the one that we
 * started, its end has the right cause, and not SIGKILL of an unknown hand.
 *
 * At most one line a second of each kind: a program that forks without end is
 * refused thousands of times. */
#include "cohort/keeper_priv.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

#define TELL_GAP  (1 * NS_PER_SEC)
/* The counter rises before the process is killed; so long after that its end
 * may be seen, on a machine that is short of memory. */
#define KILL_TIME (1 * NS_PER_SEC)

static const struct {
    const char *event;
    const char *what;
    enum conf_amount amount;
} kinds[CGROUP_EVENTS] = {
    [CGROUP_KILLED] = {"out-of-memory", "killed", CONF_LIMIT_MEMORY},
    [CGROUP_REFUSED] = {"no-process", "refused", CONF_LIMIT_PROCESSES},
};

static void
tell(struct keeper_module *m, enum cgroup_event event, uint64_t now)
{
    struct keeper_bound *bound = &m->bounds[event];
    uint64_t most = conf_amount(m->conf, kinds[event].amount);
    struct log_line line;

    keeper_log_begin(m->keeper, &line, LOG_ERROR, kinds[event].event);
    log_text(&line, "module", m->conf->name);
    log_num(&line, kinds[event].what, bound->untold);
    if (most > 0) {
        log_num(&line, "limit", most);
    }
    keeper_log_end(m->keeper, &line);
    bound->untold = 0;
    bound->told_at = now;
}

static bool
is_due(const struct keeper_bound *bound, uint64_t now)
{
    return bound->untold > 0 &&
           (bound->told_at == 0 || now >= bound->told_at + TELL_GAP);
}

/* Reads the counter; false: it can no longer be read. */
static bool
look(struct keeper_module *m, enum cgroup_event event, uint64_t now)
{
    struct keeper_bound *bound = &m->bounds[event];
    uint64_t count;

    if (cgroup_count(bound->source.fd, event, &count) < 0) {
        return false;
    }
    if (count > bound->seen) {
        bound->untold += count - bound->seen;
        bound->seen_at = now;
    }
    bound->seen = count;
    if (is_due(bound, now)) {
        tell(m, event, now);
    }
    return true;
}

static void
bound_ready(struct keeper_source *source, uint32_t events)
{
    struct keeper_module *m = source->owner;
    enum cgroup_event event = source == &m->bounds[CGROUP_KILLED].source
                                  ? CGROUP_KILLED
                                  : CGROUP_REFUSED;

    if (!look(m, event, keeper_now(m->keeper))) {
        keeper_unwatch(m->keeper, source);
    }
}

void
bounds_init(struct keeper_module *m)
{
    for (int i = 0; i < CGROUP_EVENTS; i++) {
        m->bounds[i] = (struct keeper_bound){.source = {-1, bound_ready, m}};
    }
}

void
bounds_watch(struct keeper_module *m)
{
    const struct cgroup *group = &m->keeper->cgroup;
    const bool has[CGROUP_EVENTS] = {
        [CGROUP_KILLED] = group->has_memory,
        [CGROUP_REFUSED] = group->has_pids,
    };

    for (int i = 0; i < CGROUP_EVENTS; i++) {
        struct keeper_source *source = &m->bounds[i].source;

        if (group->fd < 0 || !has[i] || source->fd >= 0) {
            continue;
        }
        source->fd = cgroup_watch(group, m->conf->name, i);
        if (source->fd >= 0 &&
            (cgroup_count(source->fd, i, &m->bounds[i].seen) < 0 ||
             keeper_watch(m->keeper, source, EPOLLPRI) < 0)) {
            close(source->fd);
            source->fd = -1;
        }
    }
}

bool
bounds_killed(struct keeper_module *m, int status)
{
    struct keeper_bound *bound = &m->bounds[CGROUP_KILLED];
    uint64_t now = keeper_now(m->keeper);

    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL ||
        bound->source.fd < 0 || !look(m, CGROUP_KILLED, now)) {
        return false;
    }
    return bound->seen_at > 0 && now < bound->seen_at + KILL_TIME;
}

void
bounds_tick(struct keeper *k, uint64_t now)
{
    FOR_EACH_MODULE (k, m) {
        for (int j = 0; j < CGROUP_EVENTS; j++) {
            if (is_due(&m->bounds[j], now)) {
                tell(m, j, now);
            }
        }
    }
}

uint64_t
bounds_deadline(const struct keeper *k)
{
    uint64_t first = UINT64_MAX;

    FOR_EACH_MODULE (k, m) {
        for (int j = 0; j < CGROUP_EVENTS; j++) {
            const struct keeper_bound *bound = &m->bounds[j];

            if (bound->untold > 0) {
                first = MIN_OF(first, bound->told_at + TELL_GAP);
            }
        }
    }
    return first;
}

bool
bounds_are_told(const struct keeper_module *m)
{
    for (int i = 0; i < CGROUP_EVENTS; i++) {
        if (m->bounds[i].untold > 0) {
            return false;
        }
    }
    return true;
}

void
bounds_deinit(struct keeper_module *m)
{
    for (int i = 0; i < CGROUP_EVENTS; i++) {
        keeper_unwatch(m->keeper, &m->bounds[i].source);
    }
}
