/* One listening socket an address, shared by all workers (a socket a worker, as
 * SO_REUSEPORT gives it, resets the connections queued for a worker that dies).
 * SO_OOBINLINE and TCP_NODELAY are set here because accepted sockets inherit
 * them: one system call less for every connection.
 *
 * A Unix socket is a file as well. It has its mode from the first moment; what
 * is in its place is removed only if it is a socket that nobody listens on; and
 * at the end it is removed only if it is still the one that we made. */
#include "cohort/listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/rights.h"
#include "base/util.h"
#include "conf/conf.h"

#define BACKLOG    4096 /* the kernel takes the least of it and somaxconn */
#define PORT_TRIES 100
#define LOCK_TRIES 100 /* of 10 ms */
#define OPEN_TRIES 100 /* of 10 ms */

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
    rc = set_options(fd, addr->ss_family);
    if (rc < 0) {
        return rc;
    }
    if (bind(fd, (const struct sockaddr *)addr, len) < 0 ||
        listen(fd, BACKLOG) < 0) {
        return -errno;
    }
    out = fd;
    fd = -1;
    return out;
}

/* --- Unix sockets ------------------------------------------------------ */

/* Holds off every other Cardea that wants a socket in the folder of PATH, until
 * the descriptor is closed: between bind and listen ours looks dead. Anybody
 * may hold such a lock, so it is not waited for long. -1: there is none. */
static int
lock_folder(const char *path)
{
    static const struct timespec wait = {0, 10 * 1000 * 1000};
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)] = "/";
    const char *slash = strrchr(path, '/');
    int fd;

    if (slash > path) {
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = '\0';
    }
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
            break;
        }
        nanosleep(&wait, NULL);
    }
    return fd;
}

/* Makes room at the socket's path: a file that nobody listens on any more is
 * removed, and nothing else is. 0 or a negative errno. */
