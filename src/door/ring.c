/* The calling side of a door ring. The server's memory is hostile: each field
 * is loaded once and checked; its counters are hints.
 */
#include "door/ring.h"
#include "door/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"

#define FD_NO_ROOM 0xffffffffu /* in fds[]: came, and could not be kept */
#define WORDS(n)   ((n) / 64u)

/* ---- opening and closing ---- */

void
ring_init(struct ring *r, struct ring_tables *tables)
{
    memset(r, 0, sizeof *r);
    r->tables = tables;
    r->door_fd = r->conn = r->request_fd = r->reply_fd = -1;
}

/* Everything that an opening sets, but for the state: in any order, for nothing
 * is read of a ring that is closed. */
static void
wipe(struct ring *r)
{
    struct ring_tables *tables = r->tables;
    struct ring closed;

    memset(&closed, 0, sizeof closed);
    closed.tables = tables;
    closed.door_fd = closed.conn = closed.request_fd = closed.reply_fd = -1;
    *r = closed;
}

static void
lay_out(struct ring *r, int cpu)
{
    struct ring_request *q = r->request;

    q->magic = DOOR_WIRE_MAGIC;
    q->major = DOOR_WIRE_MAJOR;
    q->n_slots = RING_SLOTS;
    q->entries_off = RING_ENTRIES_OFF;
    q->order_off = RING_ORDER_OFF;
    q->area_off = RING_AREA_OFF;
    q->size = RING_SIZE;
    q->cpu = cpu;
}

int
ring_open(struct ring *r, int door_fd, int cpu, void *at)
{
    struct door_hello hello = {.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = DOOR_HELLO_RING,
                               .size = RING_SIZE};
    int pair[2];

    wipe(r);
    r->door_fd = door_fd;
    r->cookie = door_random();
    r->epoch = door_random();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                   pair) < 0) {
        int e = errno;
        ring_close(r);
        return e;
    }
    r->conn = pair[0];
    r->request =
        door_memory_make("door-request", RING_SIZE, at, &r->request_fd);
    int e = r->request ? 0 : errno;
    if (e == 0) {
        lay_out(r, cpu);
        int fds[2] = {pair[1], r->request_fd};
        e = door_send(door_fd, &hello, sizeof hello, fds, 2);
    }
    close(pair[1]);
    if (e != 0) {
        ring_close(r);
        return e;
    }
    KEEP_ORDER();
    r->state = RING_GREETING;
    return 0;
}

/* Are the places that the server names inside its memory? */
static int
check_places(struct ring *r, uint64_t size)
{
    const struct ring_reply_head *h = r->reply;
    uint64_t off = h->replies_off;

    if (h->magic != DOOR_WIRE_MAGIC || h->major != DOOR_WIRE_MAJOR ||
        h->n_slots != RING_SLOTS || off % 64 != 0 || off > size ||
        RING_SLOTS * sizeof(struct ring_reply) > size - off) {
        return EPROTO;
    }
    r->replies_off = off;
    r->heap_off = r->high_reply = h->heap_off;
    return 0;
}

int
ring_greeted(struct ring *r)
{
    struct door_welcome w;
    size_t n = 1;
    int fd = -1;
    int e = door_receive(r->conn, &w, sizeof w, &fd, &n, NULL, MSG_DONTWAIT);

    if (e == EAGAIN) {
        return e;
    }
    if (e == 0 && (w.magic != DOOR_WIRE_MAGIC || w.major != DOOR_WIRE_MAJOR)) {
        e = EPROTO;
    }
    if (e == 0 && w.error != 0) {
        /* EAGAIN is our own word for "not yet". */
        e = w.error > 0 && w.error < 4096 && w.error != EAGAIN ? w.error
                                                               : EPROTO;
    }
    if (e == 0 && (n != 1 || w.size < sizeof(struct ring_reply_head) ||
                   w.size > (4ull << 30))) {
        e = EPROTO;
    }
    if (e == 0) {
        r->reply = door_memory_map(fd, w.size, NULL);
        r->reply_size = w.size;
        e = r->reply          ? check_places(r, w.size)
            : errno == EINVAL ? EPROTO
                              : errno;
    }
    if (n == 1) {
        r->reply_fd = fd;
    }
    if (e != 0) {
        r->state = RING_DEAD;
        return e;
    }
    r->features = w.features;
    KEEP_ORDER();
    r->state = RING_READY;
    return 0;
}

