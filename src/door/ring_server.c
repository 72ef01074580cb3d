/* The serving side of a door ring. Calls are claimed by one compare-and-swap on
 * `head`, answered by flipping one bit of `done`; both lie in our reply memory,
 * so a consumer that dies anywhere leaves nothing half done. The caller's
 * memory is hostile: each field is fetched once.
 */
#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/probe.h"

#define REPLY_SLOTS_OFF 0x200000u /* after the head and its maps */
#define REPLY_HEAP_OFF  (REPLY_SLOTS_OFF + RING_SLOTS * RING_REPLY_SLOT)
#define REPLY_SIZE      ((size_t)REPLY_HEAP_OFF + RING_HEAP)
#define REPLIES_OFF     0x100000u
#define ARGS_MAX        (128u << 20) /* that a plain door copies */
#define HEAP_PAGES      (RING_HEAP / RING_SEGMENT)
/* A caller that sends as fast as it is read must not hold a thread: more than a
 * socket buffer can hold at once. */
#define NOTES_A_TURN    1024
#define RUN_EVERY       8 /* calls of a thread, one of which is timed */
#define RUNS_SIZE       (RING_SLOTS * sizeof(uint64_t))

_Static_assert(sizeof(struct ring_reply_head) <= REPLIES_OFF, "head fits");
_Static_assert(REPLIES_OFF + RING_SLOTS * sizeof(struct ring_reply) <=
                   REPLY_SLOTS_OFF,
               "replies fit");

static const struct ring_request *
request_of(const struct source *src)
{
    return src->request;
}

static struct ring_reply_head *
head_of(const struct source *src)
{
    return src->reply;
}

static struct ring_reply *
reply_of(const struct source *src, uint32_t slot)
{
    return (struct ring_reply *)((char *)src->reply + REPLIES_OFF) + slot;
}

/* Takes the places in the caller's memory from its head, once, and checks
 * them: a later release may lay it out differently. */
static int
find_places(struct source *src)
{
    const struct ring_request *q = request_of(src);
    uint64_t entries = q->entries_off, order = q->order_off;
    uint32_t n = q->n_slots;

    if (q->magic != DOOR_WIRE_MAGIC || q->major != DOOR_WIRE_MAJOR || n == 0 ||
        n > RING_SLOTS || (n & (n - 1)) != 0 || entries % 64 != 0 ||
        order % 64 != 0 || entries > src->request_size ||
        order > src->request_size ||
        n * sizeof(struct ring_entry) > src->request_size - entries ||
        n * sizeof(uint32_t) > src->request_size - order) {
        return EPROTO;
    }
    src->entries = (const void *)((const char *)src->request + entries);
    src->order = (const void *)((const char *)src->request + order);
    src->n_slots = n;
    src->cpu = q->cpu;
    src->bell = (_Atomic uint32_t *)(uintptr_t)&q->pub;
    return 0;
}

int
ring_accept(struct source *src, int memory_fd, int *p_fd)
{
    src->request = door_memory_map(memory_fd, src->request_size, NULL);
    if (!src->request) {
        return errno; /* EINVAL: refused */
    }
    int e = find_places(src);
    if (e != 0) {
        return e;
    }
    src->runs = mmap(NULL, RUNS_SIZE, PROT_READ | PROT_WRITE,
                     MAP_ANONYMOUS | MAP_SHARED, -1, 0);
    if (src->runs == MAP_FAILED) {
        /* not reached: no memory */
        src->runs = NULL;
        return ENOMEM;
    }
    src->reply_size = REPLY_SIZE;
    src->reply = door_memory_make("door-reply", REPLY_SIZE, NULL, p_fd);
    if (!src->reply) {
        return errno;
    }
    struct ring_reply_head *h = head_of(src);
    h->magic = DOOR_WIRE_MAGIC;
    h->major = DOOR_WIRE_MAJOR;
    h->n_slots = src->n_slots;
    h->features = src->door->features | DOOR_FEATURE_THREADS |
                  DOOR_FEATURE_BEGAN |
                  (ring_takes_descs(src->door) ? DOOR_FEATURE_DESCS : 0);
    h->replies_off = REPLIES_OFF;
    h->slots_off = REPLY_SLOTS_OFF;
    h->heap_off = REPLY_HEAP_OFF;
    h->size = REPLY_SIZE;
    return 0;
}

