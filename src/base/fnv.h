/* FNV-1a, of 64 bits: a hash for tables and comparisons of our own making, not
 * against anybody who chooses what is hashed. draft-eastlake-fnv. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FNV_BASIS 0xcbf29ce484222325ull

/* HASH (FNV_BASIS at first) with LEN bytes more. */
static inline uint64_t
fnv_add(uint64_t hash, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ at[i]) * 0x100000001b3ull;
    }
    return hash;
}
