/* A heap for one connection's library state (OpenSSL, nghttp2), made of runs of
 * the arena: at the same address in every heir, so its pointers hold there. It
 * is dropped whole. Before a call of the library it is saved; an heir that
 * finds the call cut loads what was saved and makes the call again
 * (loop/redo.h). Nothing here survives a cut by itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/arena.h"

#define HEAP_RUNS      8u /* the most that one heap has: 512 KiB */
/* The largest block: what a run holds beside its two headers. A library that
 * wants more is refused, and its connection fails. */
#define HEAP_BLOCK_MAX 64000u
/* As much memory as heap_save() may need. */
#define HEAP_SAVE_MAX  (HEAP_RUNS * (ARENA_RUN * ARENA_SEGMENT + 64u))

struct heap;

/* Makes an empty heap of one run. The number of that run, which names the heap
 * in a record, or ARENA_NONE: the arena is full. Until a record names it, a cut
 * leaves nothing: its run is free after arena_settle. */
uint32_t heap_make(struct arena *a);

/* The heap whose first run is SEG; NULL if there is none (a broken record). */
struct heap *heap_at(const struct arena *a, uint32_t seg);

/* The heap that P was given by, or NULL: P is not of a heap in A. P may be any
 * pointer. */
struct heap *heap_of(const struct arena *a, const void *p);

/* SIZE bytes at a multiple of 16, not cleared; SIZE 0 gives a block too. NULL:
 * more than HEAP_BLOCK_MAX, or the heap or the arena is full. */
void *heap_alloc(struct arena *a, struct heap *h, size_t size);

/* P, which heap_alloc gave, with SIZE bytes: there or elsewhere, its bytes
 * kept. NULL: as heap_alloc, and P is as before. P NULL: heap_alloc. */
void *heap_realloc(struct arena *a, struct heap *h, void *p, size_t size);

/* Gives P back to H, which gave it; what is no block in use ends the process. P
 * NULL: nothing. */
void heap_free(struct heap *h, void *p);

/* Bytes that P has room for: what was asked for, or a little more. */
size_t heap_room(const void *p);

/* Gives back all of H at once, its bytes overwritten. Forget H in its record
 * first: cut between, its runs are free after arena_settle. */
void heap_drop(struct arena *a, struct heap *h);

/* Claims H's runs, between arena_forget and arena_settle. */
void heap_claim(struct arena *a, const struct heap *h);

/* Bytes in blocks in use, their headers included. */
size_t heap_live(const struct heap *h);

/* Writes down all blocks in use to TO, which has room for SIZE bytes
 * (HEAP_SAVE_MAX is always enough). The bytes written; 0: there was no room. */
size_t heap_save(const struct heap *h, void *to, size_t size);

/* Makes the heap again what it was when heap_save wrote FROM, at the same
 * addresses; cut anywhere and called again it does the same. Runs that the heap
 * took since are no longer of it: settle the arena's lists afterwards. The
 * heap. */
struct heap *heap_load(const void *from);

/* Does H hold together: every block, every list? For tests. */
bool heap_is_sound(const struct arena *a, const struct heap *h);
