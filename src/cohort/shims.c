/* A module that is no door program is served by a shim. They take the same
 * options, as far as each has a use for them:
 *
 *     SHIM --timeout S.mmm ... --folder DIR [-- COMMAND ...]
 */
#include "cohort/shims.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "conf/conf.h"

/* More than any kind has before its command, and a NULL. */
#define OPTIONS_MAX 24

struct args {
    char **list;
    size_t n;
    bool failed;
};

/* Adds TEXT. */
static void
args_add(struct args *args, const char *text)
{
    char *copy = strdup(text);

    args->failed = args->failed || copy == NULL;
    if (copy != NULL) {
        args->list[args->n++] = copy;
    }
}

/* Adds NAME and VALUE; nothing where VALUE is NULL. */
static void
args_option(struct args *args, const char *name, const char *value)
{
    if (value != NULL) {
        args_add(args, name);
        args_add(args, value);
    }
}

static void
args_time(struct args *args, const char *name, uint64_t ns)
{
    uint64_t ms = ns / NS_PER_MS;
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64 ".%03u", ms / 1000,
             (unsigned)(ms % 1000));
    args_option(args, name, text);
}

/* The path of NAME in the folder of EXEC, the caller's to free. NULL: no
 * memory. */
static char *
path_beside(const char *exec, const char *name)
{
    const char *slash = strrchr(exec, '/');
    int folder = slash != NULL ? (int)(slash - exec + 1) : 0;
    char *path;

    return asprintf(&path, "%.*s%s", folder, exec, name) < 0 ? NULL : path;
}

/* The shim NAME, beside the one at EXEC. */
static void
args_shim(struct args *args, const char *exec, const char *name)
{
    char *path = path_beside(exec, name);

    args->failed = args->failed || path == NULL;
    if (path != NULL) {
        args->list[args->n++] = path;
    }
}

static void
add_exec(struct args *args, const struct conf_module *module, const char *exec)
{
    args_add(args, exec);
    args_time(args, "--timeout", module->timeout_ns);
    if (module->is_plain) {
        args_add(args, "--plain");
    }
    if (module->kind == CONF_MODULE_SCRIPTS) {
        args_option(args, "--scripts", module->root);
    }
}

static void
add_inetd(struct args *args, const struct conf_module *module, const char *exec)
{
    char rate[24];

    args_shim(args, exec, "cardea-inetd");
    if (module->is_wait) {
        args_add(args, "--wait");
    }
    if (conf_amount(module, CONF_LIMIT_RATE) > 0) {
        snprintf(rate, sizeof(rate), "%" PRIu64,
                 conf_amount(module, CONF_LIMIT_RATE));
        args_option(args, "--rate", rate);
    }
    /* One that accepts for itself serves many: nobody meant the default. */
    if (!module->is_wait || conf_is_set(module, CONF_OPTION_TIMEOUT)) {
        args_time(args, "--timeout", module->timeout_ns);
    }
}

static void
add_backend(struct args *args, const struct conf_module *module,
            const char *exec)
{
    args_shim(args, exec, "cardea-backend");
    args_option(args, "--protocol", conf_kind_name(module->kind));
    args_time(args, "--timeout", module->timeout_ns);
    args_time(args, "--start-timeout", module->start_timeout_ns);
    args_option(args, "--address", module->address);
    args_option(args, "--root", module->root);
    args_option(args, "--index", module->index);
}

/* Our Python package, as the folder that an interpreter runs: beside EXEC, or
 * where the build has it. NULL: it is neither there nor here. */
static char *
find_package(const char *exec)
{
    static const char *const places[] = {"python/cardea",
                                         "../bindings/python/cardea"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        char *path = path_beside(exec, places[i]);

        if (path == NULL || access(path, F_OK) == 0) {
            return path;
        }
        free(path);
    }
    return NULL;
}

/* The interpreter's own package, of a virtual environment say, goes before
 * ours: the package sees to that itself. */
static void
add_python(struct args *args, const struct conf_module *module,
           const char *exec)
{
    char *package = find_package(exec);
    char copies[24];

    args_add(args, module->python != NULL ? module->python : "python3");
    if (package != NULL) {
        args_add(args, "-B"); /* nothing is written into its folder */
        args_add(args, package);
    } else {
        args_option(args, "-m", "cardea");
    }
    free(package);
    args_time(args, "--start-timeout", module->start_timeout_ns);
    if (module->copies > 0) {
        snprintf(copies, sizeof(copies), "%" PRIu64, module->copies);
        args_option(args, "--copies", copies);
    }
    args_add(args, module->app);
}

/* RFC 3875 section 7.2: a script's working folder is the one it lies in; so it
 * is for a folder of them, unless another is written. */
static const char *
working_folder(const struct conf_module *module)
{
    return module->kind == CONF_MODULE_SCRIPTS &&
                   !conf_is_set(module, CONF_OPTION_FOLDER)
               ? module->root
               : module->folder;
}

char **
shims_make_argv(const struct conf_module *module, const char *exec)
{
    struct args args = {NULL, 0, false};
    size_t n = 0;

    while (module->argv != NULL && module->argv[n] != NULL) {
        n++;
    }
    args.list = calloc(n + OPTIONS_MAX, sizeof(*args.list));
    if (args.list == NULL) {
        return NULL;
    }
    if (module->kind == CONF_MODULE_WSGI) {
        add_python(&args, module, exec);
    } else {
        if (module->kind == CONF_MODULE_INETD) {
            add_inetd(&args, module, exec);
        } else if (module->kind == CONF_MODULE_EXEC ||
                   module->kind == CONF_MODULE_SCRIPTS) {
            add_exec(&args, module, exec);
        } else {
            add_backend(&args, module, exec);
        }
        args_option(&args, "--folder", working_folder(module));
        if (n > 0) {
            args_add(&args, "--");
        }
        for (size_t i = 0; i < n; i++) {
            args_add(&args, module->argv[i]);
        }
    }
    if (args.failed) {
        shims_free_argv(args.list);
        return NULL;
    }
    return args.list;
}

void
shims_free_argv(char **argv)
{
    for (size_t i = 0; argv != NULL && argv[i] != NULL; i++) {
        free(argv[i]);
    }
    free(argv);
}
