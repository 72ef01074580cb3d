/* The shared heap. Its pages have one word each in a table. The word of the
 * first page of a stretch says what the stretch is: free, a page of blocks of
 * one size, or one large block; the words of its other pages mean nothing, for
 * who reads the table skips them. So a stretch is split by first writing the
 * word of the rest, which nobody sees yet, and then the word before it; two
 * free ones are joined by one store. Blocks of a page are bits of four words,
 * all zero before the page's word names it. Nothing else is kept: no list, no
 * count.
 *
 * The kernel ends a process between two instructions, so program order is all
 * that is needed: stores that must not change places have a compiler's barrier
 * between them, and each is of one aligned word, never torn.
 *
 * Looking for room reads the table from its start: what connections share is
 * taken when a configuration is loaded, not at each request.
 */
#include "loop/shared.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define MAGIC     0x64726873u
#define PAGE      4096u
#define MAP_WORDS 4u /* of 64 bits: pages have at most 256 blocks */

/* A page's word: kind, class of blocks, pages of the stretch. */
enum kind { FREE = 1, BLOCKS = 2, LOCKS = 3, LARGE = 4 };
#define WORD(kind, class, n)                                                   \
    ((uint32_t)(kind) << 28 | (uint32_t)(class) << 20 | (uint32_t)(n))
#define KIND_OF(word)  ((word) >> 28)
#define CLASS_OF(word) ((word) >> 20 & 0xff)
#define PAGES_OF(word) ((word)&0xfffffu)

static const uint16_t sizes[] = {16,  32,  48,  64,  96,   128,  192,
                                 256, 384, 512, 768, 1024, 1360, 2048};

struct step {
    _Atomic uint32_t open, n;
    uint32_t entries[SHARED_STEP_MAX]; /* offset, GIVEN */
};
#define GIVEN 1u /* offsets are multiples of 16 */

struct page {
    _Atomic uint64_t map[MAP_WORDS]; /* bit set: block in use */
    _Atomic uint32_t word;
};

struct shared {
    uint32_t magic, n_pages;
    uint64_t first; /* page 0 lies at this offset */
    struct step step;
    struct page pages[];
};

/* ---- stores that a kill can part ---- */

