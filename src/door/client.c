/* door_call: the calling half. A thread keeps one channel for each door that it
 * calls; a call is: write the arguments, raise the sequence number, wake (or
 * ring), wait. No system call carries data.
 *
 * The server is as hostile to its caller as the other way round: its lengths
 * are fetched once and checked, a wait is bounded and looks for a hang-up.
 */
#include "door.h"
#include "door/name.h"
#include "door/raw.h"
#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

#define SET_UP_NS  5000000000ull
#define LOOK_NS    50000000ull /* how often a waiting caller looks for death */
/* After a call its server is taken for alive, or until the next tick. */
#define SEEN_NS    1000000ull
#define DESC_SIZE  sizeof(door_desc_t)
#define N_CHANNELS 32u /* a thread's; the oldest makes room */

struct channel {
    ino_t ino; /* of the door descriptor's socket */
    int conn;
    uint32_t forks; /* of whom it is: a child of fork makes its own */
    uint64_t seen;  /* when it was last seen alive */
    struct channel_call *call;
    const struct channel_reply *reply;
    struct channel_turn *turn; /* or NULL: the server knows none */
    struct door_welcome door;
};

struct channels {
    uint32_t next;
    door_desc_t *descs; /* DOOR_FDS_MAX of them, or NULL */
    struct channel of[N_CHANNELS];
};

static _Thread_local struct channels *my_channels;
static _Atomic uint32_t forks; /* that led to this process */
static pthread_key_t channels_key;
static pthread_once_t channels_once = PTHREAD_ONCE_INIT;

static void
channel_close(struct channel *ch)
{
    if (!ch->call) {
        return;
    }
    munmap(ch->call, DOOR_CHANNEL_SIZE);
    munmap((void *)(uintptr_t)ch->reply, DOOR_CHANNEL_SIZE);
    if (ch->turn) {
        munmap(ch->turn, DOOR_SHARED_SIZE);
    }
    close(ch->conn);
    memset(ch, 0, sizeof *ch);
}

static void
channels_end(void *arg)
{
    struct channels *all = arg;

    for (uint32_t i = 0; i < N_CHANNELS; i++) {
        channel_close(&all->of[i]);
    }
    free(all->descs);
    free(all);
    my_channels = NULL;
}

/* not reached: a child of fork: counters are lost */
static void
count_fork(void)
{
    atomic_fetch_add(&forks, 1);
}

static void
make_key(void)
{
    pthread_key_create(&channels_key, channels_end);
    pthread_atfork(NULL, NULL, count_fork);
}

/* ---- opening a channel ---- */

/* FDS: the memories that came, -1 for none. 0 or an errno, then none did:
 * ETIMEDOUT, it did not come until DUE. */
static int
wait_welcome(int conn, struct door_welcome *w, int fds[2], uint64_t due)
{
    uint64_t limit = door_now() + SET_UP_NS, until = MIN_OF(limit, due);
    size_t n = 2;

    for (;;) {
        uint64_t now = door_now();
        int e = door_wait_readable(conn, until > now ? until - now : 0);
        if (e == EINTR) {
            continue;
        }
        if (e != 0) {
            return e == ETIMEDOUT && until == due ? e : EBADF;
        }
        e = door_receive(conn, w, sizeof *w, fds, &n, NULL, MSG_DONTWAIT);
        if (e != 0) {
            return EBADF; /* it died, or it is no door */
        }
        if (w->magic != DOOR_WIRE_MAGIC || w->major != DOOR_WIRE_MAJOR) {
            e = EBADF;
        } else if (w->error != 0) {
            e = w->error > 0 && w->error < 4096 ? w->error : EBADF;
        } else if (n != ((w->features & DOOR_FEATURE_TURN) != 0 ? 2 : 1) ||
                   w->size != DOOR_CHANNEL_SIZE) {
            e = EBADF;
        }
        while (e != 0 && n > 0) {
            close(fds[--n]);
        }
        return e;
    }
}

/* Maps the memories FDS, which it takes. 0 or an errno. */
static int
channel_map(struct channel *ch, const int fds[2])
{
    int e = 0;

    ch->reply = door_memory_map(fds[0], DOOR_CHANNEL_SIZE, NULL);
    if (ch->reply && fds[1] >= 0) {
        ch->turn = door_shared_map(fds[1]);
    }
    if (!ch->reply || (fds[1] >= 0 && !ch->turn)) {
        e = errno == EINVAL ? EBADF : errno;
    }
    if (e != 0 && ch->reply) {
        munmap((void *)(uintptr_t)ch->reply, DOOR_CHANNEL_SIZE);
    }
    close(fds[0]);
    if (fds[1] >= 0) {
        close(fds[1]);
    }
    return e;
}

