/* The parent of forked copies: one thread that listens (set-up, bells,
 * hang-ups) as the listening thread of other programs does, forks, and reaps.
 * It takes no call itself, so that what it forks is always as clean as at the
 * start.
 *
 * Each copy maps what its parent had mapped when it was forked. A ring that is
 * opened later is served by copies that are made later: the older ones leave
 * when one of the new ones is ready. So nothing is ever passed to a copy, and a
 * copy never maps anything.
 *
 * What a copy is at stands in its note (server.h), in memory that both share. A
 * call whose copy died is answered from there.
 */
#include "door/copies.h"
#include "door/items.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

#define MOST        1000u
#define START_NS    30000000000ull
#define LOOK_US     50 /* while calls wait */
#define HELD_MAX_US 10000
#define BUSY_US     1000          /* while calls wait and nothing can be done */
#define WOKEN_NS    1000000ull    /* a parked copy looks within that */
#define STOPPED_NS  100000000ull  /* or it is looked at */
#define LATE_NS     1000000000ull /* past its deadline: it is killed */
#define AGAIN_NS    20000000ull   /* first pause after a start that failed */
#define AGAIN_MAX   5000000000ull
#define BY_PEAK     16u          /* at a look, without a proof */
#define MEASURE_NS  250000000ull /* between two looks at a copy's memory */
#define TELL_NS     60000000000ull
#define SIZE_FIRST  (1u << 20) /* of one, and a part of its parent's */

static struct copies *
all(void)
{
    return door_server.copies;
}

/* ---- forking ---- */

/* Of this process; -1: not known. */
static int
count_threads(void)
{
    struct stat st;

    /* A folder has one link for itself, one for its name, and one for each
     * folder in it. */
    if (stat("/proc/self/task", &st) < 0 || st.st_nlink < 3) {
        return -1;
    }
    return (int)st.st_nlink - 2;
}

int
door_copies_prepare(const struct door_copy_hooks *hooks,
                    const struct door_copy_limits *limits)
{
    struct copies *c;

    if (door_server.epoll >= 0 || count_threads() > 1) {
        return EBUSY;
    }
    c = calloc(1, sizeof *c);
    if (!c) {
        return ENOMEM;
    }
    c->hooks = *hooks;
    c->limits = *limits;
    if (c->limits.most == 0 || c->limits.most > MOST) {
        c->limits.most = MOST;
    }
    c->growth = (struct growth)GROWTH_NULL;
    c->growth.ceiling = c->limits.most;
    c->growth.floor = MIN_OF(MAX_OF(c->limits.floor, 1), c->limits.most);
    if (c->limits.to_none) {
        c->growth.floor = 0;
    }
    if (c->limits.start_ns == 0) {
        c->limits.start_ns = START_NS;
    }
    c->size = c->limits.most + 1;
    c->list = calloc(c->size, sizeof *c->list);
    /* One place more than there are notes: for the crowd. */
    _Static_assert(sizeof *c->crowd <= sizeof *c->notes, "it fits there");
    c->notes = mmap(NULL, (c->size + 1) * sizeof *c->notes,
                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!c->list || c->notes == MAP_FAILED) {
        free(c->list);
        free(c);
        return ENOMEM;
    }
    c->crowd = (struct copy_crowd *)(void *)(c->notes + c->size);
    c->pid = getpid();
    door_server.copies = c;
    door_server.by_hand = true;
    return 0;
}

static void
tell_number(struct copies *c)
{
    pthread_mutex_lock(&door_server.lock);
    door_server.n_threads = c->n;
    server_tell_threads_locked();
    pthread_mutex_unlock(&door_server.lock);
}

/* A start failed: the next one waits, longer each time. */
static void
back_off(struct copies *c)
{
    uint64_t pause = AGAIN_NS << (c->failures < 8 ? c->failures : 8);

    c->failures++;
    c->not_before = door_now() + (pause < AGAIN_MAX ? pause : AGAIN_MAX);
    c->look_at = c->not_before;
}

