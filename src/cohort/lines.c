/* A module prints what it likes; the log takes lines of a bounded size. A line
 * is cut where its quoted form (four bytes for one that cannot be shown) would
 * pass LINES_COST, so no piece is ever too long to be logged whole.
 * Invariants: len <= LINES_MAX, cost <= LINES_COST, no newline in text. */
#include "cohort/lines.h"

static size_t
cost_of(unsigned char byte)
{
    if (byte == '"' || byte == '\\') {
        return 2;
    }
    return byte >= 0x20 && byte <= 0x7e ? 1 : 4;
}

static void
give(struct lines *lines, lines_take *take, void *arg, bool more)
{
    take(arg, lines->text, lines->len, more);
    lines->len = 0;
    lines->cost = 0;
}

void
lines_add(struct lines *lines, const char *bytes, size_t len, lines_take *take,
          void *arg)
{
    for (size_t i = 0; i < len; i++) {
        size_t cost = cost_of((unsigned char)bytes[i]);

        if (bytes[i] == '\n') {
            give(lines, take, arg, false);
            continue;
        }
        if (lines->cost + cost > LINES_COST) {
            give(lines, take, arg, true);
        }
        lines->text[lines->len++] = bytes[i];
        lines->cost += cost;
    }
}

void
lines_end(struct lines *lines, lines_take *take, void *arg)
{
    if (lines->len > 0) {
        give(lines, take, arg, false);
    }
}
