/* door_info, limits, revocation, credentials. Sections 4.2 and 7. */
#include "conformance.h"

#include <grp.h>

CASE("door_info: the fields of a door", fields)
{
    door_info_t info;
    int d = door_create(echo, (void *)(uintptr_t)4711, DOOR_REFUSE_DESC);

    memset(&info, 0xee, sizeof info);
    SAME(door_info(d, &info), 0);
    SAME(info.di_target, getpid());
    CHECK(info.di_proc == (door_ptr_t)(uintptr_t)echo);
    SAME((long long)info.di_data, 4711);
    SAME((long long)info.di_attributes,
         DOOR_REFUSE_DESC | DOOR_LOCAL | DOOR_IS_UNREF);
    for (int i = 0; i < 4; i++) {
        SAME(info.di_resv[i], 0);
    }
}

CASE("door_info: another process's door is not LOCAL", foreign)
{
    door_info_t info;
    int d;
    pid_t pid = server_start(echo, DOOR_NO_CANCEL, &d);

    SAME(door_info(d, &info), 0);
    SAME(info.di_target, pid);
    CHECK(info.di_proc == (door_ptr_t)(uintptr_t)echo);
    SAME((long long)info.di_attributes, DOOR_NO_CANCEL);
    server_end(pid);
}

CASE("door_info: a dead door says -1 and REVOKED, and its number", dead)
{
    door_info_t before, after;
    int d;
    pid_t pid = server_start(echo, DOOR_REFUSE_DESC, &d);

    SAME(door_info(d, &before), 0);
    server_end(pid);
    SAME(door_info(d, &after), 0);
    SAME(after.di_target, -1);
    SAME((long long)after.di_attributes, DOOR_REFUSE_DESC | DOOR_REVOKED);
    CHECK(after.di_uniquifier == before.di_uniquifier);
}

CASE("door_info: EBADF and EFAULT", info_errors)
{
    door_info_t info;
    int d = door_create(echo, NULL, 0);

    FAILS(door_info(-1, &info), EBADF);
    FAILS(door_info(0, &info), EBADF);
    FAILS(door_info(999, &info), EBADF);
    FAILS(door_info(d, NULL), EFAULT);
    FAILS(door_info(DOOR_QUERY, &info), EBADF);
}

static void
queries(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    door_info_t info;

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    SAME(door_info(DOOR_QUERY, &info), 0);
    door_return((char *)&info, sizeof info, NULL, 0);
}

static int
one_thread(door_info_t *info, void *(*start)(void *), void *arg, void *cookie)
{
    pthread_t id;

    (void)info, (void)cookie;
    return pthread_create(&id, NULL, start, arg) == 0 ? 1 : -1;
}

CASE("door_info: DOOR_QUERY is the door that the thread is bound to", query)
{
    door_info_t info, got;
    door_arg_t arg = {.rbuf = (char *)&got, .rsize = sizeof got};
    int d = door_xcreate(queries, NULL, 0, one_thread, NULL, NULL, 1);

    SAME(door_info(d, &info), 0);
    SAME(door_call(d, &arg), 0);
    CHECK(got.di_uniquifier == info.di_uniquifier);
    SAME((long long)got.di_attributes, (long long)info.di_attributes);
}

CASE("door_info: each door has a number of its own, the same by every way",
     uniquifier)
{
    door_info_t info[50], again;

    for (int i = 0; i < 50; i++) {
        int d = door_create(echo, NULL, 0), copy = dup(d);
        SAME(door_info(d, &info[i]), 0);
        SAME(door_info(copy, &again), 0);
        CHECK(again.di_uniquifier == info[i].di_uniquifier);
        for (int k = 0; k < i; k++) {
            CHECK(info[k].di_uniquifier != info[i].di_uniquifier);
        }
    }
}

/* ---- limits ---- */

