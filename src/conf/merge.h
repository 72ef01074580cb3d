/* What changes when a server that runs one configuration is to run another.
 * Numbers of listeners, modules and targets stand in records, messages and
 * counters of every process; so what is in both keeps its number, what went
 * keeps it as long as somebody may use it, and what came gets a free one. */
#pragma once

#include <stddef.h>

#include "conf/conf.h"
#include "conf/memory.h"

enum conf_change {
    CONF_STAYS,   /* its routes, or its place in the file, may differ */
    CONF_CHANGES, /* of a module: it is to be started anew */
    CONF_COMES,   /* its number was unused */
    CONF_RETURNS, /* had gone, and may still be in use */
    CONF_GOES,
    CONF_REST, /* had gone before, or its number is unused */
};

/* How many numbers there are. */
struct conf_bounds {
    size_t listens, modules, targets;
};

struct conf_merge {
    /* NEW under numbers of OLD. Lists are MEMORY's, what they point to is that
     * of OLD or of NEW, which must both outlive it. */
    struct conf conf;
    enum conf_change *listens, *modules, *targets; /* as many as CONF has */
    char why[512]; /* why it cannot be, for people; "" */
    struct conf_memory memory;
};

/* Compares OLD, which runs, and NEW, which was just read. Reads and writes
 * nothing else. 0: MERGE holds the outcome, until conf_merge_free(); -ENOMEM;
 * -EINVAL: what differs cannot change while the server runs, as WHY says;
 * -EAGAIN: a module whose name is wanted again is still on its way out, which
 * WHY names. It is to be freed in any case. */
int conf_merge(const struct conf *old, const struct conf *new,
               const struct conf_bounds *bounds, struct conf_merge *merge);
void conf_merge_free(struct conf_merge *merge);
