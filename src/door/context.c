/* What a call is part of goes on with the calls that are made for it: a thread
 * that serves one hands its deadline, its request and its trace to the doors
 * that it calls itself, without the program's doing.
 *
 * Which call that is, the thread knows by a pointer of its own, set once: where
 * its calls stand. A context is that of a call from the moment it was taken
 * until it is answered; what a thread calls between two calls, or after its
 * answer, is part of nothing.
 */
#include "door/server.h"

#include <string.h>

static _Thread_local const struct call *my_call;

void
context_stands_in(const struct call *c)
{
    my_call = c;
}

static void
of_entry(const struct ring_entry *e, struct door_context *context)
{
    context->deadline = e->deadline;
    context->request_id = e->request_id;
    memcpy(context->trace_id, e->trace_id, sizeof context->trace_id);
    memcpy(context->span_id, e->span_id, sizeof context->span_id);
    context->trace_flags = e->trace_flags;
    context->spare = 0;
}

bool
door_context(struct door_context *context)
{
    static const struct door_context none;
    const struct call *c = my_call;

    *context = none;
    if (!c || !c->open) {
        return false;
    }
    if (c->src->kind == SOURCE_RING) {
        of_entry(&c->entry, context);
    } else if (c->src->kind == SOURCE_CHANNEL) {
        *context = c->context;
    }
    return memcmp(context, &none, sizeof none) != 0;
}

bool
door_context_plain(void)
{
    const struct call *c = my_call;

    return c && c->open && !c->src->door->native;
}

bool
door_context_gone(void)
{
    const struct call *c = my_call;

    if (!c || !c->open || c->src->kind == SOURCE_UNREF) {
        return false;
    }
    return c->src->kind == SOURCE_RING ? door_task_withdrawn(&c->task)
                                       : atomic_load(&c->src->dead);
}
