/* fattach() by any holder, over what may be covered, and what the door's
 * process believes of who asks it. */
#include "test-door.h"

#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "door/sys.h"
#include "door/wire.h"

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
make_file(const char *path, mode_t mode, uid_t owner)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);

    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(fchown(fd, owner, (gid_t)-1), 0);
    close(fd);
}

/* A server of another process, and a descriptor for its door. */
static int
serve_elsewhere(struct test_peer *p)
{
    test_peer_start(p, peer_program, -1, "serve", at("server"), "socket");
    assert_int_equal(test_peer_says(p), 'R');
    int d = door_open(at("server"));
    assert_true(d >= 0);
    return d;
}

/* Whose door lies at PATH? Its process; 0: none. */
static uint64_t
whose(const char *path)
{
    char what[] = "p", room[64];
    door_arg_t arg = {.data_ptr = what,
                      .data_size = sizeof what,
                      .rbuf = room,
                      .rsize = sizeof room};
    uint64_t pid = 0;
    int d = door_open(path);

    if (d >= 0 && door_call(d, &arg) == 0 && arg.data_size == sizeof pid) {
        memcpy(&pid, arg.data_ptr, sizeof pid);
    }
    close(d);
    return pid;
}

static void
test_any_holder(void **state)
{
    struct test_peer p;
    int d = serve_elsewhere(&p);

    make_file(at("a"), 0644, geteuid());
    make_file(at("b"), 0644, geteuid());
    assert_int_equal(fattach(d, at("a")), 0);
    assert_int_equal(fattach(d, at("b")), 0);
    assert_int_equal(whose(at("a")), p.pid);
    assert_int_equal(whose(at("b")), p.pid);
    assert_int_equal(fattach(d, at("a")), -1);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(fdetach(at("a")), 0);
    assert_int_equal(whose(at("a")), 0);
    assert_int_equal(whose(at("b")), p.pid);
    /* The name stays when the holder's descriptor goes. */
    close(d);
    assert_int_equal(whose(at("b")), p.pid);
    test_peer_kill(&p);
    assert_int_equal(whose(at("b")), 0);
    unlink(at("a"));
    unlink(at("b"));
    unlink(at("server"));
}

static void
test_dead_door(void **state)
{
    struct test_peer p;
    int d = serve_elsewhere(&p);

    make_file(at("file"), 0644, geteuid());
    test_peer_kill(&p);
    assert_int_equal(fattach(d, at("file")), -1);
    assert_int_equal(errno, EBADF);
    close(d);
    unlink(at("file"));
    unlink(at("server"));
}

