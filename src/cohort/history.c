/* A ring of bytes for each kind: number and length of a line, then its text.
 * Readers keep an offset that only grows; one that is older than the oldest
 * record moves to that. Numbers tell the order between the rings. */
#include "cohort/history.h"

#include <errno.h>
#include <string.h>

#include "base/pages.h"
#include "base/util.h"

#define TIME_LEN      24 /* as in 2026-11-26T08:15:00.123Z */
#define EVENT_AT_MOST 48 /* bytes before the event's name */

struct record {
    uint64_t number;
    uint32_t len;
};

static const size_t sizes[HISTORY_N] = {
    [HISTORY_EVENT] = 256 << 10,
    [HISTORY_OUTPUT] = 256 << 10,
    [HISTORY_TELLS] = 256 << 10,
    [HISTORY_ACCESS] = 512 << 10,
};

int
history_init(struct history *h)
{
    memset(h, 0, sizeof(*h));
    for (size_t i = 0; i < HISTORY_N; i++) {
        h->rings[i].bytes = pages_alloc_unshared(sizes[i]);
        if (h->rings[i].bytes == NULL) {
            history_deinit(h);
            return -ENOMEM;
        }
        h->rings[i].size = sizes[i];
    }
    return 0;
}

void
history_deinit(struct history *h)
{
    for (size_t i = 0; i < HISTORY_N; i++) {
        pages_free(h->rings[i].bytes, sizes[i]);
    }
    memset(h, 0, sizeof(*h));
}

/* --- Which kind -------------------------------------------------------- */

static const char *
find(const char *text, size_t len, const char *word)
{
    return memmem(text, len, word, strlen(word));
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Has the time behind KEY at least DIGITS digits before its point? */
static bool
is_long(const char *text, size_t len, const char *key, size_t digits)
{
    const char *at = find(text, len, key);
    size_t n = 0;

    if (at == NULL) {
        return false;
    }
    at += strlen(key);
    while (at + n < text + len && is_digit(at[n])) {
        n++;
    }
    return n >= digits;
}

/* Does the line end with a total time of less than 100 ms? Most accesses do,
 * and then nothing stands behind it that would tell more, and nothing in it
 * took longer. */
static bool
ends_soon(const char *text, size_t len)
{
    static const char key[] = " total_ms=";
    size_t at = len, digits = 0;

    while (at > 0 && (text[at - 1] == '\n' || text[at - 1] == '.' ||
                      is_digit(text[at - 1]))) {
        at--;
    }
    while (at + digits < len && is_digit(text[at + digits])) {
        digits++;
    }
    return at >= sizeof(key) - 1 && digits > 0 && digits < 3 &&
           memcmp(text + at - (sizeof(key) - 1), key, sizeof(key) - 1) == 0;
}

enum history_kind
history_kind(const char *text, size_t len)
{
    static const char access[] = " level=info event=request ";
    const char *event;
    size_t left;

    /* Nearly all lines of a busy server. */
    if (len > TIME_LEN + sizeof(access) && text[len - 1] == '\n' &&
        memcmp(text + TIME_LEN, access, sizeof(access) - 1) == 0 &&
        ends_soon(text, len)) {
        return HISTORY_ACCESS;
    }
    event = find(text, MIN_OF(len, EVENT_AT_MOST), " event=");
    if (event == NULL) {
        return HISTORY_EVENT;
    }
    event += strlen(" event=");
    left = len - (size_t)(event - text);
    if (left > 7 && memcmp(event, "output ", 7) == 0) {
        return HISTORY_OUTPUT;
    }
    if (left <= 8 || memcmp(event, "request ", 8) != 0) {
        return HISTORY_EVENT;
    }
    if (text[len - 1] == '\n' && ends_soon(text, len)) {
        return HISTORY_ACCESS;
    }
    return find(event, left, " cause=") != NULL ||
                   is_long(event, left, " queue_ms=", 3) ||
                   is_long(event, left, " total_ms=", 4)
               ? HISTORY_TELLS
               : HISTORY_ACCESS;
}

/* --- The rings --------------------------------------------------------- */

static void
put(struct history_ring *ring, const void *bytes, size_t len)
{
    size_t at = (size_t)(ring->end % ring->size);
    size_t part = MIN_OF(len, ring->size - at);

    memcpy(ring->bytes + at, bytes, part);
    memcpy(ring->bytes, (const char *)bytes + part, len - part);
    ring->end += len;
}

static void
get(const struct history_ring *ring, uint64_t from, void *bytes, size_t len)
{
    size_t at = (size_t)(from % ring->size);
    size_t part = MIN_OF(len, ring->size - at);

    memcpy(bytes, ring->bytes + at, part);
    memcpy((char *)bytes + part, ring->bytes, len - part);
}

void
history_add(struct history *h, const char *text, size_t len)
{
    struct history_ring *ring = &h->rings[history_kind(text, len)];
    struct record record = {h->n_lines, (uint32_t)len}, oldest;

    if (ring->bytes == NULL || len == 0 || len > HISTORY_LINE) {
        return;
    }
    while (ring->end + sizeof(record) + len - ring->first > ring->size) {
        get(ring, ring->first, &oldest, sizeof(oldest));
        ring->first += sizeof(oldest) + oldest.len;
    }
    h->n_lines++;
    put(ring, &record, sizeof(record));
    put(ring, text, len);
}

size_t
history_next(const struct history *h, struct history_mark *mark,
             char line[HISTORY_LINE])
{
    struct record next = {UINT64_MAX, 0};
    size_t which = HISTORY_N;

    for (size_t i = 0; i < HISTORY_N; i++) {
        const struct history_ring *ring = &h->rings[i];
        struct record record;

        mark->at[i] = MAX_OF(mark->at[i], ring->first);
        if (mark->at[i] >= ring->end) {
            continue;
        }
        get(ring, mark->at[i], &record, sizeof(record));
        if (record.number < next.number) {
            next = record;
            which = i;
        }
    }
    if (which == HISTORY_N) {
        return 0;
    }
    get(&h->rings[which], mark->at[which] + sizeof(next), line, next.len);
    mark->at[which] += sizeof(next) + next.len;
    return next.len;
}
