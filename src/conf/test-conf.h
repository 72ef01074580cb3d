/* A simulated outside for tests of the language, and how they read a text. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "conf/conf.h"
#include "conf/outside.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

/* What can be included; inodes are positions here, but of the last, which is
 * the first under another name. */
static const struct text_file {
    const char *path, *text;
} texts[] = {
    {"/etc/app/conf.d/20-b.conf", "forward http :82 to ./b.door\n"},
    {"/etc/app/conf.d/10-a.conf", "a = ./a.door\nforward http :81 to $a\n"
                                  "module m { run ../hello }\n"},
    {"/etc/app/conf.d/README", "no configuration"},
    {"/etc/app/conf.d/.hidden.conf", "no configuration"},
    {"/etc/app/conf.d/.conf", "no configuration"},
    {"/etc/app/empty/.keep", ""},
    {"/etc/app/mixed/a.conf", "set grace 1s\nset grace\n"},
    {"/etc/app/mixed/b.conf", "set grace 2s; oops\n"},
    {"/etc/app/mixed/c.conf", NULL},
    {"/etc/app/mixed/d.conf", "\xff"},
    {"/etc/app/evil/a\nb.conf", ""},
    {"/etc/app/self.conf", "include self.conf\n"},
    {"/etc/app/ring1.conf", "include ./ring2.conf\n"},
    {"/etc/app/ring2.conf", "include sub/../ring3.conf\n"},
    {"/etc/app/ring3.conf", "\n  include ring1.conf\n"},
    {"/etc/app/d1.conf", "include d2.conf"},
    {"/etc/app/d2.conf", "include d3.conf"},
    {"/etc/app/d3.conf", "include d4.conf"},
    {"/etc/app/d4.conf", "include d5.conf"},
    {"/etc/app/d5.conf", "include d6.conf"},
    {"/etc/app/d6.conf", "include d7.conf"},
    {"/etc/app/d7.conf", "include d8.conf"},
    {"/etc/app/d8.conf", "include d9.conf"},
    {"/etc/app/d9.conf", ""},
    {"/etc/app/macros.conf", "port = 81\nhost = \"127.0.0.1\"\n"},
    {"/etc/app/open.conf", "forward http :81 to {\n"},
    {"/etc/app/x.conf", "include x.conf"}, /* the first file itself */
    {"/etc/app/link.conf", "forward http :82 to ./b.door\n"},
};

static ssize_t
fake_read(void *ctx, const char *path, char *buffer, size_t size,
          uint64_t *p_device, uint64_t *p_inode)
{
    (void)ctx;
    for (size_t i = 0; i < LEN(texts); i++) {
        if (strcmp(texts[i].path, path) != 0) {
            continue;
        }
        if (!texts[i].text) {
            return -EINVAL;
        }
        *p_device = 7;
        *p_inode = i == LEN(texts) - 1 ? 0 : i;
        memcpy(buffer, texts[i].text, strlen(texts[i].text));
        return (ssize_t)strlen(texts[i].text);
    }
    if (strcmp(path, "/etc/app/huge.conf") == 0) {
        memset(buffer, '\n', size);
        return (ssize_t)size;
    }
    if (strcmp(path, "/etc/app/many.conf") == 0) {
        memset(buffer, '\n', 1024 * 1024);
        return 1024 * 1024;
    }
    return strstr(path, "secret") ? -EACCES : -ENOENT;
}

static int
fake_list(void *ctx, const char *path, int (*each)(void *arg, const char *name),
          void *arg)
{
    size_t len = strlen(path);
    int rc = 0;

    (void)ctx;
    if (strstr(path, "closed")) {
        return -EACCES;
    }
    for (size_t i = 0; i < LEN(texts) && rc == 0; i++) {
        if (strncmp(texts[i].path, path, len) == 0 &&
            texts[i].path[len] == '/') {
            rc = each(arg, texts[i].path + len + 1);
        }
    }
    return rc;
}

static int
fake_file(void *ctx, const char *path)
{
    static const struct {
        const char *path;
        int kind;
    } files[] = {
        {"/etc/app/hello", CONF_FILE_PROGRAM},
        {"/etc/app/sub/hello", CONF_FILE_PROGRAM},
        {"/etc/app/notes", CONF_FILE_PLAIN},
        {"/etc/app/site", CONF_FILE_FOLDER},
        {"/etc/app", CONF_FILE_FOLDER},
        {"/etc/app/conf.d", CONF_FILE_FOLDER},
        {"/etc/app/empty", CONF_FILE_FOLDER},
        {"/etc/app/mixed", CONF_FILE_FOLDER},
        {"/etc/app/evil", CONF_FILE_FOLDER},
        {"/etc/app/closed", CONF_FILE_FOLDER},
        {"/run", CONF_FILE_FOLDER},
        {"/", CONF_FILE_FOLDER},
        {"/etc/app/hello.door", CONF_FILE_OTHER},
        {"/srv/www", CONF_FILE_FOLDER},
        {"/usr/bin/date", CONF_FILE_PROGRAM},
        {"/usr/bin/notes", CONF_FILE_PLAIN},
        {"/bin/notes", CONF_FILE_PROGRAM},
    };

    (void)ctx;
    for (size_t i = 0; i < LEN(files); i++) {
        if (strcmp(files[i].path, path) == 0) {
            return files[i].kind;
        }
    }
    return strstr(path, "secret") ? -EACCES : -ENOENT;
}

static bool
fake_user(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "www") == 0;
}

static const struct conf_outside __attribute__((unused)) fake_plain = {
    .folder = "/etc",
    .path = "relative::/usr/bin:/bin",
    .self = "/usr/bin/cardea",
    .file = fake_file,
    .read = fake_read,
    .list = fake_list,
    .user = fake_user,
    .group = fake_user,
};

static const struct conf_outside __attribute__((unused)) fake_root = {
    .is_root = true,
    .folder = "/etc",
    .path = "/usr/bin",
    .self = "/usr/bin/cardea",
    .file = fake_file,
    .read = fake_read,
    .list = fake_list,
    .user = fake_user,
    .group = fake_user,
};

/* Parses TEXT as app/x.conf in /etc; what was said is in *P_SAID (to be freed).
 */
static struct conf *
parse(const struct conf_outside *outside, const char *text, size_t len,
      char **p_said)
{
    size_t said_len;
    FILE *errors = open_memstream(p_said, &said_len);
    struct conf *conf;

    assert_non_null(errors);
    conf = conf_parse_with(outside, NULL, "app/x.conf", text, len, errors);
    fclose(errors);
    return conf;
}

static inline struct conf *
parse_good(const struct conf_outside *outside, const char *text)
{
    char *said;
    struct conf *conf = parse(outside, text, strlen(text), &said);

    assert_string_equal(said, "");
    assert_non_null(conf);
    free(said);
    return conf;
}
