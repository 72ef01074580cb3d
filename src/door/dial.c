/* Reaching doors by what they are named. Nothing here allocates or remembers:
 * open() and stat() of programs come through it, in signal handlers too.
 *
 * A dialled connection has no mark that another process would know it by, so
 * whoever wants a door asks the server over it for a marked one.
 */
#include "door/dial.h"
#include "door/dial_priv.h"
#include "door/name.h"
#include "door/raw.h"
#include "door/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/rights.h"

#define OPEN_TIMEOUT_NS 5000000000ull

/* ---- addresses ---- */

socklen_t
dial_abstract_name(struct sockaddr_un *sun, const char *text)
{
    size_t len = strlen(text);

    memset(sun, 0, sizeof *sun);
    sun->sun_family = AF_UNIX;
    memcpy(sun->sun_path + 1, text, len);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

/* VALUE in digits of BASE, at most 20 and a 0; its end. Here, since open() is
 * safe in signal handlers and snprintf() is not. */
static char *
put_number(char *to, unsigned long long value, unsigned int base)
{
    unsigned long long above = value / base;
    char *end = above ? put_number(to, above, base) : to;

    *end++ = "0123456789abcdef"[value % base];
    *end = 0;
    return end;
}

void
dial_by_descriptor(char out[DIAL_BY_FD_MAX], int held)
{
    static const char prefix[] = "/proc/self/fd/";

    memcpy(out, prefix, sizeof prefix);
    put_number(out + sizeof prefix - 1, (unsigned int)held, 10);
}

socklen_t
dial_attach_name(struct sockaddr_un *sun, const struct stat *st)
{
    char text[80] = DOOR_ATTACH_PREFIX;
    char *end = put_number(text + strlen(text), st->st_dev, 16);

    *end++ = ':';
    put_number(end, st->st_ino, 16);
    return dial_abstract_name(sun, text);
}

int
dial_new_socket(void)
{
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* ---- connections ---- */

static int
connect_to(const struct sockaddr_un *sun, socklen_t len)
{
    int fd = dial_new_socket();

    if (fd < 0) {
        return -1;
    }
    /* A server answers on the sockets that hellos bring, never on this one. */
    rights_refuse(fd);
    if (connect(fd, (const struct sockaddr *)sun, len) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* Is what answers for the file's inode the file's owner, or root? */
static int
check_server(int fd, uid_t owner)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
        return -1;
    }
    if (cred.uid != 0 && cred.uid != owner) {
        errno = EPERM;
        return -1;
    }
    return 0;
}

/* The server of an attached file believes only who can open it: the kernel has
 * judged the mode bits then. HELD is opened, the inode that was judged: its
 * owner may lay another file at the path meanwhile, and whoever dials may be
 * root. 0 or -1 with errno. */
static int
prove(int fd, int held)
{
    struct door_hello hello = {.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = DOOR_HELLO_PROOF};
    const int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    char by_fd[DIAL_BY_FD_MAX];

    dial_by_descriptor(by_fd, held);
    int file = raw_open(by_fd, O_RDONLY | flags);
    if (file < 0 && errno == EACCES) {
        file = raw_open(by_fd, O_WRONLY | flags);
    }
    if (file < 0) {
        errno = errno == ENOENT ? EPERM : errno; /* without /proc */
        return -1;
    }
    int e = door_send(fd, &hello, sizeof hello, &file, 1);
    close(file);
    errno = e;
    return e == 0 ? 0 : -1;
}

int
dial_file(const struct stat *st, int held)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    socklen_t len = dial_attach_name(&sun, st);
    int fd = connect_to(&sun, len);

    if (fd >= 0 && (check_server(fd, st->st_uid) < 0 ||
                    (held >= 0 && prove(fd, held) < 0))) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* Holds what PATH means without opening it: what is judged is then what is
 * used, whatever is laid at the path meanwhile. */
static int
hold(int folder_fd, const char *path)
{
    return folder_fd < 0
               ? raw_open(path, O_PATH | O_CLOEXEC)
               : beneath_open(folder_fd, path, O_PATH | O_CLOEXEC, true);
}

/* Connects to the socket HELD; PATH: by this name, NULL: by the descriptor. */
static int
dial_socket(int held, const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};

    if (path && strlen(path) < sizeof sun.sun_path) {
        memcpy(sun.sun_path, path, strlen(path) + 1);
        return connect_to(&sun, sizeof sun);
    }
    dial_by_descriptor(sun.sun_path, held);
    int fd = connect_to(&sun, sizeof sun);
    if (fd < 0 && errno == ENOENT) {
        errno = EPERM; /* without /proc */
    }
    return fd;
}

/* A file that says it is its owner's and shows another process when it is
 * opened is no door. */
static bool
is_of_proc(int held)
{
    struct statfs fs;

    return fstatfs(held, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

int
door_dial_in(int folder_fd, const char *path)
{
    struct stat st;
    int fd = -1, held = hold(folder_fd, path);

    if (held < 0) {
        return -1;
    }
    if (raw_fstat(held, &st) < 0) {
        /* not reached: it is open */
    } else if (S_ISSOCK(st.st_mode)) {
        fd = dial_socket(held, folder_fd < 0 ? path : NULL);
    } else if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
    } else if (is_of_proc(held)) {
        errno = EPERM;
    } else {
        fd = dial_file(&st, held);
    }
    int saved = errno;
    close(held);
    errno = saved;
    return fd;
}

int
door_dial(const char *path)
{
    return door_dial_in(-1, path);
}

/* Says the hello; the welcome comes on *P_ANSWER, the caller's. 0 or an errno.
 */
static int
begin_ask(int fd, uint32_t kind, int more, int *p_answer)
{
    struct door_hello hello = {
        .magic = DOOR_WIRE_MAGIC, .major = DOOR_WIRE_MAJOR, .kind = kind};
    int pair[2];

    *p_answer = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return errno;
    }
    int fds[2] = {pair[1], more};
    int e = door_send(fd, &hello, sizeof hello, fds, more >= 0 ? 2 : 1);
    close(pair[1]);
    if (e != 0) {
        close(pair[0]);
        return e;
    }
    *p_answer = pair[0];
    return 0;
}

/* Reads what has come on ANSWER. 0 or an errno; EAGAIN: nothing has. */
static int
end_ask(int answer, struct door_welcome *w, int *p_fd)
{
    size_t n = 1;

    *p_fd = -1;
    int e = door_receive(answer, w, sizeof *w, p_fd, &n, NULL, MSG_DONTWAIT);
    if (e == 0 &&
        (w->magic != DOOR_WIRE_MAGIC || w->major != DOOR_WIRE_MAJOR)) {
        e = EPROTO;
    }
    if (e == 0 && w->error != 0) {
        e = w->error > 0 && w->error < 4096 ? w->error : EPROTO;
    }
    if (e != 0 && *p_fd >= 0) {
        close(*p_fd);
        *p_fd = -1;
    }
    return e;
}

int
dial_ask(int fd, uint32_t kind, struct door_welcome *w, int more, int *p_fd)
{
    uint64_t until = door_now() + OPEN_TIMEOUT_NS;
    int answer, e = begin_ask(fd, kind, more, &answer);

    *p_fd = -1;
    if (e != 0) {
        return e;
    }
    do {
        uint64_t now = door_now();
        e = door_wait_readable(answer, until > now ? until - now : 0);
    } while (e == EINTR);
    if (e == 0) {
        e = end_ask(answer, w, p_fd);
    }
    close(answer);
    return e;
}

int
name_ask_begin(int fd, int *p_answer)
{
    return begin_ask(fd, DOOR_HELLO_INFO, -1, p_answer);
}

int
name_ask_end(int answer, struct door_welcome *w)
{
    int none;
    int e = end_ask(answer, w, &none);

    if (none >= 0) {
        close(none);
    }
    return e;
}

int
name_ask_info(int fd, struct door_welcome *w)
{
    int none;
    int e = dial_ask(fd, DOOR_HELLO_INFO, w, -1, &none);

    if (none >= 0) {
        close(none);
    }
    return e;
}

/* Asks over the dialled connection FD, which is closed, for a door. */
static int
open_from(int fd)
{
    struct door_welcome w;
    uint64_t uniquifier;
    uint32_t attributes;
    int door = -1;
    int e = dial_ask(fd, DOOR_HELLO_OPEN, &w, -1, &door);

    close(fd);
    if (e == 0 &&
        (door < 0 || !door_is_marked(door, &uniquifier, &attributes))) {
        e = EPROTO;
    }
    if (e != 0) {
        if (door >= 0) {
            close(door);
        }
        errno = e == EPIPE ? ECONNREFUSED : e;
        return -1;
    }
    return door;
}

int
door_open(const char *path)
{
    int fd = door_dial(path);

    return fd < 0 ? -1 : open_from(fd);
}

int
name_open_file(int file)
{
    struct stat st;
    struct door_hello proof = {.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = DOOR_HELLO_PROOF};

    if (raw_fstat(file, &st) < 0 || !S_ISREG(st.st_mode) || is_of_proc(file)) {
        errno = EPERM;
        return -1;
    }
    int fd = dial_file(&st, -1);
    if (fd < 0) {
        return -1;
    }
    int e = door_send(fd, &proof, sizeof proof, &file, 1);
    if (e != 0) {
        /* not reached: its queue is empty */
        close(fd);
        errno = e;
        return -1;
    }
    return open_from(fd);
}

bool
name_is_served(const struct stat *st)
{
    int fd = dial_file(st, -1);

    if (fd >= 0) {
        close(fd);
        return true;
    }
    return errno == EAGAIN; /* too many wait for its server just now */
}

/* Did door_attach() bind what FD is connected to? It binds under a temporary
 * name, so that other programs' sockets are left alone. */
static bool
is_attached_socket(int fd)
{
    struct sockaddr_un sun = {0};
    socklen_t len = sizeof sun;

    if (getpeername(fd, (struct sockaddr *)&sun, &len) < 0) {
        return false;
    }
    size_t n = strnlen(sun.sun_path, sizeof sun.sun_path);
    return n > 9 && n < sizeof sun.sun_path && sun.sun_path[n - 9] == '.' &&
           strspn(sun.sun_path + n - 8, "0123456789abcdef") == 8;
}

int
name_open_socket(int held)
{
    struct stat st;

    if (raw_fstat(held, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return -1;
    }
    int fd = dial_socket(held, NULL);
    if (fd >= 0 && !is_attached_socket(fd)) {
        close(fd);
        fd = -1;
    }
    return fd < 0 ? -1 : open_from(fd);
}
