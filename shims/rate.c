/* A minute is fixed by its first start and not a sliding one: a person can
 * count it in the log, and it needs no memory of single starts. */
#include "rate.h"

#include "base/util.h"

#define MINUTE_NS ((int64_t)60 * (int64_t)NS_PER_SEC)

enum rate_verdict
rate_take(struct rate *rate, int64_t now)
{
    if (now >= rate->ends_at) {
        rate->ends_at = now + MINUTE_NS;
        rate->n = 0;
    }
    rate->n++;
    if (rate->n <= rate->max) {
        return RATE_YES;
    }
    return rate->n == rate->max + 1 ? RATE_NO_FIRST : RATE_NO;
}
