/* A connection's heap. In each run lie blocks without a gap: a word (size and
 * two flags), then the bytes; a free block has its links there, and its size
 * again in its last word, so that neighbours join. Free blocks are listed by
 * size, four lists for each doubling, and a bit says which lists are filled.
 *
 * A library's live state is a fraction of what it touched during a handshake,
 * so what is saved is the blocks in use, in stretches; what lies between two
 * stretches is one free block again when they are loaded. The lists are made
 * anew then, and nothing of them is saved.
 *
 * Rejected: a block from the end only (never reusing any), which copies three
 * times as much at each call; saving pages that were written, which asks the
 * kernel at each call; classes of one size a page, which spread a connection
 * over twice the pages.
 */
#include "loop/heap.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define MAGIC     0x70616568u /* "heap" */
#define RUN_MAGIC 0x6e757268u
#define RUN_SIZE  ((size_t)ARENA_RUN * ARENA_SEGMENT)
#define CLASSES   48u
#define TRIES     8 /* blocks looked at in the list of the size itself */

#define USED      1u /* this block */
#define PREV_USED 2u /* and the one before it */
#define FLAGS     15u
#define BLOCK_MIN 32u

struct block {
    uint64_t word;
    struct block *next, *prev; /* if it is free */
};

/* Where each run begins. Blocks begin 8 bytes below a multiple of 16. */
struct run {
    uint32_t magic, index;
    struct heap *heap;
};

struct heap {
    struct run run; /* its first */
    uint32_t magic, n_runs;
    uint32_t segs[HEAP_RUNS];
    char *at[HEAP_RUNS];
    char *touched[HEAP_RUNS]; /* in each run: no block was in use behind it */
    size_t live;
    uint64_t filled; /* bit c: free[c] is not empty */
    struct block *free[CLASSES];
};

#define FIRST_IN_RUN  (ROUND_UP(sizeof(struct run), 16) + 8)
#define FIRST_IN_HEAP (ROUND_UP(sizeof(struct heap), 16) + 8)
_Static_assert(FIRST_IN_HEAP + HEAP_BLOCK_MAX + 64 <= RUN_SIZE, "it fits");

/* A stretch of bytes as it is saved; N 0: the end. */
struct stretch {
    char *at;
    size_t n;
};

static size_t
size_of(const struct block *b)
{
    return b->word & ~(uint64_t)FLAGS;
}

static struct block *
after(struct block *b)
{
    return (struct block *)((char *)b + size_of(b));
}

static struct block *
first_of(const struct heap *h, uint32_t run)
{
    return (struct block *)(h->at[run] +
                            (run == 0 ? FIRST_IN_HEAP : FIRST_IN_RUN));
}

/* The word that ends a run: a block in use, of no size. */
static struct block *
end_of(const struct heap *h, uint32_t run)
{
    return (struct block *)(h->at[run] + RUN_SIZE - sizeof(uint64_t));
}

static unsigned int
class_of(size_t size)
{
    unsigned int bit = 63u - (unsigned int)__builtin_clzll(size);

    return (bit - 5) * 4 + (unsigned int)(size >> (bit - 2) & 3);
}

/* ---- lists of free blocks ---- */

static void
put_in_list(struct heap *h, struct block *b)
{
    unsigned int c = class_of(size_of(b));

    b->prev = NULL;
    b->next = h->free[c];
    if (b->next) {
        b->next->prev = b;
    }
    h->free[c] = b;
    h->filled |= 1ull << c;
}

static void
take_from_list(struct heap *h, struct block *b)
{
    unsigned int c = class_of(size_of(b));

    if (b->next) {
        b->next->prev = b->prev;
    }
    if (b->prev) {
        b->prev->next = b->next;
    } else {
        h->free[c] = b->next;
        if (b->next == NULL) {
            h->filled &= ~(1ull << c);
        }
    }
}

/* Makes the SIZE bytes at B a free block. Its neighbours are in use. */
static void
make_free(struct heap *h, struct block *b, size_t size)
{
    b->word = size | PREV_USED;
    *(uint64_t *)((char *)b + size - sizeof(uint64_t)) = size;
    after(b)->word &= ~(uint64_t)PREV_USED;
    put_in_list(h, b);
}

static struct block *
find(const struct heap *h, size_t size)
{
    unsigned int c = class_of(size);
    struct block *b = h->free[c];

    for (int i = 0; b && i < TRIES; i++, b = b->next) {
        if (size_of(b) >= size) {
            return b;
        }
    }
    uint64_t larger = h->filled & ~((2ull << c) - 1);
    return larger ? h->free[__builtin_ctzll(larger)] : NULL;
}

/* ---- runs ---- */

static void
add_run(const struct arena *a, struct heap *h, uint32_t seg)
{
    uint32_t i = h->n_runs;
    struct run *r = arena_at(a, seg);

    r->magic = RUN_MAGIC;
    r->index = i;
    r->heap = h;
    h->segs[i] = seg;
    h->at[i] = h->touched[i] = (char *)r;
    h->n_runs = i + 1;
    end_of(h, i)->word = USED;
    make_free(h, first_of(h, i),
              (size_t)((char *)end_of(h, i) - (char *)first_of(h, i)));
}