static void
drop_fd(struct ring *r, uint32_t slot)
{
    struct ring_slot *s = &r->tables->slots[slot];
    uint32_t fd = s->fd;

    s->fd = 0;
    KEEP_ORDER(); /* a number that is free again must stand nowhere */
    if (fd != 0 && fd != FD_NO_ROOM) {
        door_close_foreign((int)fd - 1);
    }
}

static bool
is_used(const struct ring *r, uint32_t slot)
{
    return (r->used[slot / 64] >> (slot % 64) & 1) != 0;
}

/* Only as far as it was ever used: the rest is zero, and was never touched. */
static void
clear_area(struct ring *r)
{
    size_t words = ((size_t)r->high_segment + 63) / 64;

    memset(r->tables->area, 0, words * sizeof(uint64_t));
}

void
ring_close(struct ring *r)
{
    struct ring old = *r;
    int fds[] = {old.door_fd, old.conn, old.request_fd, old.reply_fd};

    /* Closed from here on: a kill leaves descriptors that nobody names, and
     * memory of a process that is gone. */
    r->state = RING_CLOSED;
    KEEP_ORDER();
    for (uint32_t i = 0; i < RING_SLOTS; i++) {
        if (is_used(r, i)) {
            drop_fd(r, i);
        }
    }
    clear_area(r);
    wipe(r);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (fds[i] >= 0) {
            door_close_foreign(fds[i]);
        }
    }
    if (old.request) {
        munmap(old.request, RING_SIZE);
    }
    if (old.reply) {
        munmap((void *)(uintptr_t)old.reply, old.reply_size);
    }
}

/* ---- slots and segments ---- */

int
ring_slot_take(struct ring *r, uint32_t owner)
{
    for (uint32_t w = 0; w < WORDS(RING_SLOTS); w++) {
        if (r->used[w] != ~0ull) {
            uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(~r->used[w]);
            r->tables->slots[slot] = (struct ring_slot){.owner = owner};
            /* An heir believes the entry of a slot that is used. */
            KEEP_ORDER();
            r->used[w] |= 1ull << (slot % 64);
            r->n_used++;
            return (int)slot;
        }
    }
    return -1;
}

void
ring_slot_area(struct ring *r, uint32_t slot, uint64_t off, uint64_t len)
{
    r->tables->slots[slot].area_len = len;
    r->tables->slots[slot].area_off = off;
}

void
ring_slot_give(struct ring *r, uint32_t slot)
{
    struct ring_slot *s = &r->tables->slots[slot];

    drop_fd(r, slot);
    if (r->request) {
        struct ring_entry *e = ring_entry(r, slot);
        e->n_fds = 0;
        atomic_store_explicit(&e->released, e->generation,
                              memory_order_release);
    }
    if (s->area_off != 0) {
        ring_area_give(r, s->area_off, s->area_len);
        s->area_off = 0;
    }
    s->owner = RING_NO_OWNER;
    KEEP_ORDER();
    r->used[slot / 64] &= ~(1ull << (slot % 64));
    r->n_used--;
}

static bool
is_run_free(const struct ring *r, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        if ((r->tables->area[i / 64] >> (i % 64)) & 1) {
            return false;
        }
    }
    return true;
}

static void
mark_run(struct ring *r, uint32_t first, uint32_t n, bool used)
{
    /* First: no bit is ever set above it, so clear_area() finds them all. */
    if (used && first + n > r->high_segment) {
        r->high_segment = first + n;
    }
    KEEP_ORDER();
    for (uint32_t i = first; i < first + n; i++) {
        uint64_t *word = &r->tables->area[i / 64];
        uint64_t bit = 1ull << (i % 64);
        r->segments_used += used ? 1u : -1u;
        *word = used ? *word | bit : *word & ~bit;
    }
}

