/* Work for programs that tests measure. */
#pragma once

#include <time.h>

/* Computes for so many microseconds of CPU time. */
static inline void
compute(long us)
{
    struct timespec t;
    long end = 0;

    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        long now = (long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
        end = end > 0 ? end : now + us;
        us = end - now;
    } while (us > 0);
}
