/* Doors on behalf of workers, which may open no path: for each door and each
 * worker one fresh connection is made here and sent over. A link is open from
 * then until the worker says that it lost it; while it is not open, the next
 * try waits for the back-off, or for a change in the door's folder (inotify),
 * whichever comes first. A user may have few instances of inotify, all programs
 * of that user together (often 128): without one the back-off must do, and each
 * try asks for one again.
 *
 * Invariants: a link of a dead worker, and a link to a module without a
 * process, has no deadline; a link is never dialled while it is open. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/pages.h"
#include "base/util.h"

#define PROMPT_GAP (2 * NS_PER_MS)   /* between tries that inotify asks for */
#define UNTOLD_GAP (100 * NS_PER_MS) /* or of a door that no watch tells of */
#define SOON       (2 * NS_PER_SEC)  /* from a start until it is ready */
#define SOON_AGAIN (700 * NS_PER_MS) /* and until it is started again */
#define TELL_AFTER                                                             \
    (600 * NS_PER_MS) /* back-off from which waiting is logged                 \
                       */

static const char *const cause_names[] = {
    [0] = "unknown",
    [WORKER_CAUSE_GONE] = "gone",
    [WORKER_CAUSE_LIED] = "lied",
    [WORKER_CAUSE_STUCK] = "stuck",
    [WORKER_CAUSE_IDLE] = "idle",
    [WORKER_CAUSE_PARKED] = "parked",
    [WORKER_CAUSE_HEIR] = "heir",
};

static const char *
base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static void inotify_ready(struct keeper_source *source, uint32_t events);

/* Can folders be watched? Why not is said once. */
static bool
begin_watching(struct keeper *k)
{
    int fd, error = 0;

    if (k->inotify.fd >= 0) {
        return true;
    }
    fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    k->inotify = (struct keeper_source){fd, inotify_ready, k};
    if (fd < 0) {
        error = errno;
    } else {
        error = -keeper_watch(k, &k->inotify, EPOLLIN);
    }
    if (error != 0) {
        keeper_unwatch(k, &k->inotify);
    }
    if (error != 0 && !k->unwatched_told) {
        struct log_line line;

        k->unwatched_told = true;
        keeper_log_begin(k, &line, LOG_WARN, "no-watch");
        log_errno(&line, error);
        keeper_log_end(k, &line);
    }
    return error == 0;
}

static void
watch_parent(struct keeper *k, struct keeper_target *t)
{
    char parent[PATH_MAX];
    size_t len = (size_t)(base_of(t->path) - t->path);

    if (t->watch >= 0 || len == 0 || len >= sizeof(parent) ||
        !begin_watching(k)) {
        return;
    }
    memcpy(parent, t->path, len); /* with its slash: "/" stays "/" */
    parent[len] = '\0';
    t->watch =
        inotify_add_watch(k->inotify.fd, parent,
                          IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_ONLYDIR);
}

static void
log_target(struct keeper *k, struct log_line *line, enum log_level level,
           const char *event, const struct keeper_target *t)
{
    keeper_log_begin(k, line, level, event);
    if (t->module != NULL) {
        log_text(line, "module", t->name);
    }
    log_text(line, "door", t->path);
}

bool
doors_open_all(const struct keeper *k, size_t target)
{
    const struct keeper_target *t = &k->targets[target];

    if (t->path == NULL) {
        return true;
    }
    for (int i = 0; i < k->n_workers; i++) {
        if (!t->links[i].open) {
            return false;
        }
    }
    return true;
}

static void
announce(struct keeper *k, struct keeper_target *t)
{
    struct log_line line;

    if (t->announced || !doors_open_all(k, (size_t)(t - k->targets))) {
        return;
    }
    t->announced = true;
    t->waiting_told = false;
    log_target(k, &line, LOG_INFO, "door-open", t);
    log_num(&line, "workers", (uint64_t)k->n_workers);
    keeper_log_end(k, &line);
}

