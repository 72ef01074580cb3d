/* How long things take, counted in buckets of which each is twice as wide as
 * the one before: from a microsecond to two minutes in 28 words. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_N     28u
#define HISTOGRAM_FIRST 10u /* bucket 0: less than 2^10 ns */

/* The bucket of NS. Bucket B ends below histogram_end(B); the last takes all
 * that is longer. */
static inline unsigned
histogram_index(uint64_t ns)
{
    unsigned bits = ns == 0 ? 0 : 64u - (unsigned)__builtin_clzll(ns);

    return bits <= HISTOGRAM_FIRST                     ? 0
           : bits >= HISTOGRAM_FIRST + HISTOGRAM_N - 1 ? HISTOGRAM_N - 1
                                                       : bits - HISTOGRAM_FIRST;
}

/* Where bucket B ends, ns. The last ends nowhere: UINT64_MAX. */
static inline uint64_t
histogram_end(unsigned b)
{
    return b < HISTOGRAM_N - 1 ? 1ull << (HISTOGRAM_FIRST + b) : UINT64_MAX;
}

/* The NS that a share of PERMILLE of all in COUNTS stays below, as if each
 * bucket were evenly filled: right to a factor of two, mostly much better. 0:
 * there are none. */
static inline uint64_t
histogram_share(const uint64_t counts[HISTOGRAM_N], uint64_t permille)
{
    uint64_t all = 0, before = 0;

    for (unsigned b = 0; b < HISTOGRAM_N; b++) {
        all += counts[b];
    }
    double want = (double)all * (double)permille / 1000;
    for (unsigned b = 0; b < HISTOGRAM_N; b++) {
        uint64_t from = b == 0 ? 0 : histogram_end(b - 1);
        uint64_t to = b < HISTOGRAM_N - 1 ? histogram_end(b) : 2 * from;

        if (counts[b] > 0 && (double)(before + counts[b]) >= want) {
            return from +
                   (uint64_t)((double)(to - from) * (want - (double)before) /
                              (double)counts[b]);
        }
        before += counts[b];
    }
    return 0;
}

/* The median of a stream in one word: MEDIAN moves an eighth towards each NS
 * that is above or below it, and so comes to rest where half are on each side,
 * and follows when that moves: a factor of ten takes 20 values. The first is
 * taken as it is. */
static inline uint64_t
histogram_follow(uint64_t median, uint64_t ns)
{
    uint64_t step = median / 8 + 1;

    if (median == 0) {
        return ns > 0 ? ns : 1;
    }
    if (ns > median) {
        return ns - median > step ? median + step : ns;
    }
    return median - ns > step ? median - step : ns > 0 ? ns : 1;
}
