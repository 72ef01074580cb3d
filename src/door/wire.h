/* What crosses between a caller and a door's server: the messages of set-up and
 * the layout of the shared memory. Both sides may be of different releases and
 * either may be hostile, so:
 *
 *  - every word in shared memory has one writer: "request" memory is written by
 *    the caller only, "reply" memory by the server only; each is a memfd sealed
 *    with FUTURE_WRITE by its writer, so that the other can only read (but for
 *    the two words of a channel's turn, which tell nothing);
 *  - a reader loads each word once, checks the copy, uses the copy;
 *  - a struct never shrinks or changes; it grows into its spare room, announced
 *    by a feature bit. Only another major number is refused.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define DOOR_WIRE_MAGIC 0x30726f6f44616443ull /* "CdaDoor0" */
#define DOOR_WIRE_MAJOR 1

/* The name of a door's socket, after the NUL of the abstract name space:
 * prefix, uniquifier (16 hex digits), '/', attributes (8 hex digits). It marks
 * a descriptor as a door; it proves nothing. */
#define DOOR_NAME_PREFIX        "cardea.door/1/"
#define DOOR_NAME_LEN           (14 + 16 + 1 + 8)
/* Where the server of a door laid over a file listens: device and inode. */
#define DOOR_ATTACH_PREFIX      "cardea.attach/1/"
/* The open-file-description lock that marks such a file lies here. */
#define DOOR_ATTACH_LOCK_OFFSET 0x7000000000d00400ll

/* ---- messages ---------------------------------------------------------- */

enum door_hello_kind {
    DOOR_HELLO_CHANNEL = 1, /* fds: connection, request memory */
    DOOR_HELLO_RING = 2,    /* fds: connection, request memory */
    DOOR_HELLO_INFO = 3,    /* fds: connection */
    DOOR_HELLO_OPEN = 4,    /* fds: connection; answer brings a door */
    DOOR_HELLO_PROOF = 6,   /* fds: the file, opened: the first message on a
                             * connection made through an attached file */
    DOOR_HELLO_DETACH = 5,  /* fds: connection; on a listener's connection */
    DOOR_HELLO_ATTACH = 7,  /* fds: connection, the file opened for writing */
};

/* Sent on a door descriptor. What follows happens on the connection (one end of
 * a fresh socket pair) that comes with it, because nobody may read from a door
 * descriptor: its copies are shared. */
struct door_hello {
    uint64_t magic;
    uint32_t major;
    uint32_t kind;
    uint64_t features; /* what the caller knows */
    uint64_t size;     /* of the request memory */
    uint64_t tid;      /* channel: the thread that will call; 0: not told */
    uint64_t spare[3];
};

#define DOOR_FEATURE_HTTP    1u /* the procedure takes struct door_http */
/* A ring's call may bring one descriptor: a note with the entry's slot and
 * cookie, sent before the call is published. */
#define DOOR_FEATURE_DESCS   2u
#define DOOR_FEATURE_THREADS 4u  /* ring_reply_head tells of threads */
#define DOOR_FEATURE_LIMITS  8u  /* channel_reply tells the door's limits */
#define DOOR_FEATURE_COUNTS  16u /* the welcome tells threads and calls */
/* Channel: the hello says that its caller knows struct channel_turn; the
 * welcome, that one comes with it, after the reply memory. */
#define DOOR_FEATURE_TURN    32u
#define DOOR_FEATURE_BEGAN   64u /* ring_reply tells when its call began */
/* Channel: the hello says that its caller may write channel_call.context, the
 * welcome that the server reads it. */
#define DOOR_FEATURE_CONTEXT 128u

/* The answer on the connection. */
struct door_welcome {
    uint64_t magic;
    uint32_t major;
    int32_t error; /* 0, or an errno: then the rest says nothing */
    uint64_t features;
    uint64_t size; /* of the reply memory */
    uint64_t proc, cookie, uniquifier;
    uint64_t data_min, data_max;
    uint32_t attributes;
    int32_t pid;
    uint32_t desc_max;
    uint32_t threads; /* DOOR_FEATURE_COUNTS: of the server, now */
    uint32_t threads_high, references;
    uint64_t calls; /* that this door has taken */
    uint64_t spare[4];
};
_Static_assert(sizeof(struct door_welcome) == 136, "it never changes size");

enum door_note_kind {
    DOOR_NOTE_BELL = 1, /* there is work and nobody attends */
    DOOR_NOTE_WAKE = 3, /* ring: the loop sleeps, and there are answers */
    /* Descriptors of the call SEQ; ring, both ways: SEQ is the slot, of the
     * call with COOKIE, and there is one. A second note of a call takes the
     * place of the first, so a caller that does not know whether it sent the
     * first may send it again. */
    DOOR_NOTE_FDS = 2,
};

