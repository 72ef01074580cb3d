/* What a module finds in its environment: a few of our variables, those of its
 * user, those that its file names, and Cardea's own. Nothing else of ours
 * reaches it: an environment that a keeper was started with may hold what is
 * meant for others. docs/isolation.md lists them. */
#include "cohort/keeper_priv.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/util.h"
#include "cohort/writers.h"
#include "door/copy_output.h"

/* A sanitizer's options too where we are built with one. */
static const char *const kept[] = {
    "PATH",         "LANG",          "TZ",
#if SANITIZED
    "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS",
#endif
};

/* HOME, USER, LOGNAME; CARDEA_DOOR, _MODULE, _CONTROL, _STATE, _LIMITS;
 * _OUTPUT, _COPIES, _START_TIMEOUT, _RECYCLE_CALLS, _AGE, _MEMORY; the NULL;
 * and XDG_RUNTIME_DIR. */
#define OTHERS 19

struct vars {
    char **list;
    size_t n;
    bool failed;
};

/* Adds NAME=VALUE; nothing where VALUE is NULL. The first of a name stays. */
static void
add(struct vars *vars, const char *name, const char *value)
{
    size_t len = strlen(name);

    if (value == NULL || vars->failed) {
        return;
    }
    for (size_t i = 0; i < vars->n; i++) {
        if (strncmp(vars->list[i], name, len) == 0 &&
            vars->list[i][len] == '=') {
            return;
        }
    }
    if (asprintf(&vars->list[vars->n], "%s=%s", name, value) < 0) {
        vars->list[vars->n] = NULL;
        vars->failed = true;
        return;
    }
    vars->n++;
}

/* A module under another user's name must not look for files in our home. */
static void
add_user(struct vars *vars, const char *user)
{
    char room[4096];
    struct passwd entry;
    struct passwd *found = NULL;

    if (user == NULL ||
        getpwnam_r(user, &entry, room, sizeof(room), &found) != 0 ||
        found == NULL || found->pw_uid == geteuid()) {
        add(vars, "HOME", getenv("HOME"));
        return;
    }
    add(vars, "HOME", found->pw_dir);
    add(vars, "USER", found->pw_name);
    add(vars, "LOGNAME", found->pw_name);
}

static void
add_own(struct vars *vars, const struct keeper_module *m)
{
    char control[PATH_MAX];
    int n = snprintf(control, sizeof(control), "%s/control",
                     m->keeper->folder.path);

    vars->failed = vars->failed || n >= (int)sizeof(control);
    add(vars, "CARDEA_DOOR", m->door);
    add(vars, "CARDEA_MODULE", m->conf->name);
    add(vars, "CARDEA_CONTROL", control);
    add(vars, "CARDEA_STATE", m->state);
    if (m->conf->is_hidden) {
        /* Our own verb, which looks for this server as anybody's does. */
        add(vars, "XDG_RUNTIME_DIR", getenv("XDG_RUNTIME_DIR"));
    }
    if (module_has_shim(m->conf) && m->limits.n > 0) {
        char text[LIMITS_TEXT];

        limits_format(&m->limits, text);
        add(vars, "CARDEA_LIMITS", text);
    }
}

/* VALUE in units of SCALE; nothing where it is 0. */
static void
add_number(struct vars *vars, const char *name, uint64_t value, uint64_t scale)
{
    char text[32];

    snprintf(text, sizeof(text), "%.3f", (double)value / (double)scale);
    add(vars, name, value > 0 ? text : NULL);
}

/* Where forked copies get pipes, and what bounds copies and threads
 * (cardea_serve(3)). */
static void
add_copies(struct vars *vars, const struct keeper_module *m)
{
    const struct conf_module *conf = m->conf;
    char output[WRITERS_PATH];
    char floor[24];

    if (writers_path(m, output)) {
        add(vars, COPY_OUTPUT_VARIABLE, output);
    }
    add_number(vars, "CARDEA_CEILING", conf->ceiling, 1);
    add_number(vars, "CARDEA_CALLS", conf->calls, 1);
    if (conf->kind != CONF_MODULE_RUN && conf->kind != CONF_MODULE_WSGI) {
        return;
    }
    add_number(vars, "CARDEA_COPIES", conf->copies, 1);
    if (conf->has_floor) {
        snprintf(floor, sizeof(floor), "%" PRIu64, conf->floor);
        add(vars, "CARDEA_FLOOR", floor);
    }
    if (conf_is_set(conf, CONF_OPTION_START_TIMEOUT)) {
        add_number(vars, "CARDEA_START_TIMEOUT", conf->start_timeout_ns,
                   NS_PER_SEC);
    }
    add_number(vars, "CARDEA_RECYCLE_CALLS",
               conf_amount(conf, CONF_RECYCLE_CALLS), 1);
    add_number(vars, "CARDEA_RECYCLE_AGE", conf_amount(conf, CONF_RECYCLE_AGE),
               NS_PER_SEC);
    add_number(vars, "CARDEA_RECYCLE_MEMORY",
               conf_amount(conf, CONF_RECYCLE_MEMORY), 1);
}

/* Where the program finds its secrets; never what they are. */
static void
add_secrets(struct vars *vars, const struct conf_entries *secrets)
{
    for (size_t i = 0; i < secrets->n; i++) {
        char name[SECRETS_VARIABLE];
        char number[16];

        secrets_variable(secrets->list[i].name, name);
        snprintf(number, sizeof(number), "%d", secrets_number(i));
        add(vars, name, number);
    }
}

char **
environ_make(const struct keeper_module *m)
{
    const struct conf_entries *named = &m->conf->environment;
    struct vars vars = {NULL, 0, false};

    vars.list = calloc(ARRAY_LEN(kept) + OTHERS + named->n + m->conf->secrets.n,
                       sizeof(*vars.list));
    if (vars.list == NULL) {
        return NULL;
    }
    add_own(&vars, m);
    add_copies(&vars, m);
    add_secrets(&vars, &m->conf->secrets);
    for (size_t i = 0; i < named->n; i++) {
        add(&vars, named->list[i].name, named->list[i].value);
    }
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        add(&vars, kept[i], getenv(kept[i]));
    }
    add_user(&vars, m->conf->user);
    if (vars.failed) {
        environ_free(vars.list);
        return NULL;
    }
    return vars.list;
}

void
environ_free(char **env)
{
    for (char **e = env; e != NULL && *e != NULL; e++) {
        free(*e);
    }
    free(env);
}
