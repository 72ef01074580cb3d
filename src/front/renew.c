/* Another configuration, without a pause. The keeper sends new listeners and
 * folders, then the whole as a memory file. It holds from one store on, that of
 * core->generation, which is made in the base frame, once heirs have been
 * cloned that have it too:
 *
 *      killed before:  an heir drops what had come; the keeper sends it again
 *      killed after:   each heir that there is has it, and goes on with it
 *
 * Listeners and targets keep their numbers, so that requests in progress need
 * nothing of the configuration before. What went is told of once nothing here
 * uses it; until then its number is nobody else's. */
#include "front/worker_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "conf/pack.h"

#define TIDY_GAP (100 * NS_PER_MS)
#define CONF_MAX (256u << 20)

static void
forget_all(struct renewal *next)
{
    memset(next, 0, sizeof *next);
    memset(next->listen_fds, 0xff, sizeof next->listen_fds); /* all -1 */
    memset(next->folder_fds, 0xff, sizeof next->folder_fds);
}

static void
close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* Closes what came and is not to be used. */
static void
drop(struct renewal *next)
{
    if (next->n_fds > 0) {
        close_all(next->listen_fds, CONF_LISTENS_MAX);
        close_all(next->folder_fds, TARGETS_MAX);
    }
    if (next->block != NULL) {
        munmap(next->block, next->len);
    }
    forget_all(next);
}

static void
say_generation(struct worker *w)
{
    control_say(w, &(struct worker_message){.kind = WORKER_CONF_IS,
                                            .grace_ns = w->core->generation});
}

static void
keep_fd(struct renewal *next, int *slot, int fd)
{
    if (*slot >= 0) {
        close(*slot); /* it was sent twice */
        next->n_fds--;
    }
    *slot = fd;
    next->n_fds++;
}

/* false: FD is no configuration that can be ours. */
static bool
map_conf(struct worker *w, int fd, size_t len)
{
    struct renewal *next = &w->next;

    if (fd < 0 || len == 0 || len > CONF_MAX) {
        return false;
    }
    next->block = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (next->block == MAP_FAILED) {
        next->block = NULL;
        return false;
    }
    next->len = len;
    next->conf = conf_unpack(next->block, len);
    return next->conf != NULL && next->conf->n_targets <= w->core->rings_max &&
           next->conf->n_targets >= w->conf->n_targets &&
           next->conf->n_listens <= CONF_LISTENS_MAX;
}

