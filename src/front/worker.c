/* The worker: one process, one CPU, one loop. A pass collects events, reads and
 * parses, publishes to door rings, takes answers and writes replies; system
 * calls and wake-ups are shared by all that a pass does. The loop runs from its
 * base frame, worker_loop(), and everything it needs to go on lies in the
 * arena, so that an heir can enter it there (heirs.md).
 */
#include "front/worker_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/trim.h"
#include "base/util.h"
#include "front/confine.h"
#include "front/heir.h"

#define SEGMENTS   (256u << 8) /* 256 MiB at the most; sparse */
#define NAP_MIN    (250 * 1000ull)
#define NAP_MAX    (64 * NS_PER_MS)
#define NUDGE_NS   (150 * 1000ull)
#define SLOW_TICK  (1000 * NS_PER_MS)
#define LOOK_SLICE 512u

void
worker_event(struct worker *w, enum log_level level, const char *event,
             const char *key, const char *value)
{
    struct log_line line;

    log_begin(&line, w->world->wall(w->world->ctx), level, event);
    log_num(&line, "worker", (uint64_t)w->setup->index);
    if (key) {
        log_text(&line, key, value);
    }
    log_end(&line, w->setup->log_fd);
}

int
worker_watch(struct worker *w, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event ev = {.events = events, .data.u64 = data};

    return epoll_ctl(w->core->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? errno : 0;
}

void
worker_arm(struct worker *w, uint32_t i, uint64_t ns)
{
    /* Rounded up: never due too early. */
    wheel_arm(&w->wheel, i,
              (uint32_t)((w->now + ns + TICK_NS - 1) / TICK_NS) + 1);
}

void
worker_arm_rate(struct worker *w, uint32_t i, uint64_t ns, uint64_t began,
                uint64_t bytes)
{
    uint64_t end = began + ns + bytes * (NS_PER_SEC / RATE_MIN);

    worker_arm(w, i, end > w->now ? MIN_OF(ns, end - w->now) : 0);
}

/* ---- the pass ---- */

static void
listener_pending(struct worker *w, uint32_t bits)
{
    if (w->core->listeners_pending == 0) {
        w->core->pending_since = w->now;
    }
    w->core->listeners_pending |= bits;
}

static void
handle_event(struct worker *w, const struct epoll_event *ev)
{
    uint64_t data = ev->data.u64;
    uint32_t i = (uint32_t)data, gen = (uint32_t)(data >> 32) & 0xffffff;

    switch ((enum event_tag)(data >> 56)) {
    case TAG_CONN:
        if (w->conns[i].state != CONN_FREE && w->conns[i].gen == gen) {
            worker_at(w, i);
            conn_event(w, i, ev->events);
        }
        break;
    case TAG_CONTROL:
        control_event(w);
        break;
    case TAG_LISTENER:
        listener_pending(w, 1u << i);
        break;
    case TAG_RING:
        if ((w->rings[i].epoch & 0xffffff) == gen) {
            ring_event(w, i, ev->events);
        }
        break;
    case TAG_HEIR:
        succession_event(w, i, gen);
        break;
    }
}

/* How long the next wait may last: -1 for ever, else nanoseconds. */
static int64_t
wait_limit(struct worker *w)
{
    uint32_t tick = wheel_next(&w->wheel);
    int64_t limit = -1;

    if (w->n_again > 0 || w->again_all) {
        return 0;
    }
    if (tick != WHEEL_NONE) {
        /* Ticks wrap after some years; the difference does not mind. */
        int32_t ahead = (int32_t)(tick - (uint32_t)(w->now / TICK_NS));
        limit = ahead > 0
                    ? ahead * (int64_t)TICK_NS - (int64_t)(w->now % TICK_NS)
                    : 0;
    }
    bool busy = w->n_waiting > 0, waiting = busy;
    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        if (w->active[g / 64] >> (g % 64) & 1) {
            busy = true;
            waiting |= ring_is_waiting(&w->rings[g]);
        }
    }
    if (busy) {
        /* Answers are announced when a run of calls ends: look before, in case
         * its thread blocked in the middle. And unclaimed calls want help. */
        int64_t nap = (int64_t)(waiting ? NAP_MIN : w->nap);
        limit = limit < 0 || nap < limit ? nap : limit;
    }
    if (w->look_at < w->core->top) {
        /* Programs that have calls may share this CPU: they come first. */
        limit = busy ? MIN_OF(limit, (int64_t)NAP_MIN) : 0;
    }
    if (rings_want_tidying(w) || arena_is_fat(&w->arena, SPARE_SEGS)) {
        limit = limit < 0 || (int64_t)SLOW_TICK < limit ? (int64_t)SLOW_TICK
                                                        : limit;
    }
    if (w->core->listeners_pending != 0 || w->core->stopping || w->unsaid) {
        int64_t soon = (int64_t)(5 * NS_PER_MS);
        limit = limit < 0 || soon < limit ? soon : limit;
    }
    if (w->n_gone > 0) {
        int64_t ahead =
            w->tidy_at > w->now ? (int64_t)(w->tidy_at - w->now) : 0;
        limit = limit < 0 || ahead < limit ? ahead : limit;
    }
    if (w->heirs_due) {
        int64_t ahead =
            w->heirs_at > w->now ? (int64_t)(w->heirs_at - w->now) : 0;
        limit = limit < 0 || ahead < limit ? ahead : limit;
    }
    return limit;
}

