/* Giving memory of the arena back that belonged to one target, in tables with
 * an element for each: two thousand bytes of a queue, half a thousand of a
 * ring. Several share a page, so it goes when the last of them does. */
#include "front/worker_priv.h"

#include <sys/mman.h>

#include "base/pages.h"

static bool
is_used(const void *used, size_t i)
{
    return (((const uint64_t *)used)[i / 64] >> (i % 64) & 1) != 0;
}

void
unuse(struct worker *w, uint32_t target, void *table, size_t size,
      uint64_t *used)
{
    used[target / 64] &= ~(1ull << (target % 64));
    KEEP_ORDER(); /* cut here, it is made anew before it is used again */
    pages_give_back(table, w->core->rings_max, size, target, is_used, used,
                    MADV_REMOVE);
}
