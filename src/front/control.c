/* What the keeper says. Messages have one size; one of another size or kind
 * means that the keeper is not what we think: the worker leaves. */
#include "front/worker_priv.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "door/sys.h"

#define ORPHAN_IDLE (1 * NS_PER_SEC) /* for the next request of a client */

static bool
say(struct worker *w, const struct worker_message *m)
{
    ssize_t n;

    do {
        n = write(w->setup->say_fd, m, sizeof *m);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *m; /* less than PIPE_BUF: all or nothing */
}

/* A message lost would never be missed: no READY, and the start waits for it;
 * no DOOR_LOST, and the door does not come back. So these are kept, by target,
 * and said again in a later pass. A keeper that is gone is seen elsewhere. */
void
control_say(struct worker *w, const struct worker_message *m)
{
    if (w->core->orphan_at != 0 || say(w, m) || m->kind == WORKER_AWAKE) {
        return; /* a full pipe has woken the keeper too */
    }
    if (m->kind == WORKER_WANTED) {
        return; /* the next slow tick asks again while calls wait */
    }
    if (!w->unsaid) {
        worker_event(w, LOG_WARN, "keeper-deaf", NULL, NULL);
    }
    w->unsaid = true;
    if (m->kind == WORKER_READY) {
        w->unsaid_ready = true;
    } else if (m->kind == WORKER_HEIR) {
        w->unsaid_heir = true;
    } else if (m->kind == WORKER_DOOR_LOST) {
        w->unsaid_lost[m->target] = (uint8_t)m->cause;
    }
}

bool
control_try(struct worker *w, const struct worker_message *m)
{
    return w->core->orphan_at != 0 || say(w, m);
}

static struct worker_message
heir_message(const struct worker *w)
{
    return (struct worker_message){.kind = WORKER_HEIR,
                                   .target = (uint32_t)w->core->generation,
                                   .cause = (uint32_t)getpid(),
                                   .grace_ns = w->now - w->core->last_pass};
}

void
control_say_heir(struct worker *w)
{
    const struct worker_message heir = heir_message(w);

    control_say(w, &heir);
    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        if (!ring_was_used(w, g) || w->rings[g].state == RING_CLOSED) {
            const struct worker_message lost = {.kind = WORKER_DOOR_LOST,
                                                .target = g,
                                                .cause = WORKER_CAUSE_HEIR};
            control_say(w, &lost);
        }
    }
}

void
control_say_again(struct worker *w)
{
    struct worker_message m = {.kind = WORKER_READY};
    const struct worker_message heir = heir_message(w);

    if (w->unsaid_ready && !say(w, &m)) {
        return;
    }
    w->unsaid_ready = false;
    if (w->unsaid_heir && !say(w, &heir)) {
        return;
    }
    w->unsaid_heir = false;
    m.kind = WORKER_DOOR_LOST;
    for (m.target = 0; m.target < w->core->n_rings; m.target++) {
        m.cause = w->unsaid_lost[m.target];
        if (m.cause != 0 && !say(w, &m)) {
            return;
        }
        w->unsaid_lost[m.target] = 0;
    }
    w->unsaid = false;
}

/* Ends connections that have no request. */
static void
close_idle(struct worker *w)
{
    for (uint32_t i = 0; i < w->core->top; i++) {
        struct conn *c = &w->conns[i];
        uint32_t gen = c->gen;
        if (c->state != CONN_IDLE && c->state != CONN_RAW) {
            continue;
        }
        /* A request may be in the socket already: it is answered. */
        c->flags |= CONN_READABLE;
        conn_go(w, i);
        if ((c->state == CONN_IDLE ||
             (c->state == CONN_RAW && c->seg == ARENA_NONE)) &&
            c->gen == gen) {
            conn_close(w, i);
        }
    }
}

static void
stop(struct worker *w, uint64_t grace_ns)
{
    if (w->core->stopping) {
        return;
    }
    w->core->stopping = true;
    w->core->stop_at = w->now + grace_ns;
    accept_stop(w);
    close_idle(w);
}