void
ring_tell_threads(struct source *src, uint32_t now, uint32_t most)
{
    struct ring_reply_head *h = head_of(src);

    atomic_store_explicit(&h->threads, now, memory_order_relaxed);
    atomic_store_explicit(&h->threads_high, most, memory_order_relaxed);
}

uint32_t
ring_n_waiting(const struct source *src)
{
    uint32_t pub =
        atomic_load_explicit(&request_of(src)->pub, memory_order_acquire);
    uint32_t head =
        atomic_load_explicit(&head_of(src)->head, memory_order_relaxed);

    return pub - head <= src->n_slots ? pub - head : 0;
}

uint32_t
ring_n_taken(const struct source *src)
{
    return atomic_load(&head_of(src)->head);
}

bool
ring_has_work(const struct source *src)
{
    return ring_n_waiting(src) > 0;
}

/* ---- larger replies: runs of heap pages ---- */

static bool
take_words(struct ring_reply_head *h, uint32_t first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t none = 0;
        if (!atomic_compare_exchange_strong(&h->heap_map[first + i], &none,
                                            ~0ull)) {
            while (i > 0) {
                atomic_store(&h->heap_map[first + --i], 0);
            }
            return false;
        }
    }
    return true;
}

/* Finds COUNT (a power of two) adjacent free pages. The first, or -1. */
static int64_t
heap_take(struct ring_reply_head *h, uint32_t count)
{
    const uint32_t words = HEAP_PAGES / 64;

    if (count >= 64) {
        uint32_t n = count / 64;
        for (uint32_t w = 0; w + n <= words; w += n) {
            if (take_words(h, w, n)) {
                return (int64_t)w * 64;
            }
        }
        return -1;
    }
    uint64_t mask = (1ull << count) - 1;
    for (uint32_t w = 0; w < words; w++) {
        uint64_t now = atomic_load(&h->heap_map[w]);
        for (uint32_t b = 0; b < 64; b += count) {
            while ((now & (mask << b)) == 0) {
                if (atomic_compare_exchange_weak(&h->heap_map[w], &now,
                                                 now | (mask << b))) {
                    return (int64_t)w * 64 + b;
                }
            }
        }
    }
    return -1;
}

static void
heap_give(struct ring_reply_head *h, uint32_t page, uint32_t count)
{
    if (count >= 64) {
        for (uint32_t i = 0; i < count / 64; i++) {
            atomic_store(&h->heap_map[page / 64 + i], 0);
        }
        return;
    }
    uint64_t mask = (1ull << count) - 1;
    atomic_fetch_and(&h->heap_map[page / 64], ~(mask << (page % 64)));
}

/* A slot's run is one word, for its copies may be several processes: whoever
 * takes it out gives it back, once. The generation is that of the call which it
 * was taken for, so that no older look at the word fits a newer one. */
static uint64_t
run_word(uint32_t generation, uint32_t page, uint32_t count)
{
    return (uint64_t)generation << 32 | (uint64_t)page << 16 | count;
}

static void
run_return(struct source *src, uint64_t run)
{
    if ((run & 0xffff) > 0) {
        heap_give(head_of(src), (uint32_t)(run >> 16) & 0xffff,
                  (uint32_t)run & 0xffff);
    }
}

static void
give_run(struct source *src, uint32_t slot)
{
    if (atomic_load_explicit(&src->runs[slot], memory_order_relaxed) != 0) {
        run_return(src, atomic_exchange(&src->runs[slot], 0));
    }
}

/* Takes a run; where the heap is full, first frees those of slots whose reply
 * the caller says it has sent (only that caller is hurt if it lies). */
static int64_t
heap_take_or_sweep(struct source *src, uint32_t count)
{
    int64_t page = heap_take(head_of(src), count);

    if (page >= 0) {
        return page;
    }
    for (uint32_t i = 0; i < src->n_slots; i++) {
        uint64_t run = atomic_load(&src->runs[i]);
        uint32_t gen = reply_of(src, i)->generation;
        /* A slot at work has a run of a later call than its reply is of. */
        if (run >> 32 == gen && atomic_load(&src->entries[i].released) == gen &&
            atomic_compare_exchange_strong(&src->runs[i], &run, 0)) {
            run_return(src, run);
        }
    }
    return heap_take(head_of(src), count);
}