/* The first free segment at or after FROM; RING_SEGMENTS if none. */
static uint32_t
next_free(const struct ring *r, uint32_t from)
{
    for (uint32_t w = from / 64; w < WORDS(RING_SEGMENTS); w++) {
        uint64_t open = ~r->tables->area[w];
        if (w == from / 64) {
            open &= ~0ull << (from % 64);
        }
        if (open != 0) {
            return w * 64 + (uint32_t)__builtin_ctzll(open);
        }
    }
    return RING_SEGMENTS;
}

uint64_t
ring_area_take(struct ring *r, uint64_t len)
{
    uint64_t want = (len + RING_SEGMENT - 1) / RING_SEGMENT;
    uint32_t n = (uint32_t)(want == 0 ? 1 : want);

    if (want > RING_SEGMENTS) {
        return 0;
    }
    for (uint32_t at = next_free(r, 0); at + n <= RING_SEGMENTS;) {
        if (is_run_free(r, at, n)) {
            mark_run(r, at, n, true);
            return RING_AREA_OFF + (uint64_t)at * RING_SEGMENT;
        }
        /* On behind the first used segment in the way. */
        uint32_t used = at;
        while (!((r->tables->area[used / 64] >> (used % 64)) & 1)) {
            used++;
        }
        at = next_free(r, used);
    }
    return 0;
}

void
ring_area_give(struct ring *r, uint64_t off, uint64_t len)
{
    uint64_t n = (len + RING_SEGMENT - 1) / RING_SEGMENT;

    mark_run(r, (uint32_t)((off - RING_AREA_OFF) / RING_SEGMENT),
             (uint32_t)(n == 0 ? 1 : n), false);
}

void
ring_area_claim(struct ring *r, uint64_t off, uint64_t len)
{
    uint64_t n = (len + RING_SEGMENT - 1) / RING_SEGMENT;

    if (off >= RING_AREA_OFF && n <= RING_SEGMENTS) {
        mark_run(r, (uint32_t)((off - RING_AREA_OFF) / RING_SEGMENT),
                 (uint32_t)(n == 0 ? 1 : n), true);
    }
}

void
ring_resume(struct ring *r, ring_is_owned *is_owned, void *arg)
{
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        struct ring_slot *s = &r->tables->slots[slot];
        if (!is_used(r, slot) ||
            (s->owner != RING_NO_OWNER && is_owned(arg, r, s->owner, slot))) {
            continue;
        }
        if (ring_is_in_flight(r, slot)) {
            s->owner = RING_NO_OWNER;
            if (r->request) {
                ring_withdraw(r, slot);
            }
        } else {
            /* Taken and never used, or half given back: its area is the
             * owner's still, or free as soon as nobody claims it. */
            s->area_off = 0;
            ring_slot_give(r, slot);
        }
    }
    if (r->state != RING_READY || !r->reply) {
        return;
    }
    /* What is not in flight was seen; told of or not, it is told again. */
    for (uint32_t w = 0; w < WORDS(RING_SLOTS); w++) {
        uint64_t done = atomic_load(
            &((struct ring_reply_head *)(uintptr_t)r->reply)->done[w]);
        r->seen[w] = (r->seen[w] & r->in_flight[w]) | (done & ~r->in_flight[w]);
    }
    r->flushed = r->pub - 1;
}

void
ring_rebuild(struct ring *r)
{
    clear_area(r);
    r->segments_used = 0;
    r->n_used = 0;
    if (r->state == RING_CLOSED) {
        memset(r->used, 0, sizeof r->used);
        r->high_segment = 0;
        return;
    }
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        if (!is_used(r, slot)) {
            continue;
        }
        const struct ring_slot *s = &r->tables->slots[slot];
        r->n_used++;
        if (s->area_off != 0) {
            ring_area_claim(r, s->area_off, s->area_len);
        }
    }
}

/* ---- publishing ---- */

static void
stamp(struct ring *r, struct ring_entry *e)
{
    e->cookie = r->cookie += 0x9e3779b97f4a7c15ull;
}

