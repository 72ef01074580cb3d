/* door_create, door_return, door_info: the calls of a door's own process. */
#include "door.h"
#include "door/name.h"
#include "door/note.h"
#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

DOOR_NOTE;

/* What a new door's record needs beside its procedure. 0 or an errno. */
static int
prepare(struct door *d, uint32_t attributes)
{
    bool refuses = (attributes & DOOR_REFUSE_DESC) != 0;

    atomic_init(&d->attributes, attributes);
    d->pool = (attributes & DOOR_PRIVATE) != 0 ? &d->own : &door_server.shared;
    d->data_max = SIZE_MAX;
    d->desc_max = refuses ? 0 : INT32_MAX;
    return unref_begin(d);
}

static void
tell_creators(struct door *d)
{
    d->info.di_target = getpid();
    d->info.di_proc = (door_ptr_t)(uintptr_t)d->procedure;
    d->info.di_data = (door_ptr_t)(uintptr_t)d->cookie;
    d->info.di_attributes = d->attributes | DOOR_LOCAL;
    d->info.di_uniquifier = d->uniquifier;
    d->info_depleted = d->info;
    d->info_depleted.di_attributes |= DOOR_DEPLETION_CB;
}

int
door_make(struct door *like, uint32_t attributes, struct door **p_d)
{
    struct door *d;
    int e;

    if ((attributes & ~(uint32_t)DOOR_CREATE_MASK) != 0 ||
        (attributes & (DOOR_UNREF | DOOR_UNREF_MULTI)) ==
            (DOOR_UNREF | DOOR_UNREF_MULTI)) {
        errno = EINVAL;
        return -1;
    }
    if (door_server.pid != 0 && door_server.pid != getpid()) {
        errno = ENOTSUP; /* the child of a vfork: the memory is its parent's */
        return -1;
    }
    d = malloc(sizeof *d);
    if (!d) {
        errno = ENOMEM;
        return -1;
    }
    *d = *like;
    atomic_init(&d->refs, 1);
    e = prepare(d, attributes);
    if (e == 0) {
        e = server_start_locked();
    }
    if (e != 0) {
        source_unref(d->unref);
        free(d);
        errno = e;
        return -1;
    }
    if (door_server.counter == 0) {
        door_server.counter = door_random();
    }
    d->uniquifier = ++door_server.counter;
    d->next = door_server.doors;
    door_server.doors = d;
    pthread_mutex_unlock(&door_server.lock);
    tell_creators(d);
    *p_d = d;

    /* The record goes by its references, also if the descriptor cannot be made:
     * a stranger may have connected in that instant. */
    int fd = name_mint(d);
    if (fd < 0) {
        e = errno;
        door_unref(d);
        errno = e;
    }
    return fd;
}

int
door_create(door_server_procedure_t *procedure, void *cookie,
            unsigned int attributes)
{
    struct door like = {.procedure = procedure, .cookie = cookie}, *d;

    if ((attributes & (DOOR_NO_DEPLETION_CB | DOOR_PRIVCREATE)) != 0) {
        errno = EINVAL;
        return -1;
    }
    int fd = door_make(&like, attributes, &d);
    if (fd < 0) {
        return -1;
    }
    int e = pool_begin(d);
    door_unref(d);
    if (e != 0) {
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

int
door_create_native(door_native_procedure *procedure, void *cookie,
                   unsigned int attributes, uint64_t features)
{
    struct door like = {
        .native = procedure, .cookie = cookie, .features = features};
    struct door *d = NULL;
    int fd = door_make(&like, attributes, &d);

    if (fd >= 0) {
        door_unref(d);
    }
    return fd;
}

void
door_native_single(void)
{
    door_server.single = true;
}

void
door_native_serve(void)
{
    struct thread *t = pool_adopt();

    /* The door is open already, and callers may be served by other threads:
     * without memory for one more it is late, but no reason to die. */
    while (!t) {
        usleep(20000);
        t = pool_adopt();
    }
    pool_fill();
    pool_serve(t); /* a thread of the program's own never leaves */
    abort();
}

/* A call's answer: by ring or by channel. */
static int
answer(struct thread *t, char *data, size_t size, door_desc_t *descs,
       unsigned int n)
{
    struct call *c = &t->call;

    if (c->src->kind == SOURCE_UNREF) {
        channel_release_descs(descs, n); /* nobody waits for it */
        return 0;
    }
    if (c->src->kind == SOURCE_RING) {
        if (n > 0) {
            return ENOTSUP; /* an event loop takes no descriptors (yet) */
        }
        return ring_answer(t, 0, data, size);
    }
    return channel_answer(t, 0, data, size, descs, n);
}

int
door_return(char *data_ptr, size_t data_size, door_desc_t *desc_ptr,
            unsigned int num_desc)
{
    struct thread *t = pool_self();
    int cancel;

    if (pool_lost_door()) {
        errno = EINVAL;
        return -1;
    }
    /* Between procedures nothing of ours is a place to be cancelled at. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    if (t && t->call.open) {
        int e = answer(t, data_ptr, data_size, desc_ptr, num_desc);
        if (e != 0) {
            pthread_setcancelstate(cancel, NULL);
            errno = e; /* the call is still open: the program may try again */
            return -1;
        }
        t->cancel_state = cancel;
        longjmp(t->base, 1);
    }
    channel_release_descs(desc_ptr, num_desc);
    t = t ? t : pool_adopt();
    if (!t) {
        pthread_setcancelstate(cancel, NULL);
        errno = ENOMEM;
        return -1;
    }
    t->cancel_state = cancel;
    if (t->src) {
        longjmp(t->base, 1); /* answered already: nothing to say */
    }
    pool_serve(t);
    errno = EINVAL;
    return -1;
}

