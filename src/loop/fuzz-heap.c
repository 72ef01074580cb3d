/* The heaps for libraries: each four bytes are one thing that a library, or the
 * worker around it, does with them. A model says which blocks there are and
 * what stands in them; a cut call must leave what was there before it. */
#include "base/fuzz.h"

#include "base/util.h"
#include "loop/arena.h"
#include "loop/heap.h"
#include "loop/redo.h"
#include "loop/shared.h"

#define BLOCKS       24u
#define SEGMENTS     1024u /* 16 runs, of which a heap has 8 */
#define SHARED_PAGES 24u

enum action {
    TAKE,
    RESIZE,
    GIVE,
    WRITE,
    BEGIN,
    FINISH,
    CUT,
    CUT_TWICE,
    REBUILD,
    RENEW,
    LOCKS,
    ACTIONS,
};

struct block {
    unsigned char *p; /* NULL: none */
    size_t size;
    unsigned char fill;
    bool is_lock;
};

struct model {
    struct block own[BLOCKS], common[BLOCKS]; /* of heap and shared heap */
};

static struct arena arena;
static struct redo redo;
static _Alignas(4096) unsigned char memory[SHARED_PAGES * 4096];

struct play {
    struct heap *heap;
    uint32_t seg;
    struct shared *shared;
    struct model now, before; /* BEFORE the call that is open */
    bool is_open;
    unsigned char note;
};

static bool
is_filled(const struct block *b, size_t size)
{
    return size == 0 ||
           (b->p[0] == b->fill && memcmp(b->p, b->p + 1, size - 1) == 0);
}

static bool
is_apart(const struct block *b, const struct block *all)
{
    for (uint32_t k = 0; k < BLOCKS; k++) {
        if (all[k].p != NULL && &all[k] != b && all[k].p < b->p + b->size &&
            b->p < all[k].p + all[k].size) {
            return false;
        }
    }
    return true;
}

static size_t
check_all(const struct play *y, const struct block *all, bool is_common)
{
    size_t sum = 0;

    for (uint32_t k = 0; k < BLOCKS; k++) {
        const struct block *b = &all[k];

        if (b->p == NULL) {
            continue;
        }
        MUST((uintptr_t)b->p % 16 == 0 && is_apart(b, all));
        MUST(is_filled(b, b->size));
        MUST(heap_of(&arena, b->p) == (is_common ? NULL : y->heap));
        MUST(shared_has(y->shared, b->p) == is_common);
        MUST((is_common ? shared_room(y->shared, b->p) : heap_room(b->p)) >=
             b->size);
        sum += b->size;
    }
    return sum;
}

static void
check(const struct play *y)
{
    size_t own = check_all(y, y->now.own, false);
    size_t common = check_all(y, y->now.common, true);

    MUST(heap_is_sound(&arena, y->heap));
    MUST(shared_is_sound(y->shared));
    MUST(heap_live(y->heap) >= own && shared_live(y->shared) >= common);
    MUST(own > 0 || heap_live(y->heap) < 4096);
    MUST(heap_at(&arena, y->seg) == y->heap);
}

/* Sizes from one byte of which small ones are many and one is too large. */
static size_t
size_of(uint8_t a, uint8_t b)
{
    return a < 128 ? a * 4u : a < 224 ? a * 16u + b : (a - 223) * 2048u + b;
}

static void
resize(struct play *y, struct block *b, bool is_common, size_t size)
{
    size_t kept = b->p != NULL ? MIN_OF(b->size, size) : 0;
    unsigned char *p = is_common ? shared_realloc(y->shared, b->p, size)
                                 : heap_realloc(&arena, y->heap, b->p, size);

    if (p == NULL) {
        MUST(size > HEAP_BLOCK_MAX || is_common || b->p != NULL ||
             heap_live(y->heap) > HEAP_BLOCK_MAX);
        return;
    }
    b->p = p;
    b->size = size;
    MUST(is_filled(b, kept));
    memset(p, b->fill, size);
}

static void
take(struct play *y, struct block *b, bool is_common, size_t size, bool lock)
{
    if (b->p != NULL) {
        return;
    }
    b->is_lock = lock;
    b->p = !is_common ? heap_alloc(&arena, y->heap, size)
                      : shared_alloc(y->shared, size, lock);
    b->size = size;
    if (b->p != NULL) {
        memset(b->p, b->fill, size);
    }
}

static void
give(struct play *y, struct block *b, bool is_common)
{
    if (is_common) {
        shared_free(y->shared, b->p);
    } else {
        heap_free(y->heap, b->p);
    }
    b->p = NULL;
}