/* Shall calls wait at the workers for the door of T, which is not there? */
static bool
is_coming(const struct keeper *k, const struct keeper_target *t)
{
    const struct restart *unit;

    if (t->module == NULL) {
        return false;
    }
    unit = &t->module->unit;
    switch (unit->state) {
    case RESTART_STARTING:
        return life_parks(t->module) || keeper_now(k) - unit->started_at < SOON;
    case RESTART_WAITING:
        return unit->wait_ns <= SOON_AGAIN;
    case RESTART_RUNNING: /* the worker's word may come before its end */
    case RESTART_PARKING:
    case RESTART_PARKED:
        return true;
    default:
        return false;
    }
}

/* Tells WORKER, once, that calls of T are not to wait. */
static void
tell_none(struct keeper *k, struct keeper_target *t, int worker)
{
    struct keeper_link *link = &t->links[worker];
    struct worker_message none = {
        .kind = WORKER_DOOR_NONE,
        .target = (uint32_t)(t - k->targets),
    };

    if (!link->told_none && !is_coming(k, t)) {
        link->told_none = worker_send(&k->workers[worker], &none, -1) == 0;
    }
}

/* The try at LINK gave ERROR. */
static void
postpone(struct keeper *k, struct keeper_target *t, int worker, int error)
{
    struct keeper_link *link = &t->links[worker];
    uint64_t wait = backoff_next(&link->backoff, 0);
    bool untold = t->watch < 0 && is_coming(k, t);
    struct log_line line;

    link->deadline =
        link->tried_at + (untold ? MIN_OF(wait, UNTOLD_GAP) : wait);
    link->renews = false;
    t->announced = false;
    tell_none(k, t, worker);
    if (wait >= TELL_AFTER && !t->waiting_told) {
        t->waiting_told = true;
        log_target(k, &line, LOG_WARN, "door-wait", t);
        log_errno(&line, error);
        log_ms(&line, "wait_ms", wait);
        keeper_log_end(k, &line);
    }
}

/* LINK is open once more, and had not been lost: its worker gave memory back.
 */
static void
tell_renewed(struct keeper *k, struct keeper_target *t, int worker)
{
    struct log_line line;

    log_target(k, &line, LOG_INFO, "door-renewed", t);
    log_num(&line, "worker", (uint64_t)worker);
    log_num(&line, "count", t->causes[WORKER_CAUSE_IDLE]);
    keeper_log_end(k, &line);
}

/* A module owns the folder of its door and may lay there what it likes, a link
 * to another's door too: its door is looked for in there and nowhere else. */
static int
dial(const struct keeper *k, const struct keeper_target *t)
{
    if (t->module == NULL) {
        return k->options.dial(-1, t->path);
    }
    return k->options.dial(k->folder.fd, t->path + strlen(k->folder.path) + 1);
}

static void
try_link(struct keeper *k, struct keeper_target *t, int worker, uint64_t now)
{
    struct keeper_link *link = &t->links[worker];
    struct worker_message message = {
        .kind = WORKER_DOOR,
        .target = (uint32_t)(t - k->targets),
    };
    CLEAN_FD int fd = -1;
    int rc;

    watch_parent(k, t);
    link->tried_at = now;
    fd = dial(k, t);
    if (fd < 0) {
        postpone(k, t, worker, errno);
        return;
    }
    rc = worker_send(&k->workers[worker], &message, fd);
    if (rc < 0) {
        postpone(k, t, worker, -rc);
        return;
    }
    link->open = true;
    link->asked = false;
    link->told_none = false;
    link->opened_at = now;
    link->deadline = UINT64_MAX;
    link->incarnation = t->module != NULL ? t->module->unit.n_starts : 0;
    if (t->module != NULL) {
        restart_doom(&t->module->unit, false);
        life_ready(t->module);
    }
    if (link->renews) {
        link->renews = false;
        tell_renewed(k, t, worker);
    }
    announce(k, t);
}

/* May LINK of WORKER be tried at all now? */
static bool
can_try(const struct keeper *k, const struct keeper_target *t, int worker)
{
    return k->workers[worker].unit.state == RESTART_RUNNING &&
           k->workers[worker].generation >= t->generation &&
           k->conf->targets[t - k->targets].presence == CONF_LIVE &&
           (t->module == NULL || restart_is_up(&t->module->unit));
}

