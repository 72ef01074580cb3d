/* The serving side of a channel: one caller thread, one call at a time. The
 * caller's memory is hostile: each field is fetched once; the arguments become
 * the procedure's own copy.
 */
#include "door/name.h"
#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct channel_call *
call_of(const struct source *src)
{
    return src->request;
}

static struct channel_reply *
reply_of(const struct source *src)
{
    return src->reply;
}

int
channel_accept(struct source *src, int memory_fd, bool knows_turn, int fds[2])
{
    if (src->request_size != DOOR_CHANNEL_SIZE) {
        return EPROTO;
    }
    src->request = door_memory_map(memory_fd, src->request_size, NULL);
    if (!src->request) {
        return errno; /* EINVAL: refused */
    }
    const struct channel_call *q = call_of(src);
    if (q->magic != DOOR_WIRE_MAGIC || q->major != DOOR_WIRE_MAJOR) {
        return EPROTO;
    }
    src->cpu = -1;
    src->reply_size = DOOR_CHANNEL_SIZE;
    src->reply = door_memory_make("door-reply", DOOR_CHANNEL_SIZE, NULL, fds);
    if (!src->reply) {
        return errno;
    }
    if (knows_turn) {
        /* Without it, for want of room, a call is a little slower. */
        src->turn = door_shared_make("door-turn", fds + 1);
    }
    src->bell =
        src->turn ? &src->turn->posted : (_Atomic uint32_t *)(uintptr_t)&q->seq;
    reply_of(src)->magic = DOOR_WIRE_MAGIC;
    reply_of(src)->major = DOOR_WIRE_MAJOR;
    return 0;
}

void
channel_tell_limits(struct source *src)
{
    struct channel_reply *r = reply_of(src);
    const struct door *d = src->door;

    atomic_store(&r->data_min, d->data_min);
    atomic_store(&r->data_max, d->data_max);
    atomic_store(&r->desc_max, d->desc_max);
    if ((d->attributes & DOOR_REVOKED) != 0) {
        /* not reached: tests/conformance does, its processes do not count */
        atomic_store(&r->revoked, 1);
        if (src->turn) {
            atomic_fetch_add(&src->turn->answered, 1);
        }
        door_futex_wake(src->turn ? &src->turn->answered : &r->done, 1, true);
    }
}

bool
channel_has_work(const struct source *src)
{
    const struct channel_reply *r = reply_of(src);
    uint32_t taken = atomic_load_explicit(&r->taken, memory_order_acquire);

    /* One call at a time: a second one posted meanwhile is not work yet. */
    return atomic_load_explicit(&call_of(src)->seq, memory_order_acquire) !=
               taken &&
           atomic_load_explicit(&r->done, memory_order_acquire) == taken;
}

uint32_t
channel_n_taken(const struct source *src)
{
    return atomic_load(&reply_of(src)->taken);
}

/* ---- taking ---- */

static void
close_descs(const door_desc_t *descs, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        close(descs[i].d_data.d_desc.d_descriptor);
    }
}

void
channel_describe(door_desc_t *desc, int fd)
{
    uint64_t uniquifier;
    uint32_t attributes;

    memset(desc, 0, sizeof *desc);
    desc->d_attributes = DOOR_DESCRIPTOR;
    desc->d_data.d_desc.d_descriptor = fd;
    if (door_is_marked(fd, &uniquifier, &attributes)) {
        if (name_is_own(uniquifier, &attributes)) {
            attributes |= DOOR_LOCAL;
        }
        desc->d_attributes |= attributes;
        desc->d_data.d_desc.d_id = uniquifier;
    }
}

/* Receives the descriptors that belong to call SEQ. Other notes (bells, those
 * of abandoned calls) are dropped. 0 or an errno. */
static int
receive_descs(struct thread *t, uint32_t seq, uint32_t n)
{
    struct call *c = &t->call;
    uint32_t have = 0;

    free(t->descs);
    t->descs = calloc(n, sizeof *t->descs);
    if (!t->descs) {
        /* not reached: memory is gone */
        return ENOMEM;
    }
    for (uint32_t notes = 0; have < n; notes++) {
        struct door_note note;
        int fds[DOOR_FDS_A_NOTE];
        size_t got = DOOR_FDS_A_NOTE;
        int e = door_receive_user(c->src->conn, &note, fds, &got);
        if (e == 0 && notes > 4096) {
            /* not reached: more notes than a socket holds at once */
            e = EPROTO; /* notes without end, and never the right ones */
            while (got > 0) {
                close(fds[--got]);
            }
        }
        if (e != 0) {
            close_descs(t->descs, have);
            return e == EAGAIN ? EPROTO : e == EPROTO ? EMFILE : e;
        }
        for (size_t i = 0; i < got; i++) {
            if (note.kind == DOOR_NOTE_FDS && note.seq == seq && have < n) {
                channel_describe(&t->descs[have++], fds[i]);
            } else {
                close(fds[i]);
            }
        }
    }
    return 0;
}

