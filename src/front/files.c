/* A request's path becomes a descriptor, or a status. The one thing that must
 * never happen is that a file outside the folder is sent, and two guards stand
 * before that which do not know of each other: no segment may start with a dot,
 * so ".." is refused by its text; and the kernel resolves the path beneath the
 * folder without following any symbolic link (openat2), so neither a race nor a
 * link that someone could place in the folder leads out.
 *
 * The verdict is taken on the open descriptor, never on the name again. */
#include "front/files.h"

#include "base/beneath.h"
#include "base/util.h"
#include "http/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define TRIES     4 /* of a look-up that raced with a rename */

/* ----- opening ----- */

/* Text that is not to be looked up at all. */
static bool
path_is_hidden(const char *path)
{
    const char *p;

    for (p = path; *p != '\0'; p++) {
        if (p[0] == '.' && (p == path || p[-1] == '/')) {
            return true;
        }
    }
    return path[0] != '\0' && path[0] != '/';
}

static int
status_of_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV:
    case ENAMETOOLONG:
    case ENXIO:  /* a socket, or a FIFO's like */
    case ENODEV: /* a device without a driver */
        return 404;
    case EACCES:
    case EPERM:
        return 403;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
        return 503;
    default:
        return 500;
    }
}

/* The descriptor, or a negative errno. O_NONBLOCK: opening a FIFO must not
 * wait; O_NOCTTY: nor may a terminal become ours. */
static int
open_beneath(int folder_fd, const char *name)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int i, fd = -1;

    for (i = 0; i < TRIES && fd < 0; i++) {
        fd = beneath_open(folder_fd, name, flags, false);
        if (fd < 0 && errno != EAGAIN && errno != EINTR) {
            break;
        }
    }
    return fd < 0 ? -errno : fd;
}

/* 200: *P_FD is a regular file and *ST tells about it. */
static int
file_find(int folder_fd, const char *path, int *p_fd, struct stat *st,
          const char **p_type)
{
    size_t len = strlen(path);
    bool wants_index = len > 0 && path[len - 1] == '/';
    char name[PATH_SIZE];
    CLEAN_FD int fd = -1;

    if (path_is_hidden(path)) {
        return 404;
    }
    if (len + sizeof("index.html") > sizeof(name)) {
        return 404;
    }
    snprintf(name, sizeof(name), "%s%s", len > 0 ? path + 1 : ".",
             wants_index ? "index.html" : "");
    fd = open_beneath(folder_fd, name);
    if (fd < 0) {
        return status_of_errno(-fd);
    }
    if (fstat(fd, st) < 0) {
        return 500;
    }
    if (S_ISDIR(st->st_mode) && !wants_index) {
        return 301;
    }
    if (!S_ISREG(st->st_mode)) {
        return 404;
    }
    *p_type = files_type(name);
    *p_fd = fd;
    fd = -1;
    return 200;
}

/* ----- conditions ----- */

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct files_text
text_trim(struct files_text t)
{
    while (t.len > 0 && is_blank(t.text[0])) {
        t.text++;
        t.len--;
    }
    while (t.len > 0 && is_blank(t.text[t.len - 1])) {
        t.len--;
    }
    return t;
}

/* The length of the entity tag at the start of T, with W/ and quotes; 0: there
 * is none. */
static size_t
etag_len(struct files_text t)
{
    size_t at = t.len >= 2 && memcmp(t.text, "W/", 2) == 0 ? 2 : 0;
    const char *end;

    if (at >= t.len || t.text[at] != '"') {
        return 0;
    }
    end = memchr(t.text + at + 1, '"', t.len - at - 1);
    return end == NULL ? 0 : (size_t)(end - t.text) + 1;
}

static bool
etag_is(const char *etag, const char *text, size_t len, bool weakly)
{
    if (weakly && len > 2 && text[0] == 'W') {
        text += 2;
        len -= 2;
    }
    return strlen(etag) == len && memcmp(etag, text, len) == 0;
}

