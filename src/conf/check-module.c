/* `module NAME { ... }`: names, kinds and commands; check-option.c reads the
 * values. That a program is
 * there and can be executed is checked now: a server that finds out at the
 * first request finds out too late. */
#include "conf/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "conf/text.h"

#define NAME_LEN_MAX 32

/* Of the kinds that OPTION fits a bit each. */
#define ALL        ((1u << CONF_MODULE_KINDS) - 1)
#define KIND(kind) (1u << CONF_MODULE_##kind)

static const uint32_t option_kinds[CONF_OPTIONS] = {
#define OPTION(option, name, example, kinds) kinds,
#include "conf/module.def"
#undef OPTION
};

/* A file with a '/' in its name. The absolute path, or NULL: reported. */
static char *
program_at(struct conf_check *check, const struct conf_word *word,
           const char *name)
{
    struct conf_word as_path = *word;
    struct conf_shown shown;
    char *path;
    int kind;

    as_path.text = name;
    as_path.len = strlen(name);
    path = conf_check_path(check, &as_path);
    if (!path) {
        return NULL;
    }
    kind = check->outside->file(check->outside->ctx, path);
    if (kind == CONF_FILE_PROGRAM) {
        return path;
    }
    shown = conf_shown(path, strlen(path));
    if (kind < 0) {
        conf_report_add(check->report, word->where, "cannot run '%s': %s",
                        shown.text, strerror(-kind));
    } else if (kind == CONF_FILE_PLAIN) {
        conf_report_add(check->report, word->where,
                        "cannot run '%s': it is not executable (chmod +x)",
                        shown.text);
    } else {
        conf_report_add(check->report, word->where,
                        "cannot run '%s': it is not a program", shown.text);
    }
    return NULL;
}

/* A bare name, looked up in the absolute folders of $PATH. */
static char *
program_find(struct conf_check *check, const struct conf_word *word,
             const char *name)
{
    const struct conf_outside *outside = check->outside;
    const char *mend = "";
    char *path;

    for (const char *at = outside->path, *end; *at; at = *end ? end + 1 : end) {
        char *folder;

        end = strchrnul(at, ':');
        if (*at != '/') {
            continue;
        }
        folder = conf_memory_text(check->memory, at, (size_t)(end - at));
        path = folder ? conf_path_absolute(check->memory, folder, name,
                                           strlen(name))
                      : NULL;
        if (!path) {
            return NULL;
        }
        if (outside->file(outside->ctx, path) == CONF_FILE_PROGRAM) {
            return path;
        }
    }
    path = conf_path_absolute(check->memory, conf_check_base(check, word), name,
                              strlen(name));
    if (path && outside->file(outside->ctx, path) >= 0) {
        mend = ": for the file beside this one write ./ before it";
    }
    conf_report_add(check->report, word->where, "no program '%s' in $PATH%s",
                    conf_shown(name, strlen(name)).text, mend);
    return NULL;
}

char **
conf_check_command(struct conf_check *check, const struct conf_word *word)
{
    char **argv = NULL;
    const char *wrong =
        conf_command_split(check->memory, word->text, word->len, &argv);
    char *program;

    if (wrong) {
        conf_report_add(check->report, word->where, "%s", wrong);
    }
    if (wrong || check->memory->failed) {
        return NULL;
    }
    program = strchr(argv[0], '/') ? program_at(check, word, argv[0])
                                   : program_find(check, word, argv[0]);
    if (!program) {
        return NULL;
    }
    argv[0] = program;
    return argv;
}

static void
option_unknown(struct conf_check *check, const struct conf_word *name)
{
    struct conf_shown shown = conf_shown(name->text, name->len);
    const char *names[CONF_OPTIONS + 1] = {NULL};
    const char *near;

    if (conf_word_is(name, "forward") || conf_word_is(name, "module") ||
        conf_word_is(name, "set") || conf_word_is(name, "include")) {
        conf_report_add(check->report, name->where,
                        "'%s' cannot stand inside 'module { }': is a '}' "
                        "missing before it?",
                        shown.text);
        check->tree->is_whole = false; /* a statement was lost here */
        return;
    }
    for (size_t i = 0; i < CONF_OPTIONS; i++) {
        names[i] = conf_option_name((enum conf_option)i);
    }
    near = conf_name_near(names, name->text, name->len);
    conf_report_add(check->report, name->where,
                    near ? "unknown word '%s': did you mean '%s'?"
                         : "unknown word '%s': cardea.conf(5) lists what "
                           "a module has%s",
                    shown.text, near ? near : "");
}

/* How long a process that nobody calls stays with `floor 0`. */
#define FLOOR_IDLE (60 * NS_PER_SEC)

