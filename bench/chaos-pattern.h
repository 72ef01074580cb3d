/*
 * The bytes of bodies, each known by its position, so that a lost, repeated or
 * foreign byte is seen where it stands.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Eight bytes from position 8 * n on, of the body that seed makes
 * (splitmix64). */
static inline uint64_t
pattern_word(uint64_t seed, uint64_t n)
{
    uint64_t x = seed + (n + 1) * 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* How many of the n bytes at buf are those from position pos on. */
static inline size_t
pattern_match(const char *buf, uint64_t seed, size_t pos, size_t n)
{
    size_t done = 0;

    while (done < n) {
        uint64_t word = pattern_word(seed, (pos + done) / 8);
        size_t from = (pos + done) % 8;
        size_t len = 8 - from < n - done ? 8 - from : n - done;

        if (memcmp((const char *)&word + from, buf + done, len) != 0) {
            while (((const char *)&word)[from] == buf[done]) {
                from++;
                done++;
            }
            return done;
        }
        done += len;
    }
    return n;
}

/* Writes the n bytes from position pos on to buf. */
static inline void
pattern_fill(char *buf, uint64_t seed, size_t pos, size_t n)
{
    size_t done = 0;

    while (done < n) {
        uint64_t word = pattern_word(seed, (pos + done) / 8);
        size_t from = (pos + done) % 8;
        size_t len = 8 - from < n - done ? 8 - from : n - done;

        memcpy(buf + done, (const char *)&word + from, len);
        done += len;
    }
}
