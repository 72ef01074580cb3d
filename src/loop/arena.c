/* The arena; see arena.h. Singles and runs lie apart, so neither breaks up the
 * other: singles from the start, runs behind them. */
#include "loop/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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
    a->free_singles = malloc(a->n_singles * sizeof(uint32_t));
    a->free_runs =
        malloc((n_segments - a->n_singles) / ARENA_RUN * sizeof(uint32_t));
    if (!a->free_singles || !a->free_runs) {
        munmap(a->base, a->size);
        free(a->free_singles);
        free(a->free_runs);
        errno = ENOMEM;
        goto fail;
    }
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
        close(a->fd);
    }
    free(a->free_singles);
    free(a->free_runs);
    memset(a, 0, sizeof *a);
    a->fd = -1;
}

uint32_t
arena_take(struct arena *a)
{
    uint32_t seg = ARENA_NONE;

    if (a->n_free_singles > 0) {
        seg = a->free_singles[--a->n_free_singles];
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

    if (a->n_free_runs > 0) {
        seg = a->free_runs[--a->n_free_runs];
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
    if (arena_is_run(a, seg)) {
        a->free_runs[a->n_free_runs++] = seg;
    } else {
        a->free_singles[a->n_free_singles++] = seg;
    }
    a->in_use--;
}

/* ---- making the free lists anew ---- */

/* While claiming, free_singles[] and free_runs[] serve as marks. */

void
arena_forget(struct arena *a)
{
    memset(a->free_singles, 0, a->n_singles * sizeof(uint32_t));
    memset(a->free_runs, 0,
           (a->n_segs - a->n_singles) / ARENA_RUN * sizeof(uint32_t));
    a->n_free_singles = a->n_free_runs = a->next_single = a->in_use = 0;
    a->next_run = a->n_singles;
}

void
arena_claim(struct arena *a, uint32_t seg)
{
    if (seg >= a->n_segs) {
        return;
    }
    if (arena_is_run(a, seg)) {
        a->free_runs[(seg - a->n_singles) / ARENA_RUN] = 1;
        if (seg + ARENA_RUN > a->next_run) {
            a->next_run = seg + ARENA_RUN;
        }
    } else {
        a->free_singles[seg] = 1;
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
        if (a->free_singles[i] == 0) {
            a->free_singles[n++] = i;
        }
    }
    a->n_free_singles = n;
    n = 0;
    for (uint32_t i = 0; a->n_singles + i * ARENA_RUN < a->next_run; i++) {
        if (a->free_runs[i] == 0) {
            a->free_runs[n++] = a->n_singles + i * ARENA_RUN;
        }
    }
    a->n_free_runs = n;
}

void
arena_trim(struct arena *a, uint32_t keep)
{
    if (a->in_use > 0 ||
        (a->next_single <= keep && a->next_run == a->n_singles)) {
        return;
    }
    if (a->next_single > keep) {
        madvise(arena_at(a, keep),
                (size_t)(a->next_single - keep) * ARENA_SEGMENT, MADV_REMOVE);
    }
    if (a->next_run > a->n_singles) {
        madvise(arena_at(a, a->n_singles),
                (size_t)(a->next_run - a->n_singles) * ARENA_SEGMENT,
                MADV_REMOVE);
    }
    a->n_free_singles = a->n_free_runs = 0;
    a->next_single = 0;
    a->next_run = a->n_singles;
}
