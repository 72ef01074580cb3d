/* The pool of server threads: parking, taking, growing, leaving. See server.h
 * for the states. The rule of growth is DESIGN.md section 4: a thread more only
 * where calls wait although CPUs do not.
 */
#include "door/raw.h"
#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

#define ARGS_KEPT   (1u << 20) /* a thread's buffer between calls */
#define ANNOUNCE_NS 20000ull   /* answers are held back no longer */
#define NEVER_NS    86400000000000ull
#define LONG_NS     1000000ull /* a call: its thread goes to any CPU */
/* So many times what a call takes as a rule holds others up; and so many such
 * calls for each CPU say that the rule is wrong. */
#define LONG_TIMES  8
#define LONG_MOST   8
#define THREAD_SIZE (256u << 10) /* of stack and heap that a thread touches */

static void thread_ends(void *arg);
static void pool_default_creator(door_info_t *info);
static void place(struct thread *t, int cpu);

static _Thread_local struct thread *self_thread;
static _Thread_local bool lost_door; /* bound before a fork: to nothing now */
static door_server_func_t *_Atomic creator = pool_default_creator;
static pthread_key_t end_key; /* its destructor sees threads end */
static pthread_once_t end_once = PTHREAD_ONCE_INIT;

static void
make_key(void)
{
    pthread_key_create(&end_key, thread_ends);
}

static void
become(struct thread *t)
{
    self_thread = t;
    context_stands_in(&t->call);
    pthread_once(&end_once, make_key);
    pthread_setspecific(end_key, t);
}

void
pool_forget_after_fork(void)
{
    if (self_thread) {
        if (self_thread->pinned >= 0) {
            place(self_thread,
                  -1); /* the child's only thread is no attendant */
        }
        pthread_setspecific(end_key, NULL);
        lost_door = self_thread->bound != NULL;
        self_thread = NULL;
    }
    context_stands_in(NULL); /* the child of a copy has no such record */
}

struct thread *
pool_self(void)
{
    return self_thread;
}

bool
pool_lost_door(void)
{
    return lost_door;
}

/* What T is bound to from now on, or NULL. */
void
pool_bind(struct thread *t, struct door *d)
{
    if (t) {
        struct door *old = t->bound;
        if (d) {
            door_ref(d);
        }
        t->bound = d;
        door_unref(old);
    }
    lost_door = false;
}

static void
thread_free(struct thread *t)
{
    free(t->args);
    free(t->descs);
    free(t);
}

struct thread *
pool_adopt(void)
{
    if (self_thread) {
        return self_thread;
    }
    struct thread *t = calloc(1, sizeof *t);
    if (!t) {
        return NULL;
    }
    t->tid = (pid_t)syscall(SYS_gettid);
    t->id = pthread_self();
    t->pinned = -1;
    t->is_users = true;
    t->pool = &door_server.shared;
    pthread_mutex_lock(&door_server.lock);
    t->next = door_server.threads;
    door_server.threads = t;
    door_server.n_threads++;
    server_tell_threads_locked();
    pthread_mutex_unlock(&door_server.lock);
    become(t);
    return t;
}

/* ---- the list of parked threads ---- */

static void
count_idle_locked(struct pool *pool, uint32_t by)
{
    uint32_t n = atomic_load_explicit(&pool->n_idle, memory_order_relaxed);

    atomic_store_explicit(&pool->n_idle, n + by, memory_order_relaxed);
}

static void
idle_push_locked(struct thread *t)
{
    struct pool *pool = t->pool;

    t->idle = true;
    t->assigned = false;
    atomic_store_explicit(&t->wake, 0, memory_order_relaxed);
    t->idle_prev = NULL;
    t->idle_next = pool->idle;
    if (t->idle_next) {
        t->idle_next->idle_prev = t;
    }
    pool->idle = t;
    count_idle_locked(pool, 1);
    if (door_server.stuck) {
        door_server.stuck = false;
        server_kick();
    }
}

