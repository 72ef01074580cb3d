/* The verb doors. What every user may see of all doors is in /proc/net/unix:
 * their numbers and attributes, a line for each descriptor that the kernel
 * keeps apart. Who serves them is in /proc/PID/fd, of the processes that the
 * caller may look at. All else a door tells itself, to who may open it. What
 * cannot be known is a '-', never a guess.
 */
#include "ctl/ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/json.h"
#include "base/plain.h"
#include "base/util.h"
#include "cohort/runfolder.h"
#include "door.h"
#include "door/dial.h"
#include "door/name.h"
#include "door/sys.h"
#include "door/wire.h"

#define ROWS_MAX  4096u
#define ASKED_MAX 128u /* doors that are asked at the same time */
#define ASK_MS    3000u

struct row {
    uint64_t uniquifier;
    uint32_t attributes;
    uint32_t n_descriptions, n_seen; /* n_seen: in the look under way */
    unsigned long inode; /* of a socket that its server holds; 0: none */
    pid_t pid;           /* 0: not known */
    char comm[20];
    char path[PATH_MAX];
    bool has_told; /* the rest is what the door told */
    struct door_welcome told;
};

/* A file that a door lies over, whose path is to be found. */
struct cover {
    unsigned long inode; /* of the socket that listens */
    dev_t dev;
    ino_t ino;
    bool is_found; /* several processes may hold the socket: by one of them */
};

/* A door that was asked what it is, and has not answered. */
struct question {
    int fd, answer;
    char *path;
};

struct list {
    struct row *rows; /* ROWS_MAX of them, grown as they come */
    size_t n_rows, room;
    struct cover covers[256];
    size_t n_covers;
    struct question asked[ASKED_MAX];
    size_t n_asked;
    bool is_cut; /* there were more */
};

/* The row of the door UNIQUIFIER, made if there is none. NULL: no room. */
static struct row *
row_of(struct list *list, uint64_t uniquifier)
{
    for (size_t i = 0; i < list->n_rows; i++) {
        if (list->rows[i].uniquifier == uniquifier) {
            return &list->rows[i];
        }
    }
    if (list->n_rows == list->room) {
        size_t room = list->room == 0 ? 16 : 2 * list->room;
        struct row *larger = room > ROWS_MAX
                                 ? NULL
                                 : realloc(list->rows, room * sizeof(*larger));

        if (larger == NULL) {
            list->is_cut = true;
            return NULL;
        }
        list->rows = larger;
        list->room = room;
    }
    list->rows[list->n_rows] = (struct row){.uniquifier = uniquifier};
    return &list->rows[list->n_rows++];
}

/* --- /proc/net/unix --------------------------------------------------------
 */

static void
add_cover(struct list *list, struct cover cover)
{
    for (size_t i = 0; i < list->n_covers; i++) {
        if (list->covers[i].inode == cover.inode) {
            return;
        }
    }
    if (list->n_covers < ARRAY_LEN(list->covers)) {
        list->covers[list->n_covers++] = cover;
    }
}

static void
read_line(struct list *list, const char *line)
{
    unsigned long inode = 0;
    char name[128] = "", end;
    unsigned long long uniquifier, dev, ino;
    unsigned attributes;
    struct row *row;

    if (sscanf(line, "%*s %*s %*s %*s %*s %*s %lu %127s", &inode, name) != 2) {
        return;
    }
    if (sscanf(name, "@" DOOR_NAME_PREFIX "%16llx/%8x%c", &uniquifier,
               &attributes, &end) == 2) {
        row = row_of(list, uniquifier);
        if (row != NULL) {
            row->attributes = attributes;
            row->n_seen++;
            row->n_descriptions = MAX_OF(row->n_descriptions, row->n_seen);
            row->inode = inode;
        }
    } else if (sscanf(name, "@" DOOR_ATTACH_PREFIX "%llx:%llx%c", &dev, &ino,
                      &end) == 2) {
        add_cover(list, (struct cover){inode, (dev_t)dev, (ino_t)ino, false});
    }
}

static int
read_sockets_once(struct list *list)
{
    FILE *file = fopen("/proc/net/unix", "re");
    char line[512];

    if (file == NULL) {
        return errno;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        read_line(list, line);
    }
    fclose(file);
    return 0;
}

/* The kernel gives the file a page at a time and finds its place again by
 * counting: a socket closed meanwhile hides another. Two looks, and what either
 * saw. */
static int
read_sockets(struct list *list)
{
    int error = read_sockets_once(list);

    for (size_t i = 0; i < list->n_rows; i++) {
        list->rows[i].n_seen = 0;
    }
    return error != 0 ? error : read_sockets_once(list);
}

