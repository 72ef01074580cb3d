/* The worker's inside. struct core lies at the start of the arena: what an heir
 * needs to go on. struct worker is private and can be made anew from it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/util.h"
#include "base/world.h"
#include "conf/conf.h"
#include "door/ring.h"
#include "door/sys.h"
#include "front/conn.h"
#include "front/fault.h"
#include "front/queue.h"
#include "front/succession.h"
#include "front/worker.h"
#include "loop/arena.h"
#include "loop/wheel.h"

#define CORE_MAGIC       0x65726f4361647243ull
#define EVENTS_MAX       256
#define TABLE_MAX        (1u << 20) /* descriptors, whatever the limit */
#define TICK_NS          (25ull * NS_PER_MS)
#define LOG_BATCH        4096
#define LINGER_MAX       (16u << 20)
#define AGAIN_MAX        128u
#define SPARE_SEGS       2u   /* segments kept warm when nobody needs them */
#define SHARE            32u  /* requests of one connection in one pass */
#define SHARE_ALL        256u /* of all that have more than that, about */
#define RATE_MIN         256u /* bytes a second, after the first timeout */
#define READ_MAX_CHUNKED 16384u
#define CONTINUE_TEXT    "HTTP/1.1 100 Continue\r\n\r\n"

/* Where log and counters stood before the request ID was counted. */
struct ending {
    uint64_t id;
    uint64_t requests, answers, causes, run_ns;
    uint64_t wait_ns, wait, run, median_ns;
    uint32_t seat_requests, log_at;
};

struct core {
    uint64_t magic;
    struct epoll_event events[EVENTS_MAX]; /* cleared before each wait */
    int n_events, epoll;
    uint32_t n_conns; /* records in the table */
    uint32_t top;     /* highest descriptor ever used, plus one */
    uint32_t live;
    uint32_t next_gen;
    uint64_t request_id;
    uint32_t listeners_pending; /* bit i: accept may find something there */
    uint64_t pending_since;     /* ns: since when any bit is set */
    bool stopping;
    uint64_t stop_at;    /* ns; what is not done by then is cut */
    uint64_t orphan_at;  /* ns: when the keeper was gone; 0: it is there */
    uint64_t idle_until; /* ns: then connections without a request are closed */
    uint64_t takeovers;
    uint64_t last_pass; /* ns: when the last pass began */
    struct succession succession;
    uint32_t shutting; /* the connection whose close(2) has begun, plus one */
    uint64_t pipes;    /* of local.c: its two ends; 0: none */
    uint64_t pipe_from, pipe_have;
    struct ending ending;
    uint64_t log_lost; /* writes that the log did not take */
    uint32_t log_len;
    char log[LOG_BATCH]; /* lines of this pass; of a dead worker, its last */
    struct fault_report fault;
    /* struct ring[n_rings] and what lies apart of each; struct conn[n_conns].
     * All zero until used, so each costs memory only as far as it was. */
    uint32_t n_rings, rings_max;
    uint64_t generation; /* of the configuration that holds */
    uint64_t rings_off, tables_off, conns_off, queues_off;
    uint64_t queue_seed;
    /* Rings that were ever used, and those whose queue was; the memory of
     * others was never touched. */
    uint64_t rings_used[TARGETS_MAX / 64];
    uint64_t lines_used[TARGETS_MAX / 64];
};

/* A configuration that is to hold soon (renew.c). An heir that was cloned then
 * has it, too. */
struct renewal {
    struct conf *conf; /* within BLOCK; NULL: not whole yet */
    void *block;
    size_t len;
    uint64_t generation;
    /* That came for it; -1: none. */
    int listen_fds[CONF_LISTENS_MAX];
    int folder_fds[TARGETS_MAX];
    uint32_t n_fds;
};