static void
idle_remove_locked(struct thread *t)
{
    if (t->idle_prev) {
        t->idle_prev->idle_next = t->idle_next;
    } else {
        t->pool->idle = t->idle_next;
    }
    if (t->idle_next) {
        t->idle_next->idle_prev = t->idle_prev;
    }
    t->idle = false;
    count_idle_locked(t->pool, -1u);
}

bool
pool_assign_locked(struct source *src)
{
    struct thread *t = src->door->pool->idle;

    if (!t) {
        return false;
    }
    idle_remove_locked(t);
    t->assigned = true;
    t->given = src;
    source_ref(src);
    atomic_store(&t->wake, 1);
    door_futex_wake(&t->wake, 1, false);
    return true;
}

void
pool_no_door_locked(void)
{
    for (struct thread *t = door_server.shared.idle; t; t = t->idle_next) {
        door_futex_wake(&t->wake, 1, false);
    }
}

void
pool_rouse_locked(struct source *src)
{
    struct thread *t = atomic_load(&src->attendant);

    if (t && t->idle) {
        atomic_store(&t->wake, 1);
        door_futex_wake(&t->wake, 1, false);
    }
}

/* ---- evidence ---- */

/* Is this thread on a CPU, or waiting for one? What cannot be known counts as
 * blocked. */
/* The letter of its state in proc_pid_stat(5), at PATH; 0: it is gone. */
static char
state_at(const char *path)
{
    char text[256];
    int fd = raw_open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return 0;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) {
        return 0;
    }
    text[n] = 0;
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' ? end[2] : 0;
}

char
pool_process_state(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    return state_at(path);
}

static bool
is_running(pid_t tid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    return state_at(path) == 'R';
}

/* T serves no call. Is it between two, and takes the next one at once? */
static bool
comes_back(const struct thread *t)
{
    return !t->idle && atomic_load(&t->enlisted);
}

bool
pool_has_cpu_locked(void)
{
    uint64_t now = door_now();
    int running = (int)door_server.n_starting;
    int cpus = (int)growth_cpus(&door_server.growth,
                                (uint32_t)door_server.n_cpus, now);

    for (struct thread *t = door_server.threads; t; t = t->next) {
        if (running >= cpus) {
            return false;
        }
        if (!atomic_load_explicit(&t->serving, memory_order_relaxed)) {
            running += comes_back(t);
            continue;
        }
        uint32_t call = atomic_load_explicit(&t->calls, memory_order_relaxed);
        if (!growth_sleeps(&t->nap, call, now)) {
            bool runs = is_running(t->tid);
            growth_saw(&t->nap, call, !runs, now);
            running += runs;
        }
    }
    return running < cpus;
}

/* CPU time of T, nanoseconds. */
static uint64_t
cpu_of(const struct thread *t)
{
    clockid_t clock;

    if (pthread_getcpuclockid(t->id, &clock) != 0) {
        return 0; /* not reached: it is in the list, and so it lives */
    }
    return door_clock(clock);
}

bool
pool_is_held_up_locked(const struct door *d)
{
    uint64_t rule = atomic_load_explicit(&d->run_ns, memory_order_relaxed);
    uint64_t now = door_now(), far = MAX_OF(rule * LONG_TIMES, LONG_NS);
    uint32_t cpus = (uint32_t)door_server.n_cpus, n_long = 0;
    bool all = true;

    if (rule == 0 || door_server.n_starting > 0) {
        return false;
    }
    for (struct thread *t = door_server.threads; t; t = t->next) {
        uint32_t call = atomic_load_explicit(&t->calls, memory_order_relaxed);

        if (!atomic_load_explicit(&t->serving, memory_order_relaxed)) {
            all &= !comes_back(t);
        } else if (t->held_call != call) {
            t->held_call = call;
            t->held_cpu = cpu_of(t);
            all = false;
        } else if (!growth_sleeps(&t->nap, call, now)) {
            all &= cpu_of(t) - t->held_cpu >= far;
            n_long++;
        }
    }
    return all && n_long < LONG_MOST * cpus;
}