/* Takes old bells off the connection, before they fill it. */
static void
drain_bells(struct source *src)
{
    uint32_t bells = atomic_load(&call_of(src)->bells);
    struct door_note note;
    size_t n;

    if (bells == src->bells) {
        return;
    }
    src->bells = bells;
    /* Bounded: a caller may send as fast as we read. */
    int most = 1024;
    do {
        n = 0;
    } while (most-- > 0 && door_receive(src->conn, &note, sizeof note, NULL, &n,
                                        NULL, MSG_DONTWAIT) == 0);
}

/* E2BIG by the thread's own stack, as doors-semantics 3.2 reckons: the size
 * less a 32nd of it (1 to 64 KiB) less 512. */
static bool
fits_stack(uint64_t size, uint32_t n_fds)
{
    pthread_attr_t attr;
    size_t stack = 8u << 20;

    if (size + n_fds * sizeof(door_desc_t) < 65536) {
        return true;
    }
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        pthread_attr_getstacksize(&attr, &stack);
        pthread_attr_destroy(&attr);
    }
    size_t reserve = stack / 32;
    reserve = reserve > 65536 ? 65536 : reserve < 1024 ? 1024 : reserve;
    return size + n_fds * sizeof(door_desc_t) <= stack - reserve - 512;
}

/* What the call C is part of, by its caller's word. */
static void
fetch_context(struct call *c)
{
    const struct channel_call *q = call_of(c->src);
    bool has =
        c->src->has_context && *(const volatile uint32_t *)&q->has_context != 0;

    if (has) {
        memcpy(&c->context, (const void *)&q->context, sizeof c->context);
        c->context.spare = 0;
    } else {
        memset(&c->context, 0, sizeof c->context);
    }
}

/* Its caller waits no longer: it has said so, or is about to. */
static bool
is_late(const struct call *c)
{
    return c->context.deadline != 0 && door_now() >= c->context.deadline;
}

static int
copy_args(struct thread *t, uint32_t seq)
{
    struct call *c = &t->call;

    const struct channel_reply *r = reply_of(c->src);

    if (c->src->door->native) {
        return ENOTSUP;
    }
    if (is_late(c)) {
        return ETIMEDOUT; /* what nobody waits for is not run */
    }
    if (atomic_load(&r->revoked) != 0) {
        /* not reached: between the caller's look and this */
        return EBADF;
    }
    if (c->size < atomic_load(&r->data_min) ||
        c->size > atomic_load(&r->data_max)) {
        /* not reached: the caller looks first; it changed since, or it lies:
         * conformance, hostile */
        return ENOBUFS;
    }
    if (c->n_fds > 0 && (c->src->door->attributes & DOOR_REFUSE_DESC) != 0) {
        return ENOTSUP;
    }
    if (c->n_fds > atomic_load(&r->desc_max)) {
        /* not reached: the caller has looked; only a hostile one comes here */
        return ENFILE;
    }
    if (c->size > DOOR_CHANNEL_AREA || c->n_fds > DOOR_FDS_MAX ||
        !fits_stack(c->size, c->n_fds)) {
        return E2BIG;
    }
    int e = pool_copy_args(t, (const char *)c->src->request + 4096, c->size);
    if (e != 0) {
        /* not reached: memory is gone */
        return e;
    }
    if (c->n_fds > 0) {
        return receive_descs(t, seq, c->n_fds);
    }
    drain_bells(c->src);
    return 0;
}

bool
channel_take(struct source *src, struct thread *t)
{
    const struct channel_call *q = call_of(src);
    struct channel_reply *r = reply_of(src);
    struct call *c = &t->call;
    uint32_t taken = atomic_load(&r->taken);
    uint32_t seq = atomic_load_explicit(&q->seq, memory_order_acquire);

    /* One call at a time: the next is taken only when this one is answered. */
    if (seq == taken || atomic_load(&r->done) != taken ||
        !atomic_compare_exchange_strong(&r->taken, &taken, seq)) {
        return false;
    }
    c->src = src;
    c->seq = seq;
    c->size = *(const volatile uint64_t *)&q->size;
    c->n_fds = *(const volatile uint32_t *)&q->n_fds;
    c->no_results = *(const volatile uint32_t *)&q->no_results != 0;
    fetch_context(c);
    c->open = true;
    uint32_t cpu = *(const volatile uint32_t *)&q->cpu;
    atomic_store_explicit(&src->cpu, cpu <= CPU_SETSIZE ? (int32_t)cpu - 1 : -1,
                          memory_order_relaxed);
    int e = copy_args(t, seq);
    if (e != 0) {
        channel_answer(t, e, NULL, 0, NULL, 0);
        return false;
    }
    return true;
}

/* ---- answering ---- */

