/* door_create: making doors. Section 2.1. */
#include "conformance.h"

#define NO_CREATE_BITS (~(unsigned)DOOR_CREATE_MASK)

CASE("door_create: EINVAL for a bit outside DOOR_CREATE_MASK", unknown_bits)
{
    for (unsigned bit = 1; bit != 0; bit <<= 1) {
        if ((bit & NO_CREATE_BITS) != 0) {
            FAILS(door_create(echo, NULL, bit), EINVAL);
        }
    }
}

CASE("door_create: EINVAL for DOOR_UNREF with DOOR_UNREF_MULTI", both_unrefs)
{
    FAILS(door_create(echo, NULL, DOOR_UNREF | DOOR_UNREF_MULTI), EINVAL);
}

CASE("door_create: EINVAL for what only door_xcreate may", xcreate_bits)
{
    FAILS(door_create(echo, NULL, DOOR_NO_DEPLETION_CB), EINVAL);
    FAILS(door_create(echo, NULL, DOOR_PRIVCREATE), EINVAL);
}

CASE("door_create: EMFILE without a free descriptor", no_descriptor)
{
    struct rlimit few;

    getrlimit(RLIMIT_NOFILE, &few);
    few.rlim_cur = 3;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    FAILS(door_create(echo, NULL, 0), EMFILE);
}

CASE("door_create: the lowest descriptor, close-on-exec, read and write",
     descriptor)
{
    /* The first door also opens what the library listens with. */
    CHECK(door_create(echo, NULL, 0) >= 0);
    int lowest = dup(0);

    close(lowest);
    int d = door_create(echo, NULL, 0);
    SAME(d, lowest);
    SAME(fcntl(d, F_GETFD), FD_CLOEXEC);
    SAME(fcntl(d, F_GETFL) & O_ACCMODE, O_RDWR);
}

CASE("door_create: the cookie and the procedure are not looked at",
     odd_pointers)
{
    door_info_t info;
    int d = door_create(NULL, (void *)(uintptr_t)0xdeadbeef, 0);

    CHECK(d >= 0);
    SAME(door_info(d, &info), 0);
    SAME((long long)info.di_proc, 0);
    SAME((long long)info.di_data, 0xdeadbeef);
}

static void
is_cookie(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    char answer = cookie == (void *)shared ? 'y' : 'n';

    (void)argp, (void)size, (void)dp, (void)n;
    door_return(&answer, 1, NULL, 0);
}

CASE("door_create: the procedure gets the cookie with each call", cookie)
{
    char room[8];
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    int d = door_create(is_cookie, (void *)shared, 0);

    for (int i = 0; i < 3; i++) {
        SAME(door_call(d, &arg), 0);
        SAME(room[0], 'y');
    }
}

CASE("door_create: starting limits", starting_limits)
{
    size_t value;
    int d = door_create(echo, NULL, 0);
    int refuses = door_create(echo, NULL, DOOR_REFUSE_DESC);

    SAME(door_getparam(d, DOOR_PARAM_DATA_MIN, &value), 0);
    SAME((long long)value, 0);
    SAME(door_getparam(d, DOOR_PARAM_DATA_MAX, &value), 0);
    CHECK(value == SIZE_MAX);
    SAME(door_getparam(d, DOOR_PARAM_DESC_MAX, &value), 0);
    SAME((long long)value, INT_MAX);
    SAME(door_getparam(refuses, DOOR_PARAM_DESC_MAX, &value), 0);
    SAME((long long)value, 0);
}

static void
vforked(void)
{
    pid_t pid = vfork();

    if (pid == 0) {
        errno = 0;
        _exit(door_create(echo, NULL, 0) == -1 ? errno : 255);
    }
    SAME(end_of(pid), ENOTSUP);
}

CASE("door_create: ENOTSUP in the child of a vfork", in_vfork)
{
    if (is_under_tsan()) {
        return;
    }
    CHECK(door_create(echo, NULL, 0) >= 0);
    vforked();
}