int
ring_pass(struct ring *r, uint32_t slot, int fd)
{
    struct ring_entry *e = ring_entry(r, slot);

    /* An heir finds the mark of a note that may have been sent, and sends it
     * once more under the same cookie. */
    if (e->n_fds == 0) {
        stamp(r, e);
        KEEP_ORDER();
        e->n_fds = 1;
        KEEP_ORDER();
    }
    struct door_note note = {
        .kind = DOOR_NOTE_FDS, .seq = slot, .cookie = e->cookie, .n_fds = 1};
    return door_send(r->conn, &note, sizeof note, &fd, 1);
}

void
ring_publish(struct ring *r, uint32_t slot)
{
    struct ring_entry *e = ring_entry(r, slot);
    uint32_t *order = (uint32_t *)(void *)((char *)r->request + RING_ORDER_OFF);

    e->generation++;
    e->generation += e->generation == 0;
    if (e->n_fds == 0) {
        stamp(r, e);
    }
    atomic_store_explicit(&e->withdrawn, 0, memory_order_relaxed);
    order[r->pub % RING_SLOTS] = slot;
    r->in_flight[slot / 64] |= 1ull << (slot % 64);
    KEEP_ORDER();
    r->pub++; /* published; before, all this may be done again */
    KEEP_ORDER();
}

static void
ring_bell(struct ring *r)
{
    struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = r->pub};

    /* EAGAIN: it has been rung often enough. EPIPE: the hang-up tells. */
    door_send(r->conn, &bell, sizeof bell, NULL, 0);
}

void
ring_flush(struct ring *r)
{
    if (r->pub == r->flushed) {
        return;
    }
    /* Full order: the entries before the number, and the number before the look
     * at who waits. */
    atomic_store(&r->request->pub, r->pub);
    if (atomic_load(&((struct ring_reply_head *)(uintptr_t)r->reply)->parked) !=
        0) {
        door_futex_wake(&r->request->pub, 1, true);
    } else if (atomic_load(&((struct ring_reply_head *)(uintptr_t)r->reply)
                                ->attached) == 0) {
        ring_bell(r);
    }
    KEEP_ORDER();
    r->flushed = r->pub; /* the last: told twice does no harm */
}

void
ring_withdraw(struct ring *r, uint32_t slot)
{
    atomic_store(&ring_entry(r, slot)->withdrawn, 1);
    /* Who serves it may be stuck: his parent looks. */
    ring_bell(r);
}

/* ---- answers ---- */

static uint64_t
changed(const struct ring *r, uint32_t w)
{
    if (r->in_flight[w] == 0) {
        return 0;
    }
    return (atomic_load_explicit(
                &((struct ring_reply_head *)(uintptr_t)r->reply)->done[w],
                memory_order_acquire) ^
            r->seen[w]) &
           r->in_flight[w];
}

uint32_t
ring_poll(struct ring *r, ring_answered *answered, void *arg)
{
    uint32_t n = 0;

    if (r->state != RING_READY) {
        return 0;
    }
    for (uint32_t w = 0; w < WORDS(RING_SLOTS); w++) {
        uint64_t bits = changed(r, w);
        while (bits != 0) {
            uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(bits);
            uint64_t bit = bits & -bits;
            bits ^= bit;
            r->in_flight[w] ^= bit; /* taken: ring_resume() finds what is
                                       not in flight, and has an owner */
            KEEP_ORDER();
            r->seen[w] ^= bit;
            answered(arg, r, r->tables->slots[slot].owner, slot);
            n++;
            if (r->state != RING_READY) {
                return n; /* it lied: the loop has given it up */
            }
        }
    }
    return n;
}

bool
ring_has_answer(const struct ring *r)
{
    for (uint32_t w = 0; r->state == RING_READY && w < WORDS(RING_SLOTS); w++) {
        if (changed(r, w) != 0) {
            return true;
        }
    }
    return false;
}

bool
ring_threads(const struct ring *r, uint32_t *p_now, uint32_t *p_most)
{
    if (r->state != RING_READY || !(r->features & DOOR_FEATURE_THREADS)) {
        return false;
    }
    *p_now = atomic_load_explicit(&r->reply->threads, memory_order_relaxed);
    *p_most =
        atomic_load_explicit(&r->reply->threads_high, memory_order_relaxed);
    return true;
}

