/* Giving memory of the arena back that belonged to one target, in tables with
 * an element for each: two thousand bytes of a queue, half a thousand of a
 * ring. Several share a page, so it goes when the last of them does. */
#include "front/worker_priv.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

/* Does no element of the table at BASE count that has bytes in the page AT? */
static bool
is_free_page(uintptr_t at, size_t page, uintptr_t base, size_t size,
             const uint64_t *used)
{
    for (size_t i = (at - base) / size; base + i * size < at + page; i++) {
        if ((used[i / 64] >> (i % 64) & 1) != 0) {
            return false;
        }
    }
    return true;
}

void
unuse(struct worker *w, uint32_t target, void *table, size_t size,
      uint64_t *used)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t base = (uintptr_t)table;
    uintptr_t end = base + w->core->rings_max * size;
    uintptr_t from = base + target * size, to = from + size;

    used[target / 64] &= ~(1ull << (target % 64));
    KEEP_ORDER(); /* cut here, it is made anew before it is used again */
    for (uintptr_t at = from & ~(uintptr_t)(page - 1); at < to; at += page) {
        if (at >= base && at + page <= end &&
            is_free_page(at, page, base, size, used)) {
            (void)madvise((void *)at, page, MADV_REMOVE);
        }
    }
}