/* Later messages on the connection, both ways. */
struct door_note {
    uint32_t kind;
    uint32_t seq;
    uint64_t cookie;
    uint32_t n_fds;   /* in this message */
    uint32_t purpose; /* 0 descriptors of the user; 1 memory with the data; 2
                       * an answer that failed on its way: what came for SEQ
                       * before is void */
    uint64_t size;
};

#define DOOR_FDS_A_NOTE 250 /* SCM_MAX_FD is 253 */
#define DOOR_FDS_MAX    1024

/* ---- channel: one caller thread, one door ------------------------------- */

#define DOOR_CHANNEL_AREA (8u << 20) /* data bytes each way; sparse */
#define DOOR_CHANNEL_SIZE (4096u + DOOR_CHANNEL_AREA)

/* What a call is part of: when its answer is of no use any more, and which
 * request and trace it was made for. The caller's word; zeroes where there is
 * none. */
struct door_context {
    uint64_t deadline; /* CLOCK_MONOTONIC ns, absolute */
    uint64_t request_id;
    uint8_t trace_id[16]; /* W3C trace context */
    uint8_t span_id[8];
    uint32_t trace_flags;
    uint32_t spare;
};
_Static_assert(sizeof(struct door_context) == 48, "it never changes size");

struct channel_call { /* request memory, written by the caller */
    uint64_t magic;
    uint32_t major;
    uint32_t spare;
    _Atomic uint32_t seq __attribute__((aligned(64))); /* futex; calls posted */
    uint32_t no_results;                               /* params was NULL */
    uint64_t size;
    uint32_t n_fds;
    _Atomic uint32_t given_up; /* seq of a call the caller abandoned */
    _Atomic uint32_t waiting;  /* the caller sleeps (or is about to) */
    _Atomic uint32_t bells;    /* bells sent on the connection so far */
    uint32_t cpu;         /* where the caller runs, plus one; 0: not told */
    uint32_t has_context; /* DOOR_FEATURE_CONTEXT: the call has what follows */
    struct door_context context __attribute__((aligned(64)));
};

_Static_assert(__builtin_offsetof(struct channel_call, seq) == 64 &&
                   __builtin_offsetof(struct channel_call, cpu) == 96 &&
                   __builtin_offsetof(struct channel_call, context) == 128,
               "an old server finds the words where they were");

#define CHANNEL_SLEEPS 1u
#define CHANNEL_LOOKS  2u

struct channel_reply { /* reply memory, written by the server */
    uint64_t magic;
    uint32_t major;
    uint32_t spare;
    _Atomic uint32_t done __attribute__((aligned(64))); /* futex; answered */
    _Atomic uint32_t taken; /* seq of the call that a thread took */
    /* CHANNEL_SLEEPS: a thread waits on channel_call.seq; CHANNEL_LOOKS: one is
     * about to look at it; 0: nobody attends, ring. */
    _Atomic uint32_t parked;
    int32_t error;
    uint64_t size;
    uint32_t n_fds;
    uint32_t by_memory; /* the data came as a memfd in a note */
    /* With DOOR_FEATURE_LIMITS. The caller checks a call by them for the order
     * of errors; the server checks it again. */
    _Atomic uint32_t revoked; /* calls that nobody took are over: EBADF */
    _Atomic uint32_t desc_max;
    _Atomic uint64_t data_min, data_max;
};

_Static_assert(__builtin_offsetof(struct channel_reply, done) == 64 &&
                   sizeof(struct channel_reply) == 128,
               "an old caller finds the words where they were");

/* With DOOR_FEATURE_TURN: a page that both sides write, made by the server. A
 * wait for a word that can only be read costs the kernel a second look at the
 * page, so each side waits for its word here. They tell nothing, but that there
 * is something to look at in the memories above: either side may write
 * nonsense into both, and loses nothing but its own sleep. Each grows by one
 * after what it tells of. */
struct channel_turn {
    _Atomic uint32_t posted __attribute__((aligned(64)));   /* futex; seq */
    _Atomic uint32_t answered __attribute__((aligned(64))); /* futex; done */
};

/* ---- ring: one event loop, one door, many calls in flight --------------- */

#define RING_SLOTS      1024u
#define RING_SEGMENT    4096u
#define RING_AREA       (256u << 20) /* bytes for arguments; sparse */
#define RING_REPLY_SLOT 8192u        /* each slot's own reply bytes */
#define RING_HEAP       (256u << 20) /* for larger replies; sparse */