static int
remove_dead(const struct sockaddr_un *un, socklen_t len)
{
    CLEAN_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct stat st;

    if (fd < 0) {
        return -errno;
    }
    if (lstat(un->sun_path, &st) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return -EEXIST;
    }
    if (connect(fd, (const struct sockaddr *)un, len) == 0) {
        return -EADDRINUSE;
    }
    if (errno == EACCES || errno == EPERM) {
        return -errno; /* who knows? */
    }
    if (errno != ECONNREFUSED) {
        return -EADDRINUSE; /* its queue is full, or it is no stream */
    }
    return unlink(un->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* The file has its mode from its first moment: bind takes it from the umask,
 * which is the process's, but nobody else runs here yet. A chmod after the bind
 * would leave an instant in which anybody may connect, and might follow a path
 * that somebody has changed. */
static int
bind_with_mode(int fd, const struct sockaddr_un *un, socklen_t len, mode_t mode)
{
    mode_t before = umask(0777 & ~mode);
    int rc = bind(fd, (const struct sockaddr *)un, len) < 0 ? -errno : 0;

    umask(before);
    return rc;
}

static int
open_unix(const struct conf_listen *l, struct listeners_file *file)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&l->addr;
    CLEAN_FD int fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CLEAN_FD int lock = -1;
    struct stat st;
    int out;
    int rc;

    if (fd < 0) {
        return -errno;
    }
    if (un->sun_path[0] != '/') {
        return -EINVAL; /* one without a file is anybody's who comes first */
    }
    lock = lock_folder(un->sun_path);
    rc = remove_dead(un, l->addr_len);
    if (rc == 0) {
        rc = bind_with_mode(fd, un, l->addr_len, l->mode);
    }
    if (rc < 0) {
        return rc;
    }
    if (lstat(un->sun_path, &st) < 0) {
        return -errno;
    }
    *file = (struct listeners_file){st.st_dev, st.st_ino};
    rights_refuse(fd); /* for all that connect */
    if (listen(fd, BACKLOG) < 0) {
        return -errno;
    }
    out = fd;
    fd = -1;
    return out;
}

void
listeners_remove(const struct conf *conf, const struct listeners_file *files)
{
    for (size_t i = 0; i < conf->n_listens; i++) {
        const struct sockaddr_un *un =
            (const struct sockaddr_un *)&conf->listens[i].addr;
        struct stat st;

        if (files[i].ino != 0 && lstat(un->sun_path, &st) == 0 &&
            S_ISSOCK(st.st_mode) && st.st_dev == files[i].dev &&
            st.st_ino == files[i].ino) {
            unlink(un->sun_path);
        }
    }
}

/* --- Ports -------------------------------------------------------------- */

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
open_near(const struct conf_listen *l, struct listeners_file *file)
{
    struct sockaddr_storage addr = l->addr;
    int first = port_of(&addr);
    int fd;

    if (addr.ss_family == AF_UNIX) {
        return open_unix(l, file);
    }
    fd = open_one(&addr, l->addr_len);
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

/* What the error of a Unix socket means there. */
static const char *
mend_unix(int error)
{
    switch (error) {
    case EADDRINUSE:
        return " (another program listens there: ss -lxp shows which)";
    case EEXIST:
        return " (a file that is no socket is in its place: remove it, or "
               "choose another path)";
    case ENOENT:
        return " (its folder must be made first)";
    case EACCES:
    case EPERM:
        return " (it takes the right to make and remove files in its folder)";
    case EINVAL:
        return " (the path must begin with a '/')";
    default:
        return "";
    }
}

static void
explain(const struct conf *conf, const struct conf_listen *l, int error,
        char *why, size_t why_size)
{
    const char *mend = "";

    if (l->addr.ss_family == AF_UNIX) {
        mend = mend_unix(error);
    } else if (error == EACCES && port_of(&l->addr) > 0 &&
               port_of(&l->addr) < 1024) {
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
listeners_open(const struct conf *conf, int *fds, struct listeners_file *files,
               char *why, size_t why_size)
{
    memset(files, 0, conf->n_listens * sizeof(*files));
    for (size_t i = 0; i < conf->n_listens; i++) {
        int fd = open_near(&conf->listens[i], &files[i]);

        if (fd < 0) {
            explain(conf, &conf->listens[i], -fd, why, why_size);
            listeners_remove(conf, files);
            memset(files, 0, conf->n_listens * sizeof(*files));
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

int
listeners_open_soon(const struct conf *conf, int *fds,
                    struct listeners_file *files, char *why, size_t why_size)
{
    static const struct timespec wait = {0, 10 * 1000 * 1000};
    int rc = listeners_open(conf, fds, files, why, why_size);

    for (int i = 0; rc == -EADDRINUSE && i < OPEN_TRIES; i++) {
        nanosleep(&wait, NULL);
        rc = listeners_open(conf, fds, files, why, why_size);
    }
    return rc;
}

void
listeners_url(const struct conf_listen *l, int fd, char url[LISTENERS_URL_MAX])
{
    /* HTTP's root is a path; a raw connection has none. */
    const char *scheme = l->protocol == CONF_HTTP ? "http" : "tcp";
    const char *end = l->protocol == CONF_HTTP ? "/" : "";
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
        snprintf(url, LISTENERS_URL_MAX, "%s://%s:%d%s", scheme,
                 in->sin_addr.s_addr == INADDR_ANY ? "127.0.0.1" : text,
                 port_of(&addr), end);
    } else if (addr.ss_family == AF_UNIX) {
        snprintf(url, LISTENERS_URL_MAX, "unix:%.107s",
                 ((const struct sockaddr_un *)&addr)->sun_path);
    } else if (addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&addr;

        inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof(text));
        if (IN6_IS_ADDR_UNSPECIFIED(&in->sin6_addr)) {
            snprintf(url, LISTENERS_URL_MAX, "%s://localhost:%d%s", scheme,
                     port_of(&addr), end);
            return;
        }
        snprintf(url, LISTENERS_URL_MAX, "%s://[%s]:%d%s", scheme, text,
                 port_of(&addr), end);
    }
}
