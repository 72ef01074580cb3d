/* door_create, door_return, door_info: the calls of a door's own process. */
#include "door.h"
#include "door/name.h"
#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CREATE_MASK                                                            \
    (DOOR_UNREF | DOOR_PRIVATE | DOOR_UNREF_MULTI | DOOR_REFUSE_DESC |         \
     DOOR_NO_CANCEL)
#define SERVED_NOW (DOOR_REFUSE_DESC | DOOR_NO_CANCEL)

/* Makes the record of a door and its first descriptor. */
static int
create(struct door *like, uint32_t attributes)
{
    struct door *d = malloc(sizeof *d);

    if (!d) {
        errno = ENOMEM;
        return -1;
    }
    *d = *like;
    d->attributes = attributes;
    int e = server_start_locked();
    if (e != 0) {
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

    /* The record stays even if the descriptor cannot be made: a stranger may
     * have connected in that instant. */
    return name_mint(d);
}

static int
check_attributes(unsigned int attributes)
{
    if ((attributes & ~(unsigned)CREATE_MASK) != 0 ||
        (attributes & (DOOR_UNREF | DOOR_UNREF_MULTI)) ==
            (DOOR_UNREF | DOOR_UNREF_MULTI)) {
        errno = EINVAL;
        return -1;
    }
    if ((attributes & ~(unsigned)SERVED_NOW) != 0) {
        errno = ENOTSUP; /* listed in docs/doors.md */
        return -1;
    }
    return 0;
}

int
door_create(door_server_procedure_t *procedure, void *cookie,
            unsigned int attributes)
{
    struct door like = {.procedure = procedure, .cookie = cookie};

    if (check_attributes(attributes) < 0) {
        return -1;
    }
    int fd = create(&like, attributes);
    if (fd < 0) {
        return -1;
    }
    /* The first door of the process brings its first thread. */
    pthread_mutex_lock(&door_server.lock);
    int e = 0;
    if (door_server.n_threads + door_server.n_starting == 0) {
        e = pool_spawn_locked(NULL);
    }
    pthread_mutex_unlock(&door_server.lock);
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

    if (check_attributes(attributes) < 0) {
        return -1;
    }
    return create(&like, attributes);
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
    pool_serve(t); /* a thread of the program's own never leaves */
    abort();
}

/* A call's answer: by ring or by channel. */
static int
answer(struct thread *t, char *data, size_t size, door_desc_t *descs,
       unsigned int n)
{
    struct call *c = &t->call;

    if (c->src->kind == SOURCE_RING) {
        if (n > 0) {
            return ENOTSUP; /* an event loop takes no descriptors (yet) */
        }
        return ring_answer(t, 0, data, size);
    }
    return channel_answer(c, 0, data, size, descs, n);
}

int
door_return(char *data_ptr, size_t data_size, door_desc_t *desc_ptr,
            unsigned int num_desc)
{
    struct thread *t = pool_self();

    if (t && t->call.open) {
        int e = answer(t, data_ptr, data_size, desc_ptr, num_desc);
        if (e != 0) {
            errno = e; /* the call is still open: the program may try again */
            return -1;
        }
        longjmp(t->base, 1);
    }
    if (t && t->src) {
        longjmp(t->base, 1); /* answered already: nothing to say */
    }
    t = pool_adopt();
    if (!t) {
        errno = ENOMEM;
        return -1;
    }
    pool_serve(t);
    errno = EINVAL;
    return -1;
}

int
door_info(int d, door_info_t *info)
{
    struct door_welcome w;
    uint64_t uniquifier;
    uint32_t attributes;

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
    if (w.pid == getpid()) {
        info->di_attributes |= DOOR_LOCAL;
    }
    return 0;
}