/* Says to the active rings that we sleep; true if an answer came in between, so
 * that we must not. */
static bool
go_to_sleep(struct worker *w)
{
    bool answer = false;

    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        if (w->active[g / 64] >> (g % 64) & 1) {
            ring_sleep(&w->rings[g]);
            answer |= ring_has_answer(&w->rings[g]);
        }
    }
    return answer;
}

static void
wake_up(struct worker *w)
{
    for (uint32_t g = 0; g < w->core->n_rings; g++) {
        if (w->active[g / 64] >> (g % 64) & 1) {
            ring_wake(&w->rings[g]);
        }
    }
}

static void
set_awake(struct worker *w, uint32_t awake)
{
    atomic_store_explicit(&w->setup->seats[w->setup->index].awake, awake,
                          memory_order_relaxed);
}

static void
collect(struct worker *w, bool may_block)
{
    struct core *core = w->core;
    int64_t limit = may_block ? wait_limit(w) : 0;
    struct timespec ts = {0, 0};

    /* What a dead worker had taken is found here by its heir. */
    memset(core->events, 0, (size_t)core->n_events * sizeof *core->events);
    worker_at(w, FAULT_NOBODY);
    core->n_events = 0;
    if (limit != 0 && go_to_sleep(w)) {
        limit = 0;
    }
    if (limit > 0) {
        ts.tv_sec = (time_t)((uint64_t)limit / NS_PER_SEC);
        ts.tv_nsec = (long)((uint64_t)limit % NS_PER_SEC);
    }
    set_awake(w, 0);
    int n = epoll_pwait2(core->epoll, core->events, EVENTS_MAX,
                         limit < 0 ? NULL : &ts, NULL);
    set_awake(w, 1);
    core->n_events = n < 0 ? 0 : n;
    wake_up(w);
}

static void
new_second(struct worker *w)
{
    uint64_t sec = w->world->wall(w->world->ctx) / NS_PER_SEC;

    if (sec != w->wall_sec) {
        w->wall_sec = sec;
        http_date((int64_t)sec, w->date);
    }
}

static void
timer_due(void *arg, uint32_t i)
{
    worker_at(arg, i);
    conn_due(arg, i);
}

static void
slow_tick(struct worker *w)
{
    if (w->now < w->slow_at) {
        return;
    }
    w->slow_at = w->now + SLOW_TICK;
    rings_slow_tick(w);
    arena_trim(&w->arena, SPARE_SEGS);
    /* An edge on a listener that another worker took and died with: try. */
    if (!w->core->stopping) {
        listener_pending(w, (uint32_t)((1ull << w->conf->n_listens) - 1));
    }
}

