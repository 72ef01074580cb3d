/* Descriptors through doors, both ways: how many, which attributes, who closes
 * them, what is refused. */
#include "test-door.h"

#include <sys/mman.h>

#define DESC    0x10000
#define RELEASE 0x40000

/* What the procedure saw of what it was given. */
struct seen {
    unsigned int n;
    unsigned int wrong; /* attributes not exactly 0x10000, or not that file */
    unsigned int cloexec;
    ino_t ino;
};

static void
look_and_close(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
               unsigned int n_desc)
{
    struct seen *seen = cookie;
    struct stat st;

    test_reads();
    seen->n = n_desc;
    seen->wrong = seen->cloexec = 0;
    for (unsigned int i = 0; i < n_desc; i++) {
        int fd = dp[i].d_data.d_desc.d_descriptor;
        seen->wrong += dp[i].d_attributes != DESC || fstat(fd, &st) < 0 ||
                       st.st_ino != seen->ino;
        seen->cloexec += fcntl(fd, F_GETFD) != 0;
        close(fd);
    }
    door_return(argp, arg_size, NULL, 0);
}

static void
fill(door_desc_t *descs, unsigned int n, int fd, unsigned int attributes)
{
    for (unsigned int i = 0; i < n; i++) {
        memset(&descs[i], 0, sizeof descs[i]);
        descs[i].d_attributes = attributes;
        descs[i].d_data.d_desc.d_descriptor = fd;
    }
}

static ino_t
inode(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

static void
test_to_the_server(void **state)
{
    static const unsigned int counts[] = {1, 2, 249, 250, 251, 253, 300, 1000};
    static door_desc_t descs[1000];
    int file = memfd_create("passed", MFD_CLOEXEC);
    struct seen seen = {.ino = inode(file)};
    int d = door_create(look_and_close, &seen, 0);
    uint64_t out = 0;

    assert_int_equal(test_call_word(d, 1, &out), 0);
    int before = test_fds();
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char in[5] = "hello", room[8];
        fill(descs, counts[i], file, DESC);
        door_arg_t arg = {.data_ptr = in,
                          .data_size = 5,
                          .desc_ptr = descs,
                          .desc_num = counts[i],
                          .rbuf = room,
                          .rsize = sizeof room};
        assert_int_equal(door_call(d, &arg), 0);
        assert_int_equal(seen.n, counts[i]);
        assert_int_equal(seen.wrong, 0);
        assert_int_equal(seen.cloexec, 0);
        assert_int_equal(arg.desc_num, 0);
        assert_ptr_equal(arg.desc_ptr, descs);
        assert_memory_equal(room, "hello", 5);
        /* The listening thread may look into /proc just now. */
        assert_true(test_until(test_fds_at_most, &before));
    }
    close(file);
    close(d);
}

/* Returns as many descriptors of its own file as the arguments say, behind as
 * many bytes. */
struct order {
    uint32_t n_fds, n_bytes, release;
};

static void
hand_out(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
         unsigned int n_desc)
{
    static _Thread_local door_desc_t descs[1024];
    static _Thread_local char bytes[8192];
    struct order o;

    memcpy(&o, argp, sizeof o);
    test_reads();
    memset(bytes, 'z', sizeof bytes);
    for (uint32_t i = 0; i < o.n_fds; i++) {
        descs[i].d_attributes = o.release ? DESC | RELEASE : DESC;
        descs[i].d_data.d_desc.d_descriptor =
            o.release ? dup(*(int *)cookie) : *(int *)cookie;
    }
    door_return(bytes, o.n_bytes, descs, o.n_fds);
}

static void
check_got(const door_arg_t *arg, const struct order *o, ino_t ino)
{
    size_t at = ((size_t)o->n_bytes + 23) / 24 * 24;

    assert_int_equal(arg->data_size, o->n_bytes);
    assert_int_equal(arg->desc_num, o->n_fds);
    assert_ptr_equal(arg->desc_ptr, arg->rbuf + at);
    for (uint32_t i = 0; i < o->n_bytes; i++) {
        assert_int_equal(arg->rbuf[i], 'z');
    }
    for (uint32_t i = 0; i < o->n_fds; i++) {
        int fd = arg->desc_ptr[i].d_data.d_desc.d_descriptor;
        assert_int_equal(arg->desc_ptr[i].d_attributes, DESC);
        assert_int_equal(inode(fd), ino);
        assert_int_equal(fcntl(fd, F_GETFD), 0);
        close(fd);
    }
}

