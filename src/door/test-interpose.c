/* open() and stat() as programs that link libdoor see them: doors where doors
 * are, the kernel's own answers everywhere else. */
#include "test-door.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "stropts.h"

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int at, const char *path, int flags);
int __openat64_2(int at, const char *path, int flags);
int __xstat(int version, const char *path, struct stat *st);
int __lxstat(int version, const char *path, struct stat *st);
int __fxstat(int version, int fd, struct stat *st);
int __fxstatat(int version, int at, const char *path, struct stat *st,
               int flags);
int __xstat64(int version, const char *path, struct stat64 *st);
int __lxstat64(int version, const char *path, struct stat64 *st);
int __fxstat64(int version, int fd, struct stat64 *st);
int __fxstatat64(int version, int at, const char *path, struct stat64 *st,
                 int flags);

static char folder[64];
static char door_path[96], plain_path[96], socket_path[96];
static int folder_fd, door;

static void
answer_word(void *cookie, char *argp, size_t size, door_desc_t *dp,
            unsigned int n)
{
    uint64_t word = 4711;

    door_return(argp ? (char *)&word : NULL, argp ? sizeof word : 0, NULL, 0);
}

/* Is FD the door? */
static bool
is_the_door(int fd)
{
    uint64_t out = 0;

    return test_call_word(fd, 0, &out) == 0 && out == 4711;
}

static void
write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static int
make_all(void **state)
{
    test_folder(folder);
    snprintf(door_path, sizeof door_path, "%s/door", folder);
    snprintf(plain_path, sizeof plain_path, "%s/plain", folder);
    snprintf(socket_path, sizeof socket_path, "%s/socket", folder);
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
    door = door_create(answer_word, NULL, 0);
    write_file(door_path, "below");
    write_file(plain_path, "plain");
    assert_int_equal(chmod(door_path, 0640), 0);
    assert_int_equal(fattach(door, door_path), 0);
    assert_int_equal(door_attach(door, socket_path, 0600), 0);
    return 0;
}

static int
remove_all(void **state)
{
    fdetach(door_path);
    close(door);
    close(folder_fd);
    test_folder_remove(folder);
    return 0;
}

/* ---- open ---- */

#define OPENS                                                                  \
    X("open", open(path, flags))                                               \
    X("open64", open64(path, flags))                                           \
    X("openat", openat(folder_fd, strrchr(path, '/') + 1, flags))              \
    X("openat, whole path", openat(-1, path, flags))                           \
    X("openat64", openat64(folder_fd, strrchr(path, '/') + 1, flags))          \
    X("__open_2", __open_2(path, flags))                                       \
    X("__open64_2", __open64_2(path, flags))                                   \
    X("__openat_2", __openat_2(AT_FDCWD, path, flags))                         \
    X("__openat64_2", __openat64_2(folder_fd, path, flags))

enum { N_OPENS = 9 };

static int
open_by(int how, const char *path, int flags, const char **p_name)
{
    int n = 0;

#define X(name, call)                                                          \
    if (n++ == how) {                                                          \
        *p_name = name;                                                        \
        return call;                                                           \
    }
    OPENS
#undef X
    return -1;
}

static void
test_open(void **state)
{
    static const int flags[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_NONBLOCK,
                                O_RDONLY | O_CLOEXEC};
    const char *const paths[] = {door_path, socket_path};
    const char *name = "";
    int before = test_fds();

    for (int how = 0; how < N_OPENS; how++) {
        for (size_t i = 0; i < 2 * sizeof flags / sizeof flags[0]; i++) {
            int flag = flags[i / 2], lowest = dup(0);
            close(lowest);
            errno = 77;
            int fd = open_by(how, paths[i % 2], flag, &name);
            if (fd != lowest || errno != 77 || !is_the_door(fd) ||
                fcntl(fd, F_GETFD) != (flag & O_CLOEXEC ? FD_CLOEXEC : 0)) {
                fail_msg("%s of %s, %#x: %d, errno %d", name, paths[i % 2],
                         flag, fd, errno);
            }
            close(fd);
        }
    }
    /* Both ends of the channels to 32 doors are what stays. */
    assert_in_range(test_fds(), before, before + 2 * 32 + 8);
}

