/* The words and the waiting. At the death of the serving process the kernel
 * goes along its list: first the crown, which becomes "dead", then each guard,
 * whose sleeper is woken. So whoever is woken finds the crown free, or taken by
 * another heir. An heir that did not get it sleeps for short times until the
 * new worker has taken over its guard: from then on that one's death wakes it.
 *
 * No wake can be lost to an heir that dies with it, because each has a word of
 * its own. A signal (WORKER_POKE, by the keeper) makes all look at the pidfd of
 * the process that serves: that is the proof if the list was never walked.
 */
#include "front/succession.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "front/heir.h"
#include "front/worker_priv.h"

#define LOOK_NS                                                                \
    (10 * NS_PER_MS)             /* between looks while nobody has the guard   \
                                  */
#define PAUSE_NS (2 * NS_PER_MS) /* between two clones, when they go wrong */

static uint32_t
own_tid(void)
{
    return (uint32_t)syscall(SYS_gettid); /* libc's is that of the worker */
}

static uint32_t
held_by(uint32_t tid)
{
    return tid | FUTEX_WAITERS;
}

static struct succession *
of(const struct worker *w)
{
    return &w->core->succession;
}

/* The kernel's list of what this process holds: always all words, in the arena,
 * where they never change; those that another holds are passed over. */
static void
watch_own_death(struct worker *w)
{
    w->robust.list.next = &of(w)->crown.link;
    w->robust.futex_offset = (long)offsetof(struct robust_word, word);
    w->robust.list_op_pending = NULL;
    (void)syscall(SYS_set_robust_list, &w->robust, sizeof w->robust);
}

/* A pidfd of ourselves: an heir that opened us by number might watch a
 * stranger. Without it (no descriptor is free) the words must do. */
static void
open_self(struct worker *w)
{
    struct succession *s = of(w);

    s->self_tid = 0;
    atomic_signal_fence(memory_order_seq_cst);
    s->self_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    atomic_signal_fence(memory_order_seq_cst);
    s->self_tid = own_tid();
}

void
succession_begin(struct worker *w)
{
    struct succession *s = of(w);
    struct robust_list *head = &w->robust.list;

    s->crown.link.next = &s->slots[0].guard.link;
    for (uint32_t k = 0; k < HEIR_SLOTS; k++) {
        s->slots[k].pidfd = -1;
        s->slots[k].guard.link.next =
            k + 1 < HEIR_SLOTS ? &s->slots[k + 1].guard.link : head;
    }
    s->self_fd = -1;
    watch_own_death(w);
    atomic_store(&s->crown.word, held_by(own_tid()));
    open_self(w);
}

/* ---- an heir's life ---- */

static long
sleep_on(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
    struct timespec limit = {0, (long)ns};

    return syscall(SYS_futex, word, FUTEX_WAIT, value, ns ? &limit : NULL, NULL,
                   0);
}