/* The keeper's end was seen. A reaper above it starts another, with workers of
 * its own, and holds the listeners; so nobody is turned away, and what is here
 * is finished: also on connections that are between two requests, whose clients
 * may have sent the next one. */
static void
keeper_gone(struct worker *w)
{
    struct core *core = w->core;

    if (w->setup->reaper == 0) {
        w->leaving = 1;
        return;
    }
    if (core->orphan_at == 0) {
        core->idle_until = core->stopping ? UINT64_MAX : w->now + ORPHAN_IDLE;
        core->stop_at =
            core->stopping ? core->stop_at : w->now + w->conf->grace_ns;
        core->stopping = true;
        KEEP_ORDER();
        core->orphan_at = w->now; /* an heir that sees it not does it again */
    }
    accept_stop(w);
    w->unsaid = false;
    epoll_ctl(core->epoll, EPOLL_CTL_DEL, w->setup->control_fd, NULL);
}

void
control_orphan(struct worker *w)
{
    struct core *core = w->core;
    pid_t parent;

    if (core->orphan_at == 0) {
        return;
    }
    parent = getppid();
    /* For a moment it still is the keeper. Without the reaper nobody is left to
     * bound this. */
    if (parent != w->setup->reaper && parent != w->setup->keeper) {
        w->leaving = 1;
    } else if (w->now >= core->idle_until) {
        core->idle_until = UINT64_MAX;
        close_idle(w);
    }
}

static void
obey(struct worker *w, const struct worker_message *m, int fd)
{
    bool is_target = m->target < w->core->n_rings;

    switch ((enum worker_message_kind)m->kind) {
    case WORKER_DOOR:
        if (is_target && fd >= 0) {
            ring_take_door(w, m->target, fd);
            return;
        }
        break;
    case WORKER_DOOR_NONE:
        if (is_target && !ring_is_alive(w, m->target)) {
            ring_lost(w, m->target, 0);
        }
        break;
    case WORKER_STOP:
        stop(w, m->grace_ns);
        break;
    case WORKER_NOW:
        w->leaving = 1;
        break;
    case WORKER_LOOK:
        rings_look(w);
        control_say(w, &(struct worker_message){.kind = WORKER_LOOKED});
        break;
    case WORKER_PARK:
        if (is_target) {
            ring_park(w, m->target);
        }
        break;
    case WORKER_DRAIN:
    case WORKER_KEEP:
        if (is_target) {
            ring_drain(w, m->target, m->kind == WORKER_DRAIN);
        }
        break;
    case WORKER_LISTEN:
    case WORKER_FOLDER:
    case WORKER_CONF:
        renew_take(w, m, fd);
        return;
    case WORKER_READY:
    case WORKER_CONF_IS:
    case WORKER_UNUSED:
    case WORKER_DOOR_LOST:
    case WORKER_LOOKED:
    case WORKER_AWAKE:
    case WORKER_NO_DESCS:
    case WORKER_STALLED:
    case WORKER_WANTED:
    case WORKER_HEIR:
    default:
        w->leaving = 1;
        break;
    }
    if (fd >= 0) {
        close(fd);
    }
}

void
control_event(struct worker *w)
{
    for (;;) {
        struct worker_message m;
        int fd = -1;
        size_t n = 1;
        int e = door_receive(w->setup->control_fd, &m, sizeof m, &fd, &n, NULL,
                             MSG_DONTWAIT);
        if (e == EAGAIN) {
            return;
        }
        if (e == EMFILE && m.kind == WORKER_DOOR &&
            m.target < w->core->n_rings) {
            /* Our table is full: of clients, so it will have room again. */
            ring_no_door(w, m.target);
            continue;
        }
        if (e == EMFILE && m.kind >= WORKER_LISTEN && m.kind <= WORKER_CONF) {
            renew_take(w, &m, -1); /* the keeper sends all of it again */
            continue;
        }
        if (e == EPIPE) {
            keeper_gone(w);
            return;
        }
        if (e != 0) {
            w->leaving = 1; /* the keeper is mad */
            return;
        }
        obey(w, &m, n == 1 ? fd : -1);
    }
}