/* Is ETAG (ours: never weak) in a list of tags, or the list "*"? What follows a
 * part that is no tag does not count. */
static bool
etag_in(const char *etag, struct files_text list, bool weakly)
{
    list = text_trim(list);
    if (list.len == 1 && list.text[0] == '*') {
        return true;
    }
    while (list.len > 0) {
        size_t n = etag_len(list);

        if (n > 0 && etag_is(etag, list.text, n, weakly)) {
            return true;
        }
        if (n == 0 && list.text[0] != ',' && !is_blank(list.text[0])) {
            return false;
        }
        n = n > 0 ? n : 1;
        list.text += n;
        list.len -= n;
    }
    return false;
}

/* 200 to go on, or 304 or 412: RFC 9110 section 13.2.2, steps 1 to 4. A date
 * that is none does not count. */
static int
conditions_judge(const struct files_query *q, const struct files_answer *a)
{
    int64_t date;

    if (q->if_match.text != NULL) {
        if (!etag_in(a->etag, q->if_match, false)) {
            return 412;
        }
    } else if (q->if_unmodified_since.text != NULL) {
        date = http_date_parse(q->if_unmodified_since.text,
                               q->if_unmodified_since.len);
        if (date >= 0 && a->mtime > date) {
            return 412;
        }
    }
    if (q->if_none_match.text != NULL) {
        return etag_in(a->etag, q->if_none_match, true) ? 304 : 200;
    }
    if (q->if_modified_since.text != NULL) {
        date = http_date_parse(q->if_modified_since.text,
                               q->if_modified_since.len);
        if (date >= 0 && a->mtime <= date) {
            return 304;
        }
    }
    return 200;
}

/* Does If-Range let the Range count? A date must be ours to the second, and
 * that second be over, or the file could have changed within it. */
static bool
if_range_holds(const struct files_query *q, const struct files_answer *a)
{
    struct files_text t = text_trim(q->if_range);
    size_t n;

    if (q->if_range.text == NULL) {
        return true;
    }
    n = etag_len(t);
    if (n > 0) {
        return n == t.len && etag_is(a->etag, t.text, n, false);
    }
    return a->mtime < q->now && http_date_parse(t.text, t.len) == a->mtime;
}

/* ----- the range ----- */

/* Digits at the start of *T, which moves behind them. 1: *P_N, the greatest
 * number there is if they say a greater one. 0: no digits. */
static int
number_take(struct files_text *t, uint64_t *p_n)
{
    size_t i = 0;
    uint64_t n = 0;

    while (i < t->len && t->text[i] >= '0' && t->text[i] <= '9') {
        uint64_t digit = (uint64_t)(t->text[i] - '0');

        n = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : n * 10 + digit;
        i++;
    }
    t->text += i;
    t->len -= i;
    *p_n = n;
    return i > 0;
}

/* 206: the range is *P_FIRST to *P_LAST, both within the file. 416: it lies
 * outside. 200: not a range that we know, so the field does not count. */
static int
range_judge(struct files_text t, uint64_t total, uint64_t *p_first,
            uint64_t *p_last)
{
    bool has_first, has_last;

    if (t.text == NULL || t.len < 6 || strncasecmp(t.text, "bytes=", 6) != 0) {
        return 200;
    }
    t = text_trim((struct files_text){t.text + 6, t.len - 6});
    has_first = number_take(&t, p_first);
    if (t.len == 0 || t.text[0] != '-') {
        return 200;
    }
    t = (struct files_text){t.text + 1, t.len - 1};
    has_last = number_take(&t, p_last);
    if (t.len > 0 || (!has_first && !has_last) ||
        (has_first && has_last && *p_last < *p_first)) {
        return 200;
    }
    if (!has_first) { /* the last so many bytes */
        if (*p_last == 0) {
            return 416;
        }
        *p_first = *p_last >= total ? 0 : total - *p_last;
        *p_last = total - 1;
        return total == 0 ? 200 : 206;
    }
    if (*p_first >= total) {
        return 416;
    }
    *p_last = has_last ? MIN_OF(*p_last, total - 1) : total - 1;
    return 206;
}

