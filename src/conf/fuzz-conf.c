/* libFuzzer over the whole parser, with an outside in which every file, program
 * and user exists. A line "@@ NAME" in the input begins the text of a file that
 * can be included, and "@@ -D TEXT" is a -D of the command line. What is
 * accepted is asked for routes, and printed: read again, that must print the
 * same. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/outside.h"
#include "conf/route.h"
#include "conf/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FOLDER    "/fuzz/f/"
#define FILES_MAX 16

/* What the input holds. All of it points into TEXT. */
struct input {
    char *text;
    struct part {
        const char *name, *text;
        size_t len;
    } files[FILES_MAX];
    size_t n_files;
    const char *defines[FILES_MAX];
    size_t n_defines;
};

/* Splits TEXT (SIZE bytes and a NUL) at its lines "@@ ...". The bytes of the
 * first part. */
static size_t
input_split(struct input *input, char *text, size_t size)
{
    size_t first = size;
    struct part *open = NULL;

    for (size_t at = 0, next; at < size; at = next) {
        char *end = memchr(text + at, '\n', size - at);

        next = end ? (size_t)(end - text) + 1 : size;
        if (size - at < 3 || memcmp(text + at, "@@ ", 3) != 0 || !end ||
            input->n_files == FILES_MAX || input->n_defines == FILES_MAX) {
            continue;
        }
        *end = '\0';
        first = first == size ? at : first;
        if (open) {
            open->len = (size_t)(text + at - open->text);
            open = NULL;
        }
        if (strncmp(text + at, "@@ -D ", 6) == 0) {
            input->defines[input->n_defines++] = text + at + 6;
            continue;
        }
        open = &input->files[input->n_files++];
        *open = (struct part){text + at + 3, text + next, size - next};
    }
    return first;
}

static int
fuzz_file(void *ctx, const char *path)
{
    const struct input *input = ctx;
    size_t len = strlen(path);

    if (path[0] != '/') {
        abort();
    }
    /* a file's own folder is one: the parser need not ask */
    if (strcmp(path, "/fuzz/f") == 0 || strcmp(path, "/fuzz") == 0 ||
        len == 1) {
        return CONF_FILE_FOLDER;
    }
    for (size_t i = 0; i < input->n_files; i++) {
        const char *name = input->files[i].name, *rest = path + strlen(FOLDER);

        if (strncmp(path, FOLDER, strlen(FOLDER)) != 0) {
            break;
        }
        if (strcmp(rest, name) == 0) {
            return CONF_FILE_PLAIN;
        }
        if (strncmp(rest, name, strlen(rest)) == 0 &&
            name[strlen(rest)] == '/') {
            return CONF_FILE_FOLDER;
        }
    }
    return (int)(len % (CONF_FILE_OTHER + 1));
}

static ssize_t
fuzz_read(void *ctx, const char *path, char *buffer, size_t size,
          uint64_t *p_device, uint64_t *p_inode)
{
    const struct input *input = ctx;

    for (size_t i = 0; i < input->n_files; i++) {
        const struct part *file = &input->files[i];

        if (strncmp(path, FOLDER, strlen(FOLDER)) == 0 &&
            strcmp(path + strlen(FOLDER), file->name) == 0) {
            size_t n = file->len < size ? file->len : size;

            memcpy(buffer, file->text, n);
            *p_device = 1;
            *p_inode = i;
            return (ssize_t)n;
        }
    }
    return strlen(path) % 3 == 0 ? -ENOENT : -EINVAL;
}

static int
fuzz_list(void *ctx, const char *path, int (*each)(void *arg, const char *name),
          void *arg)
{
    const struct input *input = ctx;
    size_t len = strlen(path);
    int rc = 0;

    for (size_t i = 0; i < input->n_files && rc == 0; i++) {
        char full[4096];

        snprintf(full, sizeof(full), FOLDER "%s", input->files[i].name);
        if (strncmp(full, path, len) == 0 && full[len] == '/' &&
            full[len + 1] && !strchr(full + len + 1, '/')) {
            rc = each(arg, full + len + 1);
        }
    }
    return rc;
}

