/* Answers with the body it got, and says in X-Method how it was asked. */
#include <cardea.h>

static void
echo(struct cardea_request *r)
{
    const char *type = cardea_header(r, "Content-Type");
    const void *body;
    size_t len;

    body = cardea_body(r, &len);
    if (type) {
        cardea_type(r, type);
    }
    cardea_set(r, "X-Method", cardea_method(r));
    cardea_write(r, body, len);
}

int
main(void)
{
    return cardea_serve_threads(echo);
}
