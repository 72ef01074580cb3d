/* A server is known by its run folder; that it runs, by somebody listening on
 * the control socket there: a killed keeper leaves the folder and the file. Who
 * listens is believed if the folder is ours or root's, as the path says. */
#include "ctl/server.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "base/world.h"
#include "cohort/runfolder.h"
#include "conf/conf.h"
#include "ctl/ctl.h"

#define ANSWER_LIMIT (10 * NS_PER_SEC)

static uint64_t
now_ns(void)
{
    return world_real()->now(NULL);
}

/* Connects to the control socket in FOLDER. 0, or an errno. */
static int
connect_to(const char *folder, struct server *server)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval limit = {5, 0};
    struct ucred who;
    socklen_t len = sizeof(who);
    int n = snprintf(at.sun_path, sizeof(at.sun_path), "%s/control", folder);

    server->fd = -1;
    if (n >= (int)sizeof(at.sun_path)) {
        return ENAMETOOLONG;
    }
    server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->fd < 0) {
        return errno;
    }
    setsockopt(server->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(server->fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        getsockopt(server->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0) {
        int error = errno;

        server_close(server);
        return error;
    }
    server->pid = who.pid;
    snprintf(server->folder, sizeof(server->folder), "%s", folder);
    return 0;
}

void
server_close(struct server *server)
{
    if (server->fd >= 0) {
        close(server->fd);
    }
    server->fd = -1;
}

/* The run folder of FILE, also where the file cannot be understood any more. */
static void
folder_of(const struct ctl *ctl, const char *file, char folder[PATH_MAX])
{
    struct conf_options options = {
        .defines = ctl->defines,
        .n_defines = ctl->n_defines,
    };
    FILE *nowhere = fopen("/dev/null", "we");
    struct conf *conf = NULL;

    if (nowhere != NULL) {
        conf = conf_load(file, &options, nowhere);
        fclose(nowhere);
    }
    runfolder_path(conf, file, folder);
    if (conf != NULL) {
        conf_free(conf);
    }
}

static int
explain(struct ctl *ctl, const char *verb, const char *file, const char *folder,
        int error)
{
    if (error == EACCES || error == EPERM) {
        fprintf(ctl->errors,
                "cardea %s: %s/control: another user's server; ask as that "
                "user or as root\n",
                verb, folder);
    } else if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR) {
        fprintf(ctl->errors,
                "cardea %s: no server runs on %s; start one with: cardea run "
                "-f %s\n",
                verb, file, file);
    } else {
        fprintf(ctl->errors, "cardea %s: %s/control: %s\n", verb, folder,
                strerrordesc_np(error));
    }
    return CTL_FAILED;
}

static int
find_by_file(struct ctl *ctl, const char *verb, const char *file,
             struct server *server)
{
    char folder[PATH_MAX];
    int error;

    if (access(file, F_OK) < 0 && errno == ENOENT) {
        fprintf(ctl->errors, "cardea %s: %s: no such file\n", verb, file);
        return CTL_CONFIG;
    }
    folder_of(ctl, file, folder);
    error = connect_to(folder, server);
    return error == 0 ? CTL_OK : explain(ctl, verb, file, folder, error);
}

