/* One listening socket an address, shared by all workers (a socket a worker, as
 * SO_REUSEPORT gives it, resets the connections queued for a worker that dies).
 * SO_OOBINLINE and TCP_NODELAY are set here because accepted sockets inherit
 * them: one system call less for every connection. */
#include "cohort/listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "conf/conf.h"

#define BACKLOG    4096 /* the kernel takes the least of it and somaxconn */
#define PORT_TRIES 100

static int
port_of(const struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET) {
        return ntohs(((const struct sockaddr_in *)addr)->sin_port);
    }
    if (addr->ss_family == AF_INET6) {
        return ntohs(((const struct sockaddr_in6 *)addr)->sin6_port);
    }
    return 0;
}

static void
set_port(struct sockaddr_storage *addr, int port)
{
    if (addr->ss_family == AF_INET) {
        ((struct sockaddr_in *)addr)->sin_port = htons((uint16_t)port);
    } else if (addr->ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)addr)->sin6_port = htons((uint16_t)port);
    }
}

static int
set_options(int fd, int family)
{
    static const struct {
        int level, name;
        bool only6;
        int value;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR, false, 1},
        {SOL_SOCKET, SO_OOBINLINE, false, 1},
        {IPPROTO_TCP, TCP_NODELAY, false, 1},
        /* [::] is every address, those of IPv4 too. */
        {IPPROTO_IPV6, IPV6_V6ONLY, true, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (options[i].only6 && family != AF_INET6) {
            continue;
        }
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                       sizeof(options[i].value)) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* A socket file that nobody listens on any more is in the way of bind. */
static void
remove_dead(const struct sockaddr_storage *addr, socklen_t len)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)addr;
    CLEAN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct stat st;

    if (fd >= 0 && un->sun_path[0] == '/' && lstat(un->sun_path, &st) == 0 &&
        S_ISSOCK(st.st_mode) &&
        connect(fd, (const struct sockaddr *)addr, len) < 0 &&
        errno == ECONNREFUSED) {
        unlink(un->sun_path);
    }
}

/* The socket, or a negative errno. */
static int
open_one(const struct sockaddr_storage *addr, socklen_t len)
{
    CLEAN_FD int fd =
        socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int out;
    int rc;

    if (fd < 0) {
        return -errno;
    }
    if (addr->ss_family == AF_UNIX) {
        remove_dead(addr, len);
    } else {
        rc = set_options(fd, addr->ss_family);
        if (rc < 0) {
            return rc;
        }
    }
    if (bind(fd, (const struct sockaddr *)addr, len) < 0 ||
        listen(fd, BACKLOG) < 0) {
        return -errno;
    }
    out = fd;
    fd = -1;
    return out;
}

/* Where the kernel has no IPv6, every address is every one of IPv4. */
static int
open_any(const struct sockaddr_storage *addr)
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
    struct sockaddr_storage any4 = {.ss_family = AF_INET};

    if (addr->ss_family != AF_INET6 ||
        !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr)) {
        return -EAFNOSUPPORT;
    }
    set_port(&any4, port_of(addr));
    return open_one(&any4, sizeof(struct sockaddr_in));
}

static int
open_near(const struct conf_listen *l)
{
    struct sockaddr_storage addr = l->addr;
    int first = port_of(&addr);
    int fd = open_one(&addr, l->addr_len);

    if (fd == -EAFNOSUPPORT) {
        return open_any(&addr);
    }
    if (!l->is_default_port || first == 0) {
        return fd;
    }
    for (int i = 1; fd == -EADDRINUSE && i < PORT_TRIES && first + i <= 65535;
         i++) {
        set_port(&addr, first + i);
        fd = open_one(&addr, l->addr_len);
    }
    return fd;
}

static void
explain(const struct conf *conf, const struct conf_listen *l, int error,
        char *why, size_t why_size)
{
    const char *mend = "";

    if (error == EACCES && port_of(&l->addr) > 0 && port_of(&l->addr) < 1024) {
        mend = " (a port below 1024: use one above 1023, or give the program "
               "CAP_NET_BIND_SERVICE, or set "
               "sysctl net.ipv4.ip_unprivileged_port_start)";
    } else if (error == EADDRINUSE) {
        mend = " (another program listens there: ss -ltnp shows which)";
    } else if (error == EADDRNOTAVAIL) {
        mend = " (no such address on this machine: ip addr shows them)";
    }
    snprintf(why, why_size, "%s:%d:%d: cannot listen on %s: %s%s",
             conf_where_file(conf, l->where), l->where.line, l->where.column,
             l->text, strerrordesc_np(error), mend);
}

int
listeners_open(const struct conf *conf, int *fds, char *why, size_t why_size)
{
    for (size_t i = 0; i < conf->n_listens; i++) {
        int fd = open_near(&conf->listens[i]);

        if (fd < 0) {
            explain(conf, &conf->listens[i], -fd, why, why_size);
            while (i > 0) {
                close(fds[--i]);
                fds[i] = -1;
            }
            return fd;
        }
        fds[i] = fd;
    }
    return 0;
}

void
listeners_url(int fd, char url[LISTENERS_URL_MAX])
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    char text[INET6_ADDRSTRLEN];

    url[0] = '\0';
    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        return;
    }
    if (addr.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr;

        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        snprintf(url, LISTENERS_URL_MAX, "http://%s:%d/",
                 in->sin_addr.s_addr == INADDR_ANY ? "127.0.0.1" : text,
                 port_of(&addr));
    } else if (addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&addr;

        inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof(text));
        if (IN6_IS_ADDR_UNSPECIFIED(&in->sin6_addr)) {
            snprintf(url, LISTENERS_URL_MAX, "http://localhost:%d/",
                     port_of(&addr));
            return;
        }
        snprintf(url, LISTENERS_URL_MAX, "http://[%s]:%d/", text,
                 port_of(&addr));
    }
}
