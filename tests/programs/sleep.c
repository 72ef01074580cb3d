/* Sleeps for ?ms=N milliseconds, says so on standard error before, computes for
 * ?us=N microseconds, and answers then. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cardea.h>

/* Computes for so many microseconds of CPU time. */
static void
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

static void
slow(struct cardea_request *r)
{
    char text[16] = "0";
    long ms;

    cardea_param(r, "ms", text, sizeof(text));
    ms = strtol(text, NULL, 10);
    fprintf(stderr, "sleeping %ld\n", ms);
    if (ms > 0) {
        usleep((useconds_t)ms * 1000);
    }
    if (cardea_param(r, "us", text, sizeof(text)) >= 0) {
        compute(strtol(text, NULL, 10));
    }
    cardea_printf(r, "slept %ld ms%s\n", ms,
                  cardea_gone(r) ? ", and nobody waits" : "");
}

int
main(void)
{
    return cardea_serve_threads(slow);
}
