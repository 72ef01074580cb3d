/* Order: what was named by `--as` is believed; then folders and sockets; then
 * the suffixes whose files are served in another way than by running them; then
 * the file's first bytes. A guess that is wrong costs the user an option
 * (`--as`), so the kind is always told; a guess that could show a program's
 * source to the world is not made: a folder with programs in it is never one of
 * plain files. */
#include "ctl/detect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "conf/text.h"
#include "ctl/ctl.h"
#include "ctl/detect_priv.h"
#include "ctl/elf-kind.h"

#define NAMES_MAX 4096
#define SCAN_MAX  65536u

static const char *const kind_texts[] = {
    [CONF_MODULE_RUN] = "a program that serves a door",
    [CONF_MODULE_EXEC] = "CGI program, one call per run",
    [CONF_MODULE_INETD] = "program of inetd, one connection per run",
    [CONF_MODULE_FASTCGI] = "FastCGI program",
    [CONF_MODULE_SCGI] = "SCGI program",
    [CONF_MODULE_HTTP] = "program that serves HTTP itself",
    [CONF_MODULE_WSGI] = "Python WSGI application",
    [CONF_MODULE_SCRIPTS] = "folder of programs, one call per run",
    [DETECT_FILES] = "folder of plain files",
    [DETECT_DOOR] = "door of a program that runs already",
};

#define PLAIN_TEXT "plain stdio program, one call per run"

int
detect_fail(struct detect_found *found, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(found->why, sizeof(found->why), format, args);
    va_end(args);
    return status;
}

static int
take(struct detect_found *found, int kind)
{
    found->kind = kind;
    found->text = kind_texts[kind];
    return 0;
}

/* --- Words and names ------------------------------------------------------ */

static const char *
base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* The suffix of PATH's last name with its dot; "" without. */
const char *
detect_suffix(const char *path)
{
    const char *base = base_of(path);
    const char *dot = strrchr(base, '.');

    return dot != NULL && dot > base ? dot : "";
}

/* A name for the module, of the bytes of the file's that may be in one. */
static void
make_name(struct detect_found *found)
{
    const char *base = base_of(found->file);
    size_t len = (size_t)(detect_suffix(base) - base);
    size_t n = 0;

    len = detect_suffix(base)[0] != '\0' ? len : strlen(base);
    for (size_t i = 0; i < len && n < sizeof(found->name) - 1; i++) {
        char c = base[i];

        c = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
            found->name[n++] = c;
        } else if (n > 0 && found->name[n - 1] != '-') {
            found->name[n++] = '-';
        }
    }
    while (n > 0 && found->name[n - 1] == '-') {
        n--;
    }
    found->name[n] = '\0';
    if (n == 0 || conf_word_is_key(found->name, n) ||
        strcmp(found->name, "control") == 0) {
        snprintf(found->name, sizeof(found->name), "app");
    }
}

/* WORD as an absolute path without "." and ".."; links are not followed: a
 * link that is moved to a new release stays what is served. */
static int
make_path(const struct detect_asked *asked, const char *word, size_t len,
          struct detect_found *found)
{
    struct conf_memory memory = {0};
    const char *wrong = conf_path_wrong(word, len);
    const char *path =
        wrong == NULL ? conf_path_absolute(&memory, asked->folder, word, len)
                      : NULL;
    int status = 0;

    if (path == NULL || strlen(path) >= sizeof(found->file)) {
        status = detect_fail(found, CTL_USAGE, "the path %s",
                             wrong != NULL ? wrong : "is too long");
    } else {
        const char *why;

        memcpy(found->file, path, strlen(path) + 1);
        if (conf_bytes_check(path, strlen(path), &why) < strlen(path) ||
            strpbrk(path, "\n\t") != NULL) {
            status = detect_fail(
                found, CTL_CONFIG,
                "its name has bytes that no configuration can hold; rename it");
        }
    }
    conf_memory_free(&memory);
    memcpy(found->folder, found->file, sizeof(found->folder));
    memcpy(found->served, found->file, sizeof(found->served));
    return status;
}