void
doors_tick(struct keeper *k, uint64_t now)
{
    if (k->phase != PHASE_RUN) {
        return;
    }
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];

        for (int w = 0; t->path != NULL && w < k->n_workers; w++) {
            if (t->links[w].deadline > now) {
                continue;
            }
            if (can_try(k, t, w)) {
                try_link(k, t, w, now);
            } else {
                t->links[w].deadline = UINT64_MAX;
                t->links[w].renews = false;
                t->announced = false;
            }
        }
    }
}

uint64_t
doors_deadline(const struct keeper *k)
{
    uint64_t first = UINT64_MAX;

    if (k->phase != PHASE_RUN) {
        return first;
    }
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        const struct keeper_target *t = &k->targets[i];

        for (int w = 0; t->path != NULL && w < k->n_workers; w++) {
            first = MIN_OF(first, t->links[w].deadline);
        }
    }
    return first;
}

static void
reset_link(struct keeper_link *link, uint64_t deadline)
{
    memset(link, 0, sizeof(*link));
    link->deadline = deadline;
}

void
doors_worker_started(struct keeper *k, int worker)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];

        if (t->path != NULL) {
            reset_link(&t->links[worker],
                       can_try(k, t, worker) ? 0 : UINT64_MAX);
        }
    }
}

void
doors_worker_died(struct keeper *k, int worker)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (k->targets[i].path != NULL) {
            reset_link(&k->targets[i].links[worker], UINT64_MAX);
            k->targets[i].announced = false;
        }
    }
}

void
doors_module_started(struct keeper_module *m)
{
    struct keeper *k = m->keeper;
    uint64_t now = keeper_now(k);

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];

        for (int w = 0; t->module == m && w < k->n_workers; w++) {
            struct keeper_link *link = &t->links[w];

            if (!link->open && can_try(k, t, w)) {
                link->backoff = (struct backoff){0};
                link->deadline = now + backoff_next(&link->backoff, 0);
            }
        }
    }
}

void
doors_module_died(struct keeper_module *m)
{
    struct keeper *k = m->keeper;

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];

        for (int w = 0; t->module == m && w < k->n_workers; w++) {
            if (!t->links[w].open) {
                tell_none(k, t, w);
            }
        }
    }
}

void
doors_ask_back(struct keeper_module *m, bool drain)
{
    struct keeper *k = m->keeper;

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];
        struct worker_message park = {
            .kind = drain ? WORKER_DRAIN : WORKER_PARK,
            .target = (uint32_t)i,
        };

        for (int w = 0; t->module == m && w < k->n_workers; w++) {
            if (t->links[w].open) {
                t->links[w].asked = true;
                worker_send(&k->workers[w], &park, -1);
            } else {
                t->links[w].deadline = UINT64_MAX;
            }
        }
    }
}

/* What the worker that has LINK of T is to do with it. */
static enum worker_message_kind
asked_of(const struct keeper_target *t, const struct keeper_link *link)
{
    const struct keeper_module *m = t->module;

    if (life_is_parking(m)) {
        return m->life.recycled != 0 ? WORKER_DRAIN : WORKER_PARK;
    }
    if (left_is_there(m) && m->left.incarnation == link->incarnation) {
        return m->left.drains ? WORKER_DRAIN : WORKER_KEEP;
    }
    return WORKER_KEEP;
}

void
doors_tell_again(struct keeper *k, int worker)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        const struct keeper_target *t = &k->targets[i];
        const struct keeper_link *link;
        struct worker_message again = {.target = (uint32_t)i};

        if (t->module == NULL) {
            continue;
        }
        link = &t->links[worker];
        if (link->open && link->asked) {
            again.kind = asked_of(t, link);
            (void)worker_send(&k->workers[worker], &again, -1);
        }
    }
}

bool
doors_are_back(const struct keeper_module *m)
{
    const struct keeper *k = m->keeper;

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        const struct keeper_target *t = &k->targets[i];

        for (int w = 0; t->module == m && w < k->n_workers; w++) {
            if (t->links[w].open) {
                return false;
            }
        }
    }
    return true;
}

