/* Small helpers that every layer may use: sizes, bounds, cleanup of locals. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_LEN(a)   (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b)   ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b)   ((a) > (b) ? (a) : (b))
#define ROUND_UP(n, m) ((((n) + (m)-1) / (m)) * (m))

/* Stores before it are made before stores after it, as far as this process and
 * who takes its place after a kill can tell: a kill falls between two
 * instructions, so only the compiler must not move them. */
#define KEEP_ORDER() atomic_signal_fence(memory_order_seq_cst)

#define NS_PER_MS  1000000ull
#define NS_PER_SEC 1000000000ull

/* Built with a sanitizer of addresses or threads, which looks at its own
 * process from outside and has threads of its own? */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* A local marked so is closed or freed at the end of its scope; hand it over
 * by setting the local to -1 or NULL. */
#define CLEAN_FD   __attribute__((cleanup(base_clean_fd)))
#define CLEAN_FREE __attribute__((cleanup(base_clean_free)))

static inline void
base_clean_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}

static inline void
base_clean_free(void *p)
{
    free(*(void **)p);
}