/* FOLDER from FILE: what stands before its last name. */
static void
cut_folder(struct detect_found *found)
{
    char *slash = strrchr(found->folder, '/');

    if (slash != NULL) {
        slash[slash == found->folder] = '\0';
    }
}

/* --- The outside ---------------------------------------------------------- */

/* Is there a file that we may execute at FOLDER/NAME? */
static bool
is_program_in(const char *folder, size_t len, const char *name)
{
    char path[PATH_MAX];
    struct stat st;

    return snprintf(path, sizeof(path), "%.*s/%s", (int)len, folder, name) <
               (int)sizeof(path) &&
           stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           access(path, X_OK) == 0;
}

bool
detect_has_program(const struct detect_asked *asked, const char *name)
{
    for (const char *at = asked->path, *end; *at != '\0';
         at = *end != '\0' ? end + 1 : end) {
        end = strchrnul(at, ':');
        if (*at == '/' && is_program_in(at, (size_t)(end - at), name)) {
            return true;
        }
    }
    return false;
}

size_t
detect_read(const char *path, char *text, size_t size)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    size_t len = 0;
    ssize_t n = 1;

    while (fd >= 0 && n > 0 && len < size - 1) {
        n = read(fd, text + len, size - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    text[len] = '\0';
    return len;
}

static ssize_t
read_elf(void *ctx, void *to, size_t len, uint64_t at)
{
    return pread(*(int *)ctx, to, len, (off_t)at);
}

static enum elf_verdict
judge_elf(const char *path)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct elf_source source = {read_elf, &fd};

    return fd >= 0 ? elf_judge(&source) : ELF_NONE;
}

/* --- Programs ------------------------------------------------------------- */

/* The file is run by PROGRAM, of the Debian package PACKAGE. */
static int
by_program(const struct detect_asked *asked, struct detect_found *found,
           const char *program, const char *package)
{
    found->program = program;
    if (!detect_has_program(asked, program)) {
        return detect_fail(found, CTL_CONFIG,
                           "there is no %s in $PATH to run it; install it (in "
                           "Debian: apt install %s)",
                           program, package);
    }
    return 0;
}

/* Does a script speak of CGI, or does it just print? Either is served rightly
 * by `exec plain`; this one is for what a person would write. */
static void
take_exec(struct detect_found *found)
{
    char text[SCAN_MAX];

    detect_read(found->file, text, sizeof(text));
    take(found, CONF_MODULE_EXEC);
    found->is_plain = strcasestr(text, "content-type:") == NULL &&
                      strcasestr(text, "print header") == NULL;
    found->text = found->is_plain ? PLAIN_TEXT : found->text;
}

static int
not_executable(struct detect_found *found, const char *word)
{
    return detect_fail(found, CTL_CONFIG,
                       "it is not executable; chmod +x %s makes it so", word);
}

/* What the first line of the script TEXT wants. */
static int
look_at_interpreter(const struct detect_asked *asked,
                    struct detect_found *found, const char *text)
{
    char line[256];
    char *save = NULL;
    const char *name, *command;

    snprintf(line, sizeof(line), "%.*s", (int)strcspn(text + 2, "\n"),
             text + 2);
    if (strchr(line, '\r') != NULL) {
        return detect_fail(found, CTL_CONFIG,
                           "its lines end as those of Windows do, so no "
                           "interpreter is found; mend them (sed -i 's/\\r$//' "
                           "%s)",
                           asked->word);
    }
    name = strtok_r(line, " \t", &save);
    if (name == NULL || access(name, X_OK) != 0) {
        return detect_fail(found, CTL_CONFIG,
                           "its first line names the interpreter '%s', which "
                           "is not there; install it, or write another path",
                           name != NULL ? name : "");
    }
    command = strtok_r(NULL, " \t", &save);
    if (strcmp(base_of(name), "env") == 0 && command != NULL &&
        command[0] != '-' && strchr(command, '=') == NULL &&
        !detect_has_program(asked, command)) {
        return detect_fail(found, CTL_CONFIG,
                           "its first line names '%s', which is not in $PATH; "
                           "install it, or write another",
                           command);
    }
    take_exec(found);
    return 0;
}