static bool
is_repeatable(size_t option)
{
    return option == CONF_OPTION_ENVIRONMENT || option == CONF_OPTION_SECRET ||
           option == CONF_OPTION_READ || option == CONF_OPTION_WRITE ||
           option == CONF_OPTION_LIMIT || option == CONF_OPTION_RECYCLE;
}

/* May OPTION, whose name is NODE's, stand in MODULE beside what was SEEN? */
static bool
option_fits(struct conf_check *check, const struct conf_where *seen,
            const struct conf_node *node, size_t option)
{
    const struct conf_where here = node->name.where;
    size_t kinds = option < CONF_MODULE_KINDS ? CONF_MODULE_KINDS : 0;

    if (seen[option].line && !is_repeatable(option)) {
        conf_report_add(check->report, here, "'%s' is already given %s",
                        conf_option_name((enum conf_option)option),
                        conf_there(check->report, here, seen[option]).text);
        return false;
    }
    for (size_t i = 0; i < kinds; i++) {
        if (seen[i].line) {
            conf_report_add(check->report, here,
                            "a module is of one kind: '%s' stands %s",
                            conf_option_name((enum conf_option)i),
                            conf_there(check->report, here, seen[i]).text);
            return false;
        }
    }
    return true;
}

/* The module's options; *P_HAS_KIND: one was there, right or not, or may have
 * been. */
static void
module_options(struct conf_check *check, struct conf_module *module,
               const struct conf_node *children, bool *p_has_kind)
{
    struct conf_where *seen = module->wheres;

    for (const struct conf_node *node = children; node; node = node->next) {
        size_t i = 0;

        while (
            i < CONF_OPTIONS &&
            !conf_word_is(&node->name, conf_option_name((enum conf_option)i))) {
            i++;
        }
        *p_has_kind = *p_has_kind || i < CONF_MODULE_KINDS || i == CONF_OPTIONS;
        if (i == CONF_OPTIONS) {
            option_unknown(check, &node->name); /* it may have been the kind */
        } else if (option_fits(check, seen, node, i)) {
            if (!seen[i].line) {
                seen[i] = node->name.where;
                conf_where_value(&seen[i], node->words);
                module->set |= 1u << i;
            }
            if (i < CONF_MODULE_KINDS) {
                module->kind = (enum conf_module_kind)i;
            }
            conf_check_option(check, module, (enum conf_option)i, node);
        }
    }
}

/* What floor and ceiling are only together, and with the kind. */
static void
module_growth(struct conf_check *check, const struct conf_module *module)
{
    const struct conf_where *seen = module->wheres;
    bool copied =
        module->kind == CONF_MODULE_RUN || module->kind == CONF_MODULE_WSGI;

    if (module->has_floor && module->floor > 1 && !copied) {
        conf_report_add(check->report, seen[CONF_OPTION_FLOOR],
                        "'floor' is 0 or 1 for a module with '%s'",
                        conf_kind_name(module->kind));
    }
    if (module->has_floor && module->floor == 0 && module->is_wait) {
        conf_report_add(check->report, seen[CONF_OPTION_FLOOR],
                        "'floor 0' is of no use to a module with 'inetd wait': "
                        "no call would start it again");
    }
    if (module->ceiling > 0 && module->floor > module->ceiling) {
        conf_report_add(check->report, seen[CONF_OPTION_FLOOR],
                        "'floor' is above 'ceiling' %s",
                        conf_there(check->report, seen[CONF_OPTION_FLOOR],
                                   seen[CONF_OPTION_CEILING])
                            .text);
    }
}

/* What the options are only together. */
static void
module_whole(struct conf_check *check, const struct conf_module *module,
             const struct conf_node *children)
{
    const struct conf_where *seen = module->wheres;
    const char *kind = conf_kind_name(module->kind);

    for (size_t i = CONF_MODULE_KINDS; i < CONF_OPTIONS; i++) {
        if (seen[i].line && !(option_kinds[i] & (1u << module->kind))) {
            conf_report_add(check->report, seen[i],
                            "'%s' is of no use to a module with '%s'",
                            conf_option_name((enum conf_option)i), kind);
        }
    }
    if (conf_amount(module, CONF_LIMIT_RATE) > 0 &&
        module->kind != CONF_MODULE_INETD) {
        conf_report_add(check->report, module->amount_wheres[CONF_LIMIT_RATE],
                        "'limit rate' is of no use to a module with '%s'",
                        kind);
    }
    if (seen[CONF_OPTION_IDLE].line && module->is_wait) {
        conf_report_add(check->report, seen[CONF_OPTION_IDLE],
                        "'idle' is of no use to a module with 'inetd wait': no "
                        "call would start it again");
    }
    module_growth(check, module);
    if (seen[CONF_OPTION_ADDRESS].line) {
        return;
    }
    for (const struct conf_node *node = children; node; node = node->next) {
        if (!node->words && conf_word_is(&node->name, kind) &&
            (option_kinds[CONF_OPTION_ADDRESS] & (1u << module->kind))) {
            conf_report_add(check->report, node->name.where,
                            "'%s' needs a command, or 'address' where the "
                            "program is found",
                            kind);
        }
    }
}

