/* A program whose calls do what they are asked: /work?us=N computes for N
 * microseconds of its own CPU time, /work?ms=N waits for N milliseconds. With
 * the word "copies" its calls are served by forked copies, else by threads. */
#include <cardea.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST 10000000ul

static unsigned long
number(const struct cardea_request *r, const char *name)
{
    char text[16];
    unsigned long n;

    if (cardea_param(r, name, text, sizeof text) <= 0) {
        return 0;
    }
    n = strtoul(text, NULL, 10);
    return n < MOST ? n : MOST;
}

static uint64_t
now_us(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void
work(struct cardea_request *r)
{
    unsigned long us = number(r, "us"), ms = number(r, "ms");
    uint64_t end = now_us(CLOCK_THREAD_CPUTIME_ID) + us;
    struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

    while (us > 0 && now_us(CLOCK_THREAD_CPUTIME_ID) < end) {
    }
    while (ms > 0 && nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
    cardea_puts(r, "done\n");
}

int
main(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[1], "copies") == 0
               ? cardea_serve(work, NULL)
               : cardea_serve_threads(work);
}