void
doors_give_again(struct keeper_module *m)
{
    struct keeper *k = m->keeper;

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];
        struct worker_message keep = {.kind = WORKER_KEEP,
                                      .target = (uint32_t)i};

        for (int w = 0; t->module == m && w < k->n_workers; w++) {
            if (!t->links[w].open) {
                t->links[w].deadline = keeper_now(k);
            } else {
                worker_send(&k->workers[w], &keep, -1);
            }
        }
    }
}

/* The server of T, if it is still the process that the worker spoke with,
 * closed its door, as one does that ends (its end is reported later); or it
 * misbehaves: ours is replaced. */
static void
judge_server(struct keeper *k, struct keeper_target *t,
             const struct keeper_link *link, uint32_t cause)
{
    struct log_line line;

    if (cause == WORKER_CAUSE_IDLE || cause == WORKER_CAUSE_PARKED ||
        t->module == NULL || !restart_is_up(&t->module->unit) ||
        t->module->unit.n_starts != link->incarnation) {
        return;
    }
    if (cause == WORKER_CAUSE_GONE) {
        restart_doom(&t->module->unit, true);
        return;
    }
    log_target(k, &line, LOG_ERROR, "kill", t);
    log_num(&line, "pid", (uint64_t)t->module->unit.pid);
    log_text(&line, "cause", cause_names[cause]);
    keeper_log_end(k, &line);
    restart_replace(&t->module->unit, RESTART_REPLACED, (int)cause);
}

/* Worker WORKER lost T's door, for CAUSE; the next try is in WAIT. */
static void
tell_lost(struct keeper *k, const struct keeper_target *t, int worker,
          uint32_t cause, uint64_t wait)
{
    struct log_line line;

    log_target(k, &line, k->phase == PHASE_RUN ? LOG_WARN : LOG_INFO,
               "door-lost", t);
    log_num(&line, "worker", (uint64_t)worker);
    log_text(&line, "cause", cause_names[cause]);
    log_num(&line, "count", t->causes[cause]);
    log_ms(&line, "wait_ms", wait);
    keeper_log_end(k, &line);
}

/* The process that took WORKER's place has no ring of T. No failure: it gets
 * the door once more, or hears once more that there is none. */
static void
give_heir(struct keeper *k, struct keeper_target *t, int worker)
{
    struct keeper_link *link;
    bool was_open;

    if (t->path == NULL) {
        return; /* a folder: it never has one */
    }
    link = &t->links[worker];
    was_open = link->open;
    t->causes[WORKER_CAUSE_HEIR]++;
    link->open = false;
    link->told_none = false;
    if (was_open && t->module != NULL && life_is_parking(t->module)) {
        link->deadline = UINT64_MAX; /* it is back, as was asked */
        t->announced = false;
    } else if (was_open && can_try(k, t, worker)) {
        link->deadline = keeper_now(k);
    } else {
        tell_none(k, t, worker);
    }
}

int
doors_lost(struct keeper *k, int worker, uint32_t target, uint32_t cause)
{
    struct keeper_target *t;
    struct keeper_link *link;
    uint64_t now = keeper_now(k);
    bool fresh = cause == WORKER_CAUSE_IDLE; /* no fault: its calls wait */
    uint64_t wait;

    if (cause == WORKER_CAUSE_HEIR && target < k->conf->n_targets) {
        give_heir(k, &k->targets[target], worker);
        return 0;
    }
    if (!doors_is_one(k, target) || cause < WORKER_CAUSE_GONE ||
        cause > WORKER_CAUSE_PARKED) {
        return -EPROTO;
    }
    if (k->targets[target].path == NULL) {
        return 0; /* of an earlier life: it is parked */
    }
    if (cause == WORKER_CAUSE_PARKED && k->targets[target].module == NULL) {
        return -EPROTO;
    }
    if (cause == WORKER_CAUSE_PARKED &&
        !life_is_parking(k->targets[target].module) &&
        !left_is_there(k->targets[target].module)) {
        cause = WORKER_CAUSE_GONE; /* nobody asks for it any more */
    }
    t = &k->targets[target];
    link = &t->links[worker];
    if (!link->open) {
        return 0; /* known already */
    }
    link->open = false;
    link->told_none = !fresh && t->module == NULL; /* it knows */
    if (cause == WORKER_CAUSE_PARKED) {
        /* Of an earlier life: there may be a later one already. */
        link->deadline = life_is_parking(t->module) ? UINT64_MAX : now;
        t->announced = false;
        t->causes[cause]++;
        return 0;
    }
    wait = fresh ? 0 : backoff_next(&link->backoff, now - link->opened_at);
    link->deadline = now + wait;
    link->renews = fresh;
    t->causes[cause]++;
    if (!fresh) {
        t->announced = false;
        tell_lost(k, t, worker, cause, wait);
        tell_none(k, t, worker);
    }
    judge_server(k, t, link, cause);
    return 0;
}

