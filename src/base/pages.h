/* Memory in whole pages of its own, which cost nothing until they are written
 * to. (calloc(3) may clear what was used before, and so touch all of it.) */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* SIZE bytes, all zero, the caller's until pages_free(). NULL with errno
 * ENOMEM: there is no memory. mmap(2). */
void *pages_alloc(size_t size);
/* The same, but a process that is forked from then on has nothing at their
 * place: they cost it nothing, and it cannot tell what they said; it must
 * neither touch nor free them. MADV_DONTFORK in madvise(2). */
void *pages_alloc_unshared(size_t size);
/* Element INDEX of TABLE, which has N of SIZE bytes, counts no more: its pages
 * go back by ADVICE of madvise(2), but those in which lies what does count,
 * which is an element of which IS_USED(arg, i) says so, and all that is beside
 * the table. */
void pages_give_back(void *table, size_t n, size_t size, size_t index,
                     bool (*is_used)(const void *arg, size_t i),
                     const void *arg, int advice);
/* Gives back what one of them gave for SIZE; AT may be NULL. */
void pages_free(void *at, size_t size);
