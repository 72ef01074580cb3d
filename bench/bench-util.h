/*
 * The few things every bench program needs: a clock, pinning, and a way to
 * end with a sentence.  All are small enough to be inlined; there is no
 * state.
 */
#pragma once

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Nanoseconds of the monotonic clock. */
static inline uint64_t
bench_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Says "NAME: what: errno text" on stderr and ends with status 1. */
static inline void __attribute__((noreturn)) bench_die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
            strerror(errno));
    exit(1);
}

/* Binds the calling thread to one CPU; a negative number leaves it free.
 * Ends the program when the CPU is not ours to use. */
static inline void
bench_pin(int cpu)
{
    cpu_set_t set;

    if (cpu < 0) {
        return;
    }
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0) {
        bench_die("sched_setaffinity");
    }
}

/* Reads a whole number from min to max; ends with status 2 on anything
 * else, naming the option. */
static inline long
bench_number(const char *option, const char *text, long min, long max)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min ||
        value > max) {
        fprintf(stderr, "%s: --%s: %s is not a number from %ld to %ld\n",
                program_invocation_short_name, option, text, min, max);
        exit(2);
    }
    return value;
}

#define BENCH_BATCH   100
#define BENCH_BATCHES 1000000

static inline int
bench_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Plays TURN(ARG), one round trip, for NS nanoseconds; prints their number, the
 * median and the mean of one over batches of BENCH_BATCH, as JSON. */
static inline void
bench_round_trips(void (*turn)(void *arg), void *arg, uint64_t ns)
{
    uint64_t *batches = calloc(BENCH_BATCHES, sizeof(*batches));
    uint64_t start, last;
    size_t n = 0;

    if (batches == NULL) {
        bench_die("calloc");
    }
    start = last = bench_now();
    while (n < BENCH_BATCHES && (n == 0 || last - start < ns)) {
        uint64_t now;

        for (int i = 0; i < BENCH_BATCH; i++) {
            turn(arg);
        }
        now = bench_now();
        batches[n++] = now - last;
        last = now;
    }
    qsort(batches, n, sizeof(*batches), bench_compare);
    printf("{\"round_trips\": %zu, \"median_us\": %.3f, \"mean_us\": %.3f}\n",
           n * BENCH_BATCH, (double)batches[n / 2] / BENCH_BATCH / 1e3,
           (double)(last - start) / (double)(n * BENCH_BATCH) / 1e3);
    free(batches);
}
