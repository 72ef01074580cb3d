/* A module that was called once and is parked again costs what one does that
 * nobody ever called, and a few words of what became of it: its record, its
 * links, what its start takes are made again by the next call. Most have been
 * nothing but started and unused; the others keep all that counts. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pages.h"
#include "base/util.h"

struct keeper_past_more {
    struct restart unit; /* for its numbers alone */
    uint64_t copy_ends[ENDED_N];
};

static bool
has_copy_ends(const struct keeper_module *m)
{
    for (int i = 0; i < ENDED_N; i++) {
        if (m->copy_ends[i] > 0) {
            return true;
        }
    }
    return false;
}

/* Did processes of UNIT nothing but end because nobody called them? */
static bool
is_plain(const struct restart *unit)
{
    return unit->n_early == 0 && unit->n_causes == 1 && unit->last == 0 &&
           unit->causes[0].why == RESTART_UNUSED && unit->causes[0].code == 0 &&
           unit->causes[0].count <= UINT32_MAX && unit->n_starts <= UINT32_MAX;
}

static struct restart
plain_unit(const struct keeper_past *past)
{
    struct restart unit = {
        .state = RESTART_PARKED,
        .pidfd = -1,
        .n_starts = past->n_starts,
        .n_causes = past->n_unused > 0,
    };

    unit.causes[0] = (struct restart_cause){RESTART_UNUSED, 0, past->n_unused};
    return unit;
}

int
past_keep(struct keeper_module *m)
{
    struct keeper_past *past = &m->keeper->pasts[m - m->keeper->modules];

    if (is_plain(&m->unit) && !has_copy_ends(m)) {
        past->n_starts = (uint32_t)m->unit.n_starts;
        past->n_unused = (uint32_t)m->unit.causes[0].count;
        return 0;
    }
    past->more = malloc(sizeof(*past->more));
    if (past->more == NULL) {
        return -ENOMEM;
    }
    past->more->unit = m->unit;
    memcpy(past->more->copy_ends, m->copy_ends, sizeof(m->copy_ends));
    return 0;
}

void
past_restore(struct keeper_module *m)
{
    struct keeper *k = m->keeper;
    size_t index = (size_t)(m - k->modules);
    struct restart room;
    const struct restart *unit = past_unit(k, index, &room);

    m->unit.n_starts = unit->n_starts;
    m->unit.n_early = unit->n_early;
    m->unit.n_causes = unit->n_causes;
    m->unit.last = unit->last;
    memcpy(m->unit.causes, unit->causes, sizeof(unit->causes));
    memcpy(m->copy_ends, past_copy_ends(k, index), sizeof(m->copy_ends));
    past_forget(k, index);
}

const struct restart *
past_unit(const struct keeper *k, size_t index, struct restart *room)
{
    const struct keeper_past *past = &k->pasts[index];

    if (past->more != NULL) {
        return &past->more->unit;
    }
    *room = plain_unit(past);
    return room;
}

const uint64_t *
past_copy_ends(const struct keeper *k, size_t index)
{
    static const uint64_t none[ENDED_N];
    const struct keeper_past *past = &k->pasts[index];

    return past->more != NULL ? past->more->copy_ends : none;
}

void
past_forget(struct keeper *k, size_t index)
{
    struct keeper_past *past = &k->pasts[index];

    if (past->more != NULL || past->n_starts != 0) {
        free(past->more);
        memset(past, 0, sizeof(*past));
    }
}

int
past_init(struct keeper *k)
{
    k->pasts = pages_alloc(k->bounds.modules * sizeof(*k->pasts));
    return k->pasts != NULL ? 0 : -ENOMEM;
}

void
past_deinit(struct keeper *k)
{
    for (size_t i = 0; k->pasts != NULL && i < k->conf->n_modules; i++) {
        past_forget(k, i);
    }
    pages_free(k->pasts, k->bounds.modules * sizeof(*k->pasts));
    k->pasts = NULL;
}
