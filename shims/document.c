/* What is not a script is not found: a file that lies beside one would be read
 * by the interpreter as one, or shown with what it keeps secret. The kernel
 * watches that nothing leads out of the root (openat2). */
#include "document.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Does the part of LEN bytes at PART end like INDEX, with something before? */
static bool
is_script(const char *part, size_t len, const char *index)
{
    const char *ending = strrchr(index, '.');
    size_t n;

    if (ending == NULL) {
        return len == strlen(index) && memcmp(part, index, len) == 0;
    }
    n = strlen(ending);
    return len > n && memcmp(part + len - n, ending, n) == 0;
}

/* How long the script's name at the start of PATH is; 0: it names none. -1: a
 * part that may not be. */
static long
script_len(const char *path, const char *index)
{
    const char *at = path;

    while (*at != '\0') {
        size_t len = strcspn(at, "/");

        if (len == 0 || at[0] == '.') {
            return -1;
        }
        if (is_script(at, len, index)) {
            return (long)(at - path) + (long)len;
        }
        at += len;
        at += *at == '/';
    }
    return 0;
}

/* The absolute path of FD, which is open; false: /proc does not say. */
static bool
path_of(int fd, char path[PATH_MAX])
{
    char link[40];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* Where openat2 is forbidden (base/beneath.h): does FILE lie below the root
 * when all links are followed? The program opens it by its path later, so a
 * link that is changed in between leads as far as one that was changed after
 * openat2. The descriptor, or -1 with errno. */
static int
open_and_look(int root_fd, const char *file)
{
    CLEAN_FD int fd = openat(root_fd, file, O_PATH | O_CLOEXEC);
    char root[PATH_MAX], path[PATH_MAX];
    size_t len;
    int found = fd;

    if (fd < 0) {
        return -1;
    }
    if (!path_of(root_fd, root) || !path_of(fd, path)) {
        errno = EXDEV;
        return -1;
    }
    len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(path, root, len) != 0 || path[len] != '/') {
        errno = EXDEV;
        return -1;
    }
    fd = -1;
    return found;
}

/* 0, or the status for the client. */
static int
judge(int root_fd, const char *file)
{
    const struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    CLEAN_FD int fd =
        (int)syscall(SYS_openat2, root_fd, file, &how, sizeof(how));
    struct stat st;

    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
        fd = open_and_look(root_fd, file);
    }
    if (fd < 0) {
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? 503
                                                                     : 404;
    }
    return fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ? 404 : 0;
}

int
document_find(int root_fd, const char *rest, const char *index,
              struct document *document)
{
    const char *path = rest + strspn(rest, "/");
    long len = script_len(path, index);
    int rc;

    memset(document, 0, sizeof(*document));
    if (len < 0) {
        return 404;
    }
    if (len > 0) {
        rc = asprintf(&document->file, "%.*s", (int)len, path);
        document->info = rc < 0 ? NULL : strdup(path + len);
    } else {
        bool is_open = path[0] != '\0' && path[strlen(path) - 1] != '/';

        rc = asprintf(&document->file, "%s%s%s", path, is_open ? "/" : "",
                      index);
        document->info = rc < 0 ? NULL : strdup("");
    }
    if (rc < 0) {
        document->file = NULL;
    }
    return document->info == NULL ? 503 : judge(root_fd, document->file);
}

void
document_clear(struct document *document)
{
    free(document->file);
    free(document->info);
    memset(document, 0, sizeof(*document));
}