uint32_t
heap_make(struct arena *a)
{
    uint32_t seg = arena_take_run(a);

    if (seg == ARENA_NONE) {
        return ARENA_NONE;
    }
    struct heap *h = arena_at(a, seg);
    memset(h, 0, sizeof *h);
    h->magic = MAGIC;
    add_run(a, h, seg);
    return seg;
}

struct heap *
heap_at(const struct arena *a, uint32_t seg)
{
    if (seg >= a->n_segs || !arena_is_run(a, seg) ||
        (seg - a->n_singles) % ARENA_RUN != 0) {
        return NULL;
    }
    struct heap *h = arena_at(a, seg);
    if (h->run.magic != RUN_MAGIC || h->run.heap != h || h->magic != MAGIC ||
        h->n_runs == 0 || h->n_runs > HEAP_RUNS) {
        return NULL;
    }
    return h;
}

struct heap *
heap_of(const struct arena *a, const void *p)
{
    uintptr_t runs = (uintptr_t)arena_at(a, a->n_singles);
    uintptr_t end = (uintptr_t)arena_at(a, a->n_segs), at = (uintptr_t)p;

    if (at < runs || at >= end) {
        return NULL;
    }
    const struct run *r =
        (const struct run *)(runs + (at - runs) / RUN_SIZE * RUN_SIZE);
    return r->magic == RUN_MAGIC ? r->heap : NULL;
}

/* ---- blocks ---- */

/* Runs are aligned to each other. */
static struct run *
run_of(const struct heap *h, struct block *b)
{
    return (struct run *)((char *)b - ((uintptr_t)b - (uintptr_t)h) % RUN_SIZE);
}

/* Takes SIZE bytes of the free block B; the rest stays free. */
static void *
use(struct heap *h, struct block *b, size_t size)
{
    size_t all = size_of(b);

    take_from_list(h, b);
    if (all - size >= BLOCK_MIN) {
        b->word = size | USED | PREV_USED;
        make_free(h, after(b), all - size);
    } else {
        size = all;
        b->word = size | USED | PREV_USED;
        after(b)->word |= PREV_USED;
    }
    h->live += size;
    uint32_t run = run_of(h, b)->index;
    h->touched[run] = MAX_OF(h->touched[run], (char *)b + size);
    return &b->next;
}

static size_t
block_size(size_t size)
{
    return MAX_OF(ROUND_UP(size + sizeof(uint64_t), 16), BLOCK_MIN);
}

void *
heap_alloc(struct arena *a, struct heap *h, size_t size)
{
    if (size > HEAP_BLOCK_MAX) {
        return NULL;
    }
    size = block_size(size);
    struct block *b = find(h, size);
    if (b == NULL) {
        uint32_t seg = h->n_runs < HEAP_RUNS ? arena_take_run(a) : ARENA_NONE;
        if (seg == ARENA_NONE) {
            return NULL;
        }
        add_run(a, h, seg);
        b = first_of(h, h->n_runs - 1);
    }
    return use(h, b, size);
}

static struct block *
block_of(const void *p)
{
    return (struct block *)((char *)p - offsetof(struct block, next));
}

/* A library that frees twice, or writes past a block, must not go on: what it
 * would send could be somebody else's. */
static struct block *
block_in_use(void *p)
{
    struct block *b = block_of(p);

    if ((uintptr_t)p % 16 != 0 || (b->word & USED) == 0 ||
        size_of(b) < BLOCK_MIN || size_of(b) > RUN_SIZE ||
        (after(b)->word & PREV_USED) == 0) {
        abort();
    }
    return b;
}

void
heap_free(struct heap *h, void *p)
{
    if (p == NULL) {
        return;
    }
    struct block *b = block_in_use(p), *next = after(b);
    size_t size = size_of(b);

    h->live -= size;
    if ((next->word & USED) == 0) {
        take_from_list(h, next);
        size += size_of(next);
    }
    if ((b->word & PREV_USED) == 0) {
        size_t before = ((uint64_t *)b)[-1];
        b = (struct block *)((char *)b - before);
        take_from_list(h, b);
        size += before;
    }
    make_free(h, b, size);
}

size_t
heap_room(const void *p)
{
    return size_of(block_of(p)) - sizeof(uint64_t);
}

void *
heap_realloc(struct arena *a, struct heap *h, void *p, size_t size)
{
    if (p == NULL) {
        return heap_alloc(a, h, size);
    }
    block_in_use(p);
    size_t room = heap_room(p);
    if (size <= room && (room < 256 || size > room / 2)) {
        return p;
    }
    void *q = heap_alloc(a, h, size);
    if (q) {
        memcpy(q, p, MIN_OF(size, room));
        heap_free(h, p);
    }
    return q;
}

/* ---- the whole ---- */

