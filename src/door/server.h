/* The serving half of libdoor: one pool of threads, one hidden thread that
 * listens (set-up, bells, hang-ups), and sources of calls (channels and rings).
 *
 * A server thread is always in one of three states: it runs a call; it is
 * parked as the *attendant* of one source, where the next call of that source
 * is one futex hand-off; or it is parked with no source. Parked threads stand
 * in one list, last in first out, and the listening thread takes the first of
 * them for a source that rang its bell. A thread is made only when a call has
 * waited, no thread is parked, and fewer threads compute than there are CPUs.
 *
 * Where the program makes the threads itself (door_server_create(),
 * door_xcreate()), the library never does: its creation function is called when
 * a thread takes a call and leaves its pool empty, and who waits for a thread
 * is served by the next that parks. A private door has a pool of its own.
 */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "door.h"
#include "door/cred.h"
#include "door/growth.h"
#include "door/native.h"
#include "door/sys.h"
#include "door/wire.h"

enum source_kind { SOURCE_CHANNEL, SOURCE_RING, SOURCE_UNREF };

/* Threads that may serve the same doors. Under the server's lock. */
struct pool {
    struct thread *idle; /* parked ones, last in first out */
    _Atomic uint32_t n_idle;
};

/* Counted: one reference by each connection and name of it, each channel or
 * ring, each bound thread, and by calls of the library while they use it. Once
 * there is none the listening thread frees it. */
struct door {
    struct door *next;
    _Atomic uint32_t refs;
    uint64_t uniquifier;
    _Atomic uint32_t attributes; /* DOOR_REVOKED comes, DOOR_UNREF goes */
    uint64_t features;
    void *cookie;
    door_server_procedure_t *procedure; /* or */
    door_native_procedure *native;

    struct pool *pool; /* its own, or that of the process */
    struct pool own;
    /* door_xcreate()'s, or NULL */
    door_xcreate_server_func_t *create;
    door_xcreate_thrsetup_func_t *setup;
    void *create_cookie;
    /* What creation functions are told. Programs hand the pointer to threads
     * that read it later, so it stays. */
    door_info_t info, info_depleted;

    /* Limits of a call; under the lock, as is what follows. */
    uint64_t data_min, data_max;
    uint32_t desc_max;

    uint32_t n_descriptions;  /* descriptors made for it, that still are */
    uint32_t n_names;         /* attachments */
    _Atomic uint64_t calls;   /* of sources that are gone */
    struct source *unref;     /* it is to be told when it is unreferenced */
    _Atomic bool unref_due;   /* ... now, when no call runs */
    _Atomic uint32_t running; /* calls, with UNREF */
    _Atomic uint64_t run_ns;  /* the median of native calls; 0: unknown */
};

/* A private connection with its two memories. Counted: one reference by the
 * listening thread until the hang-up, one by each thread that serves or attends
 * it, one while it waits in the watch list. */
struct source {
    enum source_kind kind;
    _Atomic uint32_t refs;
    _Atomic bool dead;
    struct door *door;
    int conn;
    struct door_sender peer; /* who opened it; the kernel vouches */
    pid_t peer_tid;          /* the thread that calls, as it says */
    struct cred_origin origin;

    const void *request; /* caller's memory, hostile */
    size_t request_size;
    void *reply; /* ours */
    size_t reply_size;
    struct channel_turn *turn; /* channel: or NULL, its caller knows none */
    bool has_context;          /* channel: its caller may tell a context */

    struct thread *_Atomic attendant;
    struct thread *_Atomic runner; /* channel: in its call; may be cancelled */
    _Atomic uint32_t serving; /* threads in its calls; channel: not counted */
    _Atomic uint64_t calls;
    uint32_t bells;             /* channel: bells taken off the connection */
    _Atomic uint32_t announced; /* ring: the sleep we woke the caller from */
    _Atomic uint32_t *bell;     /* futex word that the caller changes */
    _Atomic int32_t cpu;        /* of the caller; -1: anywhere */
    const struct ring_entry *entries; /* ring: places in the caller's memory */
    const uint32_t *order;
    uint32_t n_slots;

    /* Ring: descriptors that came ahead of their calls, one a slot at the
     * most; made with the first. Under its lock, and the receive with it: who
     * misses one may read the connection and then knows. */
    pthread_mutex_t held_lock;
    struct held *held; /* RING_SLOTS of them, or NULL */

    bool watched; /* under the server's lock */
    struct source *watch_next;
    /* Heap pages that a slot's last reply holds: generation, page and count
     * in one word (ring). Shared by forked copies. */
    _Atomic uint64_t *runs;
    uint32_t number; /* of this process: names it in a copy's note */
};

struct held {
    uint64_t cookie;
    int fd; /* plus one; 0: none; < 0: lost, an errno */
};

