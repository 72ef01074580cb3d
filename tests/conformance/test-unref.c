/* Unreferenced doors. Section 6. Word 20 counts the notifications. */
#include "conformance.h"

static int the_door = -1;

/* Tells by a call's result what came, so that calls and notifications are told
 * apart; a call "d" hands the door out. */
static void
watches(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    door_desc_t desc = {.d_attributes = DOOR_DESCRIPTOR,
                        .d_data.d_desc.d_descriptor = the_door};

    (void)cookie;
    if (argp == DOOR_UNREF_DATA) {
        SAME((long long)size, 0);
        CHECK(dp == NULL);
        SAME(n, 0);
        door_cred_t cred;
        FAILS(door_cred(&cred), EINVAL); /* there is no caller */
        atomic_fetch_add(&shared[20], 1);
        door_return(NULL, 0, NULL, 0);
    }
    if (size > 0 && argp[0] == 'd') {
        door_return(NULL, 0, &desc, 1);
    }
    if (size > 0 && argp[0] == 's') {
        stay(NULL, NULL, 0, NULL, 0);
    }
    door_return(argp, size, NULL, 0);
}

static int
handed_out(int d)
{
    char room[64], ask = 'd';
    door_arg_t arg = {&ask, 1, NULL, 0, room, sizeof room};

    SAME(door_call(d, &arg), 0);
    SAME(arg.desc_num, 1);
    return arg.desc_ptr[0].d_data.d_desc.d_descriptor;
}

static bool
is_unref(int d)
{
    door_info_t info;

    SAME(door_info(d, &info), 0);
    return (info.di_attributes & DOOR_IS_UNREF) != 0;
}

/* As long as it would surely take. */
static void
a_while(void)
{
    usleep(100000);
}

static void
no_notification(int d, int so_far)
{
    SAME(call_text(d, "after"), 0);
    a_while();
    SAME(shared[20], so_far);
}

CASE("DOOR_UNREF: told once when a handed-out descriptor is closed", once)
{
    door_info_t info;
    int d = the_door = door_create(watches, NULL, DOOR_UNREF);

    close(handed_out(d));
    await(&shared[20], 1);
    /* The bit is spent. */
    SAME(door_info(d, &info), 0);
    SAME((long long)(info.di_attributes & DOOR_UNREF), 0);
    close(handed_out(d));
    no_notification(d, 1);
}

CASE("DOOR_UNREF_MULTI: told each time", each_time)
{
    door_info_t info;
    int d = the_door = door_create(watches, NULL, DOOR_UNREF_MULTI);

    for (int i = 1; i <= 5; i++) {
        close(handed_out(d));
        await(&shared[20], i);
    }
    SAME(door_info(d, &info), 0);
    SAME((long long)(info.di_attributes & DOOR_UNREF_MULTI), DOOR_UNREF_MULTI);
}

CASE("DOOR_UNREF_MULTI: several before the delivery are one", several)
{
    int d = the_door = door_create(watches, NULL, DOOR_UNREF_MULTI);
    char ask = 's';
    door_arg_t arg = {&ask, 1, NULL, 0, NULL, 0};
    int out = handed_out(d);
    pid_t pid = fork();

    if (pid == 0) {
        close(out);
        _exit(door_call(d, &arg) == 0 ? 0 : errno);
    }
    await(&shared[0], 1);
    for (int i = 0; i < 3; i++) {
        close(out);
        while (!is_unref(d)) {
            usleep(1000);
        }
        out = handed_out(d);
    }
    close(out);
    a_while();
    SAME(shared[20], 0);
    atomic_store(&shared[1], 1);
    await(&shared[20], 1);
    SAME(end_of(pid), 0);
    no_notification(d, 1);
}

CASE("DOOR_UNREF: not told without the attribute", without)
{
    int d = the_door = door_create(watches, NULL, 0);

    close(handed_out(d));
    no_notification(d, 0);
}

