/* Each worker has whole pages of its own, so that it can be left with those
 * alone. Sums of the dead lie in the keeper's private memory. */
#include "cohort/tally.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/pages.h"
#include "base/util.h"
#include "door/wire.h"

/* Two of them can be added without a wrap. */
#define COUNT_MAX   (1ull << 62)
#define QUEUED_MAX  (1u << 20) /* descriptors, and so connections */
#define THREADS_MAX (1u << 22) /* the kernel's own bound of process numbers */

int
tallies_init(struct tallies *t, int n_workers, size_t n_targets)
{
    CLEAN_FD int fd = memfd_create("cardea-tallies", MFD_CLOEXEC);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size;

    t->n_workers = n_workers;
    t->n_blocks = n_targets + 1; /* of which few are ever touched */
    t->stride = ROUND_UP(
        sizeof(struct tally_table) + t->n_blocks * sizeof(struct tally), page);
    size = t->stride * (size_t)n_workers;
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0) {
        return -errno;
    }
    t->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (t->memory == MAP_FAILED) {
        t->memory = NULL;
        return -errno;
    }
    t->base = pages_alloc(t->n_blocks * sizeof(*t->base));
    if (t->base == NULL) {
        return -errno;
    }
    t->requests = calloc((size_t)n_workers, sizeof(*t->requests));
    return t->requests != NULL ? 0 : -ENOMEM;
}

void
tallies_deinit(struct tallies *t)
{
    if (t->memory != NULL) {
        munmap(t->memory, t->stride * (size_t)t->n_workers);
    }
    pages_free(t->base, t->n_blocks * sizeof(*t->base));
    free(t->requests);
    memset(t, 0, sizeof(*t));
}

struct tally_table *
tallies_of(const struct tallies *t, int worker)
{
    return (struct tally_table *)(void *)(t->memory +
                                          t->stride * (size_t)worker);
}

/* The first entry of TABLE from AT on that is in use; n_blocks: none is. */
static size_t
next_used(const struct tallies *t, const struct tally_table *table, size_t at)
{
    for (; at < t->n_blocks; at = (at | 63) + 1) {
        uint64_t bits =
            atomic_load_explicit(&table->used[at / 64], memory_order_relaxed) >>
            (at % 64);

        if (bits != 0) {
            return MIN_OF(at + (size_t)__builtin_ctzll(bits), t->n_blocks);
        }
    }
    return t->n_blocks;
}

static bool
is_used(const struct tally_table *table, size_t at)
{
    return (atomic_load_explicit(&table->used[at / 64], memory_order_relaxed) >>
                (at % 64) &
            1) != 0;
}

void
tallies_keep_only(struct tallies *t, int worker)
{
    size_t before = t->stride * (size_t)worker;
    size_t after = t->stride * (size_t)(t->n_workers - worker - 1);

    if (before > 0) {
        munmap(t->memory, before);
    }
    if (after > 0) {
        munmap(t->memory + before + t->stride, after);
    }
}

static uint64_t
read_count(const _Atomic uint64_t *count)
{
    uint64_t n = atomic_load_explicit(count, memory_order_relaxed);

    return MIN_OF(n, COUNT_MAX);
}

static uint32_t
read_small(const _Atomic uint32_t *count, uint32_t most)
{
    uint32_t n = atomic_load_explicit(count, memory_order_relaxed);

    return MIN_OF(n, most);
}

/* A + B, which stays at the most instead of beginning again. */
static void
add(uint64_t *a, uint64_t b)
{
    *a = MIN_OF(*a + b, COUNT_MAX);
}

static void
add_block(struct tally_sum *sum, const struct tally *t)
{
    add(&sum->requests, read_count(&t->requests));
    add(&sum->calls, read_count(&t->calls));
    for (size_t i = 0; i < ARRAY_LEN(sum->answers); i++) {
        add(&sum->answers[i], read_count(&t->answers[i]));
    }
    for (size_t i = 0; i < CAUSE_N; i++) {
        add(&sum->causes[i], read_count(&t->causes[i]));
    }
    add(&sum->run_ns, read_count(&t->run_ns));
    add(&sum->wait_ns, read_count(&t->wait_ns));
    for (size_t i = 0; i < HISTOGRAM_N; i++) {
        add(&sum->wait[i], read_count(&t->wait[i]));
        add(&sum->run[i], read_count(&t->run[i]));
    }
}

static uint64_t
requests_now(const struct tallies *t, int worker)
{
    const struct tally_table *table = tallies_of(t, worker);
    uint64_t n = 0;

    for (size_t i = next_used(t, table, 0); i < t->n_blocks;
         i = next_used(t, table, i + 1)) {
        add(&n, read_count(&table->entries[i].requests));
    }
    return n;
}

void
tallies_fold(struct tallies *t, int worker)
{
    struct tally_table *table = tallies_of(t, worker);

    add(&t->requests[worker], requests_now(t, worker));
    for (size_t i = next_used(t, table, 0); i < t->n_blocks;
         i = next_used(t, table, i + 1)) {
        add_block(&t->base[i], &table->entries[i]);
        memset(&table->entries[i], 0, sizeof(table->entries[i]));
    }
    memset(table, 0, sizeof(*table));
}

void
tallies_growth(const struct tallies *t, size_t target, struct tally_sum *sum)
{
    sum->calls = t->base[target + 1].calls;
    sum->wait_ns = t->base[target + 1].wait_ns;
    sum->in_flight = 0;
    sum->threads = 0;
    for (int i = 0; i < t->n_workers; i++) {
        const struct tally_table *table = tallies_of(t, i);
        const struct tally *block = &table->entries[target + 1];

        if (is_used(table, target + 1)) {
            add(&sum->calls, read_count(&block->calls));
            add(&sum->wait_ns, read_count(&block->wait_ns));
            sum->in_flight += read_small(&block->in_flight, RING_SLOTS);
            sum->threads =
                MAX_OF(sum->threads, read_small(&block->threads, THREADS_MAX));
        }
    }
}

struct tally_sum
tallies_sum(const struct tallies *t, size_t target)
{
    size_t at = target == TALLY_NONE ? 0 : target + 1;
    struct tally_sum sum = t->base[at];

    for (int i = 0; i < t->n_workers; i++) {
        const struct tally_table *table = tallies_of(t, i);
        const struct tally *block = &table->entries[at];

        if (!is_used(table, at)) {
            continue;
        }
        add_block(&sum, block);
        sum.in_flight += read_small(&block->in_flight, RING_SLOTS);
        sum.unclaimed += read_small(&block->unclaimed, RING_SLOTS);
        sum.queued += read_small(&block->queued, QUEUED_MAX);
        sum.overdue += read_small(&block->overdue, RING_SLOTS);
        sum.median_ns = MAX_OF(sum.median_ns, read_count(&block->median_ns));
        sum.threads =
            MAX_OF(sum.threads, read_small(&block->threads, THREADS_MAX));
        sum.threads_high = MAX_OF(
            sum.threads_high, read_small(&block->threads_high, THREADS_MAX));
    }
    return sum;
}

void
tallies_forget(struct tallies *t, size_t target)
{
    memset(&t->base[target + 1], 0, sizeof(t->base[0]));
    for (int i = 0; i < t->n_workers; i++) {
        struct tally_table *table = tallies_of(t, i);

        if (is_used(table, target + 1)) {
            memset(&table->entries[target + 1], 0, sizeof(struct tally));
        }
    }
}

uint64_t
tallies_requests(const struct tallies *t, int worker)
{
    uint64_t n = t->requests[worker];

    add(&n, requests_now(t, worker));
    return n;
}
