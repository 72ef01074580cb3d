/* What a heap should hold, kept the simple way: a table of blocks, each filled
 * with one value. For tests and the fuzzer; lies wherever its owner puts it. */
#pragma once

#include <stdbool.h>
#include <string.h>

#include "base/fuzz.h"

#define MODEL_BLOCKS 48

struct model {
    struct {
        unsigned char *p;
        uint32_t len;
        uint8_t fill, is_lock;
    } blocks[MODEL_BLOCKS];
};

/* The heap under test. */
struct model_heap {
    void *(*alloc)(void *heap, size_t size, bool is_lock);
    void *(*realloc)(void *heap, void *p, size_t size);
    void (*free)(void *heap, void *p);
    size_t (*room)(void *heap, const void *p);
    void *heap;
    bool torn; /* a cut may have left other bytes in the blocks */
};

/* Every block has its bytes, lies well, and overlaps no other. */
static inline void
model_check(const struct model *m)
{
    for (int i = 0; i < MODEL_BLOCKS; i++) {
        const unsigned char *p = m->blocks[i].p;
        if (p == NULL) {
            continue;
        }
        MUST((uintptr_t)p % 16 == 0);
        for (uint32_t k = 0; k < m->blocks[i].len; k++) {
            MUST(p[k] == m->blocks[i].fill);
        }
        for (int j = 0; j < i; j++) {
            const unsigned char *q = m->blocks[j].p;
            MUST(q == NULL || p + m->blocks[i].len <= q ||
                 q + m->blocks[j].len <= p);
        }
    }
}

static inline void
model_set(struct model *m, int i, void *p, uint32_t len, uint8_t fill)
{
    m->blocks[i].p = p;
    m->blocks[i].len = len;
    m->blocks[i].fill = fill;
    if (p) {
        memset(p, fill, len);
    }
}

/* Changes block WHICH: one that is not there is taken with LEN bytes; one that
 * is there is given, or gets LEN bytes, as HOW says. */
static inline void
model_step(struct model *m, const struct model_heap *h, unsigned int which,
           unsigned int how, uint32_t len, uint8_t fill)
{
    int i = (int)(which % MODEL_BLOCKS);
    unsigned char *p = m->blocks[i].p;

    if (p == NULL) {
        m->blocks[i].is_lock = how % 5 == 0 && len <= 2048;
        p = h->alloc(h->heap, len, m->blocks[i].is_lock);
        MUST(p == NULL || h->room(h->heap, p) >= len);
        model_set(m, i, p, len, fill);
    } else if (how % 2) {
        m->blocks[i].p = NULL;
        h->free(h->heap, p);
    } else {
        unsigned char *q = h->realloc(h->heap, p, len);
        if (q) {
            uint32_t kept = len < m->blocks[i].len ? len : m->blocks[i].len;
            for (uint32_t k = 0; k < kept; k++) {
                MUST(h->torn || q[k] == m->blocks[i].fill);
            }
            model_set(m, i, q, len, fill);
        }
    }
}

/* What is in it, whatever the addresses. */
static inline uint64_t
model_digest(const struct model *m)
{
    uint64_t d = 1469598103934665603ull;

    for (int i = 0; i < MODEL_BLOCKS; i++) {
        d = (d ^ (m->blocks[i].p ? m->blocks[i].len + 1 : 0)) * 1099511628211u;
        d = (d ^ (m->blocks[i].p ? m->blocks[i].fill : 0)) * 1099511628211u;
    }
    return d;
}

/* A small generator, so that a run is its seed. */
static inline uint32_t
model_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}