static int
channel_open(struct channel *ch, int d, uint64_t due)
{
    struct door_hello hello = {.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = DOOR_HELLO_CHANNEL,
                               .features =
                                   DOOR_FEATURE_TURN | DOOR_FEATURE_CONTEXT,
                               .size = DOOR_CHANNEL_SIZE,
                               .tid = (uint64_t)syscall(SYS_gettid)};
    int pair[2], memory = -1, theirs[2] = {-1, -1};

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return errno;
    }
    ch->call = door_memory_make("door-call", DOOR_CHANNEL_SIZE, NULL, &memory);
    if (!ch->call) {
        int e = errno;
        close(pair[0]);
        close(pair[1]);
        return e;
    }
    ch->call->magic = DOOR_WIRE_MAGIC;
    ch->call->major = DOOR_WIRE_MAJOR;
    int fds[2] = {pair[1], memory};
    int e = door_send(d, &hello, sizeof hello, fds, 2);
    for (int i = 0; i < 100 && (e == EAGAIN || e == ETOOMANYREFS); i++) {
        /* not reached: more hellos than a socket holds at once */
        usleep(2000); /* many callers at once: the server reads promptly */
        e = door_send(d, &hello, sizeof hello, fds, 2);
    }
    close(pair[1]);
    close(memory);
    e = e != 0 ? EBADF : wait_welcome(pair[0], &ch->door, theirs, due);
    if (e == 0) {
        e = channel_map(ch, theirs);
    }
    if (e != 0) {
        munmap(ch->call, DOOR_CHANNEL_SIZE);
        ch->call = NULL;
        close(pair[0]);
        return e;
    }
    ch->conn = pair[0];
    ch->forks = atomic_load(&forks);
    return 0;
}

/* This thread's channel to the door behind D. 0 or an errno; ETIMEDOUT: there
 * was none until DUE. */
static int
channel_get(int d, uint64_t due, struct channel **p_ch)
{
    struct stat st;

    if (raw_fstat(d, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return EBADF;
    }
    if (!my_channels) {
        pthread_once(&channels_once, make_key);
        my_channels = calloc(1, sizeof *my_channels);
        if (!my_channels) {
            return ENOMEM;
        }
        pthread_setspecific(channels_key, my_channels);
    }
    uint32_t mine = atomic_load_explicit(&forks, memory_order_relaxed);
    for (uint32_t i = 0; i < N_CHANNELS; i++) {
        struct channel *ch = &my_channels->of[i];
        if (ch->call && ch->forks != mine) {
            /* not reached: a child of fork: counters are lost */
            channel_close(ch); /* the parent's: it has its own copy */
        }
        if (ch->call && ch->ino == st.st_ino) {
            /* One that has just answered is not looked at: if it ends now, the
             * wait will tell. */
            uint64_t now = door_now_coarse();
            if (now - ch->seen < SEEN_NS || !door_hung_up(ch->conn)) {
                ch->seen = now;
                *p_ch = ch;
                return 0;
            }
            channel_close(ch);
        }
    }
    uint64_t uniquifier;
    uint32_t attributes;
    if (!door_is_marked(d, &uniquifier, &attributes)) {
        return EBADF;
    }
    /* Those whose servers have ended make room first. */
    for (uint32_t i = 0; i < N_CHANNELS; i++) {
        if (my_channels->of[i].call && door_hung_up(my_channels->of[i].conn)) {
            channel_close(&my_channels->of[i]);
        }
    }
    struct channel *ch = &my_channels->of[my_channels->next++ % N_CHANNELS];
    channel_close(ch);
    int e = channel_open(ch, d, due);
    if (e == 0) {
        ch->ino = st.st_ino;
        *p_ch = ch;
    }
    return e;
}

/* ---- arguments ---- */

static bool
is_revoked(const struct channel *ch)
{
    return (ch->door.features & DOOR_FEATURE_LIMITS) != 0 &&
           atomic_load(&ch->reply->revoked) != 0;
}

/* What can be told before anything is read. */
static int
check_params(const struct channel *ch, const door_arg_t *p)
{
    const struct channel_reply *r = ch->reply;
    uint64_t data_min = ch->door.data_min, data_max = ch->door.data_max;
    uint32_t desc_max = ch->door.desc_max;

    if ((ch->door.features & DOOR_FEATURE_LIMITS) != 0) {
        data_min = atomic_load_explicit(&r->data_min, memory_order_relaxed);
        data_max = atomic_load_explicit(&r->data_max, memory_order_relaxed);
        desc_max = atomic_load_explicit(&r->desc_max, memory_order_relaxed);
    }
    if (p->data_size < data_min || p->data_size > data_max) {
        /* not reached: tests/conformance does, its processes do not count */
        return ENOBUFS;
    }
    if (p->desc_num > 0 && (ch->door.attributes & DOOR_REFUSE_DESC) != 0) {
        return ENOTSUP;
    }
    if (p->desc_num > desc_max) {
        return ENFILE;
    }
    if (p->desc_num > DOOR_FDS_MAX || p->data_size > DOOR_CHANNEL_AREA) {
        return E2BIG;
    }
    return 0;
}

/* ---- the call ---- */

/* When the answer is of no use any more to whoever the calling thread serves.
 * CONTEXT: what the call is part of then; zeroes for nothing. */
static uint64_t
begin_context(struct door_context *context)
{
    door_context(context);
    return context->deadline != 0 ? context->deadline : UINT64_MAX;
}

static uint64_t
time_left(uint64_t due)
{
    uint64_t now = due != UINT64_MAX ? door_now() : 0;

    return due > now ? due - now : 0;
}

/* Says what the call is part of. */
static void
tell_context(const struct channel *ch, const struct door_context *context)
{
    bool has = (ch->door.features & DOOR_FEATURE_CONTEXT) != 0 &&
               (context->deadline | context->request_id) != 0;

    ch->call->has_context = has;
    if (has) {
        ch->call->context = *context;
    }
}

/* 0, or EBADF: nobody will ever hear it. */
static int
ring_bell(struct channel *ch, uint32_t seq)
{
    struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = seq};

    atomic_fetch_add(&ch->call->bells, 1);
    /* EAGAIN: it has been rung often enough. ENOMEM and the like: whoever waits
     * rings again. */
    return door_send(ch->conn, &bell, sizeof bell, NULL, 0) == EPIPE ? EBADF
                                                                     : 0;
}

