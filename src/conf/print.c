/* A configuration as text again: what `check -v` shows. The text is a
 * configuration of the same meaning, so that it can be kept, compared and used;
 * what cannot be said in the language stands in comments. */
#include "conf/conf.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "base/util.h"
#include "conf/check.h"
#include "conf/text.h"

#define KEEP "  # "

/* The macros that N parts of one line came from, each once. */
static void
print_used(const struct conf *conf, const struct conf_where *parts, size_t n,
           FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct conf_macro *macro;
        bool is_known = parts[i].macro == 0;

        for (size_t j = 0; j < i; j++) {
            bool is_same = parts[j].macro == parts[i].macro &&
                           parts[j].is_mixed == parts[i].is_mixed;
            is_known = is_known || is_same;
        }
        if (!is_known) {
            macro = &conf->macros[parts[i].macro - 1];
            fprintf(out, ", $%s%s%s", macro->name,
                    macro->is_given ? " of -D" : "",
                    parts[i].is_mixed ? " and others" : "");
        }
    }
}

/* Where a line of N parts was written, as a comment that ends it: the first
 * one's place, and the macros of all. */
static void
print_origins(const struct conf *conf, const struct conf_where *parts, size_t n,
              FILE *out)
{
    if (conf->settings == NULL) {
        fputc('\n', out); /* compact: not known */
        return;
    }
    if (parts[0].line == 0) {
        fputs(KEEP "default\n", out);
        return;
    }
    fprintf(out, KEEP "%s:%d", conf_where_file(conf, parts[0]), parts[0].line);
    print_used(conf, parts, n, out);
    fputc('\n', out);
}

static void
print_origin(const struct conf *conf, struct conf_where where, FILE *out)
{
    print_origins(conf, &where, 1, out);
}

/* Entry I of PLACES; nowhere, if they were not kept. */
static struct conf_where
place(const struct conf_where *places, size_t i)
{
    return places != NULL ? places[i] : (struct conf_where){0};
}

/* Where MODULE's OPTION was written. */
static void
print_option_origin(const struct conf *conf, const struct conf_module *module,
                    enum conf_option option, FILE *out)
{
    print_origin(conf, place(module->wheres, option), out);
}

/* TEXT as it stands inside a string. */
static void
print_inside(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (strchr("\"\\$", *text)) {
            fputc('\\', out);
        }
        fputc(*text, out);
    }
}

/* TEXT as a string, in double quotes. */
static void
print_string(const char *text, FILE *out)
{
    fputc('"', out);
    print_inside(text, out);
    fputc('"', out);
}

void
conf_print_word(const char *text, FILE *out)
{
    if (text[0] && !text[strcspn(text, " \t\\\"'#{};$=")] &&
        !conf_word_is_key(text, strlen(text))) {
        fputs(text, out);
    } else {
        print_string(text, out);
    }
}

void
conf_print_argument(const char *text, FILE *out)
{
    if (text[0] && !text[strcspn(text, " \t\\\"'$")]) {
        fputs(text, out);
        return;
    }
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'') {
            fputs("'\\\\''", out);
        } else {
            fprintf(out, strchr("\"\\$", *text) ? "\\%c" : "%c", *text);
        }
    }
    fputc('\'', out);
}

/* In the largest unit that leaves no rest. */
static void
print_time(uint64_t ns, FILE *out)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {
        {"d", 24 * 3600 * 1000},
        {"h", 3600 * 1000},
        {"m", 60 * 1000},
        {"s", 1000},
        {"ms", 1},
    };
    uint64_t ms = ns / NS_PER_MS;

    if (ms == 0) {
        fputs("0s", out);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (ms % units[i].ms == 0) {
            fprintf(out, "%" PRIu64 "%s", ms / units[i].ms, units[i].name);
            return;
        }
    }
}

static void
print_size(uint64_t size, FILE *out)
{
    static const char units[] = "KMG";
    size_t unit = 0;

    size /= 1024;
    while (size > 0 && size % 1024 == 0 && unit < 2) {
        size /= 1024;
        unit++;
    }
    fprintf(out, "%" PRIu64 "%c", size, units[unit]);
}

