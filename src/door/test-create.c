/* door_create() and door_info(): attributes, descriptors, fields. */
#include "test-door.h"

#include <sys/socket.h>

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    door_return(argp, arg_size, NULL, 0);
}

static void
test_layouts(void **state)
{
    assert_int_equal(sizeof(door_desc_t), 24);
    assert_int_equal(sizeof(door_info_t), 48);
    assert_int_equal(sizeof(door_arg_t), 48);
    assert_int_equal(offsetof(door_desc_t, d_data.d_desc.d_id), 8);
    assert_int_equal(offsetof(door_info_t, di_proc), 4);
    assert_int_equal(offsetof(door_info_t, di_uniquifier), 24);
}

static void
test_attributes(void **state)
{
    static const struct {
        unsigned int attributes;
        int error;
    } table[] = {
        {0x0, 0},          {0x40, 0},       {0x80, 0},
        {0xc0, 0},         {0x4, EINVAL},   {0x8, EINVAL},
        {0x20, EINVAL},    {0x100, EINVAL}, {0x200, EINVAL},
        {0x400, EINVAL},   {0x800, EINVAL}, {0x10000, EINVAL},
        {0x40000, EINVAL}, {0x11, EINVAL},  {0x80000000u, EINVAL},
        {0x1, 0},          {0x10, 0},       {0x2, 0},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        errno = 0;
        int d = door_create(procedure, NULL, table[i].attributes);
        if (table[i].error == 0) {
            assert_true(d >= 0);
            close(d);
        } else {
            assert_int_equal(d, -1);
            assert_int_equal(errno, table[i].error);
        }
    }
}

static void
test_descriptor(void **state)
{
    int first = door_create(procedure, NULL, 0);
    int lowest = open("/dev/null", O_RDONLY);

    close(lowest);
    int d = door_create(procedure, NULL, 0);
    assert_true(d >= 0 && d <= lowest);
    assert_int_equal(fcntl(d, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(d, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(fcntl(d, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    close(d);
    close(first);
}

/* As long as descriptors are lacking: EMFILE, and none lost. */
static void
test_no_descriptors(void **state)
{
    struct rlimit before, few;
    int first = door_create(procedure, NULL, 0), n = test_fds();

    getrlimit(RLIMIT_NOFILE, &before);
    for (int spare = 0; spare < 3; spare++) {
        int top = open("/dev/null", O_RDONLY);
        close(top);
        few = before;
        few.rlim_cur = (rlim_t)(top + spare);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        int d = door_create(procedure, NULL, 0);
        int e = errno;
        setrlimit(RLIMIT_NOFILE, &before);
        if (d >= 0) {
            close(d);
            assert_true(spare > 0);
        } else {
            assert_int_equal(e, EMFILE);
        }
        assert_true(test_until(test_fds_at_most, &n));
    }
    close(first);
}

static void
test_info_fields(void **state)
{
    static const unsigned int attributes[] = {0, 0x40, 0x80, 0xc0};
    unsigned long long last = 0;
    char cookie;

    for (int i = 0; i < 4; i++) {
        door_info_t info;
        memset(&info, 0xee, sizeof info);
        int d = door_create(procedure, &cookie, attributes[i]);
        assert_int_equal(door_info(d, &info), 0);
        assert_int_equal(info.di_target, getpid());
        assert_true(info.di_proc == (door_ptr_t)(uintptr_t)procedure);
        assert_true(info.di_data == (door_ptr_t)(uintptr_t)&cookie);
        /* LOCAL, and IS_UNREF: there is one descriptor and no name. */
        assert_int_equal(info.di_attributes, attributes[i] | 0x24);
        assert_true(info.di_uniquifier != 0);
        assert_true(info.di_uniquifier != last);
        last = info.di_uniquifier;
        for (int k = 0; k < 4; k++) {
            assert_int_equal(info.di_resv[k], 0);
        }
        int copy = dup(d);
        door_info_t again;
        assert_int_equal(door_info(copy, &again), 0);
        assert_memory_equal(&info, &again, sizeof info);
        close(copy);
        close(d);
    }
}

/* What is no door is EBADF, to door_info and to door_call. */
static void
test_no_doors(void **state)
{
    door_info_t info;
    int ends[2], pair[2];
    int file = open("/dev/null", O_RDWR);

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    int inet = socket(AF_INET, SOCK_DGRAM, 0);
    int bad[] = {-1,      -2,      1000000, file, ends[0],
                 ends[1], pair[0], pair[1], inet, dup(file)};
    int n = sizeof bad / sizeof *bad;
    close(bad[n - 1]);
    for (int i = 0; i < n; i++) {
        errno = 0;
        assert_int_equal(door_info(bad[i], &info), -1);
        assert_int_equal(errno, EBADF);
        errno = 0;
        assert_int_equal(door_call(bad[i], NULL), -1);
        assert_int_equal(errno, EBADF);
    }
    close(file);
    close(ends[0]);
    close(ends[1]);
    close(pair[0]);
    close(pair[1]);
    close(inet);
}

static void
test_info_fault(void **state)
{
    int d = door_create(procedure, NULL, 0);

    assert_int_equal(door_info(d, NULL), -1);
    assert_int_equal(errno, EFAULT);
    close(d);
}

/* Everything of a door that was created, called and closed is given back. */
static void
test_nothing_is_lost(void **state)
{
    int first = door_create(procedure, NULL, 0), n = test_fds();

    for (int i = 0; i < 50; i++) {
        door_info_t info;
        int d = door_create(procedure, NULL, 0);
        assert_true(d >= 0);
        assert_int_equal(door_info(d, &info), 0);
        close(d);
    }
    assert_true(test_until(test_fds_at_most, &n));
    close(first);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_descriptor),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_info_fields),
        cmocka_unit_test(test_no_doors),
        cmocka_unit_test(test_info_fault),
        cmocka_unit_test(test_nothing_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