/* As a worker does when it begins, and an heir when it takes over. */
static void
rebuild(const struct play *y)
{
    arena_forget(&arena);
    heap_claim(&arena, y->heap);
    arena_settle(&arena);
    MUST(arena.in_use >= 1 && arena.in_use <= HEAP_RUNS);
}

static void
begin(struct play *y, unsigned char note)
{
    if (y->is_open) {
        return;
    }
    redo_begin(&redo, y->heap, y->shared, &note, 1);
    y->note = note;
    y->before = y->now;
    y->is_open = true;
}

static void
finish(struct play *y)
{
    if (y->is_open) {
        redo_end(&redo, y->shared);
        y->is_open = false;
        redo_wipe(&redo);
    }
}

static void
cut(struct play *y, int times)
{
    for (; times > 0; times--) {
        const struct heap *h = redo_recover(&redo, y->shared);

        MUST(h == (y->is_open ? y->heap : NULL));
        MUST(!y->is_open || redo.note[0] == y->note);
    }
    if (y->is_open) {
        y->now = y->before;
    }
    rebuild(y);
}

/* Another connection's heap. */
static void
renew(struct play *y)
{
    if (y->is_open) {
        return;
    }
    heap_drop(&arena, y->heap);
    for (uint32_t k = 0; k < BLOCKS; k++) {
        struct block *b = &y->now.own[k];

        b->fill = 0;
        MUST(b->p == NULL || is_filled(b, b->size));
        b->p = NULL;
    }
    MUST(arena.in_use == 0);
    y->seg = heap_make(&arena);
    MUST(y->seg != ARENA_NONE);
    y->heap = heap_at(&arena, y->seg);
    MUST(y->heap != NULL);
}

static void
count_lock(void *arg, void *lock)
{
    struct play *y = arg;

    MUST(shared_has(y->shared, lock));
    for (uint32_t k = 0; k < BLOCKS; k++) {
        struct block *b = &y->now.common[k];

        MUST(b->p != lock || b->is_lock);
    }
}

static void
act(struct play *y, const uint8_t *op)
{
    bool is_common = op[0] & 128;
    uint32_t k = op[1] % BLOCKS;
    struct block *b = is_common ? &y->now.common[k] : &y->now.own[k];

    switch ((enum action)(op[0] % ACTIONS)) {
    case TAKE:
        b->fill = b->p != NULL ? b->fill : (unsigned char)(op[3] | 1);
        take(y, b, is_common, size_of(op[2], op[3]), op[1] & 128);
        break;
    case RESIZE:
        b->is_lock = b->is_lock && b->p != NULL;
        resize(y, b, is_common, size_of(op[2], op[3]));
        break;
    case GIVE:
        give(y, b, is_common);
        break;
    case WRITE: /* what stands in shared blocks is not undone */
        if (b->p != NULL && !(is_common && y->is_open)) {
            b->fill = op[2];
            memset(b->p, b->fill, b->size);
        }
        break;
    case BEGIN:
        begin(y, op[1]);
        break;
    case FINISH:
        finish(y);
        break;
    case CUT:
        cut(y, 1);
        break;
    case CUT_TWICE:
        cut(y, 2);
        break;
    case REBUILD:
        rebuild(y);
        break;
    case RENEW:
        renew(y);
        break;
    case LOCKS:
        shared_each_lock(y->shared, count_lock, y);
        break;
    case ACTIONS:
        break;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct redo closed;
    struct play y = {0};

    if (arena.base == NULL) {
        MUST(arena_make(&arena, 4096, SEGMENTS) == 0);
    }
    arena_forget(&arena);
    arena_settle(&arena);
    memcpy(&redo, &closed, offsetof(struct redo, saved));
    memset(memory, 0, sizeof memory);
    y.shared = shared_make(memory, sizeof memory);
    y.seg = heap_make(&arena);
    y.heap = heap_at(&arena, y.seg);
    MUST(y.shared != NULL && y.heap != NULL);
    for (size_t i = 0; i + 4 <= size; i += 4) {
        act(&y, data + i);
        check(&y);
    }
    cut(&y, 1);
    finish(&y);
    check(&y);
    for (uint32_t k = 0; k < BLOCKS; k++) {
        give(&y, &y.now.common[k], true);
    }
    MUST(shared_live(y.shared) == 0);
    renew(&y);
    heap_drop(&arena, y.heap);
    return 0;
}
