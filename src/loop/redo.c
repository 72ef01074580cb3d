/* The word `open` decides for all: for the heap, which is loaded or left, and
 * for the shared heap's step, which is undone or finished. See redo.h. */
#include "loop/redo.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "loop/shared.h"

/* A kill only parts instructions: a compiler's barrier is enough. */
static void
decide(struct redo *r, uint32_t open)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&r->open, open, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

void
redo_begin(struct redo *r, const struct heap *h, struct shared *s,
           const void *note, size_t len)
{
    assert(atomic_load(&r->open) == 0 && len <= sizeof r->note);
    memcpy(r->note, note, len);
    r->len = (uint32_t)heap_save(h, r->saved, sizeof r->saved);
    assert(r->len > 0);
    if (s) {
        shared_open(s);
    }
    decide(r, 1);
}

void
redo_end(struct redo *r, struct shared *s)
{
    decide(r, 0);
    if (s) {
        shared_close(s);
    }
}

struct heap *
redo_recover(struct redo *r, struct shared *s)
{
    bool open = atomic_load(&r->open) != 0;

    if (s) {
        shared_recover(s, open);
    }
    return open ? heap_load(r->saved) : NULL;
}

void
redo_wipe(struct redo *r)
{
    assert(atomic_load(&r->open) == 0);
    explicit_bzero(r->saved, r->len);
    r->len = 0;
}