static void
print_setting(const struct conf *conf, const char *name, const void *member,
              char kind, const char *unset, struct conf_where where, FILE *out)
{
    bool is_text = kind == 'W' || kind == 'A';
    const char *text = is_text ? *(char *const *)member : NULL;

    if ((is_text && !text) || (kind == 'C' && *(const uint64_t *)member == 0)) {
        fprintf(out, "# %s: %s" KEEP "default\n", name,
                kind == 'C' ? "one a CPU" : unset);
        return;
    }
    fprintf(out, "set %s ", name);
    if (kind == 'T') {
        print_time(*(const uint64_t *)member, out);
    } else if (kind == 'B') {
        print_size(*(const uint64_t *)member, out);
    } else if (kind == 'C') {
        fprintf(out, "%" PRIu64, *(const uint64_t *)member);
    } else if (kind == 'S') {
        fputs(*(const bool *)member ? "on" : "off", out);
    } else {
        conf_print_word(text, out);
        fputs(kind == 'A' && conf->metrics_public ? " public" : "", out);
    }
    print_origin(conf, where, out);
}

/* Kinds of settings.def: bytes, a time, a number, a switch, words. */
#define KIND_SIZE    'B'
#define KIND_TIME    'T'
#define KIND_COUNT   'C'
#define KIND_SWITCH  'S'
#define KIND_USER    'W'
#define KIND_PATH    'W'
#define KIND_NAME    'W'
#define KIND_ADDRESS 'A'

static void
print_settings(const struct conf *conf, FILE *out)
{
    size_t i = 0;

#define SETTING(name, member, kind, min, max, preset, range, example)          \
    print_setting(conf, name, &conf->member, KIND_##kind, range,               \
                  place(conf->settings, i++), out);
#include "conf/settings.def"
#undef SETTING
}

/* TARGET as it stands behind `to`. */
static void
print_target(const struct conf *conf, const struct conf_target *target,
             FILE *out)
{
    const char *name;

    switch (target->kind) {
    case CONF_TARGET_MODULE:
        name = conf->modules[target->module].name;
        fprintf(out, "%s%s",
                conf_word_is_key(name, strlen(name)) ? "module " : "", name);
        break;
    case CONF_TARGET_FILES:
        fputs("files ", out);
        conf_print_word(target->path, out);
        break;
    case CONF_TARGET_DOOR:
        conf_print_word(target->path, out);
        break;
    }
}

static void
print_map(const struct conf *conf, const struct conf_route *route, FILE *out)
{
    static const struct conf_where nowhere[3];

    fputs("    map ", out);
    if (!route->method) {
        fputs("any", out);
    } else if (conf_method_is_plain(route->method)) {
        fputs(route->method, out);
    } else {
        print_string(route->method, out);
    }
    fputc(' ', out);
    conf_print_word(route->path, out);
    fputs(" to ", out);
    print_target(conf, &conf->targets[route->target], out);
    print_origins(conf, route->wheres != NULL ? route->wheres : nowhere, 3,
                  out);
}

static void
print_listen_origin(const struct conf *conf, const struct conf_listen *listen,
                    struct conf_where target, FILE *out)
{
    if (listen->addr.ss_family == AF_UNIX && listen->mode_where.line == 0) {
        fputs(KEEP "mode: default", out);
    }
    print_origins(
        conf, (struct conf_where[]){listen->where, listen->mode_where, target},
        3, out);
}

static void
print_listen(const struct conf *conf, const struct conf_listen *listen,
             FILE *out)
{
    const struct conf_route *first = listen->routes;
    bool is_single = listen->n_routes == 1 && !first->method &&
                     strcmp(first->path, "/") == 0;

    fprintf(out, "\nforward %s ",
            listen->protocol == CONF_HTTP ? "http" : "tcp");
    conf_print_word(listen->text, out);
    if (listen->addr.ss_family == AF_UNIX) {
        fprintf(out, " mode %04o", (unsigned)listen->mode);
    }
    fputs(listen->protocol == CONF_TCP_PASS ? " pass " : " to ", out);
    if (is_single) {
        print_target(conf, &conf->targets[first->target], out);
        print_listen_origin(conf, listen, place(first->wheres, 2), out);
        return;
    }
    fputs("{", out);
    print_listen_origin(conf, listen, (struct conf_where){0}, out);
    for (size_t i = 0; i < listen->n_routes; i++) {
        print_map(conf, &listen->routes[i], out);
    }
    fputs("}\n", out);
}

