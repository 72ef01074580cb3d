/* Includes. A file is read once, whole, and parsed by a parser of its own in
 * the middle of that of the file which names it, so that macros are defined in
 * the order of the text and braces pair within each file. Whoever may write
 * into an included folder may not make the server wait (pipes, devices), or
 * exhaust it (sizes, numbers, cycles, links in a circle), or write on
 * somebody's terminal (file names). */
#include "conf/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "conf/text.h"

int
conf_source_add(struct conf_source *source, const char *name, const char *path,
                struct conf_where from)
{
    struct conf *conf = source->conf;
    const char *slash = strrchr(path, '/');
    size_t folder_len = slash && slash > path ? (size_t)(slash - path) : 1;
    struct conf_input *files, *file;

    files = conf_memory_grow(source->memory, conf->files, conf->n_files,
                             sizeof(*files));
    if (!files) {
        return -1;
    }
    conf->files = files;
    file = &files[conf->n_files];
    *file = (struct conf_input){
        .name = conf_memory_text(source->memory, name, strlen(name)),
        .path = conf_memory_text(source->memory, path, strlen(path)),
        .folder = conf_memory_text(source->memory, path, folder_len),
        .from = from,
    };
    if (source->memory->failed) {
        return -1;
    }
    return (int)conf->n_files++;
}

/* Line and column (of characters) of the byte at AT. */
static struct conf_where
where_of(size_t file, const char *text, size_t at)
{
    struct conf_where where = {1, 1, .file = (uint16_t)file};

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

bool
conf_source_judge(struct conf_source *source, size_t file, const char *text,
                  size_t len)
{
    const char *why = NULL;
    size_t bad;

    if (len > CONF_FILE_MAX) {
        conf_report_add(source->report, where_of(file, text, 0),
                        "the file is larger than 1 MiB");
        return false;
    }
    source->n_read += len;
    if (source->n_read > CONF_TEXT_MAX) {
        conf_report_add(source->report, where_of(file, text, 0),
                        "with this file, all that was read is larger than "
                        "16 MiB");
        return false;
    }
    bad = conf_bytes_check(text, len, &why);
    if (bad < len) {
        conf_report_add(source->report, where_of(file, text, bad), "%s", why);
        return false;
    }
    return true;
}

void
conf_source_parse(struct conf_source *source, size_t file, const char *text,
                  size_t len, struct conf_nodes_list *list)
{
    char *copy = conf_memory_take(source->scratch, len + 2, 1);

    if (!copy) {
        return;
    }
    if (len > 0) {
        memcpy(copy, text, len);
    }
    conf_tree_parse(source, file, copy, len, list);
}

/* One `include`, and for files of a folder the name of one of them. */
struct include {
    struct conf_source *source;
    const struct conf_word *word;
    struct conf_nodes_list *list;
    bool is_entry; /* of a folder */
    char **names;
    size_t n_names;
    const char *prefix; /* what stands before NAMES in messages */
};

/* Is file I the one with FILE's include, or one that led there? */
static bool
file_is_open(const struct conf *conf, size_t i, size_t file)
{
    for (;; file = conf->files[file].from.file) {
        if (i == file) {
            return true;
        }
        if (file == 0) {
            return false;
        }
    }
}

/* "a -> b -> a": from file I, which is open, down to FILE and to I again. */
static void
say_cycle(struct conf_source *source, size_t i, struct conf_where where)
{
    const struct conf *conf = source->conf;
    size_t chain[CONF_INCLUDE_DEPTH + 1], n = 0;
    char text[CONF_MESSAGE_MAX] = "";
    size_t len = 0;

    for (size_t file = where.file; n < ARRAY_LEN(chain);
         file = conf->files[file].from.file) {
        chain[n++] = file;
        if (file == i) {
            break;
        }
    }
    while (n-- > 0 && len < sizeof(text)) {
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len, "%s -> ",
                             conf_shown_end(conf->files[chain[n]].name).text);
    }
    conf_report_add(source->report, where, "files include each other: %s%s",
                    len < sizeof(text) ? text : "",
                    conf_shown_end(conf->files[i].name).text);
}

/* Has the file at PATH (or what it is by device and inode) been read? Then that
 * is reported. */
