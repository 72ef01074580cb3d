/* Names of doors. Three things a path can be:
 *
 *  - a Unix socket bound there (door_attach): permissions are the file's, `ls`
 *    shows it, and it can be dialled by anybody who may write to it;
 *  - a plain file that a door was laid over (fattach): an open-file-description
 *    lock at a far offset says so and dies with its holder; the server is found
 *    through an abstract socket named after device and inode, and is believed
 *    only if it runs as the file's owner or as root;
 *  - anything else: no door.
 *
 * dial.c has the other side, which reaches them.
 */
#include "door/name.h"
#include "door/dial.h"
#include "door/dial_priv.h"
#include "door/raw.h"
#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "stropts.h"

#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif
/* What linux/magic.h lacks, or older ones do. */
#define CEPH_MAGIC 0x00c36400u
#define CIFS_MAGIC 0xff534d42u
#define SMB2_MAGIC 0xfe534d42u
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

#define OTHERS_MAX 64 /* attachments that other users may ask for */

struct name_listener {
    struct name_listener *next;
    struct door *door;
    int fd;      /* socket that connections come from */
    int file_fd; /* fattach: the file, with the lock; -1 for a socket */
    int held;    /* the socket's inode (O_PATH), to see it unlinked; or -1 */
    int watch;   /* of the watcher, or -1 */
    uid_t owner; /* of the file */
    dev_t dev;
    ino_t ino;
    bool of_others; /* another process asked for it */
};

#ifdef DOOR_INTERPOSE
/* Whoever takes doors out of libdoor.a takes open() and stat() too, also where
 * a sanitizer has some for the linker to be content with. */
extern const char interpose_is_here;
const char *const name_interposed = &interpose_is_here;
#endif

static struct name_listener *listeners; /* under the server's lock */
static int watcher = -1; /* inotify: tells that a file may be gone */

static void forget_locked(struct name_listener *l);
static void detach_locked(struct name_listener *l);

struct door *
name_listener_door(const struct name_listener *listener)
{
    return listener->door;
}

/* Every socket that hellos arrive on tells who sent them; it must say so before
 * the first can arrive. */
static int
listen_with_credentials(int fd)
{
    const int on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        listen(fd, 1024) < 0) {
        return -1;
    }
    return 0;
}

/* ---- the mark ---- */

/* Connects to our own listener and finds the other end, in spite of strangers
 * that may connect in between: only an end whose peer is our CLIENT is it. */
static int
accept_own(int listener)
{
    for (int i = 0; i < 100; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct ucred cred;
        socklen_t len = sizeof cred;
        if (fd < 0) {
            return -1;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
            cred.pid == getpid()) {
            return fd;
        }
        close(fd);
    }
    errno = EAGAIN;
    return -1;
}

int
name_mint(struct door *d)
{
    struct sockaddr_un sun;
    char text[64];

    snprintf(text, sizeof text, DOOR_NAME_PREFIX "%016llx/%08x",
             (unsigned long long)d->uniquifier, d->attributes);
    socklen_t len = dial_abstract_name(&sun, text);
    /* First the caller's, which is then the lowest free descriptor. */
    int client = dial_new_socket(), listener = dial_new_socket(), server = -1;
    /* The name is ours for an instant only; another thread that mints for the
     * same door at that instant makes us try again. */
    for (int i = 0;
         listener >= 0 && bind(listener, (struct sockaddr *)&sun, len) < 0;
         i++) {
        if (errno != EADDRINUSE || i == 1000) {
            goto fail;
        }
        usleep(100);
    }
    if (listener < 0 || client < 0 || listen_with_credentials(listener) < 0 ||
        connect(client, (struct sockaddr *)&sun, len) < 0) {
        goto fail;
    }
    server = accept_own(listener);
    if (server < 0) {
        goto fail;
    }
    close(listener);
    listener = -1;
    pthread_mutex_lock(&door_server.lock);
    int e = server_add_door_locked(d, server);
    pthread_mutex_unlock(&door_server.lock);
    if (e != 0) {
        errno = e;
        goto fail;
    }
    /* The client's end does not block: read() of a door is an error, and not a
     * wait for what never comes. */
    return client;
fail : {
    int saved = errno;
    if (listener >= 0) {
        close(listener);
    }
    if (client >= 0) {
        close(client);
    }
    if (server >= 0) {
        close(server);
    }
    errno = saved;
    return -1;
}
}

