/* See unshared.h. */
#include "base/unshared.h"

#include <sys/mman.h>

void *
unshared_alloc(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED) {
        return NULL;
    }
    /* Fails only on a kernel without it: then a fork takes it along. */
    (void)madvise(at, size, MADV_DONTFORK);
    return at;
}

void
unshared_free(void *at, size_t size)
{
    if (at) {
        munmap(at, size);
    }
}
