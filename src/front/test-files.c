/* Files beneath a folder: types, conditions, ranges, kinds of file, and some
 * thousand ways to ask for a file that lies outside, none of which may work. */
#include "front/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define CANARY "canary: never to be seen"

/* TOP/canary, TOP/secret/canary and TOP/root-x/canary lie outside TOP/root. */
struct world {
    char top[64];
    int root; /* TOP/root */
};

static void
file_make(const char *top, const char *name, const char *text)
{
    char path[256];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", top, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void
folder_make(const char *top, const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", top, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static void
link_make(const char *top, const char *name, const char *to)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", top, name);
    assert_int_equal(symlink(to, path), 0);
}

static int
world_make(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    char path[256];

    assert_non_null(w);
    snprintf(w->top, sizeof w->top, "/tmp/test-files-XXXXXX");
    assert_non_null(mkdtemp(w->top));
    folder_make(w->top, "root");
    folder_make(w->top, "root/sub");
    folder_make(w->top, "root/empty");
    folder_make(w->top, "root/sub/deep");
    folder_make(w->top, "root/.git");
    folder_make(w->top, "secret");
    folder_make(w->top, "root-x");
    file_make(w->top, "canary", CANARY);
    file_make(w->top, "secret/canary", CANARY);
    file_make(w->top, "secret/index.html", CANARY);
    file_make(w->top, "root-x/canary", CANARY);
    file_make(w->top, "root/.git/config", CANARY);
    file_make(w->top, "root/.htpasswd", CANARY);
    file_make(w->top, "root/index.html", "front");
    file_make(w->top, "root/ten.txt", "0123456789");
    file_make(w->top, "root/nothing.txt", "");
    file_make(w->top, "root/sub/index.html", "sub");
    file_make(w->top, "root/sub/a b.css", "css");
    file_make(w->top, "root/sub/deep/x.png", "png");
    file_make(w->top, "root/closed.txt", "closed");
    snprintf(path, sizeof(path), "%s/root/closed.txt", w->top);
    assert_int_equal(chmod(path, 0), 0);
    link_make(w->top, "root/link.txt", "ten.txt");
    link_make(w->top, "root/out.txt", "../canary");
    link_make(w->top, "root/outdir", "../secret");
    link_make(w->top, "root/sub/up", "../..");
    link_make(w->top, "root/loop", "loop");
    snprintf(path, sizeof(path), "%s/secret", w->top);
    link_make(w->top, "root/abs", path);
    link_make(w->top, "root/proc", "/proc/self/root");
    snprintf(path, sizeof(path), "%s/root", w->top);
    w->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(w->root >= 0);
    *state = w;
    return 0;
}

/* Everything below FOLDER, and itself. */
static void
tree_remove(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *e;

    while (dir != NULL && (e = readdir(dir)) != NULL) {
        char path[512];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        if (unlink(path) < 0) {
            tree_remove(path);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    rmdir(folder);
}

static int
world_remove(void **state)
{
    struct world *w = *state;

    close(w->root);
    tree_remove(w->top);
    free(w);
    return 0;
}

static struct files_text
text(const char *s)
{
    return (struct files_text){s, s != NULL ? strlen(s) : 0};
}

static struct files_query
get_query(void)
{
    return (struct files_query){.is_get = true, .now = 4000000000};
}

static int
fds_open(void)
{
    int fd, n = 0;

    for (fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

static void
names_and_kinds(void **state)
{
    static const struct {
        const char *path;
        int status;
        const char *body, *type;
    } table[] = {
        {"/", 200, "front", "text/html; charset=utf-8"},
        {"/index.html", 200, "front", "text/html; charset=utf-8"},
        {"/ten.txt", 200, "0123456789", "text/plain; charset=utf-8"},
        {"/nothing.txt", 200, "", "text/plain; charset=utf-8"},
        {"/sub/", 200, "sub", "text/html; charset=utf-8"},
        {"/sub/a b.css", 200, "css", "text/css; charset=utf-8"},
        {"/sub/deep/x.png", 200, "png", "image/png"},
        {"", 301, "", ""},
        {"/sub", 301, "", ""},
        {"/sub/deep", 301, "", ""},
        {"/sub/deep/", 404, "", ""},
        {"/empty/", 404, "", ""},
        {"/none", 404, "", ""},
        {"/none/", 404, "", ""},
        {"/ten.txt/", 404, "", ""},
        {"/ten.txt/x", 404, "", ""},
        {"/TEN.TXT", 404, "", ""},
        {"/.git/config", 404, "", ""},
        {"/.git/", 404, "", ""},
        {"/.git", 404, "", ""},
        {"/.htpasswd", 404, "", ""},
        {"/sub/../ten.txt", 404, "", ""},
        {"/sub/./a b.css", 404, "", ""},
        {"/..", 404, "", ""},
        {"/.", 404, "", ""},
        {"ten.txt", 404, "", ""},
        {"/link.txt", 404, "", ""},
        {"/out.txt", 404, "", ""},
        {"/outdir", 404, "", ""},
        {"/outdir/", 404, "", ""},
        {"/outdir/canary", 404, "", ""},
        {"/sub/up/canary", 404, "", ""},
        {"/abs/canary", 404, "", ""},
        {"/proc/etc/passwd", 404, "", ""},
        {"/loop", 404, "", ""},
        {"//etc/passwd", 404, "", ""},
    };
    struct world *w = *state;
    int before = fds_open();
    size_t i;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct files_query q = get_query();
        struct files_answer a;
        char body[64] = "";

        if (files_open(w->root, table[i].path, &q, &a) != table[i].status) {
            fail_msg("%s: %d", table[i].path, a.status);
        }
        assert_int_equal(a.status, table[i].status);
        assert_int_equal(a.offset, 0);
        assert_int_equal(a.length, strlen(table[i].body));
        assert_int_equal(a.total, strlen(table[i].body));
        assert_string_equal(a.type, table[i].type);
        assert_int_equal(a.fd >= 0, table[i].body[0] != '\0');
        if (a.fd >= 0) {
            assert_true((fcntl(a.fd, F_GETFD) & FD_CLOEXEC) != 0);
            assert_int_equal(pread(a.fd, body, sizeof(body), 0), a.length);
            assert_string_equal(body, table[i].body);
            close(a.fd);
        }
    }
    assert_int_equal(fds_open(), before);
}

static void
what_is_no_file(void **state)
{
    struct world *w = *state;
    struct files_query q = get_query();
    struct files_answer a;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char path[256];
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(path, sizeof(path), "%s/root/pipe", w->top);
    assert_int_equal(mkfifo(path, 0666), 0);
    assert_int_equal(files_open(w->root, "/pipe", &q, &a), 404);
    assert_int_equal(a.fd, -1);
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/root/sock", w->top);
    assert_int_equal(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(files_open(w->root, "/sock", &q, &a), 404);
    assert_int_equal(a.fd, -1);
    close(sock);
    snprintf(path, sizeof(path), "%s/root/zero", w->top);
    if (mknod(path, S_IFCHR | 0666, makedev(1, 5)) == 0) {
        assert_int_equal(files_open(w->root, "/zero", &q, &a), 404);
        assert_int_equal(a.fd, -1);
    }
}

/* Root may read anything, so it is somebody else for a moment. */
static void
without_the_right_to(void **state)
{
    struct world *w = *state;
    struct files_query q = get_query();
    struct files_answer a;
    uid_t me = geteuid();

    assert_int_equal(chmod(w->top, 0755), 0);
    if (me == 0) {
        assert_int_equal(seteuid(65534), 0);
    }
    assert_int_equal(files_open(w->root, "/closed.txt", &q, &a), 403);
    assert_int_equal(a.fd, -1);
    assert_string_equal(a.type, "");
    if (me == 0) {
        assert_int_equal(seteuid(0), 0);
    }
}

static void
without_descriptors(void **state)
{
    struct world *w = *state;
    struct files_query q = get_query();
    struct files_answer a;
    struct rlimit before, now;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = before;
    now.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    files_open(w->root, "/ten.txt", &q, &a);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(a.status, 503);
    assert_int_equal(a.fd, -1);
}

static void
head_gets_no_descriptor(void **state)
{
    struct world *w = *state;
    struct files_query q = get_query();
    struct files_answer a;

    q.is_get = false;
    q.range = text("bytes=2-3");
    assert_int_equal(files_open(w->root, "/ten.txt", &q, &a), 200);
    assert_int_equal(a.fd, -1);
    assert_int_equal(a.length, 10);
    assert_int_equal(a.total, 10);
}

static void
ranges(void **state)
{
    static const struct {
        const char *range;
        int status;
        uint64_t offset, length;
    } table[] = {
        {"bytes=0-0", 206, 0, 1},
        {"bytes=0-", 206, 0, 10},
        {"bytes=3-5", 206, 3, 3},
        {"bytes=9-", 206, 9, 1},
        {"bytes=9-9", 206, 9, 1},
        {"bytes=5-100", 206, 5, 5},
        {"bytes=5-18446744073709551615", 206, 5, 5},
        {"bytes=5-99999999999999999999999999", 206, 5, 5},
        {"bytes=-1", 206, 9, 1},
        {"bytes=-10", 206, 0, 10},
        {"bytes=-11", 206, 0, 10},
        {"bytes=-99999999999999999999999999", 206, 0, 10},
        {"BYTES=1-2", 206, 1, 2},
        {"bytes= 1-2 ", 206, 1, 2},
        {"bytes=10-", 416, 0, 0},
        {"bytes=10-11", 416, 0, 0},
        {"bytes=18446744073709551616-", 416, 0, 0},
        {"bytes=99999999999999999999999999-", 416, 0, 0},
        {"bytes=-0", 416, 0, 0},
        {"bytes=5-4", 200, 0, 10},
        {"bytes=-", 200, 0, 10},
        {"bytes=", 200, 0, 10},
        {"bytes", 200, 0, 10},
        {"", 200, 0, 10},
        {"bytes=a-b", 200, 0, 10},
        {"bytes=1", 200, 0, 10},
        {"bytes=1-2x", 200, 0, 10},
        {"bytes=+1-2", 200, 0, 10},
        {"bytes=1--2", 200, 0, 10},
        {"bytes=--2", 200, 0, 10},
        {"bytes=0x1-2", 200, 0, 10},
        {"bytes=1-2,4-5", 200, 0, 10},
        {"bytes=1-2,", 200, 0, 10},
        {"bytes =1-2", 200, 0, 10},
        {"items=1-2", 200, 0, 10},
    };
    struct world *w = *state;
    size_t i;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct files_query q = get_query();
        struct files_answer a;

        q.range = text(table[i].range);
        if (files_open(w->root, "/ten.txt", &q, &a) != table[i].status) {
            fail_msg("%s: %d", table[i].range, a.status);
        }
        assert_int_equal(a.offset, table[i].offset);
        assert_int_equal(a.length, table[i].length);
        assert_int_equal(a.total, 10);
        assert_int_equal(a.fd >= 0, table[i].status != 416);
        if (a.fd >= 0) {
            close(a.fd);
        }
    }
}

static void
ranges_of_an_empty_file(void **state)
{
    static const struct {
        const char *range;
        int status;
    } table[] = {
        {"bytes=0-", 416}, {"bytes=0-0", 416}, {"bytes=-1", 200},
        {"bytes=-0", 416}, {"bytes=1-2", 416},
    };
    struct world *w = *state;
    size_t i;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct files_query q = get_query();
        struct files_answer a;

        q.range = text(table[i].range);
        assert_int_equal(files_open(w->root, "/nothing.txt", &q, &a),
                         table[i].status);
        assert_int_equal(a.length, 0);
        assert_int_equal(a.fd, -1);
    }
}

/* The file's time is Fri, 20 Nov 2026 17:00:00 GMT and a half. */
#define TAG  "@" /* stands for the file's tag */
#define OLD  "Fri, 20 Nov 2026 16:59:59 GMT"
#define SAME "Fri, 20 Nov 2026 17:00:00 GMT"
#define NEW  "Fri, 20 Nov 2026 17:00:01 GMT"
static const struct {
    const char *match, *unmod, *none, *mod, *if_range, *range;
    int status;
} conditions_table[] = {
    {0, 0, TAG, 0, 0, 0, 304},
    {0, 0, "W/" TAG, 0, 0, 0, 304},
    {0, 0, "\"a\", " TAG, 0, 0, 0, 304},
    {0, 0, "\"a\",,\t" TAG ",\"b\"", 0, 0, 0, 304},
    {0, 0, "*", 0, 0, 0, 304},
    {0, 0, " * ", 0, 0, 0, 304},
    {0, 0, "\"a\"", 0, 0, 0, 200},
    {0, 0, "", 0, 0, 0, 200},
    {0, 0, "\"", 0, 0, 0, 200},
    {0, 0, "W/", 0, 0, 0, 200},
    {0, 0, "x" TAG, 0, 0, 0, 200},
    {0, 0, "\"a, *\"", 0, 0, 0, 200},
    {0, 0, 0, SAME, 0, 0, 304},
    {0, 0, 0, NEW, 0, 0, 304},
    {0, 0, 0, OLD, 0, 0, 200},
    {0, 0, 0, "Friday, 20-Nov-26 17:00:00 GMT", 0, 0, 304},
    {0, 0, 0, "Fri Nov 20 17:00:00 2026", 0, 0, 304},
    {0, 0, 0, "yesterday", 0, 0, 200},
    {0, 0, 0, "", 0, 0, 200},
    /* If-None-Match goes before If-Modified-Since. */
    {0, 0, "\"a\"", SAME, 0, 0, 200},
    {0, 0, TAG, OLD, 0, 0, 304},
    {TAG, 0, 0, 0, 0, 0, 200},
    {"*", 0, 0, 0, 0, 0, 200},
    {"\"a\"", 0, 0, 0, 0, 0, 412},
    {"W/" TAG, 0, 0, 0, 0, 0, 412},
    {"", 0, 0, 0, 0, 0, 412},
    {0, OLD, 0, 0, 0, 0, 412},
    {0, SAME, 0, 0, 0, 0, 200},
    {0, "never", 0, 0, 0, 0, 200},
    /* If-Match goes before If-Unmodified-Since, and both before the rest.
     */
    {TAG, OLD, 0, 0, 0, 0, 200},
    {"\"a\"", NEW, TAG, 0, 0, 0, 412},
    {0, OLD, TAG, 0, 0, "bytes=1-2", 412},
    {TAG, 0, TAG, 0, 0, "bytes=1-2", 304},
    /* Range, and If-Range. */
    {0, 0, TAG, 0, 0, "bytes=1-2", 304},
    {0, 0, TAG, 0, 0, "bytes=50-", 304},
    {0, 0, "\"a\"", 0, 0, "bytes=1-2", 206},
    {0, 0, 0, 0, TAG, "bytes=1-2", 206},
    {0, 0, 0, 0, "W/" TAG, "bytes=1-2", 200},
    {0, 0, 0, 0, "\"a\"", "bytes=1-2", 200},
    {0, 0, 0, 0, TAG ", \"a\"", "bytes=1-2", 200},
    {0, 0, 0, 0, SAME, "bytes=1-2", 206},
    {0, 0, 0, 0, NEW, "bytes=1-2", 200},
    {0, 0, 0, 0, OLD, "bytes=1-2", 200},
    {0, 0, 0, 0, "", "bytes=1-2", 200},
    {0, 0, 0, 0, "\"a\"", "bytes=50-", 200},
    {0, 0, 0, 0, TAG, "bytes=50-", 416},
    {0, 0, 0, 0, TAG, 0, 200},
};

static void
conditions(void **state)
{
    struct world *w = *state;
    struct timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0},
                                {.tv_sec = 1795194000, .tv_nsec = 500000000}};
    struct files_query q = get_query();
    struct files_answer a;
    char tag[64];
    size_t i;

    assert_int_equal(utimensat(w->root, "ten.txt", times, 0), 0);
    assert_int_equal(files_open(w->root, "/ten.txt", &q, &a), 200);
    close(a.fd);
    assert_int_equal(a.mtime, 1795194000);
    assert_int_equal(a.etag[0], '"');
    assert_int_equal(a.etag[strlen(a.etag) - 1], '"');
    snprintf(tag, sizeof tag, "%s", a.etag);
    for (i = 0; i < sizeof(conditions_table) / sizeof(conditions_table[0]);
         i++) {
        const char *from[] = {
            conditions_table[i].match,    conditions_table[i].unmod,
            conditions_table[i].none,     conditions_table[i].mod,
            conditions_table[i].if_range, conditions_table[i].range};
        struct files_text *to[] = {&q.if_match,      &q.if_unmodified_since,
                                   &q.if_none_match, &q.if_modified_since,
                                   &q.if_range,      &q.range};
        char *made[6] = {0};
        int k;

        q = get_query();
        for (k = 0; k < 6; k++) {
            const char *at = from[k] != NULL ? strchr(from[k], '@') : NULL;

            if (at != NULL) {
                assert_true(asprintf(&made[k], "%.*s%s%s", (int)(at - from[k]),
                                     from[k], tag, at + 1) > 0);
            } else if (from[k] != NULL) {
                made[k] = strdup(from[k]);
            }
            *to[k] = text(made[k]);
        }
        if (files_open(w->root, "/ten.txt", &q, &a) !=
            conditions_table[i].status) {
            fail_msg("row %zu: %d", i, a.status);
        }
        assert_string_equal(a.etag, tag);
        assert_int_equal(a.fd >= 0, a.status == 200 || a.status == 206);
        assert_int_equal(a.length, a.status == 200   ? 10
                                   : a.status == 206 ? 2
                                                     : 0);
        if (a.fd >= 0) {
            close(a.fd);
        }
        for (k = 0; k < 6; k++) {
            free(made[k]);
        }
    }
}

/* A change within the second changes the tag; a time to come is not told; and a
 * date of this very second proves nothing to If-Range. */
static void
times(void **state)
{
    struct world *w = *state;
    struct timespec at[2] = {{.tv_sec = 1}, {.tv_sec = 1795194000}};
    struct files_query q = get_query();
    struct files_answer a, b;

    assert_int_equal(utimensat(w->root, "ten.txt", at, 0), 0);
    assert_int_equal(files_open(w->root, "/ten.txt", &q, &a), 200);
    close(a.fd);
    at[1].tv_nsec = 1;
    assert_int_equal(utimensat(w->root, "ten.txt", at, 0), 0);
    assert_int_equal(files_open(w->root, "/ten.txt", &q, &b), 200);
    close(b.fd);
    assert_string_not_equal(a.etag, b.etag);
    q.now = 1795193000;
    assert_int_equal(files_open(w->root, "/ten.txt", &q, &a), 200);
    close(a.fd);
    assert_int_equal(a.mtime, 1795193000);
    q.range = text("bytes=1-2");
    q.if_range = text("Fri, 20 Nov 2026 17:00:00 GMT");
    q.now = 1795194000;
    assert_int_equal(files_open(w->root, "/ten.txt", &q, &a), 200);
    close(a.fd);
    q.now = 1795194001;
    assert_int_equal(files_open(w->root, "/ten.txt", &q, &a), 206);
    close(a.fd);
}

static void
types(void **state)
{
    static const struct {
        const char *name, *type;
    } table[] = {
        {"a.html", "text/html; charset=utf-8"},
        {"a/b.HTML", "text/html; charset=utf-8"},
        {"a.js", "text/javascript; charset=utf-8"},
        {"a.min.js", "text/javascript; charset=utf-8"},
        {"a.svg", "image/svg+xml"},
        {"a.json", "application/json"},
        {"a.wasm", "application/wasm"},
        {"a.tar.gz", "application/gzip"},
        {"a.7z", "application/x-7z-compressed"},
        {"a.zst", "application/zstd"},
        {"a", "application/octet-stream"},
        {"a.", "application/octet-stream"},
        {"a.html.", "application/octet-stream"},
        {"a.htmlx", "application/octet-stream"},
        {"b.html/a", "application/octet-stream"},
        {"", "application/octet-stream"},
    };
    static const char *const extensions[] = {
#define X(e, t) e,
#include "front/mime.def"
#undef X
    };
    size_t i, n = sizeof(extensions) / sizeof(extensions[0]);

    (void)state;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_string_equal(files_type(table[i].name), table[i].type);
    }
    assert_true(n > 50);
    for (i = 1; i < n; i++) {
        assert_true(strcmp(extensions[i - 1], extensions[i]) < 0);
    }
}

