/* A server is known by its run folder; that it runs, by somebody listening on
 * the control socket there: a killed keeper leaves the folder and the file. Who
 * listens is believed if the folder is ours or root's, as the path says. */
#include "ctl/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/plain.h"
#include "base/util.h"
#include "base/world.h"
#include "cohort/runfolder.h"
#include "conf/conf.h"
#include "ctl/ctl.h"

#define ANSWER_LIMIT (10 * NS_PER_SEC)
#define UID_ANY      ((uid_t)-1)
#define ENTRIES_MAX  65536 /* of /tmp, that root looks through */
#define FOLDER_LOOK  (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static uint64_t
now_ns(void)
{
    return world_real()->now(NULL);
}

/* Connects to the socket at PATH in the name of FOLDER. OWNER: whose server it
 * must be; UID_ANY: whoever may listen there. 0, or an errno. */
static int
connect_to(const char *folder, const char *path, uid_t owner,
           struct server *server)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval limit = {5, 0};
    struct ucred who;
    socklen_t len = sizeof(who);
    int n = snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);

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
    if (owner != UID_ANY && who.uid != owner) {
        server_close(server);
        return ECONNREFUSED; /* a link to another's, or a trap */
    }
    server->pos = server->have = 0;
    server->file[0] = '\0';
    server->pid = who.pid;
    server->uid = who.uid;
    server->is_foreign = owner != UID_ANY;
    snprintf(server->folder, sizeof(server->folder), "%s", folder);
    return 0;
}

static int
connect_in(const char *folder, struct server *server)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/control", folder);
    return connect_to(folder, path, UID_ANY, server);
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
                "cardea %s: no server runs on %s%s; start one with: cardea run "
                "-f %s\n",
                verb, file, geteuid() != 0 ? " (perhaps as another user)" : "",
                file);
    } else {
        fprintf(ctl->errors, "cardea %s: %s/control: %s\n", verb, folder,
                strerrordesc_np(error));
    }
    return CTL_FAILED;
}

/* --- Root looks for other users' servers ------------------------------------
 *
 * All of it lies where its user may put anything at any time. So each step is
 * taken from the folder before, follows no link and wants the same owner; the
 * socket is reached by its descriptor; and who listens must be that owner. */