struct worker {
    const struct worker_setup *setup;
    const struct conf *conf;
    void *conf_block; /* that it lies in; NULL: not ours */
    size_t conf_len;
    int listen_fds[CONF_LISTENS_MAX]; /* -1: none, or not any more */
    int folder_fds[TARGETS_MAX];
    struct renewal next;
    uint32_t n_gone;  /* targets and listeners that went, and are in use */
    uint64_t tidy_at; /* ns: then it is looked whether they still are */
    uint64_t told_targets[TARGETS_MAX / 64], told_listens; /* that not */
    const struct world *world;
    struct arena arena;
    struct core *core;
    struct conn *conns;
    struct ring *rings;
    struct queue *queues; /* one of each ring: who waits for a thread */
    struct wheel wheel;
    uint16_t ports[32]; /* of the listeners, as bound */
    uint64_t now;       /* read once a pass, and when it has answers to take */
    bool polls_new;     /* no answer was taken since this pass began to look */
    uint64_t slow_at;   /* next slow tick */
    uint64_t nap;       /* backing-off wait while calls are in flight, ns */
    uint64_t wall_sec;
    char date[HTTP_DATE_LEN + 1];
    uint64_t active[TARGETS_MAX / 64]; /* rings with calls in flight */
    uint64_t lines[TARGETS_MAX / 64];  /* rings that somebody waits for */
    uint32_t n_waiting;                /* in all queues */
    /* Epochs of the rings whose two memories this process has mapped. A ring
     * that a worker opened after it cloned its heir is not in the heir. */
    uint64_t mapped[TARGETS_MAX];
    /* Connections that had their share of this pass and may have more. */
    struct {
        uint32_t i, gen;
    } again[AGAIN_MAX];
    uint32_t n_again;
    uint32_t n_sharing;  /* how many had their share of the pass before */
    uint32_t look_at;    /* records that an heir has not looked at begin here */
    bool again_all;      /* the list was too short: whoever has CONN_AGAIN */
    uint32_t n_draining; /* rings that are to be given back when unused */
    uint32_t n_passed;   /* passed connections, not claimed when last seen */
    int leaving;         /* 1: leave the loop, status 0 */
    /* The kernel's list of words that tell of our death; see succession.h. */
    struct robust_list_head robust;
    uint64_t heirs_at; /* ns: not before, when heirs_due */
    bool heirs_due;    /* there are too few, or stale ones */
    bool heirs_failed; /* and the last clone failed */
    bool is_heir;      /* has the crown, and has not taken over yet */
    bool greeted;      /* a ring's welcome is here: rings_greet */
    bool pipe_left;    /* local.c: there may be bytes in the pipe */
    uint64_t welcomes[TARGETS_MAX / 64]; /* whose */
    /* What the keeper's socket did not take (control.c). */
    bool unsaid, unsaid_ready, unsaid_heir;
    uint8_t unsaid_lost[TARGETS_MAX]; /* enum worker_cause; 0: nothing */
};

/* Epoll data of what is not a connection. */
enum event_tag {
    TAG_CONN = 0,
    TAG_CONTROL = 1,
    TAG_LISTENER = 3,
    TAG_RING = 4,
    TAG_HEIR = 5,
};
#define EVENT_DATA(tag, gen, i)                                                \
    (((uint64_t)(tag) << 56) | ((uint64_t)(gen) << 32) | (uint32_t)(i))

/* Why a request ended as it did, for the log. */
/* ---- worker.c ---- */

/* Everything before the loop: arena, descriptors, rights. 0 or an errno. */
int worker_begin(struct worker *w, const struct worker_setup *setup);
/* The loop, from its base frame, until the worker leaves: the same for a fresh
 * worker and for an heir. The exit status. */
int worker_loop(struct worker *w);
/* What is done between two passes, in the base frame: heirs are cloned, and
 * one that has the crown takes over here. true: there may be something to flush
 * now, so that the next pass must not wait. */
bool worker_stand(struct worker *w);
/* Does what stands in core->events, which a worker before us took. */
void worker_replay(struct worker *w);
/* One pass; MAY_BLOCK: wait for events. */
void worker_pass(struct worker *w, bool may_block);
/* Makes what is private anew from the arena: lists, wheel, maps. */
void worker_rebuild(struct worker *w);
/* Arms the timer of connection I for NS from now. */
void worker_arm(struct worker *w, uint32_t i, uint64_t ns);
/* The same for a transfer that began at BEGAN and has moved BYTES: the timeout
 * NS counts from the last progress, and all of it must keep up RATE_MIN. */
void worker_arm_rate(struct worker *w, uint32_t i, uint64_t ns, uint64_t began,
                     uint64_t bytes);
int worker_watch(struct worker *w, int fd, uint32_t events, uint64_t data);
/* Connection I goes on in the next pass, without an event. */
void worker_again(struct worker *w, uint32_t i);
/* Says an event that concerns the worker itself. */
void worker_event(struct worker *w, enum log_level level, const char *event,
                  const char *key, const char *value);

