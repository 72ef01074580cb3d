/* A hashed timer wheel with lazy re-arming; see wheel.h. */
#include "loop/wheel.h"

#include <string.h>

static struct wheel_link *
link_of(const struct wheel *w, uint32_t i)
{
    return (struct wheel_link *)(void *)(w->base + i * w->stride + w->offset);
}

void
wheel_init(struct wheel *w, void *base, size_t stride, size_t offset,
           uint32_t tick)
{
    memset(w, 0, sizeof *w);
    w->base = base;
    w->stride = stride;
    w->offset = offset;
    w->tick = tick;
}

static void
insert(struct wheel *w, uint32_t i, uint32_t due)
{
    struct wheel_link *l = link_of(w, i);
    uint32_t slot = due % WHEEL_SLOTS;

    l->place = slot + 1;
    l->prev = 0;
    l->next = w->heads[slot];
    if (l->next != 0) {
        link_of(w, l->next - 1)->prev = i + 1;
    }
    w->heads[slot] = i + 1;
    w->filled[slot / 64] |= 1ull << (slot % 64);
}

static void
take_out(struct wheel *w, uint32_t i)
{
    struct wheel_link *l = link_of(w, i);

    if (l->place == 0) {
        return;
    }
    uint32_t slot = l->place - 1; /* may be the list being looked at */
    if (l->prev != 0) {
        link_of(w, l->prev - 1)->next = l->next;
    } else {
        w->heads[slot] = l->next;
    }
    if (l->next != 0) {
        link_of(w, l->next - 1)->prev = l->prev;
    }
    l->next = l->prev = l->place = 0;
    if (w->heads[slot] == 0 && slot < WHEEL_SLOTS) {
        w->filled[slot / 64] &= ~(1ull << (slot % 64));
    }
}

/* How many ticks from the present until SLOT is looked at: 1 to WHEEL_SLOTS. */
static uint32_t
ticks_until(const struct wheel *w, uint32_t slot)
{
    return (slot - w->tick - 1) % WHEEL_SLOTS + 1;
}

void
wheel_arm(struct wheel *w, uint32_t i, uint32_t due)
{
    struct wheel_link *l = link_of(w, i);

    if ((int32_t)(due - w->tick) < 1) {
        due = w->tick + 1;
    }
    due += due == 0; /* 0 says: not armed */
    l->due = due;
    /* Where it is linked will be looked at in time: nothing to do. */
    if (l->place != 0 && l->place <= WHEEL_SLOTS &&
        ticks_until(w, l->place - 1) <= due - w->tick) {
        return;
    }
    take_out(w, i);
    insert(w, i, due);
}

void
wheel_disarm(struct wheel *w, uint32_t i)
{
    take_out(w, i);
    link_of(w, i)->due = 0;
}

void
wheel_relink(struct wheel *w, uint32_t i)
{
    struct wheel_link *l = link_of(w, i);
    uint32_t due = l->due;

    memset(l, 0, sizeof *l);
    if (due != 0) {
        wheel_arm(w, i, due);
    }
}

/* One slot: gives out what is due at the present tick, links the rest anew. The
 * list is set aside first, because DUE may arm and disarm any record and some
 * of these go back into the same slot. */
static void
look_at(struct wheel *w, uint32_t slot, wheel_due *due, void *arg)
{
    w->heads[WHEEL_SLOTS] = w->heads[slot];
    w->heads[slot] = 0;
    w->filled[slot / 64] &= ~(1ull << (slot % 64));
    for (uint32_t i = w->heads[WHEEL_SLOTS]; i != 0;) {
        struct wheel_link *l = link_of(w, i - 1);
        l->place = WHEEL_SLOTS + 1;
        i = l->next;
    }
    while (w->heads[WHEEL_SLOTS] != 0) {
        uint32_t i = w->heads[WHEEL_SLOTS] - 1;
        struct wheel_link *l = link_of(w, i);
        take_out(w, i);
        if ((int32_t)(l->due - w->tick) > 0) {
            insert(w, i, l->due);
        } else {
            l->due = 0;
            due(arg, i);
        }
    }
}

void
wheel_advance(struct wheel *w, uint32_t now, wheel_due *due, void *arg)
{
    uint32_t steps = now - w->tick;

    if ((int32_t)steps <= 0) {
        return;
    }
    if (steps > WHEEL_SLOTS) {
        /* After a long sleep one turn sees every list. */
        w->tick = now - WHEEL_SLOTS;
        steps = WHEEL_SLOTS;
    }
    while (steps-- > 0) {
        w->tick++;
        look_at(w, w->tick % WHEEL_SLOTS, due, arg);
    }
}

uint32_t
wheel_next(const struct wheel *w)
{
    for (uint32_t d = 1; d <= WHEEL_SLOTS;) {
        uint32_t slot = (w->tick + d) % WHEEL_SLOTS;
        uint64_t bits = w->filled[slot / 64] >> (slot % 64);
        if (bits != 0) {
            uint32_t at = w->tick + d + (uint32_t)__builtin_ctzll(bits);
            return at + (at == WHEEL_NONE); /* a tick late, once a wrap */
        }
        d += 64 - slot % 64;
    }
    return WHEEL_NONE;
}
