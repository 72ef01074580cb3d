/* traceparent: what is understood prints as one that is understood, and is the
 * same but for flags that nobody knows. */
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = copy_exact(data, size);
    char text[HTTP_TRACE_LEN + 1];
    struct http_trace trace, again;

    if (http_trace_parse(copy, size, &trace)) {
        http_trace_print(&trace, text);
        MUST(strlen(text) == HTTP_TRACE_LEN);
        MUST(http_trace_parse(text, HTTP_TRACE_LEN, &again));
        MUST(again.id[0] == trace.id[0] && again.id[1] == trace.id[1]);
        MUST(again.span == trace.span);
        MUST(again.flags == (trace.flags & HTTP_TRACE_FLAGS));
    }
    free(copy);
    return 0;
}