CASE("door_create: the door is of the whole process", of_the_process)
{
    struct caller c;
    door_info_t info;
    int d = door_create(echo, NULL, 0);

    caller_start(&c, d);
    SAME(caller_end(&c), 0);
    SAME(door_info(d, &info), 0);
    SAME(info.di_target, getpid());
}

CASE("door_create: many doors of one process", many)
{
    int doors[200];

    for (int i = 0; i < 200; i++) {
        doors[i] = door_create(echo, NULL, 0);
        CHECK(doors[i] >= 0);
    }
    for (int i = 0; i < 200; i++) {
        SAME(call_text(doors[i], "all of them"), 0);
    }
}

CASE("header: numbers are those of illumos", numbers)
{
    SAME(DOOR_UNREF, 1);
    SAME(DOOR_PRIVATE, 2);
    SAME(DOOR_LOCAL, 4);
    SAME(DOOR_REVOKED, 8);
    SAME(DOOR_UNREF_MULTI, 0x10);
    SAME(DOOR_IS_UNREF, 0x20);
    SAME(DOOR_REFUSE_DESC, 0x40);
    SAME(DOOR_NO_CANCEL, 0x80);
    SAME(DOOR_NO_DEPLETION_CB, 0x100);
    SAME(DOOR_PRIVCREATE, 0x200);
    SAME(DOOR_DEPLETION_CB, 0x400);
    SAME(DOOR_DESCRIPTOR, 0x10000);
    SAME(DOOR_RELEASE, 0x40000);
    SAME(DOOR_DELAY, 0x80000);
    SAME(DOOR_UNREF_ACTIVE, 0x100000);
    SAME(DOOR_PARAM_DESC_MAX, 1);
    SAME(DOOR_PARAM_DATA_MAX, 2);
    SAME(DOOR_PARAM_DATA_MIN, 3);
    SAME(DOOR_INVAL, -1);
    SAME(DOOR_QUERY, -2);
    SAME(DOOR_CREATE_MASK, 0x3d3);
    SAME(DOOR_ATTR_MASK, 0x3ff);
    CHECK(DOOR_UNREF_DATA == (void *)1);
    SAME(S_IFDOOR, 0xd000);
    CHECK(S_ISDOOR(0xd1ff) && !S_ISDOOR(0xc1ff));
}

CASE("header: layouts are those of illumos", layouts)
{
    SAME(sizeof(door_desc_t), 24);
    SAME(offsetof(door_desc_t, d_data.d_desc.d_descriptor), 4);
    SAME(offsetof(door_desc_t, d_data.d_desc.d_id), 8);
    SAME(sizeof(door_info_t), 48);
    SAME(offsetof(door_info_t, di_proc), 4);
    SAME(offsetof(door_info_t, di_data), 12);
    SAME(offsetof(door_info_t, di_attributes), 20);
    SAME(offsetof(door_info_t, di_uniquifier), 24);
    SAME(offsetof(door_info_t, di_resv), 32);
    SAME(sizeof(door_arg_t), 48);
    SAME(offsetof(door_arg_t, data_ptr), 0);
    SAME(offsetof(door_arg_t, data_size), 8);
    SAME(offsetof(door_arg_t, desc_ptr), 16);
    SAME(offsetof(door_arg_t, desc_num), 24);
    SAME(offsetof(door_arg_t, rbuf), 32);
    SAME(offsetof(door_arg_t, rsize), 40);
    SAME(sizeof(door_cred_t), 36);
    SAME(sizeof(door_ptr_t), 8);
    SAME(sizeof(door_id_t), 8);
    SAME(sizeof(door_attr_t), 4);
}

CASES(&case_unknown_bits, &case_both_unrefs, &case_xcreate_bits,
      &case_no_descriptor, &case_descriptor, &case_odd_pointers, &case_cookie,
      &case_starting_limits, &case_in_vfork, &case_of_the_process, &case_many,
      &case_numbers, &case_layouts)