/* Waits for the answer to call SEQ. 0, EINTR (a signal, or the server died in
 * the call), EAGAIN (a signal before a thread took it), EBADF (it died before
 * that), ETIMEDOUT (it is not there, and DUE is over). */
static int
wait_answer(struct channel *ch, uint32_t seq, uint64_t due)
{
    struct channel_reply *r = (struct channel_reply *)(uintptr_t)ch->reply;
    int e = 0;

    if (atomic_load_explicit(&r->done, memory_order_acquire) == seq) {
        return 0;
    }
    _Atomic uint32_t *word = ch->turn ? &ch->turn->answered : &r->done;
    /* The wait looks at that word once more, after a barrier of the kernel's: a
     * server that has not seen this one has changed it before. */
    atomic_store_explicit(&ch->call->waiting, 1, memory_order_relaxed);
    for (;;) {
        uint32_t seen = atomic_load(word); /* before we look */
        if (atomic_load(&r->done) == seq) {
            e = 0;
            break;
        }
        if (is_revoked(ch) && atomic_load(&r->taken) != seq) {
            /* not reached: tests/conformance does, its processes do not count
             */
            e = EBADF; /* no thread will take it */
            break;
        }
        uint64_t left = time_left(due);
        if (left == 0) {
            e = ETIMEDOUT;
            break;
        }
        int w = door_futex_wait(word, seen, MIN_OF(left, LOOK_NS), true);
        if (w == 0) {
            continue;
        }
        if (w == ETIMEDOUT && !door_hung_up(ch->conn)) {
            if (atomic_load(&r->taken) != seq) {
                ring_bell(ch, seq); /* it may have been lost: no memory */
            }
            continue;
        }
        if (atomic_load(&r->done) == seq && w != EINTR) {
            continue;
        }
        bool taken = atomic_load(&r->taken) == seq;
        e = w == EINTR ? (taken ? EINTR : EAGAIN) : taken ? EINTR : EBADF;
        break;
    }
    atomic_store_explicit(&ch->call->waiting, 0, memory_order_relaxed);
    return e;
}

/* Where this thread copies the entries of a call. */
static door_desc_t *
room_for_descs(void)
{
    if (!my_channels->descs) {
        my_channels->descs = malloc(DOOR_FDS_MAX * DESC_SIZE);
    }
    return my_channels->descs;
}