static void
locations(void **state)
{
    static const struct {
        const char *path, *query, *location;
    } table[] = {
        {"/sub", "", "/sub/"},
        {"/sub/deep", "a=1&b=%20", "/sub/deep/?a=1&b=%20"},
        {"/a b", "", "/a%20b/"},
        {"/\xc3\xa4", "", "/%C3%A4/"},
        {"/50%", "", "/50%25/"},
        {"/a?b#c", "", "/a%3Fb%23c/"},
        {"/x\r\nSet-Cookie: a", "", "/x%0D%0ASet-Cookie:%20a/"},
        {"//example.org", "", "/example.org/"},
        {"///example.org", "", "/example.org/"},
        {"/\\example.org", "", "/%5Cexample.org/"},
        {"", "", "/"},
        {"/a", "x\r\ny", NULL},
        {"/a", "x y", NULL},
        {"/0123456789012345678901234567890123456789", "", NULL},
        {"/a", "0123456789012345678901234567890123456789", NULL},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char out[40];
        int n = files_location(table[i].path, table[i].query,
                               strlen(table[i].query), out, sizeof(out));

        if (table[i].location == NULL) {
            assert_int_equal(n, -1);
            continue;
        }
        assert_string_equal(out, table[i].location);
        assert_int_equal(n, strlen(table[i].location));
    }
}

