/* The worker as the keeper sees it: what it is given at birth, and the messages
 * between both: down a Unix SEQPACKET socket, up a pipe, which can carry no
 * descriptor. A worker opens no path: listeners, folders and doors come from
 * the keeper as descriptors. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "front/histogram.h"

struct conf;
struct world;

/* One page a server, shared by keeper and workers (memfd): counters that
 * several processes look at. What is read here is a hint, never trusted. */
#define SEATS_MAX   256
#define HEIRS_MAX   4 /* of one worker */
#define TARGETS_MAX 1024u
struct seat {
    _Atomic uint32_t connections; /* live, for even accepting */
    _Atomic uint32_t requests;    /* answered, wraps */
    _Atomic uint64_t pass;        /* loop passes: a heart beat */
    /* In use, after the last pass: to find leaks by (tests/lib/leaks.py). */
    _Atomic uint32_t segments; /* of the arena, single ones and runs */
    _Atomic uint32_t slots;    /* of all rings */
    _Atomic uint32_t areas;    /* segments of all rings' request memory */
    _Atomic uint32_t rings;    /* that are open */
    _Atomic uint32_t awake;    /* in a pass: not waiting in epoll */
    _Atomic uint32_t pid;      /* of the process that serves; a hint */
    _Atomic uint32_t heirs;    /* of it, that wait for its death */
    _Atomic uint32_t takeovers;
    uint64_t spare[2];
};

enum reply_cause {
#define CAUSE(id, word, whose) CAUSE_##id,
#include "front/causes.def"
#undef CAUSE
    CAUSE_N,
};

/* What one worker counts of one target (the last block: of requests that led to
 * none). Memory shared with the keeper, which adds the workers up and keeps the
 * sums when one dies; one writer, no locks. A page that nobody counts in stays
 * untouched. Read as a hint, bounded, never trusted. */
struct tally {
    _Atomic uint64_t requests;   /* ended, in whatever way */
    _Atomic uint64_t calls;      /* handed to the door */
    _Atomic uint64_t answers[4]; /* over HTTP: 2xx, 3xx, 4xx, 5xx */
    _Atomic uint64_t run_ns;     /* of answered calls, summed */
    _Atomic uint32_t in_flight;  /* handed over and not answered */
    /* The door's own words, fresh after WORKER_LOOKED; 0: not known. */
    _Atomic uint32_t threads, threads_high;
    /* Published calls that no thread has taken, as fresh; and requests that
     * wait in the worker, for their door or for their turn. */
    _Atomic uint32_t unclaimed, queued;
    /* Calls that a thread or a copy is still at after their deadline. */
    _Atomic uint32_t overdue;
    _Atomic uint64_t causes[CAUSE_N];
    /* How long requests waited for a thread that takes them, and how long the
     * procedure then ran; and about the median of its latest runs, ns. */
    _Atomic uint64_t wait_ns;
    _Atomic uint64_t median_ns;
    _Atomic uint64_t wait[HISTOGRAM_N];
    _Atomic uint64_t run[HISTOGRAM_N];
} __attribute__((aligned(64)));

/* All that one worker counts: of requests without a target, then one for each
 * target. What USED has no bit of was never touched, is not read either (which
 * would give it memory), and counts as zero. */
struct tally_table {
    _Atomic uint64_t used[TARGETS_MAX / 64 + 1];
    struct tally entries[];
};

struct worker_setup {
    int index; /* 0 to n_workers - 1 */
    int n_workers;
    int cpu;        /* to pin to; -1: do not pin */
    int heirs;      /* to keep ready, at most HEIRS_MAX */
    int control_fd; /* SEQPACKET from the keeper */
    int say_fd;     /* pipe to the keeper, non-blocking */
    int log_fd;     /* pipe, non-blocking: lines of at most 4096 bytes */
    const struct conf *conf;
    uint64_t generation;   /* of it */
    size_t targets_max;    /* that a later one may have; less than CONF has: as
                            * many as that */
    const int *listen_fds; /* one for each conf->listens; -1: not ours */
    const int *folder_fds; /* one for each conf->targets; -1 if not FILES */
    struct seat *seats;    /* SEATS_MAX of them */
    struct tally_table *tallies; /* own */
    bool is_confined;            /* gives up what a worker does not need */
    bool queue_all;   /* each call waits for its turn first: for tests */
    bool change_user; /* become UID and GID */
    uid_t uid;
    gid_t gid;
    pid_t reaper, keeper;      /* our parents, one after the other; REAPER 0: a
                                * worker whose keeper dies leaves at once */
    const struct world *world; /* NULL: the real one */
};

