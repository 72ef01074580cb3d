/* A forked copy: one process that takes calls of all rings of its parent, one
 * at a time. It waits on the word of every ring at once, and on one of its own
 * by which its parent reaches it. It leaves when it is asked to, when it has
 * served for long enough, and, if its parent has died, when the last ring has
 * ended.
 */
#include "door/copies.h"
#include "door/copy_output.h"
#include "door/items.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "door/raw.h"

#define RINGS_MAX    120        /* that one wait can name, and its own word */
#define ORPHAN_NS    200000000u /* how often an orphan looks for rings */
#define ANNOUNCE_NS  20000ull   /* answers are held back no longer */
#define MEMORY_EVERY 64         /* calls between two looks at the size */

struct self {
    struct copies *copies;
    struct copy_note *note;
    struct source *rings[RINGS_MAX];
    uint32_t n_rings, next; /* which is asked first */
    uint64_t born, calls, age_ns;
    struct thread thread;
    /* Its parent's, forgotten and never freed: held, so that a leak checker in
     * a program that calls exit(3) tells only of the program's. */
    struct item *items;
    struct door *doors;
};

/* ---- its parent ---- */

static void
parent_died(int signal)
{
    (void)signal;
    atomic_store(&door_server.orphaned, true);
    /* It may come between the last look and the wait. */
    atomic_fetch_add(&door_server.note->bell, 1);
}

/* A signal tells of the parent's death, so that a copy need not look. */
static void
watch_parent(const struct copies *copies, struct copy_note *note)
{
    struct sigaction act = {.sa_handler = parent_died, .sa_flags = SA_RESTART};

    door_server.note = note;
    sigemptyset(&act.sa_mask);
    sigaction(SIGRTMAX - 1, &act, NULL);
    prctl(PR_SET_PDEATHSIG, SIGRTMAX - 1);
    if (getppid() != copies->pid) {
        atomic_store(&door_server.orphaned, true);
    }
}

/* Has an orphan a ring left whose caller lives? */
static bool
has_ring(const struct self *self)
{
    for (uint32_t i = 0; i < self->n_rings; i++) {
        if (!door_hung_up(self->rings[i]->conn)) {
            return true;
        }
    }
    return false;
}

/* ---- between two calls ---- */