int
door_task_grow(struct door_task *task, size_t used, size_t want)
{
    struct source *src = task->call->src;
    uint32_t slot = task->call->slot, count = 4;

    if (want <= task->room_size) {
        return 0;
    }
    if (want > (size_t)64 << 20) {
        return ENOBUFS;
    }
    while ((size_t)count * RING_SEGMENT < want) {
        count *= 2;
    }
    int64_t page = heap_take_or_sweep(src, count);
    if (page < 0) {
        return ENOBUFS;
    }
    uint8_t *room =
        (uint8_t *)src->reply + REPLY_HEAP_OFF + (size_t)page * RING_SEGMENT;
    memcpy(room, task->room, used);
    run_return(src, atomic_exchange(&src->runs[slot],
                                    run_word(task->call->generation,
                                             (uint32_t)page, count)));
    task->room = room;
    task->room_size = (size_t)count * RING_SEGMENT;
    return 0;
}

/* ---- descriptors that come with calls ---- */

bool
ring_takes_descs(const struct door *d)
{
    return !d->native && (d->attributes & DOOR_REFUSE_DESC) == 0;
}

static void
let_go(struct held *h)
{
    if (h->fd > 0) {
        door_close_foreign(h->fd - 1);
    }
    h->fd = 0;
}

/* Holds FD for the call that NOTE names. FD is -1 where the note came without
 * it: this process has no room for it (EMFILE), or the caller sent another
 * number of them. Returns FD, or -1 if it is held now. */
static int
hold(struct source *src, const struct door_note *note, int fd)
{
    if (note->kind != DOOR_NOTE_FDS || note->seq >= src->n_slots ||
        !ring_takes_descs(src->door)) {
        return fd;
    }
    if (!src->held) {
        src->held = calloc(RING_SLOTS, sizeof *src->held);
    }
    if (!src->held) {
        /* not reached: memory is gone */
        return fd;
    }
    struct held *h = &src->held[note->seq];
    let_go(h);
    h->cookie = note->cookie;
    h->fd = fd >= 0 ? fd + 1 : -EMFILE;
    return -1;
}

static void
read_notes_locked(struct source *src)
{
    for (int most = NOTES_A_TURN; most > 0; most--) {
        struct door_note note = {0};
        int fd = -1;
        size_t n = 1;
        int e = door_receive(src->conn, &note, sizeof note, &fd, &n, NULL,
                             MSG_DONTWAIT);
        if (e != 0 && e != EPROTO && e != EMFILE) {
            return;
        }
        fd = hold(src, &note, e == 0 && n == 1 ? fd : -1);
        if (fd >= 0) {
            door_close_foreign(fd);
        }
    }
}

void
ring_read_notes(struct source *src)
{
    pthread_mutex_lock(&src->held_lock);
    read_notes_locked(src);
    pthread_mutex_unlock(&src->held_lock);
}

void
ring_drop_held(struct source *src, bool lock)
{
    if (lock) {
        pthread_mutex_lock(&src->held_lock);
    }
    for (uint32_t i = 0; src->held && i < RING_SLOTS; i++) {
        let_go(&src->held[i]);
    }
    free(src->held);
    src->held = NULL;
    if (lock) {
        pthread_mutex_unlock(&src->held_lock);
    }
}

/* The descriptor that came for SLOT and COOKIE; one of another call is closed.
 * It was sent before the call was published: it is held, or lies on the
 * connection, or never came. That is read in any case: what an heir sent a
 * second time must not stay behind. The descriptor, or a negative errno. */
static int
take_held(struct source *src, uint32_t slot, uint64_t cookie)
{
    int fd = -EPROTO;

    pthread_mutex_lock(&src->held_lock);
    read_notes_locked(src);
    if (src->held) {
        struct held *h = &src->held[slot];
        if (h->fd != 0 && h->cookie == cookie) {
            fd = h->fd > 0 ? h->fd - 1 : h->fd;
            h->fd = 0;
        }
        let_go(h);
    }
    pthread_mutex_unlock(&src->held_lock);
    return fd;
}

