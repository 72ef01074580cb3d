/* Requests for the tests: parsed in one piece and byte by byte, each time from
 * memory that ends where the bytes end, so that ASan sees any look beyond. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "http/http.h"

#define TEXT(s)  (s), sizeof(s) - 1
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A copy with nothing behind it. To be freed. */
static inline char *
copy_exact(const char *bytes, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    return copy;
}

static inline int
parse_whole(const char *bytes, size_t len, struct http_request *req)
{
    uint32_t scan = 0;
    char *copy = copy_exact(bytes, len);
    int rc = http_request_parse(copy, len, &scan, req);

    free(copy);
    return rc;
}

/* Adds STEP bytes a call. *P_AT: how many bytes stood there at the verdict. */
static inline int
parse_fed(const char *bytes, size_t len, size_t step, size_t *p_at,
          struct http_request *req)
{
    uint32_t scan = 0;
    int rc = HTTP_MORE;
    size_t at = 0;

    while (rc == HTTP_MORE && at < len) {
        at = len - at < step ? len : at + step;
        if (at <= 1000) {
            char *copy = copy_exact(bytes, at);

            rc = http_request_parse(copy, at, &scan, req);
            free(copy);
        } else { /* copies of long heads would take seconds */
            rc = http_request_parse(bytes, at, &scan, req);
        }
    }
    *p_at = at;
    return rc;
}

/* Whole, and in steps of 1, 2 and 7 bytes: the same verdict, or the test
 * fails. */
static inline int
parse(const char *bytes, size_t len, struct http_request *req)
{
    static const size_t steps[] = {1, 2, 7};
    struct http_request fed;
    size_t at;
    int rc = parse_whole(bytes, len, req);

    for (size_t i = 0; i < COUNT(steps); i++) {
        assert_int_equal(parse_fed(bytes, len, steps[i], &at, &fed), rc);
        if (rc == HTTP_OK) {
            assert_int_equal(fed.head_len, req->head_len);
            assert_int_equal(fed.n_fields, req->n_fields);
            assert_int_equal(fed.content_length, req->content_length);
            assert_int_equal(fed.chunked, req->chunked);
        }
    }
    return rc;
}