int
doors_no_descs(struct keeper *k, uint32_t target)
{
    struct keeper_target *t;
    uint64_t start;

    if (!doors_is_one(k, target)) {
        return -EPROTO;
    }
    t = &k->targets[target];
    if (t->path == NULL) {
        return 0; /* of an earlier life: it is parked */
    }
    start = t->module != NULL ? t->module->unit.n_starts : 1;
    if (t->no_descs_told == start) {
        return 0;
    }
    t->no_descs_told = start;
    for (size_t i = 0; i < k->conf->n_listens; i++) {
        const struct conf_listen *l = &k->conf->listens[i];
        struct log_line line;

        if (l->protocol != CONF_TCP_PASS || l->presence != CONF_LIVE ||
            (uint32_t)l->routes[0].target != target) {
            continue;
        }
        log_target(k, &line, LOG_WARN, "cannot-pass", t);
        log_text(&line, "listener", l->text);
        log_text(&line, "cause", "takes-no-descriptors");
        keeper_log_end(k, &line);
    }
    return 0;
}

/* Something changed at NAME in the folder WATCH. */
static void
prompt(struct keeper *k, int watch, const char *name, uint64_t now)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];

        if (t->path == NULL || t->watch != watch ||
            strcmp(base_of(t->path), name) != 0) {
            continue;
        }
        for (int w = 0; w < k->n_workers; w++) {
            struct keeper_link *link = &t->links[w];

            if (!link->open && can_try(k, t, w)) {
                link->backoff = (struct backoff){0};
                link->deadline = MAX_OF(now, link->tried_at + PROMPT_GAP);
            }
        }
    }
}

static void
forget_watch(struct keeper *k, int watch)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (k->targets[i].watch == watch) {
            k->targets[i].watch = -1;
        }
    }
}

static void
inotify_ready(struct keeper_source *source, uint32_t events)
{
    struct keeper *k = source->owner;
    char room[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(source->fd, room, sizeof(room));
    uint64_t now = keeper_now(k);

    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *e = (const void *)(room + at);

        if (e->mask & IN_IGNORED) {
            forget_watch(k, e->wd);
        } else if (e->len > 0) {
            prompt(k, e->wd, e->name, now);
        }
        at += (ssize_t)(sizeof(*e) + e->len);
    }
}

/* What T is called, in k->conf. */
static void
point(struct keeper *k, struct keeper_target *t)
{
    const struct conf_target *conf = &k->conf->targets[t - k->targets];

    if (conf->kind == CONF_TARGET_MODULE) {
        t->module = &k->modules[conf->module];
        t->path = t->module->door;
        t->name = t->module->conf->name;
    } else if (conf->kind == CONF_TARGET_DOOR) {
        t->path = conf->path;
        t->name = conf->path;
    }
}

static int
init_target(struct keeper *k, size_t index)
{
    const struct conf_target *conf = &k->conf->targets[index];
    struct keeper_target *t = &k->targets[index];

    if (conf->kind == CONF_TARGET_FILES ||
        (conf->kind == CONF_TARGET_MODULE &&
         k->modules[conf->module].conf == NULL)) {
        return 0;
    }
    t->watch = -1;
    point(k, t);
    t->links = calloc((size_t)k->n_workers, sizeof(*t->links));
    if (t->links == NULL) {
        t->path = NULL; /* without links it can have no door */
        t->module = NULL;
        return -ENOMEM;
    }
    for (int w = 0; w < k->n_workers; w++) {
        t->links[w].deadline = UINT64_MAX;
    }
    watch_parent(k, t);
    return 0;
}

