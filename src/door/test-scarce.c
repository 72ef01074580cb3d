/* Each allocation, descriptor, mapping and thread that libdoor asks for fails
 * once: every call gives a defined errno, nothing is left behind (the sanitizer
 * and a count of descriptors look), and the next try works. */
#include "test-door.h"

#include "base/test-scarce.h"

#include "door/native.h"
#include "door/ring.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "stropts.h"

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    door_return(argp, arg_size, NULL, 0);
}

static bool
is_short_errno(int e)
{
    return e == ENOMEM || e == EMFILE || e == ENFILE || e == ENOSPC ||
           e == EAGAIN;
}

/* door_create(): the first one of a process, in a child of its own each. */
static int
create_first(long n)
{
    scarce_begin(n);
    int d = door_create(procedure, NULL, 0);
    int error = errno;
    if (!scarce_end()) {
        return d >= 0 ? 0 : 2;
    }
    if (d < 0 && !is_short_errno(error)) {
        return 3;
    }
    /* Whatever failed: the next one works, and serves. */
    char text[4] = "abc";
    door_arg_t arg = {.data_ptr = text, .data_size = 4};
    int next = door_create(procedure, NULL, 0);
    if (next < 0 || door_call(next, &arg) < 0 || arg.data_size != 4) {
        return 4;
    }
    return 1;
}

static void
test_create(void **state)
{
    int status = 1;
    long n;

    for (n = 1; n < 1000 && status == 1; n++) {
        pid_t pid = fork();
        if (pid == 0) {
            _exit(create_first(n));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        status = WEXITSTATUS(status);
        assert_in_range(status, 0, 1);
    }
    print_message("# door_create: %ld\n", n - 1);
    assert_in_range(n, 10, 100);
}

/* Attaching, opening, asking, calling; SIZE makes the answer need its own
 * memory, ON_THREAD a channel of its own. */
struct trip {
    int d;
    char path[64];
    size_t size;
    int error;
};

static void *
go(void *arg)
{
    struct trip *t = arg;
    char *data = t->size > 0 ? __real_malloc(t->size) : NULL;
    door_arg_t params = {.data_ptr = data, .data_size = t->size};
    door_info_t info;
    int d = -1;

    memset(data, 'x', t->size);
    t->error = 0;
    if (door_attach(t->d, t->path, 0666) < 0) {
        t->error = errno;
    } else {
        d = door_open(t->path);
        if (d < 0 || door_info(d, &info) < 0 || door_call(d, &params) < 0) {
            t->error = errno;
        } else {
            assert_int_equal(params.data_size, t->size);
            if (params.rbuf != NULL) {
                munmap(params.rbuf, params.rsize);
            }
        }
        unlink(t->path);
    }
    if (d >= 0) {
        close(d);
    }
    free(data);
    return NULL;
}

/* On a thread of its own each time: its channels end with it. */
static int
go_once(struct trip *t)
{
    pthread_t id;
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    assert_int_equal(__real_pthread_create(&id, &attr, go, t), 0);
    pthread_attr_destroy(&attr);
    pthread_join(id, NULL);
    return t->error;
}

static void
trip_each(size_t size)
{
    struct trip t = {.d = door_create(procedure, NULL, 0), .size = size};
    long n;
    bool was_short = true;

    assert_true(t.d >= 0);
    snprintf(t.path, sizeof t.path, "/tmp/scarce-%d.door", (int)getpid());
    unlink(t.path);
    assert_int_equal(go_once(&t), 0);
    for (n = 1; n < 1000 && was_short; n++) {
        scarce_begin(n);
        int error = go_once(&t);
        was_short = scarce_end();
        /* What fails on the server's side is seen here as one that is gone, or
         * as its own word. */
        assert_true(error == 0 || is_short_errno(error) || error == EBADF ||
                    error == EPIPE || error == ECONNREFUSED || error == EINTR ||
                    error == EOVERFLOW);
        assert_true(was_short || error == 0);
        assert_int_equal(go_once(&t), 0);
    }
    print_message("# attach, open, info, call of %zu: %ld\n", size, n - 1);
    assert_in_range(n, 10, 200);
    close(t.d);
}

static void
test_small_call(void **state)
{
    trip_each(100);
}

static void
test_large_call(void **state)
{
    trip_each(900000);
}

/* door_xcreate() of two threads: all serve, or none and a defined errno. */
static int
make_one(door_info_t *info, void *(*start)(void *), void *arg, void *cookie)
{
    pthread_t id;

    if (__real_pthread_create(&id, NULL, start, arg) != 0) {
        return -1;
    }
    return pthread_detach(id) == 0 ? 1 : -1;
}

static int
xcreate_first(long n)
{
    scarce_begin(n);
    int d = door_xcreate(procedure, NULL, DOOR_UNREF, make_one, NULL, NULL, 2);
    int error = errno;
    if (!scarce_end()) {
        return d >= 0 ? 0 : 2;
    }
    /* EBADF: a thread could not be bound. */
    if (d < 0 && !is_short_errno(error) && error != EBADF) {
        return 3;
    }
    char text[4] = "abc";
    door_arg_t arg = {.data_ptr = text, .data_size = 4};
    int next =
        door_xcreate(procedure, NULL, DOOR_UNREF, make_one, NULL, NULL, 2);
    if (next < 0 || door_call(next, &arg) < 0 || arg.data_size != 4) {
        return 4;
    }
    return 1;
}

static void
test_xcreate(void **state)
{
    int status = 1;
    long n;

    for (n = 1; n < 1000 && status == 1; n++) {
        pid_t pid = fork();
        if (pid == 0) {
            _exit(xcreate_first(n));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        status = WEXITSTATUS(status);
        assert_in_range(status, 0, 1);
    }
    print_message("# door_xcreate: %ld\n", n - 1);
    assert_in_range(n, 10, 100);
}

static void
native(void *cookie, struct door_task *task)
{
}

/* A worker's ring: its own side and the server's. */
static void
test_ring(void **state)
{
    struct ring_tables *tables = calloc(1, sizeof *tables);
    int d = door_create_native(native, NULL, 0, 0);
    bool was_short = true;
    long n;

    assert_non_null(tables);
    assert_true(d >= 0);
    for (n = 1; n < 1000 && was_short; n++) {
        struct ring r;
        struct pollfd p = {.events = POLLIN};
        int fd = fcntl(d, F_DUPFD_CLOEXEC, 3);

        ring_init(&r, tables);
        scarce_begin(n);
        int e = ring_open(&r, fd, -1, NULL);
        if (e == 0) {
            p.fd = r.conn;
            assert_int_equal(poll(&p, 1, 20000), 1);
            e = ring_greeted(&r);
        }
        was_short = scarce_end();
        assert_true(was_short || e == 0);
        assert_true(e == 0 || is_short_errno(e) || e == EPIPE);
        if (r.state != RING_CLOSED) {
            ring_close(&r);
        }
    }
    print_message("# ring: %ld\n", n - 1);
    assert_in_range(n, 5, 100);
    close(d);
    free(tables);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),     cmocka_unit_test(test_xcreate),
        cmocka_unit_test(test_small_call), cmocka_unit_test(test_large_call),
        cmocka_unit_test(test_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
