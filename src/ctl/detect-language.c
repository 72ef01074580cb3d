/* Files of languages whose programs are not run for each call: what is read of
 * them is text, and no interpreter is started. A scan of the text misses what
 * only the interpreter could know; FILE.py:NAME and --as are for that. */
#include <dirent.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"
#include "ctl/ctl.h"
#include "ctl/detect.h"
#include "ctl/detect_priv.h"

#define SCAN_MAX 65536u
#define NAME_BYTES                                                             \
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* --- Python --------------------------------------------------------------- */

/* The end of the text that begins at AT with a quote. One within three quotes
 * is made blanks: a line there is none of the program. */
static char *
blank_text(char *at)
{
    char quote = *at;
    char *end = at + 1;

    if (at[1] == quote && at[2] == quote) {
        const char quotes[] = {quote, quote, quote, '\0'};

        end = strstr(at + 3, quotes);
        end = end != NULL ? end + 3 : at + strlen(at);
        memset(at, ' ', (size_t)(end - at));
        return end;
    }
    while (*end != '\0' && *end != quote && *end != '\n') {
        end += end[0] == '\\' && end[1] != '\0' ? 2 : 1;
    }
    return end + (*end == quote);
}

static void
blank_texts(char *text)
{
    char *at = text;

    while (*at != '\0') {
        if (*at == '#') {
            at += strcspn(at, "\n");
        } else {
            at = *at == '"' || *at == '\'' ? blank_text(at) : at + 1;
        }
    }
}

/* What stands behind WORD at the begin of TEXT, and behind blanks; NULL: it
 * does not stand there as a whole word. */
static const char *
behind(const char *text, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(text, word, len) != 0 || strspn(text + len, NAME_BYTES) > 0) {
        return NULL;
    }
    return text + len + strspn(text + len, " \t");
}

/* Does the import that begins at LINE bring NAME? Its last word is the name
 * that it has here. */
static bool
imports(const char *line, const char *name)
{
    const char *at = line + strcspn(line, "\n");
    size_t len = strlen(name);

    for (const char *s = line; s < at; s++) {
        const char *rest =
            s > line && strspn(s - 1, NAME_BYTES) == 0 ? behind(s, name) : NULL;

        if (rest != NULL && strchr(",\n#)\r", *rest) != NULL && s + len <= at) {
            return true;
        }
    }
    return false;
}

enum defines {
    DEFINES_NOT,
    DEFINES,
    DEFINES_ASYNC, /* an application of ASGI */
};

/* What the statement at LINE makes of NAME. */
static enum defines
line_defines(const char *line, const char *name)
{
    static const char *const frameworks[] = {"FastAPI", "Starlette", "Quart",
                                             "Litestar", "Sanic"};
    const char *rest = behind(line, "def");
    const char *value;

    if (rest != NULL && behind(rest, name) != NULL) {
        return DEFINES;
    }
    rest = behind(line, "async");
    rest = rest != NULL ? behind(rest, "def") : NULL;
    if (rest != NULL && behind(rest, name) != NULL) {
        return DEFINES_ASYNC;
    }
    if (behind(line, "from") != NULL || behind(line, "import") != NULL) {
        return imports(line, name) ? DEFINES : DEFINES_NOT;
    }
    rest = behind(line, name);
    if (rest != NULL && *rest == ':') {
        rest += strcspn(rest, "=\n"); /* its type */
    }
    if (rest == NULL || rest[0] != '=' || rest[1] == '=') {
        return DEFINES_NOT;
    }
    value = rest + 1 + strspn(rest + 1, " \t");
    value += strspn(value, NAME_BYTES ".");
    for (size_t i = 0; i < ARRAY_LEN(frameworks); i++) {
        size_t len = strlen(frameworks[i]);

        if (*value == '(' && value - rest > (ptrdiff_t)len &&
            strncmp(value - len, frameworks[i], len) == 0 &&
            strspn(value - len - 1, NAME_BYTES) == 0) {
            return DEFINES_ASYNC;
        }
    }
    return DEFINES;
}

/* The same of the whole program, of statements that are in no other. */
static enum defines
text_defines(const char *text, const char *name)
{
    for (const char *line = text; *line != '\0';) {
        enum defines defines = line_defines(line, name);
        const char *end = strchr(line, '\n');

        if (defines != DEFINES_NOT) {
            return defines;
        }
        line = end != NULL ? end + 1 : line + strlen(line);
    }
    return DEFINES_NOT;
}