CASE("door_getparam: what door_setparam set, also in another process", params)
{
    static const struct {
        int param;
        size_t value;
    } table[] = {
        {DOOR_PARAM_DATA_MAX, 100},     {DOOR_PARAM_DATA_MIN, 100},
        {DOOR_PARAM_DATA_MIN, 0},       {DOOR_PARAM_DATA_MAX, SIZE_MAX},
        {DOOR_PARAM_DESC_MAX, 0},       {DOOR_PARAM_DESC_MAX, 7},
        {DOOR_PARAM_DESC_MAX, INT_MAX},
    };
    int d = door_create(echo, NULL, 0);

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t value = 99;
        SAME(door_setparam(d, table[i].param, table[i].value), 0);
        SAME(door_getparam(d, table[i].param, &value), 0);
        CHECK(value == table[i].value);
        pid_t pid = fork();
        if (pid == 0) {
            value = 99;
            SAME(door_getparam(d, table[i].param, &value), 0);
            CHECK(value == table[i].value);
            _exit(0);
        }
        SAME(end_of(pid), 0);
    }
}

CASE("door_getparam: EBADF, EINVAL, EFAULT", get_errors)
{
    size_t value;
    int d = door_create(echo, NULL, 0);

    FAILS(door_getparam(0, DOOR_PARAM_DATA_MAX, &value), EBADF);
    FAILS(door_getparam(-1, DOOR_PARAM_DATA_MAX, &value), EBADF);
    FAILS(door_getparam(d, 0, &value), EINVAL);
    FAILS(door_getparam(d, 4, &value), EINVAL);
    FAILS(door_getparam(d, DOOR_PARAM_DATA_MAX, NULL), EFAULT);
}

CASE("door_setparam: EBADF, EINVAL, ERANGE, ENOTSUP", set_errors)
{
    int d = door_create(echo, NULL, 0);
    int refuses = door_create(echo, NULL, DOOR_REFUSE_DESC);

    FAILS(door_setparam(0, DOOR_PARAM_DATA_MAX, 1), EBADF);
    FAILS(door_setparam(d, 0, 1), EINVAL);
    FAILS(door_setparam(d, 4, 1), EINVAL);
    SAME(door_setparam(d, DOOR_PARAM_DATA_MAX, 10), 0);
    FAILS(door_setparam(d, DOOR_PARAM_DATA_MIN, 11), EINVAL);
    SAME(door_setparam(d, DOOR_PARAM_DATA_MIN, 5), 0);
    FAILS(door_setparam(d, DOOR_PARAM_DATA_MAX, 4), EINVAL);
    FAILS(door_setparam(d, DOOR_PARAM_DESC_MAX, (size_t)INT_MAX + 1), ERANGE);
    FAILS(door_setparam(refuses, DOOR_PARAM_DESC_MAX, 1), ENOTSUP);
    SAME(door_setparam(refuses, DOOR_PARAM_DESC_MAX, 0), 0);
}

CASE("door_setparam: EPERM for a door of another process", set_foreign)
{
    int d;
    pid_t pid = server_start(echo, 0, &d);

    FAILS(door_setparam(d, DOOR_PARAM_DATA_MAX, 1), EPERM);
    server_end(pid);
    FAILS(door_setparam(d, DOOR_PARAM_DATA_MAX, 1), EBADF);
}

CASE("door_setparam: EBADF for a revoked door", set_revoked)
{
    int d = door_create(echo, NULL, 0), copy = dup(d);

    SAME(door_revoke(d), 0);
    FAILS(door_setparam(copy, DOOR_PARAM_DATA_MAX, 1), EBADF);
}

CASE("door_setparam: holds for channels that are open", set_live)
{
    int d = door_create(echo, NULL, 0);

    SAME(call_text(d, "long enough"), 0);
    SAME(door_setparam(d, DOOR_PARAM_DATA_MAX, 4), 0);
    SAME(call_text(d, "long enough"), ENOBUFS);
    SAME(call_text(d, "shr"), 0);
}

