/* The trace that a request belongs to (W3C Trace Context). The client's, if it
 * sent one that is valid; else a new one. To the program this server is the
 * caller, and the request's id the span: so the id in a trace, on an error
 * page, in the log and for `cardea why` is the same word.
 *
 * A new id is made of the request's, so that an heir that reads the head again
 * makes the same. */
#include "front/worker_priv.h"

#include <strings.h>

static uint64_t
mixed(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

bool
trace_is_field(const char *name, size_t len, bool keeps_state)
{
    return (len == 11 && strncasecmp(name, "traceparent", 11) == 0) ||
           (len == 10 && !keeps_state &&
            strncasecmp(name, "tracestate", 10) == 0);
}

/* Two of them contradict each other. */
static bool
is_last(const char *in, const struct http_request *h,
        const struct http_field *parent)
{
    const struct http_field *next = parent + 1;

    return http_field_find(in, next, h->n_fields - (uint32_t)(next - h->fields),
                           "traceparent", 11) == NULL;
}

void
trace_note(struct request *r, const char *in, const struct http_request *h)
{
    const struct http_field *parent =
        http_field_find(in, h->fields, h->n_fields, "traceparent", 11);
    struct http_trace trace;

    r->keeps_state =
        parent != NULL && is_last(in, h, parent) &&
        http_trace_parse(in + parent->value.off, parent->value.len, &trace);
    if (r->keeps_state) {
        r->trace[0] = trace.id[0];
        r->trace[1] = trace.id[1];
        r->trace_flags = trace.flags;
        return;
    }
    r->trace[0] = mixed(r->id ^ 0x9e3779b97f4a7c15ull);
    r->trace[1] = mixed(r->id) | 1; /* never all zero */
    r->trace_flags = 0;
}

void
trace_print(const struct request *r, char out[HTTP_TRACE_LEN + 1])
{
    struct http_trace trace = {
        .id = {r->trace[0], r->trace[1]},
        .span = r->id != 0 ? r->id : 1,
        .flags = r->trace_flags,
    };

    http_trace_print(&trace, out);
}

void
trace_fill(const struct request *r, struct ring_entry *e)
{
    for (int i = 0; i < 8; i++) {
        e->trace_id[i] = (uint8_t)(r->trace[0] >> (56 - 8 * i));
        e->trace_id[8 + i] = (uint8_t)(r->trace[1] >> (56 - 8 * i));
        e->span_id[i] = (uint8_t)(r->id >> (56 - 8 * i));
    }
    e->trace_flags = r->trace_flags & HTTP_TRACE_FLAGS;
}