/* In the parent: COPY is process PID. */
static void
adopt(struct copies *c, struct copy *copy, pid_t pid)
{
    struct item like = {0};
    int e = 0;

    copy->pid = pid;
    copy->killed = false;
    copy->started_at = door_now();
    copy->woken_at = copy->nap.at = copy->calls = 0;
    copy->n_sources = door_server.n_sources;
    copy->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    e = copy->pidfd < 0 ? errno : 0;
    if (e == 0) {
        pthread_mutex_lock(&door_server.lock);
        e = item_add(ITEM_COPY, copy->pidfd, &like, EPOLLIN);
        pthread_mutex_unlock(&door_server.lock);
    }
    if (e != 0) {
        /* Who cannot be watched is not let live. */
        fprintf(stderr, "cardea: cannot watch a copy: %s\n", strerror(e));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        if (copy->pidfd >= 0) {
            close(copy->pidfd);
        }
        copy->pid = 0;
        back_off(c);
        return;
    }
    c->n++;
    growth_made(&c->growth, c->n, copy->started_at);
    tell_number(c);
}

/* Forks one more, of at most MOST. false: not now. */
static bool
start_one(struct copies *c, uint32_t most)
{
    uint32_t i = 0;
    struct copy_note *note;
    uint64_t seed = door_random();

    if (c->n >= most || door_now() < c->not_before) {
        return false;
    }
    while (c->list[i].pid != 0) {
        i++;
    }
    note = &c->notes[i];
    memset((void *)note, 0, sizeof *note);
    atomic_store(&note->state, COPY_STARTS);
    if (c->hooks.before_fork) {
        c->hooks.before_fork(c->hooks.arg);
    }
    fflush(NULL); /* or both would write it */
    pid_t pid = fork();
    if (pid == 0) {
        copy_main(c, note, seed);
    }
    int e = errno;
    if (c->hooks.after_fork) {
        c->hooks.after_fork(c->hooks.arg);
    }
    if (pid < 0) {
        fprintf(stderr, "cardea: cannot fork a copy: %s\n", strerror(e));
        back_off(c);
        return false;
    }
    adopt(c, &c->list[i], pid);
    return true;
}

/* ---- reaping ---- */

static struct source *
source_numbered(uint32_t number)
{
    for (struct item *i = all_items; i; i = i->next) {
        if (i->kind == ITEM_SOURCE && i->src->number == number) {
            return i->src;
        }
    }
    return NULL;
}

/* What the rings count of a copy that can no longer do it. */
static void
uncount(const struct copy *copy, uint32_t state)
{
    for (struct item *i = all_items; i; i = i->next) {
        if (i->kind != ITEM_SOURCE || i->src->kind != SOURCE_RING ||
            i->src->number > copy->n_sources) {
            continue;
        }
        struct ring_reply_head *h = i->src->reply;
        if (state == COPY_PARKS) {
            atomic_fetch_sub(&h->parked, 1);
        }
        if (state > COPY_STARTS && state < COPY_LEAVES) {
            atomic_fetch_sub(&h->attached, 1);
        }
    }
}

/* Is a call that NOTE's dead copy was about to claim another one's? */
static bool
is_taken(const struct copies *c, const struct copy_note *note)
{
    for (uint32_t i = 0; i < c->size; i++) {
        const struct copy_note *other = &c->notes[i];
        uint32_t state = atomic_load(&other->state);

        if (other != note && c->list[i].pid != 0 &&
            (state == COPY_CLAIMS || state == COPY_SERVES) &&
            other->source == note->source && other->head == note->head) {
            return true;
        }
    }
    return false;
}

/* One line for whoever reads the log: how PID ended, if not as it should. */
static void
tell_end(const struct copy *copy, const struct copy_note *note, uint32_t state,
         int status)
{
    char where[64] = "";

    if (state == COPY_STARTS) {
        snprintf(where, sizeof where, " before it was ready");
    } else if (state == COPY_SERVES) {
        snprintf(where, sizeof where, " in request %016" PRIx64,
                 note->request_id);
    }
    if (copy->killed) {
        return; /* told already */
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "cardea: copy %d was ended by signal %d (%s)%s\n",
                (int)copy->pid, WTERMSIG(status), strsignal(WTERMSIG(status)),
                where);
    } else if (state != COPY_LEAVES || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "cardea: copy %d exited with status %d%s\n",
                (int)copy->pid, WEXITSTATUS(status), where);
    }
}