/* 0 or an errno; EFAULT: nothing was sent. */
static int
post(struct channel *ch, const door_arg_t *p, bool no_results,
     const struct door_context *context, uint32_t *p_seq)
{
    struct channel_call *q = ch->call;
    uint32_t seq = atomic_load_explicit(&q->seq, memory_order_relaxed) + 1;

    if (door_copy_in((char *)q + 4096, p->data_ptr, p->data_size) != 0) {
        /* not reached: tests/conformance does, its processes do not count */
        return EFAULT;
    }
    if (p->desc_num > 0) {
        door_desc_t *descs = room_for_descs();
        int e = descs ? channel_read_descs(descs, p->desc_ptr, p->desc_num)
                      : ENOMEM;
        if (e != 0) {
            return e;
        }
        e = name_send_descs(ch->conn, seq, descs, p->desc_num);
        if (e != 0) {
            channel_close(ch); /* some may be on their way already */
            return e == EPIPE ? EBADF : e;
        }
    }
    q->size = p->data_size;
    q->n_fds = p->desc_num;
    q->no_results = no_results;
    tell_context(ch, context);
    q->cpu = (uint32_t)(sched_getcpu() + 1);
    *p_seq = seq;
    _Atomic uint32_t *word = &q->seq;
    if (ch->turn) {
        word = &ch->turn->posted;
        atomic_store_explicit(&q->seq, seq, memory_order_release);
        atomic_fetch_add(word, 1);
    } else {
        atomic_store(word, seq);
    }
    switch (atomic_load(&ch->reply->parked)) {
    case 0:
        return ring_bell(ch, seq);
    case CHANNEL_LOOKS:
        return 0;
    default:
        door_futex_wake(word, 1, true);
        return 0;
    }
}

/* ---- results ---- */

static size_t
whole_pages(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (n + page - 1) / page * page;
}

static void
close_all(const int *fds, uint32_t n, const int *memory)
{
    for (uint32_t i = 0; i < n; i++) {
        close(fds[i]);
    }
    if (memory) {
        close(*memory);
    }
}

/* Receives N descriptors and, for BY_MEMORY, the memory with the data. 0 or an
 * errno, then nothing is left open. */
static int
receive_descs(struct channel *ch, uint32_t seq, int *fds, uint32_t n,
              int *p_memory)
{
    uint32_t have = 0;
    bool want_memory = p_memory != NULL;
    int e = 0, notes = 0;

    while (e == 0 && (have < n || want_memory)) {
        if (++notes > 4096) {
            /* not reached: more notes than a socket holds at once */
            e = EINTR; /* notes without end, and never the right ones */
            break;
        }
        struct door_note note;
        int got[DOOR_FDS_A_NOTE];
        size_t n_got = DOOR_FDS_A_NOTE;
        e = door_receive_user(ch->conn, &note, got, &n_got);
        e = e == EPROTO ? EMFILE : e == EAGAIN ? EINTR : e;
        if (e == 0 && note.kind == DOOR_NOTE_FDS && note.seq == seq &&
            note.purpose == 2) {
            /* not reached: see send_forget() */
            close_all(fds, have, p_memory && !want_memory ? p_memory : NULL);
            have = 0;
            want_memory = p_memory != NULL;
        }
        for (size_t i = 0; e == 0 && i < n_got; i++) {
            if (note.kind == DOOR_NOTE_FDS && note.seq == seq &&
                note.purpose == 1 && want_memory) {
                *p_memory = got[i];
                want_memory = false;
            } else if (note.kind == DOOR_NOTE_FDS && note.seq == seq &&
                       note.purpose == 0 && have < n) {
                fds[have++] = got[i];
            } else {
                close(got[i]);
            }
        }
    }
    if (e != 0) {
        close_all(fds, have, p_memory && !want_memory ? p_memory : NULL);
    }
    return e;
}

/* Lays the results out in the caller's buffer, or in a new mapping. 0 or an
 * errno, then P is as it was. */