/* What the call C brings becomes the procedure's. With an ERROR it is fetched
 * all the same, and closed: nobody else would. 0 or an errno. */
static int
take_descs(struct thread *t, int error)
{
    struct call *c = &t->call;

    if (c->entry.n_fds > 1) {
        return error != 0 ? error : E2BIG; /* a ring's call brings one */
    }
    int fd = take_held(c->src, c->slot, c->cookie);
    if (error == 0 && !ring_takes_descs(c->src->door)) {
        error = ENOTSUP;
    } else if (error == 0 && fd < 0) {
        error = -fd;
    }
    if (error == 0) {
        free(t->descs);
        t->descs = calloc(1, sizeof *t->descs);
        error = t->descs ? 0 : ENOMEM;
    }
    if (error != 0) {
        if (fd >= 0) {
            door_close_foreign(fd);
        }
        return error;
    }
    fcntl(fd, F_SETFD, 0); /* as doors give them; held, it must not leak */
    channel_describe(t->descs, fd);
    c->n_fds = 1;
    return 0;
}

/* ---- one call ---- */

/* Is [off, off + len) inside the caller's memory behind its head? */
static bool
in_request(const struct source *src, uint64_t off, uint64_t len)
{
    return len == 0 ||
           (off >= sizeof(struct ring_request) && off <= src->request_size &&
            len <= src->request_size - off);
}

/* not reached: a forked copy or its parent: counters are lost: test-copies */
static uint32_t
done_bit(const struct source *src, uint32_t slot)
{
    return (uint32_t)(atomic_load(&head_of(src)->done[slot / 64]) >>
                      (slot % 64)) &
           1;
}

/* What is about to be claimed is noted before: whoever is killed right after it
 * leaves the note. */
static void
note_claim(struct copy_note *note, const struct source *src, uint32_t head,
           uint32_t slot)
{
    atomic_store_explicit(&note->state, COPY_CLAIMS, memory_order_relaxed);
    note->source = src->number;
    note->head = head;
    note->slot = slot;
    note->done = done_bit(src, slot);
    note->cookie = src->entries[slot].cookie;
    note->generation = src->entries[slot].generation;
    note->deadline = src->entries[slot].deadline;
    note->request_id = src->entries[slot].request_id;
}

/* not reached: a forked copy's parent: counters are lost: test-copies */
bool
ring_has_answered(const struct source *src, const struct copy_note *note)
{
    return done_bit(src, note->slot % src->n_slots) != note->done;
}

void
ring_abandon(struct source *src, const struct copy_note *note, pid_t pid)
{
    uint32_t slot = note->slot % src->n_slots;
    struct ring_reply *r = reply_of(src, slot);
    bool claims = atomic_load(&note->state) == COPY_CLAIMS;

    /* Within a claim: it is theirs only if nobody else can have won it. */
    if ((claims && (atomic_load(&head_of(src)->head) != note->head + 1 ||
                    r->cookie == note->cookie)) ||
        done_bit(src, slot) != note->done) {
        return;
    }
    r->error = EINTR;
    r->cookie = note->cookie;
    r->data_off = r->head_off = REPLY_SLOTS_OFF;
    r->data_len = r->head_len = 0;
    r->flags = 0;
    r->began = 0;
    r->taker = (uint32_t)pid;
    r->generation = note->generation;
    atomic_fetch_xor(&head_of(src)->done[slot / 64], 1ull << (slot % 64));
    ring_announce(src);
}

/* Claims the oldest published slot. NOTE: of a copy, or NULL. false: there is
 * none. */