/* --- What a door tells -----------------------------------------------------
 */

/* The door at PATH has TOLD what it is. NULL: no room. */
static struct row *
take_told(struct list *list, const char *path, const struct door_welcome *told)
{
    struct row *row = row_of(list, told->uniquifier);

    if (row != NULL) {
        row->has_told = true;
        row->told = *told;
        row->attributes = told->attributes;
        row->pid = told->pid;
        snprintf(row->path, sizeof(row->path), "%s", path);
    }
    return row;
}

/* Asks the door at PATH alone. 0 or an errno. */
static int
ask_one(struct list *list, const char *path, struct row **p_row)
{
    CLEAN_FD int fd = door_dial(path);
    struct door_welcome told;
    int error = fd < 0 ? errno : name_ask_info(fd, &told);

    *p_row = error == 0 ? take_told(list, path, &told) : NULL;
    return error != 0 ? error : *p_row == NULL ? ENOMEM : 0;
}

static void
drop_question(struct question *q)
{
    close(q->fd);
    close(q->answer);
    free(q->path);
}

/* Waits for all that were asked, at most ASK_MS together: those that are
 * stopped never answer, and shall not hold up the others. */
static void
take_answers(struct list *list)
{
    uint64_t until = door_now() + ASK_MS * 1000000ull;

    while (list->n_asked > 0) {
        struct pollfd polls[ASKED_MAX];
        uint64_t now = door_now();
        size_t left = 0;

        for (size_t i = 0; i < list->n_asked; i++) {
            polls[i] = (struct pollfd){list->asked[i].answer, POLLIN, 0};
        }
        if (now >= until || (poll(polls, list->n_asked,
                                  (int)((until - now) / 1000000u) + 1) < 0 &&
                             errno != EINTR)) {
            break;
        }
        for (size_t i = 0; i < list->n_asked; i++) {
            struct question *q = &list->asked[i];
            struct door_welcome told;
            int error = name_ask_end(q->answer, &told);

            if (error == EAGAIN) {
                list->asked[left++] = *q;
                continue;
            }
            if (error == 0) {
                take_told(list, q->path, &told);
            }
            drop_question(q);
        }
        list->n_asked = left;
    }
    while (list->n_asked > 0) {
        drop_question(&list->asked[--list->n_asked]);
    }
}

/* Asks the door at PATH; take_answers() takes what it says. */
static void
ask_path(struct list *list, const char *path)
{
    struct question q = {.fd = door_dial(path)};

    if (q.fd < 0) {
        return;
    }
    if (list->n_asked == ASKED_MAX) {
        take_answers(list);
    }
    q.path = strdup(path);
    if (q.path == NULL || name_ask_begin(q.fd, &q.answer) != 0) {
        close(q.fd);
        free(q.path);
        return;
    }
    list->asked[list->n_asked++] = q;
}

/* The doors of Cardea's modules, below the run folders of this user. */
static void
ask_modules(struct list *list)
{
    char parent[PATH_MAX - 300];

    runfolder_parent(parent, sizeof(parent));
    DIR *servers = opendir(parent);
    for (struct dirent *s; servers != NULL && (s = readdir(servers)) != NULL;) {
        char folder[PATH_MAX];
        DIR *modules = NULL;

        if (s->d_name[0] != '.') {
            snprintf(folder, sizeof(folder), "%s/%s", parent, s->d_name);
            modules = opendir(folder);
        }
        for (struct dirent *m;
             modules != NULL && (m = readdir(modules)) != NULL;) {
            char path[PATH_MAX + 300];

            snprintf(path, sizeof(path), "%s/%s/door", folder, m->d_name);
            if (m->d_name[0] != '.' && access(path, F_OK) == 0) {
                ask_path(list, path);
            }
        }
        if (modules != NULL) {
            closedir(modules);
        }
    }
    if (servers != NULL) {
        closedir(servers);
    }
}

/* --- /proc/PID/fd ----------------------------------------------------------
 */

static void
read_comm(struct row *row)
{
    char path[48];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)row->pid);
    file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(row->comm, sizeof(row->comm), file) != NULL) {
            row->comm[strcspn(row->comm, "\n")] = '\0';
        }
        fclose(file);
    }
}

/* The path of the covered file among the descriptors of a server, to be asked.
 */
