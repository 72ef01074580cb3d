/* Names: fattach(), fdetach(), door_attach(), door_open(), each with every
 * errno that it can give. */
#include "test-door.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "door/dial.h"

static const char *peer_program;
static char folder[64];

static const char *
at(const char *name)
{
    static char rooms[4][512];
    static unsigned int next;
    char *room = rooms[next++ % 4];

    snprintf(room, sizeof rooms[0], "%s/%s", folder, name);
    return room;
}

static void
make_file(const char *path, mode_t mode)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);

    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void
which(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
      unsigned int n_desc)
{
    uint64_t out = (uint64_t)(uintptr_t)cookie;

    if (!argp) {
        door_return(NULL, 0, NULL, 0);
    }
    door_return((char *)&out, sizeof out, NULL, 0);
}

/* Who answers at PATH; 0: nobody (errno says why). */
static uint64_t
answers(const char *path)
{
    uint64_t out = 0;
    int d = door_open(path);

    if (d < 0) {
        return 0;
    }
    int e = test_call_word(d, 0, &out);
    close(d);
    errno = e;
    return e == 0 ? out : 0;
}

static int
peer_does(const char *verb, const char *path, const char *uid)
{
    struct test_peer p;

    test_peer_start(&p, peer_program, -1, verb, path, uid);
    return test_peer_end(&p);
}