static bool
name_is_valid(const struct conf_word *name)
{
    for (size_t i = 0; i < name->len; i++) {
        char c = name->text[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (!alnum && (i == 0 || (c != '_' && c != '-'))) {
            return false;
        }
    }
    return name->len > 0 && name->len <= NAME_LEN_MAX;
}

bool
conf_check_module_room(struct conf_check *check, struct conf_module *module)
{
    struct conf_memory *memory = check->memory;

    module->amounts =
        conf_memory_take(memory, CONF_AMOUNTS, sizeof(*module->amounts));
    module->wheres =
        conf_memory_take(memory, CONF_OPTIONS, sizeof(*module->wheres));
    module->amount_wheres =
        conf_memory_take(memory, CONF_AMOUNTS, sizeof(*module->amount_wheres));
    return !memory->failed;
}

static void
module_check(struct conf_check *check, const struct conf_node *node)
{
    struct conf *conf = check->conf;
    struct conf_module *module = &conf->modules[conf->n_modules];
    struct conf_shown shown = conf_shown(node->name.text, node->name.len);
    bool has_kind = false;

    if (!name_is_valid(&node->name)) {
        conf_report_add(check->report, node->name.where,
                        "'%s' is no name for a module: use up to %d of a-z, "
                        "0-9, '-' and '_', a letter or digit first",
                        shown.text, NAME_LEN_MAX);
    }
    if (conf_word_is(&node->name, CONF_METRICS_NAME)) {
        conf_report_add(check->report, node->name.where,
                        "no module can be named " CONF_METRICS_NAME
                        ": that is the one of 'set metrics'");
    }
    if (conf_word_is(&node->name, "control")) {
        conf_report_add(check->report, node->name.where,
                        "no module can be named control: that is the control "
                        "socket's name in the run folder");
    }
    for (size_t i = 0; i < conf->n_modules; i++) {
        if (conf_word_is(&node->name, conf->modules[i].name)) {
            conf_report_add(check->report, node->name.where,
                            "module '%s' is already defined %s", shown.text,
                            conf_there(check->report, node->name.where,
                                       conf->modules[i].where)
                                .text);
        }
    }
    module->name =
        conf_memory_text(check->memory, node->name.text, node->name.len);
    if (!conf_check_module_room(check, module) || !module->name) {
        return;
    }
    module->where = node->name.where;
    module->timeout_ns = 30 * NS_PER_SEC;
    module->start_timeout_ns = 30 * NS_PER_SEC;
    conf->n_modules++;
    module_options(check, module, node->children, &has_kind);
    if (module->has_floor && module->floor == 0 &&
        !conf_is_set(module, CONF_OPTION_IDLE)) {
        module->has_idle = true;
        module->idle_ns = FLOOR_IDLE;
    }
    if (has_kind) {
        module_whole(check, module, node->children);
    } else if (check->tree->is_whole) {
        conf_report_add(check->report, node->name.where,
                        "module '%s' needs a kind, such as run \"COMMAND\" or "
                        "exec \"COMMAND\"",
                        shown.text);
    }
    if (!module->folder) {
        module->folder = conf_check_base(check, &node->name);
    }
}

void
conf_check_modules(struct conf_check *check)
{
    size_t n = 0;

    for (const struct conf_node *node = check->tree->statements; node;
         node = node->next) {
        if (node->kind != CONF_NODE_MODULE) {
            continue;
        }
        if (++n > CONF_MODULES_MAX) {
            conf_report_add(check->report, node->name.where,
                            "more than %d modules", CONF_MODULES_MAX);
            n = CONF_MODULES_MAX;
            break;
        }
    }
    /* One more: that of `set metrics`. */
    check->conf->modules =
        conf_memory_take(check->memory, n + 1, sizeof(*check->conf->modules));
    for (const struct conf_node *node = check->tree->statements;
         node && !check->memory->failed && check->conf->n_modules < n;
         node = node->next) {
        if (node->kind == CONF_NODE_MODULE) {
            module_check(check, node);
        }
    }
    if (check->metrics && !check->memory->failed) {
        conf_check_metrics_module(check);
    }
}
