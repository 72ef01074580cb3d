/* The ten-line program of the README. */
#include <cardea.h>

static void
hello(struct cardea_request *r)
{
    cardea_puts(r, "Well, hello to you too!\n");
}

int
main(void)
{
    return cardea_serve_threads(hello);
}