uint32_t
ring_in_flight(const struct ring *r)
{
    uint32_t n = 0;

    for (uint32_t w = 0; w < WORDS(RING_SLOTS); w++) {
        n += (uint32_t)__builtin_popcountll(r->in_flight[w]);
    }
    return n;
}

/* The calls that nobody has claimed are not told apart from the others: as many
 * as they are may be of those that nobody waits for. */
uint32_t
ring_n_overdue(const struct ring *r, uint64_t now)
{
    uint32_t n = 0, all = ring_in_flight(r), unclaimed = ring_n_unclaimed(r);

    if (!r->request || all <= unclaimed) {
        /* not reached: all wait for a copy: tests/test_queue.py */
        return 0;
    }
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        n += ring_is_in_flight(r, slot) &&
             ring_slot_owner(r, slot) == RING_NO_OWNER &&
             ring_entry(r, slot)->deadline <= now;
    }
    return n < all - unclaimed ? n : all - unclaimed;
}

bool
ring_is_busy(const struct ring *r)
{
    for (uint32_t w = 0; w < WORDS(RING_SLOTS); w++) {
        if (r->in_flight[w] != 0) {
            return true;
        }
    }
    return false;
}

static uint32_t
claimed(const struct ring *r)
{
    return atomic_load_explicit(
        &((struct ring_reply_head *)(uintptr_t)r->reply)->head,
        memory_order_relaxed);
}

bool
ring_is_waiting(const struct ring *r)
{
    return r->state == RING_READY && r->flushed != claimed(r);
}

/* not reached: the worker's: scenarios */
uint32_t
ring_n_unclaimed(const struct ring *r)
{
    uint32_t n = r->state == RING_READY && r->reply ? r->pub - claimed(r) : 0;

    return n <= RING_SLOTS ? n : 0;
}

bool
ring_was_claimed(const struct ring *r, uint32_t number)
{
    return r->reply && (int32_t)(claimed(r) - number) > 0;
}

/* not reached: the worker's: scenarios */
uint32_t
ring_claims(const struct ring *r)
{
    return r->reply ? claimed(r) : 0;
}

void
ring_sleep(struct ring *r)
{
    if (r->state == RING_READY) {
        r->sleep += 2; /* never 0 */
        atomic_store(&r->request->asleep, r->sleep | 1);
        /* Before the look for answers that must follow. */
        atomic_thread_fence(memory_order_seq_cst);
    }
}

void
ring_wake(struct ring *r)
{
    if (r->state == RING_READY) {
        atomic_store_explicit(&r->request->asleep, 0, memory_order_relaxed);
    }
}

void
ring_nudge(struct ring *r, uint64_t now, uint64_t limit_ns)
{
    uint32_t head;

    if (r->state != RING_READY) {
        return;
    }
    head = claimed(r);
    if (head == r->flushed) {
        r->waiting_since = 0;
    } else if (r->waiting_since == 0 || head != r->waiting_head) {
        r->waiting_since = now;
        r->waiting_head = head;
    } else if (now - r->waiting_since >= limit_ns) {
        r->waiting_since = now;
        ring_bell(r);
    }
}

/* ---- one answer ---- */

/* Is there a call that the note's descriptor can be the answer of? A server
 * must not fill our table with others. */
static bool
is_awaited(const struct ring *r, const struct door_note *note)
{
    uint32_t slot = note->seq;

    return slot < RING_SLOTS && is_used(r, slot) &&
           ring_entry(r, slot)->cookie == note->cookie;
}

/* Reads what has come on the connection: descriptors go to their slots (one
 * that nobody fetched makes room), wakes have done their work. */
