/* See growth.h. */
#include "door/growth.h"

#include "base/util.h"

#define LOOK_NS    100000000ull /* how long a look at the machine is good for */
#define PEAK_NS    60000000000ull /* a peak counts half as much after that */
#define SPARE_PART 16             /* of the memory is left alone */
#define NAP_NS     1000000ull     /* how long "asleep" is believed, at first */
#define NAP_MAX    64000000ull

static void
look(struct growth *g, uint64_t now)
{
    if (g->room_at == 0 || now - g->room_at >= LOOK_NS) {
        room_read(&g->room, g->room_root);
        g->room_at = now;
        g->n_since = 0;
    }
}

/* For how many more there is memory, of N; YOUNG will take theirs yet. */
static uint32_t
by_memory(const struct growth *g, uint32_t young)
{
    uint64_t spare = g->room.total / SPARE_PART;
    uint64_t left = g->room.left - MIN_OF(g->room.left, spare);
    uint64_t fit;

    if (g->size == 0 || g->room.left == UINT64_MAX) {
        return UINT32_MAX;
    }
    fit = left / g->size;
    young = MAX_OF(young, g->n_since);
    return (uint32_t)(fit > young ? MIN_OF(fit - young, UINT32_MAX) : 0);
}

uint32_t
growth_room(struct growth *g, uint32_t n, uint32_t young, uint64_t now)
{
    uint32_t may;

    if (g->ceiling > 0 && n >= g->ceiling) {
        return 0;
    }
    if (g->size > 0) {
        look(g, now);
    }
    may = by_memory(g, young);
    g->n_waits = may == 0 ? g->n_waits + 1 : 0;
    if (g->ceiling > 0) {
        may = MIN_OF(may, g->ceiling - n);
    }
    return may == 0 && n == 0 ? 1 : may;
}

uint32_t
growth_cpus(struct growth *g, uint32_t n_cpus, uint64_t now)
{
    look(g, now);
    return g->room.cpus > 0 && g->room.cpus < n_cpus ? g->room.cpus : n_cpus;
}

/* What is left of the last peak. */
static uint32_t
peak_now(const struct growth *g, uint64_t now)
{
    uint64_t age = now > g->peak_at ? (now - g->peak_at) / PEAK_NS : 0;

    return age < 32 ? g->peak >> age : 0;
}

uint32_t
growth_missing(const struct growth *g, uint32_t calls, uint32_t n, uint64_t now)
{
    uint32_t peak = peak_now(g, now);

    /* A quarter of it at once is no trickle. */
    return calls >= MAX_OF(peak / 4, 2) && n < peak ? peak - n : 0;
}

uint32_t
growth_wanted(const struct growth *g, uint32_t n, uint64_t now)
{
    return n + growth_missing(g, n, n, now);
}

void
growth_made(struct growth *g, uint32_t n, uint64_t now)
{
    g->n_since++;
    if (n >= peak_now(g, now)) {
        g->peak = n;
        g->peak_at = now;
    }
    /* What left a moment ago is needed again: it should have stayed. */
    if (g->left_at != 0 && now - g->left_at < g->quiet_ns) {
        g->quiet_ns = MIN_OF(g->quiet_ns * 2, GROWTH_QUIET_MAX);
        g->left_at = 0;
    } else if (g->left_at != 0 && now - g->left_at > 4 * g->quiet_ns) {
        g->quiet_ns = MAX_OF(g->quiet_ns / 2, GROWTH_QUIET_NS);
        g->left_at = 0;
    }
}

void
growth_left(struct growth *g, uint64_t now)
{
    g->left_at = now;
}

void
growth_measured(struct growth *g, uint64_t size)
{
    /* The largest lately: one that shrank says little of the next. */
    g->size = MAX_OF(size, g->size - g->size / 8);
}

bool
growth_sleeps(const struct growth_nap *nap, uint64_t call, uint64_t now)
{
    return nap->at != 0 && nap->call == call && now - nap->at < nap->ns;
}

void
growth_saw(struct growth_nap *nap, uint64_t call, bool sleeps, uint64_t now)
{
    bool again = nap->at != 0 && nap->call == call;

    *nap = (struct growth_nap){
        .call = call,
        .at = sleeps ? now : 0,
        .ns = again ? MIN_OF(nap->ns * 2, NAP_MAX) : NAP_NS,
    };
}