/* The kind of MODULE, with what stands behind it. */
static void
print_kind(const struct conf *conf, const struct conf_module *module, FILE *out)
{
    fprintf(out, "    %s", conf_kind_name(module->kind));
    if (module->is_wait) {
        fputs(" wait", out);
    }
    if (module->is_plain) {
        fputs(" plain", out);
    }
    if (module->kind == CONF_MODULE_WSGI ||
        module->kind == CONF_MODULE_SCRIPTS) {
        fputc(' ', out);
        conf_print_word(module->app ? module->app : module->root, out);
    } else if (module->argv) {
        fputs(" \"", out);
        for (size_t i = 0; module->argv[i]; i++) {
            fputs(i > 0 ? " " : "", out);
            conf_print_argument(module->argv[i], out);
        }
        fputc('"', out);
    }
    print_option_origin(conf, module, (enum conf_option)module->kind, out);
}

/* An option of one word, if it is there. */
static void
print_option(const struct conf *conf, const struct conf_module *module,
             enum conf_option option, const char *text, FILE *out)
{
    if (text) {
        fprintf(out, "    %s ", conf_option_name(option));
        conf_print_word(text, out);
        print_option_origin(conf, module, option, out);
    }
}

static void
print_option_time(const struct conf *conf, const struct conf_module *module,
                  enum conf_option option, uint64_t ns, FILE *out)
{
    fprintf(out, "    %s ", conf_option_name(option));
    print_time(ns, out);
    print_option_origin(conf, module, option, out);
}

/* Those that may stand several times. */
static void
print_entries(const struct conf *conf, enum conf_option option,
              const struct conf_entries *entries, FILE *out)
{
    for (size_t i = 0; i < entries->n; i++) {
        const struct conf_entry *entry = &entries->list[i];

        fprintf(out, "    %s ", conf_option_name(option));
        if (option == CONF_OPTION_ENVIRONMENT) {
            fprintf(out, "\"%s=", entry->name);
            print_inside(entry->value, out);
            fputc('"', out);
        } else {
            if (entry->name) {
                conf_print_word(entry->name, out);
                fputs(" from ", out);
            }
            conf_print_word(entry->value, out);
        }
        print_origin(conf, entry->where, out);
    }
}

static void
print_amounts(const struct conf *conf, const struct conf_module *module,
              FILE *out)
{
    for (size_t i = 0; i < CONF_AMOUNTS; i++) {
        uint64_t value = conf_amount(module, (enum conf_amount)i);

        if (value == 0) {
            continue;
        }
        fprintf(out, "    %s %s ", i < CONF_RECYCLE_CALLS ? "limit" : "recycle",
                conf_amount_name((enum conf_amount)i));
        if (i == CONF_LIMIT_MEMORY || i == CONF_RECYCLE_MEMORY) {
            print_size(value, out);
        } else if (i == CONF_LIMIT_CPU || i == CONF_RECYCLE_AGE) {
            print_time(value, out);
        } else {
            fprintf(out, "%" PRIu64, value);
        }
        print_origin(conf, place(module->amount_wheres, i), out);
    }
}

/* How many copies there are, where it was written. */
static void
print_growth(const struct conf *conf, const struct conf_module *module,
             FILE *out)
{
    if (module->has_floor) {
        fprintf(out, "    floor %" PRIu64, module->floor);
        print_option_origin(conf, module, CONF_OPTION_FLOOR, out);
    }
    if (module->ceiling > 0) {
        fprintf(out, "    ceiling %" PRIu64, module->ceiling);
        print_option_origin(conf, module, CONF_OPTION_CEILING, out);
    }
    if (module->calls > 0) {
        fprintf(out, "    calls per copy %" PRIu64, module->calls);
        print_option_origin(conf, module, CONF_OPTION_CALLS, out);
    }
    if (module->queue > 0) {
        fprintf(out, "    queue %" PRIu64, module->queue);
        print_option_origin(conf, module, CONF_OPTION_QUEUE, out);
    }
}