static void
test_open_plain(void **state)
{
    const char *name = "";
    char text[8];
    int before = test_fds();

    for (int how = 0; how < N_OPENS; how++) {
        memset(text, 0, sizeof text);
        errno = 77;
        int fd = open_by(how, plain_path, O_RDWR, &name);
        if (fd < 0 || errno != 77 || read(fd, text, 7) != 5 ||
            strcmp(text, "plain") != 0) {
            fail_msg("%s: %d, errno %d", name, fd, errno);
        }
        close(fd);
    }
    assert_int_equal(test_fds(), before);
}

static void
test_open_errors(void **state)
{
    char below[128], none[128];
    const char *name = "";
    const char *volatile nowhere = (const char *)1;

    snprintf(below, sizeof below, "%s/x", plain_path);
    snprintf(none, sizeof none, "%s/none", folder);
    const struct {
        const char *path;
        int flags, error;
    } table[] = {
        {none, O_RDONLY, ENOENT},
        {door_path, O_RDONLY | O_DIRECTORY, ENOTDIR},
        {socket_path, O_RDONLY | O_DIRECTORY, ENOTDIR},
        {plain_path, O_RDONLY | O_DIRECTORY, ENOTDIR},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        for (int how = 0; how < N_OPENS; how++) {
            errno = 0;
            int fd = open_by(how, table[i].path, table[i].flags, &name);
            if (fd != -1 || errno != table[i].error) {
                fail_msg("%s of %s: %d, errno %d", name, table[i].path, fd,
                         errno);
            }
        }
    }
    assert_int_equal(open("", O_RDONLY), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(open(nowhere, O_RDONLY | O_TRUNC), -1);
    assert_int_equal(errno, EFAULT);
    assert_int_equal(openat(AT_FDCWD, nowhere, O_RDONLY), -1);
    assert_int_equal(errno, EFAULT);
    assert_int_equal(openat(folder_fd, nowhere, O_RDONLY), -1);
    assert_int_equal(errno, EFAULT);
    assert_int_equal(open(folder, O_RDWR), -1);
    assert_int_equal(errno, EISDIR);
    errno = 0;
    assert_int_equal(open(below, O_RDONLY), -1);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(openat(folder_fd, "none", O_RDONLY), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(openat(900000, "none", O_RDONLY), -1);
    assert_int_equal(errno, EBADF);
}

static void
test_create(void **state)
{
    char path[128], text[8] = {0};
    struct stat st;

    /* Exclusive: the door is there already. */
    assert_int_equal(open(door_path, O_RDWR | O_CREAT | O_EXCL, 0600), -1);
    assert_int_equal(errno, EEXIST);
    /* Mode and truncation of a plain file are the kernel's. */
    snprintf(path, sizeof path, "%s/new", folder);
    mode_t old = umask(0);
    int fd = openat64(folder_fd, "new", O_WRONLY | O_CREAT | O_EXCL, 0604);
    umask(old);
    assert_int_equal(write(fd, "12345678", 8), 8);
    close(fd);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0604);
    assert_int_equal(st.st_size, 8);
    close(creat64(path, 0600));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0);
    unlink(path);
    fd = open(folder, O_TMPFILE | O_RDWR, 0600);
    if (fd >= 0) {
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        close(fd);
    }
    /* What lies below a door keeps its bytes. */
    int doors[] = {creat(door_path, 0600), creat64(door_path, 0600),
                   open(door_path, O_RDWR | O_CREAT | O_TRUNC, 0600)};
    for (int i = 0; i < 3; i++) {
        assert_true(is_the_door(doors[i]));
        close(doors[i]);
    }
    assert_int_equal(fdetach(door_path), 0);
    fd = open(door_path, O_RDONLY);
    assert_int_equal(read(fd, text, 7), 5);
    assert_string_equal(text, "below");
    close(fd);
    assert_int_equal(fattach(door, door_path), 0);
}