/* Who slept this long says WORKER_AWAKE before its pass. Less than the second
 * between the keeper's looks: one that did not count as asleep at both is
 * always told. */
#define WORKER_SLEPT_NS 900000000ull

/* Ends a worker's wait within a system call: its handler does nothing. */
#define WORKER_POKE SIGURG

/* Messages. One datagram, or one write, each; structs of fixed size; one of any
 * other size or kind ends the peer's trust (keeper: kills the worker; worker:
 * exits). At most one descriptor beside each. */
enum worker_message_kind {
    WORKER_READY = 1, /* worker: I accept connections now */
    WORKER_DOOR = 2,  /* keeper, with descriptor: door of TARGET, connected */
    WORKER_DOOR_NONE = 3, /* keeper: TARGET has no door at present */
    WORKER_DOOR_LOST = 4, /* worker: TARGET's door hung up; CAUSE as below */
    WORKER_STOP = 5,      /* keeper: accept no more, finish, leave; GRACE_NS */
    WORKER_NOW = 6,       /* keeper: leave at once */
    WORKER_LOOK = 7,      /* keeper: somebody wants to see fresh tallies */
    WORKER_LOOKED = 8,    /* worker: here they are; one for each LOOK */
    WORKER_AWAKE = 10,    /* worker: I had slept for long; watch my passes */
    /* worker: TARGET's door takes no descriptors, and a listener passes it
     * connections */
    WORKER_NO_DESCS = 9,
    /* worker: a call of TARGET waited for its whole time, and the door took
     * none in it */
    WORKER_STALLED = 11,
    WORKER_WANTED = 12, /* worker: a call waits for TARGET, which is parked */
    WORKER_PARK = 13,   /* keeper: give TARGET's door back if nobody uses it */
    WORKER_DRAIN = 14,  /* keeper: give it back when its calls have ended; new
                         * ones wait */
    WORKER_KEEP = 15,   /* keeper: no, keep it */
    /* worker: an heir with the pid CAUSE has taken the dead one's place, whose
     * last pass was GRACE_NS ago (0: unknown), and whose configuration has the
     * generation TARGET. What the keeper sent may have
     * been taken and not done: it says it again. */
    WORKER_HEIR = 16,
    /* A new configuration, GRACE_NS is its generation. First the descriptors
     * that it needs besides those that are here: */
    WORKER_LISTEN = 20,  /* keeper, with descriptor: of listener TARGET */
    WORKER_FOLDER = 21,  /* keeper, with descriptor: of folder TARGET */
    WORKER_CONF = 22,    /* keeper, with descriptor: memory file of SPARE bytes,
                          * made by conf_pack(); CAUSE descriptors came before */
    WORKER_CONF_IS = 23, /* worker: that is the one that I have now */
    WORKER_UNUSED = 24,  /* worker: by it, TARGET has gone and I do not use it;
                          * CAUSE 1: it is a listener */
};

enum worker_cause {
    WORKER_CAUSE_GONE = 1,   /* the server closed or died */
    WORKER_CAUSE_LIED = 2,   /* lengths or words that cannot be: replace it */
    WORKER_CAUSE_STUCK = 3,  /* never answered the hello */
    WORKER_CAUSE_IDLE = 4,   /* wants a fresh ring, to give memory back */
    WORKER_CAUSE_PARKED = 5, /* gave it back, as WORKER_PARK asked */
    WORKER_CAUSE_HEIR = 6,   /* an heir has no ring of it: send it again */
};

struct worker_message {
    uint32_t kind;
    uint32_t target; /* index into conf->targets */
    uint32_t cause;
    uint32_t spare;
    uint64_t grace_ns;
};

/* The worker's life; called in a fork of the keeper. Returns the exit status:
 * 0 stopped as asked, 1 could not start (said on log_fd). */
int worker_main(const struct worker_setup *setup);
