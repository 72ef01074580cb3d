/* Unreferenced doors. References to a door are its descriptions (each a
 * connection that the kernel hangs up when the last copy of its descriptor is
 * closed, by whatever program) and its names. When one of them goes and exactly
 * one is left, the procedure is told, as soon as no call runs: an invocation
 * without a caller, by a source of its own.
 */
#include "door/server.h"

#include <errno.h>
#include <stdlib.h>

#define UNREF_BITS (DOOR_UNREF | DOOR_UNREF_MULTI)

int
unref_begin(struct door *d)
{
    if ((d->attributes & UNREF_BITS) == 0) {
        return 0;
    }
    d->unref = calloc(1, sizeof *d->unref);
    if (!d->unref) {
        return ENOMEM;
    }
    atomic_init(&d->unref->refs, 1); /* the door's */
    pthread_mutex_init(&d->unref->held_lock, NULL);
    d->unref->kind = SOURCE_UNREF;
    d->unref->door = d;
    d->unref->conn = -1;
    d->unref->cpu = -1;
    return 0;
}

void
unref_check_locked(struct door *d)
{
    if ((d->attributes & UNREF_BITS) != 0 &&
        d->n_descriptions + d->n_names == 1 &&
        !atomic_exchange(&d->unref_due, true)) {
        server_watch_locked(d->unref);
    }
}

void
unref_call_ended(struct door *d)
{
    if (atomic_fetch_sub(&d->running, 1) == 1 && atomic_load(&d->unref_due)) {
        server_watch(d->unref);
    }
}

bool
unref_has_work(const struct source *src)
{
    return atomic_load(&src->door->unref_due) &&
           atomic_load(&src->door->running) == 0;
}

bool
unref_take(struct source *src, struct thread *t)
{
    struct call *c = &t->call;

    if (!unref_has_work(src) ||
        !atomic_exchange(&src->door->unref_due, false)) {
        return false;
    }
    /* DOOR_UNREF tells once. */
    atomic_fetch_and(&src->door->attributes, ~(uint32_t)DOOR_UNREF);
    c->src = src;
    c->size = 0;
    c->n_fds = 0;
    c->no_results = false;
    c->open = true;
    return true;
}