static void
test_to_the_caller(void **state)
{
    static const struct order orders[] = {
        {1, 0, 0},   {1, 1, 0},    {2, 24, 0},  {253, 25, 0},
        {300, 0, 0}, {1000, 5, 0}, {1, 0, 1},   {300, 8, 1},
        {170, 0, 0}, {170, 1, 0},  {171, 0, 0},
    };
    int file = memfd_create("passed", MFD_CLOEXEC);
    int d = door_create(hand_out, &file, 0);
    ino_t ino = inode(file);
    static char room[32768];
    uint64_t out;

    assert_int_equal(test_call_word(d, 0, &out), EPROTO); /* opens channels */
    int before = test_fds();
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        struct order o = orders[i];
        door_arg_t arg = {.data_ptr = (char *)&o,
                          .data_size = sizeof o,
                          .rbuf = room,
                          .rsize = sizeof room};
        assert_int_equal(door_call(d, &arg), 0);
        assert_ptr_equal(arg.rbuf, room);
        check_got(&arg, &orders[i], ino);
        assert_true(test_fds() <= before);
        /* The same into a mapping made for it. */
        arg = (door_arg_t){.data_ptr = (char *)&o, .data_size = sizeof o};
        assert_int_equal(door_call(d, &arg), 0);
        size_t need = ((size_t)o.n_bytes + 23) / 24 * 24 + o.n_fds * 24ul;
        assert_int_equal(arg.rsize, (need + 4095) / 4096 * 4096);
        check_got(&arg, &orders[i], ino);
        munmap(arg.rbuf, arg.rsize);
        assert_true(test_fds() <= before);
    }
    close(file);
    close(d);
}

/* One open file description: the offset is shared. */
static void
seek_on(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
        unsigned int n_desc)
{
    lseek(dp[0].d_data.d_desc.d_descriptor, 42, SEEK_SET);
    close(dp[0].d_data.d_desc.d_descriptor);
    door_return(NULL, 0, NULL, 0);
}

static void
test_same_description(void **state)
{
    door_desc_t desc;
    int file = memfd_create("passed", MFD_CLOEXEC);
    int d = door_create(seek_on, NULL, 0);

    fill(&desc, 1, file, DESC);
    door_arg_t arg = {.desc_ptr = &desc, .desc_num = 1};
    assert_int_equal(door_call(d, &arg), 0);
    assert_int_equal(lseek(file, 0, SEEK_CUR), 42);
    close(file);
    close(d);
}

static bool
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* DOOR_RELEASE: gone at the sender, whether the call succeeds or fails after
 * the arguments were looked at. */
static void
test_release(void **state)
{
    int file = memfd_create("passed", MFD_CLOEXEC);
    struct seen seen = {.ino = inode(file)};
    int d = door_create(look_and_close, &seen, 0);
    int refuse = door_create(look_and_close, &seen, 0x40);
    door_desc_t descs[2];

    int given = dup(file);
    fill(descs, 1, given, DESC | RELEASE);
    door_arg_t arg = {.desc_ptr = descs, .desc_num = 1};
    assert_int_equal(door_call(d, &arg), 0);
    assert_false(is_open(given));
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.wrong, 0);
    /* A door that refuses: closed all the same (the manual page's rule). */
    given = dup(file);
    fill(descs, 1, given, DESC | RELEASE);
    arg = (door_arg_t){.desc_ptr = descs, .desc_num = 1};
    assert_int_equal(door_call(refuse, &arg), -1);
    assert_int_equal(errno, ENOTSUP);
    assert_false(is_open(given));
    /* No door: kept. */
    given = dup(file);
    fill(descs, 1, given, DESC | RELEASE);
    arg = (door_arg_t){.desc_ptr = descs, .desc_num = 1};
    assert_int_equal(door_call(file, &arg), -1);
    assert_int_equal(errno, EBADF);
    assert_true(is_open(given));
    close(given);
    close(file);
    close(d);
    close(refuse);
}

