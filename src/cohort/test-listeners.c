/* Listening sockets: free, taken, forbidden. */
#include "cohort/listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "conf/conf.h"

static void
make_conf(struct conf *conf, struct conf_listen *l, const char *ip, int port,
          bool any)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&l->addr;
    static char text[] = "ADDRESS";
    static char file[] = "c.conf";

    memset(conf, 0, sizeof(*conf));
    memset(l, 0, sizeof(*l));
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, ip, &in->sin_addr);
    l->addr_len = sizeof(*in);
    l->is_default_port = any;
    l->text = text;
    l->where.line = 3;
    l->where.column = 14;
    conf->file = file;
    conf->listens = l;
    conf->n_listens = 1;
}

static int
port_of(int fd)
{
    struct sockaddr_in in;
    socklen_t len = sizeof(in);

    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    return ntohs(in.sin_port);
}

static int
option(int fd, int level, int name)
{
    int value = 0;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void
test_open(void **state)
{
    struct listeners_file files[1];
    struct conf conf;
    struct conf_listen l;
    char url[LISTENERS_URL_MAX];
    char want[64];
    char why[512];
    int fd = -1;
    int near = -1;
    int port;

    make_conf(&conf, &l, "0.0.0.0", 0, false);
    assert_int_equal(listeners_open(&conf, &fd, files, why, sizeof(why)), 0);
    port = port_of(fd);
    snprintf(want, sizeof(want), "http://127.0.0.1:%d/", port);
    listeners_url(&l, fd, url);
    assert_string_equal(url, want);
    assert_int_equal(files[0].ino, 0);
    l.protocol = CONF_TCP_CALL;
    snprintf(want, sizeof(want), "tcp://127.0.0.1:%d", port);
    listeners_url(&l, fd, url);
    assert_string_equal(url, want);
    l.protocol = CONF_HTTP;
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(option(fd, SOL_SOCKET, SO_OOBINLINE), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
    assert_int_equal(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);

    make_conf(&conf, &l, "0.0.0.0", port, false);
    assert_int_equal(listeners_open(&conf, &near, files, why, sizeof(why)),
                     -EADDRINUSE);
    assert_string_equal(why, "c.conf:3:14: cannot listen on ADDRESS: Address "
                             "already in use (another program listens there: "
                             "ss -ltnp shows which)");
    make_conf(&conf, &l, "0.0.0.0", port, true);
    assert_int_equal(listeners_open(&conf, &near, files, why, sizeof(why)), 0);
    assert_true(port_of(near) > port && port_of(near) <= port + 99);
    close(near);
    close(fd);
}

static int held; /* by this process itself, until the alarm */

static void
let_go(int signal)
{
    close(held);
}

/* Another start waits for who is about to end, and not for ever. */
static void
test_open_soon(void **state)
{
    const struct itimerval in_50_ms = {.it_value = {0, 50000}};
    struct listeners_file files[1];
    struct conf conf;
    struct conf_listen l;
    char why[512] = "";
    int fd = -1;
    int port;

    make_conf(&conf, &l, "127.0.0.1", 0, false);
    assert_int_equal(listeners_open_soon(&conf, &held, files, why, sizeof(why)),
                     0);
    port = port_of(held);
    make_conf(&conf, &l, "127.0.0.1", port, false);
    assert_int_equal(listeners_open_soon(&conf, &fd, files, why, sizeof(why)),
                     -EADDRINUSE);
    assert_string_equal(why, "c.conf:3:14: cannot listen on ADDRESS: Address "
                             "already in use (another program listens there: "
                             "ss -ltnp shows which)");
    signal(SIGALRM, let_go);
    setitimer(ITIMER_REAL, &in_50_ms, NULL);
    assert_int_equal(listeners_open_soon(&conf, &fd, files, why, sizeof(why)),
                     0);
    assert_int_equal(port_of(fd), port);
    close(fd);
}

static void
test_errors(void **state)
{
    struct listeners_file files[1];
    struct conf conf;
    struct conf_listen l;
    char why[512];
    int fd = -1;
    int status;
    pid_t pid;

    make_conf(&conf, &l, "192.0.2.1", 8080, false);
    assert_int_equal(listeners_open(&conf, &fd, files, why, sizeof(why)),
                     -EADDRNOTAVAIL);
    assert_non_null(strstr(why, "no such address on this machine"));

    make_conf(&conf, &l, "127.0.0.1", 80, false);
    pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) {
            _exit(2);
        }
        fd = listeners_open(&conf, &fd, files, why, sizeof(why));
        _exit(fd == -EACCES && strstr(why, "above 1023") != NULL &&
                      strstr(why, "CAP_NET_BIND_SERVICE") != NULL &&
                      strstr(why, "net.ipv4.ip_unprivileged_port_start") != NULL
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (access("/proc/sys/net/ipv4/ip_unprivileged_port_start", R_OK) == 0) {
        FILE *f = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
        int first = 0;

        assert_int_equal(fscanf(f, "%d", &first), 1);
        fclose(f);
        if (first <= 80) {
            skip(); /* this system lets anyone have port 80 */
        }
    }
    assert_int_equal(status, 0);
}

/* One of several fails: the others are closed again. */
static void
test_all_or_none(void **state)
{
    struct conf conf;
    struct conf_listen two[2];
    struct listeners_file files[2];
    char why[512];
    int fds[2] = {-1, -1};
    int before = dup(0);

    close(before);
    make_conf(&conf, &two[1], "192.0.2.1", 8080, false);
    make_conf(&conf, &two[0], "127.0.0.1", 0, false);
    conf.listens = two;
    conf.n_listens = 2;
    assert_true(listeners_open(&conf, fds, files, why, sizeof(why)) < 0);
    assert_int_equal(fds[0], -1);
    assert_int_equal(fds[1], -1);
    fds[0] = dup(0);
    assert_int_equal(fds[0], before);
    close(fds[0]);
}

/* --- Unix sockets ------------------------------------------------------ */

struct unix_case {
    struct conf conf;
    struct conf_listen l;
    struct listeners_file file;
    char folder[32], path[64], why[512];
};

static void
unix_set_up(struct unix_case *u, mode_t mode)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&u->l.addr;

    make_conf(&u->conf, &u->l, "127.0.0.1", 0, false);
    memset(&u->l.addr, 0, sizeof(u->l.addr));
    snprintf(u->folder, sizeof(u->folder), "/tmp/listeners-XXXXXX");
    assert_non_null(mkdtemp(u->folder));
    snprintf(u->path, sizeof(u->path), "%s/s", u->folder);
    un->sun_family = AF_UNIX;
    snprintf(un->sun_path, sizeof(un->sun_path), "%s", u->path);
    u->l.addr_len = sizeof(*un);
    u->l.mode = mode;
    u->why[0] = '\0';
}

static int
unix_open(struct unix_case *u, int *fd)
{
    return listeners_open(&u->conf, fd, &u->file, u->why, sizeof(u->why));
}

static void
unix_tear_down(struct unix_case *u)
{
    unlink(u->path);
    assert_int_equal(rmdir(u->folder), 0);
}

static int
unix_connect(const struct unix_case *u)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&u->l.addr, u->l.addr_len) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

