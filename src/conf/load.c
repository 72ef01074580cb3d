/* Reading a file in three steps: are its bytes text, are its words statements,
 * do its statements make sense. A mistake in the first ends it; the second and
 * third report together. */
#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "conf/check.h"
#include "conf/macro.h"
#include "conf/outside.h"
#include "conf/source.h"
#include "conf/text.h"

/* A conf and what it points to: a caller only sees the first. */
struct conf_box {
    struct conf conf;
    struct conf_memory memory;
};

void
conf_free(struct conf *conf)
{
    struct conf_box *box = (struct conf_box *)conf;

    if (box && conf->block) {
        free(conf->block);
    } else if (box) {
        conf_memory_free(&box->memory);
        free(box);
    }
}

/* Names of the file and of its folder. */
static void
box_name(struct conf_source *source, const char *name)
{
    struct conf *conf = source->conf;
    size_t len = strlen(name);
    char *path =
        conf_path_absolute(source->scratch, source->outside->folder, name, len);

    if (path &&
        conf_source_add(source, name, path, (struct conf_where){0}) == 0) {
        conf->file = conf->files[0].name;
        conf->folder = conf->files[0].folder;
    }
}

static void
box_fill(struct conf_source *source, const struct conf_options *options,
         const char *text, size_t len)
{
    struct conf_nodes_list list = {0};
    struct conf_tree tree;

    conf_macros_give(source, options);
    if (!conf_source_judge(source, 0, text, len)) {
        return;
    }
    conf_source_parse(source, 0, text, len, &list);
    conf_macros_unused(source);
    tree = (struct conf_tree){list.first, source->is_whole};
    if (!source->scratch->failed && !source->memory->failed) {
        conf_check(&(struct conf_check){
            .outside = source->outside,
            .tree = &tree,
            .memory = source->memory,
            .report = source->report,
            .conf = source->conf,
        });
    }
}

/* As conf_parse_with(); the file was found to be DEVICE and INODE. */
static struct conf *
parse_known(const struct conf_outside *outside,
            const struct conf_options *options, const char *name,
            const char *text, size_t len, uint64_t device, uint64_t inode,
            FILE *errors)
{
    struct conf_box *box = calloc(1, sizeof(*box));
    struct conf_memory scratch = {0};
    struct conf_report report = {.n = 0};
    struct conf_source source = {
        .outside = outside,
        .scratch = &scratch,
        .report = &report,
        .is_whole = true,
    };

    if (!box) {
        goto memory;
    }
    source.memory = &box->memory;
    source.conf = &box->conf;
    report.conf = &box->conf;
    box_name(&source, name);
    if (!scratch.failed && !box->memory.failed) {
        box->conf.files[0].device = device;
        box->conf.files[0].inode = inode;
        box_fill(&source, options, text, len);
    }
    if (scratch.failed || box->memory.failed) {
        goto memory;
    }
    conf_memory_free(&scratch);
    if (report.n == 0) {
        return &box->conf;
    }
    conf_report_write(&report, errors);
    conf_free(&box->conf);
    return NULL;
memory:
    fprintf(errors, "%s: out of memory\n", name);
    conf_memory_free(&scratch);
    conf_free(box ? &box->conf : NULL);
    return NULL;
}

struct conf *
conf_parse_with(const struct conf_outside *outside,
                const struct conf_options *options, const char *name,
                const char *text, size_t len, FILE *errors)
{
    return parse_known(outside, options, name, text, len, 0, 0, errors);
}

/* The real outside; FOLDER has PATH_MAX bytes. false: said why not. */
static bool
outside_find(struct conf_outside *outside, char *folder, const char *name,
             FILE *errors)
{
    int r = conf_outside_real(outside, folder);

    if (r < 0) {
        /* not reached: the working folder was removed */
        fprintf(errors, "%s: the working folder cannot be found: %s\n", name,
                strerror(-r));
    }
    return r == 0;
}

struct conf *
conf_parse(const char *name, const char *text, size_t len, FILE *errors)
{
    struct conf_outside outside;
    char folder[PATH_MAX];

    if (!outside_find(&outside, folder, name, errors)) {
        /* not reached: the working folder was removed */
        return NULL;
    }
    return conf_parse_with(&outside, NULL, name, text, len, errors);
}

struct conf *
conf_load(const char *file, const struct conf_options *options, FILE *errors)
{
    CLEAN_FREE char *buffer = malloc(CONF_FILE_MAX + 1);
    CLEAN_FD int fd = -1;
    struct conf_outside outside;
    char folder[PATH_MAX];
    struct stat st;
    ssize_t len;

    if (!buffer) {
        /* not reached: memory is gone */
        fprintf(errors, "%s: out of memory\n", file);
        return NULL;
    }
    /* a pipe or a terminal is good here: who names it waits for it */
    fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        fprintf(errors, "%s: cannot open: %s\n", file, strerror(errno));
        return NULL;
    }
    len = conf_outside_fill(fd, buffer, CONF_FILE_MAX + 1);
    if (len < 0) {
        fprintf(errors, "%s: cannot read: %s\n", file, strerror((int)-len));
        return NULL;
    }
    if (!outside_find(&outside, folder, file, errors)) {
        /* not reached: the working folder was removed */
        return NULL;
    }
    return parse_known(&outside, options, file, buffer, (size_t)len,
                       (uint64_t)st.st_dev, (uint64_t)st.st_ino, errors);
}
