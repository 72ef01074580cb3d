/* Calls of a library that an heir can make again. Before the call its heap is
 * saved here, with what the caller needs to know; at the end one word says that
 * it was made. An heir that finds the word set has the heap as it was before
 * the call, and makes it with the same input: it comes to the same output, of
 * which nothing had left, for what a call puts out is sent after its end.
 *
 * One worker makes one call at a time, so it has one of these, in its arena.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/heap.h"

#define REDO_NOTE 64u /* bytes of the caller's */

struct shared;

struct redo { /* all zero: no call is open */
    _Atomic uint32_t open;
    uint32_t len; /* of what is saved */
    unsigned char note[REDO_NOTE];
    _Alignas(16) unsigned char saved[HEAP_SAVE_MAX];
};

/* Begins a call that changes H and S (NULL: no shared heap) and nothing else
 * that the call itself would read again. NOTE, LEN bytes (at most REDO_NOTE),
 * says which call it is. */
void redo_begin(struct redo *r, const struct heap *h, struct shared *s,
                const void *note, size_t len);

/* The call was made, and what it did is recorded. */
void redo_end(struct redo *r, struct shared *s);

/* After a cut, before arena_claim. NULL: no call was cut. Otherwise its heap,
 * as it was before the call; r->note says which call it was. Make it again, and
 * redo_end: the call is open. Cut itself and called again, it does the same. */
struct heap *redo_recover(struct redo *r, struct shared *s);

/* Overwrites what was saved last: a connection's keys are among it. Not while a
 * call is open. */
void redo_wipe(struct redo *r);