/* What this worker counts of TARGET; of requests without one, NO_TARGET. It is
 * in use from then on. */
#define NO_TARGET UINT32_MAX
static inline struct tally *
tally_of(const struct worker *w, uint32_t target)
{
    struct tally_table *table = w->setup->tallies;
    uint32_t at = target < w->conf->n_targets ? target + 1 : 0;
    _Atomic uint64_t *used = &table->used[at / 64];
    uint64_t bits = atomic_load_explicit(used, memory_order_relaxed);

    /* We are the only writer: no locked instruction is needed. */
    if ((bits >> (at % 64) & 1) == 0) {
        atomic_store_explicit(used, bits | 1ull << (at % 64),
                              memory_order_relaxed);
        KEEP_ORDER(); /* then what is counted */
    }
    return &table->entries[at];
}

/* Was TARGET's tally ever in use? */
static inline bool
tally_is_used(const struct worker *w, uint32_t target)
{
    uint32_t at = target + 1;

    return (atomic_load_explicit(&w->setup->tallies->used[at / 64],
                                 memory_order_relaxed) >>
                (at % 64) &
            1) != 0;
}

/* About the median of how long TARGET's latest calls ran, ns; 0: none has ended
 * yet. */
static inline uint64_t
tally_median(const struct worker *w, uint32_t target)
{
    return atomic_load_explicit(&tally_of(w, target)->median_ns,
                                memory_order_relaxed);
}

static inline void
tally_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
        memory_order_relaxed);
}

static inline void
tally_in_flight(struct tally *t, uint32_t n)
{
    atomic_store_explicit(&t->in_flight, n, memory_order_relaxed);
}

static inline struct request *
request_of(const struct worker *w, const struct conn *c)
{
    return (struct request *)arena_at(&w->arena, c->seg);
}

static inline char *
input_of(const struct worker *w, const struct conn *c)
{
    return (char *)arena_at(&w->arena, c->seg) + INPUT_AT;
}

static inline uint32_t
input_size(const struct worker *w, const struct conn *c)
{
    return (arena_is_run(&w->arena, c->seg) ? ARENA_RUN * ARENA_SEGMENT
                                            : ARENA_SEGMENT) -
           INPUT_AT;
}

/* From here on it is connection I's doing if the worker faults. */
static inline void
worker_at(struct worker *w, uint32_t i)
{
    *(volatile uint32_t *)&w->core->fault.at = i;
}

/* ---- accept.c ---- */
void accept_some(struct worker *w);
/* Takes whoever is in the queue of LISTENER, which is to be closed. */
void accept_rest(struct worker *w, uint32_t listener);
/* 0 or an errno. */
int accept_watch(struct worker *w, uint32_t listener);
/* Records FD (taken), a new connection of LISTENER; all zero PEER: unnamed. */
void accept_adopt(struct worker *w, int fd, uint32_t listener,
                  const struct sockaddr_storage *peer);
/* Stops listening for good. */
void accept_stop(struct worker *w);

/* ---- conn.c ---- */
void conn_event(struct worker *w, uint32_t i, uint32_t events);
void conn_due(struct worker *w, uint32_t i);
/* The reply of connection I has left whole: on to the next request. */
void conn_done(struct worker *w, uint32_t i);
void conn_close(struct worker *w, uint32_t i);
/* Ends a request that is not answered, or not whole, for CAUSE: logged, closed.
 */
void conn_fail(struct worker *w, uint32_t i, enum reply_cause cause);
/* The rest of what conn_done and conn_close began, in the states DONE, ENDING
 * and SHUT: all of it can be done again. */
void conn_finish(struct worker *w, uint32_t i);
void conn_end(struct worker *w, uint32_t i);
void conn_shut(struct worker *w, uint32_t i);
/* Moves the input from in_pos on to its start, and enters THEN; and the rest of
 * it, in SHIFT. */
void conn_shift(struct worker *w, struct conn *c, enum conn_state then);
void conn_go_shift(struct worker *w, struct conn *c, enum conn_state then);
/* Makes the other fields say what the step of a chunked body says that counts.
 */
