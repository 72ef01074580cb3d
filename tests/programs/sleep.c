/* Sleeps for ?ms=N milliseconds, says so on standard error before, computes for
 * ?us=N microseconds, and answers then. Who computes only says nothing: waiting
 * for who writes there is sleep, too. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cardea.h>

#include "compute.h"

static void
slow(struct cardea_request *r)
{
    char text[16] = "0";
    long ms;

    cardea_param(r, "ms", text, sizeof(text));
    ms = strtol(text, NULL, 10);
    if (ms > 0) {
        fprintf(stderr, "sleeping %ld\n", ms);
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