struct call {
    struct source *src;
    uint32_t seq;  /* channel */
    uint32_t slot; /* ring */
    uint32_t generation;
    uint64_t cookie;
    uint64_t size; /* of the arguments */
    uint32_t n_fds;
    bool no_results;
    bool open;                   /* taken and not yet answered */
    struct ring_entry entry;     /* ring: fetched once */
    struct door_context context; /* channel: fetched once, or zeroes */
    struct door_task task;
};

/* What a forked copy (copies.c) is at, in memory that it shares with its
 * parent: whoever is killed leaves it. Only the copy writes it, but for
 * `asked`. */
enum copy_state {
    COPY_NONE,
    COPY_STARTS, /* its hook runs */
    COPY_LOOKS,  /* between two calls */
    COPY_PARKS,  /* it waits, and every ring counts it as parked */
    COPY_CLAIMS, /* it takes the call that is noted, or somebody else does */
    COPY_SERVES, /* it is in the call that is noted */
    COPY_LEAVES,
};

struct copy_note {
    _Atomic uint32_t state;
    _Atomic uint32_t bell;  /* futex: its parent wants it to look */
    _Atomic uint32_t asked; /* 1: leave when you are between two calls */
    _Atomic bool counted;   /* in copy_crowd.serving */
    uint32_t source, head, slot, generation, done;
    uint64_t cookie, deadline, request_id;
    _Atomic uint64_t calls;
    _Atomic uint64_t idle_since; /* CLOCK_MONOTONIC ns */
} __attribute__((aligned(128)));

struct thread {
    struct thread *next; /* all threads of the server */
    struct thread *idle_prev, *idle_next;
    _Atomic uint32_t wake; /* private futex: assigned, or told to look */
    bool idle, assigned;   /* under the server's lock */
    bool is_users;         /* not made by us: never leaves */
    struct source *src;
    struct source *given; /* with assigned */
    pthread_t id;
    pid_t tid;
    struct pool *pool;     /* where it parks */
    struct door *bound;    /* door_bind()'s, or NULL */
    int cancel_state;      /* the program's, put back for its procedure */
    int pinned;            /* CPU, or -1 */
    _Atomic bool enlisted; /* it serves, or waits to: not only bound */
    _Atomic bool serving;
    _Atomic uint32_t calls;
    bool seen_serving; /* pool_is_short_locked()'s, with the next */
    uint32_t seen_call;
    struct growth_nap nap;
    uint32_t held_call; /* under the lock: pool_is_held_up_locked() saw it */
    uint64_t held_cpu;  /* ... with so much CPU time used, ns */
    uint64_t run_start;
    struct copy_note *note; /* of a forked copy; NULL: a thread */
    char *args;             /* own copy of the arguments */
    size_t args_size;
    door_desc_t *descs;
    struct call call;
    jmp_buf base;
};

struct server {
    pthread_mutex_t lock;
    struct door *doors;
    struct thread *threads;
    uint32_t n_threads, n_starting;
    struct pool shared; /* of all doors that are not private */
    bool stuck; /* a source waits for a thread that parks: tell the listener */
    _Atomic bool unused; /* a door may have lost its last reference */
    bool created; /* the creation function was called for the shared pool */
    uint32_t most_threads; /* that there ever were */
    struct growth growth;  /* how many threads there may be */
    struct source *watch;
    _Atomic bool crowded; /* calls wait, and no thread is made for them */
    int epoll, kick;
    pthread_t listener;
    bool running;       /* the listening thread exists */
    bool told_fork;     /* its handlers are with the C library */
    bool by_hand;       /* there is none: copies_serve() does its work */
    bool single;        /* native calls: by the program's own thread alone */
    uint32_t n_sources; /* rings opened or ended so far */
    struct copies *copies;
    struct copy_note *note; /* in a copy: its own */
    _Atomic bool orphaned;  /* in a copy: its parent has gone */
    bool has_dead;          /* listeners that were removed, and not freed yet */
    uint64_t silent_at;     /* 0, or: a silent connection is dropped then */
    uint64_t resume_at; /* 0, or: listeners rest until then, for want of room */
    cpu_set_t *cpus;
    int n_cpus;
    sigset_t mask; /* of the thread that made the first door */
    pid_t pid;
    uint64_t counter;
};

/* The one server of this process; server_lock() makes it on first use. */
extern struct server door_server;

/* Takes the lock and makes sure that the listening thread runs. 0 (locked) or
 * an errno (not locked). */
int server_start_locked(void);

/* The two halves of it, for a program that gives the listening thread's work a
 * thread of its own: makes what that thread waits on (0 or an errno, lock
 * held); and one round of it, of at most US microseconds (-1: until something
 * comes). How many events there were, or -1: EPOLL is gone. */