void conn_stepped(struct conn *c, struct request *r);
/* Where the bytes of a chunked body are read to. */
char *conn_raw_at(const struct worker *w, const struct conn *c);
void conn_wipe_request(struct request *r);
/* Reads and goes on, in whatever state it is. */
void conn_go(struct worker *w, uint32_t i);
/* A segment with an empty request. false: none is to be had. */
bool conn_take_segment(struct worker *w, struct conn *c);
void conn_give_segments(struct worker *w, struct conn *c);
/* One recv into TO. >0 bytes, to be recorded, then conn_recorded; 0: nothing
 * now; -1: the client sends no more, or is gone (see flags). */
ssize_t conn_read(struct conn *c, uint32_t i, void *to, size_t room);
/* The N bytes of the last conn_read stand in the record: the read is over. On a
 * Unix socket they are taken only now: its peek offset is the counter that it
 * has no other of. */
void conn_recorded(struct conn *c, uint32_t i, size_t n);

/* ---- call.c ---- */
/* A request head has been understood: finds its target and begins. */
void call_route(struct worker *w, uint32_t i, const struct http_request *h);
/* No door came in time: 503 for a connection in WAIT. */
void call_give_up(struct worker *w, uint32_t i);
/* Nothing but a free thread is missing to R from now on. */
static inline void
call_is_ready(const struct worker *w, struct request *r)
{
    if (r->ready == 0) {
        r->ready = w->now;
    }
}

/* The whole body is there: publishes it, or lets it wait for its turn, or
 * refuses it. */
void call_publish(struct worker *w, uint32_t i);
/* Its turn has come. */
void call_publish_now(struct worker *w, uint32_t i);
void call_answered(void *worker, struct ring *g, uint32_t i, uint32_t slot);
/* The same for an answer that a worker before us took and did not use. */
void call_take_answer(struct worker *w, uint32_t i);
/* How long a call of TARGET may take, ns. */
uint64_t call_timeout(const struct worker *w, uint32_t target);
/* The call of C, which is still in its ring, gets no answer: if a thread took
 * it, it ran, and did not wait, from its publishing on. */
void call_note_claim(struct worker *w, const struct conn *c);
/* The call of C was not answered in time: tells the keeper if its door took no
 * call at all since. */
void call_overdue(struct worker *w, const struct conn *c);
/* Gives back what the request holds of its ring: slot and memory; of a call
 * that is in flight nobody waits for the answer any more. */
void call_release(struct worker *w, struct conn *c);
/* Makes the body's room at least WANT bytes. 0, or a status to answer. */
int call_grow_body(struct worker *w, struct conn *c, uint64_t want);

/* ---- waiting.c: calls that wait for a thread (CONN_QUEUE) ---- */
/* Must a call of TARGET wait for others? */
bool waiting_must(const struct worker *w, uint32_t target);
/* The call of connection I, which is built and has its deadline, waits; or it
 * is answered 503: there is no time left for it, or too many wait. */
void waiting_begin(struct worker *w, uint32_t i);
/* How many requests wait for TARGET, whether for their turn or for the door. */
uint32_t waiting_n(const struct worker *w, uint32_t target);
/* Says so in its tally. */
void waiting_tell(struct worker *w, uint32_t target);
/* Publishes whose turn has come; to be flushed. Once a pass, and when answers
 * were taken. */
void waiting_go_on(struct worker *w);
/* Connection I is in no queue any more, whether or not it was. */
void waiting_remove(struct worker *w, uint32_t i);
/* Its time is over. */
void waiting_due(struct worker *w, uint32_t i);
/* 503 with a Retry-After that is worth to wait for. */
void waiting_refuse(struct worker *w, uint32_t i, enum reply_cause cause);
/* TARGET's door is given back, and nobody waits for it: nor does its queue. */
void waiting_park(struct worker *w, uint32_t target);
/* What an heir does: nobody waits; and connection I does, as its record says.
 */
void waiting_forget(struct worker *w);
void waiting_add(struct worker *w, uint32_t i);
/* The client of connection I sends no more, which was not known before. Has it
 * left, and its call not begun? */
bool waiting_has_left(const struct worker *w, uint32_t i);

/* ---- trace.c ---- */
/* Finds the trace of R in its head H, at IN, or begins one. R has its id. */
void trace_note(struct request *r, const char *in,
                const struct http_request *h);
