/* Listening sockets: free, taken, forbidden. */
#include "cohort/listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    struct conf conf;
    struct conf_listen l;
    char url[LISTENERS_URL_MAX];
    char want[64];
    char why[512];
    int fd = -1;
    int near = -1;
    int port;

    make_conf(&conf, &l, "0.0.0.0", 0, false);
    assert_int_equal(listeners_open(&conf, &fd, why, sizeof(why)), 0);
    port = port_of(fd);
    snprintf(want, sizeof(want), "http://127.0.0.1:%d/", port);
    listeners_url(fd, url);
    assert_string_equal(url, want);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(option(fd, SOL_SOCKET, SO_OOBINLINE), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
    assert_int_equal(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);

    make_conf(&conf, &l, "0.0.0.0", port, false);
    assert_int_equal(listeners_open(&conf, &near, why, sizeof(why)),
                     -EADDRINUSE);
    assert_string_equal(why, "c.conf:3:14: cannot listen on ADDRESS: Address "
                             "already in use (another program listens there: "
                             "ss -ltnp shows which)");
    make_conf(&conf, &l, "0.0.0.0", port, true);
    assert_int_equal(listeners_open(&conf, &near, why, sizeof(why)), 0);
    assert_true(port_of(near) > port && port_of(near) <= port + 99);
    close(near);
    close(fd);
}

static void
test_errors(void **state)
{
    struct conf conf;
    struct conf_listen l;
    char why[512];
    int fd = -1;
    int status;
    pid_t pid;

    make_conf(&conf, &l, "192.0.2.1", 8080, false);
    assert_int_equal(listeners_open(&conf, &fd, why, sizeof(why)),
                     -EADDRNOTAVAIL);
    assert_non_null(strstr(why, "no such address on this machine"));

    make_conf(&conf, &l, "127.0.0.1", 80, false);
    pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) {
            _exit(2);
        }
        fd = listeners_open(&conf, &fd, why, sizeof(why));
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
    char why[512];
    int fds[2] = {-1, -1};
    int before = dup(0);

    close(before);
    make_conf(&conf, &two[1], "192.0.2.1", 8080, false);
    make_conf(&conf, &two[0], "127.0.0.1", 0, false);
    conf.listens = two;
    conf.n_listens = 2;
    assert_true(listeners_open(&conf, fds, why, sizeof(why)) < 0);
    assert_int_equal(fds[0], -1);
    assert_int_equal(fds[1], -1);
    fds[0] = dup(0);
    assert_int_equal(fds[0], before);
    close(fds[0]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_all_or_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