static bool
is_door(int d)
{
    uint64_t uniquifier;
    uint32_t attributes;

    return door_is_marked(d, &uniquifier, &attributes);
}

int
door_revoke(int d)
{
    struct door *own;

    if (!is_door(d)) {
        errno = EBADF;
        return -1;
    }
    pthread_mutex_lock(&door_server.lock);
    own = door_own_locked(d);
    if (own) {
        atomic_fetch_or(&own->attributes, DOOR_REVOKED);
        server_tell_limits_locked(own);
    }
    pthread_mutex_unlock(&door_server.lock);
    if (!own) {
        errno = EPERM;
        return -1;
    }
    close(d);
    return 0;
}

/* ---- limits ---- */

int
door_getparam(int d, int param, size_t *value)
{
    struct door_welcome w;

    if (!is_door(d)) {
        errno = EBADF;
        return -1;
    }
    if (param < DOOR_PARAM_DESC_MAX || param > DOOR_PARAM_DATA_MIN) {
        errno = EINVAL;
        return -1;
    }
    if (!value) {
        errno = EFAULT;
        return -1;
    }
    int e = door_hung_up(d) ? EBADF : name_ask_info(d, &w);
    if (e != 0) {
        errno = e == EPIPE || e == ECONNREFUSED ? EBADF : e;
        return -1;
    }
    *value = param == DOOR_PARAM_DESC_MAX   ? w.desc_max
             : param == DOOR_PARAM_DATA_MAX ? w.data_max
                                            : w.data_min;
    return 0;
}

/* Lock held. 0 or an errno. */
static int
set_param(struct door *d, int param, size_t value)
{
    switch (param) {
    case DOOR_PARAM_DATA_MIN:
        if (value > d->data_max) {
            return EINVAL;
        }
        d->data_min = value;
        return 0;
    case DOOR_PARAM_DATA_MAX:
        if (value < d->data_min) {
            return EINVAL;
        }
        d->data_max = value;
        return 0;
    case DOOR_PARAM_DESC_MAX:
        if (value > INT32_MAX) {
            return ERANGE;
        }
        if (value != 0 && (d->attributes & DOOR_REFUSE_DESC) != 0) {
            return ENOTSUP;
        }
        d->desc_max = (uint32_t)value;
        return 0;
    default:
        return EINVAL;
    }
}

int
door_setparam(int d, int param, size_t value)
{
    int e = EPERM;

    if (!is_door(d) || door_hung_up(d)) {
        errno = EBADF;
        return -1;
    }
    pthread_mutex_lock(&door_server.lock);
    struct door *own = door_own_locked(d);
    if (own && (own->attributes & DOOR_REVOKED) != 0) {
        e = EBADF;
    } else if (own) {
        e = set_param(own, param, value);
        if (e == 0) {
            server_tell_limits_locked(own);
        }
    }
    pthread_mutex_unlock(&door_server.lock);
    errno = e;
    return e == 0 ? 0 : -1;
}

/* ---- looking ---- */

/* Of the door that the calling thread is bound to. */
static int
query(door_info_t *info)
{
    struct thread *t = pool_self();

    if (!t || !t->bound) {
        errno = EBADF;
        return -1;
    }
    if (!info) {
        errno = EFAULT;
        return -1;
    }
    *info = t->bound->info;
    pthread_mutex_lock(&door_server.lock);
    info->di_attributes = server_attributes_locked(t->bound) | DOOR_LOCAL;
    pthread_mutex_unlock(&door_server.lock);
    return 0;
}

int
door_info(int d, door_info_t *info)
{
    struct door_welcome w;
    uint64_t uniquifier;
    uint32_t attributes;

    if (d == DOOR_QUERY) {
        return query(info);
    }
    if (!door_is_marked(d, &uniquifier, &attributes)) {
        errno = EBADF;
        return -1;
    }
    if (!info) {
        errno = EFAULT;
        return -1;
    }
    memset(info, 0, sizeof *info);
    info->di_uniquifier = uniquifier;
    info->di_attributes = attributes;
    int e = door_hung_up(d) ? EPIPE : name_ask_info(d, &w);
    if (e == 0 && w.pid <= 0) {
        e = EPROTO; /* no process answers so */
    }
    if (e != 0 && e != EPIPE && e != ECONNREFUSED) {
        errno = e; /* we could not ask: that says nothing about the door */
        return -1;
    }
    if (e != 0) {
        info->di_target = -1;
        info->di_attributes |= DOOR_REVOKED;
        return 0;
    }
    info->di_target = w.pid;
    info->di_proc = w.proc;
    info->di_data = w.cookie;
    info->di_attributes = w.attributes & DOOR_ATTR_MASK & ~DOOR_LOCAL;
    if (w.pid == getpid()) {
        info->di_attributes |= DOOR_LOCAL;
    }
    return 0;
}
