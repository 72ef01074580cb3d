/* A program that blocks, which is fine: Cardea gives each waiting call a thread
 * of its own, up to as many as there ever were at once. Try /slow?ms=500. */
#include <cardea.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS_DEFAULT 200
#define MS_MAX     10000

/* Milliseconds, or -1: TEXT is not a number of 0 to MS_MAX. */
static long ms_parse(const char *text)
{
    char *end;
    long ms = strtol(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || ms > MS_MAX) {
        return -1;
    }
    return ms;
}

/* Sleeps; returns the milliseconds that it took. */
static double ms_sleep(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000}, from, to;

    clock_gettime(CLOCK_MONOTONIC, &from);
    while (nanosleep(&left, &left) < 0 && errno == EINTR) {
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (double)(to.tv_sec - from.tv_sec) * 1e3 +
           (double)(to.tv_nsec - from.tv_nsec) / 1e6;
}

static void slow(struct cardea_request *r)
{
    char text[16];
    long ms = MS_DEFAULT;

    if (cardea_param(r, "ms", text, sizeof(text)) >= 0) {
        ms = ms_parse(text);
    } else if (strstr(cardea_query(r), "ms=") != NULL) {
        ms = -1; /* longer than any number of ours */
    }
    cardea_set(r, "Cache-Control", "no-store");
    if (ms < 0) {
        cardea_status(r, 400);
        cardea_printf(r,
                      "Say how long to sleep in milliseconds, 0 to %d: "
                      "/slow?ms=200\n",
                      MS_MAX);
        return;
    }
    cardea_printf(r, "Slept %.1f ms (asked for %ld).\n", ms_sleep(ms), ms);
}

int main(void)
{
    return cardea_serve_threads(slow);
}
