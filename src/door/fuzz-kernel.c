/* See fuzz-kernel.h. The functions are named as the linker wants them. */
#include "door/fuzz-kernel.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    const struct fake_kernel *ops;
    bool open[FAKE_FDS];
    unsigned n_open, next;
    const void *maps[8];
    unsigned n_maps;
} fake;

void
fake_begin(const struct fake_kernel *kernel)
{
    memset(&fake, 0, sizeof fake);
    fake.ops = kernel;
}

unsigned
fake_open_count(void)
{
    return fake.n_open;
}

unsigned
fake_map_count(void)
{
    return fake.n_maps;
}

bool
fake_is_open(int fd)
{
    return fd >= FAKE_FIRST && fd < FAKE_FIRST + FAKE_FDS &&
           fake.open[fd - FAKE_FIRST];
}

int
fake_open(void)
{
    MUST(fake.n_open < FAKE_FDS);
    while (fake.open[fake.next % FAKE_FDS]) {
        fake.next++;
    }
    unsigned i = fake.next++ % FAKE_FDS;
    fake.open[i] = true;
    fake.n_open++;
    return FAKE_FIRST + (int)i;
}

void
fake_close(int fd)
{
    MUST(fake_is_open(fd));
    fake.open[fd - FAKE_FIRST] = false;
    fake.n_open--;
}

static void
keep_map(const void *map)
{
    MUST(fake.n_maps < sizeof fake.maps / sizeof *fake.maps);
    fake.maps[fake.n_maps++] = map;
}

/* ---- what the linker puts in the place of the real ones ---- */

int __real_close(int fd);
int __wrap_close(int fd);
int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);
int __wrap_socketpair(int domain, int type, int protocol, int pair[2]);
void *__wrap_door_memory_make(const char *name, size_t size, void *at,
                              int *p_fd);
const void *__wrap_door_memory_map(int fd, size_t size, void *at);
void *__wrap_door_shared_map(int fd);
int __wrap_door_send(int fd, const void *bytes, size_t len, const int *fds,
                     size_t n_fds);
int __wrap_door_receive(int fd, void *bytes, size_t len, int *fds,
                        size_t *p_n_fds, struct door_sender *sender, int flags);
int __wrap_door_receive_user(int fd, struct door_note *note, int *fds,
                             size_t *p_n_fds);
void __wrap_door_close_foreign(int fd);
void __wrap_door_close_connection(int fd);
int __wrap_door_wait_readable(int fd, uint64_t timeout_ns);
int __wrap_door_futex_wait(_Atomic uint32_t *word, uint32_t value,
                           uint64_t timeout_ns, bool shared);
void __wrap_door_futex_wake(_Atomic uint32_t *word, int count, bool shared);
bool __wrap_door_hung_up(int fd);
bool __wrap_door_is_marked(int fd, uint64_t *p_uniquifier,
                           uint32_t *p_attributes);

int
__wrap_close(int fd)
{
    if (fd < FAKE_FIRST) {
        return __real_close(fd);
    }
    fake_close(fd);
    return 0;
}

int
__wrap_munmap(void *at, size_t size)
{
    for (unsigned i = 0; i < fake.n_maps; i++) {
        if (fake.maps[i] == at) {
            fake.maps[i] = fake.maps[--fake.n_maps];
            return 0;
        }
    }
    return __real_munmap(at, size);
}

int
__wrap_socketpair(int domain, int type, int protocol, int pair[2])
{
    pair[0] = fake_open();
    pair[1] = fake_open();
    return 0;
}

void *
__wrap_door_memory_make(const char *name, size_t size, void *at, int *p_fd)
{
    void *map = fake.ops->make(size);

    if (map) {
        keep_map(map);
        *p_fd = fake_open();
    } else {
        errno = ENOMEM;
    }
    return map;
}

static void *
mapped(int fd, void *map)
{
    MUST(fake_is_open(fd));
    if (map) {
        keep_map(map);
    } else {
        errno = EINVAL;
    }
    return map;
}

const void *
__wrap_door_memory_map(int fd, size_t size, void *at)
{
    return mapped(fd, fake.ops->map(size));
}

void *
__wrap_door_shared_map(int fd)
{
    return mapped(fd, fake.ops->map_shared());
}

int
__wrap_door_send(int fd, const void *bytes, size_t len, const int *fds,
                 size_t n_fds)
{
    return fake.ops->send(fd, bytes, len, n_fds);
}

int
__wrap_door_receive(int fd, void *bytes, size_t len, int *fds, size_t *p_n_fds,
                    struct door_sender *sender, int flags)
{
    size_t room = *p_n_fds;

    *p_n_fds = 0;
    MUST(fake_is_open(fd));
    int e = fake.ops->receive(fd, bytes, len, room, p_n_fds);
    if (e != 0) {
        *p_n_fds = 0;
    }
    MUST(*p_n_fds <= room);
    for (size_t i = 0; i < *p_n_fds; i++) {
        fds[i] = fake_open();
    }
    return e;
}

int
__wrap_door_receive_user(int fd, struct door_note *note, int *fds,
                         size_t *p_n_fds)
{
    return __wrap_door_receive(fd, note, sizeof *note, fds, p_n_fds, NULL, 0);
}

void
__wrap_door_close_foreign(int fd)
{
    fake_close(fd);
}

void
__wrap_door_close_connection(int fd)
{
    fake_close(fd);
}

int
__wrap_door_wait_readable(int fd, uint64_t timeout_ns)
{
    MUST(fake_is_open(fd));
    return fake.ops->wait(NULL);
}

int
__wrap_door_futex_wait(_Atomic uint32_t *word, uint32_t value,
                       uint64_t timeout_ns, bool shared)
{
    return fake.ops->wait(word);
}

void
__wrap_door_futex_wake(_Atomic uint32_t *word, int count, bool shared)
{
    MUST(word != NULL && count == 1 && shared);
}

bool
__wrap_door_hung_up(int fd)
{
    return fake.ops->hung_up(fd);
}

bool
__wrap_door_is_marked(int fd, uint64_t *p_uniquifier, uint32_t *p_attributes)
{
    return fake.ops->marked(fd, p_uniquifier, p_attributes);
}
