/* Doors and threads within: what stays of a door when nothing refers to it,
 * threads that are bound but do not serve, and the end of the library's own.
 * What programs see of it is in tests/conformance. */
#include "test-door.h"

#include "door/items.h"

static int
count_doors(void)
{
    int n = 0;

    pthread_mutex_lock(&door_server.lock);
    for (const struct door *d = door_server.doors; d; d = d->next) {
        n++;
    }
    pthread_mutex_unlock(&door_server.lock);
    return n;
}

static bool
has_doors(void *arg)
{
    return count_doors() == *(const int *)arg;
}

static void
assert_doors(int n)
{
    assert_true(test_until(has_doors, &n));
}

static void
echo(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    door_return(arg_size == 0 ? NULL : argp, arg_size, NULL, 0);
}

static int
call(int d)
{
    char text[4] = "abc";
    door_arg_t arg = {.data_ptr = text, .data_size = 4};

    return door_call(d, &arg) == 0 ? 0 : errno;
}

static void *
call_thread(void *arg)
{
    return (void *)(intptr_t)call(*(int *)arg);
}

/* By a thread of its own, whose channel ends with it. */
static int
call_once(int d)
{
    pthread_t id;
    void *error;

    assert_int_equal(pthread_create(&id, NULL, call_thread, &d), 0);
    pthread_join(id, &error);
    return (int)(intptr_t)error;
}

static void
test_closed_door_is_freed(void **state)
{
    const unsigned int attributes[] = {0, DOOR_UNREF, DOOR_UNREF_MULTI,
                                       DOOR_REFUSE_DESC};
    int before = count_doors();

    for (int i = 0; i < 40; i++) {
        int d = door_create(echo, NULL, attributes[i % 4]);
        assert_true(d >= 0);
        assert_int_equal(call_once(d), 0);
        int copy = dup(d);
        close(d);
        assert_int_equal(call_once(copy), 0);
        close(copy);
    }
    assert_doors(before);
}

/* The name holds the door; its end, and that of the descriptor, free it. */
static void
test_name_holds_door(void **state)
{
    int before = count_doors();
    char room[32], path[64];

    test_folder(room);
    snprintf(path, sizeof path, "%s/d", room);
    int d = door_create(echo, NULL, 0);
    assert_int_equal(door_attach(d, path, 0600), 0);
    close(d);
    d = door_open(path);
    assert_true(d >= 0);
    assert_int_equal(call_once(d), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(call_once(d), 0);
    close(d);
    assert_doors(before);
    test_folder_remove(room);
}

static bool
has_items(void *arg)
{
    int n = 0;

    pthread_mutex_lock(&door_server.lock);
    for (const struct item *i = all_items; i; i = i->next) {
        n++;
    }
    pthread_mutex_unlock(&door_server.lock);
    return n <= *(const int *)arg;
}

/* What was watched for a name goes with it. */
static void
test_name_goes_whole(void **state)
{
    char room[32], path[64];
    int before = count_doors();
    int few = 10, d = door_create(echo, NULL, 0);

    test_folder(room);
    snprintf(path, sizeof path, "%s/d", room);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(door_attach(d, path, 0600), 0);
        assert_int_equal(unlink(path), 0);
        int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(fattach(d, path), 0);
        assert_int_equal(fdetach(path), 0);
        close(fd);
        assert_int_equal(unlink(path), 0);
    }
    close(d);
    assert_true(test_until(has_items, &few));
    assert_doors(before);
    test_folder_remove(room);
}

/* A call that runs holds it too: the caller is the last who has it. */
struct slow {
    _Atomic int entered, go;
};

static bool
is_set(void *arg)
{
    return atomic_load((_Atomic int *)arg) != 0;
}

static void
wait_in_call(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
             unsigned int n_desc)
{
    struct slow *s = cookie;

    atomic_store(&s->entered, 1);
    test_until(is_set, &s->go);
    door_return(NULL, 0, NULL, 0);
}

static void
test_call_holds_door(void **state)
{
    struct slow s = {0};
    int before = count_doors();
    int d = door_create(wait_in_call, &s, 0);
    pthread_t id;
    void *error;

    assert_int_equal(pthread_create(&id, NULL, call_thread, &d), 0);
    assert_true(test_until(is_set, &s.entered));
    close(d);
    assert_int_equal(count_doors(), before + 1);
    atomic_store(&s.go, 1);
    pthread_join(id, &error);
    assert_null(error);
    assert_doors(before);
}

/* ---- bound threads ---- */

struct bound {
    int d;
    _Atomic int is_bound, go;
    int error;
};

static void *
bind_and_wait(void *arg)
{
    struct bound *b = arg;

    b->error = door_bind(b->d) == 0 ? 0 : errno;
    atomic_store(&b->is_bound, 1);
    test_until(is_set, &b->go);
    return NULL;
}

static void
no_threads(door_info_t *info)
{
    (void)info;
}

static int
create_private(void *cookie)
{
    door_server_func_t *old = door_server_create(no_threads);
    int d = door_create(echo, cookie, DOOR_PRIVATE);

    door_server_create(old);
    assert_true(d >= 0);
    return d;
}