/* Results that do not fit the reply memory cross as a memfd of their own. */
static int
send_memory(struct call *c, const char *data, size_t size)
{
    int fd = -1;
    char *map = door_memory_make("door-result", size, NULL, &fd);

    if (!map) {
        /* not reached: memory is gone */
        return ENOMEM;
    }
    int e = door_copy_in(map, data, size);
    munmap(map, size);
    if (e != 0) {
        /* not reached: 8 MiB that cannot be read */
        close(fd);
        return e;
    }
    struct door_note note = {.kind = DOOR_NOTE_FDS,
                             .seq = c->seq,
                             .n_fds = 1,
                             .purpose = 1,
                             .size = size};
    e = door_send(c->src->conn, &note, sizeof note, &fd, 1);
    close(fd);
    return e;
}

int
channel_read_descs(door_desc_t *to, const door_desc_t *from, uint32_t n)
{
    if (door_copy_in(to, from, n * sizeof *from) != 0) {
        /* not reached: tests/conformance does, its processes do not count */
        return EFAULT;
    }
    for (uint32_t i = 0; i < n; i++) {
        if ((to[i].d_attributes & DOOR_DESCRIPTOR) == 0 ||
            fcntl(to[i].d_data.d_desc.d_descriptor, F_GETFD) < 0) {
            return EINVAL;
        }
    }
    return 0;
}

void
channel_release_descs(const door_desc_t *descs, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        door_desc_t desc;
        if (door_copy_in(&desc, descs + i, sizeof desc) != 0) {
            /* not reached: they were read a moment ago */
            return;
        }
        if ((desc.d_attributes & DOOR_RELEASE) != 0) {
            close(desc.d_data.d_desc.d_descriptor);
        }
    }
}

/* What was sent for an answer that failed is void; the program may try again. 0
 * or an errno. */
/* not reached: sending fails after the entries were found to be good */
static int
send_forget(struct call *c)
{
    struct door_note note = {
        .kind = DOOR_NOTE_FDS, .seq = c->seq, .purpose = 2};

    return door_send(c->src->conn, &note, sizeof note, NULL, 0);
}

/* Brings the results to the caller, but for the words that tell of them. 0 or
 * an errno; then *P_AGAIN: the program may try again. */
static int
send_results(struct call *c, const char *data, size_t size,
             const door_desc_t *descs, uint32_t n_descs, bool *p_again)
{
    bool by_memory = size > DOOR_CHANNEL_AREA;
    door_desc_t *own = n_descs > 0 ? malloc(n_descs * sizeof *own) : NULL;
    int e = n_descs > 0 && !own ? ENOMEM : 0;

    if (own) {
        e = channel_read_descs(own, descs, n_descs);
    }
    if (e == 0 && size > 0 && !by_memory) {
        e = door_copy_in((char *)c->src->reply + 4096, data, size);
    }
    if (e == 0 && (n_descs > 0 || by_memory)) {
        e = name_send_descs(c->src->conn, c->seq, own, n_descs);
        if (e == 0 && by_memory) {
            e = send_memory(c, data, size);
        }
        *p_again = e == 0 || send_forget(c) == 0;
    }
    free(own);
    return e;
}

int
channel_answer(struct thread *t, int error, const char *data, size_t size,
               const door_desc_t *descs, uint32_t n_descs)
{
    struct call *c = &t->call;
    struct source *src = c->src;
    struct channel_reply *r = reply_of(src);
    const struct channel_call *q = call_of(src);
    bool again = true;
    int e = 0;

    if (!c->open) {
        /* not reached: a thread that ends answers once */
        channel_release_descs(descs, n_descs);
        return 0;
    }
    if (n_descs > DOOR_FDS_MAX ||
        (c->no_results && (size > 0 || n_descs > 0))) {
        e = E2BIG;
    } else {
        e = send_results(c, data, size, descs, n_descs, &again);
    }
    if (e != 0 && again && !atomic_load(&src->dead)) {
        return e;
    }
    channel_release_descs(descs, n_descs);
    r->error = e == 0 ? error : EINTR; /* else it is lost, or nobody waits */
    r->size = e == 0 ? size : 0;
    r->n_fds = e == 0 ? n_descs : 0;
    r->by_memory = e == 0 && size > DOOR_CHANNEL_AREA;
    c->open = false;
    pool_no_cancel(src);
    /* Its caller may call again, by another way, before we are back. */
    atomic_store_explicit(&t->serving, false, memory_order_relaxed);
    /* This thread looks for the next call before it does anything else, so who
     * posts one at once need neither ring nor wake (drop_source() takes the
     * word back). */
    atomic_store_explicit(&r->parked, CHANNEL_LOOKS, memory_order_relaxed);
    _Atomic uint32_t *word = &r->done;
    if (src->turn) {
        word = &src->turn->answered;
        atomic_store_explicit(&r->done, c->seq, memory_order_release);
        atomic_fetch_add(word, 1);
    } else {
        atomic_store(word, c->seq);
    }
    if (atomic_load(&q->waiting) != 0) {
        door_futex_wake(word, 1, true);
    }
    return 0;
}