static void
wake(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Has the process that holds the crown as CROWN died, by its own pidfd? */
static bool
is_dead(const struct succession *s, uint32_t crown)
{
    struct pollfd p = {.fd = s->self_fd, .events = POLLIN};

    return s->self_tid == (crown & FUTEX_TID_MASK) && poll(&p, 1, 0) == 1 &&
           (p.revents & POLLIN) != 0;
}

/* Returns when the caller has the crown. Who is not wanted any more, or was
 * never counted on, leaves from here. */
static void
wait_for_crown(struct succession *s, uint32_t slot, uint32_t epoch)
{
    struct heir_slot *own = &s->slots[slot];
    bool poked = false;

    for (;;) {
        uint32_t guard = atomic_load(&own->guard.word);
        uint32_t crown = atomic_load(&s->crown.word);

        if (atomic_load(&own->epoch) != epoch || atomic_load(&s->over)) {
            wake(&own->guard.word); /* the next in this slot, if it slept too */
            _exit(0);
        }
        if ((crown & FUTEX_OWNER_DIED) || (poked && is_dead(s, crown))) {
            if (atomic_compare_exchange_strong(&s->crown.word, &crown,
                                               held_by(own_tid()))) {
                return;
            }
            continue;
        }
        /* Whose guard the living worker has not taken yet must look itself. */
        bool watched = guard == crown;
        poked = sleep_on(&own->guard.word, guard, watched ? 0 : LOOK_NS) < 0 &&
                errno == EINTR;
    }
}

/* ---- the worker's side ---- */

static uint32_t
free_slot(struct succession *s)
{
    for (uint32_t n = 0; n < HEIR_SLOTS; n++) {
        uint32_t k = (s->next_slot + n) % HEIR_SLOTS;
        if (s->slots[k].state == HEIR_NONE) {
            s->next_slot = k + 1;
            return k;
        }
    }
    return HEIR_SLOTS;
}

/* Whoever sleeps, or is about to, on slot K is not meant any more. */
static void
dismiss(struct worker *w, uint32_t k)
{
    struct heir_slot *slot = &of(w)->slots[k];

    atomic_fetch_add(&slot->epoch, 1);
    wake(&slot->guard.word);
    if (slot->pidfd >= 0) {
        int fd = slot->pidfd;
        (void)epoll_ctl(w->core->epoll, EPOLL_CTL_DEL, fd, NULL);
        slot->pidfd = -1;
        close(fd);
    }
    slot->state = HEIR_NONE;
}

static void
tell_seat(struct worker *w)
{
    struct seat *seat = &w->setup->seats[w->setup->index];

    atomic_store_explicit(&seat->heirs, succession_count(w),
                          memory_order_relaxed);
}

pid_t
succession_clone(struct worker *w)
{
    struct succession *s = of(w);
    uint32_t k = free_slot(s);

    if (k == HEIR_SLOTS) {
        errno = ENOSPC;
        return -1;
    }
    struct heir_slot *slot = &s->slots[k];
    uint32_t epoch = atomic_fetch_add(&slot->epoch, 1) + 1;
    int pidfd = -1;

    slot->maps = s->maps;
    atomic_store(&slot->guard.word, atomic_load(&s->crown.word));
    slot->state = HEIR_CLONING;
    s->cloned_at = w->now;
    s->n_cloned++;
    /* A sibling, not a child: whoever waits for our death waits for its, too.
     * The pidfd is made with it, so that it cannot be another's. */
    long pid =
        syscall(SYS_clone, CLONE_FILES | CLONE_PARENT | CLONE_PIDFD | SIGCHLD,
                0, &pidfd, 0, 0);
    if (pid == 0) {
        watch_own_death(w);
        wait_for_crown(s, slot - s->slots, epoch);
        s->crowned_at = w->world->now(w->world->ctx);
        return 0;
    }
    if (pid < 0) {
        int e = errno;
        slot->state = HEIR_NONE;
        errno = e;
        return -1;
    }
    slot->pid = (int32_t)pid;
    slot->pidfd = pidfd;
    atomic_signal_fence(memory_order_seq_cst);
    slot->state = HEIR_READY;
    if (worker_watch(w, pidfd, EPOLLIN,
                     EVENT_DATA(TAG_HEIR, epoch & 0xffffff, k)) != 0) {
        dismiss(w, k); /* one whose death nobody sees is no use */
        errno = ENOSPC;
        return -1;
    }
    tell_seat(w);
    return (pid_t)pid;
}

uint32_t
succession_count(const struct worker *w)
{
    const struct succession *s = of(w);
    uint32_t n = 0;

    for (uint32_t k = 0; k < HEIR_SLOTS; k++) {
        n += s->slots[k].state == HEIR_READY && s->slots[k].maps == s->maps;
    }
    return n;
}

void
succession_mapped(struct worker *w)
{
    if (w->setup->heirs > 0) {
        of(w)->maps++;
        w->heirs_due = true;
        w->heirs_at = 0; /* calls wait for it */
    }
}

/* Clones until there are enough. false: in an heir that is the worker now. */
static bool
clone_missing(struct worker *w)
{
    while (succession_count(w) < (uint32_t)w->setup->heirs) {
        pid_t pid = succession_clone(w);
        if (pid == 0) {
            return false;
        }
        if (pid < 0) {
            if (!w->heirs_failed) {
                worker_event(w, LOG_ERROR, "no-heir", "error",
                             strerrorname_np(errno));
            }
            w->heirs_failed = true;
            w->heirs_at = w->now + 100 * NS_PER_MS;
            return true;
        }
    }
    w->heirs_failed = false;
    w->heirs_due = false;
    return true;
}

bool
succession_tend(struct worker *w)
{
    struct succession *s = of(w);

    if (!w->heirs_due || w->now < w->heirs_at) {
        return true;
    }
    w->heirs_at = w->now + PAUSE_NS;
    if (!clone_missing(w)) {
        return false;
    }
    for (uint32_t k = 0; k < HEIR_SLOTS; k++) {
        if (s->slots[k].state == HEIR_READY && s->slots[k].maps != s->maps) {
            dismiss(w, k);
        }
    }
    tell_seat(w);
    return true;
}

void
succession_event(struct worker *w, uint32_t slot, uint32_t gen)
{
    struct succession *s = of(w);

    if (slot < HEIR_SLOTS && s->slots[slot].state == HEIR_READY &&
        (atomic_load(&s->slots[slot].epoch) & 0xffffff) == gen) {
        dismiss(w, slot);
        w->heirs_due = true;
        tell_seat(w);
    }
}

void
succession_rebuild(struct worker *w)
{
    struct succession *s = of(w);
    int old = s->self_fd;
    uint32_t tid = own_tid();
    uint32_t crown = atomic_load(&s->crown.word);

    for (uint32_t k = 0; k < HEIR_SLOTS; k++) {
        struct heir_slot *slot = &s->slots[k];
        if (slot->state == HEIR_READY && (uint32_t)slot->pid != tid &&
            slot->maps == s->maps) {
            atomic_store(&slot->guard.word, crown);
            wake(&slot->guard.word); /* to sleep as long as we live */
        } else if (slot->state != HEIR_NONE) {
            dismiss(w, k);
        }
    }
    if (s->self_tid != tid) {
        if (old >= 0) {
            close(old);
        }
        open_self(w);
    }
    w->heirs_due = w->setup->heirs > 0;
    w->heirs_at = 0;
    tell_seat(w);
}

void
succession_end(struct worker *w)
{
    atomic_store(&of(w)->over, 1);
}

bool
succession_owns(const struct worker *w, int fd)
{
    const struct succession *s = of(w);
    bool owned = fd == s->self_fd;

    for (uint32_t k = 0; k < HEIR_SLOTS; k++) {
        owned |= fd == s->slots[k].pidfd;
    }
    return owned;
}