/* ---- finding our own door by its descriptor ---- */

static struct door *
find_locked(uint64_t uniquifier)
{
    struct door *own = door_server.doors;

    while (own && own->uniquifier != uniquifier) {
        own = own->next;
    }
    return own;
}

struct door *
door_own_locked(int d)
{
    uint64_t uniquifier;
    uint32_t attributes;

    return door_is_marked(d, &uniquifier, &attributes) ? find_locked(uniquifier)
                                                       : NULL;
}

struct door *
door_own(int d)
{
    pthread_mutex_lock(&door_server.lock);
    struct door *own = door_own_locked(d);
    if (own) {
        door_ref(own);
    }
    pthread_mutex_unlock(&door_server.lock);
    return own;
}

bool
name_is_own(uint64_t uniquifier, uint32_t *p_attributes)
{
    pthread_mutex_lock(&door_server.lock);
    const struct door *own = find_locked(uniquifier);
    if (own) {
        *p_attributes = own->attributes;
    }
    pthread_mutex_unlock(&door_server.lock);
    return own != NULL;
}

/* A fresh descriptor for the door of our own behind FD, or -1. */
static int
mint_again(int fd)
{
    struct door *own = door_own(fd);
    int again = own ? name_mint(own) : -1;

    door_unref(own);
    return again;
}

/* One note, with the first N (at most DOOR_FDS_A_NOTE) of DESCS. */
static int
send_some(int conn, uint32_t seq, const door_desc_t *descs, uint32_t n)
{
    struct door_note note = {.kind = DOOR_NOTE_FDS, .seq = seq, .n_fds = n};
    int fds[DOOR_FDS_A_NOTE] = {0};
    bool fresh[DOOR_FDS_A_NOTE];

    for (uint32_t i = 0; i < n; i++) {
        int fd = descs[i].d_data.d_desc.d_descriptor;
        int again = mint_again(fd);
        fresh[i] = again >= 0;
        fds[i] = fresh[i] ? again : fd;
    }
    int e = door_send(conn, &note, sizeof note, fds, n);
    for (uint32_t i = 0; i < n; i++) {
        if (fresh[i]) {
            close(fds[i]);
        }
    }
    return e;
}

int
name_send_descs(int conn, uint32_t seq, const door_desc_t *descs, uint32_t n)
{
    int e = 0;

    for (uint32_t at = 0; e == 0 && at < n; at += DOOR_FDS_A_NOTE) {
        e = send_some(conn, seq, descs + at,
                      n - at < DOOR_FDS_A_NOTE ? n - at : DOOR_FDS_A_NOTE);
    }
    return e == EBADF ? EINVAL : e;
}

/* Has the name gone from the file system? */
static bool
is_gone(const struct name_listener *l)
{
    struct stat st;
    int fd = l->file_fd >= 0 ? l->file_fd : l->held;

    return fd >= 0 && raw_fstat(fd, &st) == 0 && st.st_nlink == 0;
}

/* Has the kernel tell when the file's number of links changes. What fails here
 * (no inotify, no /proc) costs that alone: the name stays until the end. */
static void
watch_locked(struct name_listener *l)
{
    char by_fd[DIAL_BY_FD_MAX];

    l->watch = -1;
    if (watcher < 0) {
        watcher = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (watcher >= 0 && server_add_names_locked(watcher) != 0) {
            close(watcher);
            watcher = -1;
        }
    }
    if (watcher >= 0) {
        dial_by_descriptor(by_fd, l->file_fd >= 0 ? l->file_fd : l->held);
        l->watch = inotify_add_watch(watcher, by_fd, IN_ATTRIB);
    }
}

void
name_changed(int fd)
{
    char events[4096];

    while (read(fd, events, sizeof events) > 0) {
    }
    pthread_mutex_lock(&door_server.lock);
    for (struct name_listener *l = listeners, *next; l; l = next) {
        next = l->next;
        if (is_gone(l)) {
            detach_locked(l);
        }
    }
    pthread_mutex_unlock(&door_server.lock);
}

/* Listens for D on FD; FILE_FD is the file that it lies over, or -1, and HELD
 * the socket at a path, or -1. 0, then all are taken; or an errno. */
