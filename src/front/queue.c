/* Lines of those who wait for a door: what each function does stands in the
 * header. A line is a list of indexes, through the requests themselves. */
#include "front/worker_priv.h"

#include <string.h>

/* Which line the client of C waits in. An IPv6 client is its /64, for it can
 * have all addresses of it; all of a Unix socket are one. Two clients may come
 * to share a line, but nobody can choose with whom. */
static uint16_t
line_of(const struct conn *c, uint64_t seed)
{
    uint64_t part = 0;

    if (c->family != 0) {
        memcpy(&part, c->peer, c->family == 4 ? 4 : 8);
    }
    uint64_t mixed = (part ^ seed) * 0x9e3779b97f4a7c15ull;
    mixed = (mixed ^ (mixed >> 29) ^ c->family) * 0xbf58476d1ce4e5b9ull;
    return (uint16_t)(mixed >> 56) % QUEUE_LINES;
}

static struct queue_link *
link_of(const struct worker *w, uint32_t i_and_one)
{
    return &request_of(w, &w->conns[i_and_one - 1])->line;
}

void
queue_add(struct queue *q, struct worker *w, uint32_t i)
{
    struct queue_link *link = link_of(w, i + 1);

    q->n++;
    KEEP_ORDER(); /* an heir wipes what somebody may be in */
    link->line = line_of(&w->conns[i], w->core->queue_seed);
    struct queue_line *line = &q->lines[link->line];
    link->older = line->newest;
    link->newer = 0;
    link->is_in = 1;
    if (line->newest != 0) {
        link_of(w, line->newest)->newer = i + 1;
    } else {
        line->oldest = i + 1;
    }
    line->newest = i + 1;
    q->some[link->line / 64] |= 1ull << (link->line % 64);
}

void
queue_remove(struct queue *q, struct worker *w, uint32_t i)
{
    struct queue_link *link = link_of(w, i + 1);
    struct queue_line *line = &q->lines[link->line];

    if (link->older != 0) {
        link_of(w, link->older)->newer = link->newer;
    } else {
        line->oldest = link->newer;
    }
    if (link->newer != 0) {
        link_of(w, link->newer)->older = link->older;
    } else {
        line->newest = link->older;
    }
    if (line->oldest == 0) {
        q->some[link->line / 64] &= ~(1ull << (link->line % 64));
    }
    link->is_in = 0;
    KEEP_ORDER();
    q->n--;
}

uint32_t
queue_oldest(const struct queue *q)
{
    const uint32_t words = QUEUE_LINES / 64;
    uint32_t first = q->turn / 64 % words;

    /* The first word twice: from the turn on, and at last what is before. */
    for (uint32_t k = 0; k <= words; k++) {
        uint32_t word = (first + k) % words;
        uint64_t bits = q->some[word];
        if (k == 0) {
            bits &= ~0ull << (q->turn % 64);
        }
        if (bits != 0) {
            return q->lines[word * 64 + (uint32_t)__builtin_ctzll(bits)]
                       .oldest -
                   1;
        }
    }
    return QUEUE_NONE;
}

uint32_t
queue_newest(const struct queue *q, const struct worker *w, uint32_t i)
{
    return q->lines[link_of(w, i + 1)->line].newest - 1;
}

void
queue_take(struct queue *q, struct worker *w, uint32_t i)
{
    q->turn = (link_of(w, i + 1)->line + 1u) % QUEUE_LINES;
    queue_remove(q, w, i);
}
