/* A list of single allocations rather than an arena: a configuration is small
 * and read once, and so the sanitizers see each object's bounds. */
#include "conf/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct conf_block {
    struct conf_block *next;
    max_align_t bytes[];
};

void *
conf_memory_take(struct conf_memory *memory, size_t n, size_t size)
{
    struct conf_block *block = NULL;

    if (size == 0 || n <= (SIZE_MAX - sizeof(*block)) / size) {
        block = calloc(1, sizeof(*block) + n * size);
    }
    if (!block) {
        memory->failed = true;
        return NULL;
    }
    block->next = memory->blocks;
    memory->blocks = block;
    return block->bytes;
}

char *
conf_memory_text(struct conf_memory *memory, const char *text, size_t len)
{
    char *copy = conf_memory_take(memory, len + 1, 1);

    if (copy && len > 0) {
        memcpy(copy, text, len);
    }
    return copy;
}

char *
conf_memory_join(struct conf_memory *memory, const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    char *text = conf_memory_take(memory, a_len + b_len + 1, 1);

    if (text) {
        memcpy(text, a, a_len);
        memcpy(text + a_len, b, b_len);
    }
    return text;
}

void *
conf_memory_grow(struct conf_memory *memory, void *list, size_t n, size_t size)
{
    void *larger;

    if (n > 0 && (n & (n - 1)) != 0) {
        return list; /* its room is the next power of two */
    }
    larger = conf_memory_take(memory, n > 0 ? 2 * n : 1, size);
    if (larger && n > 0) {
        memcpy(larger, list, n * size);
    }
    return larger;
}

void
conf_memory_free(struct conf_memory *memory)
{
    while (memory->blocks) {
        struct conf_block *block = memory->blocks;

        memory->blocks = block->next;
        free(block);
    }
    memory->failed = false;
}