void
copies_ended(int pidfd)
{
    struct copies *c = all();
    uint32_t i = 0;
    int status = 0;

    while (i < c->size && (c->list[i].pid == 0 || c->list[i].pidfd != pidfd)) {
        i++;
    }
    if (i == c->size || waitpid(c->list[i].pid, &status, 0) < 0) {
        return;
    }
    struct copy *copy = &c->list[i];
    struct copy_note *note = &c->notes[i];
    uint32_t state = atomic_load(&note->state);
    struct source *src = source_numbered(note->source);

    tell_end(copy, note, state, status);
    if (src && (state == COPY_SERVES ||
                (state == COPY_CLAIMS && !is_taken(c, note)))) {
        ring_abandon(src, note, copy->pid);
    }
    uncount(copy, state);
    if (atomic_load(&note->counted)) {
        atomic_fetch_sub(&c->crowd->serving, 1);
    }
    if (state == COPY_STARTS) {
        back_off(c);
    }
    c->calls += atomic_load(&note->calls);
    atomic_store(&note->state, COPY_NONE);
    copy->pid = 0;
    c->n--;
    for (struct item *item = all_items; item; item = item->next) {
        if (item->kind == ITEM_COPY && item->fd == pidfd) {
            item_drop(item);
            break;
        }
    }
    tell_number(c);
}

uint64_t
copies_calls(void)
{
    const struct copies *c = all();
    uint64_t n = c->calls;

    for (uint32_t i = 0; i < c->size; i++) {
        n += c->list[i].pid != 0 ? atomic_load(&c->notes[i].calls) : 0;
    }
    return n;
}

/* ---- looking after them ---- */

/* What one look at all of them found. */
struct view {
    uint32_t current; /* that map every ring, and are ready */
    uint32_t starting, computing, asleep, cpus;
    uint32_t serving, parked;
    uint32_t young;     /* that start, or have not answered a call */
    uint64_t first_due; /* when the first of them may be killed; 0: never */
    struct copy *idlest;
    uint64_t idle_since;
};

/* Does a copy in STATE take the next call, or leave? */
static bool
is_free(uint32_t state)
{
    return state == COPY_PARKS || state == COPY_LOOKS || state == COPY_CLAIMS;
}

static void
ask(struct copies *c, const struct copy *copy, bool leave)
{
    struct copy_note *note = &c->notes[copy - c->list];

    if (leave) {
        atomic_store(&note->asked, 1);
    }
    atomic_fetch_add(&note->bell, 1);
    door_futex_wake(&note->bell, 1, true);
}

/* Stopped, or traced: it does not come. */
static bool
is_stopped(const struct copy *copy)
{
    char letter = pool_process_state(copy->pid);

    return letter == 'T' || letter == 't';
}

/* REQUEST: which it was called for, 0: for none that has a number. */
static void
say_killed(const struct copy *copy, uint64_t request, const char *why)
{
    if (request != 0) {
        fprintf(stderr, "cardea: copy %d is killed: %s request=%016llx\n",
                (int)copy->pid, why, (unsigned long long)request);
    } else {
        fprintf(stderr, "cardea: copy %d is killed: %s\n", (int)copy->pid, why);
    }
}

/* Is COPY, which serves or does not come when it is called, to be killed? A
 * traced one is somebody's who looks at it. */
static const char *
why_killed(const struct copies *c, const struct copy *copy, uint64_t now)
{
    const struct copy_note *note = &c->notes[copy - c->list];
    uint32_t state = atomic_load(&note->state);

    if (state == COPY_STARTS && now - copy->started_at > c->limits.start_ns) {
        return "it was not ready in time";
    }
    if (state == COPY_SERVES && now > note->deadline &&
        now - note->deadline > LATE_NS) {
        return pool_process_state(copy->pid) == 't'
                   ? NULL
                   : "its call is past its time";
    }
    return copy->woken_at != 0 && now - copy->woken_at > STOPPED_NS &&
                   pool_process_state(copy->pid) == 'T'
               ? "it is stopped"
               : NULL;
}

static void
due(struct view *view, uint64_t at)
{
    if (view->first_due == 0 || at < view->first_due) {
        view->first_due = at;
    }
}