static enum detect_python
take_application(struct detect_found *found, enum defines defines,
                 const char *name)
{
    found->kind = CONF_MODULE_WSGI;
    found->text = "Python WSGI application";
    if (found->callable != name) {
        snprintf(found->callable, sizeof(found->callable), "%s", name);
    }
    if (defines == DEFINES_ASYNC) {
        detect_fail(found, CTL_CONFIG,
                    "%s is an application of ASGI, and only WSGI is served "
                    "yet; serve a program that runs it (uvicorn) --as http",
                    name);
    }
    return DETECT_PYTHON_WSGI;
}

enum detect_python
detect_python(const struct detect_asked *asked, struct detect_found *found,
              const char *name)
{
    static const char *const names[] = {"application", "app"};
    char text[SCAN_MAX];
    size_t len = detect_read(found->file, text, sizeof(text));
    enum defines defines;

    (void)asked;
    if (name != NULL && memmem(text, len, name, strcspn(name, ".")) == NULL) {
        detect_fail(found, CTL_CONFIG,
                    "there is no %s in this file; write FILE.py:NAME with the "
                    "name of its application",
                    name);
        return DETECT_PYTHON_WSGI;
    }
    blank_texts(text);
    if (name != NULL) {
        return take_application(found, text_defines(text, name), name);
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        defines = text_defines(text, names[i]);
        if (defines != DEFINES_NOT) {
            return take_application(found, defines, names[i]);
        }
    }
    return DETECT_PYTHON_NONE;
}

/* --- PHP ------------------------------------------------------------------ */

/* The socket of a php-fpm that runs, as Debian names it: php8.2-fpm.sock. */
static bool
find_fpm(const struct detect_asked *asked, char *name, size_t size)
{
    DIR *dir = opendir(asked->sockets);
    bool is_found = false;

    for (int i = 0; dir != NULL && !is_found && i < 1000; i++) {
        const struct dirent *e = readdir(dir);
        size_t len;

        if (e == NULL) {
            break;
        }
        len = strlen(e->d_name);
        is_found = strncmp(e->d_name, "php", 3) == 0 && len > 8 &&
                   strcmp(e->d_name + len - 8, "fpm.sock") == 0;
        snprintf(name, size, "%s", e->d_name);
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return is_found;
}

int
detect_php(const struct detect_asked *asked, struct detect_found *found,
           const char *page)
{
    char name[NAME_MAX + 1];

    found->kind = CONF_MODULE_FASTCGI;
    found->text = "PHP pages, by FastCGI";
    snprintf(found->index, sizeof(found->index), "%s", page);
    if (detect_has_program(asked, "php-cgi")) {
        found->program = "php-cgi";
        return 0;
    }
    if (find_fpm(asked, name, sizeof(name))) {
        snprintf(found->address, sizeof(found->address), "unix:%s/%s",
                 asked->sockets, name);
        return 0;
    }
    return detect_fail(found, CTL_CONFIG,
                       "there is no php-cgi in $PATH and no php-fpm in %s to "
                       "run it; install one (in Debian: apt install php-cgi)",
                       asked->sockets);
}

/* --- Node ----------------------------------------------------------------- */

void
detect_package_main(const char *folder, char *name)
{
    char path[PATH_MAX + 16];
    char text[SCAN_MAX];
    const char *at;
    size_t len;

    snprintf(name, NAME_MAX + 1, "server.js");
    snprintf(path, sizeof(path), "%.4095s/package.json", folder);
    detect_read(path, text, sizeof(text));
    at = strstr(text, "\"main\"");
    if (at == NULL) {
        return;
    }
    at += strlen("\"main\"");
    at += strspn(at, " \t\r\n");
    if (*at != ':') {
        return;
    }
    at += 1 + strspn(at + 1, " \t\r\n");
    len = *at == '"' ? strcspn(at + 1, "\"\\\n") : 0;
    if (len > 0 && len <= NAME_MAX && at[1 + len] == '"' && at[1] != '/') {
        at += strncmp(at + 1, "./", 2) == 0 ? 2 : 0;
        len = strcspn(at + 1, "\"");
        snprintf(name, NAME_MAX + 1, "%.*s", (int)len, at + 1);
    }
}
