/* Asking the keeper for pipes of one's own. A copy must come to serve whatever
 * the keeper does: the wait is short, and without an answer the lines come out
 * as those of the module, as before. An answer that comes too late is lost with
 * the connection, and the keeper sees the end of its pipes. */
#include "door/copy_output.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "door/raw.h"
#include "door/sys.h"

#define WAIT_NS 200000000ull

/* A connection to PATH, or -1. A queue that is full is no reason to wait. */
static int
dial(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    int fd;

    if (len >= sizeof at.sun_path) {
        return -1;
    }
    memcpy(at.sun_path, path, len);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Which of NOTE's pipes FD is: 0, 1, or -1 for none. */
static int
which(int fd, const struct copy_output_note *note)
{
    struct stat st;

    if (raw_fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) ||
        st.st_dev != note->device) {
        return -1;
    }
    return st.st_ino == note->inodes[0]   ? 0
           : st.st_ino == note->inodes[1] ? 1
                                          : -1;
}

void
copy_output_ask(const char *path)
{
    struct copy_output_note note;
    int fds[2] = {-1, -1};
    size_t n = 2;
    int fd = path ? dial(path) : -1;

    if (fd < 0) {
        return;
    }
    if (door_wait_readable(fd, WAIT_NS) == 0 &&
        door_receive(fd, &note, sizeof note, fds, &n, NULL, MSG_DONTWAIT) ==
            0 &&
        n == 2) {
        int out = which(1, &note), err = which(2, &note);

        if (out >= 0) {
            dup2(fds[out], 1);
        }
        if (err >= 0) {
            dup2(fds[err], 2);
        }
    }
    for (size_t i = 0; i < n && i < 2; i++) {
        if (fds[i] > 2) {
            close(fds[i]);
        }
    }
    close(fd);
}
