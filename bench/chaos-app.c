/*
 * What the chaos load calls: GET answers with n bytes of the pattern of seed;
 * POST compares its body with the pattern and answers with it.  Each request
 * has a number of its own; GET /count tells how many calls there were and how
 * many numbers came more than once.
 */
#include "bench-util.h"
#include "chaos-pattern.h"

#include <cardea.h>
#include <stdatomic.h>

#define NUMBERS (1u << 25)

static atomic_uchar seen[NUMBERS];
static atomic_ulong n_calls;
static atomic_ulong n_twice;

static uint64_t
parameter(const struct cardea_request *r, const char *name)
{
    char text[32];

    return cardea_param(r, name, text, sizeof(text)) > 0
               ? strtoull(text, NULL, 10)
               : 0;
}

static void
note(uint64_t number)
{
    atomic_fetch_add(&n_calls, 1);
    if (atomic_exchange(&seen[number % NUMBERS], 1) != 0) {
        atomic_fetch_add(&n_twice, 1);
    }
}

static void
answer(struct cardea_request *r)
{
    uint64_t seed = parameter(r, "seed");
    size_t n = parameter(r, "n");
    const char *body;
    size_t len;
    void *room;

    if (strcmp(cardea_path(r), "/count") == 0) {
        cardea_printf(r, "{\"calls\": %lu, \"twice\": %lu}\n",
                      atomic_load(&n_calls), atomic_load(&n_twice));
        return;
    }
    note(parameter(r, "id"));
    body = cardea_body(r, &len);
    if (strcmp(cardea_method(r), "POST") == 0 &&
        (len != n || pattern_match(body, seed, 0, len) != len)) {
        cardea_status(r, 409);
        cardea_printf(r, "of %zu bytes %zu came, %zu right\n", n, len,
                      pattern_match(body, seed, 0, len));
        return;
    }
    room = cardea_room(r, n);
    if (room == NULL) {
        cardea_status(r, 500);
        return;
    }
    pattern_fill(room, seed, 0, n);
    cardea_commit(r, n);
}

int
main(void)
{
    return cardea_serve_threads(answer);
}
