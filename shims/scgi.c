/* A request of SCGI is one netstring of names and values that end with NUL, and
 * the body; an answer is that of a CGI command, and ends with the connection.
 * Specification: SCGI, A Simple Common Gateway Interface alternative. */
#include "scgi.h"

#include "base/util.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
is_ours(const char *pair)
{
    return strncmp(pair, "CONTENT_LENGTH=", 15) == 0 ||
           strncmp(pair, "SCGI=", 5) == 0;
}

/* Name, NUL, value, NUL: one byte more than the string has. */
static size_t
pairs_size(char *const *env)
{
    size_t size = 0;

    for (; *env != NULL; env++) {
        size += is_ours(*env) ? 0 : strlen(*env) + 1;
    }
    return size;
}

static char *
pairs_put(char *at, char *const *env)
{
    for (; *env != NULL; env++) {
        size_t len = strlen(*env) + 1;
        char *equals;

        if (is_ours(*env)) {
            continue;
        }
        memcpy(at, *env, len);
        equals = memchr(at, '=', len);
        if (equals != NULL) {
            *equals = '\0';
        }
        at += len;
    }
    return at;
}

char *
scgi_head_new(char *const *env, size_t body_len, size_t *p_len)
{
    char first[64], count[32];
    size_t n_first, n_count, size;
    char *block, *at;

    n_first =
        (size_t)snprintf(first, sizeof(first), "CONTENT_LENGTH%c%zu%cSCGI%c1",
                         0, body_len, 0, 0) +
        1;
    size = n_first + pairs_size(env);
    n_count = (size_t)snprintf(count, sizeof(count), "%zu:", size);
    *p_len = n_count + size + 1;
    block = malloc(*p_len);
    if (block == NULL) {
        /* not reached: memory is gone */
        return NULL;
    }
    memcpy(block, count, n_count);
    memcpy(block + n_count, first, n_first);
    at = pairs_put(block + n_count + n_first, env);
    *at = ',';
    return block;
}