static int
lay_out(door_arg_t *p, const void *data, size_t size, const int *fds,
        uint32_t n)
{
    size_t descs_at = (size + DESC_SIZE - 1) / DESC_SIZE * DESC_SIZE;
    size_t need = n > 0 ? descs_at + n * DESC_SIZE : size, room = p->rsize;
    char *to = p->rbuf;
    bool is_new = need > p->rsize || (need > 0 && !to);

    if (is_new) {
        room = whole_pages(need);
        to = mmap(NULL, room, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (to == MAP_FAILED) {
            return EOVERFLOW;
        }
    }
    int e = door_copy_out(to, data, size);
    for (uint32_t i = 0; e == 0 && i < n; i++) {
        door_desc_t desc;
        channel_describe(&desc, fds[i]);
        e = door_copy_out(to + descs_at + i * DESC_SIZE, &desc, DESC_SIZE);
    }
    if (e != 0) {
        /* not reached: a buffer that cannot be written */
        if (is_new) {
            munmap(to, room);
        }
        return e;
    }
    p->rbuf = to;
    p->rsize = room;
    p->data_size = size;
    p->desc_num = n;
    if (size > 0) {
        p->data_ptr = to;
    }
    if (n > 0) {
        p->desc_ptr = (door_desc_t *)(void *)(to + descs_at);
    }
    return 0;
}

static int
take_results(struct channel *ch, door_arg_t *p, uint32_t seq)
{
    const volatile struct channel_reply *r = ch->reply;
    uint64_t size = r->size;
    uint32_t n = r->n_fds;
    int32_t error = r->error;
    bool by_memory = r->by_memory != 0;
    const void *data = (const char *)ch->reply + 4096;
    int fds[DOOR_FDS_MAX], memory = -1, e = 0;

    if (error != 0) {
        return error > 0 && error < 4096 ? error : EINTR;
    }
    if (n > DOOR_FDS_MAX || (!by_memory && size > DOOR_CHANNEL_AREA) ||
        size > ((size_t)1 << 40)) {
        return EINTR; /* a server that lies has not answered */
    }
    if (n > 0 || by_memory) {
        e = receive_descs(ch, seq, fds, n, by_memory ? &memory : NULL);
    }
    if (e != 0) {
        return e;
    }
    if (by_memory) {
        data = door_memory_map(memory, size, NULL);
        close(memory);
        e = data ? 0 : EOVERFLOW;
    }
    if (e == 0 && p) {
        e = lay_out(p, data, size, fds, n);
    }
    if (by_memory && data) {
        munmap((void *)(uintptr_t)data, size);
    }
    if (e != 0 || !p) {
        close_all(fds, n, NULL);
    }
    return e;
}

/* The call of ARGS; P: where results go, or NULL. 0 or an errno. */
static int
call(int d, const door_arg_t *args, door_arg_t *p)
{
    struct channel *ch = NULL;
    struct door_context context;
    uint64_t due = begin_context(&context);
    uint32_t seq = 0;
    int e = channel_get(d, due, &ch);

    if (e == 0 && is_revoked(ch)) {
        /* not reached: tests/conformance does, its processes do not count */
        e = EBADF;
    }
    if (e == 0) {
        e = check_params(ch, args);
    }
    if (e == 0 && time_left(due) == 0) {
        e = ETIMEDOUT;
    }
    if (e == 0) {
        e = post(ch, args, p == NULL, &context, &seq);
    }
    if (e != EBADF && e != EFAULT) {
        /* All of them, also those beyond the most that a call may bring. */
        channel_release_descs(args->desc_ptr, args->desc_num);
    }
    if (e != 0) {
        return e;
    }
    e = wait_answer(ch, seq, due);
    if (e == 0) {
        return take_results(ch, p, seq);
    }
    /* The call goes on without us, or its server is gone: this channel cannot
     * be used for another before it is answered, so it is given up with it. */
    atomic_store(&ch->call->given_up, seq);
    channel_close(ch);
    return e;
}

/* The results R of a call with ARGS cannot be told to the program. */
static void
drop_results(const door_arg_t *args, const door_arg_t *r)
{
    for (unsigned int i = 0; i < r->desc_num; i++) {
        close(r->desc_ptr[i].d_data.d_desc.d_descriptor);
    }
    if (r->rbuf != args->rbuf) {
        munmap(r->rbuf, r->rsize);
    }
}

int
door_call(int d, door_arg_t *params)
{
    door_arg_t args = {0}, results;
    int e = params ? door_copy_in(&args, params, sizeof args) : 0;

    results = args;
    if (e == 0) {
        e = call(d, &args, params ? &results : NULL);
    }
    if (e == 0 && params) {
        e = door_copy_out(params, &results, sizeof results);
        if (e != 0) {
            drop_results(&args, &results);
        }
    }
    errno = e;
    return e == 0 ? 0 : -1;
}