static void
test_refused(void **state)
{
    static door_desc_t descs[1025];
    int file = memfd_create("passed", MFD_CLOEXEC);
    struct seen seen = {.ino = inode(file)};
    int d = door_create(look_and_close, &seen, 0);
    int refuse = door_create(look_and_close, &seen, 0x40);
    const struct {
        int door, fd;
        unsigned int attributes, n;
        int error;
    } table[] = {
        {refuse, file, DESC, 1, ENOTSUP}, {d, file, 0, 1, EINVAL},
        {d, file, 0x4, 3, EINVAL},        {d, 900000, DESC, 1, EINVAL},
        {d, -1, DESC, 1, EINVAL},         {d, file, DESC, 1025, E2BIG},
    };
    uint64_t out = 0;

    assert_int_equal(test_call_word(d, 1, &out), 0);
    assert_int_equal(test_call_word(refuse, 1, &out), 0);
    int before = test_fds();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        fill(descs, table[i].n, table[i].fd, table[i].attributes);
        door_arg_t arg = {.desc_ptr = descs, .desc_num = table[i].n};
        errno = 0;
        assert_int_equal(door_call(table[i].door, &arg), -1);
        assert_int_equal(errno, table[i].error);
    }
    assert_true(test_fds() <= before);
    assert_int_equal(test_call_word(refuse, 3, &out), 0);
    assert_int_equal(out, 3);
    close(file);
    close(d);
    close(refuse);
}

/* door_return with bad descriptors fails, and the call is still open. */
static void
return_badly(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
             unsigned int n_desc)
{
    static _Thread_local door_desc_t descs[1025];
    uint64_t errors = 0;

    fill(descs, 1025, 0, DESC);
    door_return(NULL, 0, descs, 1025);
    errors = errors * 1000 + (uint64_t)errno;
    fill(descs, 2, 0, 0);
    door_return(NULL, 0, descs, 2);
    errors = errors * 1000 + (uint64_t)errno;
    fill(descs, 2, 1000000, DESC);
    door_return(NULL, 0, descs, 2);
    errors = errors * 1000 + (uint64_t)errno;
    door_return((char *)&errors, sizeof errors, NULL, 0);
}

static void
test_bad_return(void **state)
{
    int d = door_create(return_badly, NULL, 0);
    uint64_t out = 0;

    assert_int_equal(test_call_word(d, 1, &out), 0);
    assert_int_equal(out, E2BIG * 1000000 + EINVAL * 1000 + EINVAL);
    close(d);
}

/* ---- doors through doors ---- */

static void
seven(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
      unsigned int n_desc)
{
    uint64_t out = 7;

    door_return((char *)&out, sizeof out, NULL, 0);
}

/* Calls the door it is given, tells what that said and how it was described. */
struct answer {
    uint64_t word, attributes, id;
};

static void
call_it(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
        unsigned int n_desc)
{
    struct answer a = {0, dp[0].d_attributes, dp[0].d_data.d_desc.d_id};
    int fd = dp[0].d_data.d_desc.d_descriptor;

    test_call_word(fd, 0, &a.word);
    close(fd);
    door_return((char *)&a, sizeof a, NULL, 0);
}

static void
test_a_door_is_passed(void **state)
{
    door_desc_t desc;
    struct answer a;
    door_info_t info;
    char room[64];
    int d = door_create(call_it, NULL, 0);
    int passed = door_create(seven, NULL, 0x80);

    assert_int_equal(door_info(passed, &info), 0);
    fill(&desc, 1, passed, DESC);
    door_arg_t arg = {
        .desc_ptr = &desc, .desc_num = 1, .rbuf = room, .rsize = sizeof room};
    assert_int_equal(door_call(d, &arg), 0);
    assert_int_equal(arg.data_size, sizeof a);
    memcpy(&a, arg.data_ptr, sizeof a);
    assert_int_equal(a.word, 7);
    assert_true(a.id == info.di_uniquifier);
    assert_int_equal(a.attributes, DESC | 0x80 | 0x4); /* DOOR_LOCAL */
    close(d);
    close(passed);
}

/* What came out of one call goes into the next as it is. */
static void
give_door(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    door_desc_t desc;

    test_reads();
    fill(&desc, 1, *(int *)cookie, DESC);
    door_return(NULL, 0, &desc, 1);
}

