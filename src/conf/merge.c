/* Pure: two configurations in, one and its differences out. */
#include "conf/merge.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "conf/pack.h"

#define NOWHERE SIZE_MAX

static int __attribute__((format(printf, 2, 3)))
refuse(struct conf_merge *merge, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(merge->why, sizeof(merge->why), format, args);
    va_end(args);
    return -EINVAL;
}

/* --- What cannot change ------------------------------------------------- */

static int
check_settings(const struct conf *old, const struct conf *new,
               struct conf_merge *merge)
{
    const struct {
        const char *name;
        bool same;
    } fixed[] = {
        {"workers", old->workers == new->workers},
        {"heirs", old->heirs == new->heirs},
        {"core-files", old->core_files == new->core_files},
        {"user", conf_same_text(old->user, new->user)},
        {"run-folder", conf_same_text(old->run_folder, new->run_folder)},
        {"state-folder", conf_same_text(old->state_folder, new->state_folder)},
    };

    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (!fixed[i].same) {
            return refuse(merge,
                          "%s: 'set %s' can only change by a restart: stop the "
                          "server and start it again, or put the old value "
                          "back",
                          new->file, fixed[i].name);
        }
    }
    return 0;
}

/* --- Numbers ------------------------------------------------------------ */

/* A list of things with numbers: N of OLD, and how to compare. */
struct kind {
    const char *words;
    size_t size, bound;
    size_t presence_at; /* in each */
    /* -1: another; 0: the same; 1: one that changes. */
    int (*compare)(const struct conf_merge *merge, const void *a,
                   const void *b);
};

struct lists {
    const void *old;
    size_t n_old;
    const void *new;
    size_t n_new;
    char *out;
    enum conf_change *changes;
    size_t *numbers; /* of each of NEW */
    size_t n;
};

static enum conf_presence
presence(const struct kind *kind, const void *list, size_t i)
{
    enum conf_presence p;

    memcpy(&p, (const char *)list + i * kind->size + kind->presence_at,
           sizeof(p));
    return p;
}

static void
set_presence(const struct kind *kind, void *list, size_t i,
             enum conf_presence p)
{
    memcpy((char *)list + i * kind->size + kind->presence_at, &p, sizeof(p));
}

static const void *
at(const struct kind *kind, const void *list, size_t i)
{
    return (const char *)list + i * kind->size;
}

static bool
make_lists(struct conf_merge *merge, const struct kind *kind, struct lists *l)
{
    size_t most = l->n_old + l->n_new;

    l->out = conf_memory_take(&merge->memory, most, kind->size);
    l->changes = conf_memory_take(&merge->memory, most, sizeof(*l->changes));
    l->numbers =
        conf_memory_take(&merge->memory, l->n_new, sizeof(*l->numbers));
    return !merge->memory.failed;
}

/* Those that are in both. */
static void
match_old(const struct conf_merge *merge, const struct kind *kind,
          struct lists *l)
{
    for (size_t i = 0; i < l->n_new; i++) {
        l->numbers[i] = NOWHERE;
        for (size_t k = 0; k < l->n_old; k++) {
            int same = presence(kind, l->old, k) == CONF_FREE ||
                               l->changes[k] < CONF_GOES
                           ? -1
                           : kind->compare(merge, at(kind, l->old, k),
                                           at(kind, l->new, i));

            if (same < 0) {
                continue;
            }
            l->numbers[i] = k;
            l->changes[k] = presence(kind, l->old, k) == CONF_GONE
                                ? CONF_RETURNS
                            : same > 0 ? CONF_CHANGES
                                       : CONF_STAYS;
            break;
        }
    }
}

static int
number(struct conf_merge *merge, const struct kind *kind, struct lists *l)
{
    size_t next = 0;

    if (!make_lists(merge, kind, l)) {
        /* not reached: memory is gone */
        return -ENOMEM;
    }
    for (size_t k = 0; k < l->n_old; k++) {
        bool live = presence(kind, l->old, k) == CONF_LIVE;

        memcpy(l->out + k * kind->size, at(kind, l->old, k), kind->size);
        l->changes[k] = live ? CONF_GOES : CONF_REST;
        if (live) {
            set_presence(kind, l->out, k, CONF_GONE);
        }
    }
    match_old(merge, kind, l);
    l->n = l->n_old;
    for (size_t i = 0; i < l->n_new; i++) {
        if (l->numbers[i] == NOWHERE) {
            while (next < l->n_old &&
                   (presence(kind, l->old, next) != CONF_FREE ||
                    l->changes[next] != CONF_REST)) {
                next++;
            }
            l->numbers[i] = next < l->n_old ? next : l->n++;
            l->changes[l->numbers[i]] = CONF_COMES;
        }
        memcpy(l->out + l->numbers[i] * kind->size, at(kind, l->new, i),
               kind->size);
    }
    return l->n <= kind->bound
               ? 0
               : refuse(merge,
                        "there is no room for so many %s, with those that are "
                        "still in use from before: %zu, and %zu are possible",
                        kind->words, l->n, kind->bound);
}

/* --- Modules, targets, listeners ---------------------------------------- */

static int
compare_modules(const struct conf_merge *merge, const void *a, const void *b)
{
    const struct conf_module *x = a, *y = b;

    return strcmp(x->name, y->name) != 0 ? -1 : !conf_same_module(x, y);
}

/* B's module has its new number already. */
static int
compare_targets(const struct conf_merge *merge, const void *a, const void *b)
{
    const struct conf_target *x = a, *y = b;
    bool same = x->kind == y->kind && (x->kind == CONF_TARGET_MODULE
                                           ? x->module == y->module
                                           : conf_same_text(x->path, y->path));

    return same ? 0 : -1;
}