static bool
include_again(const struct include *include, size_t n_files, const char *path,
              uint64_t device, uint64_t inode)
{
    struct conf_source *source = include->source;
    const struct conf *conf = source->conf;
    struct conf_where where = include->word->where;

    for (size_t i = 0; i < n_files; i++) {
        const struct conf_input *file = &conf->files[i];

        if (strcmp(file->path, path) != 0 &&
            !((device || inode) && file->device == device &&
              file->inode == inode)) {
            continue;
        }
        if (file_is_open(conf, i, where.file)) {
            say_cycle(source, i, where);
        } else {
            conf_report_add(source->report, where,
                            "'%s' is already included %s",
                            conf_shown_end(file->name).text,
                            conf_there(source->report, where, file->from).text);
        }
        return true;
    }
    return false;
}

/* That the file (of index FILE if it is one of a folder) could not be read. */
static void
say_unread(const struct include *include, size_t file, const char *name,
           int error)
{
    struct conf_source *source = include->source;
    struct conf_where where = include->word->where;
    const char *why =
        error == -EINVAL ? "it is no plain file" : strerror(-error);

    if (error == -ENOMEM) {
        /* not reached: memory is gone */
        source->scratch->failed = true;
    } else if (include->is_entry) {
        conf_report_add(
            source->report, (struct conf_where){.file = (uint16_t)file},
            "cannot be included: %s (by the folder's include %s)", why,
            conf_there(source->report, (struct conf_where){.file = UINT16_MAX},
                       where)
                .text);
    } else {
        conf_report_add(source->report, where, "cannot include '%s': %s",
                        conf_shown_end(name).text, why);
    }
}

/* Reads the file and parses it. false: reported, or no memory. */
static bool
include_file(struct include *include, const char *name, const char *path)
{
    struct conf_source *source = include->source;
    const struct conf_outside *outside = source->outside;
    struct conf *conf = source->conf;
    uint64_t device = 0, inode = 0;
    ssize_t len;
    int file;

    if (include_again(include, conf->n_files, path, 0, 0)) {
        return false;
    }
    if (conf->n_files == CONF_FILES_MAX) {
        conf_report_add(source->report, include->word->where,
                        "more than %d files", CONF_FILES_MAX);
        return false;
    }
    if (!source->buffer) {
        source->buffer =
            conf_memory_take(source->scratch, CONF_FILE_MAX + 1, 1);
    }
    file = source->buffer
               ? conf_source_add(source, name, path, include->word->where)
               : -1;
    if (file < 0) {
        return false;
    }
    len = outside->read(outside->ctx, path, source->buffer, CONF_FILE_MAX + 1,
                        &device, &inode);
    if (len < 0) {
        say_unread(include, (size_t)file, name, (int)len);
        return false;
    }
    if (include_again(include, (size_t)file, path, device, inode)) {
        return false;
    }
    conf->files[file].device = device;
    conf->files[file].inode = inode;
    if (!conf_source_judge(source, (size_t)file, source->buffer, (size_t)len)) {
        return false;
    }
    conf_source_parse(source, (size_t)file, source->buffer, (size_t)len,
                      include->list);
    return true;
}

static void
leave_out(struct include *include, const char *name)
{
    struct conf_source *source = include->source;
    struct conf *conf = source->conf;
    const char *why = NULL;
    size_t len = strlen(name);
    char **names;

    if (conf->n_left_out == CONF_LEFT_OUT_MAX || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0 || conf_bytes_check(name, len, &why) < len ||
        strchr(name, '\n')) {
        return;
    }
    names = conf_memory_grow(source->memory, conf->left_out, conf->n_left_out,
                             sizeof(*names));
    if (!names) {
        return;
    }
    conf->left_out = names;
    names[conf->n_left_out] =
        conf_memory_join(source->memory, include->prefix, name);
    conf->n_left_out += names[conf->n_left_out] != NULL;
}

/* One name of a folder. 1: that is enough. */
static int
folder_entry(void *arg, const char *name)
{
    struct include *include = arg;
    struct conf_memory *scratch = include->source->scratch;
    size_t len = strlen(name);
    char **names;

    if (name[0] == '.' || len <= 5 || strcmp(name + len - 5, ".conf") != 0) {
        leave_out(include, name);
        return 0;
    }
    names = conf_memory_grow(scratch, include->names, include->n_names,
                             sizeof(*names));
    if (!names) {
        return 1;
    }
    include->names = names;
    names[include->n_names] = conf_memory_text(scratch, name, len);
    if (!names[include->n_names]) {
        return 1;
    }
    return ++include->n_names > CONF_FILES_MAX;
}

