/* Says its process number; with ?now=1 it dies instead, in the middle of the
 * call and with half an answer written. */
#include <stdlib.h>
#include <unistd.h>

#include <cardea.h>

static void
crash(struct cardea_request *r)
{
    char text[8];

    cardea_printf(r, "%d\n", (int)getpid());
    if (cardea_param(r, "now", text, sizeof(text)) > 0) {
        abort();
    }
}

int
main(void)
{
    return cardea_serve_threads(crash);
}
