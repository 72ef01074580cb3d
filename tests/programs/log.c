/* Writes lines about its requests, and others. */
#include <cardea.h>

#include <stdio.h>

static void
answer(struct cardea_request *r)
{
    cardea_log(r, "one of %s\n", cardea_path(r));
    cardea_log(r, "two %d\nthree", 2);
    cardea_log(NULL, "of none");
    fprintf(stderr, "plain\n");
    cardea_puts(r, cardea_id(r));
}

int
main(void)
{
    return cardea_serve_threads(answer);
}