void
renew_take(struct worker *w, const struct worker_message *m, int fd)
{
    struct renewal *next = &w->next;
    uint64_t generation = m->grace_ns;

    if (generation <= w->core->generation || w->core->stopping) {
        if (m->kind == WORKER_CONF) {
            say_generation(w); /* sent twice */
        }
    } else if (next->conf == NULL || generation != next->generation) {
        if (generation != next->generation) {
            drop(next);
            next->generation = generation;
        }
        if (m->kind == WORKER_LISTEN && m->target < CONF_LISTENS_MAX &&
            fd >= 0) {
            keep_fd(next, &next->listen_fds[m->target], fd);
            return;
        }
        if (m->kind == WORKER_FOLDER && m->target < TARGETS_MAX && fd >= 0) {
            keep_fd(next, &next->folder_fds[m->target], fd);
            return;
        }
        if (m->kind == WORKER_CONF &&
            (next->n_fds != m->cause || !map_conf(w, fd, m->spare))) {
            drop(next); /* some came to one that died, or found no room */
            say_generation(w);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

void
renew_expect(struct worker *w)
{
    succession_mapped(w);
}

/* --- The change --------------------------------------------------------- */

/* What W->next needs of the arena; it can be done again. */
static void
make_room(struct worker *w)
{
    w->core->n_rings = (uint32_t)w->next.conf->n_targets;
}

/* In private memory only: closes nothing. The descriptors of what went come
 * into LISTENS and FOLDERS, if those are not NULL. */
static void
install(struct worker *w, int *listens, int *folders)
{
    struct renewal *next = &w->next;
    const struct conf *conf = next->conf;

    for (size_t l = 0; l < conf->n_listens; l++) {
        bool goes =
            conf->listens[l].presence != CONF_LIVE || next->listen_fds[l] >= 0;

        if (listens != NULL) {
            listens[l] = goes ? w->listen_fds[l] : -1;
        }
        if (goes) {
            w->listen_fds[l] = next->listen_fds[l];
        }
    }
    for (size_t t = 0; t < conf->n_targets; t++) {
        bool goes =
            conf->targets[t].presence != CONF_LIVE || next->folder_fds[t] >= 0;

        if (folders != NULL) {
            folders[t] = goes ? w->folder_fds[t] : -1;
        }
        if (goes) {
            w->folder_fds[t] = next->folder_fds[t];
        }
    }
    if (w->conf_block != NULL) {
        munmap(w->conf_block, w->conf_len);
    }
    w->conf = conf;
    w->conf_block = next->block;
    w->conf_len = next->len;
    forget_all(next);
}

/* Of a number that another target had, or that comes back: its counters begin
 * anew, and calls wait until the keeper says that it has no door. */
static void
begin_anew(struct worker *w)
{
    const struct conf *old = w->conf, *conf = w->next.conf;

    for (uint32_t t = 0; t < old->n_targets; t++) {
        if (conf->targets[t].presence != CONF_LIVE ||
            old->targets[t].presence == CONF_LIVE) {
            continue;
        }
        if (ring_was_used(w, t)) {
            w->rings[t].absent = false;
        }
        if (old->targets[t].presence == CONF_FREE && tally_is_used(w, t)) {
            memset(tally_of(w, t), 0, sizeof(struct tally));
        }
    }
}

static void
count_gone(struct worker *w)
{
    w->n_gone = 0;
    w->tidy_at = w->now;
    memset(w->told_targets, 0, sizeof w->told_targets);
    w->told_listens = 0;
    for (size_t l = 0; l < w->conf->n_listens; l++) {
        w->n_gone += w->conf->listens[l].presence == CONF_GONE;
    }
    for (size_t t = 0; t < w->conf->n_targets; t++) {
        w->n_gone += w->conf->targets[t].presence == CONF_GONE;
    }
}

/* Who came by a listener that went is answered once more, if he asks. */
static void
close_gone(struct worker *w)
{
    for (uint32_t i = 0; i < w->core->top; i++) {
        struct conn *c = &w->conns[i];
        uint32_t gen = c->gen;

        if (c->state == CONN_FREE || c->listener >= w->conf->n_listens ||
            w->conf->listens[c->listener].presence == CONF_LIVE) {
            continue;
        }
        c->flags |= CONN_CLOSE;
        if (c->state == CONN_IDLE) {
            c->flags |= CONN_READABLE; /* it may be in the socket already */
            conn_go(w, i);
        }
        if (c->state == CONN_IDLE && c->gen == gen) {
            conn_close(w, i);
        }
    }
}

static void
watch_listeners(struct worker *w)
{
    for (uint32_t l = 0; l < w->conf->n_listens; l++) {
        if (w->listen_fds[l] >= 0 && accept_watch(w, l) == 0) {
            w->core->listeners_pending |= 1u << l;
        }
    }
}

void
renew_admit(struct worker *w)
{
    const struct conf *next = w->next.conf;
    uint64_t generation = w->next.generation;
    int listens[CONF_LISTENS_MAX], folders[TARGETS_MAX];
    size_t n_listens = next->n_listens, n_targets = next->n_targets;

    for (uint32_t l = 0; l < w->conf->n_listens; l++) {
        if (next->listens[l].presence != CONF_LIVE && w->listen_fds[l] >= 0) {
            accept_rest(w, l);
        }
    }
    make_room(w);
    begin_anew(w);
    install(w, listens, folders);
    KEEP_ORDER();
    w->core->generation = generation;
    KEEP_ORDER();
    for (size_t l = 0; l < n_listens; l++) {
        if (listens[l] >= 0) {
            epoll_ctl(w->core->epoll, EPOLL_CTL_DEL, listens[l], NULL);
        }
    }
    close_all(listens, n_listens);
    close_all(folders, n_targets);
    watch_listeners(w);
    count_gone(w);
    rings_renewed(w);
    close_gone(w);
    say_generation(w);
}

void
renew_inherit(struct worker *w)
{
    if (w->next.conf != NULL && w->next.generation == w->core->generation) {
        install(w, NULL, NULL);
    } else {
        if (w->next.block != NULL) {
            munmap(w->next.block, w->next.len);
        }
        forget_all(&w->next); /* its descriptors are swept */
    }
}

void
renew_settle(struct worker *w)
{
    watch_listeners(w);
    count_gone(w);
    rings_renewed(w);
    close_gone(w);
}

/* --- What went ------------------------------------------------------------ */

struct used {
    uint64_t targets[TARGETS_MAX / 64];
    uint32_t listens;
};

static void
use(struct used *used, uint32_t target)
{
    if (target < TARGETS_MAX) {
        used->targets[target / 64] |= 1ull << (target % 64);
    }
}

static void
find_used(const struct worker *w, struct used *used)
{
    memset(used, 0, sizeof *used);
    for (uint32_t i = 0; i < w->core->top; i++) {
        const struct conn *c = &w->conns[i];

        if (c->state == CONN_FREE) {
            continue;
        }
        used->listens |= 1u << (c->listener % 32);
        if (c->seg != ARENA_NONE && request_of(w, c)->routed) {
            use(used, request_of(w, c)->target);
        }
    }
    /* What its next request may lead to. */
    for (uint32_t l = 0; l < w->conf->n_listens; l++) {
        for (size_t r = 0;
             used->listens >> l & 1 && r < w->conf->listens[l].n_routes; r++) {
            use(used, (uint32_t)w->conf->listens[l].routes[r].target);
        }
    }
}

static bool
tell_unused(struct worker *w, uint32_t number, bool is_listener)
{
    const struct worker_message m = {.kind = WORKER_UNUSED,
                                     .target = number,
                                     .cause = is_listener,
                                     .grace_ns = w->core->generation};

    if (!control_try(w, &m)) {
        return false;
    }
    w->n_gone--;
    return true;
}

void
renew_tidy(struct worker *w)
{
    struct used used;

    if (w->now < w->tidy_at) {
        return;
    }
    w->tidy_at = w->now + TIDY_GAP;
    find_used(w, &used);
    for (uint32_t t = 0; t < w->conf->n_targets; t++) {
        uint64_t bit = 1ull << (t % 64);

        if (w->conf->targets[t].presence == CONF_GONE &&
            !((used.targets[t / 64] | w->told_targets[t / 64]) & bit) &&
            ring_retire(w, t) && tell_unused(w, t, false)) {
            w->told_targets[t / 64] |= bit;
        }
    }
    for (uint32_t l = 0; l < w->conf->n_listens; l++) {
        if (w->conf->listens[l].presence == CONF_GONE &&
            !((used.listens | w->told_listens) >> l & 1) &&
            tell_unused(w, l, true)) {
            w->told_listens |= 1ull << l;
        }
    }
}