/* Bytes resident, of proc_pid_statm(5); 0: not known. */
static uint64_t
memory_resident(void)
{
    char text[128];
    unsigned long pages = 0;
    int fd = raw_open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *second = strchr(text, ' ');
    if (second) {
        pages = strtoul(second + 1, NULL, 10);
    }
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Has it served for long enough? */
static bool
is_worn(const struct self *self)
{
    const struct door_copy_limits *limits = &self->copies->limits;
    uint64_t n = atomic_load_explicit(&self->note->calls, memory_order_relaxed);

    return (self->calls > 0 && n >= self->calls) ||
           (self->age_ns > 0 && door_now() - self->born >= self->age_ns) ||
           (limits->memory > 0 && n > 0 && n % MEMORY_EVERY == 0 &&
            memory_resident() > limits->memory);
}

static bool
leaves(const struct self *self)
{
    return atomic_load(&self->note->asked) != 0 || is_worn(self) ||
           (atomic_load(&door_server.orphaned) && !has_ring(self));
}

static void
count_parked(const struct self *self, uint32_t by)
{
    for (uint32_t i = 0; i < self->n_rings; i++) {
        struct ring_reply_head *h = self->rings[i]->reply;
        atomic_fetch_add(&h->parked, by);
    }
}

static bool
has_work(const struct self *self)
{
    for (uint32_t i = 0; i < self->n_rings; i++) {
        if (ring_has_work(self->rings[i])) {
            return true;
        }
    }
    return false;
}

/* Waits until a ring has a call, or the parent wants something. */
static void
park(struct self *self)
{
    struct copy_note *note = self->note;
    struct door_futex words[RINGS_MAX + 1];

    words[self->n_rings] = door_futex_on(&note->bell, atomic_load(&note->bell));
    for (uint32_t i = 0; i < self->n_rings; i++) {
        const _Atomic uint32_t *bell = self->rings[i]->bell;
        words[i] = door_futex_on(bell, atomic_load(bell));
    }
    atomic_store(&note->idle_since, door_now());
    count_parked(self, 1);
    /* Full order: parked, then the looks below. */
    atomic_store(&note->state, COPY_PARKS);
    if (!has_work(self) && atomic_load(&note->asked) == 0) {
        door_futex_wait_any(words, self->n_rings + 1,
                            atomic_load(&door_server.orphaned) ? ORPHAN_NS : 0);
    }
    atomic_store(&note->state, COPY_LOOKS);
    count_parked(self, -1u);
}

/* ---- calls ---- */

/* The next call, of any ring, each in its turn. */
static struct source *
take(struct self *self)
{
    for (uint32_t k = 0; k < self->n_rings; k++) {
        struct source *src = self->rings[(self->next + k) % self->n_rings];
        if (ring_has_work(src) && ring_take(src, &self->thread)) {
            self->next = (self->next + k) % self->n_rings;
            return src;
        }
    }
    atomic_store(&self->note->state, COPY_LOOKS);
    return NULL;
}

static void
count_in(struct self *self)
{
    struct copy_crowd *crowd = self->copies->crowd;

    atomic_store_explicit(&self->note->counted, true, memory_order_relaxed);
    int32_t n = atomic_fetch_add(&crowd->serving, 1) + 1;
    int32_t peak = atomic_load_explicit(&crowd->peak, memory_order_relaxed);
    while (n > peak && !atomic_compare_exchange_weak(&crowd->peak, &peak, n)) {
    }
}

static void
count_out(struct self *self)
{
    atomic_fetch_sub(&self->copies->crowd->serving, 1);
    atomic_store_explicit(&self->note->counted, false, memory_order_relaxed);
}

static void
serve(struct self *self, struct source *src)
{
    struct thread *t = &self->thread;

    count_in(self);
    t->call.open = true;
    src->door->native(src->door->cookie, &t->call.task);
    ring_answer(t, t->call.task.error, NULL, 0);
    count_out(self);
    atomic_store(&self->note->state, COPY_LOOKS);
    atomic_fetch_add_explicit(&self->note->calls, 1, memory_order_relaxed);
    /* A run of short calls is announced once, at its end. */
    uint64_t now = door_now();
    if (!ring_has_work(src) || now - t->run_start > ANNOUNCE_NS) {
        ring_announce(src);
        t->run_start = now;
        self->next++;
    }
}

/* ---- from birth to end ---- */

/* A tenth more or less than N, so that copies do not leave together. */
static uint64_t
jitter(uint64_t n, uint64_t seed)
{
    uint64_t tenth = n / 10;

    return tenth > 0 ? n - tenth + seed % (2 * tenth + 1) : n;
}

static void
find_rings(struct self *self)
{
    for (struct item *i = all_items; i; i = i->next) {
        if (i->kind == ITEM_SOURCE && i->src->kind == SOURCE_RING &&
            self->n_rings < RINGS_MAX) {
            self->rings[self->n_rings++] = i->src;
        }
    }
}

/* From now on its callers count on it. Counted first: who is killed in between
 * leaves one too many, which costs a caller a wait for its nudge. */
static void
arrive(struct self *self)
{
    for (uint32_t i = 0; i < self->n_rings; i++) {
        struct ring_reply_head *h = self->rings[i]->reply;
        atomic_fetch_add(&h->attached, 1);
    }
    atomic_store(&self->note->state, COPY_LOOKS);
}

static void
leave(struct self *self)
{
    atomic_store(&self->note->state, COPY_LEAVES);
    for (uint32_t i = 0; i < self->n_rings; i++) {
        struct ring_reply_head *h = self->rings[i]->reply;
        ring_announce(self->rings[i]);
        atomic_fetch_sub(&h->attached, 1);
    }
}

void
copy_main(struct copies *copies, struct copy_note *note, uint64_t seed)
{
    struct self *self = calloc(1, sizeof *self);
    int kick = fcntl(door_server.kick, F_DUPFD_CLOEXEC, 0);
    const uint64_t one = 1;

    if (!self) {
        _exit(1);
    }
    watch_parent(copies, note);
    self->copies = copies;
    self->note = note;
    self->born = door_now();
    self->calls = jitter(copies->limits.calls, seed);
    self->age_ns = jitter(copies->limits.age_ns, seed);
    self->thread.note = note;
    self->thread.pinned = -1;
    self->thread.tid = getpid();
    find_rings(self);
    self->items = all_items;
    self->doors = door_server.doors;
    server_forget_in_copy();
    context_stands_in(&self->thread.call);
    copy_output_ask(copies->limits.output);
    if (copies->hooks.start && copies->hooks.start(copies->hooks.arg) != 0) {
        _exit(1);
    }
    arrive(self);
    if (write(kick, &one, sizeof one) < 0) {
        /* not reached: the parent has gone, or is awake */
        atomic_store(&door_server.orphaned, getppid() != copies->pid);
    }
    close(kick);
    while (!leaves(self)) {
        struct source *src = take(self);
        if (src) {
            serve(self, src);
        } else if (self->n_rings == 0) {
            break; /* its parent makes one with the first ring */
        } else {
            park(self);
            self->thread.run_start = door_now();
        }
    }
    leave(self);
    if (copies->hooks.end) {
        copies->hooks.end(copies->hooks.arg);
    }
    fflush(NULL);
    _exit(0);
}
