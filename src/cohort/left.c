/* What a module's process left when it died: others of its group, which serve
 * on. The copies of cardea_serve(3) do: each has the rings that its parent had,
 * and needs it only to become more. So the group is not ended with its leader,
 * but once no worker has a door of that life: workers are told to drain, give
 * the door back, and get that of the next process.
 *
 * The group is reached by the leader's pidfd (PIDFD_SIGNAL_PROCESS_GROUP, 6.9),
 * since its number is free again once the leader is reaped. On older kernels it
 * is ended with its leader. */
#include "cohort/keeper_priv.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/procs.h"

/* PIDFD_SIGNAL_PROCESS_GROUP of linux/pidfd.h, which older headers lack. */
#define SIGNAL_GROUP (1u << 2)

#define DRAIN_TIME  (500 * NS_PER_MS) /* for which new calls wait */
#define DRAIN_AGAIN (5 * NS_PER_SEC)
#define SPARE       (1 * NS_PER_SEC) /* after the longest call */

static int
signal_group(int pidfd, int number)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL,
                        SIGNAL_GROUP);
}

/* Has a worker a door of that life? If KIND is not NULL, each that has one is
 * told it. */
static bool
is_used(const struct keeper_module *m, const enum worker_message_kind *kind)
{
    struct keeper *k = m->keeper;
    bool any = false;

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        const struct keeper_target *t = &k->targets[i];

        for (int w = 0; t->module == m && w < k->n_workers; w++) {
            if (!t->links[w].open ||
                t->links[w].incarnation != m->left.incarnation) {
                continue;
            }
            any = true;
            if (kind != NULL) {
                struct worker_message message = {.kind = *kind,
                                                 .target = (uint32_t)i};

                t->links[w].asked = true;
                worker_send(&k->workers[w], &message, -1);
            }
        }
    }
    return any;
}

/* The same: each worker gives its door back when its calls have ended, or, not
 * to DRAIN, keeps it. */
static bool
ask_back(const struct keeper_module *m, bool drain)
{
    enum worker_message_kind kind = drain ? WORKER_DRAIN : WORKER_KEEP;

    return is_used(m, &kind);
}

void
left_init(struct keeper_module *m)
{
    m->left = (struct keeper_left){.pidfd = -1};
}

bool
left_is_there(const struct keeper_module *m)
{
    return m->left.pidfd >= 0;
}

bool
left_begin(struct keeper_module *m)
{
    struct keeper *k = m->keeper;
    uint64_t now = keeper_now(k);
    struct log_line line;

    left_end(m);
    if (k->phase != PHASE_RUN || m->unit.state != RESTART_RUNNING ||
        (m->conf->kind != CONF_MODULE_RUN &&
         m->conf->kind != CONF_MODULE_WSGI) ||
        m->unit.pidfd < 0 || signal_group(m->unit.pidfd, 0) < 0 ||
        procs_group(m->unit.pid).n_alive == 0) {
        return false;
    }
    m->left = (struct keeper_left){
        .pidfd = fcntl(m->unit.pidfd, F_DUPFD_CLOEXEC, 0),
        .incarnation = m->unit.n_starts,
        .drains = true,
        .look_at = now + DRAIN_TIME,
        .by = now + m->conf->timeout_ns + SPARE,
    };
    if (m->left.pidfd < 0 || !ask_back(m, true)) {
        if (m->left.pidfd >= 0) {
            close(m->left.pidfd);
        }
        m->left.pidfd = -1;
        return false;
    }
    keeper_log_begin(k, &line, LOG_INFO, "serves-on");
    log_text(&line, "module", m->conf->name);
    log_num(&line, "group", (uint64_t)m->unit.pid);
    keeper_log_end(k, &line);
    return true;
}

void
left_end(struct keeper_module *m)
{
    if (m->left.pidfd >= 0) {
        (void)signal_group(m->left.pidfd, SIGKILL); /* ESRCH: they have gone */
        close(m->left.pidfd);
        m->left.pidfd = -1;
    }
}

void
left_tick(struct keeper *k, uint64_t now)
{
    FOR_EACH_MODULE (k, m) {
        struct keeper_left *left = &m->left;

        if (left->pidfd < 0) {
            continue;
        }
        if (!is_used(m, NULL) || now >= left->by) {
            left_end(m);
        } else if (now >= left->look_at) {
            /* Long calls must not keep new ones waiting: they are made to the
             * old copies, and it is tried again. */
            left->drains = !left->drains;
            left->look_at = now + (left->drains ? DRAIN_TIME : DRAIN_AGAIN);
            (void)ask_back(m, left->drains);
        }
    }
}

uint64_t
left_deadline(const struct keeper *k)
{
    uint64_t first = UINT64_MAX;

    FOR_EACH_MODULE (k, m) {
        const struct keeper_left *left = &m->left;

        if (left->pidfd >= 0) {
            first = MIN_OF(first, MIN_OF(left->look_at, left->by));
        }
    }
    return first;
}