/* Is NAME, LEN bytes, a field that the program gets from us instead? */
bool trace_is_field(const char *name, size_t len, bool keeps_state);
/* The value of traceparent for the program: R's trace, and its id as the span.
 */
void trace_print(const struct request *r, char out[HTTP_TRACE_LEN + 1]);
/* The same in the entry of R's call. */
void trace_fill(const struct request *r, struct ring_entry *e);

/* ---- raw.c: forward tcp ---- */
/* Goes on in CONN_RAW. true: the state changed, or there is more to read. */
bool raw_go(struct worker *w, uint32_t i);
void raw_due(struct worker *w, uint32_t i);
/* Ends it without an answer: logged, and the connection is reset, unless the
 * door has it. It is closed when this returns. */
void raw_fail(struct worker *w, uint32_t i, enum reply_cause cause);
/* The door has answered the call that it was passed by: closed. */
void raw_passed(struct worker *w, uint32_t i);
/* Resets connection I so that no answer seems whole that is not; it is still to
 * be closed. */
void raw_cut(struct worker *w, uint32_t i);
/* The same for all that wait for an answer or its rest: the worker leaves. */
void raw_cut_all(struct worker *w);
/* Lets go of the passed connections whose calls have been claimed since. */
void raw_hand_over(struct worker *w);

/* ---- unuse.c ---- */

/* TABLE has an element of SIZE bytes for each target, all zero where USED has
 * no bit of it. That of TARGET counts no more: its bit goes, and what pages of
 * the arena were for it alone. */
void unuse(struct worker *w, uint32_t target, void *table, size_t size,
           uint64_t *used);

/* ---- rings.c ---- */

/* Was the ring of TARGET ever used? If not, it is closed, and to be read by
 * nobody who looks at all rings: reading takes memory for it. */
static inline bool
ring_was_used(const struct worker *w, uint32_t target)
{
    return (w->core->rings_used[target / 64] >> (target % 64) & 1) != 0;
}

/* The first such ring from FROM on; core->n_rings or more: there is none. */
static inline uint32_t
rings_next(const struct worker *w, uint32_t from)
{
    for (uint32_t g = from; g < w->core->n_rings; g = (g | 63) + 1) {
        uint64_t bits = w->core->rings_used[g / 64] >> (g % 64);

        if (bits != 0) {
            return g + (uint32_t)__builtin_ctzll(bits);
        }
    }
    return w->core->n_rings;
}

/* G goes over them. */
#define FOR_EACH_RING(w, g)                                                    \
    for (uint32_t g = rings_next(w, 0); g < (w)->core->n_rings;                \
         g = rings_next(w, g + 1))

/* TARGET's ring, which is used from now on. */
struct ring *ring_use(struct worker *w, uint32_t target);
void ring_take_door(struct worker *w, uint32_t target, int fd);
/* A door was sent and could not be kept (no room): the keeper tries again. */
void ring_no_door(struct worker *w, uint32_t target);
void ring_event(struct worker *w, uint32_t target, uint32_t events);
/* TARGET's welcome may be here: rings_greet and rings_admit look at it. */
void ring_expect(struct worker *w, uint32_t target);
/* Reads the welcomes that have come, before the heirs are cloned; and lets
 * those rings be used, after. Both from the base frame. */
void rings_greet(struct worker *w);
void rings_admit(struct worker *w);
/* Connection I waits for its door, which is on its way or to be started; or is
 * answered 503, because too many do. Ends when the door is there, is known to
 * be absent, or at the call's deadline. */
void ring_queue(struct worker *w, uint32_t i);
/* May calls wait for TARGET now? */
bool ring_is_coming(const struct worker *w, uint32_t target);
/* Gives TARGET's door back if no call uses it. */
void ring_park(struct worker *w, uint32_t target);
/* DRAIN: from now on calls of TARGET wait, and the door is given back when no
 * call uses it (rings_drained). Else: they are made, and it stays. */
void ring_drain(struct worker *w, uint32_t target, bool drain);
/* Gives back what is drained; once a pass while w->n_draining. */
void rings_drained(struct worker *w);
/* Gives the door up: its calls fail, the keeper is told. */
void ring_lost(struct worker *w, uint32_t target, enum worker_cause cause);
/* Ready, and its server has not hung up? */
bool ring_is_alive(const struct worker *w, uint32_t target);
void rings_flush(struct worker *w);
/* Takes all answers. How many. */
uint32_t rings_poll(struct worker *w);
void rings_slow_tick(struct worker *w);
/* Publishes what the doors say of themselves, for who reads the tallies. */
void rings_look(struct worker *w);
/* Is there an idle ring whose memory should go back soon, or one that has not
 * answered its hello? Then the slow tick is needed. */
