/* Private doors: a pool of threads for one door, which the program makes and
 * binds. */
#include "door.h"
#include "door/server.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- binding ---- */

int
door_bind(int d)
{
    struct door *own;
    uint64_t uniquifier;
    uint32_t attributes;

    if (!door_is_marked(d, &uniquifier, &attributes)) {
        errno = EBADF;
        return -1;
    }
    own = door_own(d);
    if (!own || own->pool == &door_server.shared) {
        door_unref(own);
        errno = EINVAL;
        return -1;
    }
    struct thread *t = pool_adopt();
    if (t) {
        pool_bind(t, own);
    }
    door_unref(own);
    if (!t) {
        errno = ENOMEM;
    }
    return t ? 0 : -1;
}

int
door_unbind(void)
{
    struct thread *t = pool_self();

    if (!(t && t->bound) && !pool_lost_door()) {
        errno = EBADF;
        return -1;
    }
    pool_bind(t, NULL);
    return 0;
}

/* ---- door_xcreate ---- */

/* Shared by door_xcreate() and the threads that it asked for. Counted. */
struct start {
    _Atomic uint32_t refs;
    struct door *door;
    _Atomic uint32_t n_bound, n_failed;
    _Atomic uint32_t told; /* futex: one more of these two */
    _Atomic uint32_t go;   /* futex: 1 serve, 2 leave */
};

static void
start_unref(struct start *s)
{
    struct door *d = s->door;

    if (atomic_fetch_sub(&s->refs, 1) == 1) {
        free(s);
        door_unref(d);
    }
}

static void
set_up(struct door *d)
{
    if (d->setup) {
        d->setup(d->create_cookie);
    } else {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
    }
}

/* What each thread runs that a creation function of door_xcreate() makes. */
static void *
start_thread(void *arg)
{
    struct start *s = arg;
    struct door *d = s->door;

    set_up(d);
    struct thread *t = pool_adopt();
    if (t) {
        pool_bind(t, d);
    }
    atomic_fetch_add(t ? &s->n_bound : &s->n_failed, 1);
    atomic_fetch_add(&s->told, 1);
    door_futex_wake(&s->told, 1, false);
    while (t && atomic_load(&s->go) == 0) {
        door_futex_wait(&s->go, 0, 1000000000ull, false);
    }
    bool leave = !t || atomic_load(&s->go) == 2;
    start_unref(s);
    if (leave) {
        if (t) {
            pool_bind(t, NULL);
        }
        return NULL;
    }
    door_return(NULL, 0, NULL, 0);
    return NULL;
}

static struct start *
start_make(struct door *d, uint32_t go)
{
    struct start *s = calloc(1, sizeof *s);

    if (s) {
        atomic_init(&s->refs, 1);
        atomic_init(&s->go, go);
        s->door = d;
        door_ref(d);
    }
    return s;
}

/* Asks the creation function of D for one thread. 0, or the errno that
 * door_xcreate() gives for its answer. */
static int
ask_for_one(struct door *d, door_info_t *info, struct start *s)
{
    atomic_fetch_add(&s->refs, 1);
    int made = d->create(info, start_thread, s, d->create_cookie);
    if (made == 1) {
        return 0;
    }
    start_unref(s);
    if (made != 0 && made != -1) {
        abort(); /* as on illumos: nobody knows what runs now */
    }
    return made == 0 ? EINVAL : EPIPE;
}

void
private_deplete(struct door *d)
{
    if ((d->attributes & DOOR_NO_DEPLETION_CB) != 0) {
        return;
    }
    struct start *s = start_make(d, 1);
    if (s) {
        ask_for_one(d, &d->info_depleted, s);
        start_unref(s);
    }
}

/* All N threads serve, or none. 0 or an errno. */
static int
start_all(struct door *d, int n)
{
    struct start *s = start_make(d, 0);
    uint32_t made = 0;
    int e = s ? 0 : ENOMEM;

    while (e == 0 && made < (uint32_t)n) {
        e = ask_for_one(d, &d->info, s);
        made += e == 0;
    }
    for (uint32_t told; s && (told = atomic_load(&s->told)) < made;) {
        door_futex_wait(&s->told, told, 1000000000ull, false);
    }
    if (s) {
        if (e == 0 && atomic_load(&s->n_failed) > 0) {
            e = EBADF;
        }
        atomic_store(&s->go, e == 0 ? 1 : 2);
        door_futex_wake(&s->go, INT32_MAX, false);
        start_unref(s);
    }
    return e;
}

int
door_xcreate(door_server_procedure_t *procedure, void *cookie,
             unsigned int attributes, door_xcreate_server_func_t *create,
             door_xcreate_thrsetup_func_t *setup, void *create_cookie,
             int n_threads)
{
    struct door like = {.procedure = procedure,
                        .cookie = cookie,
                        .create = create,
                        .setup = setup,
                        .create_cookie = create_cookie};
    struct door *d;

    if (n_threads < 1 || !create || (attributes & DOOR_PRIVCREATE) != 0) {
        errno = EINVAL;
        return -1;
    }
    int fd = door_make(&like, attributes | DOOR_PRIVATE | DOOR_PRIVCREATE, &d);
    if (fd < 0) {
        return -1;
    }
    int e = start_all(d, n_threads);
    door_unref(d);
    if (e != 0) {
        door_revoke(fd);
        errno = e;
        return -1;
    }
    return fd;
}