void
worker_again(struct worker *w, uint32_t i)
{
    struct conn *c = &w->conns[i];

    if (c->flags & CONN_AGAIN) {
        return;
    }
    c->flags |= CONN_AGAIN;
    if (w->n_again < AGAIN_MAX) {
        w->again[w->n_again].i = i;
        w->again[w->n_again++].gen = c->gen;
    } else {
        w->again_all = true;
    }
}

static void
go_on(struct worker *w, uint32_t i)
{
    w->conns[i].flags &= (uint8_t)~CONN_AGAIN;
    worker_at(w, i);
    conn_go(w, i);
}

/* Those that had their share of the pass before. Each puts itself back behind
 * what is read here. */
static void
go_again(struct worker *w)
{
    uint32_t n = w->n_again;
    bool all = w->again_all;

    w->n_sharing = n; /* at most AGAIN_MAX, also where there are more */
    w->n_again = 0;
    w->again_all = false;
    for (uint32_t i = 0; all && i < w->core->top; i++) {
        if (w->conns[i].state != CONN_FREE &&
            (w->conns[i].flags & CONN_AGAIN)) {
            go_on(w, i);
        }
    }
    for (uint32_t k = 0; !all && k < n; k++) {
        uint32_t i = w->again[k].i, gen = w->again[k].gen;
        if (w->conns[i].state != CONN_FREE && w->conns[i].gen == gen) {
            go_on(w, i);
        }
    }
}

/* What an heir does besides its work: a slice of the connections that it has
 * not looked at since it took over. One call for all: of 10,000 that idle a
 * read of each costs 4 ms, of which the program behind gets nothing. */
static void
look_on(struct worker *w)
{
    uint32_t end = MIN_OF(w->core->top, w->look_at + LOOK_SLICE);
    struct pollfd idle[LOOK_SLICE];
    uint32_t n = 0;

    for (; w->look_at < end; w->look_at++) {
        if (w->conns[w->look_at].state == CONN_IDLE) {
            idle[n++] = (struct pollfd){
                .fd = (int)w->look_at,
                .events = POLLIN | POLLPRI | POLLRDHUP,
            };
        }
    }
    if (w->look_at >= w->core->top) {
        w->look_at = UINT32_MAX;
    }
    if (n == 0 || poll(idle, n, 0) <= 0) {
        return;
    }
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = (uint32_t)idle[k].fd;
        if (idle[k].revents != 0 && w->conns[i].state == CONN_IDLE) {
            worker_at(w, i);
            /* The bits of poll(2) and epoll(7) are the same. */
            conn_event(w, i, (uint32_t)(uint16_t)idle[k].revents);
        }
    }
}

void
worker_replay(struct worker *w)
{
    for (uint32_t e = 0; e < EVENTS_MAX; e++) {
        if (w->core->events[e].events != 0) {
            handle_event(w, &w->core->events[e]);
        }
    }
    w->core->n_events = EVENTS_MAX; /* to be cleared */
}

/* What the other processes may read of this pass. */
static void
publish_seat(struct worker *w)
{
    struct seat *seat = &w->setup->seats[w->setup->index];
    uint64_t pass = atomic_load_explicit(&seat->pass, memory_order_relaxed);
    uint32_t slots = 0, areas = 0, open = 0;

    FOR_EACH_RING (w, g) {
        slots += w->rings[g].n_used;
        areas += w->rings[g].segments_used;
        open += w->rings[g].state != RING_CLOSED;
    }
    atomic_store_explicit(&seat->segments, w->arena.in_use,
                          memory_order_relaxed);
    atomic_store_explicit(&seat->slots, slots, memory_order_relaxed);
    atomic_store_explicit(&seat->areas, areas, memory_order_relaxed);
    atomic_store_explicit(&seat->rings, open, memory_order_relaxed);
    atomic_store_explicit(&seat->pass, pass + 1, memory_order_relaxed);
}

