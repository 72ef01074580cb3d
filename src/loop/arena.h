/* A worker's arena: one memory file, mapped once, that outlives the worker. It
 * begins with what the worker knows (a struct of the caller's), then tables,
 * then 4 KiB segments. Segments are handed out singly or in runs, last freed
 * first; which are in use is known to the records that use them, so the free
 * list is private and can be made anew.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_SEGMENT 4096u
#define ARENA_RUN     16u /* segments of a run: 64 KiB */
#define ARENA_NONE    0xffffffffu

/* Free segments of one kind: a stack. What lies deep has not been used for
 * long; its pages go back to the system first. */
struct arena_pool {
    uint32_t *free;
    uint32_t n_free;
    uint32_t low;  /* the least n_free since the last arena_trim */
    uint32_t cold; /* entries below it have given their pages back */
};

struct arena {
    char *base; /* the same address in every heir */
    size_t size;
    int fd;
    uint32_t first;  /* segment 0 lies at base + first */
    uint32_t n_segs; /* singles, then runs */
    uint32_t n_singles;
    /* Private, made anew by arena_forget: */
    struct arena_pool singles, runs;
    uint32_t next_single, next_run; /* never used from here on */
    uint32_t in_use;
    size_t lists_size; /* of the mapping that holds both stacks */
};

/* Makes an arena whose first HEAD bytes are the caller's, with room for
 * N_SEGMENTS segments (three quarters singles, the rest runs). 0 or an errno.
 * Memory is taken from the system only where it is touched. */
int arena_make(struct arena *a, size_t head, uint32_t n_segments);
void arena_free(struct arena *a);

/* A segment, or a run of ARENA_RUN; its number, or ARENA_NONE: all in use. */
uint32_t arena_take(struct arena *a);
uint32_t arena_take_run(struct arena *a);
/* Gives either back. */
void arena_give(struct arena *a, uint32_t seg);
bool arena_is_run(const struct arena *a, uint32_t seg);

static inline void *
arena_at(const struct arena *a, uint32_t seg)
{
    return a->base + a->first + (size_t)seg * ARENA_SEGMENT;
}

/* Forgets which segments are in use, then arena_claim says so again for each
 * that a record names. Call arena_settle when all are named. */
void arena_forget(struct arena *a);
void arena_claim(struct arena *a, uint32_t seg);
void arena_settle(struct arena *a);

/* Gives pages back to the system: of segments that were free all the time since
 * the last call, but for KEEP singles. At most some hundred at once. */
void arena_trim(struct arena *a, uint32_t keep);
/* Are there free pages that further calls of arena_trim would give back? */
bool arena_is_fat(const struct arena *a, uint32_t keep);