/* ----- the whole ----- */

static void
answer_describe(struct files_answer *a, const struct stat *st, int64_t now)
{
    a->total = (uint64_t)st->st_size;
    a->mtime = MIN_OF((int64_t)st->st_mtim.tv_sec, now);
    a->mtime = MAX_OF(a->mtime, 0);
    snprintf(a->etag, sizeof(a->etag), "\"%llx.%lx-%llx-%llx\"",
             (unsigned long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
             (unsigned long long)st->st_size, (unsigned long long)st->st_ino);
}

int
files_open(int folder_fd, const char *path, const struct files_query *query,
           struct files_answer *answer)
{
    uint64_t first = 0, last = 0;
    struct stat st;
    CLEAN_FD int fd = -1;

    memset(answer, 0, sizeof(*answer));
    answer->fd = -1;
    answer->type = "";
    answer->status = file_find(folder_fd, path, &fd, &st, &answer->type);
    if (answer->status != 200) {
        return answer->status;
    }
    answer_describe(answer, &st, query->now);
    answer->status = conditions_judge(query, answer);
    if (answer->status != 200) {
        return answer->status;
    }
    answer->length = answer->total;
    if (query->is_get && if_range_holds(query, answer)) {
        answer->status =
            range_judge(query->range, answer->total, &first, &last);
    }
    if (answer->status == 206) {
        answer->offset = first;
        answer->length = last - first + 1;
    } else if (answer->status == 416) {
        answer->length = 0;
    }
    if (query->is_get && answer->length > 0) {
        answer->fd = fd;
        fd = -1;
    }
    return answer->status;
}

/* One more byte of a text of at most SIZE - 1 bytes. */
static bool
out_put(char *out, size_t size, size_t *p_n, char c)
{
    if (*p_n + 1 >= size) {
        return false;
    }
    out[(*p_n)++] = c;
    return true;
}

/* RFC 3986 pchar without those that a reader could take for something else. */
static bool
is_path_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~/!$&'()*+,;=:@", c) != NULL);
}

int
files_location(const char *path, const char *query, size_t query_len, char *out,
               size_t size)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0, i;
    bool fits = true;

    /* Two slashes at the start would be a host's name. */
    while (path[0] == '/' && path[1] == '/') {
        path++;
    }
    for (i = 0; path[i] != '\0' && fits; i++) {
        unsigned char c = (unsigned char)path[i];

        if (is_path_char(c)) {
            fits = out_put(out, size, &n, (char)c);
        } else {
            fits = out_put(out, size, &n, '%') &&
                   out_put(out, size, &n, hex[c >> 4]) &&
                   out_put(out, size, &n, hex[c & 15]);
        }
    }
    fits = fits && out_put(out, size, &n, '/');
    if (query_len > 0) {
        fits = fits && out_put(out, size, &n, '?');
    }
    for (i = 0; i < query_len && fits; i++) {
        fits = (unsigned char)query[i] > ' ' && query[i] != 0x7f &&
               out_put(out, size, &n, query[i]);
    }
    if (!fits) {
        return -1;
    }
    out[n] = '\0';
    return (int)n;
}

const char *
files_type(const char *name)
{
    static const struct {
        const char *extension, *type;
    } table[] = {
#define X(e, t) {e, t},
#include "front/mime.def"
#undef X
    };
    const char *slash = strrchr(name, '/');
    const char *dot = strrchr(slash != NULL ? slash : name, '.');
    size_t low = 0, high = ARRAY_LEN(table);

    while (dot != NULL && low < high) {
        size_t mid = (low + high) / 2;
        int order = strcasecmp(dot + 1, table[mid].extension);

        if (order == 0) {
            return table[mid].type;
        }
        if (order < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return "application/octet-stream";
}