void
worker_pass(struct worker *w, bool may_block)
{
    struct core *core = w->core;

    uint64_t before = w->now;

    collect(w, may_block);
    w->now = core->last_pass = w->world->now(w->world->ctx);
    if (w->now - before >= WORKER_SLEPT_NS) {
        control_say(w, &(struct worker_message){.kind = WORKER_AWAKE});
    }
    new_second(w);
    for (int e = 0; e < core->n_events; e++) {
        handle_event(w, &core->events[e]);
    }
    go_again(w);
    if (w->look_at < core->top) {
        look_on(w);
    }
    if (core->listeners_pending != 0) {
        accept_some(w);
    }
    if (w->n_waiting > 0) {
        waiting_go_on(w);
    }
    rings_flush(w);
    if (rings_poll(w) > 0) {
        w->nap = NAP_MIN;
        if (w->n_waiting > 0) {
            waiting_go_on(w);
        }
        rings_flush(w); /* pipelined requests of the same connections */
    } else if (core->n_events > 0) {
        w->nap = NAP_MIN;
    } else {
        w->nap = MIN_OF(w->nap * 2, NAP_MAX);
    }
    if (w->n_passed > 0) {
        raw_hand_over(w);
    }
    for (uint32_t g = 0; g < core->n_rings; g++) {
        if (w->active[g / 64] >> (g % 64) & 1) {
            ring_nudge(&w->rings[g], w->now, NUDGE_NS);
        }
    }
    wheel_advance(&w->wheel, (uint32_t)(w->now / TICK_NS), timer_due, w);
    slow_tick(w);
    if (w->n_draining > 0) {
        rings_drained(w);
    }
    if (w->n_gone > 0) {
        renew_tidy(w);
    }
    if (w->unsaid) {
        control_say_again(w);
    }
    rings_flush(w); /* what followed an answer that a timer gave */
    access_flush(w);
    publish_seat(w);
    control_orphan(w);
    if (core->stopping && (core->live == 0 || w->now >= core->stop_at)) {
        w->leaving = 1;
    }
}

bool
worker_stand(struct worker *w)
{
    bool admits = w->greeted;

    for (;;) {
        if (w->greeted && !w->is_heir) {
            rings_greet(w);
        }
        if (w->next.conf != NULL && !w->is_heir) {
            renew_expect(w);
        }
        if (succession_tend(w)) {
            break;
        }
        heir_begin(w); /* and has heirs of its own first */
    }
    if (w->is_heir) {
        heir_take_over(w);
        return true; /* with rings to greet, perhaps */
    }
    if (w->next.conf != NULL) {
        renew_admit(w);
        admits = true;
    }
    if (w->greeted) {
        rings_admit(w);
    }
    return admits;
}

int
worker_loop(struct worker *w)
{
    while (!w->leaving) {
        bool worked = worker_stand(w);
        worker_pass(w, !worked);
    }
    succession_end(w);
    raw_cut_all(w);
    return 0;
}

/* ---- birth ---- */