static void
find_cover(struct list *list, int fds, struct cover *cover)
{
    DIR *dir = fdopendir(dup(fds));
    struct dirent *entry;
    char path[PATH_MAX];
    struct stat st;

    if (dir == NULL) {
        return;
    }
    rewinddir(dir);
    while ((entry = readdir(dir)) != NULL) {
        ssize_t len;

        if (fstatat(fds, entry->d_name, &st, 0) < 0 ||
            st.st_dev != cover->dev || st.st_ino != cover->ino) {
            continue;
        }
        len = readlinkat(fds, entry->d_name, path, sizeof(path) - 1);
        if (len > 0) {
            path[len] = '\0';
            cover->is_found = true;
            ask_path(list, path);
        }
        break;
    }
    closedir(dir);
}

/* INODE is a socket of process PID, whose descriptors are FDS. */
static void
found_socket(struct list *list, pid_t pid, int fds, unsigned long inode)
{
    for (size_t i = 0; i < list->n_rows; i++) {
        if (list->rows[i].inode == inode && list->rows[i].pid == 0) {
            list->rows[i].pid = pid;
        }
    }
    for (size_t i = 0; i < list->n_covers; i++) {
        if (list->covers[i].inode == inode && !list->covers[i].is_found) {
            find_cover(list, fds, &list->covers[i]);
        }
    }
}