/* Is COPY, which does not park, on a CPU, or waiting for one? */
static bool
computes(struct copy *copy, uint64_t now)
{
    bool runs = false;

    if (!growth_sleeps(&copy->nap, copy->calls, now)) {
        runs = pool_process_state(copy->pid) == 'R';
        growth_saw(&copy->nap, copy->calls, !runs, now);
    }
    return runs;
}

static void
look_at(struct copies *c, struct copy *copy, struct view *view, uint64_t now,
        bool waits)
{
    const struct copy_note *note = &c->notes[copy - c->list];
    uint32_t state = atomic_load(&note->state);
    const char *why;

    /* It has served, or came in vain and parks again: the next call's ask is
     * another one. */
    if (!is_free(state) || atomic_load(&note->calls) != copy->calls ||
        (state == COPY_PARKS &&
         atomic_load(&note->idle_since) > copy->woken_at)) {
        copy->calls = atomic_load(&note->calls);
        copy->woken_at = 0;
    }
    why = why_killed(c, copy, now);
    if (why) {
        if (copy->killed) {
            return; /* on its way */
        }
        copy->killed = true;
        say_killed(copy, state == COPY_SERVES ? note->request_id : 0, why);
        kill(copy->pid, SIGKILL); /* not yet reaped: still ours */
        return;
    }
    if (waits && state != COPY_PARKS && state != COPY_STARTS &&
        view->computing < view->cpus) {
        bool on_cpu = computes(copy, now);

        view->computing += on_cpu;
        view->asleep += !on_cpu && state == COPY_SERVES;
    }
    view->young += copy->calls == 0;
    view->serving += state == COPY_SERVES;
    if (state == COPY_STARTS) {
        view->starting++;
        due(view, copy->started_at + c->limits.start_ns);
        return;
    }
    if (copy->n_sources == door_server.n_sources &&
        atomic_load(&note->asked) == 0) {
        view->current++;
    }
    if (copy->woken_at != 0) {
        due(view, copy->woken_at + STOPPED_NS + 1);
    }
    if (state == COPY_SERVES && note->deadline < UINT64_MAX - LATE_NS) {
        due(view, note->deadline + LATE_NS);
    }
    if (state == COPY_PARKS) {
        view->parked++;
        uint64_t since = atomic_load(&note->idle_since);

        if (!view->idlest || since < view->idle_since) {
            view->idlest = copy;
            view->idle_since = since;
        }
    }
}

/* Calls that nobody has claimed, of sources that rang. */
static uint32_t
count_waiting(void)
{
    uint32_t n = 0;

    pthread_mutex_lock(&door_server.lock);
    for (struct source **p = &door_server.watch; *p;) {
        struct source *src = *p;
        uint32_t waiting = atomic_load(&src->dead) ? 0 : ring_n_waiting(src);
        if (waiting == 0) {
            *p = src->watch_next;
            src->watched = false;
            source_unref(src);
            continue;
        }
        n += waiting;
        p = &src->watch_next;
    }
    server_free_unused_locked();
    pthread_mutex_unlock(&door_server.lock);
    return n;
}

/* Copies that do not map every ring leave as soon as one does. So they do where
 * none stays anyway, and where there is no place for one that does. */
static void
renew(struct copies *c, const struct view *view)
{
    bool leave = view->current > 0 || c->growth.floor == 0 ||
                 (view->starting == 0 && c->n >= c->size);

    for (uint32_t i = 0; i < c->size; i++) {
        struct copy *copy = &c->list[i];

        if (leave && copy->pid != 0 &&
            copy->n_sources != door_server.n_sources &&
            atomic_load(&c->notes[i].state) != COPY_STARTS &&
            atomic_load(&c->notes[i].asked) == 0) {
            ask(c, copy, true);
        }
    }
}

/* How large is a copy that has worked? One of them is looked at. */
static void
measure(struct copies *c, uint64_t now)
{
    if (c->growth.size == 0) {
        /* What it shares with its parent it will write to in part. */
        c->growth.size = SIZE_FIRST + room_anonymous(c->pid) / 8;
    }
    if (now - c->measured_at < MEASURE_NS) {
        return;
    }
    c->measured_at = now;
    for (uint32_t k = 1; k <= c->size; k++) {
        uint32_t i = (c->measured + k) % c->size;

        if (c->list[i].pid != 0 && c->list[i].calls > 0) {
            growth_measured(&c->growth, room_private(c->list[i].pid));
            c->measured = i;
            return;
        }
    }
}