/* ---- revocation ---- */

CASE("door_revoke: closes d; copies show REVOKED, calls are EBADF", revoke)
{
    door_info_t info;
    int d = door_create(echo, NULL, 0), copy = dup(d);

    SAME(call_text(copy, "still"), 0);
    SAME(door_revoke(d), 0);
    FAILS(fcntl(d, F_GETFD), EBADF);
    FAILS(door_call(copy, NULL), EBADF);
    SAME(door_info(copy, &info), 0);
    SAME((long long)(info.di_attributes & DOOR_REVOKED), DOOR_REVOKED);
    SAME(info.di_target, getpid());
    FAILS(door_revoke(d), EBADF);
}

CASE("door_revoke: EBADF for no door, EPERM for another process's",
     revoke_errors)
{
    int d;
    pid_t pid = server_start(echo, 0, &d);

    FAILS(door_revoke(0), EBADF);
    FAILS(door_revoke(-1), EBADF);
    FAILS(door_revoke(d), EPERM);
    SAME(call_text(d, "and it serves on"), 0);
    server_end(pid);
}

CASE("door_revoke: calls that run finish as usual", revoke_running)
{
    struct caller c;
    int d = door_create(stay, NULL, 0), copy = dup(d);

    caller_start(&c, copy);
    await(&shared[0], 1);
    SAME(door_revoke(d), 0);
    atomic_store(&shared[1], 1);
    SAME(caller_end(&c), 0);
}

CASE("door_revoke: callers that wait for a thread get EBADF", revoke_waiting)
{
    struct caller c;

    door_server_create(no_threads);
    int d = door_create(echo, NULL, 0), copy = dup(d);
    caller_start(&c, copy);
    await(&c.tid, 1);
    await_sleep(c.tid);
    SAME(door_revoke(d), 0);
    SAME(caller_end(&c), EBADF);
}

CASE("door_revoke: the name stays, open works, calls are EBADF", revoke_named)
{
    const char *path = free_path();
    int d = door_create(echo, NULL, 0);

    make_file(path, 0644);
    SAME(fattach(d, path), 0);
    SAME(door_revoke(d), 0);
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    FAILS(door_call(fd, NULL), EBADF);
    SAME(fdetach(path), 0);
    remove_path(path);
}

/* ---- credentials ---- */

static void
tells_cred(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    door_cred_t cred;

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    SAME(door_cred(&cred), 0);
    door_return((char *)&cred, sizeof cred, NULL, 0);
}

static door_cred_t
cred_of_call(int d)
{
    door_cred_t cred;
    door_arg_t arg = {.rbuf = (char *)&cred, .rsize = sizeof cred};

    SAME(door_call(d, &arg), 0);
    SAME((long long)arg.data_size, sizeof cred);
    return cred;
}

CASE("door_cred: who calls, in another process", cred)
{
    int d = door_create(tells_cred, NULL, 0);
    pid_t pid = fork();

    if (pid == 0) {
        door_cred_t got = cred_of_call(d);
        SAME(got.dc_pid, getpid());
        SAME(got.dc_euid, geteuid());
        SAME(got.dc_ruid, getuid());
        SAME(got.dc_egid, getegid());
        SAME(got.dc_rgid, getgid());
        _exit(0);
    }
    SAME(end_of(pid), 0);
}

CASE("door_cred: as it is now, real apart from effective", cred_now)
{
    int d = door_create(tells_cred, NULL, 0);
    pid_t pid = geteuid() == 0 ? fork() : -1;

    if (pid == 0) {
        SAME(cred_of_call(d).dc_euid, 0);
        CHECK(setresgid(65533, 65532, 65532) == 0);
        CHECK(setresuid(65534, 0, 0) == 0);
        door_cred_t got = cred_of_call(d);
        SAME(got.dc_ruid, 65534);
        SAME(got.dc_euid, 0);
        SAME(got.dc_rgid, 65533);
        SAME(got.dc_egid, 65532);
        CHECK(setresuid(65534, 65534, 65534) == 0);
        SAME(cred_of_call(d).dc_euid, 65534);
        _exit(0);
    }
    SAME(pid < 0 ? 0 : end_of(pid), 0);
}