int server_open_locked(void);
int server_turn(int epoll, int us);

struct name_listener;
/* The listening thread watches FD from now on (and owns it): the server's end
 * of a door's connection, or a socket that connections come from. 0 or an
 * errno. */
int server_add_door_locked(struct door *door, int fd);
int server_add_listener_locked(struct name_listener *listener, int fd);
/* The listening thread calls name_changed() when there is something to read on
 * FD, and owns it. 0 or an errno. */
int server_add_names_locked(int fd);
/* Stops watching LISTENER's socket and closes it; connections made through it
 * stay, as of the door alone. */
void server_remove_listener_locked(struct name_listener *listener);

void source_ref(struct source *src);
/* Drops one reference; the last unmaps and closes all. */
void source_unref(struct source *src);

void door_ref(struct door *d);
/* Drops one reference, with the lock or without. After the last the listening
 * thread frees D. NULL: nothing. */
void door_unref(struct door *d);
/* Frees the doors that nothing refers to. Lock held. */
void server_free_unused_locked(void);

/* D's limits have changed, or it is revoked: who calls it is told. Lock held.
 */
void server_tell_limits_locked(struct door *d);
/* The attributes that door_info() shows of D, but for DOOR_LOCAL. Lock held. */
uint32_t server_attributes_locked(const struct door *d);

/* How many calls D has taken. Lock held. */
uint64_t server_calls_locked(const struct door *d);

/* The number of threads has changed: every ring's caller may read it. Lock
 * held. Costs a look at every source, and is as rare as threads come and go. */
void server_tell_threads_locked(void);

/* Wakes the listening thread. */
void server_kick(void);

/* Tells the listening thread to look whether SRC needs a thread. */
void server_watch(struct source *src);
void server_watch_locked(struct source *src);

/* ---- context.c ---- */

/* The calls that the calling thread serves stand in C from now on; NULL: it
 * serves none any more. */
void context_stands_in(const struct call *c);

/* ---- pool.c ---- */

/* In a child of fork: the calling thread is no server thread any more. */
void pool_forget_after_fork(void);
/* The calling thread's record, or NULL. */
struct thread *pool_self(void);
/* The same, made if there is none. NULL: no memory. */
struct thread *pool_adopt(void);
/* Is the calling thread, in a child of fork, one that was bound to a door of
 * its parent? */
bool pool_lost_door(void);
/* T (or NULL: only the above is over) is bound to D, or with NULL to none. The
 * binding holds a reference to D. */
void pool_bind(struct thread *t, struct door *d);
/* Serves for ever (returns only for threads of ours that leave). */
void pool_serve(struct thread *t);
/* Makes FROM[0..SIZE) the procedure's own copy: t->args, with a NUL behind it.
 * 0 or ENOMEM. */
int pool_copy_args(struct thread *t, const char *from, size_t size);
/* Makes a thread; it begins with SRC (reference passes), or NULL. Lock held.
 * 0 or an errno. */
int pool_spawn_locked(struct source *src);
/* Makes threads up to the floor. */
void pool_fill(void);
/* Does the library make threads for D's pool? Else the program does. */
bool pool_grows(const struct door *d);
/* A door of the program's has been made: its creation function is called where
 * illumos does. 0 or an errno. */
int pool_begin(struct door *d);
/* The thread that runs SRC's call, if any, is cancelled: nobody waits for its
 * answer. Lock held. */
void pool_cancel_locked(struct source *src);
/* The call of SRC is about to be answered: from now on its thread is not
 * cancelled for it. */
void pool_no_cancel(struct source *src);
/* Gives SRC to a parked thread of its door's pool. false: none is parked. Lock
 * held. */
bool pool_assign_locked(struct source *src);
/* The last door has gone: the last thread need not stay. Lock held. */
void pool_no_door_locked(void);
/* The letter of PID's state in proc_pid_stat(5): 'R' it computes, 'T' it is
 * stopped, 't' it is traced; 0: there is none. */
char pool_process_state(pid_t pid);
/* Are fewer serving threads on a CPU than this process may use? Lock held. */
bool pool_has_cpu_locked(void);
/* No CPU is free. Has each thread that computes used far more of it for its
 * call than a call to D takes as a rule? Then one thread more lets the short
 * calls pass: the kernel shares the CPUs out, where a queue would make each
 * wait for the end of a long one. Lock held. */
bool pool_is_held_up_locked(const struct door *d);
/* With WAITING calls that nobody has taken: would they all get a thread in a
 * pool as large as in the last burst? Lock held. */
bool pool_is_burst_locked(uint32_t waiting);
/* May there be one thread more, by the ceiling and by memory? Lock held. */
bool pool_has_room_locked(void);
/* Do more calls of SRC wait than there are threads that take them: between two
 * calls, or just made, neither serving nor parked? Then, and only then, were
 * there more calls at one instant than threads. Lock held. */
