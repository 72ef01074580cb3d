/* See pages.h. */
#include "base/pages.h"

#include <sys/mman.h>

void *
pages_alloc(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return at != MAP_FAILED ? at : NULL;
}

void *
pages_alloc_unshared(size_t size)
{
    void *at = pages_alloc(size);

    if (at) {
        /* Fails only on a kernel without it: then a fork takes it along. */
        (void)madvise(at, size, MADV_DONTFORK);
    }
    return at;
}

void
pages_free(void *at, size_t size)
{
    if (at) {
        munmap(at, size);
    }
}