/* O_PATH opens the name, not what it means. */
static void
test_open_path(void **state)
{
    int fd = open(door_path, O_PATH);
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    close(fd);
}

static void
bind_at(int fd, const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    assert_true(strlen(path) < sizeof sun.sun_path);
    memcpy(sun.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof sun), 0);
    assert_int_equal(listen(fd, 8), 0);
}

/* Sockets that are no doors: the kernel's errno, and they hear nothing. */
static void
test_open_foreign_socket(void **state)
{
    static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET};
    char path[128], byte;

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/foreign%d", folder, i);
        int fd = socket(AF_UNIX, types[i] | SOCK_NONBLOCK, 0);
        bind_at(fd, path);
        assert_int_equal(open(path, O_RDWR), -1);
        assert_int_equal(errno, ENXIO);
        int heard = accept(fd, NULL, NULL);
        assert_true(heard < 0 || recv(heard, &byte, 1, 0) == 0);
        close(heard);
        close(fd);
        assert_int_equal(open(path, O_RDWR), -1);
        assert_int_equal(errno, ENXIO);
        unlink(path);
    }
}

/* Whoever may write to a file can set the lock that marks it. Without a server
 * of its owner it stays what it is. */
static void
test_false_mark(void **state)
{
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = 0x7000000000d00400ll,
                         .l_len = 1};
    int fd = open(plain_path, O_RDWR);
    struct stat st;
    char text[8] = {0};

    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    int again = open(plain_path, O_RDONLY);
    assert_int_equal(read(again, text, 7), 5);
    assert_int_equal(stat(plain_path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    close(again);
    close(fd);
}

/* Without room for a door, open() fails; it does not give the file below. */
static void
test_open_no_room(void **state)
{
    struct rlimit old, low;
    int lowest = dup(0);

    close(lowest);
    getrlimit(RLIMIT_NOFILE, &old);
    for (int room = 1; room < 4; room++) {
        low = old;
        low.rlim_cur = (rlim_t)(lowest + room);
        setrlimit(RLIMIT_NOFILE, &low);
        int fd = open(door_path, O_RDONLY), e = errno;
        setrlimit(RLIMIT_NOFILE, &old);
        assert_int_equal(fd, -1);
        assert_int_equal(e, EMFILE);
        int next = dup(0);
        assert_int_equal(next, lowest);
        close(next);
    }
}

/* ---- stat ---- */

#define STATS                                                                  \
    X(stat(path, st))                                                          \
    X(lstat(path, st))                                                         \
    X(fstatat(AT_FDCWD, path, st, 0))                                          \
    X(fstatat(folder_fd, strrchr(path, '/') + 1, st, AT_SYMLINK_NOFOLLOW))     \
    X(stat64(path, (struct stat64 *)st))                                       \
    X(lstat64(path, (struct stat64 *)st))                                      \
    X(fstatat64(AT_FDCWD, path, (struct stat64 *)st, 0))                       \
    X(__xstat(1, path, st))                                                    \
    X(__lxstat(1, path, st))                                                   \
    X(__fxstatat(1, AT_FDCWD, path, st, 0))                                    \
    X(__xstat64(1, path, (struct stat64 *)st))                                 \
    X(__lxstat64(1, path, (struct stat64 *)st))                                \
    X(__fxstatat64(1, AT_FDCWD, path, (struct stat64 *)st, 0))

enum { N_STATS = 13 };

static int
stat_by(int how, const char *path, struct stat *st)
{
    int n = 0;

#define X(call)                                                                \
    if (n++ == how) {                                                          \
        return call;                                                           \
    }
    STATS
#undef X
    return -1;
}

static void
test_stat(void **state)
{
    struct stat below, st;

    assert_int_equal(fdetach(door_path), 0);
    assert_int_equal(stat(door_path, &below), 0);
    assert_int_equal(fattach(door, door_path), 0);
    for (int how = 0; how < N_STATS; how++) {
        errno = 77;
        assert_int_equal(stat_by(how, door_path, &st), 0);
        assert_int_equal(errno, 77);
        assert_int_equal(st.st_mode, 0xD000 | 0640);
        assert_int_equal(st.st_nlink, 1);
        assert_int_equal(st.st_size, 0);
        assert_int_equal(st.st_uid, below.st_uid);
        assert_int_equal(st.st_gid, below.st_gid);
        assert_memory_equal(&st.st_mtim, &below.st_mtim, sizeof st.st_mtim);
        assert_memory_equal(&st.st_ctim, &below.st_ctim, sizeof st.st_ctim);
        assert_int_equal(stat_by(how, plain_path, &st), 0);
        assert_int_equal(errno, 77);
        assert_int_equal(st.st_mode, S_IFREG | 0644);
        assert_int_equal(st.st_size, 5);
        assert_int_equal(stat_by(how, socket_path, &st), 0);
        assert_int_equal(st.st_mode, S_IFSOCK | 0600);
        assert_int_equal(stat_by(how, "/nonexistent/x", &st), -1);
        assert_int_equal(errno, ENOENT);
    }
    assert_int_equal(__xstat(2, plain_path, &st), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(__fxstatat(-1, AT_FDCWD, plain_path, &st, 0), -1);
    assert_int_equal(errno, EINVAL);
}

/* A link to a door is a link to lstat(), the door to stat(). */
static void
test_stat_link(void **state)
{
    char path[128];
    struct stat st;

    snprintf(path, sizeof path, "%s/link", folder);
    assert_int_equal(symlink(door_path, path), 0);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, 0xD000 | 0640);
    int fd = open(path, O_RDONLY);
    assert_true(is_the_door(fd));
    close(fd);
    assert_int_equal(open(path, O_RDONLY | O_NOFOLLOW), -1);
    assert_int_equal(errno, ELOOP);
    unlink(path);
}

static void
test_fstat(void **state)
{
    struct stat st[5];
    struct statx stx;
    int fd = open(plain_path, O_RDONLY);

    memset(st, 0x55, sizeof st);
    errno = 77;
    assert_int_equal(fstat(door, &st[0]), 0);
    assert_int_equal(fstat64(door, (struct stat64 *)&st[1]), 0);
    assert_int_equal(__fxstat(1, door, &st[2]), 0);
    assert_int_equal(__fxstat64(1, door, (struct stat64 *)&st[3]), 0);
    assert_int_equal(fstatat(door, "", &st[4], AT_EMPTY_PATH), 0);
    assert_int_equal(errno, 77);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(st[i].st_mode, 0xD000 | 0777);
        assert_int_equal(st[i].st_uid, 0);
        assert_int_equal(st[i].st_gid, 0);
        assert_int_equal(st[i].st_size, 0);
        assert_int_equal(st[i].st_nlink, 1);
    }
    assert_int_equal(statx(door, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx),
                     0);
    assert_int_equal(stx.stx_mode, 0xD000 | 0777);
    assert_int_equal(fstat(fd, &st[0]), 0);
    assert_int_equal(st[0].st_mode, S_IFREG | 0644);
    close(fd);
    assert_int_equal(fstat(-1, &st[0]), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(fstat(AT_FDCWD, &st[0]), -1);
    assert_int_equal(errno, EBADF);
}

static void
test_statx(void **state)
{
    struct statx stx;

    assert_int_equal(statx(AT_FDCWD, door_path, 0, STATX_BASIC_STATS, &stx), 0);
    assert_int_equal(stx.stx_mode, 0xD000 | 0640);
    assert_int_equal(stx.stx_size, 0);
    assert_int_equal(stx.stx_nlink, 1);
    assert_int_equal(statx(AT_FDCWD, plain_path, 0, STATX_BASIC_STATS, &stx),
                     0);
    assert_int_equal(stx.stx_mode, S_IFREG | 0644);
    assert_int_equal(stx.stx_size, 5);
    assert_int_equal(statx(AT_FDCWD, "/nonexistent/x", 0, STATX_TYPE, &stx),
                     -1);
    assert_int_equal(errno, ENOENT);
}

/* ---- what a program must not lose ---- */

/* Closing any descriptor of a file drops the process's record locks on it. */
static void
test_record_locks(void **state)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int fd = open(plain_path, O_RDWR), status;
    struct stat st;
    struct statx stx;

    assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
    for (int how = 0; how < N_STATS; how++) {
        assert_int_equal(stat_by(how, plain_path, &st), 0);
    }
    assert_int_equal(statx(AT_FDCWD, plain_path, 0, STATX_BASIC_STATS, &stx),
                     0);
    int more = open(plain_path, O_RDWR | O_TRUNC);
    assert_true(more >= 0);
    pid_t child = fork();
    if (child == 0) {
        _exit(fcntl(more, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK ? 0
                                                                         : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(more);
    close(fd);
    write_file(plain_path, "plain");
}

static void
test_vfork_child(void **state)
{
    int before = test_fds(), status;
    struct stat st;

    pid_t child = vfork();
    if (child == 0) {
        int fd = open(door_path, O_RDONLY);
        _exit(fd >= 0 && fstat(fd, &st) == 0 && S_ISDOOR(st.st_mode) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(test_until(test_fds_at_most, &before));
}

static volatile sig_atomic_t in_handler, handled_wrong;

static void
opens_too(int signum)
{
    struct stat st;
    int saved = errno, fd = open(door_path, O_RDONLY);

    in_handler++;
    handled_wrong +=
        fd < 0 || stat(door_path, &st) < 0 || !S_ISDOOR(st.st_mode);
    close(fd);
    errno = saved;
}

/* In a handler, in the middle of the same calls. */
static void
test_signal_handler(void **state)
{
    struct sigaction act = {.sa_handler = opens_too, .sa_flags = SA_RESTART},
                     old;
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    int64_t end = test_now() + TEST_LIMIT_NS;
    struct stat st;

    sigaction(SIGALRM, &act, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    while (in_handler < 200 && test_now() < end) {
        int fd = open(door_path, O_RDONLY);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(stat(door_path, &st), 0);
        assert_true(S_ISDOOR(st.st_mode));
    }
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &old, NULL);
    assert_true(in_handler >= 200);
    assert_int_equal(handled_wrong, 0);
}

static void *
opens_often(void *arg)
{
    for (int i = 0; i < 200; i++) {
        int fd = open(door_path, O_RDONLY);
        if (fd < 0 || !is_the_door(fd)) {
            return (void *)1;
        }
        close(fd);
    }
    return NULL;
}

static void
test_threads_open(void **state)
{
    pthread_t threads[4];
    void *wrong;

    for (int i = 0; i < 4; i++) {
        threads[i] = test_thread(opens_often, NULL);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

/* Errors, not waits. */
static void
test_read(void **state)
{
    char byte;

    assert_int_equal(read(door, &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(lseek(door, 0, SEEK_SET), -1);
    assert_int_equal(errno, ESPIPE);
    assert_int_equal(write(door, "x", 1), 1);
    assert_true(is_the_door(door));
}

static void
test_isastream(void **state)
{
    assert_int_equal(isastream(door), 0);
    errno = 0;
    assert_int_equal(isastream(-1), -1);
    assert_int_equal(errno, EBADF);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_open_plain),
        cmocka_unit_test(test_open_errors),
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_open_path),
        cmocka_unit_test(test_open_foreign_socket),
        cmocka_unit_test(test_false_mark),
        cmocka_unit_test(test_open_no_room),
        cmocka_unit_test(test_stat),
        cmocka_unit_test(test_stat_link),
        cmocka_unit_test(test_fstat),
        cmocka_unit_test(test_statx),
        cmocka_unit_test(test_record_locks),
        cmocka_unit_test(test_vfork_child),
        cmocka_unit_test(test_signal_handler),
        cmocka_unit_test(test_threads_open),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_isastream),
    };

    test_raise_limit();
    return cmocka_run_group_tests_name("door-interpose", tests, make_all,
                                       remove_all);
}