bool rings_want_tidying(const struct worker *w);

/* The configuration has changed: who waits for a target that went is matched
 * anew. */
void rings_renewed(struct worker *w);
/* Closes TARGET's ring unless a call uses it. Has it none now? */
bool ring_retire(struct worker *w, uint32_t target);

/* ---- renew.c: another configuration ---- */
/* One of the messages that bring it; FD is taken. */
void renew_take(struct worker *w, const struct worker_message *m, int fd);
/* From the base frame: before the heirs are cloned, and after. */
void renew_expect(struct worker *w);
void renew_admit(struct worker *w);
/* In an heir, before it believes any record; and after the sweep. */
void renew_inherit(struct worker *w);
void renew_settle(struct worker *w);
/* Once a pass while w->n_gone > 0: tells what is not in use any more. */
void renew_tidy(struct worker *w);

/* ---- reply.c ---- */
/* An answer of our own: page or JSON. EXTRA: field lines, or NULL. */
void reply_error(struct worker *w, uint32_t i, int status,
                 enum reply_cause cause, const char *extra);
/* What a cardea.h door, or a plain one, answered. */
void reply_door(struct worker *w, uint32_t i, struct ring_result *result);
void reply_file(struct worker *w, uint32_t i, const struct http_request *h,
                const char *rest, const char *path);
/* Sends on, to conn_done at the end. Whoever began it must call conn_go after
 * it (a failed send is only noted there). */
void reply_send(struct worker *w, uint32_t i);
/* In SEND: a descriptor that came with the answer is the request's alone. */
void reply_keep_fd(struct worker *w, struct conn *c);

/* ---- local.c: sends on Unix sockets, of which an heir can tell how far they
 * came. CONN_SENDING is set before, and cleared after local_end. ---- */

/* As sendmsg(2) on connection I, of whose reply FROM bytes have left. */
ssize_t local_send(struct worker *w, uint32_t i, uint64_t from,
                   const struct iovec *iov, int n_iov);
/* As sendfile(2). */
ssize_t local_send_file(struct worker *w, uint32_t i, uint64_t from, int fd,
                        off_t off, size_t len);
/* What was sent is recorded, or nothing was. Keeps errno. */
void local_end(struct worker *w);
/* In an heir, with CONN_SENDING: true: *P_WRITTEN is what of the reply has
 * left, if core->pipe_have is not 0; if it is, nothing was sent that is not
 * recorded. false: it cannot be known. local_end is due in both cases. */
bool local_settle(struct worker *w, uint64_t *p_written);
/* Is FD an end of the pipe? */
bool local_owns(const struct worker *w, int fd);

/* ---- settle.c: what an heir does with the records, in this order ---- */

/* Before it opens or closes any descriptor: ends a close(2) that had begun. */
void settle_shut(struct worker *w);
/* Before the lists are made: puts right what a kill may have torn, so that the
 * records can be believed. No system call but bells of rings. */
void settle_records(struct worker *w);
/* Then: what the kernel did within calls that were cut, and the rest of what
 * had begun. */
void settle_all(struct worker *w);

/* ---- access.c ---- */
/* Counts and logs the end of R, once, however often it is called. */
void access_log(struct worker *w, const struct conn *c, struct request *r);
void access_flush(struct worker *w);
/* Adds who C's client is. */
void access_client(struct log_line *line, const struct conn *c);

/* ---- control.c ---- */
void control_event(struct worker *w);
/* Says M (READY or DOOR_LOST) to the keeper, if need be later. */
void control_say(struct worker *w, const struct worker_message *m);
/* The same without a later: false, and it is not said. */
bool control_try(struct worker *w, const struct worker_message *m);
/* Says that an heir serves now, and which rings it has not. */
void control_say_heir(struct worker *w);
/* Says what could not be said; once a pass while w->unsaid. */
void control_say_again(struct worker *w);
/* After the keeper's end, once a pass: leaves if the reaper has ended too, and
 * closes connections that have no request once their time is over. */
void control_orphan(struct worker *w);