static int
name_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All *.conf of the folder. */
static bool
include_folder(struct include *include, const char *name, const char *path)
{
    struct conf_source *source = include->source;
    const struct conf_outside *outside = source->outside;
    struct conf *conf = source->conf;
    size_t n_left_out = conf->n_left_out;
    bool ok = true;
    int rc;

    include->is_entry = true;
    include->prefix = conf_memory_join(
        source->scratch, name, name[strlen(name) - 1] == '/' ? "" : "/");
    if (!include->prefix) {
        return false;
    }
    rc = outside->list(outside->ctx, path, folder_entry, include);
    if (rc < 0) {
        include->is_entry = false;
        say_unread(include, 0, name, rc);
        return false;
    }
    if (conf->n_left_out > n_left_out) {
        qsort(conf->left_out + n_left_out, conf->n_left_out - n_left_out,
              sizeof(*conf->left_out), name_compare);
    }
    if (include->n_names > 1) {
        qsort(include->names, include->n_names, sizeof(*include->names),
              name_compare);
    }
    for (size_t i = 0; i < include->n_names && !source->scratch->failed &&
                       !source->memory->failed;
         i++) {
        const char *entry = include->names[i], *why = NULL;
        size_t len = strlen(entry);
        char *shown, *full;

        if (conf_bytes_check(entry, len, &why) < len || strchr(entry, '\n')) {
            conf_report_add(source->report, include->word->where,
                            "the folder '%s' has a file whose name is no text",
                            conf_shown_end(name).text);
            ok = false;
            continue;
        }
        shown = conf_memory_join(source->scratch, include->prefix, entry);
        full = conf_path_absolute(source->scratch, path, entry, len);
        ok = shown && full && include_file(include, shown, full) && ok;
    }
    return ok;
}

/* How the included file is called in messages: as seen from where the first
 * file was named. */
static char *
include_name(struct conf_source *source, const struct conf_word *word)
{
    const char *from = source->conf->files[word->where.file].name;
    const char *slash = strrchr(from, '/');
    size_t prefix =
        slash && word->text[0] != '/' ? (size_t)(slash - from) + 1 : 0;
    char *name = conf_memory_take(source->scratch, prefix + word->len + 1, 1);

    if (name) {
        memcpy(name, from, prefix);
        memcpy(name + prefix, word->text, word->len);
    }
    return name;
}

/* What is wrong with WORD as what to include; NULL: nothing. */
static const char *
include_wrong(const struct conf_source *source, const struct conf_word *word)
{
    const struct conf *conf = source->conf;
    const char *wrong = conf_path_wrong(word->text, word->len);
    size_t depth = 0;

    for (size_t file = word->where.file; file != 0;
         file = conf->files[file].from.file) {
        depth++;
    }
    if (wrong) {
        return wrong;
    }
    if (memchr(word->text, '*', word->len)) {
        return "'*' is no wildcard: include the folder, and its files of the "
               "name *.conf are read";
    }
    if (word->len > CONF_PATH_MAX) {
        return "the path is too long";
    }
    if (depth >= CONF_INCLUDE_DEPTH) {
        return "files include one another too deep: 8 levels are possible";
    }
    return NULL;
}

void
conf_source_include(struct conf_source *source, const struct conf_word *word,
                    struct conf_nodes_list *list)
{
    struct include include = {.source = source, .word = word, .list = list};
    const struct conf_outside *outside = source->outside;
    const char *wrong = include_wrong(source, word);
    char *name, *path;
    bool ok;

    if (wrong) {
        conf_report_add(source->report, word->where, "%s", wrong);
        source->is_whole = false;
        return;
    }
    name = include_name(source, word);
    path = conf_path_absolute(source->scratch,
                              source->conf->files[word->where.file].folder,
                              word->text, word->len);
    if (!name || !path) {
        return;
    }
    ok = outside->file(outside->ctx, path) == CONF_FILE_FOLDER
             ? include_folder(&include, name, path)
             : include_file(&include, name, path);
    source->is_whole = source->is_whole && ok;
}
