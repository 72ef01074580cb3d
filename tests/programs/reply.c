/* Answers as the query says: ?status=418&text=short&size=N (N bytes of 'x')
 * &name=X-A&value=b (a field). Without any of these: what it was asked, one
 * "key value" a line. */
#include <stdlib.h>
#include <string.h>

#include <cardea.h>

static void
describe(struct cardea_request *r)
{
    const char *name, *value;

    cardea_printf(r, "method %s\n", cardea_method(r));
    cardea_printf(r, "target %s\n", cardea_target(r));
    cardea_printf(r, "path %s\n", cardea_path(r));
    cardea_printf(r, "query %s\n", cardea_query(r));
    cardea_printf(r, "route %s\n", cardea_route(r));
    cardea_printf(r, "rest %s\n", cardea_rest(r));
    cardea_printf(r, "host %s\n", cardea_host(r));
    cardea_printf(r, "peer %s\n", cardea_peer(r));
    cardea_printf(r, "id %s\n", cardea_id(r));
    for (size_t i = 0; cardea_header_at(r, i, &name, &value) == 0; i++) {
        cardea_printf(r, "field %s: %s\n", name, value);
    }
}

static void
write_many(struct cardea_request *r, size_t n)
{
    static const char many[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

    while (n > 0) {
        size_t part = n < sizeof(many) - 1 ? n : sizeof(many) - 1;

        if (cardea_write(r, many, part)) {
            return;
        }
        n -= part;
    }
}

static void
answer(struct cardea_request *r)
{
    char text[256], name[64];
    int said = 0;

    if (cardea_param(r, "status", text, sizeof(text)) > 0) {
        said = 1;
        cardea_status(r, atoi(text));
    }
    if (cardea_param(r, "name", name, sizeof(name)) > 0 &&
        cardea_param(r, "value", text, sizeof(text)) >= 0) {
        said = 1;
        if (cardea_set(r, name, text)) {
            cardea_puts(r, "refused\n");
        }
    }
    if (cardea_param(r, "text", text, sizeof(text)) >= 0) {
        said = 1;
        cardea_puts(r, text);
    }
    if (cardea_param(r, "size", text, sizeof(text)) > 0) {
        said = 1;
        write_many(r, strtoul(text, NULL, 10));
    }
    if (!said) {
        describe(r);
    }
}

int
main(void)
{
    return cardea_serve_threads(answer);
}
