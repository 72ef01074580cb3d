/* Memory of one configuration: many small blocks that are freed together, so
 * that no error path has to know what was built so far. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct conf_block;

struct conf_memory {
    struct conf_block *blocks;
    bool failed; /* an allocation failed: what was built is not complete */
};

/* N zeroed elements of SIZE bytes, owned by MEMORY. NULL: no memory, and
 * MEMORY->failed is set from then on. N of 0 gives a valid pointer. */
void *conf_memory_take(struct conf_memory *memory, size_t n, size_t size);

/* A copy of LEN bytes and a NUL, as above. */
char *conf_memory_text(struct conf_memory *memory, const char *text,
                       size_t len);

/* A and B one after the other, as above. */
char *conf_memory_join(struct conf_memory *memory, const char *a,
                       const char *b);

/* LIST (NULL at first) of N elements of SIZE bytes, perhaps moved, with room
 * for one more. NULL: as above. */
void *conf_memory_grow(struct conf_memory *memory, void *list, size_t n,
                       size_t size);

/* Frees every block; MEMORY may be used again. */
void conf_memory_free(struct conf_memory *memory);