static uint32_t
count_all_locked(void)
{
    return door_server.n_threads + door_server.n_starting;
}

bool
pool_is_burst_locked(uint32_t waiting)
{
    uint32_t n = count_all_locked();
    uint32_t idle =
        atomic_load_explicit(&door_server.shared.n_idle, memory_order_relaxed);

    return growth_missing(&door_server.growth, waiting + n - MIN_OF(idle, n), n,
                          door_now()) > 0;
}

bool
pool_has_room_locked(void)
{
    return growth_room(&door_server.growth, count_all_locked(),
                       door_server.n_starting, door_now()) > 0;
}

/* How many calls of SRC have been taken, and how many wait, as its caller says.
 */
static uint32_t
count_taken(const struct source *src)
{
    return src->kind == SOURCE_RING      ? ring_n_taken(src)
           : src->kind == SOURCE_CHANNEL ? channel_n_taken(src)
                                         : (uint32_t)atomic_load(&src->calls);
}

uint32_t
source_n_waiting(const struct source *src)
{
    return src->kind == SOURCE_RING ? ring_n_waiting(src)
                                    : source_has_work(src);
}

/* Threads are looked at one after the other, and calls begin and end meanwhile:
 * what is put together from such looks may never have been. So all are looked
 * at twice. Who is in the same call both times was in it at the instant between
 * the two; everybody else counts as free. And of the calls that waited before,
 * those wait still, at that instant too, that nobody took since. */
bool
pool_is_short_locked(struct source *src)
{
    uint32_t taken = count_taken(src);
    uint32_t waiting = source_n_waiting(src);
    uint32_t n_free = door_server.n_starting;

    for (struct thread *t = door_server.threads; t; t = t->next) {
        t->seen_serving = atomic_load(&t->serving);
        t->seen_call = atomic_load(&t->calls);
    }
    for (struct thread *t = door_server.threads; t; t = t->next) {
        bool in_call = t->seen_serving && atomic_load(&t->serving) &&
                       atomic_load(&t->calls) == t->seen_call;
        n_free += comes_back(t) && !in_call;
    }
    taken = count_taken(src) - taken;
    return waiting > taken && waiting - taken > n_free;
}

/* ---- placement ---- */

/* Keeps an attendant on the CPU of its caller: waking a thread on another, idle
 * CPU costs ten times the hand-off (DESIGN.md 4). Threads that the program made
 * serve channels where it put them. */
static void
place(struct thread *t, int cpu)
{
    cpu_set_t set;

    if (t->pinned == cpu) {
        return;
    }
    if (cpu < 0) {
        sched_setaffinity(0, sizeof *door_server.cpus, door_server.cpus);
    } else if (cpu < CPU_SETSIZE && CPU_ISSET(cpu, door_server.cpus)) {
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    } else {
        return;
    }
    t->pinned = cpu;
}

/* ---- waiting for work ---- */

bool
source_has_work(const struct source *src)
{
    return src->kind == SOURCE_RING      ? ring_has_work(src)
           : src->kind == SOURCE_CHANNEL ? channel_has_work(src)
                                         : unref_has_work(src);
}

static bool
source_take(struct source *src, struct thread *t)
{
    return src->kind == SOURCE_RING      ? ring_take(src, t)
           : src->kind == SOURCE_CHANNEL ? channel_take(src, t)
                                         : unref_take(src, t);
}

/* A ring counts who waits, for its consumers may be several processes. */
static void
set_parked(struct source *src, bool parked)
{
    if (src->kind == SOURCE_RING) {
        struct ring_reply_head *h = src->reply;
        atomic_fetch_add_explicit(&h->parked, parked ? 1u : -1u,
                                  memory_order_relaxed);
    } else {
        struct channel_reply *r = src->reply;
        atomic_store_explicit(&r->parked, parked ? CHANNEL_SLEEPS : 0,
                              memory_order_relaxed);
    }
}