static void
test_fattach(void **state)
{
    int one = door_create(which, (void *)1, 0);
    int two = door_create(which, (void *)2, 0);

    make_file(at("a"), 0644);
    make_file(at("b"), 0644);
    assert_int_equal(answers(at("a")), 0);
    assert_int_equal(errno, ECONNREFUSED);
    assert_int_equal(fattach(one, at("a")), 0);
    assert_int_equal(answers(at("a")), 1);
    /* EBUSY: once attached, for anybody. */
    assert_int_equal(fattach(two, at("a")), -1);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(fattach(one, at("a")), -1);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(peer_does("fattach", at("a"), "-"), EBUSY);
    assert_int_equal(answers(at("a")), 1);
    /* One door at many paths. */
    assert_int_equal(fattach(one, at("b")), 0);
    assert_int_equal(answers(at("b")), 1);
    assert_int_equal(fdetach(at("b")), 0);
    assert_int_equal(answers(at("b")), 0);
    assert_int_equal(answers(at("a")), 1);
    /* Detached, it is a plain file again; then another may. */
    assert_int_equal(fdetach(at("a")), 0);
    assert_int_equal(fdetach(at("a")), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(fattach(two, at("a")), 0);
    assert_int_equal(answers(at("a")), 2);
    /* By another process. */
    assert_int_equal(peer_does("open", at("a"), "-"), 0);
    assert_int_equal(peer_does("fdetach", at("a"), "-"), 0);
    assert_int_equal(answers(at("a")), 0);
    close(one);
    close(two);
    unlink(at("a"));
    unlink(at("b"));
}

static void
test_fattach_errors(void **state)
{
    static char too_long[300], too_long_path[5000];
    int d = door_create(which, (void *)1, 0);
    int file = open("/dev/null", O_RDWR), pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    memset(too_long, 'n', sizeof too_long - 1);
    for (size_t i = 0; i < sizeof too_long_path - 1; i++) {
        too_long_path[i] = i % 2 ? 'x' : '/';
    }
    make_file(at("file"), 0644);
    assert_int_equal(mkdir(at("inner"), 0755), 0);
    assert_int_equal(symlink(at("loop"), at("loop")), 0);
    assert_int_equal(mkfifo(at("fifo"), 0644), 0);
    struct {
        int fd;
        const char *path;
        int error;
    } table[] = {
        {-1, at("file"), EBADF},
        {900000, at("file"), EBADF},
        {file, at("file"), EINVAL},
        {pair[0], at("file"), EINVAL},
        {d, NULL, ENOENT},
        {d, "", ENOENT},
        {d, "/nonexistent/x", ENOENT},
        {d, too_long, ENAMETOOLONG},
        {d, too_long_path, ENAMETOOLONG},
        {d, "/dev/null/x", ENOTDIR},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        errno = 0;
        assert_int_equal(fattach(table[i].fd, table[i].path), -1);
        assert_int_equal(errno, table[i].error);
    }
    assert_int_equal(fattach(d, at("loop")), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(fattach(d, at("missing")), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(fattach(d, at("inner")), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(fattach(d, at("fifo")), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(fattach(d, at("file/x")), -1);
    assert_int_equal(errno, ENOTDIR);
    close(file);
    close(pair[0]);
    close(pair[1]);
    close(d);
    unlink(at("file"));
    unlink(at("loop"));
    unlink(at("fifo"));
    rmdir(at("inner"));
}

static void
test_fdetach_errors(void **state)
{
    make_file(at("file"), 0644);
    assert_int_equal(mkdir(at("inner"), 0755), 0);
    struct {
        const char *path;
        int error;
    } table[] = {
        {NULL, ENOENT},           {"", ENOENT},
        {"/nonexistent", ENOENT}, {"/dev/null/x", ENOTDIR},
        {"/dev/null", EINVAL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        errno = 0;
        assert_int_equal(fdetach(table[i].path), -1);
        assert_int_equal(errno, table[i].error);
    }
    assert_int_equal(fdetach(at("file")), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(fdetach(at("inner")), -1);
    assert_int_equal(errno, EINVAL);
    unlink(at("file"));
    rmdir(at("inner"));
}

/* Who may: EPERM without ownership, EACCES without write permission. */
static void
test_permissions(void **state)
{
    if (geteuid() != 0) {
        make_file(at("read-only"), 0400);
        int d = door_create(which, (void *)1, 0);
        assert_int_equal(fattach(d, at("read-only")), -1);
        assert_int_equal(errno, EACCES);
        assert_int_equal(fattach(d, "/etc/passwd"), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(fdetach("/etc/passwd"), -1);
        assert_int_equal(errno, EPERM);
        close(d);
        unlink(at("read-only"));
        return;
    }
    const char *other = "65534";
    make_file(at("mine"), 0666);
    make_file(at("his"), 0644);
    make_file(at("read-only"), 0400);
    assert_int_equal(chown(at("his"), 65534, 65534), 0);
    assert_int_equal(chown(at("read-only"), 65534, 65534), 0);
    assert_int_equal(peer_does("fattach", at("mine"), other), EPERM);
    assert_int_equal(peer_does("fattach", at("read-only"), other), EACCES);
    assert_int_equal(peer_does("fattach", at("his"), other), 0);
    int d = door_create(which, (void *)5, 0);
    assert_int_equal(fattach(d, at("mine")), 0);
    assert_int_equal(peer_does("open", at("mine"), other), 0);
    assert_int_equal(peer_does("fdetach", at("mine"), other), EPERM);
    assert_int_equal(answers(at("mine")), 5);
    assert_int_equal(fdetach(at("mine")), 0);
    /* Root may, on anybody's. */
    assert_int_equal(fattach(d, at("read-only")), 0);
    assert_int_equal(answers(at("read-only")), 5);
    assert_int_equal(peer_does("fdetach", at("read-only"), other), 0);
    close(d);
    unlink(at("mine"));
    unlink(at("his"));
    unlink(at("read-only"));
}

/* The attachment goes with its server. */
static void
test_server_dies(void **state)
{
    struct test_peer p;
    int d = door_create(which, (void *)3, 0);

    make_file(at("file"), 0644);
    test_peer_start(&p, peer_program, -1, "serve", at("file"), "file");
    assert_int_equal(test_peer_says(&p), 'R');
    assert_int_equal(peer_does("open", at("file"), "-"), 0);
    int held = door_open(at("file"));
    assert_true(held >= 0);
    assert_int_equal(fattach(d, at("file")), -1);
    assert_int_equal(errno, EBUSY);
    test_peer_kill(&p);
    assert_int_equal(answers(at("file")), 0);
    assert_int_equal(errno, ECONNREFUSED);
    assert_int_equal(door_call(held, NULL), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(fattach(d, at("file")), 0);
    assert_int_equal(answers(at("file")), 3);
    assert_int_equal(fdetach(at("file")), 0);
    close(held);
    close(d);
    unlink(at("file"));
}

/* door_open by another user; its errno, 0 if it came through. */
static int
open_as_stranger(const char *path)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0) {
            _exit(255);
        }
        _exit(door_open(path) >= 0 ? 0 : errno);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* A door over a file is as open as the file: whoever may open it for reading or
 * for writing may call, nobody else. */
static void
test_mode_bits_decide(void **state)
{
    int d = door_create(which, (void *)3, 0);

    if (geteuid() == 0) {
        assert_int_equal(chmod(folder, 0711), 0);
        make_file(at("file"), 0600);
        assert_int_equal(fattach(d, at("file")), 0);
        assert_int_equal(open_as_stranger(at("file")), 13 /* EACCES */);
        assert_int_equal(chmod(at("file"), 0604), 0);
        assert_int_equal(open_as_stranger(at("file")), 0);
        assert_int_equal(chmod(at("file"), 0602), 0);
        assert_int_equal(open_as_stranger(at("file")), 0);
        assert_int_equal(fdetach(at("file")), 0);
    }
    close(d);
    unlink(at("file"));
}

/* A child of the server does not keep the attachment. */
static void
test_child_does_not_keep_it(void **state)
{
    int ends[2], begun[2], d = door_create(which, (void *)3, 0);
    char c = 'b';

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pipe(begun), 0);
    make_file(at("file"), 0644);
    assert_int_equal(fattach(d, at("file")), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        _exit(write(begun[1], &c, 1) == 1 && read(ends[0], &c, 1) == 1 ? 0 : 1);
    }
    /* The copies go when the child begins to run, not before. */
    assert_int_equal(read(begun[0], &c, 1), 1);
    close(begun[0]);
    close(begun[1]);
    assert_int_equal(fdetach(at("file")), 0);
    assert_int_equal(fattach(d, at("file")), 0);
    assert_int_equal(fdetach(at("file")), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ends[0]);
    close(ends[1]);
    close(d);
    unlink(at("file"));
}

/* Unlinked, the path is free; a new file there is no door. */
static void
test_unlink(void **state)
{
    int d = door_create(which, (void *)4, 0);

    make_file(at("file"), 0644);
    assert_int_equal(fattach(d, at("file")), 0);
    assert_int_equal(unlink(at("file")), 0);
    assert_int_equal(answers(at("file")), 0);
    assert_int_equal(errno, ENOENT);
    for (int i = 0; i < 20; i++) {
        make_file(at("file"), 0644);
        assert_int_equal(answers(at("file")), 0);
        assert_int_equal(errno, ECONNREFUSED);
        unlink(at("file"));
    }
    close(d);
}

/* ---- sockets ---- */

static void
test_door_attach(void **state)
{
    static const mode_t modes[] = {0600, 0666, 0622, 0700, 0000};
    int d = door_create(which, (void *)6, 0);
    struct stat st;

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(door_attach(d, at("door"), modes[i]), 0);
        assert_int_equal(stat(at("door"), &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 07777, modes[i]);
        if (geteuid() == 0) {
            assert_int_equal(answers(at("door")), 6);
            assert_int_equal(peer_does("open", at("door"), "65534"),
                             modes[i] & 2 ? 0 : EACCES);
        }
        assert_int_equal(unlink(at("door")), 0);
        assert_int_equal(answers(at("door")), 0);
        assert_int_equal(errno, ENOENT);
    }
    close(d);
}

static void
test_door_attach_errors(void **state)
{
    static char too_long[300];
    int d = door_create(which, (void *)6, 0);
    int file = open("/dev/null", O_RDWR);

    memset(too_long, 'n', sizeof too_long - 1);
    make_file(at("file"), 0644);
    assert_int_equal(door_attach(d, at("file"), 0600), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(door_attach(d, at("door"), 0600), 0);
    assert_int_equal(door_attach(d, at("door"), 0600), -1);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(answers(at("door")), 6);
    assert_int_equal(fattach(d, at("door")), -1);
    assert_int_equal(errno, EBUSY);
    struct {
        int fd;
        const char *path;
        int error;
    } table[] = {
        {-1, "x", EBADF},
        {file, "x", EBADF},
        {d, too_long, ENAMETOOLONG},
        {d, "/nonexistent/x", ENOENT},
        {d, "/dev/null/x", ENOTDIR},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        errno = 0;
        assert_int_equal(door_attach(table[i].fd, table[i].path, 0600), -1);
        assert_int_equal(errno, table[i].error);
    }
    /* What failed left nothing behind. */
    assert_int_equal(test_count_entries(folder), 2);
    assert_int_equal(fdetach(at("door")), 0);
    close(file);
    close(d);
    unlink(at("file"));
}

static void
test_door_open_errors(void **state)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int stranger = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    make_file(at("file"), 0644);
    assert_int_equal(mkdir(at("inner"), 0755), 0);
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s/socket", folder);
    assert_int_equal(bind(stranger, (struct sockaddr *)&sun, sizeof sun), 0);
    struct {
        const char *path;
        int error;
    } table[] = {
        {"/nonexistent", ENOENT},
        {"/dev/null/x", ENOTDIR},
        {"/dev/null", EINVAL},
        {"", ENOENT},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        errno = 0;
        assert_int_equal(door_open(table[i].path), -1);
        assert_int_equal(errno, table[i].error);
    }
    assert_int_equal(door_open(at("file")), -1);
    assert_int_equal(errno, ECONNREFUSED);
    assert_int_equal(door_open(at("inner")), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(door_open(at("socket")), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(stranger);
    unlink(at("socket"));
    unlink(at("file"));
    rmdir(at("inner"));
}

/* ---- a path that changes while it is dialled ---- */

struct swap {
    char door[512], link[512];
    _Atomic bool stop;
};

static void *
swap_for_ever(void *arg)
{
    struct swap *s = arg;

    while (!atomic_load(&s->stop)) {
        renameat2(AT_FDCWD, s->door, AT_FDCWD, s->link, RENAME_EXCHANGE);
    }
    return NULL;
}

/* The descriptor that the caller of FD shows; -1: nothing came. */
static int
take_proof(int fd)
{
    char bytes[256];
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } u;
    struct iovec iov = {bytes, sizeof bytes};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = u.room,
                         .msg_controllen = sizeof u.room};
    int shown = -1;

    if (recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0 &&
        CMSG_FIRSTHDR(&msg) != NULL) {
        memcpy(&shown, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof shown);
    }
    return shown;
}

/* A socket that says it serves the file of ST. */
static int
listen_for_file(const struct stat *st)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    int n = snprintf(
        sun.sun_path + 1, sizeof sun.sun_path - 1, "cardea.attach/1/%llx:%llx",
        (unsigned long long)st->st_dev, (unsigned long long)st->st_ino);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1);

    assert_int_equal(bind(fd, (struct sockaddr *)&sun, len + (socklen_t)n), 0);
    assert_int_equal(listen(fd, 1024), 0);
    return fd;
}

/* Its owner exchanges a file's door with a link to another's file without end:
 * who dials shows the file that was judged or none, never the other. */
static void
test_only_what_was_judged_is_shown(void **state)
{
    static struct swap s;
    struct stat door, seen;
    pthread_t thread;
    int n_shown = 0, n_others = 0;

    snprintf(s.door, sizeof s.door, "%s", at("door"));
    snprintf(s.link, sizeof s.link, "%s", at("link"));
    make_file(s.door, 0644);
    make_file(at("secret"), 0600);
    assert_int_equal(symlink(at("secret"), s.link), 0);
    assert_int_equal(stat(s.door, &door), 0);
    int listener = listen_for_file(&door);
    assert_int_equal(pthread_create(&thread, NULL, swap_for_ever, &s), 0);
    int64_t end = test_now() + TEST_LIMIT_NS;
    for (int i = 0; (i < 20000 || n_shown < 100) && test_now() < end; i++) {
        int fd = door_dial(at("door"));
        int there = accept(listener, NULL, NULL);
        int shown = there >= 0 ? take_proof(there) : -1;
        if (shown >= 0) {
            assert_int_equal(fstat(shown, &seen), 0);
            n_shown++;
            n_others += seen.st_ino != door.st_ino;
            close(shown);
        }
        if (there >= 0) {
            close(there);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
    assert_true(n_shown >= 100);
    assert_int_equal(n_others, 0);
    close(listener);
    unlink(s.door);
    unlink(s.link);
    unlink(at("secret"));
}

/* A door in a folder that another user writes to is in that folder. */
static void
test_dial_in(void **state)
{
    int d = door_create(which, (void *)8, 0);
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(mkdir(at("mine"), 0755), 0);
    assert_int_equal(mkdir(at("yours"), 0755), 0);
    make_file(at("mine/file"), 0644);
    assert_int_equal(fattach(d, at("mine/file")), 0);
    assert_int_equal(door_attach(d, at("yours/door"), 0600), 0);
    assert_int_equal(symlink("../yours/door", at("mine/link")), 0);
    assert_int_equal(symlink("yours", at("folder-link")), 0);
    assert_int_equal(mkfifo(at("mine/fifo"), 0666), 0);
    struct {
        const char *path;
        int error; /* 0: it is reached */
    } table[] = {
        {"yours/door", 0},        {"mine/file", 0},
        {"mine/link", ELOOP},     {"folder-link/door", ELOOP},
        {"mine/../../x", EXDEV},  {"/dev/null", EXDEV},
        {"mine/fifo", EINVAL},    {"mine", EINVAL},
        {"mine/nothing", ENOENT},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        errno = 0;
        int fd = door_dial_in(folder_fd, table[i].path);
        assert_int_equal(fd < 0 ? errno : 0, table[i].error);
        if (fd >= 0) {
            close(fd);
        }
    }
    /* Who asks for a path of its own may lay links to doors. */
    assert_int_equal(answers(at("mine/link")), 8);
    /* Of /proc nothing is opened. */
    assert_int_equal(door_dial("/proc/self/environ"), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(fdetach(at("mine/file")), 0);
    close(folder_fd);
    close(d);
    unlink(at("mine/file"));
    unlink(at("mine/link"));
    unlink(at("mine/fifo"));
    unlink(at("yours/door"));
    unlink(at("folder-link"));
    rmdir(at("mine"));
    rmdir(at("yours"));
}

/* In the child, as another user: 300 connections to the door at PATH that say
 * nothing; a byte to BEGUN_FD when they are made. Exits with 0 if 256 stayed,
 * and these for 4 to 15 s. */
static void __attribute__((noreturn)) be_silent(const char *path, int begun_fd)
{
    static struct pollfd all[300];
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int64_t begun = test_now();
    int n_closed = 0, n_early = 0;

    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", path);
    if (setuid(65534) < 0) {
        _exit(1);
    }
    for (int i = 0; i < 300; i++) {
        all[i].fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        if (connect(all[i].fd, (struct sockaddr *)&sun, sizeof sun) < 0) {
            _exit(2);
        }
    }
    if (write(begun_fd, "b", 1) != 1) {
        _exit(5);
    }
    while (n_closed < 300) {
        if (poll(all, 300, 15000) <= 0) {
            _exit(3); /* they stay */
        }
        for (int i = 0; i < 300; i++) {
            if (all[i].revents & POLLHUP) {
                close(all[i].fd);
                all[i].fd = -1;
                n_closed++;
            }
        }
        /* The 44 over the bound go at once, the others in their time. */
        int64_t ms = (test_now() - begun) / 1000000;
        n_early = ms < 4000 ? n_closed : n_early;
    }
    _exit(n_early == 44 ? 0 : 4);
}

/* Another user's silent connections do not fill the server's descriptors, and
 * ours may be silent as long as we like. */
static void
test_silent_strangers(void **state)
{
    int d = door_create(which, (void *)9, 0), status, begun[2];
    struct pollfd ours;
    char c;

    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(door_attach(d, at("door"), 0666), 0);
    ours = (struct pollfd){.fd = door_dial(at("door"))};
    assert_true(ours.fd >= 0);
    assert_int_equal(pipe(begun), 0);
    pid_t pid = fork();
    if (pid == 0) {
        be_silent(at("door"), begun[1]);
    }
    close(begun[1]);
    assert_int_equal(read(begun[0], &c, 1), 1);
    close(begun[0]);
    int64_t asked = test_now();
    assert_int_equal(answers(at("door")), 9);
    assert_true(test_now() - asked < 2000000000);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(poll(&ours, 1, 0), 0);
    assert_int_equal(peer_does("open", at("door"), "65534"), 0);
    close(ours.fd);
    close(d);
    unlink(at("door"));
}

/* Opened descriptors go on after the name has gone. */
static void
test_open_outlives_the_name(void **state)
{
    int d = door_create(which, (void *)8, 0);
    uint64_t out = 0;

    make_file(at("file"), 0644);
    assert_int_equal(fattach(d, at("file")), 0);
    assert_int_equal(door_attach(d, at("door"), 0600), 0);
    int by_file = door_open(at("file")), by_door = door_open(at("door"));
    assert_int_equal(fdetach(at("file")), 0);
    assert_int_equal(fdetach(at("door")), 0);
    assert_int_equal(test_call_word(by_file, 0, &out), 0);
    assert_int_equal(out, 8);
    out = 0;
    assert_int_equal(test_call_word(by_door, 0, &out), 0);
    assert_int_equal(out, 8);
    close(by_file);
    close(by_door);
    close(d);
    unlink(at("file"));
}

static int
setup(void **state)
{
    test_folder(folder);
    return 0;
}

static int
teardown(void **state)
{
    test_folder_remove(folder);
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fattach),
        cmocka_unit_test(test_fattach_errors),
        cmocka_unit_test(test_fdetach_errors),
        cmocka_unit_test(test_permissions),
        cmocka_unit_test(test_server_dies),
        cmocka_unit_test(test_mode_bits_decide),
        cmocka_unit_test(test_child_does_not_keep_it),
        cmocka_unit_test(test_unlink),
        cmocka_unit_test(test_door_attach),
        cmocka_unit_test(test_door_attach_errors),
        cmocka_unit_test(test_door_open_errors),
        cmocka_unit_test(test_only_what_was_judged_is_shown),
        cmocka_unit_test(test_dial_in),
        cmocka_unit_test(test_silent_strangers),
        cmocka_unit_test(test_open_outlives_the_name),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s TEST-PEER\n", argv[0]);
        return 64;
    }
    peer_program = argv[1];
    return cmocka_run_group_tests(tests, setup, teardown);
}