/* ----- ways out ----- */

static int
hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at;

    c = (char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* A careless decoder, in place: each %XX becomes a byte, ROUNDS times. It stops
 * at NUL like every C string. */
static void
decode(char *s, int rounds)
{
    for (; rounds > 0; rounds--) {
        char *from = s, *to = s;

        while (*from != '\0') {
            if (from[0] == '%' && hex_digit(from[1]) >= 0 &&
                hex_digit(from[2]) >= 0) {
                *to++ = (char)(hex_digit(from[1]) * 16 + hex_digit(from[2]));
                from += 3;
            } else {
                *to++ = *from++;
            }
        }
        *to = '\0';
    }
}

/* Bytes that some reader takes for '/' or '.', as that reader would. */
static void
fold(char *s)
{
    static const struct {
        const char *from;
        char to;
    } table[] = {
        {"\\", '/'},           {"\xc0\xaf", '/'},     {"\xe0\x80\xaf", '/'},
        {"\xc0\xae", '.'},     {"\xe0\x80\xae", '.'}, {"\xef\xbc\x8f", '/'},
        {"\xef\xbc\x8e", '.'}, {"\xe2\x88\x95", '/'}, {"\xc0\x2f", '/'},
        {"\xc0\x2e", '.'},
    };
    size_t i;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t len = strlen(table[i].from);
        char *at;

        while ((at = strstr(s, table[i].from)) != NULL) {
            at[0] = table[i].to;
            memmove(at + 1, at + len, strlen(at + len) + 1);
        }
    }
}

