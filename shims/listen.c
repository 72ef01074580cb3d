/* A port of the loopback can be reached by every user of the machine, and a
 * socket with a path by all who may write to it. Where the program needs no
 * name, it gets a Unix socket without one: its file is opened (O_PATH) and
 * removed at once, and /proc/self/fd leads to it. */
#include "listen.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024

static int
path_parse(const char *path, struct sockaddr_storage *addr, socklen_t *p_len)
{
    struct sockaddr_un *un = (struct sockaddr_un *)addr;
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(un->sun_path)) {
        return -1;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, len + 1);
    *p_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return 0;
}

int
listen_parse(const char *text, struct sockaddr_storage *addr, socklen_t *p_len)
{
    const struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
        .ai_socktype = SOCK_STREAM,
    };
    const char *colon = strrchr(text, ':');
    struct addrinfo *found;
    size_t len;
    char host[64];

    memset(addr, 0, sizeof(*addr));
    if (strncmp(text, "unix:", 5) == 0) {
        return path_parse(text + 5, addr, p_len);
    }
    len = colon != NULL ? (size_t)(colon - text) : 0;
    if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof(host)) {
        return -1;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        return -1;
    }
    memcpy(addr, found->ai_addr, found->ai_addrlen);
    *p_len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

/* Binds FD at PATH, which has nobody else's file, and takes the name away.
 * 0 or -1 with errno. */
static int
bind_and_forget(int fd, const char *path, int *p_path_fd)
{
    struct sockaddr_storage addr = {0};
    socklen_t len;
    int error;

    if (path_parse(path, &addr, &len) < 0) {
        errno = ENAMETOOLONG;
        return -1;
    }
    /* The mode is that of the file to come. */
    if (fchmod(fd, 0600) < 0 ||
        bind(fd, (const struct sockaddr *)&addr, len) < 0) {
        return -1;
    }
    *p_path_fd = open(path, O_PATH | O_CLOEXEC);
    error = errno;
    unlink(path);
    errno = error;
    return *p_path_fd < 0 ? -1 : 0;
}

/* The same in a new folder for temporary files. */
static int
bind_in_tmp(int fd, int *p_path_fd)
{
    char folder[] = "/tmp/cardea-XXXXXX";
    char path[sizeof(folder) + 2];
    int rc, error;

    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/s", folder);
    rc = bind_and_forget(fd, path, p_path_fd);
    error = errno;
    rmdir(folder);
    errno = error;
    return rc;
}

static int
bind_somewhere(int fd, const char *hint, int *p_path_fd)
{
    char path[108];

    if (hint != NULL && strlen(hint) + 16 < sizeof(path)) {
        snprintf(path, sizeof(path), "%s.%d", hint, (int)getpid());
        if (bind_and_forget(fd, path, p_path_fd) == 0) {
            return 0;
        }
    }
    return bind_in_tmp(fd, p_path_fd);
}

int
listen_unix(const char *hint, struct sockaddr_storage *addr, socklen_t *p_len,
            int *p_path_fd)
{
    CLEAN_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char path[40];
    int taken;

    *p_path_fd = -1;
    if (fd < 0 || bind_somewhere(fd, hint, p_path_fd) < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", *p_path_fd);
    memset(addr, 0, sizeof(*addr));
    if (path_parse(path, addr, p_len) < 0 || listen(fd, BACKLOG) < 0) {
        close(*p_path_fd);
        *p_path_fd = -1;
        return -1;
    }
    taken = fd;
    fd = -1;
    return taken;
}

int
listen_loopback(struct sockaddr_storage *addr, socklen_t *p_len)
{
    CLEAN_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in *in = (struct sockaddr_in *)addr;
    int taken;

    memset(addr, 0, sizeof(*addr));
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *p_len = sizeof(*in);
    if (fd < 0 || bind(fd, (const struct sockaddr *)addr, *p_len) < 0 ||
        listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)addr, p_len) < 0) {
        return -1;
    }
    taken = fd;
    fd = -1;
    return taken;
}

int
listen_is_awaited(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}