/* T serves or attends SRC from now on; SRC's reference passes to it. */
static void
take_source(struct thread *t, struct source *src)
{
    t->src = src;
    if (src->kind == SOURCE_RING) {
        struct ring_reply_head *h = src->reply;
        atomic_fetch_add(&h->attached, 1);
    }
}

/* T leaves its source. A caller that saw it attached rang no bell, so what came
 * in the meantime needs somebody else. */
static void
drop_source(struct thread *t)
{
    struct source *src = t->src;

    t->src = NULL;
    if (src->kind == SOURCE_RING) {
        struct ring_reply_head *h = src->reply;
        atomic_fetch_sub(&h->attached, 1);
    } else if (src->kind == SOURCE_CHANNEL) {
        set_parked(src, false); /* it was promised, or it is over */
    }
    atomic_thread_fence(memory_order_seq_cst); /* left, then look */
    if (!atomic_load(&src->dead) && source_has_work(src)) {
        server_watch(src);
    }
    source_unref(src);
}

/* After a wait: out of the list (unless somebody took us), and on to the source
 * that was given. */
static void
leave_idle(struct thread *t)
{
    struct source *given = NULL;

    pthread_mutex_lock(&door_server.lock);
    if (t->idle) {
        idle_remove_locked(t);
    } else if (t->assigned) {
        given = t->given;
        t->assigned = false;
    }
    pthread_mutex_unlock(&door_server.lock);
    if (!given) {
        return;
    }
    if (t->src) {
        drop_source(t);
    }
    take_source(t, given);
    /* More help for a source whose threads are busy goes where there is room;
     * the first thread of a source goes to its caller. */
    bool stays = atomic_load(&given->serving) > 0 ||
                 (given->kind != SOURCE_RING && t->is_users);
    place(t, stays ? -1 : atomic_load(&given->cpu));
}

/* How long T, which is idle, waits for a call until it is one too many; 0: for
 * ever. One of ours stays while there is a door. Lock held. */
static uint64_t
patience_locked(const struct thread *t)
{
    uint32_t stay = MAX_OF(door_server.growth.floor, 1);

    return !t->is_users && (door_server.n_threads > stay || !door_server.doors)
               ? door_server.growth.quiet_ns
               : 0;
}

/* Parks as the attendant of T's source. false: somebody attends it already, or
 * it has been quiet for so long that none needs to. */
static bool
attend(struct thread *t)
{
    struct source *src = t->src;
    struct thread *none = NULL;
    uint64_t limit = 0;
    int e = 0;

    if (!atomic_compare_exchange_strong(&src->attendant, &none, t)) {
        return false;
    }
    int cpu = atomic_load_explicit(&src->cpu, memory_order_relaxed);
    if (cpu >= 0 && (src->kind == SOURCE_RING || !t->is_users)) {
        place(t, cpu);
    }
    uint32_t seen = atomic_load(src->bell);
    pthread_mutex_lock(&door_server.lock);
    if (t->pool == &door_server.shared) {
        limit = patience_locked(t);
    }
    idle_push_locked(t);
    pthread_mutex_unlock(&door_server.lock);
    set_parked(src, true);
    atomic_thread_fence(memory_order_seq_cst);
    if (!source_has_work(src) && !atomic_load(&src->dead)) {
        e = door_futex_wait_two(src->bell, seen, &t->wake, limit);
    }
    set_parked(src, false);
    atomic_store_explicit(&src->attendant, NULL, memory_order_release);
    leave_idle(t);
    if (t->src && t->src->kind == SOURCE_RING) {
        t->run_start = door_now();
    }
    return e != ETIMEDOUT || t->src != src;
}

/* Parks with no source. false: the thread has been idle for long enough, and
 * may leave. */