/* The configuration that the server in FOLDER serves, into FILE. */
static void
file_of(struct server *server, char *file, size_t size)
{
    static const char title[] = "configuration  ";
    static const char request[] = "status\n";
    uint64_t deadline = now_ns() + ANSWER_LIMIT;
    char line[PATH_MAX];

    snprintf(file, size, "?");
    if (send(server->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0) {
        return;
    }
    while (server_line(server, line, sizeof(line), deadline) > 0) {
        if (strncmp(line, title, sizeof(title) - 1) == 0) {
            snprintf(file, size, "%s", line + sizeof(title) - 1);
            return;
        }
    }
}

/* Looks at FOLDER: takes it if it is the first that runs; from the second on,
 * lists all. */
static void
consider(struct ctl *ctl, const char *verb, const char *folder,
         struct server *first, int *p_n)
{
    struct server one;
    char file[PATH_MAX + 64];

    if (connect_to(folder, &one) != 0) {
        return;
    }
    if (++*p_n == 1) {
        *first = one;
        return;
    }
    if (*p_n == 2) {
        fprintf(ctl->errors,
                "cardea %s: more than one server runs; name one with -f "
                "FILE:\n",
                verb);
        file_of(first, file, sizeof(file));
        fprintf(ctl->errors, "  -f %s\n", file);
        server_close(first);
    }
    file_of(&one, file, sizeof(file));
    fprintf(ctl->errors, "  -f %s\n", file);
    server_close(&one);
}

static int
find_only(struct ctl *ctl, const char *verb, struct server *server)
{
    char parent[PATH_MAX - 300];
    DIR *dir;
    struct dirent *entry;
    int n = 0;

    runfolder_parent(parent, sizeof(parent));
    dir = opendir(parent);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char folder[PATH_MAX];

        if (entry->d_name[0] != '.') {
            snprintf(folder, sizeof(folder), "%s/%s", parent, entry->d_name);
            consider(ctl, verb, folder, server, &n);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    if (n == 0) {
        fprintf(ctl->errors,
                "cardea %s: no server of this user runs (%s holds none); start "
                "one with: cardea run -f FILE\n",
                verb, parent);
    }
    return n == 1 ? CTL_OK : CTL_FAILED;
}

int
server_find(struct ctl *ctl, const char *verb, struct server *server)
{
    const char *here = ctl->files[0];

    server->fd = -1;
    if (ctl->file != NULL) {
        return find_by_file(ctl, verb, ctl->file, server);
    }
    if (here != NULL && access(here, F_OK) == 0) {
        return find_by_file(ctl, verb, here, server);
    }
    return find_only(ctl, verb, server);
}

/* One byte at a time: lines are few and short. */
int
server_line(struct server *server, char *line, size_t size, uint64_t deadline)
{
    size_t len = 0;

    for (;;) {
        uint64_t now = now_ns();
        uint64_t left = deadline > now ? deadline - now : 0;
        struct pollfd p = {.fd = server->fd, .events = POLLIN};
        int ms =
            deadline == UINT64_MAX
                ? -1
                : (int)MIN_OF((left + NS_PER_MS - 1) / NS_PER_MS, 1u << 30);
        int ready = poll(&p, 1, ms);
        ssize_t n;
        char c;

        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready <= 0) {
            errno = ready == 0 ? ETIMEDOUT : errno;
            return -1;
        }
        n = recv(server->fd, &c, 1, 0);
        if (n < 0) {
            return -1;
        }
        if (n == 0 || c == '\n') {
            line[len] = '\0';
            return n > 0 || len > 0;
        }
        if (len + 1 < size) {
            line[len++] = c;
        }
    }
}

int
server_ask(struct ctl *ctl, const char *verb, struct server *server,
           const char *request)
{
    char line[512];
    int rc;

    if (send(server->fd, request, strlen(request), MSG_NOSIGNAL) < 0 ||
        send(server->fd, "\n", 1, MSG_NOSIGNAL) < 0) {
        /* It may have said why before it closed. */
        errno = EPIPE;
    }
    rc = server_line(server, line, sizeof(line), now_ns() + ANSWER_LIMIT);
    if (rc > 0 && strcmp(line, "ok") == 0) {
        return CTL_OK;
    }
    if (rc > 0 && strncmp(line, "error ", 6) == 0) {
        fprintf(ctl->errors, "cardea %s: the server says: %s\n", verb,
                line + 6);
    } else if (rc > 0) {
        fprintf(ctl->errors, "cardea %s: what answers is no server: %.60s\n",
                verb, line);
    } else {
        fprintf(ctl->errors, "cardea %s: the server did not answer: %s\n", verb,
                rc < 0 ? strerrordesc_np(errno) : "it closed the connection");
    }
    return CTL_FAILED;
}