/* The checks of the caller's side come first, in the order of the page. */
static void
test_order_of_errors(void **state)
{
    struct test_peer p;
    int d = serve_elsewhere(&p), file = open("/dev/null", O_RDWR);

    assert_int_equal(fattach(-1, NULL), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(fattach(file, NULL), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(fattach(d, NULL), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(fattach(d, folder), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(fattach(d, at("server")), -1);
    assert_int_equal(errno, EBUSY);
    close(file);
    close(d);
    test_peer_kill(&p);
    unlink(at("server"));
}

/* What HELLO_ATTACH answers for FILE, -1: none comes along. */
static int
ask_to_attach(int d, int file)
{
    struct door_hello hello = {.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = DOOR_HELLO_ATTACH};
    struct door_welcome w = {0};
    int pair[2];
    size_t n = 0;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    int fds[2] = {pair[1], file};
    assert_int_equal(door_send(d, &hello, sizeof hello, fds, file < 0 ? 1 : 2),
                     0);
    close(pair[1]);
    assert_int_equal(door_wait_readable(pair[0], TEST_LIMIT_NS), 0);
    int e = door_receive(pair[0], &w, sizeof w, NULL, &n, NULL, 0);
    close(pair[0]);
    return e != 0 ? e : w.error;
}

/* The door's process believes the opened file alone. */
static void
test_proof(void **state)
{
    struct test_peer p;
    int d = serve_elsewhere(&p), ends[2];

    make_file(at("file"), 0644, geteuid());
    make_file(at("gone"), 0644, geteuid());
    const struct {
        int fd, error;
    } table[] = {
        {open(at("file"), O_RDONLY), EACCES},
        {open(at("file"), O_PATH), EACCES},
        {open(folder, O_RDONLY), EACCES},
        {open("/dev/null", O_RDWR), EACCES},
        {open(at("gone"), O_RDWR), ENOENT},
        {open(at("file"), O_WRONLY), 0},
        {open(at("file"), O_RDWR), EBUSY},
    };

    unlink(at("gone"));
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_true(table[i].fd >= 0);
        assert_int_equal(ask_to_attach(d, table[i].fd), table[i].error);
        close(table[i].fd);
    }
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(ask_to_attach(d, ends[1]), EACCES);
    close(ends[0]);
    close(ends[1]);
    /* Without a file there is no answer, but the end. */
    assert_int_equal(ask_to_attach(d, -1), EPIPE);
    assert_int_equal(whose(at("file")), p.pid);
    assert_int_equal(fdetach(at("file")), 0);
    close(d);
    test_peer_kill(&p);
    unlink(at("file"));
    unlink(at("server"));
}

/* Runs BODY in a child as UID, or root if that is 0; its exit status. */
static int
in_child(int (*body)(void), uid_t uid)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        if (uid != 0 && (setgid(uid) != 0 || setuid(uid) != 0)) {
            _exit(254);
        }
        _exit(body());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int held;

static int
attaches_his(void)
{
    return fattach(held, at("his")) == 0 ? 0 : errno;
}

static int
attaches_mine(void)
{
    return fattach(held, at("mine")) == 0 ? 0 : errno;
}

/* Asks for a file that it may write to and does not own. */
static int
asks_for_mine(void)
{
    int file = open(at("mine"), O_WRONLY);

    return file < 0 ? 253 : ask_to_attach(held, file);
}

static void
test_other_users(void **state)
{
    struct test_peer p;

    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(chmod(folder, 0755), 0);
    held = serve_elsewhere(&p);
    make_file(at("his"), 0644, 65534);
    make_file(at("mine"), 0666, 0);
    assert_int_equal(in_child(attaches_his, 65534), 0);
    assert_int_equal(whose(at("his")), p.pid);
    assert_int_equal(in_child(attaches_mine, 65534), EPERM);
    assert_int_equal(in_child(asks_for_mine, 65534), EPERM);
    assert_int_equal(whose(at("mine")), 0);
    close(held);
    test_peer_kill(&p);
    unlink(at("his"));
    unlink(at("mine"));
    unlink(at("server"));
}

static int
attaches_a_mount(void)
{
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(at("other"), at("file"), NULL, MS_BIND, NULL) != 0) {
        return 77;
    }
    return fattach(held, at("file")) == 0 ? 0 : errno;
}

static void
test_mount_point(void **state)
{
    struct test_peer p;

    held = serve_elsewhere(&p);
    make_file(at("file"), 0644, geteuid());
    make_file(at("other"), 0644, geteuid());
    int e = in_child(attaches_a_mount, 0);
    close(held);
    test_peer_kill(&p);
    unlink(at("file"));
    unlink(at("other"));
    unlink(at("server"));
    if (e == 77) {
        skip(); /* not root, or no mounts here */
    }
    assert_int_equal(e, EBUSY);
}

static int
attaches_deep_below(void)
{
    char name[256];

    memset(name, 'd', 250);
    name[250] = 0;
    if (chdir(folder) != 0) {
        return 255;
    }
    for (int i = 0; i < 17; i++) {
        if (mkdir(name, 0755) != 0 || chdir(name) != 0) {
            return 254;
        }
    }
    int fd = open("file", O_CREAT | O_RDWR, 0644);
    int e = fattach(held, "file") == 0 ? 0 : errno;
    close(fd);
    unlink("file");
    for (int i = 0; i < 17; i++) {
        if (chdir("..") != 0 || rmdir(name) != 0) {
            return 253;
        }
    }
    return e;
}

/* A short path, relative to a folder whose own path is too long. */
static void
test_too_deep(void **state)
{
    struct test_peer p;

    held = serve_elsewhere(&p);
    assert_int_equal(in_child(attaches_deep_below, 0), ENAMETOOLONG);
    close(held);
    test_peer_kill(&p);
    unlink(at("server"));
}

static int
make_folder(void **state)
{
    test_folder(folder);
    return 0;
}

static int
remove_folder(void **state)
{
    test_folder_remove(folder);
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_holder),
        cmocka_unit_test(test_dead_door),
        cmocka_unit_test(test_order_of_errors),
        cmocka_unit_test(test_proof),
        cmocka_unit_test(test_other_users),
        cmocka_unit_test(test_mount_point),
        cmocka_unit_test(test_too_deep),
    };

    if (argc < 2) {
        fprintf(stderr, "test-attach needs the path of test-peer\n");
        return 64;
    }
    peer_program = argv[1];
    test_raise_limit();
    return cmocka_run_group_tests_name("door-attach", tests, make_folder,
                                       remove_folder);
}
