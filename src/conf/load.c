/* Reading a file in three steps: are its bytes text, are its words statements,
 * do its statements make sense. A mistake in the first ends it; the second and
 * third report together. */
#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "conf/check.h"
#include "conf/outside.h"
#include "conf/text.h"

#define FILE_MAX ((size_t)1024 * 1024)

/* A conf and what it points to: a caller only sees the first. */
struct conf_box {
    struct conf conf;
    struct conf_memory memory;
};

void
conf_free(struct conf *conf)
{
    struct conf_box *box = (struct conf_box *)conf;

    if (box) {
        conf_memory_free(&box->memory);
        free(box);
    }
}

/* Line and column (of characters) of the byte at AT. */
static struct conf_where
where_of(const char *text, size_t at)
{
    struct conf_where where = {1, 1};

    for (size_t i = 0; i < at; i++) {
        if (text[i] == '\n') {
            where.line++;
            where.column = 1;
        } else if (((unsigned char)text[i] & 0xc0) != 0x80) {
            where.column++;
        }
    }
    return where;
}

/* Names of the file and of its folder. */
static void
box_name(struct conf_box *box, const struct conf_outside *outside,
         const char *name)
{
    const char *slash = strrchr(name, '/');

    box->conf.file = conf_memory_text(&box->memory, name, strlen(name));
    box->conf.folder =
        conf_path_absolute(&box->memory, outside->folder, name,
                           slash ? (size_t)(slash - name) + 1 : 0);
}

static void
box_fill(struct conf_box *box, const struct conf_outside *outside,
         const char *text, size_t len, struct conf_report *report)
{
    struct conf_memory scratch = {0};
    struct conf_tree tree = {0};
    char *copy = conf_memory_take(&scratch, len + 2, 1);

    if (copy) {
        if (len > 0) {
            memcpy(copy, text, len);
        }
        conf_tree_parse(copy, len, &scratch, report, &tree);
    }
    if (!scratch.failed) {
        conf_check(&(struct conf_check){
            .outside = outside,
            .tree = &tree,
            .memory = &box->memory,
            .report = report,
            .conf = &box->conf,
        });
    }
    box->memory.failed |= scratch.failed;
    conf_memory_free(&scratch);
}

struct conf *
conf_parse_with(const struct conf_outside *outside, const char *name,
                const char *text, size_t len, FILE *errors)
{
    struct conf_box *box = calloc(1, sizeof(*box));
    struct conf_report report = {.n = 0};
    const char *why = NULL;
    size_t bad;

    if (!box) {
        goto memory;
    }
    if (len > FILE_MAX) {
        conf_report_add(&report, (struct conf_where){1, 1},
                        "the file is larger than 1 MiB");
        goto mistake;
    }
    bad = conf_bytes_check(text, len, &why);
    if (bad < len) {
        conf_report_add(&report, where_of(text, bad), "%s", why);
        goto mistake;
    }
    box_name(box, outside, name);
    if (!box->memory.failed) {
        box_fill(box, outside, text, len, &report);
    }
    if (box->memory.failed) {
        goto memory;
    }
    if (report.n == 0) {
        return &box->conf;
    }
mistake:
    conf_report_write(&report, name, errors);
    conf_free(box ? &box->conf : NULL);
    return NULL;
memory:
    fprintf(errors, "%s: out of memory\n", name);
    conf_free(box ? &box->conf : NULL);
    return NULL;
}

struct conf *
conf_parse(const char *name, const char *text, size_t len, FILE *errors)
{
    struct conf_outside outside;
    char folder[PATH_MAX];
    int r = conf_outside_real(&outside, folder);

    if (r < 0) {
        fprintf(errors, "%s: the working folder cannot be found: %s\n", name,
                strerror(-r));
        return NULL;
    }
    return conf_parse_with(&outside, name, text, len, errors);
}

/* Reads FD into BUFFER, at most SIZE bytes. Their number, or -1 with errno. */
static ssize_t
file_read(int fd, char *buffer, size_t size)
{
    size_t n = 0;

    while (n < size) {
        ssize_t r = read(fd, buffer + n, size - n);

        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return -1;
        }
        if (r == 0) {
            break;
        }
        n += (size_t)r;
    }
    return (ssize_t)n;
}

struct conf *
conf_load(const char *file, const struct conf_options *options, FILE *errors)
{
    CLEAN_FREE char *buffer = malloc(FILE_MAX + 1);
    CLEAN_FD int fd = -1;
    ssize_t len;

    if (options && options->n_defines > 0) {
        fprintf(errors, "-D %s: macros are not available in this version\n",
                options->defines[0]);
        return NULL;
    }
    if (!buffer) {
        fprintf(errors, "%s: out of memory\n", file);
        return NULL;
    }
    fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        fprintf(errors, "%s: cannot open: %s\n", file, strerror(errno));
        return NULL;
    }
    len = file_read(fd, buffer, FILE_MAX + 1);
    if (len < 0) {
        fprintf(errors, "%s: cannot read: %s\n", file, strerror(errno));
        return NULL;
    }
    return conf_parse(file, buffer, (size_t)len, errors);
}