static bool
claim(struct source *src, struct copy_note *note, uint32_t *p_slot)
{
    const struct ring_request *q = request_of(src);
    struct ring_reply_head *h = head_of(src);
    uint32_t head = atomic_load_explicit(&h->head, memory_order_relaxed);

    /* not reached: two threads claim at once, by chance */
    for (;;) {
        uint32_t pub = atomic_load_explicit(&q->pub, memory_order_acquire);
        if (pub - head - 1 >= src->n_slots) {
            return false;
        }
        /* Read before the claim: after it the caller may reuse the place. */
        uint32_t slot =
            ((const volatile uint32_t *)src->order)[head % src->n_slots];
        if (note) {
            /* not reached: a forked copy: counters are lost: test-copies */
            note_claim(note, src, head, slot % src->n_slots);
        }
        if (atomic_compare_exchange_weak_explicit(&h->head, &head, head + 1,
                                                  memory_order_acq_rel,
                                                  memory_order_relaxed)) {
            if (note) {
                /* not reached: a forked copy: counters are lost: test-copies
                 */
                atomic_store(&note->state, COPY_SERVES);
            }
            *p_slot = slot % src->n_slots;
            return true;
        }
    }
}

static void
fetch_entry(struct source *src, struct call *c)
{
    memcpy(&c->entry, (const void *)&src->entries[c->slot],
           offsetof(struct ring_entry, spare));
    c->generation = c->entry.generation;
    c->cookie = c->entry.cookie;
    c->no_results = false;
    c->n_fds = 0;
}

/* A place that is not in the caller's memory becomes none at all, before a
 * pointer is made of it. 0 or EPROTO. */
static int
check_place(const struct source *src, uint64_t *p_off, uint64_t *p_len)
{
    bool in = in_request(src, *p_off, *p_len);

    if (!in || *p_len == 0) {
        *p_off = *p_len = 0;
    }
    return in ? 0 : EPROTO;
}

static int
check_places(struct call *c)
{
    struct ring_entry *e = &c->entry;
    int args = check_place(c->src, &e->args_off, &e->args_len);
    int body = check_place(c->src, &e->body_off, &e->body_len);

    return args != 0 ? args : body;
}

static void
fill_task(struct call *c, pid_t taker)
{
    struct source *src = c->src;
    struct door_task *task = &c->task;
    const uint8_t *base = src->request;

    task->args = base + c->entry.args_off;
    task->args_len = c->entry.args_len;
    task->body = base + c->entry.body_off;
    task->body_len = c->entry.body_len;
    task->deadline = c->entry.deadline;
    task->request_id = c->entry.request_id;
    task->kind = c->entry.kind;
    task->room =
        (uint8_t *)src->reply + REPLY_SLOTS_OFF + c->slot * RING_REPLY_SLOT;
    task->room_size = RING_REPLY_SLOT;
    task->head_off = task->head_len = task->body_at = task->body_size = 0;
    task->status = 200;
    task->error = 0;
    task->call = c;
    reply_of(src, c->slot)->flags = 0;
    reply_of(src, c->slot)->taker = (uint32_t)taker;
    reply_of(src, c->slot)->began = door_now();
}

/* A plain door's arguments are the procedure's own copy. 0 or an errno. */
static int
copy_args(struct thread *t)
{
    struct call *c = &t->call;

    c->size = c->entry.args_len;
    if (c->size > ARGS_MAX) {
        return E2BIG;
    }
    return pool_copy_args(t, (const char *)c->src->request + c->entry.args_off,
                          c->size);
}

bool
ring_take(struct source *src, struct thread *t)
{
    struct call *c = &t->call;

    while (claim(src, t->note, &c->slot)) {
        c->src = src;
        /* After all that the slot's last server wrote, whoever that was. */
        (void)atomic_load_explicit(&head_of(src)->done[c->slot / 64],
                                   memory_order_acquire);
        fetch_entry(src, c);
        int e = check_places(c);
        give_run(src, c->slot);
        fill_task(c, t->tid);
        if (e == 0 && atomic_load_explicit(&c->entry.withdrawn,
                                           memory_order_relaxed) != 0) {
            e = ECANCELED;
        }
        if (e == 0 && (atomic_load(&src->door->attributes) & DOOR_REVOKED)) {
            e = EBADF; /* as a call by descriptor is told: door_revoke(3) */
        }
        if (e == 0 && src->door->native) {
            e = c->entry.kind == RING_KIND_HTTP ? 0 : ENOTSUP;
        } else if (e == 0) {
            e = copy_args(t);
        }
        if (c->entry.n_fds > 0) {
            e = take_descs(t, e);
        }
        if (e == 0) {
            PROBE2(dispatch, c->entry.request_id, c->slot);
            return true;
        }
        c->open = true;
        ring_answer(t, e, NULL, 0);
        c->open = false;
        ring_announce(src);
    }
    return false;
}