void
worker_rebuild(struct worker *w)
{
    struct core *core = w->core;
    uint32_t live = 0;

    w->now = w->world->now(w->world->ctx);
    new_second(w); /* an heir may serve before its first pass */
    w->nap = NAP_MIN;
    w->n_again = 0;
    w->again_all = true; /* the list of a worker before us is lost */
    w->look_at = 0;
    w->n_passed = 1; /* look */
    w->n_draining = 0;
    memset(w->active, 0, sizeof w->active);
    waiting_forget(w);
    wheel_init(&w->wheel, w->conns, sizeof(struct conn),
               offsetof(struct conn, timer), (uint32_t)(w->now / TICK_NS));
    arena_forget(&w->arena);
    FOR_EACH_RING (w, g) {
        ring_rebuild(&w->rings[g]);
        w->n_draining += w->rings[g].draining;
        if (w->rings[g].state == RING_READY) {
            tally_in_flight(tally_of(w, g), ring_in_flight(&w->rings[g]));
        }
    }
    for (uint32_t i = 0; i < core->top; i++) {
        struct conn *c = &w->conns[i];
        if (c->state == CONN_FREE) {
            continue;
        }
        live++;
        wheel_relink(&w->wheel, i);
        if (c->seg != ARENA_NONE) {
            arena_claim(&w->arena, c->seg);
            struct request *r = request_of(w, c);
            r->line.is_in = 0;
            if (c->state == CONN_QUEUE) {
                waiting_add(w, i);
            }
            if (r->area != 0 && !r->has_slot) {
                ring_area_claim(&w->rings[c->ring], area_off(r), area_len(r));
            }
        }
        if (c->out_seg != ARENA_NONE) {
            arena_claim(&w->arena, c->out_seg);
        }
    }
    arena_settle(&w->arena);
    core->live = live;
    FOR_EACH_RING (w, g) {
        if (w->rings[g].state == RING_READY && ring_is_busy(&w->rings[g])) {
            w->active[g / 64] |= 1ull << (g % 64);
        }
    }
}

/* A core file, where it was asked for, has no shared memory: the arena and the
 * rings, with clients' bytes, are large, and the kernel would touch all of it.
 * See core(5). */
static void
set_core_files(bool wanted)
{
    struct rlimit limit = {0, 0};
    CLEAN_FD int fd = -1;

    if (wanted) {
        getrlimit(RLIMIT_CORE, &limit);
        limit.rlim_cur = limit.rlim_max;
        fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    }
    setrlimit(RLIMIT_CORE, &limit);
    if (fd >= 0) {
        (void)!write(fd, "0x31", 4);
    }
}

/* Becomes the unprivileged user; nothing gained by exec, and, unless it was
 * asked for, no core files, no tracing by others of that user. */
static int
drop_rights(const struct worker_setup *s)
{
    set_core_files(s->conf->core_files);
    if (s->change_user &&
        (setgroups(0, NULL) < 0 || setresgid(s->gid, s->gid, s->gid) < 0 ||
         setresuid(s->uid, s->uid, s->uid) < 0)) {
        return errno;
    }
    if (!SANITIZED) {
        prctl(PR_SET_DUMPABLE, s->conf->core_files, 0, 0, 0);
    }
    return 0;
}

static void
pin(int cpu)
{
    cpu_set_t set;

    if (cpu >= 0 && cpu < CPU_SETSIZE) {
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
}

/* Grows the descriptor table to its limit now: later, shared with heirs, each
 * doubling would stall for milliseconds. The limit. */
static uint32_t
grow_table(void)
{
    struct rlimit limit = {1024, 1024};

    getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t n = MIN_OF(limit.rlim_cur, TABLE_MAX);
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)n - 1);
    if (fd >= 0) {
        close(fd);
    }
    return (uint32_t)n;
}

static_assert(sizeof(struct ring_tables) % ARENA_SEGMENT == 0,
              "the tables of a ring are whole pages");