static void
read_notes(struct ring *r)
{
    /* Bounded: a server may send as fast as we read. */
    for (uint32_t most = 2 * RING_SLOTS; most > 0; most--) {
        struct door_note note;
        int fd = -1;
        size_t n = 1;
        int e = door_receive(r->conn, &note, sizeof note, &fd, &n, NULL,
                             MSG_DONTWAIT);
        if (e == EPROTO) {
            continue; /* not a note; what came with it is closed */
        }
        if (e != 0 && e != EMFILE) {
            break;
        }
        if (e == EMFILE && note.kind == DOOR_NOTE_FDS && is_awaited(r, &note)) {
            /* It kept its word; it is our table that is full. */
            drop_fd(r, note.seq);
            r->tables->slots[note.seq].fd_cookie = note.cookie;
            r->tables->slots[note.seq].fd = FD_NO_ROOM;
        }
        if (n == 0) {
            continue;
        }
        if (note.kind != DOOR_NOTE_FDS || !is_awaited(r, &note)) {
            door_close_foreign(fd);
            continue;
        }
        drop_fd(r, note.seq);
        r->tables->slots[note.seq].fd_cookie = note.cookie;
        r->tables->slots[note.seq].fd = (uint32_t)fd + 1;
    }
    r->wakes = 0;
}

void
ring_woken(struct ring *r)
{
    if (++r->wakes >= RING_WAKES) {
        read_notes(r);
    }
}

/* The descriptor that came for SLOT with COOKIE; it stays the slot's. -EPROTO:
 * none came; -EMFILE: there was no room for it. */
static int
find_fd(struct ring *r, uint32_t slot, uint64_t cookie)
{
    const struct ring_slot *s = &r->tables->slots[slot];

    if (s->fd == 0 || s->fd_cookie != cookie) {
        read_notes(r);
    }
    if (s->fd == 0 || s->fd_cookie != cookie) {
        return -EPROTO;
    }
    return s->fd == FD_NO_ROOM ? -EMFILE : (int)s->fd - 1;
}

void
ring_fd_taken(struct ring *r, uint32_t slot)
{
    r->tables->slots[slot].fd = 0;
}

static bool
in_reply(const struct ring *r, uint64_t off, uint64_t len)
{
    return off <= r->reply_size && len <= r->reply_size - off;
}

static const volatile struct ring_reply *
reply_at(const struct ring *r, uint32_t slot)
{
    return (const struct ring_reply *)((const char *)r->reply +
                                       r->replies_off) +
           slot;
}

uint32_t
ring_taker(const struct ring *r, uint32_t slot, uint64_t since)
{
    if (r->reply == NULL || slot >= RING_SLOTS) {
        return 0;
    }
    const volatile struct ring_reply *a = reply_at(r, slot);
    return a->began >= since ? a->taker : 0;
}

int
ring_result(struct ring *r, uint32_t slot, struct ring_result *result)
{
    const struct ring_entry *e = ring_entry(r, slot);
    struct ring_reply a;

    memcpy(&a, (const void *)reply_at(r, slot),
           offsetof(struct ring_reply, spare));
    if (a.generation != e->generation || a.cookie != e->cookie ||
        !in_reply(r, a.data_off, a.data_len) ||
        !in_reply(r, a.head_off, a.head_len)) {
        return EPROTO;
    }
    *result = (struct ring_result){
        .error = a.error,
        .status = a.status,
        .head = (const char *)r->reply + a.head_off,
        .head_len = a.head_len,
        .data = (const char *)r->reply + a.data_off,
        .data_len = a.data_len,
        .fd = -1,
        .began = a.began,
        .taker = a.taker,
    };
    if (a.error != 0) {
        result->head_len = result->data_len = 0;
        return 0;
    }
    if (a.data_off >= r->heap_off && a.data_off + a.data_len > r->high_reply) {
        r->high_reply = a.data_off + a.data_len;
    }
    if (a.flags & RING_REPLY_FD) {
        result->data = NULL;
        result->fd = find_fd(r, slot, a.cookie);
        result->fd_offset = a.fd_offset;
        result->data_len = a.fd_length;
        if (result->fd < 0) {
            int why = -result->fd;
            result->fd = -1;
            result->head_len = result->data_len = 0;
            result->error = why == EMFILE ? why : 0;
            return why == EMFILE ? 0 : why;
        }
    }
    return 0;
}