bool pool_is_short_locked(struct source *src);
/* Wakes whoever attends SRC, to notice that it is dead. Lock held. */
void pool_rouse_locked(struct source *src);

/* ---- copies.c: calls served by forked processes ---- */

/* One of them has ended: PIDFD became readable. */
void copies_ended(int pidfd);
/* How many calls they have taken. */
uint64_t copies_calls(void);
/* In a new copy: what belongs to its parent is closed and forgotten, but for
 * the rings that it serves. */
void server_forget_in_copy(void);

/* ---- private.c, unref.c ---- */

/* Makes a door like LIKE, which has a procedure, a cookie, and what
 * door_xcreate() was given. A descriptor, *P_D its record, referenced for the
 * caller; or -1 with errno. */
int door_make(struct door *like, uint32_t attributes, struct door **p_d);

/* The pool of D, made by door_xcreate(), is empty: its creation function is
 * asked for one more thread. */
void private_deplete(struct door *d);

/* Gives D, not yet known to anybody, what it needs to be told that it is
 * unreferenced. 0 or ENOMEM. */
int unref_begin(struct door *d);
/* A description or a name of D has gone. Lock held. */
void unref_check_locked(struct door *d);
/* A call to D has ended. */
void unref_call_ended(struct door *d);
/* The door of this process behind descriptor D, or NULL. Lock held. */
struct door *door_own_locked(int d);
/* The same, referenced for the caller. Lock not held. */
struct door *door_own(int d);
bool unref_has_work(const struct source *src);
bool unref_take(struct source *src, struct thread *t);

/* ---- channel_server.c, ring_server.c: one source ---- */

/* Is there a call that nobody has taken? */
bool source_has_work(const struct source *src);
/* How many, as far as its caller can be believed. */
uint32_t source_n_waiting(const struct source *src);
/* Tells the caller of SRC the limits of its door, and whether it is revoked;
 * wakes it. Lock held. */
void channel_tell_limits(struct source *src);

/* Maps and checks the caller's memory and makes ours; FDS are they, to be sent:
 * the reply memory's and, for a caller that KNOWS_TURN, that of the page where
 * each waits for the other, or -1. 0 or an errno. */
int channel_accept(struct source *src, int memory_fd, bool knows_turn,
                   int fds[2]);
bool channel_has_work(const struct source *src);
/* A number that is another once a call was taken. */
uint32_t channel_n_taken(const struct source *src);
bool channel_take(struct source *src, struct thread *t);
/* Answers T's call; 0, or an errno after which the call is still open. */
int channel_answer(struct thread *t, int error, const char *data, size_t size,
                   const door_desc_t *descs, uint32_t n_descs);

/* The program's entries FROM[0..N), copied to TO and looked at. 0; EFAULT: they
 * cannot be read; EINVAL: one is no descriptor, or is not open. */
int channel_read_descs(door_desc_t *to, const door_desc_t *from, uint32_t n);

/* Closes those of DESCS, the program's, that are marked DOOR_RELEASE, up to
 * what cannot be read. */
void channel_release_descs(const door_desc_t *descs, uint32_t n);

/* As above, of one memory. */
int ring_accept(struct source *src, int memory_fd, int *p_fd);
/* Calls that nobody has claimed; 0 also where the caller's count cannot be. */
uint32_t ring_n_waiting(const struct source *src);
/* How many were claimed so far; wraps. */
uint32_t ring_n_taken(const struct source *src);
bool ring_has_work(const struct source *src);
bool ring_take(struct source *src, struct thread *t);
int ring_answer(struct thread *t, int error, const char *data, size_t size);
/* Writes how many threads there are, and were at the most, for the caller. */
void ring_tell_threads(struct source *src, uint32_t now, uint32_t most);
/* Wakes the caller's loop if it sleeps. */
void ring_announce(struct source *src);
/* Takes what has come on the connection: bells have done their work,
 * descriptors are held for their calls. */
void ring_read_notes(struct source *src);
/* Closes the descriptors that are held. In the child of a fork too: LOCK is
 * false there. */
void ring_drop_held(struct source *src, bool lock);
/* NOTE says that its copy is at a call of SRC. Was that answered already? */
bool ring_has_answered(const struct source *src, const struct copy_note *note);
/* NOTE's copy is dead, and was at a call of SRC: it is answered with EINTR,
 * unless it was answered, or is somebody else's. */
void ring_abandon(struct source *src, const struct copy_note *note, pid_t pid);
/* Does a ring's call to D take a descriptor? */
bool ring_takes_descs(const struct door *d);

/* Fills the entry that tells a procedure about FD: exactly DOOR_DESCRIPTOR for
 * what is not a door. */
void channel_describe(door_desc_t *desc, int fd);