static void
test_unix(void **state)
{
    static const mode_t modes[] = {0600, 0660, 0666, 0222, 0777};
    char url[LISTENERS_URL_MAX];
    char want[128];
    struct unix_case u;
    struct stat st;
    mode_t mask;
    int fd = -1;

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        unix_set_up(&u, modes[i]);
        mask = umask(0077); /* of whoever starts it: of no influence */
        assert_int_equal(unix_open(&u, &fd), 0);
        assert_int_equal(umask(mask), 0077); /* and as it was again */
        assert_int_equal(lstat(u.path, &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 07777, modes[i]);
        assert_true(u.file.ino == st.st_ino && u.file.dev == st.st_dev);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
        snprintf(want, sizeof(want), "unix:%s", u.path);
        listeners_url(&u.l, fd, url);
        assert_string_equal(url, want);
        close(unix_connect(&u));
        listeners_remove(&u.conf, &u.file);
        assert_int_equal(lstat(u.path, &st), -1);
        close(fd);
        unix_tear_down(&u);
    }
}

/* A dead file gives way; a live one, or a file that is no socket, does not. */
static void
test_unix_in_the_way(void **state)
{
    struct unix_case u;
    struct stat st;
    int fd = -1;
    int other = -1;
    int client;
    char want[256];

    unix_set_up(&u, 0600);
    assert_int_equal(unix_open(&u, &fd), 0);
    assert_int_equal(unix_open(&u, &other), -EADDRINUSE);
    snprintf(want, sizeof(want),
             "c.conf:3:14: cannot listen on ADDRESS: Address already in use "
             "(another program listens there: ss -lxp shows which)");
    assert_string_equal(u.why, want);
    client = unix_connect(&u); /* and the first one goes on */
    assert_true(client >= 0);
    close(client);
    close(fd); /* as if killed: the file stays */
    assert_int_equal(unix_connect(&u), -ECONNREFUSED);
    assert_int_equal(unix_open(&u, &fd), 0);
    client = unix_connect(&u);
    assert_true(client >= 0);
    close(client);
    close(fd);
    unlink(u.path);

    fd = open(u.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    assert_int_equal(unix_open(&u, &fd), -EEXIST);
    assert_non_null(strstr(u.why, "a file that is no socket is in its place"));
    assert_int_equal(lstat(u.path, &st), 0);
    unlink(u.path);

    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0); /* as doors have */
    assert_int_equal(bind(fd, (struct sockaddr *)&u.l.addr, u.l.addr_len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(unix_open(&u, &other), -EADDRINUSE);
    assert_int_equal(lstat(u.path, &st), 0);
    close(fd);
    unix_tear_down(&u);
}

/* At the end only what is still ours is removed. */
static void
test_unix_removed_if_ours(void **state)
{
    struct unix_case u;
    struct stat st;
    int fd = -1;

    unix_set_up(&u, 0600);
    assert_int_equal(unix_open(&u, &fd), 0);
    /* Somebody has put another socket there. */
    char aside[80];
    snprintf(aside, sizeof(aside), "%s.old", u.path);
    assert_int_equal(rename(u.path, aside), 0);
    int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(other, (struct sockaddr *)&u.l.addr, u.l.addr_len),
                     0);
    listeners_remove(&u.conf, &u.file);
    assert_int_equal(lstat(u.path, &st), 0);
    close(other);
    close(fd);
    unlink(aside);
    unix_tear_down(&u);
}

static void
test_unix_errors(void **state)
{
    struct sockaddr_un *un;
    struct unix_case u;
    int fd = -1;

    unix_set_up(&u, 0600);
    un = (struct sockaddr_un *)&u.l.addr;
    snprintf(un->sun_path, sizeof(un->sun_path), "%s/none/s", u.folder);
    assert_int_equal(unix_open(&u, &fd), -ENOENT);
    assert_non_null(strstr(u.why, "its folder must be made first"));
    memcpy(un->sun_path, "\0abstract", 9);
    assert_int_equal(unix_open(&u, &fd), -EINVAL);
    assert_non_null(strstr(u.why, "must begin with a '/'"));
    assert_int_equal(fd, -1);
    unix_tear_down(&u);
}

/* One that is opened goes again when a later one fails, its file too. */
static void
test_unix_all_or_none(void **state)
{
    struct listeners_file files[2];
    struct conf_listen two[2];
    struct conf conf;
    struct unix_case u;
    struct stat st;
    char why[512];
    int fds[2] = {-1, -1};

    unix_set_up(&u, 0600);
    make_conf(&conf, &two[1], "192.0.2.1", 8080, false);
    two[0] = u.l;
    conf.listens = two;
    conf.n_listens = 2;
    assert_true(listeners_open(&conf, fds, files, why, sizeof(why)) < 0);
    assert_int_equal(fds[0], -1);
    assert_int_equal(files[0].ino, 0);
    assert_int_equal(lstat(u.path, &st), -1);
    unix_tear_down(&u);
}

/* Tries to listen when the pipe GO ends, tells on TRIED, and holds what it got
 * until the pipe DONE ends. 10: it listens, and is reached; 0: it was told that
 * another does. */
static int
contend(struct unix_case *u, int go, int tried, int done)
{
    char byte = 'x';
    int fd = -1;
    int rc;
    int client = 0;

    if (read(go, &byte, 1) != 0) {
        return 3;
    }
    rc = unix_open(u, &fd);
    if (rc == 0) {
        client = unix_connect(u);
    }
    if (write(tried, &byte, 1) != 1 || read(done, &byte, 1) != 0) {
        return 4;
    }
    return rc == 0 && client >= 0 ? 10 : rc == -EADDRINUSE ? 0 : 5;
}

/* Several at once over a dead file: one gets it, the others are told. */
static void
test_unix_race(void **state)
{
    struct unix_case u;
    int fd = -1;

    unix_set_up(&u, 0600);
    for (int round = 0; round < 50; round++) {
        int go[2], tried[2], done[2];
        pid_t pids[4];
        char bytes[4];
        int sum = 0;

        assert_int_equal(unix_open(&u, &fd), 0);
        close(fd); /* dead now */
        assert_int_equal(pipe(go), 0);
        assert_int_equal(pipe(tried), 0);
        assert_int_equal(pipe(done), 0);
        for (int i = 0; i < 4; i++) {
            pids[i] = fork();
            if (pids[i] == 0) {
                close(go[1]);
                close(done[1]);
                _exit(contend(&u, go[0], tried[1], done[0]));
            }
        }
        close(go[1]);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(read(tried[0], bytes, 1), 1);
        }
        close(done[1]);
        for (int i = 0; i < 4; i++) {
            int status;

            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFEXITED(status));
            sum += WEXITSTATUS(status);
        }
        assert_int_equal(sum, 10);
        close(go[0]);
        close(tried[0]);
        close(tried[1]);
        close(done[0]);
    }
    unix_tear_down(&u);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_open_soon),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_all_or_none),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_unix_in_the_way),
        cmocka_unit_test(test_unix_removed_if_ours),
        cmocka_unit_test(test_unix_errors),
        cmocka_unit_test(test_unix_all_or_none),
        cmocka_unit_test(test_unix_race),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