/* A line for whoever wonders why there are no more, once in a while. */
static void
tell_memory(struct copies *c, uint64_t now)
{
    if (c->growth.n_waits == 0 ||
        (c->told_at != 0 && now - c->told_at < TELL_NS)) {
        return;
    }
    c->told_at = now;
    fprintf(stderr,
            "cardea: no more than %" PRIu32 " copies: one takes %" PRIu64
            " KB, and %" PRIu64 " KB of memory are left\n",
            c->n, c->growth.size / 1024, c->growth.room.left / 1024);
}

/* How many starts may be under way: as many as CPUs are free; or as many as
 * calls were seen to sleep, for the next ones will as well. */
static uint32_t
starts_allowed(const struct view *view)
{
    uint32_t free_cpus = view->cpus - view->computing;

    return free_cpus > 0 ? MAX_OF(free_cpus, view->asleep) : 0;
}

/* Forks until WANTED come, COMING of which do already, as far as there are
 * memory and CPUs for them. How many come then. */
static uint32_t
fork_more(struct copies *c, const struct view *view, uint32_t coming,
          uint32_t wanted, uint64_t now)
{
    uint32_t allowed = starts_allowed(view), room, again, made = 0;

    measure(c, now);
    again = growth_missing(&c->growth, wanted + view->serving, c->n, now);
    if (again > 0) {
        allowed = MAX_OF(allowed, view->starting + MIN_OF(again, BY_PEAK));
    }
    room = growth_room(&c->growth, c->n, view->young, now);
    tell_memory(c, now);
    while (coming + made < wanted && view->starting + made < allowed &&
           made < room && start_one(c, c->limits.most)) {
        made++;
    }
    return coming + made;
}

static int
sooner(int a, int b)
{
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

/* Microseconds from NOW to AT: at least one, and what fits. */
static int
until(uint64_t at, uint64_t now)
{
    uint64_t left = at > now ? (at - now) / 1000 + 1 : 1;

    return (int)MIN_OF(left, 1000000000u);
}

/* Has COPY answered the call that it was at? It may not have got around to say
 * so, and the client of that call has sent another. */
static bool
has_answered(const struct copies *c, const struct copy *copy)
{
    const struct copy_note *note = &c->notes[copy - c->list];
    const struct source *src = source_numbered(note->source);

    return src && src->kind == SOURCE_RING && ring_has_answered(src, note) &&
           !is_stopped(copy);
}

/* Copies that were in a call when each that was free was woken, and are not any
 * more: they look for the next by themselves. */
static uint32_t
count_back(const struct copies *c)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->size; i++) {
        const struct copy *copy = &c->list[i];
        uint32_t state = atomic_load(&c->notes[i].state);

        n +=
            copy->pid != 0 && copy->woken_at == 0 &&
            (is_free(state) || (state == COPY_SERVES && has_answered(c, copy)));
    }
    return n;
}

/* N calls wait: parked copies are woken, and more made for the rest.
 * Microseconds until the next look. */
static int
grow(struct copies *c, const struct view *view, uint32_t n, uint64_t now)
{
    uint32_t coming = view->starting, wanted;

    for (uint32_t i = 0; i < c->size && coming < n; i++) {
        struct copy *copy = &c->list[i];

        if (copy->pid == 0 || !is_free(atomic_load(&c->notes[i].state))) {
            continue;
        }
        if (copy->woken_at == 0) {
            copy->woken_at = now;
            ask(c, copy, false);
        }
        coming += now - copy->woken_at < WOKEN_NS || !is_stopped(copy);
    }
    if (coming >= n) {
        return BUSY_US;
    }
    n = MIN_OF(n, count_waiting()); /* some may have been taken meanwhile */
    coming += count_back(c);
    if (coming >= n) {
        c->held_us = 0;
        return n > 0 ? BUSY_US : LOOK_US;
    }
    wanted = n > 0 ? growth_wanted(&c->growth, n + view->serving, now) : 0;
    wanted -= MIN_OF(wanted, view->serving);
    uint32_t come = fork_more(c, view, coming, wanted, now);
    if (come >= n || come > coming) {
        c->held_us = 0;
        return LOOK_US;
    }
    /* They compute: more would not help, and looking costs what they use. */
    c->held_us = MAX_OF(MIN_OF(c->held_us * 2, HELD_MAX_US), LOOK_US);
    return c->held_us;
}