static int
add_listener(struct door *d, int fd, int file_fd, int held,
             const struct stat *st, bool of_others)
{
    struct name_listener *l = calloc(1, sizeof *l);
    int e = ENOMEM;

    pthread_mutex_lock(&door_server.lock);
    if (l) {
        l->door = d;
        l->fd = fd;
        l->file_fd = file_fd;
        l->held = held;
        l->of_others = of_others;
        if (st) {
            l->owner = st->st_uid;
            l->dev = st->st_dev;
            l->ino = st->st_ino;
        }
        e = server_add_listener_locked(l, fd);
    }
    if (e == 0) {
        l->next = listeners;
        listeners = l;
        l->door->n_names++;
        door_ref(l->door);
        watch_locked(l);
    }
    pthread_mutex_unlock(&door_server.lock);
    if (e != 0) {
        free(l);
    }
    return e;
}

/* ---- sockets in the file system ---- */

/* Binds FD with MODE under a name beside PATH, which becomes TEMPORARY, and
 * listens. 0 or an errno. */
static int
bind_beside(int fd, const char *path, mode_t mode,
            char temporary[sizeof((struct sockaddr_un *)NULL)->sun_path])
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int n = snprintf(temporary, sizeof sun.sun_path, "%s.%08x", path,
                     (unsigned)door_random());

    if (n < 0 || (size_t)n >= sizeof sun.sun_path) {
        return ENAMETOOLONG;
    }
    memcpy(sun.sun_path, temporary, (size_t)n + 1);
    if (bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0) {
        return errno;
    }
    if (chmod(temporary, mode) < 0 || listen_with_credentials(fd) < 0) {
        int e = errno;
        unlink(temporary);
        return e;
    }
    return 0;
}

/* The listener on FD did not get its path: nobody has seen it. FD is closed. */
static void
withdraw(int fd)
{
    pthread_mutex_lock(&door_server.lock);
    for (struct name_listener *l = listeners; l; l = l->next) {
        if (l->fd == fd) {
            l->door->n_names--;
            forget_locked(l);
            break;
        }
    }
    pthread_mutex_unlock(&door_server.lock);
}

/* As door_attach(), for OWN on the new socket FD; *P_TAKEN: it is no longer the
 * caller's. The door appears whole, and does not go again: bound, with its
 * mode, served, before it has its name. 0 or an errno. */
static int
attach_socket(struct door *own, int fd, const char *path, mode_t mode,
              bool *p_taken)
{
    char temporary[sizeof((struct sockaddr_un *)NULL)->sun_path];
    int e = bind_beside(fd, path, mode, temporary);

    if (e != 0) {
        return e;
    }
    int held = raw_open(temporary, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    e = add_listener(own, fd, -1, held, NULL, false);
    *p_taken = e == 0;
    if (e != 0) {
        if (held >= 0) {
            close(held);
        }
    } else if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path,
                         RENAME_NOREPLACE) < 0) {
        e = errno;
        withdraw(fd);
    }
    if (e != 0) {
        unlink(temporary);
    }
    return e;
}

int
door_attach(int d, const char *path, mode_t mode)
{
    struct door *own = door_own(d);
    bool taken = false;

    if (!own) {
        errno = EBADF;
        return -1;
    }
    int fd = dial_new_socket();
    if (fd < 0) {
        door_unref(own);
        return -1;
    }
    int e = attach_socket(own, fd, path, mode & 0777, &taken);
    if (!taken) {
        close(fd);
    }
    door_unref(own);
    errno = e;
    return e == 0 ? 0 : -1;
}

/* ---- doors laid over files ---- */

