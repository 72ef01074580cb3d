/* Which paths a confined module reaches: those that its block names, those that
 * lie in its own folders, its program, and those without which nearly no
 * program starts. docs/isolation.md lists them, and why others are not there.
 * The list is made anew for each start, as run folder and files may be. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "module/sandbox.h"

#define LOOK    (SANDBOX_READ | SANDBOX_EXECUTE)
#define CHANGE  (SANDBOX_READ | SANDBOX_WRITE)
#define OWN_MAX 12 /* paths that a module has without naming them */

static const struct sandbox_path always[] = {
    {"/usr", LOOK, true},
    {"/bin", LOOK, true},
    {"/sbin", LOOK, true},
    {"/lib", LOOK, true},
    {"/lib32", LOOK, true},
    {"/lib64", LOOK, true},
    {"/libx32", LOOK, true},
    {"/etc", LOOK, true},
    {"/run/systemd/resolve", SANDBOX_READ, true}, /* resolv.conf leads here */
    {"/proc", SANDBOX_READ, true}, /* others' only as far as ptrace would */
    {"/sys/devices/system", SANDBOX_READ, true}, /* how many CPUs there are */
    {"/sys/fs/cgroup", SANDBOX_READ, true},      /* and how much memory */
    {"/dev/null", CHANGE, true},
    {"/dev/zero", CHANGE, true},
    {"/dev/full", CHANGE, true},
    {"/dev/random", SANDBOX_READ, true},
    {"/dev/urandom", SANDBOX_READ, true},
};

/* A list under construction; texts that were made for it are freed with it. */
struct list {
    struct sandbox_path *paths;
    size_t n;
    char *made[OWN_MAX];
    size_t n_made;
    bool failed;
};

static void
add(struct list *list, const char *path, unsigned rights, bool is_optional)
{
    list->paths[list->n++] = (struct sandbox_path){path, rights, is_optional};
}

/* The folder of PATH, or with UP that folder's. */
static void
add_folder(struct list *list, const char *path, bool up)
{
    char *copy = strdup(path);
    char *slash = copy != NULL ? strrchr(copy, '/') : NULL;

    if (copy == NULL || list->n_made == OWN_MAX) {
        list->failed = true;
        free(copy);
        return;
    }
    list->made[list->n_made++] = copy;
    for (int i = 0; i <= up && slash != NULL; i++) {
        *slash = '\0';
        slash = strrchr(copy, '/');
    }
    add(list, copy[0] != '\0' ? copy : "/", LOOK, true);
}

/* The value of NAME ("PATH=") in M's environment, or NULL. */
static const char *
variable(const struct keeper_module *m, const char *name)
{
    for (char **e = m->envp; *e != NULL; e++) {
        if (strncmp(*e, name, strlen(name)) == 0) {
            return *e + strlen(name);
        }
    }
    return NULL;
}

/* Where python3 lies, as execvp finds it. NULL: nowhere. The caller frees it.
 */
static char *
find_python(const struct keeper_module *m)
{
    const char *at = variable(m, "PATH=");

    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ":");
        char *path;

        if (asprintf(&path, "%.*s/python3", (int)len, at) < 0) {
            return NULL;
        }
        if (access(path, X_OK) == 0) {
            return path;
        }
        free(path);
        at += len + (at[len] == ':');
    }
    return NULL;
}

/* The interpreter of a `wsgi` module where it was installed, which need not be
 * in /usr: BIN/../lib has what it cannot start without, and a virtual
 * environment leads to another's. */
static void
add_python(struct list *list, const struct keeper_module *m)
{
    static const char *const parts[] = {"bin", "lib"};
    CLEAN_FREE char *found =
        m->conf->python != NULL ? strdup(m->conf->python) : find_python(m);
    CLEAN_FREE char *real = found != NULL ? realpath(found, NULL) : NULL;
    char *slash = real != NULL ? strrchr(real, '/') : NULL;

    if (slash != NULL) {
        *slash = '\0';
        slash = strrchr(real, '/');
    }
    for (size_t i = 0; slash != NULL && i < ARRAY_LEN(parts); i++) {
        char *path;

        if (list->n_made == OWN_MAX ||
            asprintf(&path, "%.*s/%s", (int)(slash - real), real, parts[i]) <
                0) {
            list->failed = true;
            return;
        }
        add(list, path, LOOK, true);
        list->made[list->n_made++] = path;
    }
}