/* After a quiet time: how many more there are than ever served at once. */
static void
look_at_crowd(struct copies *c, const struct view *view, uint64_t now)
{
    struct copy_crowd *crowd = c->crowd;
    int32_t serving = atomic_load(&crowd->serving);
    int32_t peak = atomic_exchange(&crowd->peak, MAX_OF(serving, 0));
    uint32_t needed = MAX_OF((uint32_t)MAX_OF(peak, 0), c->growth.floor);

    /* Since the first look, or one at which calls waited, it says nothing. */
    bool counts = c->crowd_since != 0;
    c->crowd_since = now;
    c->spare = counts && view->current > needed ? view->current - needed : 0;
    if (serving != 0 && view->parked == c->n) {
        /* Somebody was killed as he counted. */
        atomic_fetch_sub(&crowd->serving, serving);
    }
}

/* No call waits: the copy that was idle for longest leaves, down to the floor,
 * if that was long, or if so many did not serve at once for as long.
 * Microseconds until the next look, -1: none. */
static int
shrink(struct copies *c, const struct view *view, uint64_t now)
{
    uint64_t quiet = c->growth.quiet_ns;

    if (view->current <= c->growth.floor) {
        c->crowd_since = 0;
        return -1;
    }
    if (c->crowd_since == 0 || now - c->crowd_since >= quiet) {
        look_at_crowd(c, view, now);
    }
    if (!view->idlest) {
        return (int)(quiet / 1000); /* some will be idle some time later */
    }
    if (c->spare > 0 || now - view->idle_since >= quiet) {
        c->spare -= c->spare > 0;
        ask(c, view->idlest, true);
        growth_left(&c->growth, now);
        return LOOK_US * 20;
    }
    return sooner(until(view->idle_since + quiet, now),
                  until(c->crowd_since + quiet, now));
}

/* One look at all that is there. Microseconds until the next; -1: when
 * something comes. */
static int
look_after(struct copies *c)
{
    uint32_t waiting = count_waiting();
    uint64_t now = door_now();
    struct view view = {0};
    uint32_t floor = MAX_OF(c->growth.floor, waiting > 0);
    int us;

    view.cpus = (uint32_t)door_server.n_cpus;
    if (waiting > 0) {
        view.cpus = growth_cpus(&c->growth, view.cpus, now);
    }

    for (uint32_t i = 0; i < c->size; i++) {
        if (c->list[i].pid != 0) {
            look_at(c, &c->list[i], &view, now, waiting > 0);
        }
    }
    renew(c, &view);
    /* So many stay while there is a ring: a first call never waits for a fork.
     * One comes also where those that do not know every ring are as many as may
     * be: they leave once it is ready. */
    while (door_server.n_sources > 0 && view.current + view.starting < floor &&
           start_one(c, view.current + view.starting == 0 ? c->size
                                                          : c->limits.most)) {
        view.starting++;
    }
    us = waiting > 0 ? grow(c, &view, waiting, now) : shrink(c, &view, now);
    if (view.first_due != 0) {
        us = sooner(us, until(view.first_due, now));
    }
    if (c->look_at != 0) {
        us = sooner(us, until(c->look_at, now));
        c->look_at = c->look_at > now ? c->look_at : 0;
    }
    if (view.current > 0) {
        c->failures = 0;
    }
    return us;
}

int
door_copies_serve(void)
{
    struct copies *c = all();

    signal(SIGCHLD, SIG_DFL);
    if (!c || count_threads() > 1) {
        return EBUSY;
    }
    for (;;) {
        int us = hello_timers(look_after(c));
        if (server_turn(door_server.epoll, us) < 0) {
            return errno;
        }
    }
}