static void
test_a_door_comes_back_and_goes_on(void **state)
{
    char room[64];
    struct answer a;
    int seven_door = door_create(seven, NULL, 0);
    int giver = door_create(give_door, &seven_door, 0);
    int d = door_create(call_it, NULL, 0);
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    uint64_t out = 0;

    assert_int_equal(door_call(giver, &arg), 0);
    assert_int_equal(arg.desc_num, 1);
    int fd = arg.desc_ptr->d_data.d_desc.d_descriptor;
    assert_int_equal(test_call_word(fd, 0, &out), 0);
    assert_int_equal(out, 7);
    assert_int_equal(door_call(d, &arg), 0);
    memcpy(&a, arg.data_ptr, sizeof a);
    assert_int_equal(a.word, 7);
    close(fd);
    close(seven_door);
    close(giver);
    close(d);
}

/* No room at the caller: EMFILE, and none stays open. */
static void
test_caller_is_full(void **state)
{
    struct rlimit before, few;
    int file = memfd_create("passed", MFD_CLOEXEC);
    int d = door_create(hand_out, &file, 0);
    struct order o = {20, 0, 0};
    static char room[1024];
    uint64_t out;

    assert_int_equal(test_call_word(d, 0, &out), EPROTO);
    int n = test_fds(), top = dup(0);
    close(top);
    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = (rlim_t)top + 10;
    door_arg_t arg = {.data_ptr = (char *)&o,
                      .data_size = sizeof o,
                      .rbuf = room,
                      .rsize = sizeof room};
    setrlimit(RLIMIT_NOFILE, &few);
    int result = door_call(d, &arg), e = errno;
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(result, -1);
    assert_int_equal(e, EMFILE);
    assert_true(test_fds() <= n);
    assert_int_equal(door_call(d, &arg), 0);
    check_got(&arg, &o, inode(file));
    close(file);
    close(d);
}

static int
setup(void **state)
{
    test_raise_limit();
    return 0;
}

/* A door_return() that fails with most of its descriptors sent leaves none of
 * them to the next one. */
static void
returns_twice(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
              unsigned int n_desc)
{
    static door_desc_t descs[300];
    int ends[2];

    if (pipe(ends) < 0) {
        abort();
    }
    fill(descs, 300, ends[0], DESC);
    descs[280].d_data.d_desc.d_descriptor = 1 << 20;
    door_return(NULL, 0, descs, 300);
    int error = errno;
    fill(descs, 1, ends[1], DESC | RELEASE);
    close(ends[0]);
    door_return((char *)&error, sizeof error, descs, 1);
}

static void
test_return_again(void **state)
{
    char room[64];
    int error, d = door_create(returns_twice, NULL, 0), n = test_fds();
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};

    for (int i = 0; i < 3; i++) {
        assert_int_equal(door_call(d, &arg), 0);
        memcpy(&error, room, sizeof error);
        assert_int_equal(error, EINVAL);
        assert_int_equal(arg.desc_num, 1);
        int fd = arg.desc_ptr[0].d_data.d_desc.d_descriptor;
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
        close(fd);
        arg = (door_arg_t){.rbuf = room, .rsize = sizeof room};
    }
    close(d);
    assert_true(test_fds() <= n + 4);
}

/* Results that cannot be told to the program are not left behind. */
static void
test_params_read_only(void **state)
{
    int d = door_create(returns_twice, NULL, 0);
    door_arg_t *arg = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memset(arg, 0, sizeof *arg);
    assert_int_equal(door_call(d, NULL), -1); /* the channel is there */
    assert_int_equal(mprotect(arg, 4096, PROT_READ), 0);
    int n = test_fds();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(door_call(d, arg), -1);
        assert_int_equal(errno, EFAULT);
    }
    assert_true(test_until(test_fds_at_most, &n));
    munmap(arg, 4096);
    close(d);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_to_the_server),
        cmocka_unit_test(test_to_the_caller),
        cmocka_unit_test(test_same_description),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bad_return),
        cmocka_unit_test(test_a_door_is_passed),
        cmocka_unit_test(test_a_door_comes_back_and_goes_on),
        cmocka_unit_test(test_caller_is_full),
        cmocka_unit_test(test_return_again),
        cmocka_unit_test(test_params_read_only),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