static void
put32(_Atomic uint32_t *to, uint32_t value)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(to, value, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

static void
put64(_Atomic uint64_t *to, uint64_t value)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(to, value, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

static uint32_t
get32(const _Atomic uint32_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static uint64_t
get64(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

/* ---- places ---- */

static char *
page_at(const struct shared *s, uint32_t page)
{
    return (char *)s + s->first + (size_t)page * PAGE;
}

static uint32_t
blocks_of(uint32_t word)
{
    return PAGE / sizes[CLASS_OF(word)];
}

/* The page that begins the stretch in which PAGE lies. */
static uint32_t
stretch_of(const struct shared *s, uint32_t page)
{
    uint32_t i = 0, n;

    while (i + (n = PAGES_OF(get32(&s->pages[i].word))) <= page) {
        i += n;
    }
    return i;
}

/* A block, and where it is said that it is in use. */
struct place {
    uint32_t page, word; /* of its stretch */
    uint32_t bit;        /* of blocks */
    bool used;
};

/* false: P is the start of no block. */
static bool
place_of(const struct shared *s, const void *p, struct place *out)
{
    size_t off = (size_t)((const char *)p - page_at(s, 0));

    if (!shared_has(s, p)) {
        return false;
    }
    out->page = stretch_of(s, (uint32_t)(off / PAGE));
    out->word = get32(&s->pages[out->page].word);
    off -= (size_t)out->page * PAGE;
    out->bit = 0;
    out->used = KIND_OF(out->word) != FREE;
    if (KIND_OF(out->word) == BLOCKS || KIND_OF(out->word) == LOCKS) {
        uint32_t size = sizes[CLASS_OF(out->word)];
        out->bit = (uint32_t)off / size;
        if (off % size != 0 || out->bit >= blocks_of(out->word)) {
            return false;
        }
        out->used =
            get64(&s->pages[out->page].map[out->bit / 64]) >> (out->bit % 64) &
            1;
        return true;
    }
    return off == 0;
}

/* ---- pages ---- */

/* Writes down that P is about to be taken or given. false: no room for it. */
static bool
note(struct shared *s, const void *p, uint32_t given)
{
    uint32_t n = get32(&s->step.n);

    if (get32(&s->step.open) == 0) {
        return true;
    }
    if (n == SHARED_STEP_MAX) {
        return false;
    }
    s->step.entries[n] = (uint32_t)((const char *)p - page_at(s, 0)) | given;
    put32(&s->step.n, n + 1);
    return true;
}

/* Joins the free stretches that follow I, which is free, to it. The pages of
 * I. */
static uint32_t
join(struct shared *s, uint32_t i)
{
    uint32_t n = PAGES_OF(get32(&s->pages[i].word)), all = n, next;

    while (i + all < s->n_pages &&
           KIND_OF(next = get32(&s->pages[i + all].word)) == FREE) {
        all += PAGES_OF(next);
    }
    if (all != n) {
        put32(&s->pages[i].word, WORD(FREE, 0, all));
    }
    return all;
}

static void
give_pages(struct shared *s, uint32_t page)
{
    uint32_t n = PAGES_OF(get32(&s->pages[page].word));

    put32(&s->pages[page].word, WORD(FREE, 0, n));
}

/* PAGE, if its blocks are all free: a cut, or a full step, may have left it so.
 */
static void
give_if_empty(struct shared *s, uint32_t page)
{
    uint32_t kind = KIND_OF(get32(&s->pages[page].word));
    uint64_t used = 0;

    for (uint32_t k = 0; k < MAP_WORDS; k++) {
        used |= get64(&s->pages[page].map[k]);
    }
    if ((kind == BLOCKS || kind == LOCKS) && used == 0) {
        give_pages(s, page);
    }
}

/* N pages in one stretch that becomes WORD, its map zero; the first, or
 * UINT32_MAX: no room. */
static uint32_t
take_pages(struct shared *s, uint32_t n, uint32_t word)
{
    uint32_t i = 0, here;

    for (; i < s->n_pages; i += here) {
        give_if_empty(s, i);
        uint32_t w = get32(&s->pages[i].word);
        here = PAGES_OF(w);
        if (KIND_OF(w) != FREE) {
            continue;
        }
        here = join(s, i);
        if (here < n) {
            continue;
        }
        if (here > n) {
            put32(&s->pages[i + n].word, WORD(FREE, 0, here - n));
        }
        for (uint32_t k = 0; k < MAP_WORDS; k++) {
            put64(&s->pages[i].map[k], 0);
        }
        if (KIND_OF(word) == LARGE && !note(s, page_at(s, i), 0)) {
            return UINT32_MAX;
        }
        put32(&s->pages[i].word, word);
        return i;
    }
    return UINT32_MAX;
}

/* ---- steps ---- */

/* Gives the block at P, if it is one in use. */
static void
give(struct shared *s, const void *p)
{
    struct place at;

    if (!place_of(s, p, &at) || !at.used) {
        return; /* it was given before we were cut */
    }
    if (KIND_OF(at.word) == LARGE) {
        give_pages(s, at.page);
        return;
    }
    _Atomic uint64_t *map = s->pages[at.page].map;
    put64(&map[at.bit / 64],
          get64(&map[at.bit / 64]) & ~(1ull << (at.bit % 64)));
    give_if_empty(s, at.page);
}

/* Gives what the step took (GIVEN 0) or gave, and forgets the step. */
static void
finish(struct shared *s, uint32_t given)
{
    uint32_t n = MIN_OF(get32(&s->step.n), SHARED_STEP_MAX);

    for (uint32_t i = 0; i < n; i++) {
        uint32_t e = s->step.entries[i];
        if ((e & GIVEN) == given) {
            give(s, page_at(s, 0) + (e & ~GIVEN));
        }
    }
    put32(&s->step.n, 0);
}

void
shared_open(struct shared *s)
{
    put32(&s->step.open, 1);
}

void
shared_close(struct shared *s)
{
    finish(s, GIVEN);
    put32(&s->step.open, 0);
}

void
shared_recover(struct shared *s, bool undo)
{
    if (get32(&s->step.open) == 0) {
        return;
    }
    if (undo) {
        finish(s, 0);
    } else {
        shared_close(s);
    }
}

/* ---- blocks ---- */

struct shared *
shared_make(void *mem, size_t size)
{
    struct shared *s = mem;
    size_t pages = size / PAGE;

    if (pages < 4 || pages > 0xfffff) {
        return NULL;
    }
    size_t first =
        ROUND_UP(sizeof *s + pages * sizeof(struct page), (size_t)PAGE);
    if (first + PAGE > pages * PAGE) {
        return NULL;
    }
    s->first = first;
    s->n_pages = (uint32_t)(pages - first / PAGE);
    put32(&s->pages[0].word, WORD(FREE, 0, s->n_pages));
    s->magic = MAGIC;
    return s;
}

/* A free block of PAGE: its bit; UINT32_MAX: none. */
static uint32_t
free_bit(const struct page *page)
{
    uint32_t n = blocks_of(get32(&page->word));

    for (uint32_t k = 0; k < MAP_WORDS && k * 64 < n; k++) {
        uint64_t free = ~get64(&page->map[k]);
        if (free != 0) {
            uint32_t bit = k * 64 + (uint32_t)__builtin_ctzll(free);
            return bit < n ? bit : UINT32_MAX;
        }
    }
    return UINT32_MAX;
}

static void *
take_block(struct shared *s, uint32_t word)
{
    uint32_t i = 0, bit = UINT32_MAX;

    for (; i < s->n_pages; i += PAGES_OF(get32(&s->pages[i].word))) {
        if (get32(&s->pages[i].word) == word) {
            bit = free_bit(&s->pages[i]);
            if (bit != UINT32_MAX) {
                break;
            }
        }
    }
    if (bit == UINT32_MAX) {
        i = take_pages(s, 1, word);
        if (i == UINT32_MAX) {
            return NULL;
        }
        bit = 0;
    }
    char *p = page_at(s, i) + (size_t)bit * sizes[CLASS_OF(word)];
    if (!note(s, p, 0)) {
        return NULL;
    }
    _Atomic uint64_t *map = &s->pages[i].map[bit / 64];
    put64(map, get64(map) | 1ull << (bit % 64));
    return p;
}

void *
shared_alloc(struct shared *s, size_t size, bool is_lock)
{
    for (uint32_t c = 0; c < ARRAY_LEN(sizes); c++) {
        if (size <= sizes[c]) {
            return take_block(s, WORD(is_lock ? LOCKS : BLOCKS, c, 1));
        }
    }
    size_t n = size / PAGE + (size % PAGE != 0);
    if (n > s->n_pages || is_lock) {
        return NULL;
    }
    uint32_t i = take_pages(s, (uint32_t)n, WORD(LARGE, 0, n));
    return i == UINT32_MAX ? NULL : page_at(s, i);
}

bool
shared_has(const struct shared *s, const void *p)
{
    uintptr_t from = (uintptr_t)page_at(s, 0), at = (uintptr_t)p;

    return at >= from && at - from < (size_t)s->n_pages * PAGE;
}

/* A library that frees twice must not go on. */
static struct place
place_in_use(const struct shared *s, const void *p)
{
    struct place at;

    if (!place_of(s, p, &at) || !at.used) {
        abort();
    }
    return at;
}

void
shared_free(struct shared *s, void *p)
{
    if (p == NULL) {
        return;
    }
    place_in_use(s, p);
    if (get32(&s->step.open) == 0) {
        give(s, p);
    } else {
        /* Too much in one step: it is lost, which harms nobody else. */
        note(s, p, GIVEN);
    }
}

static size_t
room_of(const struct place *at)
{
    return KIND_OF(at->word) == LARGE ? (size_t)PAGES_OF(at->word) * PAGE
                                      : sizes[CLASS_OF(at->word)];
}

size_t
shared_room(const struct shared *s, const void *p)
{
    struct place at = place_in_use(s, p);

    return room_of(&at);
}

void *
shared_realloc(struct shared *s, void *p, size_t size)
{
    if (p == NULL) {
        return shared_alloc(s, size, false);
    }
    struct place at = place_in_use(s, p);
    size_t room = room_of(&at);
    if (size <= room && size > room / 4) {
        return p;
    }
    void *q = shared_alloc(s, size, KIND_OF(at.word) == LOCKS);
    if (q) {
        memcpy(q, p, MIN_OF(size, room));
        shared_free(s, p);
    }
    return q;
}

/* ---- looking at all ---- */

void
shared_each_lock(struct shared *s, void (*anew)(void *arg, void *lock),
                 void *arg)
{
    uint32_t w;

    for (uint32_t i = 0; i < s->n_pages; i += PAGES_OF(w)) {
        w = get32(&s->pages[i].word);
        for (uint32_t b = 0; KIND_OF(w) == LOCKS && b < blocks_of(w); b++) {
            if (get64(&s->pages[i].map[b / 64]) >> (b % 64) & 1) {
                anew(arg, page_at(s, i) + (size_t)b * sizes[CLASS_OF(w)]);
            }
        }
    }
}

static uint32_t
used_blocks(const struct page *page)
{
    uint32_t n = 0;

    for (uint32_t k = 0; k < MAP_WORDS; k++) {
        n += (uint32_t)__builtin_popcountll(get64(&page->map[k]));
    }
    return n;
}

size_t
shared_live(const struct shared *s)
{
    size_t live = 0;
    uint32_t w;

    for (uint32_t i = 0; i < s->n_pages; i += PAGES_OF(w)) {
        w = get32(&s->pages[i].word);
        if (KIND_OF(w) == LARGE) {
            live += (size_t)PAGES_OF(w) * PAGE;
        } else if (KIND_OF(w) != FREE) {
            live += (size_t)used_blocks(&s->pages[i]) * sizes[CLASS_OF(w)];
        }
    }
    return live;
}

bool
shared_is_sound(const struct shared *s)
{
    uint32_t i = 0, w;

    for (; i < s->n_pages; i += PAGES_OF(w)) {
        w = get32(&s->pages[i].word);
        if (PAGES_OF(w) == 0 || KIND_OF(w) < FREE || KIND_OF(w) > LARGE) {
            return false;
        }
        if (KIND_OF(w) != BLOCKS && KIND_OF(w) != LOCKS) {
            continue;
        }
        if (PAGES_OF(w) != 1 || CLASS_OF(w) >= ARRAY_LEN(sizes)) {
            return false;
        }
        for (uint32_t b = blocks_of(w); b < MAP_WORDS * 64; b++) {
            if (get64(&s->pages[i].map[b / 64]) >> (b % 64) & 1) {
                return false;
            }
        }
    }
    return s->magic == MAGIC && i == s->n_pages;
}