static int
set_mark(int file_fd)
{
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = DOOR_ATTACH_LOCK_OFFSET,
                         .l_len = 1};

    if (fcntl(file_fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    return errno == EAGAIN || errno == EACCES ? EBUSY : errno;
}

bool
name_is_attached(int file)
{
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = DOOR_ATTACH_LOCK_OFFSET,
                         .l_len = 1};

    return fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Lays OWN over FILE, opened for writing. 0, then FILE is taken; or an errno.
 */
static int
attach_file(struct door *own, int file, bool of_others)
{
    struct stat st;
    struct sockaddr_un sun;

    if (raw_fstat(file, &st) < 0) {
        return errno;
    }
    int e = set_mark(file);
    if (e != 0) {
        return e;
    }
    socklen_t len = dial_attach_name(&sun, &st);
    int fd = dial_new_socket();
    if (fd < 0 || bind(fd, (struct sockaddr *)&sun, len) < 0 ||
        listen_with_credentials(fd) < 0) {
        e = errno == EADDRINUSE ? EBUSY : errno;
    } else {
        e = add_listener(own, fd, file, -1, &st, of_others);
    }
    if (e != 0 && fd >= 0) {
        close(fd);
    }
    return e;
}

/* Other machines would see the mark, and not the server. */
static bool
is_remote(const struct statfs *fs)
{
    static const unsigned int types[] = {
        NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, AFS_SUPER_MAGIC, CODA_SUPER_MAGIC,
        CEPH_MAGIC,      CIFS_MAGIC,      SMB2_MAGIC};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if ((unsigned int)fs->f_type == types[i]) {
            return true;
        }
    }
    return false;
}

/* Of a descriptor that a stranger sent, without asking the file's server: one
 * in user space may never answer. */
static bool
look_at_foreign(int fd, struct statx *st)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_PATH) == 0 &&
           syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
                   STATX_BASIC_STATS, st) == 0;
}

int
name_attach_asked(struct door *d, int file, const struct door_sender *sender)
{
    struct statx st;
    struct statfs fs;
    int n = 0;

    if (!look_at_foreign(file, &st) || !S_ISREG(st.stx_mode) ||
        (fcntl(file, F_GETFL) & O_ACCMODE) == O_RDONLY) {
        return EACCES;
    }
    /* Who opens the file believes only a server that is its owner or root. */
    if ((sender->uid != 0 && sender->uid != st.stx_uid) ||
        (geteuid() != 0 && geteuid() != st.stx_uid)) {
        return EPERM;
    }
    /* A file system in user space could hold us up with each question. */
    if (fstatfs(file, &fs) < 0 || is_remote(&fs) ||
        (fs.f_type == FUSE_SUPER_MAGIC && sender->uid != geteuid())) {
        return EINVAL;
    }
    if (st.stx_nlink == 0) {
        return ENOENT; /* it has no name for a door to lie at */
    }
    pthread_mutex_lock(&door_server.lock);
    for (struct name_listener *l = listeners; l; l = l->next) {
        n += l->of_others;
    }
    pthread_mutex_unlock(&door_server.lock);
    if (n >= OTHERS_MAX && sender->uid != 0 && sender->uid != geteuid()) {
        return EAGAIN;
    }
    return attach_file(d, file, true);
}

/* What can be told without opening the file at PATH. 0 or an errno. */
static int
may_attach(int d, const char *path)
{
    char real[PATH_MAX];
    struct stat st;
    struct statfs fs;
    uint64_t uniquifier;
    uint32_t attributes;

    if (fcntl(d, F_GETFD) < 0) {
        return EBADF;
    }
    if (!door_is_marked(d, &uniquifier, &attributes)) {
        return EINVAL;
    }
    if (!path || *path == 0) {
        return ENOENT;
    }
    /* A relative path whose absolute form is too long is too long. */
    if (raw_stat(path, &st) < 0 || !realpath(path, real)) {
        return errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return S_ISSOCK(st.st_mode) ? EBUSY : EINVAL;
    }
    if (statfs(path, &fs) == 0 && is_remote(&fs)) {
        return EINVAL;
    }
    return geteuid() != 0 && geteuid() != st.st_uid ? EPERM : 0;
}