struct hunt {
    struct world *w;
    size_t n, n_distinct,
        n_real;  /* tried; different; that a plain open obeys */
    char **seen; /* a hash table of n_seen places */
    size_t n_seen;
};

static bool
hunt_is_new(struct hunt *h, const char *path)
{
    size_t i = 5381;
    const char *p;

    for (p = path; *p != '\0'; p++) {
        i = i * 33 + (unsigned char)*p;
    }
    for (i %= h->n_seen; h->seen[i] != NULL; i = (i + 1) % h->n_seen) {
        if (strcmp(h->seen[i], path) == 0) {
            return false;
        }
    }
    h->seen[i] = strdup(path);
    return true;
}

static bool
fd_is_canary(int fd)
{
    char bytes[64] = "";

    return pread(fd, bytes, sizeof(bytes) - 1, 0) > 0 &&
           (strstr(bytes, "canary") != NULL || strstr(bytes, "root:") != NULL);
}

/* Would the path lead to a canary without our guards? */
static bool
plain_open_escapes(const struct hunt *h, const char *path)
{
    char name[512];
    bool is_out;
    int fd;

    snprintf(name, sizeof(name), "%s/root/%s", h->w->top, path);
    fd = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    is_out = fd >= 0 && fd_is_canary(fd);
    if (fd >= 0) {
        close(fd);
    }
    return is_out;
}