static int
make_core(struct worker *w)
{
    uint32_t n_conns = grow_table();
    size_t n_rings = MAX_OF(w->conf->n_targets, w->setup->targets_max);
    size_t rings_off = ROUND_UP(sizeof(struct core), 128);
    size_t conns_off = ROUND_UP(rings_off + n_rings * sizeof(struct ring), 128);
    /* Whole pages, which are given back one ring at a time. */
    size_t tables_off =
        ROUND_UP(conns_off + n_conns * sizeof(struct conn), ARENA_SEGMENT);
    size_t queues_off =
        ROUND_UP(tables_off + n_rings * sizeof(struct ring_tables), 128);
    int e = arena_make(&w->arena, queues_off + n_rings * sizeof(struct queue),
                       SEGMENTS);

    if (e != 0) {
        return e;
    }
    struct core *core = w->core = (struct core *)(void *)w->arena.base;
    core->magic = CORE_MAGIC;
    core->n_conns = n_conns;
    core->n_rings = (uint32_t)w->conf->n_targets;
    core->rings_max = (uint32_t)n_rings;
    core->generation = w->setup->generation;
    core->rings_off = rings_off;
    core->conns_off = conns_off;
    core->tables_off = tables_off;
    core->queues_off = queues_off;
    core->request_id = door_random();
    core->queue_seed = door_random();
    w->rings = (struct ring *)(void *)(w->arena.base + rings_off);
    w->conns = (struct conn *)(void *)(w->arena.base + conns_off);
    w->queues = (struct queue *)(void *)(w->arena.base + queues_off);
    core->epoll = epoll_create1(EPOLL_CLOEXEC);
    return core->epoll < 0 ? errno : 0;
}

/* The descriptors that we were born with: here they change. */
static void
take_fds(struct worker *w)
{
    const struct worker_setup *s = w->setup;

    memset(w->listen_fds, 0xff, sizeof w->listen_fds); /* all -1 */
    memset(w->folder_fds, 0xff, sizeof w->folder_fds);
    for (size_t l = 0; l < w->conf->n_listens; l++) {
        if (w->conf->listens[l].protocol != CONF_TCP_WAIT) {
            w->listen_fds[l] = s->listen_fds[l];
        }
    }
    memcpy(w->folder_fds, s->folder_fds, w->conf->n_targets * sizeof(int));
}

static int
watch_all(struct worker *w)
{
    int e = worker_watch(w, w->setup->control_fd, EPOLLIN,
                         EVENT_DATA(TAG_CONTROL, 0, 0));

    for (uint32_t l = 0; e == 0 && l < w->conf->n_listens; l++) {
        if (w->listen_fds[l] >= 0) {
            e = accept_watch(w, l);
        }
    }
    return e;
}

static void
on_poke(int signal)
{
}

int
worker_begin(struct worker *w, const struct worker_setup *setup)
{
    /* Not SIG_IGN, which interrupts nothing. */
    const struct sigaction poked = {.sa_handler = on_poke};

    memset(w, 0, sizeof *w);
    w->setup = setup;
    w->conf = setup->conf;
    w->world = setup->world ? setup->world : world_real();
    signal(SIGPIPE, SIG_IGN);
    sigaction(WORKER_POKE, &poked, NULL);
    if (w->conf->n_targets > TARGETS_MAX || w->conf->n_listens > 32) {
        return E2BIG;
    }
    take_fds(w);
    int e = make_core(w);
    if (e == 0) {
        e = watch_all(w);
    }
    if (e == 0) {
        pin(setup->cpu);
        e = drop_rights(setup);
    }
    if (e == 0) {
        worker_rebuild(w);
        w->look_at = UINT32_MAX;
        succession_begin(w);
        fault_watch(w);
        w->heirs_due = setup->heirs > 0;
        atomic_store_explicit(&setup->seats[setup->index].pid,
                              (uint32_t)getpid(), memory_order_relaxed);
    }
    if (e == 0 && setup->is_confined) {
        /* The kernel writes a core file as the one that dies. */
        confine(setup->folder_fds, w->conf->n_targets, !w->conf->core_files);
    }
    return e;
}

int
worker_main(const struct worker_setup *setup)
{
    /* The one writable thing that outlives a pass besides the arena: on the
     * base frame, copied by a fork. */
    struct worker w;
    int e = worker_begin(&w, setup);

    if (e != 0) {
        struct log_line line;
        log_begin(&line, world_real()->wall(NULL), LOG_ERROR, "worker-failed");
        log_num(&line, "worker", (uint64_t)setup->index);
        log_errno(&line, e);
        log_end(&line, setup->log_fd);
        return 1;
    }
    struct worker_message ready = {.kind = WORKER_READY};
    control_say(&w, &ready);
    trim_process();
    return worker_loop(&w);
}