/* A call to D took so long. Half of them take less than what is remembered: it
 * goes up an eighth for each that takes more, and down for each that takes
 * less. Threads may do that at once; then one of them is forgotten. */
static void
learn_run(struct door *d, uint64_t ns)
{
    uint64_t m = atomic_load_explicit(&d->run_ns, memory_order_relaxed);

    if (m == 0) {
        m = ns + 1;
    } else {
        m = ns > m ? m + m / 8 + 1 : m - m / 8;
    }
    atomic_store_explicit(&d->run_ns, m, memory_order_relaxed);
}

int
ring_answer(struct thread *t, int error, const char *data, size_t size)
{
    struct call *c = &t->call;
    struct source *src = c->src;
    struct door_task *task = &c->task;
    struct ring_reply *r = reply_of(src, c->slot);
    uint64_t room = (uint64_t)(task->room - (uint8_t *)src->reply);

    if (!c->open) {
        /* not reached: a thread that ends answers once */
        return 0;
    }
    if (!src->door->native && error == 0) {
        if (door_task_grow(task, 0, size) != 0) {
            return ENOBUFS;
        }
        room = (uint64_t)(task->room - (uint8_t *)src->reply);
        if (size > 0) {
            memcpy(task->room, data, size);
        }
        task->body_size = size;
    }
    if (src->door->native && !t->note && t->calls % RUN_EVERY == 0) {
        learn_run(src->door, door_now() - r->began);
    }
    PROBE3(return, c->entry.request_id, error, task->status);
    r->error = error;
    r->cookie = c->cookie;
    r->data_off = room + task->body_at;
    r->data_len = task->body_size;
    r->head_off = room + task->head_off;
    r->head_len = task->head_len;
    r->status = task->status;
    r->generation = c->generation;
    c->open = false;
    /* From the bit on its caller may call again: this thread counts as one that
     * comes back, so that no other is made for that. */
    atomic_store_explicit(&t->serving, false, memory_order_relaxed);
    /* Release: all of the answer before the bit; and, being a read-modify-write
     * with full order, the bit before the look at `asleep`. */
    atomic_fetch_xor(&head_of(src)->done[c->slot / 64], 1ull << (c->slot % 64));
    return 0;
}

void
ring_announce(struct source *src)
{
    uint32_t asleep = atomic_load(&request_of(src)->asleep);
    struct door_note wake = {.kind = DOOR_NOTE_WAKE};

    /* Never a descriptor that the caller chose: a pipe could end or block us.
     * EAGAIN: it does not read, and looks by its own timer. */
    if (asleep != 0 && atomic_exchange(&src->announced, asleep) != asleep) {
        door_send(src->conn, &wake, sizeof wake, NULL, 0);
    }
}

bool
door_task_withdrawn(const struct door_task *task)
{
    const struct call *c = task->call;
    const struct ring_entry *e = &c->src->entries[c->slot];

    return atomic_load(&c->src->dead) || atomic_load(&e->withdrawn) != 0;
}

int
door_task_send_fd(struct door_task *task, int fd, uint64_t offset,
                  uint64_t length)
{
    struct call *c = task->call;
    struct ring_reply *r = reply_of(c->src, c->slot);
    struct door_note note = {
        .kind = DOOR_NOTE_FDS, .seq = c->slot, .cookie = c->cookie, .n_fds = 1};
    int e = 0;

    for (int tries = 0; tries < 200; tries++) {
        e = door_send(c->src->conn, &note, sizeof note, &fd, 1);
        if (e != EAGAIN && e != ETOOMANYREFS) {
            break;
        }
        /* The loop reads them as it takes answers: wait for it a little. */
        /* not reached: the caller reads too slowly: attacks */
        ring_announce(c->src);
        usleep(1000);
    }
    if (e == 0) {
        r->flags = RING_REPLY_FD;
        r->fd_offset = offset;
        r->fd_length = length;
    }
    return e;
}