static void
hunt_try(struct hunt *h, const char *path)
{
    struct files_query q = get_query();
    struct files_answer a;

    h->n++;
    if (!hunt_is_new(h, path)) {
        return;
    }
    h->n_distinct++;
    h->n_real += plain_open_escapes(h, path);
    files_open(h->w->root, path, &q, &a);
    if (a.fd < 0) {
        return;
    }
    if (fd_is_canary(a.fd)) {
        fail_msg("way out: \"%s\"", path);
    }
    close(a.fd);
}

/* FORM as it is, decoded once to three times, and folded. */
static void
hunt_form(struct hunt *h, const char *form)
{
    int rounds;

    for (rounds = 0; rounds < 4; rounds++) {
        char path[1024];

        snprintf(path, sizeof(path), "%s", form);
        decode(path, rounds);
        hunt_try(h, path);
        fold(path);
        hunt_try(h, path);
    }
}

static void
no_way_out(void **state)
{
    static const char *const ups[] = {
        "..",
        "%2e%2e",
        "%2E%2e",
        ".%2e",
        "%2e.",
        "%252e%252e",
        "%25252e%25252e",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%ef%bc%8e%ef%bc%8e",
        "...",
        "....",
        ".. ",
        "..%20",
        "..%00",
        "..;",
        "..;x=1",
        "..%09",
        ". .",
        "./..",
        "..%0d",
        "%c0.%c0.",
        "..%2e",
        "x/../..",
        "sub/up",
        "outdir",
    };
    static const char *const slashes[] = {
        "/",         "//",        "\\",        "%2f",    "%2F",  "%5c",
        "%252f",     "%255c",     "%25252f",   "%c0%af", "/./",  "/%2e/",
        "%ef%bc%8f", "%e2%88%95", "%e0%80%af", "/;/",    "%00/", "/.//",
    };
    static const char *const starts[] = {
        "", "/", "/sub", "/sub/deep", "/none", "/abs", "/ten.txt",
    };
    static const char *const ends[] = {
        "canary",  "secret/canary", "root-x/canary", "canary%00.html",
        "canary/", "secret/",       "canary.",       "etc/passwd",
    };
    struct hunt h = {.w = *state, .n_seen = 1 << 20};
    size_t u, s, b, e, depth;
    char form[1024];

    h.seen = calloc(h.n_seen, sizeof(char *));
    assert_non_null(h.seen);
    for (u = 0; u < sizeof(ups) / sizeof(ups[0]); u++) {
        for (s = 0; s < sizeof(slashes) / sizeof(slashes[0]); s++) {
            for (b = 0; b < sizeof(starts) / sizeof(starts[0]); b++) {
                for (e = 0; e < sizeof(ends) / sizeof(ends[0]); e++) {
                    for (depth = 1; depth <= 4; depth++) {
                        size_t i, n;

                        n = (size_t)snprintf(form, sizeof(form), "%s%s",
                                             starts[b], slashes[s]);
                        for (i = 0; i < depth; i++) {
                            n += (size_t)snprintf(form + n, sizeof(form) - n,
                                                  "%s%s", ups[u], slashes[s]);
                        }
                        snprintf(form + n, sizeof(form) - n, "%s", ends[e]);
                        hunt_form(&h, form);
                    }
                }
            }
        }
    }
    for (e = 0; e < sizeof(ends) / sizeof(ends[0]); e++) {
        for (s = 0; s < sizeof(slashes) / sizeof(slashes[0]); s++) {
            static const char *const links[] = {
                "out.txt", "outdir",        "abs",      "sub/up",  "proc",
                ".git",    "sub/up/secret", "proc/etc", "abs/../", "/",
                "",
            };

            for (b = 0; b < sizeof(links) / sizeof(links[0]); b++) {
                snprintf(form, sizeof(form), "/%s%s%s", links[b], slashes[s],
                         ends[e]);
                hunt_form(&h, form);
                snprintf(form, sizeof(form), "/%s%s%s/%s", links[b], slashes[s],
                         h.w->top, ends[e]);
                hunt_form(&h, form);
            }
        }
    }
    print_message("%zu forms, %zu different, %zu of them real ways out\n", h.n,
                  h.n_distinct, h.n_real);
    assert_true(h.n_distinct >= 5000);
    assert_true(h.n_real >= 200);
    for (u = 0; u < h.n_seen; u++) {
        free(h.seen[u]);
    }
    free(h.seen);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_kinds),
        cmocka_unit_test(what_is_no_file),
        cmocka_unit_test(without_the_right_to),
        cmocka_unit_test(without_descriptors),
        cmocka_unit_test(head_gets_no_descriptor),
        cmocka_unit_test(ranges),
        cmocka_unit_test(ranges_of_an_empty_file),
        cmocka_unit_test(conditions),
        cmocka_unit_test(times),
        cmocka_unit_test(types),
        cmocka_unit_test(locations),
        cmocka_unit_test(no_way_out),
    };

    return cmocka_run_group_tests(tests, world_make, world_remove);
}
