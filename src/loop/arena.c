/* The arena; see arena.h. Singles and runs lie apart, so neither breaks up the
 * other: singles from the start, runs behind them.
 *
 * The stacks of free segments have room for every segment but memory only as
 * far as they were used: they are never cleared by writing. A worker that has
 * served little is small. */
#include "loop/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

#define TRIM_MAX 2048u /* segments at once: some milliseconds at the most */

int
arena_make(struct arena *a, size_t head, uint32_t n_segments)
{
    memset(a, 0, sizeof *a);
    n_segments = n_segments / (4 * ARENA_RUN) * (4 * ARENA_RUN);
    a->first =
        (uint32_t)((head + ARENA_SEGMENT - 1) / ARENA_SEGMENT * ARENA_SEGMENT);
    a->n_segs = n_segments;
    a->n_singles = n_segments / 4 * 3;
    a->size = a->first + (size_t)n_segments * ARENA_SEGMENT;
    a->fd = memfd_create("cardea-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (a->fd < 0) {
        return errno;
    }
    if (ftruncate(a->fd, (off_t)a->size) < 0 ||
        fcntl(a->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
            0) {
        goto fail;
    }
    a->base = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
    if (a->base == MAP_FAILED) {
        goto fail;
    }
    size_t n_runs = (n_segments - a->n_singles) / ARENA_RUN;
    a->lists_size = (a->n_singles + n_runs) * sizeof(uint32_t);
    a->singles.free = mmap(NULL, a->lists_size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (a->singles.free == MAP_FAILED) {
        munmap(a->base, a->size);
        errno = ENOMEM;
        goto fail;
    }
    a->runs.free = a->singles.free + a->n_singles;
    a->next_run = a->n_singles;
    return 0;
fail : {
    int e = errno;
    close(a->fd);
    memset(a, 0, sizeof *a);
    a->fd = -1;
    return e;
}
}

void
arena_free(struct arena *a)
{
    if (a->base) {
        munmap(a->base, a->size);
        munmap(a->singles.free, a->lists_size);
        close(a->fd);
    }
    memset(a, 0, sizeof *a);
    a->fd = -1;
}

static uint32_t
pop(struct arena_pool *p)
{
    uint32_t seg = p->free[--p->n_free];

    if (p->n_free < p->low) {
        p->low = p->n_free;
    }
    return seg;
}

uint32_t
arena_take(struct arena *a)
{
    uint32_t seg = ARENA_NONE;

    if (a->singles.n_free > 0) {
        seg = pop(&a->singles);
    } else if (a->next_single < a->n_singles) {
        seg = a->next_single++;
    }
    a->in_use += seg != ARENA_NONE;
    return seg;
}

uint32_t
arena_take_run(struct arena *a)
{
    uint32_t seg = ARENA_NONE;

    if (a->runs.n_free > 0) {
        seg = pop(&a->runs);
    } else if (a->next_run < a->n_segs) {
        seg = a->next_run;
        a->next_run += ARENA_RUN;
    }
    a->in_use += seg != ARENA_NONE;
    return seg;
}

bool
arena_is_run(const struct arena *a, uint32_t seg)
{
    return seg >= a->n_singles;
}

void
arena_give(struct arena *a, uint32_t seg)
{
    struct arena_pool *p = arena_is_run(a, seg) ? &a->runs : &a->singles;

    p->free[p->n_free++] = seg;
    a->in_use--;
}

/* ---- making the free lists anew ---- */

/* While claiming, both stacks serve as marks. */

void
arena_forget(struct arena *a)
{
    /* Zeroes, and no memory until they are written. It cannot fail for pages
     * that are private and ours; if it did, writing does the same. */
    if (madvise(a->singles.free, a->lists_size, MADV_DONTNEED) < 0) {
        memset(a->singles.free, 0, a->lists_size);
    }
    a->singles.n_free = a->singles.low = a->singles.cold = 0;
    a->runs.n_free = a->runs.low = a->runs.cold = 0;
    a->next_single = a->in_use = 0;
    a->next_run = a->n_singles;
}

void
arena_claim(struct arena *a, uint32_t seg)
{
    if (seg >= a->n_segs) {
        return;
    }
    if (arena_is_run(a, seg)) {
        a->runs.free[(seg - a->n_singles) / ARENA_RUN] = 1;
        if (seg + ARENA_RUN > a->next_run) {
            a->next_run = seg + ARENA_RUN;
        }
    } else {
        a->singles.free[seg] = 1;
        if (seg + 1 > a->next_single) {
            a->next_single = seg + 1;
        }
    }
    a->in_use++;
}

void
arena_settle(struct arena *a)
{
    uint32_t n = 0;

    /* The list is filled from its start while marks are read ahead of it: the
     * write position never passes the read position. */
    for (uint32_t i = 0; i < a->next_single; i++) {
        if (a->singles.free[i] == 0) {
            a->singles.free[n++] = i;
        }
    }
    a->singles.n_free = a->singles.low = n;
    n = 0;
    for (uint32_t i = 0; a->n_singles + i * ARENA_RUN < a->next_run; i++) {
        if (a->runs.free[i] == 0) {
            a->runs.free[n++] = a->n_singles + i * ARENA_RUN;
        }
    }
    a->runs.n_free = a->runs.low = n;
}

/* ---- giving memory back ---- */

/* Neighbours in the stack are often neighbours in memory: one call for them. */
static void
trim_pool(struct arena *a, struct arena_pool *p, uint32_t keep, uint32_t unit)
{
    uint32_t i = MIN_OF(p->cold, p->low);
    uint32_t end = p->low > keep ? p->low - keep : 0;

    end = MIN_OF(end, i + TRIM_MAX / unit);
    while (i < end) {
        uint32_t n = 1;
        while (i + n < end && p->free[i + n] == p->free[i] + n * unit) {
            n++;
        }
        madvise(arena_at(a, p->free[i]), (size_t)n * unit * ARENA_SEGMENT,
                MADV_REMOVE);
        i += n;
    }
    p->cold = i;
    p->low = p->n_free;
}

void
arena_trim(struct arena *a, uint32_t keep)
{
    trim_pool(a, &a->singles, keep, 1);
    trim_pool(a, &a->runs, 0, ARENA_RUN);
}

bool
arena_is_fat(const struct arena *a, uint32_t keep)
{
    return a->singles.n_free > keep + MIN_OF(a->singles.cold, a->singles.low) ||
           a->runs.n_free > MIN_OF(a->runs.cold, a->runs.low);
}