static void
look_into(struct list *list, pid_t pid)
{
    char folder[32], target[64];
    struct dirent *entry;
    DIR *dir;

    snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)pid);
    dir = opendir(folder);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        ssize_t len =
            readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
        unsigned long inode;

        target[len > 0 ? len : 0] = '\0';
        if (sscanf(target, "socket:[%lu]", &inode) == 1) {
            found_socket(list, pid, dirfd(dir), inode);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static void
look_at_processes(struct list *list)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        pid_t pid = (pid_t)atoi(entry->d_name);

        if (pid > 0 && pid != getpid()) {
            look_into(list, pid);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* --- Showing ---------------------------------------------------------------
 */

static const struct {
    uint32_t bit;
    const char *name;
} attribute_names[] = {
    {DOOR_UNREF, "unref"},
    {DOOR_UNREF_MULTI, "unref-multi"},
    {DOOR_PRIVATE, "private"},
    {DOOR_PRIVCREATE, "privcreate"},
    {DOOR_NO_DEPLETION_CB, "no-depletion-cb"},
    {DOOR_REFUSE_DESC, "refuse-desc"},
    {DOOR_NO_CANCEL, "no-cancel"},
    {DOOR_REVOKED, "revoked"},
    {DOOR_IS_UNREF, "is-unref"},
};

static const char *
attributes_of(uint32_t attributes, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(attribute_names) && len < size; i++) {
        if ((attributes & attribute_names[i].bit) != 0) {
            len +=
                (size_t)snprintf(out + len, size - len, "%s%s",
                                 len > 0 ? "," : "", attribute_names[i].name);
        }
    }
    return len > 0 ? out : "-";
}

static bool
has_counts(const struct row *row)
{
    return row->has_told && (row->told.features & DOOR_FEATURE_COUNTS) != 0;
}

static void
print_row(FILE *out, const struct row *row)
{
    char attributes[128], server[48] = "-", counts[64];

    if (row->pid > 0) {
        snprintf(server, sizeof(server), "%d", (int)row->pid);
    }
    fprintf(out, "%016llx %7s %-15s %-18s ",
            (unsigned long long)row->uniquifier, server,
            row->comm[0] != '\0' ? row->comm : "-",
            attributes_of(row->attributes, attributes, sizeof(attributes)));
    if (has_counts(row)) {
        snprintf(counts, sizeof(counts), "%7u %5u %8llu %5u", row->told.threads,
                 row->told.threads_high, (unsigned long long)row->told.calls,
                 row->told.references);
    } else {
        snprintf(counts, sizeof(counts), "%7s %5s %8s %5u", "-", "-", "-",
                 row->n_descriptions);
    }
    fprintf(out, "%s  ", counts);
    plain_put(out, row->path[0] != '\0' ? row->path : "-");
    fputc('\n', out);
}

static void
print_one(FILE *out, const struct row *row)
{
    const struct door_welcome *told = &row->told;
    char attributes[128];

    fputs("path         ", out);
    plain_put(out, row->path);
    fprintf(out,
            "\nnumber       %016llx\nserver       %d %s\nattributes   %s\n"
            "procedure    %#llx\ncookie       %#llx\n"
            "data         %llu to ",
            (unsigned long long)row->uniquifier, (int)row->pid, row->comm,
            attributes_of(row->attributes, attributes, sizeof(attributes)),
            (unsigned long long)told->proc, (unsigned long long)told->cookie,
            (unsigned long long)told->data_min);
    if (told->data_max == UINT64_MAX) {
        fputs("any number of bytes\n", out);
    } else {
        fprintf(out, "%llu bytes\n", (unsigned long long)told->data_max);
    }
    fprintf(out, "descriptors  at most %u\ntakes        %s\n", told->desc_max,
            (told->features & DOOR_FEATURE_HTTP) != 0 ? "requests (cardea.h)"
                                                      : "bytes (door_call)");
    if (has_counts(row)) {
        fprintf(out,
                "threads      %u, at most %u so far\ncalls        %llu\n"
                "references   %u\n",
                told->threads, told->threads_high,
                (unsigned long long)told->calls, told->references);
    }
}

static void
json_row(struct json *json, const struct row *row)
{
    char text[128];

    json_object(json, NULL);
    json_text(json, "path", row->path[0] != '\0' ? row->path : NULL);
    snprintf(text, sizeof(text), "%016llx",
             (unsigned long long)row->uniquifier);
    json_text(json, "number", text);
    if (row->pid > 0) {
        json_num(json, "pid", (uint64_t)row->pid);
    } else {
        json_null(json, "pid");
    }
    json_text(json, "program", row->comm[0] != '\0' ? row->comm : NULL);
    json_list(json, "attributes");
    for (size_t i = 0; i < ARRAY_LEN(attribute_names); i++) {
        if ((row->attributes & attribute_names[i].bit) != 0) {
            json_text(json, NULL, attribute_names[i].name);
        }
    }
    json_list_end(json);
    if (has_counts(row)) {
        json_num(json, "threads", row->told.threads);
        json_num(json, "threads_high", row->told.threads_high);
        json_num(json, "calls", row->told.calls);
        json_num(json, "references", row->told.references);
    } else {
        json_num(json, "descriptions", row->n_descriptions);
    }
    json_object_end(json);
}

static int
by_path(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    bool has_x = x->path[0] != '\0', has_y = y->path[0] != '\0';

    if (has_x != has_y) {
        return has_x ? -1 : 1;
    }
    return has_x ? strcmp(x->path, y->path)
                 : (x->uniquifier > y->uniquifier) -
                       (x->uniquifier < y->uniquifier);
}

static void
show_all(struct ctl *ctl, const struct list *list)
{
    struct json json;

    if (ctl->as_json) {
        json_init(&json, ctl->out);
        json_list(&json, NULL);
        for (size_t i = 0; i < list->n_rows; i++) {
            json_row(&json, &list->rows[i]);
        }
        json_list_end(&json);
        fputc('\n', ctl->out);
        return;
    }
    fprintf(ctl->out, "%-16s %7s %-15s %-18s %7s %5s %8s %5s  %s\n", "NUMBER",
            "PID", "PROGRAM", "ATTRIBUTES", "THREADS", "HIGH", "CALLS", "REFS",
            "PATH");
    for (size_t i = 0; i < list->n_rows; i++) {
        print_row(ctl->out, &list->rows[i]);
    }
}

static int
show_path(struct ctl *ctl, struct list *list, const char *path)
{
    struct row *row = NULL;
    struct json json;
    int error = ask_one(list, path, &row);

    if (error != 0) {
        fprintf(ctl->errors,
                "cardea doors: %s: no door answers there: %s (%s)\n", path,
                strerrordesc_np(error), strerrorname_np(error));
        return CTL_FAILED;
    }
    read_comm(row);
    if (ctl->as_json) {
        json_init(&json, ctl->out);
        json_row(&json, row);
        fputc('\n', ctl->out);
    } else {
        print_one(ctl->out, row);
    }
    return CTL_OK;
}

int
ctl_doors(struct ctl *ctl)
{
    struct list *list = calloc(1, sizeof(*list));
    int status = CTL_OK, error;

    if (list == NULL) {
        fputs("cardea doors: no memory for the list\n", ctl->errors);
        return CTL_FAILED;
    }
    if (ctl->n_words > 0) {
        status = show_path(ctl, list, ctl->words[0]);
    } else if ((error = read_sockets(list)) != 0) {
        fprintf(ctl->errors, "cardea doors: /proc/net/unix: %s (%s)\n",
                strerrordesc_np(error), strerrorname_np(error));
        status = CTL_FAILED;
    } else {
        ask_modules(list);
        look_at_processes(list);
        take_answers(list);
        for (size_t i = 0; i < list->n_rows; i++) {
            if (list->rows[i].pid > 0) {
                read_comm(&list->rows[i]);
            }
        }
        if (list->n_rows > 0) {
            qsort(list->rows, list->n_rows, sizeof(*list->rows), by_path);
        }
        show_all(ctl, list);
        if (list->is_cut) {
            fputs("cardea doors: there are more than are shown\n", ctl->errors);
        }
    }
    free(list->rows);
    free(list);
    return status;
}
