/* See pages.h. */
#include "base/pages.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

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

void
pages_give_back(void *table, size_t n, size_t size, size_t index,
                bool (*is_used)(const void *arg, size_t i), const void *arg,
                int advice)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t base = (uintptr_t)table, end = base + n * size;
    uintptr_t from = base + index * size, to = from + size;

    for (uintptr_t at = from & ~(uintptr_t)(page - 1); at < to; at += page) {
        if (at < base || at + page > end) {
            continue;
        }
        size_t i = (at - base) / size;
        while (base + i * size < at + page && !is_used(arg, i)) {
            i++;
        }
        if (base + i * size >= at + page) {
            (void)madvise((void *)at, page, advice);
        }
    }
}