/* Does something lie over FILE already: a door, or a mount? */
static bool
is_covered(int file)
{
    struct statx st;

    if (name_is_attached(file)) {
        return true;
    }
    return syscall(SYS_statx, file, "", AT_EMPTY_PATH, 0, &st) == 0 &&
           (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

int
fattach(int d, const char *path)
{
    struct door_welcome w;
    int e = may_attach(d, path), none = -1;
    int file = -1;

    if (e == 0) {
        file = raw_open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        e = file < 0 ? errno : 0;
    }
    if (e == 0 && is_covered(file)) {
        e = EBUSY;
    }
    if (e == 0) {
        struct door *own = door_own(d);
        if (own) {
            e = attach_file(own, file, false);
            door_unref(own);
            file = e == 0 ? -1 : file; /* taken */
        } else {
            /* The door's own process keeps the name. */
            e = dial_ask(d, DOOR_HELLO_ATTACH, &w, file, &none);
            e = e == EPIPE || e == ECONNREFUSED ? EBADF : e;
        }
    }
    if (none >= 0) {
        close(none);
    }
    if (file >= 0) {
        close(file);
    }
    errno = e;
    return e == 0 ? 0 : -1;
}

/* Nobody connects by the name any more. Lock held. The socket stays with the
 * listening thread; shut down, it tells nobody anything. */
static void
forget_locked(struct name_listener *l)
{
    for (struct name_listener **p = &listeners; *p; p = &(*p)->next) {
        if (*p == l) {
            *p = l->next;
            break;
        }
    }
    /* A new socket of the same name must be possible at once, so the name goes
     * with the descriptor. */
    server_remove_listener_locked(l);
    if (l->watch >= 0) {
        inotify_rm_watch(watcher, l->watch); /* gone already with its file */
    }
    if (l->file_fd >= 0) {
        close(l->file_fd);
    }
    if (l->held >= 0) {
        close(l->held);
    }
    door_unref(l->door);
    free(l);
}

/* Takes the name away, which was a reference to its door. Lock held. */
static void
detach_locked(struct name_listener *l)
{
    struct door *d = l->door;

    d->n_names--;
    unref_check_locked(d);
    forget_locked(l);
}

bool
name_needs_proof(const struct name_listener *listener)
{
    return listener->file_fd >= 0;
}

bool
name_is_proof(const struct name_listener *listener, int fd)
{
    struct statx st;

    return look_at_foreign(fd, &st) &&
           makedev(st.stx_dev_major, st.stx_dev_minor) == listener->dev &&
           st.stx_ino == listener->ino;
}

int
name_detach_asked(struct name_listener *listener, const struct door_sender *who)
{
    int e = EINVAL;

    pthread_mutex_lock(&door_server.lock);
    for (struct name_listener *l = listeners; l; l = l->next) {
        if (l == listener && l->file_fd >= 0) {
            if (who->uid != 0 && who->uid != l->owner) {
                e = EPERM;
            } else {
                detach_locked(l);
                e = 0;
            }
            break;
        }
    }
    pthread_mutex_unlock(&door_server.lock);
    return e;
}

/* Takes a door's socket away: one that answers as a door, or that nobody serves
 * any more. A link to it stays. */
static int
remove_socket(const char *path)
{
    struct door_welcome w;
    char *real = realpath(path, NULL);
    int fd = real ? door_dial(real) : -1, e = real && fd >= 0 ? 0 : errno;

    if (fd >= 0) {
        e = name_ask_info(fd, &w) == 0 ? 0 : EINVAL;
        close(fd);
    } else if (e == ECONNREFUSED) {
        e = 0;
    } else if (e == EPROTOTYPE) {
        e = EINVAL; /* a socket of another kind */
    }
    if (e == 0 && unlink(real) < 0) {
        e = errno;
    }
    free(real);
    errno = e;
    return e == 0 ? 0 : -1;
}

int
fdetach(const char *path)
{
    struct door_welcome w;
    struct stat st;
    int none = -1, e;

    if (!path || *path == 0) {
        errno = ENOENT;
        return -1;
    }
    if (raw_stat(path, &st) < 0) {
        return -1;
    }
    if (S_ISSOCK(st.st_mode)) {
        return remove_socket(path);
    }
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    if (geteuid() != 0 && geteuid() != st.st_uid) {
        errno = EPERM;
        return -1;
    }
    int fd = dial_file(&st, -1); /* owners need no mode bits */
    if (fd < 0) {
        e = EINVAL;
    } else {
        e = dial_ask(fd, DOOR_HELLO_DETACH, &w, -1, &none);
        close(fd);
        if (none >= 0) {
            close(none);
        }
    }
    errno = e;
    return e == 0 ? 0 : -1;
}

void
name_forget_after_fork(void)
{
    for (struct name_listener *l = listeners; l; l = l->next) {
        if (l->file_fd >= 0) {
            close(l->file_fd); /* or the lock would outlive its server */
        }
        if (l->held >= 0) {
            close(l->held);
        }
    }
    listeners = NULL;
    watcher = -1; /* closed with the other items */
}
