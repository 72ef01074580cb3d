/* What the fuzz programs share. Each defines LLVMFuzzerTestOneInput(), which
 * libFuzzer or fuzz-replay.c calls; a broken invariant aborts. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                \
    do {                                                                       \
        if (!(x)) {                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

/* A copy with nothing behind it. To be freed. */
static inline char *
copy_exact(const void *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    MUST(copy != NULL);
    if (len > 0) {
        memcpy(copy, bytes, len);
    }
    return copy;
}

/* A place to cut, anywhere in 0..SIZE, that the bytes themselves choose. */
static inline size_t
cut_of(const uint8_t *data, size_t size)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < size; i++) {
        h = (h ^ data[i]) * 16777619u;
    }
    return h % (size + 1);
}

/* ---- an input that is read as a script ---- */

struct fuzz_in {
    const uint8_t *at, *end;
};

/* The next N bytes (at most 8) as a number, the lowest first; zeros behind the
 * end. */
static inline uint64_t
fuzz_number(struct fuzz_in *in, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n; i++) {
        value |= (uint64_t)(in->at < in->end ? *in->at++ : 0) << (8 * i);
    }
    return value;
}

static inline uint8_t
fuzz_byte(struct fuzz_in *in)
{
    return (uint8_t)fuzz_number(in, 1);
}

/* Copies at most LEN bytes to TO. How many there were. */
static inline size_t
fuzz_bytes(struct fuzz_in *in, void *to, size_t len)
{
    size_t left = (size_t)(in->end - in->at), n = left < len ? left : len;

    if (n > 0) {
        memcpy(to, in->at, n);
        in->at += n;
    }
    return n;
}

/* A number that a liar would choose: near LIMIT, near a power of two, negative,
 * or any at all. */
static inline uint64_t
fuzz_length(struct fuzz_in *in, uint64_t limit)
{
    uint8_t how = fuzz_byte(in);

    switch (how >> 5) {
    case 0:
        return how & 31;
    case 1:
        return limit - 16 + (how & 31);
    case 2:
        return limit + (how & 31) * 64u;
    case 3:
        return (1ull << (how & 31)) - 1 + (fuzz_byte(in) & 3);
    case 4:
        return (1ull << (32 + (how & 31))) - 1 + (fuzz_byte(in) & 3);
    case 5:
        return 0ull - (how & 31) * 8u;
    case 6:
        return fuzz_number(in, 2);
    default:
        return fuzz_number(in, 8);
    }
}