static bool
rest(struct thread *t)
{
    bool given, leaves = false;

    place(t, -1);
    pthread_mutex_lock(&door_server.lock);
    idle_push_locked(t);
    while (atomic_load(&t->wake) == 0 && !leaves) {
        uint64_t limit = patience_locked(t);
        pthread_mutex_unlock(&door_server.lock);
        int e =
            door_futex_wait(&t->wake, 0, limit > 0 ? limit : NEVER_NS, false);
        pthread_mutex_lock(&door_server.lock);
        leaves = e == ETIMEDOUT && patience_locked(t) > 0;
    }
    given = t->assigned;
    if (leaves && !given) {
        growth_left(&door_server.growth, door_now());
    }
    pthread_mutex_unlock(&door_server.lock);
    leave_idle(t);
    return given || !leaves;
}

/* How many calls wait for each thread that serves SRC, or would with one more.
 */
static uint32_t
crowd(const struct source *src)
{
    return ring_n_waiting(src) / (atomic_load(&src->serving) + 1);
}

/* Calls of other sources wait, and no thread is made for them: T, between two
 * calls, goes where it is needed most, and else where nobody is. */
static void
share(struct thread *t)
{
    struct source *best = NULL;
    uint32_t most = crowd(t->src);

    pthread_mutex_lock(&door_server.lock);
    atomic_store(&door_server.crowded, false); /* one thread for each look */
    for (struct source *s = door_server.watch; s; s = s->watch_next) {
        if (s == t->src || s->kind != SOURCE_RING || atomic_load(&s->dead) ||
            s->door->pool != t->pool) {
            continue;
        }
        uint32_t n = crowd(s);
        if (n > most || (n > 0 && !best && atomic_load(&s->serving) == 0)) {
            best = s;
            most = MAX_OF(n, most);
        }
    }
    if (best) {
        source_ref(best);
    }
    pthread_mutex_unlock(&door_server.lock);
    if (best) {
        drop_source(t);
        take_source(t, best);
        place(t, -1);
    }
}

/* Finds the next call for T. false: T may leave. */
static bool
next_call(struct thread *t)
{
    t->pool = t->bound ? t->bound->pool : &door_server.shared;
    for (;;) {
        struct source *src = t->src;
        if (src && (atomic_load(&src->dead) || src->door->pool != t->pool)) {
            drop_source(t);
            continue;
        }
        if (src && src->kind == SOURCE_RING &&
            atomic_load_explicit(&door_server.crowded, memory_order_relaxed)) {
            share(t);
            src = t->src;
        }
        if (src) {
            if (source_take(src, t)) {
                return true;
            }
            if (src->kind == SOURCE_UNREF || !attend(t)) {
                drop_source(t);
            }
        } else if (!rest(t)) {
            return false;
        }
    }
}

/* ---- creation functions ---- */

static void
pool_default_creator(door_info_t *info)
{
    (void)info;
    pthread_mutex_lock(&door_server.lock);
    /* Without memory for one more, calls wait for those that there are. */
    pool_spawn_locked(NULL);
    pthread_mutex_unlock(&door_server.lock);
}

door_server_func_t *
door_server_create(door_server_func_t *create)
{
    return atomic_exchange(&creator, create ? create : pool_default_creator);
}

bool
pool_grows(const struct door *d)
{
    if (d->native) {
        return !door_server.single;
    }
    return d->pool == &door_server.shared &&
           atomic_load(&creator) == pool_default_creator;
}

int
pool_begin(struct door *d)
{
    door_server_func_t *create = atomic_load(&creator);
    bool ours = create == pool_default_creator;
    int e = 0;

    pthread_mutex_lock(&door_server.lock);
    bool first = !door_server.created;
    if (d->pool == &door_server.shared) {
        door_server.created = true;
        if (ours && door_server.n_threads + door_server.n_starting == 0) {
            e = pool_spawn_locked(NULL);
        }
    }
    pthread_mutex_unlock(&door_server.lock);
    if (!ours && d->pool != &door_server.shared) {
        create(&d->info);
    } else if (!ours && first) {
        create(NULL);
    }
    return e;
}

