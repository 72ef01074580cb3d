/* Sleeps for ?ms=N milliseconds, says so on standard error before, and answers
 * then. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cardea.h>

static void
slow(struct cardea_request *r)
{
    char text[16] = "0";
    long ms;

    cardea_param(r, "ms", text, sizeof(text));
    ms = strtol(text, NULL, 10);
    fprintf(stderr, "sleeping %ld\n", ms);
    usleep((useconds_t)ms * 1000);
    cardea_printf(r, "slept %ld ms%s\n", ms,
                  cardea_gone(r) ? ", and nobody waits" : "");
}

int
main(void)
{
    return cardea_serve_threads(slow);
}