struct ring_request { /* start of the request memory */
    uint64_t magic;
    uint32_t major;
    uint32_t n_slots;
    uint64_t features;
    uint64_t entries_off, order_off, area_off, size;
    int32_t cpu; /* where the caller's loop runs; -1: anywhere */
    uint32_t generation;
    uint64_t spare[8];
    _Atomic uint32_t pub __attribute__((aligned(64)));    /* futex */
    _Atomic uint32_t asleep __attribute__((aligned(64))); /* 0: awake */
};

enum ring_kind {
    RING_KIND_BYTES = 1, /* arguments are bytes: a plain door */
    RING_KIND_HTTP = 2,  /* arguments begin with struct door_http */
};

struct ring_entry { /* one slot's request */
    uint32_t generation;
    uint32_t kind;
    uint64_t cookie;
    uint64_t deadline; /* CLOCK_MONOTONIC ns, absolute */
    _Atomic uint32_t withdrawn;
    _Atomic uint32_t released;   /* generation whose reply has been sent */
    uint64_t args_off, args_len; /* from the start of the memory */
    uint64_t body_off, body_len;
    uint64_t request_id;
    uint32_t route;
    uint32_t n_fds;       /* 0 or 1, sent ahead: DOOR_FEATURE_DESCS */
    uint8_t trace_id[16]; /* W3C trace context */
    uint8_t span_id[8];
    uint32_t trace_flags;
    uint32_t depth; /* of nested calls */
    uint64_t spare[18];
};
_Static_assert(sizeof(struct ring_entry) == 256, "slots never change size");

struct ring_reply_head { /* start of the reply memory */
    uint64_t magic;
    uint32_t major;
    uint32_t n_slots;
    uint64_t features;
    uint64_t replies_off, slots_off, heap_off, size;
    /* With DOOR_FEATURE_THREADS, as a hint for people: the server's threads
     * now, and the most that it ever had. Written only when they change. */
    _Atomic uint32_t threads, threads_high;
    uint64_t spare[7];
    _Atomic uint32_t head __attribute__((aligned(64))); /* claims */
    _Atomic uint32_t parked;   /* consumers that wait on ring_request.pub */
    _Atomic uint32_t attached; /* consumers that serve it or wait on it */
    /* A bit flips when the call of that slot is answered. One atomic step: a
     * consumer killed before it has not answered, after it has. */
    _Atomic uint64_t done[RING_SLOTS / 64] __attribute__((aligned(64)));
    /* A set bit: that 4 KiB page of the heap is in use. */
    _Atomic uint64_t heap_map[RING_HEAP / RING_SEGMENT / 64];
};

_Static_assert(__builtin_offsetof(struct ring_reply_head, head) == 128,
               "the hot words never move");

enum ring_reply_flags {
    RING_REPLY_FD = 1, /* the body is a descriptor, in a note */
};

struct ring_reply { /* one slot's answer */
    uint32_t generation;
    int32_t error; /* 0, or an errno: the procedure gave no answer */
    uint64_t cookie;
    uint64_t data_off, data_len; /* plain door: all; else the body */
    uint64_t head_off, head_len; /* HTTP: field lines */
    uint32_t status;             /* HTTP */
    uint32_t flags;
    uint64_t fd_offset, fd_length;
    /* With DOOR_FEATURE_BEGAN: when a thread took the call, CLOCK_MONOTONIC ns;
     * a hint for people and for estimates. 0: not told. */
    uint64_t began;
    uint32_t taker; /* and which thread, as gettid(2) says; 0: not told */
    uint32_t spare_word;
    uint64_t spare[21];
};
_Static_assert(sizeof(struct ring_reply) == 256, "slots never change size");

/* ---- the parsed head, as it crosses ------------------------------------- */

struct door_span {
    uint32_t off, len; /* offset from the start of struct door_http */
};

struct door_http_field {
    struct door_span name, value;
};

/* All strings end with a NUL that is not counted. */
struct door_http {
    uint32_t size; /* of this struct as the caller knows it */
    uint16_t method;
    uint8_t minor;
    uint8_t family; /* of the peer: 4, 6, or 0 for a Unix socket */
    struct door_span method_name, target, path, query, host, route, id;
    uint8_t peer[16];
    uint16_t peer_port;
    uint16_t server_port;
    uint32_t n_fields;
    uint32_t fields_off; /* struct door_http_field[n_fields] */
    uint32_t total;      /* bytes of struct, fields and strings */
    uint64_t spare[4];
};