/* The program, its interpreter, a script or a file of settings: what the
 * command names. Folders that it names it gets by `read` or `write`, but for
 * those of our own package. */
static void
add_command(struct list *list, const struct keeper_module *m)
{
    for (char *const *word = m->plan.argv; *word != NULL; word++) {
        CLEAN_FREE char *path = NULL;
        struct stat st;

        if (asprintf(&path, "%s/%s", (*word)[0] == '/' ? "" : m->conf->folder,
                     *word) < 0) {
            path = NULL;
            list->failed = true;
            return;
        }
        if (list->n_made == OWN_MAX || stat(path, &st) < 0 ||
            (!S_ISREG(st.st_mode) &&
             (m->conf->kind != CONF_MODULE_WSGI || word != m->plan.argv + 2))) {
            continue;
        }
        add(list, path, LOOK, true);
        list->made[list->n_made++] = path;
        path = NULL;
    }
}

static void
add_own(struct list *list, const struct keeper_module *m)
{
    const struct conf_module *conf = m->conf;
    const char *temporary = variable(m, "TMPDIR=");

    add(list, temporary != NULL ? temporary : "/tmp", CHANGE, true);
    add_folder(list, m->door, false); /* before the command: always room */
    list->paths[list->n - 1].rights = CHANGE;
    if (m->state != NULL) {
        add(list, m->state, CHANGE, true);
    }
    if (conf_is_set(conf, CONF_OPTION_FOLDER)) {
        add(list, conf->folder, LOOK, true);
    }
    if (conf->root != NULL) {
        add(list, conf->root, LOOK, true);
    }
    if (conf->app != NULL) {
        add_folder(list, conf->app, false);
    }
    if (conf->python != NULL) { /* a virtual environment: BIN/.. */
        add_folder(list, conf->python, true);
    }
    if (conf->kind == CONF_MODULE_WSGI) {
        add_python(list, m);
    }
    add_command(list, m);
}

static void
say_path(struct keeper_module *m, const char *path, int rc)
{
    struct log_line line;

    keeper_log_begin(m->keeper, &line, LOG_ERROR, "no-path");
    log_text(&line, "module", m->conf->name);
    log_text(&line, "path", path);
    log_errno(&line, -rc);
    log_text(&line, "hint",
             "make it, or take its read or write out of the module");
    keeper_log_end(m->keeper, &line);
}

bool
confine_wanted(const struct conf_module *conf)
{
    return conf->reads.n + conf->writes.n > 0;
}

int
confine_make(struct keeper_module *m, int *p_fd)
{
    const struct conf_entries *reads = &m->conf->reads;
    const struct conf_entries *writes = &m->conf->writes;
    struct list list = {.n = 0};
    size_t bad = 0;
    int rc = -ENOMEM;

    if (!confine_wanted(m->conf) || sandbox_version() == 0) {
        return 0;
    }
    list.paths = calloc(ARRAY_LEN(always) + 2 * OWN_MAX + reads->n + writes->n,
                        sizeof(*list.paths));
    if (list.paths == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < reads->n; i++) {
        add(&list, reads->list[i].value, LOOK, false);
    }
    for (size_t i = 0; i < writes->n; i++) {
        add(&list, writes->list[i].value, CHANGE, false);
    }
    for (size_t i = 0; i < ARRAY_LEN(always); i++) {
        add(&list, always[i].path, always[i].rights, true);
    }
    add_own(&list, m);
    if (!list.failed) {
        rc = sandbox_make(list.paths, list.n, p_fd, &bad);
        if (rc < 0 && bad < list.n) {
            say_path(m, list.paths[bad].path, rc);
        }
    }
    while (list.n_made > 0) {
        free(list.made[--list.n_made]);
    }
    free(list.paths);
    return rc;
}