/* The server of user OWNER in folder NAME of PARENT_FD. 0, or an errno. */
static int
connect_foreign(int parent_fd, const char *parent, const char *name,
                uid_t owner, struct server *server)
{
    CLEAN_FD int folder = openat(parent_fd, name, FOLDER_LOOK);
    CLEAN_FD int socket =
        folder < 0 ? -1
                   : openat(folder, "control", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    char path[64];
    char whole[PATH_MAX];
    struct stat st;

    if (socket < 0) {
        return errno;
    }
    if (fstat(folder, &st) < 0 || st.st_uid != owner ||
        fstat(socket, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_uid != owner) {
        return ENOENT;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", socket);
    snprintf(whole, sizeof(whole), "%s/%s", parent, name);
    return connect_to(whole, path, owner, server);
}

/* The user whose number TEXT is; UID_ANY: none, or root. */
static uid_t
uid_of(const char *text)
{
    char *end;
    unsigned long n;

    if (text[0] < '1' || text[0] > '9') {
        return UID_ANY;
    }
    errno = 0;
    n = strtoul(text, &end, 10);
    return *end == '\0' && errno == 0 && n < UID_ANY ? (uid_t)n : UID_ANY;
}

struct foreign {
    const char *name; /* of the run folder */
    struct server found;
    int n;
    uid_t others[2]; /* whose servers they are, the first two */
};

/* Looks for TOP/PREFIXuid, or TOP/PREFIXuid/INNER, of each uid. */
static void
look_through(struct foreign *f, const char *top, const char *prefix,
             const char *inner)
{
    DIR *dir = opendir(top);
    struct dirent *entry;

    for (int i = 0; dir != NULL && i < ENTRIES_MAX; i++) {
        CLEAN_FD int user_fd = -1;
        CLEAN_FD int fd = -1;
        char parent[PATH_MAX - 300];
        struct server one;
        struct stat st;
        uid_t uid;

        entry = readdir(dir);
        if (entry == NULL) {
            break;
        }
        uid = strncmp(entry->d_name, prefix, strlen(prefix)) == 0
                  ? uid_of(entry->d_name + strlen(prefix))
                  : UID_ANY;
        if (uid == UID_ANY) {
            continue;
        }
        user_fd = openat(dirfd(dir), entry->d_name, FOLDER_LOOK);
        if (user_fd < 0 || fstat(user_fd, &st) < 0 || st.st_uid != uid) {
            continue;
        }
        fd = openat(user_fd, inner, FOLDER_LOOK);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != uid) {
            continue;
        }
        snprintf(parent, sizeof(parent), "%s/%s%s%s", top, entry->d_name,
                 strcmp(inner, ".") == 0 ? "" : "/",
                 strcmp(inner, ".") == 0 ? "" : inner);
        if (connect_foreign(fd, parent, f->name, uid, &one) != 0) {
            continue;
        }
        if (f->n < 2) {
            f->others[f->n] = uid;
        }
        if (++f->n == 1) {
            f->found = one;
        } else {
            server_close(&one);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* CTL_OK: found in *SERVER; -1: no other user runs FILE; else a status after a
 * sentence. */
static int
find_foreign(struct ctl *ctl, const char *verb, const char *file,
             struct server *server)
{
    char name[96];
    struct foreign f = {.name = name, .found = {.fd = -1}};

    runfolder_name(file, name, sizeof(name));
    look_through(&f, "/run/user", "", "cardea");
    look_through(&f, "/tmp", "cardea-", ".");
    if (f.n == 1) {
        *server = f.found;
        snprintf(server->file, sizeof(server->file), "%s", file);
        return CTL_OK;
    }
    server_close(&f.found);
    if (f.n == 0) {
        return -1;
    }
    fprintf(ctl->errors,
            "cardea %s: %d users run a server on %s, %u and %u among them; ask "
            "as one of them\n",
            verb, f.n, file, (unsigned)f.others[0], (unsigned)f.others[1]);
    return CTL_FAILED;
}

bool
server_again(struct server *server)
{
    char folder[PATH_MAX];

    memcpy(folder, server->folder, sizeof(folder));
    return connect_in(folder, server) == 0;
}

/* --- Finding -------------------------------------------------------------- */

static int
find_by_file(struct ctl *ctl, const char *verb, const char *file,
             struct server *server)
{
    char folder[PATH_MAX];
    int error, status;

    if (access(file, F_OK) < 0 && errno == ENOENT) {
        fprintf(ctl->errors, "cardea %s: %s: no such file\n", verb, file);
        return CTL_CONFIG;
    }
    folder_of(ctl, file, folder);
    error = connect_in(folder, server);
    if (error == 0) {
        snprintf(server->file, sizeof(server->file), "%s", file);
        return CTL_OK;
    }
    if (geteuid() == 0 && ctl->file != NULL) {
        status = find_foreign(ctl, verb, file, server);
        if (status >= 0) {
            return status;
        }
    }
    return explain(ctl, verb, file, folder, error);
}

/* The configuration that SERVER serves, into its FILE, by a connection of its
 * own. */
static void
ask_file(struct server *server)
{
    static const char title[] = "configuration  ";
    static const char request[] = "status\n";
    uint64_t deadline = now_ns() + ANSWER_LIMIT;
    struct server again = {.fd = -1};
    char line[PATH_MAX];

    snprintf(server->file, sizeof(server->file), "?");
    if (connect_in(server->folder, &again) != 0 ||
        send(again.fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0) {
        server_close(&again);
        return;
    }
    while (server_line(&again, line, sizeof(line), deadline) > 0) {
        if (strncmp(line, title, sizeof(title) - 1) == 0) {
            snprintf(server->file, sizeof(server->file), "%s",
                     line + sizeof(title) - 1);
            break;
        }
    }
    server_close(&again);
}

static void
list_file(struct ctl *ctl, struct server *server)
{
    fputs("  -f ", ctl->errors);
    plain_put(ctl->errors, server->file);
    fprintf(ctl->errors, "   (pid %d)\n", (int)server->pid);
}

/* What find_only() looks for. */
struct search {
    const char *verb;
    bool must_name; /* one alone is not taken either */
    int n;
    struct server first;
};

/* Looks at FOLDER: keeps the first that runs; lists all if there are more, or
 * if it has to be named. */
static void
consider(struct ctl *ctl, struct search *s, const char *folder)
{
    struct server one;

    if (connect_in(folder, &one) != 0) {
        return;
    }
    ask_file(&one);
    s->n++;
    if (s->n == 1 && !s->must_name) {
        s->first = one;
        return;
    }
    if (s->n == 1) {
        fprintf(ctl->errors,
                "cardea %s: which server? There is no configuration in this "
                "folder; name it with -f FILE. What runs:\n",
                s->verb);
    } else if (s->n == 2 && !s->must_name) {
        fprintf(ctl->errors,
                "cardea %s: more than one server runs; name one with -f "
                "FILE:\n",
                s->verb);
        list_file(ctl, &s->first);
        server_close(&s->first);
    }
    list_file(ctl, &one);
    server_close(&one);
}

static int
find_only(struct ctl *ctl, const char *verb, bool must_name,
          struct server *server)
{
    struct search s = {
        .verb = verb, .must_name = must_name, .first = {.fd = -1}};
    char parent[PATH_MAX - 300];
    DIR *dir;
    struct dirent *entry;

    runfolder_parent(parent, sizeof(parent));
    dir = opendir(parent);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char folder[PATH_MAX];

        if (entry->d_name[0] != '.') {
            snprintf(folder, sizeof(folder), "%s/%s", parent, entry->d_name);
            consider(ctl, &s, folder);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    if (s.n == 0) {
        fprintf(ctl->errors,
                "cardea %s: no server of this user runs (%s holds none); start "
                "one with: cardea run -f FILE\n",
                verb, parent);
    }
    if (s.n != 1 || must_name) {
        return s.n > 0 && must_name ? CTL_USAGE : CTL_FAILED;
    }
    *server = s.first;
    fprintf(ctl->errors, "cardea %s: the only server that runs: -f ", verb);
    plain_put(ctl->errors, server->file);
    fputc('\n', ctl->errors);
    return CTL_OK;
}

int
server_find(struct ctl *ctl, const char *verb, bool must_name,
            struct server *server)
{
    const char *file = ctl->file;

    *server = (struct server){.fd = -1};
    for (size_t i = 0; file == NULL && ctl->files[i] != NULL; i++) {
        /* Only what changes nothing may mean another than this folder's. */
        if ((i == 0 || must_name) && access(ctl->files[i], F_OK) == 0) {
            file = ctl->files[i];
        }
    }
    return file != NULL ? find_by_file(ctl, verb, file, server)
                        : find_only(ctl, verb, must_name, server);
}

bool
server_readable(struct server *server, uint64_t deadline)
{
    for (;;) {
        uint64_t now = now_ns();
        uint64_t left = deadline > now ? deadline - now : 0;
        struct pollfd p = {.fd = server->fd, .events = POLLIN};
        int ms =
            deadline == UINT64_MAX
                ? -1
                : (int)MIN_OF((left + NS_PER_MS - 1) / NS_PER_MS, 1u << 30);
        int ready = server->pos < server->have || poll(&p, 1, ms);

        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready == 0) {
            errno = ETIMEDOUT;
        }
        return ready > 0;
    }
}

/* More of the reply into BYTES. As recv(). */
static ssize_t
read_more(struct server *server, uint64_t deadline)
{
    ssize_t n;

    /* Who always has a byte more must end too. */
    if (deadline != UINT64_MAX && now_ns() >= deadline) {
        errno = ETIMEDOUT;
        return -1;
    }
    if (!server_readable(server, deadline)) {
        return -1;
    }
    n = recv(server->fd, server->bytes, sizeof(server->bytes), 0);
    server->pos = 0;
    server->have = n > 0 ? (size_t)n : 0;
    return n;
}

int
server_line(struct server *server, char *line, size_t size, uint64_t deadline)
{
    size_t len = 0;

    for (;;) {
        ssize_t n = 1;
        char c = '\n';

        if (server->pos == server->have) {
            n = read_more(server, deadline);
        }
        if (n < 0) {
            return -1;
        }
        if (n > 0) {
            c = server->bytes[server->pos++];
        }
        if (c == '\n') {
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
        fprintf(ctl->errors, "cardea %s: the server says: ", verb);
        plain_put(ctl->errors, line + 6);
        fputc('\n', ctl->errors);
    } else if (rc > 0) {
        fprintf(ctl->errors, "cardea %s: what answers is no server: ", verb);
        plain_put_short(ctl->errors, line, 60);
        fputc('\n', ctl->errors);
    } else {
        fprintf(ctl->errors, "cardea %s: the server did not answer: %s\n", verb,
                rc < 0 ? strerrordesc_np(errno) : "it closed the connection");
    }
    return CTL_FAILED;
}

int
server_broke_off(struct ctl *ctl, const char *verb)
{
    fprintf(ctl->errors, "cardea %s: the server stopped answering: %s\n", verb,
            strerrordesc_np(errno));
    return CTL_FAILED;
}