void
heap_drop(struct arena *a, struct heap *h)
{
    /* Keys lie there. The first run, which knows the others, goes last. */
    for (uint32_t i = h->n_runs; i-- > 0;) {
        uint32_t seg = h->segs[i];
        char *at = h->at[i];
        explicit_bzero(
            at, MIN_OF((size_t)(h->touched[i] - at) + BLOCK_MIN, RUN_SIZE));
        arena_give(a, seg);
    }
}

void
heap_claim(struct arena *a, const struct heap *h)
{
    for (uint32_t i = 0; i < h->n_runs; i++) {
        arena_claim(a, h->segs[i]);
    }
}

size_t
heap_live(const struct heap *h)
{
    return h->live;
}

/* ---- saving and loading ---- */

/* Saved as: stretches of blocks in use, with the bytes that stand before the
 * first block of each run; at the end a stretch of none. */

struct pen {
    char *at;
    size_t left;
    bool full;
};

static void
put(struct pen *to, const void *bytes, size_t n)
{
    if (to->full || n > to->left) {
        to->full = true;
        return;
    }
    memcpy(to->at, bytes, n);
    to->at += n;
    to->left -= n;
}

static void
put_stretch(struct pen *to, char *at, size_t n)
{
    const struct stretch s = {at, n};

    put(to, &s, sizeof s);
    put(to, at, n);
}

static void
save_run(const struct heap *h, uint32_t run, struct pen *to)
{
    struct block *b = first_of(h, run), *end = end_of(h, run);
    char *from = h->at[run];

    for (; b != end; b = after(b)) {
        if ((b->word & USED) == 0) {
            if ((char *)b > from) {
                put_stretch(to, from, (size_t)((char *)b - from));
            }
            from = (char *)after(b);
        }
    }
    put_stretch(to, from, (size_t)((char *)end - from) + sizeof end->word);
}

size_t
heap_save(const struct heap *h, void *to, size_t size)
{
    struct pen pen = {to, size, false};
    const struct stretch none = {NULL, 0};

    for (uint32_t i = 0; i < h->n_runs; i++) {
        save_run(h, i, &pen);
    }
    put(&pen, &none, sizeof none);
    return pen.full ? 0 : size - pen.left;
}

/* Puts back the bytes of all stretches. The heap; its lists mean nothing. */
static struct heap *
load_stretches(const char *from)
{
    struct stretch s;

    memcpy(&s, from, sizeof s);
    struct heap *h = (struct heap *)s.at; /* the first run begins with it */
    while (s.n > 0) {
        from += sizeof s;
        memcpy(s.at, from, s.n);
        from += s.n;
        memcpy(&s, from, sizeof s);
    }
    return h;
}

struct heap *
heap_load(const void *from)
{
    struct heap *h = load_stretches(from);
    const char *at = from;
    struct stretch s, t;

    memset(h->free, 0, sizeof h->free);
    h->filled = 0;
    memcpy(&s, at, sizeof s);
    while (s.n > 0) {
        at += sizeof s + s.n;
        memcpy(&t, at, sizeof t);
        char *end = s.at + s.n;
        /* A stretch ends its run, or a free block follows, and the next. */
        if (((uintptr_t)end - (uintptr_t)h) % RUN_SIZE != 0) {
            make_free(h, (struct block *)end, (size_t)(t.at - end));
        }
        s = t;
    }
    return h;
}

/* ---- for tests ---- */

static bool
is_listed(const struct heap *h, const struct block *b)
{
    const struct block *l = h->free[class_of(size_of(b))];

    while (l && l != b) {
        l = l->next;
    }
    return l != NULL;
}

/* How many free blocks there are in RUN; -1: they are wrong. */
static int
judge_run(const struct heap *h, uint32_t run, size_t *p_live)
{
    struct block *b = first_of(h, run), *end = end_of(h, run);
    uint64_t before = PREV_USED;
    int n_free = 0;

    while (b < end) {
        size_t size = size_of(b);
        if ((b->word & PREV_USED) != before || size < BLOCK_MIN ||
            size > (size_t)((char *)end - (char *)b)) {
            return -1;
        }
        if (b->word & USED) {
            *p_live += size;
            before = PREV_USED;
        } else {
            if (before == 0 || ((uint64_t *)after(b))[-1] != size ||
                !is_listed(h, b)) {
                return -1;
            }
            n_free++;
            before = 0;
        }
        b = after(b);
    }
    return b == end && end->word == (USED | before) ? n_free : -1;
}

bool
heap_is_sound(const struct arena *a, const struct heap *h)
{
    size_t live = 0;
    int n_free = 0, n_listed = 0;

    for (uint32_t i = 0; i < h->n_runs; i++) {
        const struct run *r = arena_at(a, h->segs[i]);
        int n = judge_run(h, i, &live);
        if (n < 0 || (const char *)r != h->at[i] || r->magic != RUN_MAGIC ||
            r->index != i || r->heap != h) {
            return false;
        }
        n_free += n;
    }
    for (unsigned int c = 0; c < CLASSES; c++) {
        if ((h->filled >> c & 1) != (h->free[c] != NULL)) {
            return false;
        }
        for (const struct block *b = h->free[c]; b; b = b->next) {
            n_listed++;
        }
    }
    return n_free == n_listed && live == h->live;
}