CASE("door_cred: EINVAL where no call runs", no_caller)
{
    door_cred_t got;
    ucred_t *full = NULL;

    FAILS(door_cred(&got), EINVAL);
    FAILS(door_ucred(&full), EINVAL);
    CHECK(full == NULL);
}

static void
after_death(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    door_cred_t got;

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    atomic_store(&shared[0], 1);
    await(&shared[1], 1);
    while (door_cred(&got) == 0) { /* until the hang-up is seen */
        usleep(1000);
    }
    atomic_store(&shared[2], errno);
    door_return(NULL, 0, NULL, 0);
}

CASE("door_cred: EINVAL once the caller is gone", caller_gone)
{
    int d = door_create(after_death, NULL, DOOR_NO_CANCEL);
    die_in_call(d);
    atomic_store(&shared[1], 1);
    await(&shared[2], 1);
    SAME(shared[2], EINVAL);
}

static void
tells_ucred(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    ucred_t *cred = NULL;
    const gid_t *groups;
    long long told[9];

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    SAME(door_ucred(&cred), 0);
    ucred_t *same = cred;
    SAME(door_ucred(&cred), 0); /* used again */
    CHECK(cred == same);
    told[0] = ucred_getpid(cred);
    told[1] = ucred_getruid(cred);
    told[2] = ucred_geteuid(cred);
    told[3] = ucred_getsuid(cred);
    told[4] = ucred_getrgid(cred);
    told[5] = ucred_getegid(cred);
    told[6] = ucred_getsgid(cred);
    told[7] = ucred_getgroups(cred, &groups);
    told[8] = told[7] > 0 ? (long long)groups[told[7] - 1] : -1;
    ucred_free(cred);
    door_return((char *)told, sizeof told, NULL, 0);
}

CASE("door_ucred: real, effective, saved, and the groups", ucred)
{
    int d = door_create(tells_ucred, NULL, 0);
    pid_t pid = geteuid() == 0 ? fork() : -1;

    if (pid == 0) {
        const gid_t groups[] = {50, 60, 70};
        const long long expected[] = {getpid(), 1, 2, 3, 4, 5, 6, 3, 70};
        long long told[9];
        door_arg_t arg = {.rbuf = (char *)told, .rsize = sizeof told};

        CHECK(setgroups(3, groups) == 0);
        CHECK(setresgid(4, 5, 6) == 0 && setresuid(1, 2, 3) == 0);
        SAME(door_call(d, &arg), 0);
        for (int i = 0; i < 9; i++) {
            SAME(told[i], expected[i]);
        }
        _exit(0);
    }
    SAME(pid < 0 ? 0 : end_of(pid), 0);
}

CASE("ucred_get: this process, and ESRCH for none", ucred_gets)
{
    ucred_t *cred = ucred_get(P_MYID);

    CHECK(cred != NULL);
    SAME(ucred_getpid(cred), getpid());
    SAME(ucred_geteuid(cred), geteuid());
    CHECK(ucred_size() > 0);
    ucred_free(cred);
    errno = 0;
    CHECK(ucred_get(0x3fffffff) == NULL);
    SAME(errno, ESRCH);
}

CASES(&case_fields, &case_foreign, &case_dead, &case_info_errors, &case_query,
      &case_uniquifier, &case_params, &case_get_errors, &case_set_errors,
      &case_set_foreign, &case_set_revoked, &case_set_live, &case_revoke,
      &case_revoke_errors, &case_revoke_running, &case_revoke_waiting,
      &case_revoke_named, &case_cred, &case_cred_now, &case_no_caller,
      &case_caller_gone, &case_ucred, &case_ucred_gets)