static void
print_module(const struct conf *conf, const struct conf_module *module,
             FILE *out)
{
    fputs("\nmodule ", out);
    conf_print_word(module->name, out);
    fputs(" {", out);
    print_origin(conf, module->where, out);
    print_kind(conf, module, out);
    print_option(conf, module, CONF_OPTION_ADDRESS, module->address, out);
    if (module->kind == CONF_MODULE_FASTCGI) {
        print_option(conf, module, CONF_OPTION_ROOT, module->root, out);
    }
    print_option(conf, module, CONF_OPTION_INDEX, module->index, out);
    print_option(conf, module, CONF_OPTION_PYTHON, module->python, out);
    print_option(conf, module, CONF_OPTION_FOLDER, module->folder, out);
    print_option(conf, module, CONF_OPTION_USER, module->user, out);
    if (!module->user) {
        fputs("    # user: Cardea's own" KEEP "default\n", out);
    }
    print_option(conf, module, CONF_OPTION_GROUP, module->group, out);
    print_option_time(conf, module, CONF_OPTION_TIMEOUT, module->timeout_ns,
                      out);
    print_option_time(conf, module, CONF_OPTION_START_TIMEOUT,
                      module->start_timeout_ns, out);
    if (module->has_idle) {
        print_option_time(conf, module, CONF_OPTION_IDLE, module->idle_ns, out);
    }
    if (module->copies > 0) {
        fprintf(out, "    copies %" PRIu64, module->copies);
        print_option_origin(conf, module, CONF_OPTION_COPIES, out);
    }
    print_growth(conf, module, out);
    print_entries(conf, CONF_OPTION_ENVIRONMENT, &module->environment, out);
    print_entries(conf, CONF_OPTION_SECRET, &module->secrets, out);
    print_entries(conf, CONF_OPTION_READ, &module->reads, out);
    print_entries(conf, CONF_OPTION_WRITE, &module->writes, out);
    print_amounts(conf, module, out);
    fputs("}\n", out);
}

/* Which files were read, and by what. */
static void
print_files(const struct conf *conf, FILE *out)
{
    for (size_t i = 0; i < conf->n_files; i++) {
        const struct conf_input *file = &conf->files[i];

        fprintf(out, "# read: %s", file->name);
        if (file->from.line > 0) {
            fprintf(out, " (included in %s:%d",
                    conf_where_file(conf, file->from), file->from.line);
            print_used(conf, &file->from, 1, out);
            fputc(')', out);
        }
        fputc('\n', out);
    }
    for (size_t i = 0; i < conf->n_left_out; i++) {
        fprintf(out, "# left out: %s (only names *.conf are read)\n",
                conf->left_out[i]);
    }
}

static void
print_macros(const struct conf *conf, FILE *out)
{
    if (conf->n_macros > 0) {
        fputs("\n# Macros: below, their values stand in their places.\n", out);
    }
    for (size_t i = 0; i < conf->n_macros; i++) {
        const struct conf_macro *macro = &conf->macros[i];

        fprintf(out, "%s = ", macro->name);
        print_string(macro->value, out);
        if (macro->where.line == 0) {
            fputs(KEEP "-D\n", out);
        } else if (macro->is_given) {
            fprintf(out, KEEP "-D, instead of %s:%d\n",
                    conf_where_file(conf, macro->where), macro->where.line);
        } else {
            print_origin(conf, macro->where, out);
        }
    }
}

void
conf_print(const struct conf *conf, FILE *out)
{
    print_files(conf, out);
    print_macros(conf, out);
    fputc('\n', out);
    print_settings(conf, out);
    for (size_t i = 0; i < conf->n_modules; i++) {
        if (conf->modules[i].presence == CONF_LIVE &&
            !conf->modules[i].is_hidden) {
            print_module(conf, &conf->modules[i], out);
        }
    }
    for (size_t i = 0; i < conf->n_listens; i++) {
        if (conf->listens[i].presence == CONF_LIVE &&
            !conf->listens[i].is_hidden) {
            print_listen(conf, &conf->listens[i], out);
        }
    }
}