/* Does target INDEX lead to MODULE? */
static bool
leads_to(const struct keeper *k, size_t index, size_t module)
{
    const struct conf_target *conf = &k->conf->targets[index];

    return conf->kind == CONF_TARGET_MODULE && conf->presence != CONF_FREE &&
           conf->module == module;
}

const struct keeper_target *
doors_target(const struct keeper *k, size_t module)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (leads_to(k, i, module)) {
            return &k->targets[i];
        }
    }
    return NULL;
}

int
doors_module_begins(struct keeper_module *m)
{
    struct keeper *k = m->keeper;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < k->conf->n_targets; i++) {
        if (leads_to(k, i, (size_t)(m - k->modules)) &&
            k->targets[i].links == NULL) {
            rc = init_target(k, i);
        }
    }
    return rc;
}

void
doors_module_ends(struct keeper_module *m)
{
    struct keeper *k = m->keeper;

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];

        if (t->module == m) {
            free(t->links);
            t->links = NULL;
            t->path = NULL;
            t->module = NULL;
        }
    }
}

bool
doors_is_one(const struct keeper *k, uint32_t target)
{
    return target < k->conf->n_targets &&
           k->conf->targets[target].kind != CONF_TARGET_FILES;
}

int
doors_init(struct keeper *k)
{
    size_t n = k->conf->n_targets;

    k->targets = pages_alloc(k->bounds.targets * sizeof(*k->targets));
    if (k->targets == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        int rc = init_target(k, i);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

void
doors_point(struct keeper *k)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (k->targets[i].links != NULL) {
            point(k, &k->targets[i]);
        }
    }
}

void
doors_add(struct keeper *k, size_t index)
{
    struct keeper_target *t = &k->targets[index];
    struct log_line line;
    int rc;

    memset(t, 0, sizeof(*t));
    rc = init_target(k, index);
    if (rc < 0) {
        keeper_log_begin(k, &line, LOG_ERROR, "no-door");
        log_errno(&line, -rc);
        keeper_log_end(k, &line);
    }
}

void
doors_renewed(struct keeper *k, int worker)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        struct keeper_target *t = &k->targets[i];

        if (t->path == NULL || k->conf->targets[i].presence != CONF_LIVE ||
            t->generation != k->generation || t->links[worker].open) {
            continue;
        }
        if (can_try(k, t, worker)) {
            t->links[worker].deadline = 0;
        } else {
            tell_none(k, t, worker);
        }
    }
}

void
doors_unused(struct keeper *k, int worker, size_t target)
{
    struct keeper_target *t = &k->targets[target];

    if (t->path != NULL) {
        reset_link(&t->links[worker], UINT64_MAX);
        t->announced = false;
    }
}

void
doors_free(struct keeper *k, size_t target)
{
    struct keeper_target *t = &k->targets[target];
    bool shared = false;

    /* Of one whose module is put away, too; 0: there never was one. */
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        shared |= i != target && k->targets[i].watch == t->watch;
    }
    if (t->watch > 0 && !shared) {
        (void)inotify_rm_watch(k->inotify.fd, t->watch);
    }
    free(t->links);
    memset(t, 0, sizeof(*t));
    t->watch = -1;
    if (k->folder_fds[target] >= 0) {
        close(k->folder_fds[target]);
        k->folder_fds[target] = -1;
    }
    tallies_forget(&k->tallies, target);
}

void
doors_deinit(struct keeper *k)
{
    keeper_unwatch(k, &k->inotify);
    for (size_t i = 0; k->targets != NULL && i < k->conf->n_targets; i++) {
        free(k->targets[i].links);
    }
    pages_free(k->targets, k->bounds.targets * sizeof(*k->targets));
    k->targets = NULL;
}