static int
take_elf(struct detect_found *found, enum elf_verdict verdict, const char *word,
         bool is_executable)
{
    switch (verdict) {
    case ELF_BROKEN:
        return detect_fail(found, CTL_CONFIG,
                           "it begins as a program does, but is damaged; build "
                           "it again");
    case ELF_FOREIGN:
        return detect_fail(found, CTL_CONFIG,
                           "it is a program for another processor; build it on "
                           "this machine, or force a kind with --as");
    case ELF_PART:
        return detect_fail(found, CTL_CONFIG,
                           "it is a library or an object file; link it to a "
                           "program, and serve that");
    default:
        break;
    }
    if (!is_executable) {
        return not_executable(found, word);
    }
    if (verdict == ELF_DOOR) {
        return take(found, CONF_MODULE_RUN);
    }
    if (verdict == ELF_FASTCGI) {
        return take(found, CONF_MODULE_FASTCGI);
    }
    take_exec(found);
    found->is_plain = true;
    found->text = PLAIN_TEXT;
    return 0;
}

/* The suffixes of sources that have to be built first. */
static bool
is_source(const char *suffix)
{
    static const char *const suffixes[] = {".c",  ".cc",  ".cpp", ".go",
                                           ".rs", ".zig", ".java"};

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (strcmp(suffix, suffixes[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* A file that is nothing that could be run. */
static int
no_program(struct detect_found *found, const char *word)
{
    const char *suffix = detect_suffix(found->file);

    if (is_source(suffix)) {
        return detect_fail(found, CTL_CONFIG,
                           "it is a source; build it, and serve the program%s",
                           strcmp(suffix, ".c") == 0
                               ? " (cc FILE $(pkg-config --cflags --libs "
                                 "cardea) -o PROGRAM)"
                               : "");
    }
    if (strcmp(suffix, ".ru") == 0 || strcmp(suffix, ".psgi") == 0) {
        return detect_fail(
            found, CTL_CONFIG,
            "it needs %s, which speaks HTTP; write a script that "
            "runs it, and serve that --as http",
            strcmp(suffix, ".ru") == 0 ? "rackup" : "plackup");
    }
    if (strcmp(suffix, ".conf") == 0) {
        return detect_fail(found, CTL_CONFIG,
                           "it is no program; a configuration is served by "
                           "cardea run -f %s",
                           word);
    }
    if (strcmp(suffix, ".html") == 0 || strcmp(suffix, ".htm") == 0) {
        return detect_fail(found, CTL_CONFIG,
                           "it is a page; serve its folder: cardea serve %s",
                           found->folder);
    }
    if (access(found->file, X_OK) == 0) {
        return detect_fail(found, CTL_CONFIG,
                           "it is executable, but neither a program nor a "
                           "script that names its interpreter; begin it with a "
                           "line such as #!/bin/sh");
    }
    return detect_fail(found, CTL_CONFIG,
                       "nothing tells what it is; name its kind: cardea serve "
                       "--as KIND %s",
                       word);
}

static int
look_at_file(const struct detect_asked *asked, struct detect_found *found)
{
    const char *suffix = detect_suffix(found->file);
    bool is_executable = access(found->file, X_OK) == 0;
    enum elf_verdict verdict;
    char text[512];

    if (strcmp(suffix, ".py") == 0 &&
        detect_python(asked, found, NULL) != DETECT_PYTHON_NONE) {
        return found->why[0] != '\0'
                   ? CTL_CONFIG
                   : by_program(asked, found, "python3", "python3");
    }
    if (strcmp(suffix, ".php") == 0) {
        return detect_php(asked, found, base_of(found->file));
    }
    if (strcmp(suffix, ".js") == 0 || strcmp(suffix, ".mjs") == 0 ||
        strcmp(suffix, ".cjs") == 0) {
        take(found, CONF_MODULE_HTTP);
        return by_program(asked, found, "node", "nodejs");
    }
    verdict = judge_elf(found->file);
    if (verdict != ELF_NONE) {
        return take_elf(found, verdict, asked->word, is_executable);
    }
    detect_read(found->file, text, sizeof(text));
    if (strncmp(text, "#!", 2) == 0 && is_executable) {
        return look_at_interpreter(asked, found, text);
    }
    if (strcmp(suffix, ".py") == 0 || strcmp(suffix, ".pl") == 0 ||
        strcmp(suffix, ".cgi") == 0 || strncmp(text, "#!", 2) == 0) {
        bool is_perl = strcmp(suffix, ".pl") == 0;

        take_exec(found);
        if (!is_perl && strcmp(suffix, ".py") != 0) {
            return not_executable(found, asked->word);
        }
        return by_program(asked, found, is_perl ? "perl" : "python3",
                          is_perl ? "perl" : "python3");
    }
    return no_program(found, asked->word);
}

/* --- Folders -------------------------------------------------------------- */

struct folder_look {
    bool has_index, has_php, has_package, has_server;
    size_t n_programs, n_files;
};

static void
look_at_entry(const char *folder, const char *name, struct folder_look *look)
{
    char path[PATH_MAX];
    char head[5];
    struct stat st;

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >=
            (int)sizeof(path) ||
        stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
        return;
    }
    look->n_files++;
    look->has_index = look->has_index || strcmp(name, "index.html") == 0;
    look->has_php = look->has_php || strcmp(name, "index.php") == 0;
    look->has_package = look->has_package || strcmp(name, "package.json") == 0;
    look->has_server = look->has_server || strcmp(name, "server.js") == 0;
    if (access(path, X_OK) == 0) {
        detect_read(path, head, sizeof(head));
        look->n_programs += memcmp(head, "#!", 2) == 0 || memcmp(head,
                                                                 "\x7f"
                                                                 "ELF",
                                                                 4) == 0;
    }
}

/* A folder with package.json or server.js. */
static int
take_node(const struct detect_asked *asked, struct detect_found *found)
{
    char name[NAME_MAX + 1];
    struct stat st;
    size_t len;

    make_name(found); /* of the folder */
    detect_package_main(found->folder, name);
    len = strlen(found->file);
    if (snprintf(found->file + len, sizeof(found->file) - len, "/%s", name) >=
            (int)(sizeof(found->file) - len) ||
        stat(found->file, &st) < 0 || !S_ISREG(st.st_mode)) {
        return detect_fail(found, CTL_CONFIG,
                           "its program %s is not there; name the file: cardea "
                           "serve %s/FILE.js",
                           name, asked->word);
    }
    take(found, CONF_MODULE_HTTP);
    return by_program(asked, found, "node", "nodejs");
}

static int
look_at_folder(const struct detect_asked *asked, struct detect_found *found)
{
    DIR *dir = opendir(found->file);
    struct folder_look look = {0};
    size_t n = 0;

    for (struct dirent *e; dir != NULL && n < NAMES_MAX;) {
        e = readdir(dir);
        if (e == NULL) {
            break;
        }
        n += e->d_name[0] != '.';
        if (e->d_name[0] != '.') {
            look_at_entry(found->file, e->d_name, &look);
        }
    }
    if (dir == NULL) {
        return detect_fail(found, CTL_CONFIG,
                           "it cannot be read: %s; ask its owner for the right "
                           "to",
                           strerrordesc_np(errno));
    }
    closedir(dir);
    if (n == 0) {
        return detect_fail(found, CTL_CONFIG,
                           "the folder is empty; put an index.html into it, or "
                           "programs");
    }
    if (look.has_php) {
        return detect_php(asked, found, "index.php");
    }
    if (look.has_package || look.has_server) {
        return take_node(asked, found);
    }
    found->is_plain = look.n_programs > 0 && !look.has_index;
    return take(found, found->is_plain ? CONF_MODULE_SCRIPTS : DETECT_FILES);
}

/* --- Kinds that were named ------------------------------------------------ */

/* What runs a file that cannot be executed itself, by its suffix. NULL: none.
 */
static const char *
interpreter_of(const char *path)
{
    static const struct {
        const char *suffix, *program;
    } rows[] = {
        {".py", "python3"}, {".pl", "perl"},  {".rb", "ruby"},
        {".js", "node"},    {".mjs", "node"}, {".cjs", "node"},
        {".sh", "sh"},      {".php", "php"},  {".lua", "lua"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(detect_suffix(path), rows[i].suffix) == 0) {
            return rows[i].program;
        }
    }
    return NULL;
}

/* The number of the kind NAME; -1: none has it. */
static int
kind_of(const char *name)
{
    if (strcmp(name, "files") == 0) {
        return DETECT_FILES;
    }
    if (strcmp(name, "door") == 0) {
        return DETECT_DOOR;
    }
    for (int i = 0; i < CONF_MODULE_KINDS; i++) {
        if (strcmp(name, conf_kind_name((enum conf_module_kind)i)) == 0) {
            return i;
        }
    }
    return strcmp(name, "plain") == 0 ? CONF_MODULE_EXEC : -1;
}

static int
take_named_file(const struct detect_asked *asked, struct detect_found *found)
{
    const char *program;

    if (found->kind == CONF_MODULE_FASTCGI &&
        strcmp(detect_suffix(found->file), ".php") == 0) {
        return detect_php(asked, found, base_of(found->file));
    }
    if (access(found->file, X_OK) == 0) {
        return 0;
    }
    program = interpreter_of(found->file);
    return program == NULL ? not_executable(found, asked->word)
                           : by_program(asked, found, program, program);
}

/* The file or folder with ST as the kind that was named. */
static int
take_named(const struct detect_asked *asked, struct detect_found *found,
           const struct stat *st)
{
    int kind = kind_of(asked->as);
    bool wants_folder = kind == DETECT_FILES || kind == CONF_MODULE_SCRIPTS;

    if (wants_folder != (S_ISDIR(st->st_mode) != 0) &&
        !(kind == CONF_MODULE_FASTCGI && S_ISDIR(st->st_mode))) {
        return detect_fail(found, CTL_USAGE,
                           "--as %s wants a %s, and this is %s", asked->as,
                           wants_folder ? "folder" : "file",
                           wants_folder ? "none; name one"
                                        : "a folder; name "
                                          "a file in it");
    }
    take(found, kind);
    found->is_plain = strcmp(asked->as, "plain") == 0;
    found->text = found->is_plain ? PLAIN_TEXT : found->text;
    if (S_ISSOCK(st->st_mode)) {
        if (kind == CONF_MODULE_FASTCGI || kind == CONF_MODULE_SCGI ||
            kind == CONF_MODULE_HTTP) {
            snprintf(found->address, sizeof(found->address), "unix:%.4000s",
                     found->file);
        } else if (kind != DETECT_DOOR) {
            return detect_fail(found, CTL_USAGE,
                               "a socket cannot be served --as %s; fastcgi, "
                               "scgi, http and door are possible",
                               asked->as);
        }
        return 0;
    }
    if (kind == CONF_MODULE_WSGI) {
        if (found->callable[0] == '\0') {
            detect_python(asked, found, NULL);
            found->why[0] = '\0';
        }
        take(found, CONF_MODULE_WSGI);
        return by_program(asked, found, "python3", "python3");
    }
    if (S_ISDIR(st->st_mode)) {
        return kind == CONF_MODULE_FASTCGI
                   ? detect_php(asked, found, "index.php")
                   : 0;
    }
    return kind == DETECT_DOOR ? 0 : take_named_file(asked, found);
}

/* --- All of it ------------------------------------------------------------ */

/* "FILE.py:NAME", where there is no file of that whole name. The length of
 * FILE; 0: it is none. */
static size_t
callable_in(const struct detect_asked *asked, struct detect_found *found)
{
    const char *colon = strrchr(asked->word, ':');
    size_t len;

    if (colon == NULL || colon == asked->word) {
        return 0;
    }
    len = strlen(colon + 1);
    if (len == 0 || len >= sizeof(found->callable) ||
        strspn(colon + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                          "0123456789_.") != len) {
        return 0;
    }
    memcpy(found->callable, colon + 1, len + 1);
    return (size_t)(colon - asked->word);
}

static int
missing(const struct detect_asked *asked, struct detect_found *found, int error)
{
    const char *near = asked->word[0] != '/' && strchr(asked->word, '/') == NULL
                           ? "ls shows what is here"
                           : "look at its path";

    if (error != ENOENT && error != ENOTDIR) {
        return detect_fail(found, CTL_CONFIG, "%s; %s", strerrordesc_np(error),
                           "ask its owner for the right to");
    }
    return detect_fail(found, CTL_CONFIG, "no such file or folder; %s", near);
}

static int
look(const struct detect_asked *asked, struct detect_found *found,
     const struct stat *st)
{
    if (asked->as != NULL) {
        return take_named(asked, found, st);
    }
    if (found->callable[0] != '\0') {
        return detect_python(asked, found, found->callable) ==
                           DETECT_PYTHON_WSGI &&
                       found->why[0] == '\0'
                   ? by_program(asked, found, "python3", "python3")
                   : CTL_CONFIG;
    }
    if (S_ISDIR(st->st_mode)) {
        return look_at_folder(asked, found);
    }
    if (S_ISSOCK(st->st_mode)) {
        return asked->is_door(found->file)
                   ? take(found, DETECT_DOOR)
                   : detect_fail(found, CTL_CONFIG,
                                 "it is a socket, but no door; if a program "
                                 "listens there, say what it speaks: --as "
                                 "http, fastcgi or scgi");
    }
    if (!S_ISREG(st->st_mode)) {
        return detect_fail(found, CTL_CONFIG,
                           "it is neither a file, a folder nor a door; name "
                           "one of these");
    }
    if (access(found->file, R_OK) != 0) {
        return detect_fail(found, CTL_CONFIG,
                           "it cannot be read, so its kind cannot be told; "
                           "name it: cardea serve --as KIND %s",
                           asked->word);
    }
    return look_at_file(asked, found);
}

int
detect(const struct detect_asked *asked, struct detect_found *found)
{
    size_t len = strlen(asked->word);
    struct stat st;
    int status;

    memset(found, 0, sizeof(*found));
    if (asked->as != NULL && kind_of(asked->as) < 0) {
        return detect_fail(found, CTL_USAGE,
                           "there is no kind %s; the kinds are run, exec, "
                           "plain, scripts, inetd, fastcgi, scgi, http, wsgi, "
                           "files and door",
                           asked->as);
    }
    status = make_path(asked, asked->word, len, found);
    if (status == 0 && stat(found->file, &st) < 0) {
        int error = errno;

        len = callable_in(asked, found);
        status = len > 0 ? make_path(asked, asked->word, len, found) : 0;
        if (status == 0 && (len == 0 || stat(found->file, &st) < 0)) {
            return missing(asked, found, error);
        }
    }
    if (status != 0) {
        return status;
    }
    if (!S_ISDIR(st.st_mode)) {
        cut_folder(found);
    }
    status = look(asked, found, &st);
    if (status == 0 && found->name[0] == '\0') {
        make_name(found);
    }
    return status;
}
