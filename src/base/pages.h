/* Memory in whole pages of its own, which cost nothing until they are written
 * to. (calloc(3) may clear what was used before, and so touch all of it.) */
#pragma once

#include <stddef.h>

/* SIZE bytes, all zero, the caller's until pages_free(). NULL with errno
 * ENOMEM: there is no memory. mmap(2). */
void *pages_alloc(size_t size);
/* The same, but a process that is forked from then on has nothing at their
 * place: they cost it nothing, and it cannot tell what they said; it must
 * neither touch nor free them. MADV_DONTFORK in madvise(2). */
void *pages_alloc_unshared(size_t size);
/* Gives back what one of them gave for SIZE; AT may be NULL. */
void pages_free(void *at, size_t size);