static bool
fuzz_user(void *ctx, const char *name)
{
    return name[0] != 'x';
}

static void
fuzz_routes(const struct conf *conf)
{
    struct conf_match match;

    for (size_t i = 0; i < conf->n_listens; i++) {
        const struct conf_listen *listen = &conf->listens[i];

        for (size_t j = 0; j < listen->n_routes; j++) {
            const struct conf_route *route = &listen->routes[j];
            const char *method = route->method ? route->method : "FUZZ";

            /* the path of a map is always answered by some map */
            if (!conf_route_match(listen, method, strlen(method), route->path,
                                  route->path_len, &match) ||
                match.route->path_len != route->path_len ||
                match.route->target >= conf->n_targets) {
                abort();
            }
            conf_route_match(listen, "NONE", 4, route->path, route->path_len,
                             &match);
        }
    }
}

/* Where the comment that tells LINE's place begins, or NULL. The comment itself
 * may hold quotes: it names files. */
static char *
fuzz_place(char *line)
{
    bool quoted = false;

    for (char *at = line; *at; at++) {
        if (quoted && *at == '\\' && at[1]) {
            at++;
        } else if (*at == '"') {
            quoted = !quoted;
        } else if (!quoted && strncmp(at, "  # ", 4) == 0) {
            return at;
        }
    }
    return NULL;
}

/* CONF as text without comments that tell places; to be freed. */
static char *
fuzz_print(const struct conf *conf)
{
    char *text = NULL, *at;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    conf_print(conf, out);
    fclose(out);
    at = text;
    for (char *line = text, *next; *line; line = next) {
        char *end = strchr(line, '\n'), *comment;

        next = end + 1;
        if (line[0] == '#') {
            continue;
        }
        *end = '\0';
        comment = fuzz_place(line);
        len = comment ? (size_t)(comment - line) : (size_t)(end - line);
        memmove(at, line, len);
        at[len] = '\n';
        at += len + 1;
    }
    *at = '\0';
    return text;
}

/* The printed text is read, and prints the same. */
static void
fuzz_again(const struct conf_outside *outside, const struct conf *conf)
{
    char *first = fuzz_print(conf), *second, *said = NULL;
    size_t len = 0;
    FILE *errors = open_memstream(&said, &len);
    struct conf *again = NULL;

    if (strlen(first) <= CONF_FILE_MAX) {
        again = conf_parse_with(outside, NULL, "f/y.conf", first, strlen(first),
                                errors);
        fclose(errors);
        if (!again) {
            fprintf(stderr, "%s%s", first, said);
            abort();
        }
        second = fuzz_print(again);
        if (strcmp(first, second) != 0) {
            fprintf(stderr, "%s\nis not\n%s", first, second);
            abort();
        }
        free(second);
    } else {
        fclose(errors);
    }
    conf_free(again);
    free(first);
    free(said);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.text = malloc(size + 1)};
    struct conf_outside outside = {
        .ctx = &input,
        .is_root = size % 2,
        .folder = "/fuzz",
        .path = "/bin:/usr/bin",
        .file = fuzz_file,
        .read = fuzz_read,
        .list = fuzz_list,
        .user = fuzz_user,
        .group = fuzz_user,
    };
    char *said = NULL;
    size_t said_len = 0, len;
    FILE *errors = open_memstream(&said, &said_len);
    struct conf_options options = {input.defines, 0};
    struct conf *conf;

    if (!input.text) {
        abort();
    }
    if (size > 0) {
        memcpy(input.text, data, size);
    }
    input.text[size] = '\0';
    len = input_split(&input, input.text, size);
    options.n_defines = input.n_defines;
    conf = conf_parse_with(&outside, &options, "f/x.conf", input.text, len,
                           errors);
    fclose(errors);
    if (!conf == (said_len == 0)) {
        abort(); /* either a conf or a reason */
    }
    if (conf) {
        fuzz_routes(conf);
        fuzz_again(&outside, conf);
    }
    conf_free(conf);
    free(said);
    free(input.text);
    return 0;
}