/* A thread has taken a call to D. Has it left the pool empty? Then it calls the
 * program's creation function, within the call. The library's own way is to
 * make threads when calls wait (server.h). */
static void
replenish(struct door *d)
{
    door_server_func_t *create = atomic_load(&creator);

    if (atomic_load_explicit(&d->pool->n_idle, memory_order_relaxed) != 0) {
        return;
    }
    if (d->create) {
        private_deplete(d);
    } else if (create != pool_default_creator) {
        create(d->pool == &door_server.shared ? NULL : &d->info_depleted);
    }
}

/* ---- running calls ---- */

static struct thread cancelling; /* stands for who is just being cancelled */

void
pool_cancel_locked(struct source *src)
{
    struct thread *t = atomic_load(&src->runner);

    if (!t || (src->door->attributes & DOOR_NO_CANCEL) != 0 ||
        !atomic_compare_exchange_strong(&src->runner, &t, &cancelling)) {
        return;
    }
    pthread_cancel(t->id); /* it cannot leave the call before we unlock */
}

void
pool_no_cancel(struct source *src)
{
    if (atomic_exchange(&src->runner, NULL) == &cancelling) {
        pthread_mutex_lock(&door_server.lock); /* until that is done */
        pthread_mutex_unlock(&door_server.lock);
    }
}

static void
run_plain(struct thread *t)
{
    struct call *c = &t->call;
    struct door *d = c->src->door;
    char *argp = c->size > 0 ? t->args : NULL;
    door_desc_t *dp = c->n_fds > 0 ? t->descs : NULL;

    if (c->src->kind == SOURCE_UNREF) {
        argp = DOOR_UNREF_DATA;
    }
    replenish(d);
    pthread_setcancelstate(t->cancel_state, NULL);
    d->procedure(d->cookie, argp, c->size, dp, c->n_fds);
    /* It returned instead of calling door_return: its thread ends, and its
     * caller gets EINTR (thread_ends()). */
    pthread_exit(NULL);
}

static void
run(struct thread *t)
{
    struct call *c = &t->call;
    struct door *d = c->src->door;

    if (d->native) {
        d->native(d->cookie, &c->task);
        ring_answer(t, c->task.error, NULL, 0);
    } else {
        run_plain(t);
    }
}

static void
begin_call(struct thread *t)
{
    struct source *src = t->src;

    t->call.open = true;
    if (src->kind == SOURCE_CHANNEL) {
        /* Nobody else counts: the next call is taken after this is answered. */
        uint64_t n = atomic_load_explicit(&src->calls, memory_order_relaxed);
        atomic_store_explicit(&src->calls, n + 1, memory_order_relaxed);
        atomic_store_explicit(&src->runner, t, memory_order_release);
    } else {
        atomic_fetch_add_explicit(&src->serving, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&src->calls, 1, memory_order_relaxed);
    }
    /* Release: who sees us in the call sees that it was taken. */
    atomic_store_explicit(&t->calls, t->calls + 1, memory_order_release);
    atomic_store_explicit(&t->serving, true, memory_order_release);
    if (src->door->unref) {
        atomic_fetch_add(&src->door->running, 1);
    }
}

int
pool_copy_args(struct thread *t, const char *from, size_t size)
{
    if (size + 1 > t->args_size) {
        size_t room = (size + 4096) & ~(size_t)4095;
        char *larger = malloc(room);
        if (!larger) {
            return ENOMEM;
        }
        free(t->args);
        t->args = larger;
        t->args_size = room;
    }
    memcpy(t->args, from, size);
    t->args[size] = 0;
    return 0;
}