static void
test_binding_holds_record(void **state)
{
    int before = count_doors();
    struct bound b = {.d = create_private(NULL)};
    pthread_t id;

    assert_int_equal(pthread_create(&id, NULL, bind_and_wait, &b), 0);
    assert_true(test_until(is_set, &b.is_bound));
    assert_int_equal(b.error, 0);
    close(b.d);
    int d = door_create(echo, NULL, 0); /* its hang-ups come after those */
    close(d);
    assert_doors(before + 1);
    atomic_store(&b.go, 1);
    pthread_join(id, NULL);
    assert_doors(before);
}

/* A thread that is bound, and does something else, is no thread that will soon
 * take a call: others are made. */
static void
test_bound_thread_is_no_help(void **state)
{
    struct bound b = {.d = create_private(NULL)};
    struct slow s = {0};
    pthread_t binder, caller;
    int slow = door_create(wait_in_call, &s, 0);
    int other = door_create(echo, NULL, 0);

    assert_int_equal(pthread_create(&binder, NULL, bind_and_wait, &b), 0);
    assert_true(test_until(is_set, &b.is_bound));
    assert_int_equal(pthread_create(&caller, NULL, call_thread, &slow), 0);
    assert_true(test_until(is_set, &s.entered));
    alarm(15); /* it would wait for the bound thread */
    assert_int_equal(call_once(other), 0);
    alarm(0);
    atomic_store(&s.go, 1);
    atomic_store(&b.go, 1);
    pthread_join(caller, NULL);
    pthread_join(binder, NULL);
    close(b.d);
    close(slow);
    close(other);
}

/* ---- door_xcreate() ---- */

static int
make_one(door_info_t *info, void *(*start)(void *), void *arg, void *cookie)
{
    pthread_t id;

    if (pthread_create(&id, NULL, start, arg) != 0) {
        return -1;
    }
    return pthread_detach(id) == 0 ? 1 : -1;
}

/* The first two come up, the third is refused: they leave, and the door is
 * nowhere. */
static int
make_two(door_info_t *info, void *(*start)(void *), void *arg, void *cookie)
{
    int *n = cookie;

    return ++*n > 2 ? 0 : make_one(info, start, arg, NULL);
}

static bool
has_threads(void *arg)
{
    return test_threads(getpid()) <= *(const int *)arg;
}

static void
test_refused_xcreate_leaves_nothing(void **state)
{
    assert_doors(0); /* those of the tests before are freed some time later */
    int d = door_create(echo, NULL, 0);
    assert_int_equal(call_once(d), 0); /* the library's threads are there */
    int before = count_doors(), threads = test_threads(getpid());

    for (int i = 0; i < 20; i++) {
        int n = 0;
        assert_int_equal(door_xcreate(echo, NULL, 0, make_two, NULL, &n, 5),
                         -1);
        assert_int_equal(errno, EINVAL);
        assert_int_equal(n, 3);
    }
    assert_doors(before);
    assert_true(test_until(has_threads, &threads));
    close(d);
}

/* Its threads stay parked, as on illumos, and hold the record, not the door. */
static void
test_xcreate_serves_and_closes(void **state)
{
    int fds = test_fds();
    int d =
        door_xcreate(echo, NULL, DOOR_NO_DEPLETION_CB, make_one, NULL, NULL, 2);
    assert_true(d >= 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(call_once(d), 0);
    }
    close(d);
    assert_true(test_until(test_fds_at_most, &fds));
}

/* ---- a process without doors ---- */

/* TSan has a thread of its own, which no signal reaches and which keeps the
 * process. */
#ifndef __SANITIZE_THREAD__
static void
leave_seven(void)
{
    _exit(7);
}

/* Its main thread ends after the last door is closed: so do the library's
 * threads, some time later, and with them the process, as by exit(). A door
 * that is made after they have left is served. */
static void *
end_and_begin_again(void *arg)
{
    int lives = 1; /* this thread */
    int64_t end = test_now() + TEST_LIMIT_NS;
    char text[4] = "abc";
    door_arg_t params = {.data_ptr = text, .data_size = 4};

    (void)arg;
    while (test_threads(getpid()) > lives + 1 && test_now() < end) {
        usleep(20000); /* main is listed, as a zombie */
    }
    int d = door_create(echo, NULL, 0);
    if (d < 0 || door_call(d, &params) < 0 || params.data_size != 4) {
        _exit(1);
    }
    close(d);
    return NULL;
}

static void
test_process_ends_without_doors(void **state)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        pthread_t id;
        char text[4] = "abc";
        door_arg_t params = {.data_ptr = text, .data_size = 4};
        int d = door_create(echo, NULL, 0);
        if (d < 0 || door_call(d, &params) < 0) {
            _exit(1);
        }
        close(d);
        alarm(60);
        atexit(leave_seven);
        if (pthread_create(&id, NULL, end_and_begin_again, NULL) != 0) {
            _exit(1);
        }
        pthread_exit(NULL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
}

#endif

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_door_is_freed),
        cmocka_unit_test(test_name_holds_door),
        cmocka_unit_test(test_name_goes_whole),
        cmocka_unit_test(test_call_holds_door),
        cmocka_unit_test(test_binding_holds_record),
        cmocka_unit_test(test_bound_thread_is_no_help),
        cmocka_unit_test(test_refused_xcreate_leaves_nothing),
        cmocka_unit_test(test_xcreate_serves_and_closes),
#ifndef __SANITIZE_THREAD__
        cmocka_unit_test(test_process_ends_without_doors),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
