/* A heap for what the connections of a library share, in memory that outlives
 * the worker. A kill between any two instructions leaves it usable: each change
 * is one store of one word, or is written down before it is begun.
 *
 * While a step is open (a call of the library that an heir would make again),
 * blocks are given back at its end only, and blocks taken in it are known: a
 * cut step is undone, so that making it again takes and gives nothing twice.
 * Outside of a step a cut may lose the block that was being taken or given,
 * never more. What stands in the blocks is the library's own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARED_STEP_MAX 1024u /* blocks taken and given in one step */

struct shared;

/* Makes MEM, SIZE zeroed bytes at a page's start, a shared heap: at least four
 * pages. It stays the caller's. NULL: too small. */
struct shared *shared_make(void *mem, size_t size);

/* SIZE bytes (0: one) at a multiple of 16, not cleared. IS_LOCK: it will be a
 * lock, to be made anew after a cut. NULL: no room, or too much in one step. */
void *shared_alloc(struct shared *s, size_t size, bool is_lock);

/* P, which shared_alloc gave, with SIZE bytes: there or elsewhere, its bytes
 * kept. NULL: as shared_alloc, and P is as before. P NULL: shared_alloc. */
void *shared_realloc(struct shared *s, void *p, size_t size);

/* Gives P back (NULL: nothing), within a step at its end; what is no block in
 * use ends the process. */
void shared_free(struct shared *s, void *p);

/* Does P lie among the blocks of S? P may be any pointer. */
bool shared_has(const struct shared *s, const void *p);

/* Bytes that P has room for. */
size_t shared_room(const struct shared *s, const void *p);

/* Opens a step, and closes it: what it gave is given. */
void shared_open(struct shared *s);
void shared_close(struct shared *s);

/* After a cut, before anything else. UNDO: the step that was open is forgotten,
 * and open again; otherwise it is closed. No step was open: nothing. Cut itself
 * and called again, it does the same. */
void shared_recover(struct shared *s, bool undo);

/* Calls ANEW(arg, lock) for each lock: whoever held it is dead. */
void shared_each_lock(struct shared *s, void (*anew)(void *arg, void *lock),
                      void *arg);

/* Bytes of all blocks in use, as they were rounded up. */
size_t shared_live(const struct shared *s);

/* Does S hold together? For tests. */
bool shared_is_sound(const struct shared *s);