CASE("DOOR_UNREF: not told while another descriptor is out", another)
{
    int d = the_door = door_create(watches, NULL, DOOR_UNREF);
    int a = handed_out(d), b = handed_out(d);

    close(a);
    no_notification(d, 0);
    close(b);
    await(&shared[20], 1);
}

CASE("DOOR_UNREF: clients that open the name and close it are not told of",
     by_name)
{
    const char *path = free_path();

    make_file(path, 0644);
    int d = the_door = door_create(watches, NULL, DOOR_UNREF_MULTI);
    SAME(fattach(d, path), 0);
    for (int i = 0; i < 5; i++) {
        int fd = open(path, O_RDONLY);
        SAME(call_text(fd, "by name"), 0);
        close(fd);
    }
    no_notification(d, 0);
    SAME(fdetach(path), 0);
    await(&shared[20], 1);
    remove_path(path);
}

CASE("DOOR_UNREF: told when the attached name is unlinked", unlinked)
{
    const char *path = free_path();

    make_file(path, 0644);
    int d = the_door = door_create(watches, NULL, DOOR_UNREF);
    SAME(fattach(d, path), 0);
    no_notification(d, 0);
    remove_path(path);
    await(&shared[20], 1);
}

CASE("DOOR_UNREF: told when the server closes its own after attaching",
     own_closed)
{
    const char *path = free_path();

    make_file(path, 0644);
    the_door = door_create(watches, NULL, DOOR_UNREF);
    SAME(fattach(the_door, path), 0);
    close(the_door);
    await(&shared[20], 1);
    remove_path(path);
}

CASE("DOOR_UNREF: waits for the calls that run", waits)
{
    int d = the_door = door_create(watches, NULL, DOOR_UNREF);
    int out = handed_out(d);
    char ask = 's';
    door_arg_t arg = {&ask, 1, NULL, 0, NULL, 0};
    pid_t pid = fork();

    if (pid == 0) {
        close(out);
        _exit(door_call(d, &arg) == 0 ? 0 : errno);
    }
    await(&shared[0], 1);
    close(out);
    a_while();
    SAME(shared[20], 0);
    atomic_store(&shared[1], 1);
    await(&shared[20], 1);
    SAME(end_of(pid), 0);
}

CASE("DOOR_UNREF: DATA_MIN does not stop it", data_min)
{
    int d = the_door = door_create(watches, NULL, DOOR_UNREF);
    int out = handed_out(d);

    SAME(door_setparam(d, DOOR_PARAM_DATA_MIN, 100), 0);
    close(out);
    await(&shared[20], 1);
}

CASE("DOOR_UNREF: a receiver that dies has closed", receiver_dies)
{
    int d = the_door = door_create(watches, NULL, DOOR_UNREF);
    pid_t pid = fork();

    if (pid == 0) {
        handed_out(d);
        atomic_store(&shared[11], 1);
        for (;;) {
            pause();
        }
    }
    await(&shared[11], 1);
    SAME(shared[20], 0);
    kill(pid, SIGKILL);
    end_of(pid);
    await(&shared[20], 1);
}

CASE("DOOR_IS_UNREF: shown by a fresh door, not by an attached one", shown)
{
    const char *path = free_path();

    make_file(path, 0644);
    int d = the_door = door_create(watches, NULL, 0);
    CHECK(is_unref(d));
    SAME(fattach(d, path), 0);
    CHECK(!is_unref(d));
    SAME(fdetach(path), 0);
    CHECK(is_unref(d));
    int out = handed_out(d);
    CHECK(!is_unref(d));
    close(out);
    while (!is_unref(d)) {
        usleep(1000);
    }
    remove_path(path);
}

CASES(&case_once, &case_each_time, &case_several, &case_without, &case_another,
      &case_by_name, &case_unlinked, &case_own_closed, &case_waits,
      &case_data_min, &case_receiver_dies, &case_shown)