static void
end_call(struct thread *t)
{
    struct source *src = t->src;

    if (t->args_size > ARGS_KEPT) {
        free(t->args);
        t->args = NULL;
        t->args_size = 0;
    }
    t->call.open = false;
    atomic_store_explicit(&t->serving, false, memory_order_relaxed);
    if (src->kind != SOURCE_CHANNEL) {
        atomic_fetch_sub_explicit(&src->serving, 1, memory_order_relaxed);
    }
    if (src->door->unref) {
        unref_call_ended(src->door);
    }
    if (src->kind == SOURCE_RING) {
        /* A run of short calls is announced once, at its end. */
        uint64_t now = door_now();
        if (!ring_has_work(src) || now - t->run_start > ANNOUNCE_NS) {
            if (t->pinned >= 0 && now - t->run_start > LONG_NS) {
                place(t, -1); /* it is no matter of wake-ups any more */
            }
            ring_announce(src);
            t->run_start = now;
        }
    }
}

void
pool_serve(struct thread *t)
{
    atomic_store(&t->enlisted, true);
    /* door_return() comes back here, on whatever stack depth the procedure was:
     * each call begins with a clean stack. */
    if (_setjmp(t->base) != 0) {
        end_call(t);
    }
    while (next_call(t)) {
        begin_call(t);
        run(t);
        end_call(t);
    }
}

/* ---- the life of a thread ---- */

/* The thread ends within a call (pthread_exit): its caller gets EINTR. */
static void
thread_ends(void *arg)
{
    struct thread *t = arg;

    if (t->call.open && t->src) {
        if (t->src->kind == SOURCE_RING) {
            ring_answer(t, EINTR, NULL, 0);
        } else if (t->src->kind == SOURCE_CHANNEL) {
            channel_answer(t, EINTR, NULL, 0, NULL, 0);
        }
        end_call(t);
    }
    if (t->src) {
        drop_source(t);
    }
    pool_bind(t, NULL);
    pthread_mutex_lock(&door_server.lock);
    for (struct thread **p = &door_server.threads; *p; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            door_server.n_threads--;
            server_tell_threads_locked();
            break;
        }
    }
    pthread_mutex_unlock(&door_server.lock);
    self_thread = NULL;
    context_stands_in(NULL);
    thread_free(t);
}

static void *
thread_main(void *arg)
{
    struct thread *t = arg;
    struct source *src = t->src;

    t->src = NULL;
    if (src) {
        take_source(t, src);
    }
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    t->cancel_state = PTHREAD_CANCEL_DISABLE;
    t->id = pthread_self();
    t->pool = &door_server.shared;
    atomic_store(&t->enlisted, true);
    pthread_sigmask(SIG_SETMASK, &door_server.mask, NULL);
    become(t);
    pthread_mutex_lock(&door_server.lock);
    t->tid = (pid_t)syscall(SYS_gettid);
    t->next = door_server.threads;
    door_server.threads = t;
    door_server.n_threads++;
    server_tell_threads_locked();
    door_server.n_starting--;
    pthread_mutex_unlock(&door_server.lock);
    pool_serve(t);
    return NULL; /* thread_ends() does the rest */
}

int
pool_spawn_locked(struct source *src)
{
    pthread_t id;
    pthread_attr_t attr;
    struct thread *t = calloc(1, sizeof *t);

    if (!t) {
        return ENOMEM;
    }
    t->pinned = -1;
    t->src = src;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int e = pthread_create(&id, &attr, thread_main, t);
    pthread_attr_destroy(&attr);
    if (e != 0) {
        free(t);
        return e;
    }
    door_server.n_starting++;
    growth_made(&door_server.growth, count_all_locked(), door_now());
    return 0;
}

void
pool_fill(void)
{
    int e = 0;

    pthread_mutex_lock(&door_server.lock);
    while (e == 0 && count_all_locked() < door_server.growth.floor) {
        e = pool_spawn_locked(NULL); /* else calls make them as they come */
    }
    pthread_mutex_unlock(&door_server.lock);
}

void
door_native_threads(uint32_t floor, uint32_t most)
{
    pthread_mutex_lock(&door_server.lock);
    door_server.growth.floor = MAX_OF(floor, 1);
    door_server.growth.ceiling = most;
    door_server.growth.size = THREAD_SIZE;
    pthread_mutex_unlock(&door_server.lock);
}
