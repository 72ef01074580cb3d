/* At most so many starts within a minute, as inetd(8) has it. */
#pragma once

#include <stdint.h>

/* A zeroed one with MAX set is ready; the caller has a lock for it. */
struct rate {
    uint64_t max;    /* starts a minute */
    uint64_t n;      /* within this minute */
    int64_t ends_at; /* of this minute; the clock of NOW below */
};

enum rate_verdict {
    RATE_YES,      /* go on: it was counted */
    RATE_NO_FIRST, /* too many, for the first time in this minute */
    RATE_NO,       /* too many */
};

/* May one more be started at NOW (monotonic nanoseconds)? A minute begins with
 * the first start after the last one was over. */
enum rate_verdict rate_take(struct rate *rate, int64_t now);
