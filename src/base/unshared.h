/* Memory that a fork does not take along. */
#pragma once

#include <stddef.h>

/* SIZE bytes, all zero, the caller's until unshared_free(). A process that is
 * forked from then on has nothing at their place: they cost it nothing, and it
 * cannot tell what they said; it must neither touch nor free them. NULL with
 * errno ENOMEM: there is no memory. MADV_DONTFORK in madvise(2). */
void *unshared_alloc(size_t size);
/* Gives back what unshared_alloc() gave for SIZE; AT may be NULL. */
void unshared_free(void *at, size_t size);