static int
compare_listens(const struct conf_merge *merge, const void *a, const void *b)
{
    const struct conf_listen *x = a, *y = b;
    bool same = x->protocol == y->protocol && x->mode == y->mode &&
                x->addr_len == y->addr_len &&
                memcmp(&x->addr, &y->addr, x->addr_len) == 0;

    return same ? 0 : -1;
}

static int
number_modules(struct conf_merge *merge, const struct conf *old,
               const struct conf *new, size_t bound, struct lists *l)
{
    const struct kind kind = {
        "modules",       sizeof(struct conf_module),
        bound,           offsetof(struct conf_module, presence),
        compare_modules,
    };
    int rc;

    *l = (struct lists){.old = old->modules,
                        .n_old = old->n_modules,
                        .new = new->modules,
                        .n_new = new->n_modules};
    rc = number(merge, &kind, l);
    for (size_t k = 0; rc == 0 && k < l->n_old; k++) {
        if (l->changes[k] == CONF_RETURNS) {
            refuse(merge, "module %s is still on its way out",
                   old->modules[k].name);
            rc = -EAGAIN;
        }
    }
    merge->modules = l->changes;
    merge->conf.modules = (struct conf_module *)(void *)l->out;
    merge->conf.n_modules = l->n;
    return rc;
}

static int
number_targets(struct conf_merge *merge, const struct conf *old,
               const struct conf *new, size_t bound, const size_t *modules,
               struct lists *l)
{
    const struct kind kind = {
        "targets",       sizeof(struct conf_target),
        bound,           offsetof(struct conf_target, presence),
        compare_targets,
    };
    struct conf_target *mine =
        conf_memory_take(&merge->memory, new->n_targets, sizeof(*mine));
    int rc;

    if (mine == NULL) {
        /* not reached: memory is gone */
        return -ENOMEM;
    }
    for (size_t i = 0; i < new->n_targets; i++) {
        mine[i] = new->targets[i];
        if (mine[i].kind == CONF_TARGET_MODULE) {
            mine[i].module = modules[mine[i].module];
        }
    }
    *l = (struct lists){.old = old->targets,
                        .n_old = old->n_targets,
                        .new = mine,
                        .n_new = new->n_targets};
    rc = number(merge, &kind, l);
    merge->targets = l->changes;
    merge->conf.targets = (struct conf_target *)(void *)l->out;
    merge->conf.n_targets = l->n;
    return rc;
}

static int
number_listens(struct conf_merge *merge, const struct conf *old,
               const struct conf *new, size_t bound, const size_t *targets)
{
    const struct kind kind = {
        "listeners",     sizeof(struct conf_listen),
        bound,           offsetof(struct conf_listen, presence),
        compare_listens,
    };
    struct lists l = {.old = old->listens,
                      .n_old = old->n_listens,
                      .new = new->listens,
                      .n_new = new->n_listens};
    int rc = number(merge, &kind, &l);

    merge->listens = l.changes;
    merge->conf.listens = (struct conf_listen *)(void *)l.out;
    merge->conf.n_listens = l.n;
    for (size_t i = 0; rc == 0 && i < new->n_listens; i++) {
        struct conf_listen *mine = &merge->conf.listens[l.numbers[i]];
        struct conf_route *routes =
            conf_memory_take(&merge->memory, mine->n_routes, sizeof(*routes));

        if (routes == NULL) {
            /* not reached: memory is gone */
            return -ENOMEM;
        }
        for (size_t r = 0; r < mine->n_routes; r++) {
            routes[r] = mine->routes[r];
            routes[r].target = targets[routes[r].target];
        }
        mine->routes = routes;
    }
    return rc;
}

static void
change_module(struct conf_merge *merge, size_t target)
{
    const struct conf_target *t = &merge->conf.targets[target];

    if (t->kind == CONF_TARGET_MODULE &&
        merge->modules[t->module] == CONF_STAYS) {
        merge->modules[t->module] = CONF_CHANGES;
    }
}

/* A module that has a listening socket of its own gets it at its start. */
static void
change_acceptors(const struct conf *old, struct conf_merge *merge)
{
    for (size_t i = 0; i < merge->conf.n_listens; i++) {
        const struct conf_listen *l = &merge->conf.listens[i];
        enum conf_change change = merge->listens[i];
        size_t was;

        if (l->protocol != CONF_TCP_WAIT || change == CONF_REST) {
            continue;
        }
        was = change == CONF_COMES ? l->routes[0].target
                                   : old->listens[i].routes[0].target;
        if (change != CONF_STAYS || was != l->routes[0].target) {
            change_module(merge, was);
            change_module(merge, l->routes[0].target);
        }
    }
}

int
conf_merge(const struct conf *old, const struct conf *new,
           const struct conf_bounds *bounds, struct conf_merge *merge)
{
    struct lists modules, targets;
    int rc;

    *merge = (struct conf_merge){.conf = *new};
    rc = check_settings(old, new, merge);
    if (rc == 0) {
        rc = number_modules(merge, old, new, bounds->modules, &modules);
    }
    if (rc == 0) {
        rc = number_targets(merge, old, new, bounds->targets, modules.numbers,
                            &targets);
    }
    if (rc == 0) {
        rc = number_listens(merge, old, new, bounds->listens, targets.numbers);
    }
    if (rc == 0) {
        change_acceptors(old, merge);
    }
    return rc;
}

void
conf_merge_free(struct conf_merge *merge)
{
    conf_memory_free(&merge->memory);
}
