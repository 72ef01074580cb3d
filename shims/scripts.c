/* The name is one part of the path, so it can climb nowhere by itself; a
 * symbolic link is followed as long as it stays beneath the folder, which the
 * kernel watches (openat2). What is found is executed by its path and not by
 * the descriptor: an interpreter must be able to open it. Who can change the
 * folder in between can change the script as well. */
#include "scripts.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* 0, or the status for the client. */
static int
judge(int folder_fd, const char *name)
{
    const struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    CLEAN_FD int fd =
        (int)syscall(SYS_openat2, folder_fd, name, &how, sizeof(how));
    struct stat st;

    if (fd < 0) {
        return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? 503
                                                                     : 404;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return 404;
    }
    return faccessat(fd, "", X_OK, AT_EMPTY_PATH | AT_EACCESS) < 0 ? 403 : 0;
}

int
script_find(int folder_fd, const char *folder, const char *route,
            const char *rest, struct script *script)
{
    const char *prefix = strcmp(route, "/") == 0 ? "" : route;
    const char *start = rest[0] == '/' ? rest + 1 : rest;
    size_t len = strcspn(start, "/");
    char name[NAME_MAX + 1];
    int status;

    memset(script, 0, sizeof(*script));
    if (len == 0 || len > NAME_MAX || start[0] == '.') {
        return 404;
    }
    memcpy(name, start, len);
    name[len] = '\0';
    status = judge(folder_fd, name);
    if (status != 0 && status != 403) {
        return status;
    }
    script->info = start + len;
    if (asprintf(&script->path, "%s/%s", folder, name) < 0) {
        script->path = NULL;
    }
    if (asprintf(&script->route, "%s/%s", prefix, name) < 0) {
        script->route = NULL;
    }
    if (script->path == NULL || script->route == NULL) {
        script_clear(script);
        return 503;
    }
    return status;
}

void
script_clear(struct script *script)
{
    free(script->path);
    free(script->route);
    memset(script, 0, sizeof(*script));
}
