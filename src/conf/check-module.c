/* `module NAME { ... }`: names, commands and who runs them. That a program is
 * there and can be executed is checked now: a server that finds out at the
 * first request finds out too late. */
#include "conf/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "conf/text.h"

#define NAME_LEN_MAX 32

static const char *const option_names[CONF_OPTIONS + 1] = {
    [CONF_OPTION_RUN] = "run",       [CONF_OPTION_EXEC] = "exec",
    [CONF_OPTION_USER] = "user",     [CONF_OPTION_TIMEOUT] = "timeout",
    [CONF_OPTION_FOLDER] = "folder", [CONF_OPTIONS] = NULL,
};

static const char *const option_examples[CONF_OPTIONS] = {
    [CONF_OPTION_RUN] = "\"./hello\"", [CONF_OPTION_EXEC] = "\"./hello.sh\"",
    [CONF_OPTION_USER] = "nobody",     [CONF_OPTION_TIMEOUT] = "30s",
    [CONF_OPTION_FOLDER] = "/srv/app",
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

static char **
option_command(struct conf_check *check, const struct conf_word *word)
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
option_store(struct conf_check *check, struct conf_module *module,
             enum conf_option option, const struct conf_node *node)
{
    const struct conf_word *word = conf_check_single(
        check, &node->name, node->words, option_examples[option]);

    if (!word) {
        return;
    }
    switch (option) {
    case CONF_OPTION_RUN:
    case CONF_OPTION_EXEC:
        module->kind =
            option == CONF_OPTION_RUN ? CONF_MODULE_RUN : CONF_MODULE_EXEC;
        module->argv = option_command(check, word);
        break;
    case CONF_OPTION_USER:
        module->user = conf_check_user(check, word);
        break;
    case CONF_OPTION_TIMEOUT:
        conf_check_time(check, &node->name, word, NS_PER_MS,
                        24 * 3600ull * NS_PER_SEC, "1ms to 1d",
                        &module->timeout_ns);
        break;
    case CONF_OPTION_FOLDER:
        module->folder = conf_check_folder(check, word);
        break;
    /* not reached: it is their number */
    case CONF_OPTIONS:
        abort();
    }
}

static void
option_unknown(struct conf_check *check, const struct conf_word *name)
{
    struct conf_shown shown = conf_shown(name->text, name->len);
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
    if (conf_word_is(name, "inetd")) {
        conf_report_add(check->report, name->where,
                        "'inetd' is not available in this version");
        return;
    }
    near = conf_name_near(option_names, name->text, name->len);
    conf_report_add(check->report, name->where,
                    near ? "unknown word '%s': did you mean '%s'?"
                         : "unknown word '%s': a module has run, exec, user, "
                           "timeout and folder%s",
                    shown.text, near ? near : "");
}

/* The module's options; *P_HAS_COMMAND: run or exec was there, right or not,
 * or may have been. */
static void
module_options(struct conf_check *check, struct conf_module *module,
               const struct conf_node *children, bool *p_has_command)
{
    struct conf_where *seen = module->wheres;
    bool is_lost = false;

    for (const struct conf_node *node = children; node; node = node->next) {
        size_t i = 0, same;

        while (i < CONF_OPTIONS &&
               !conf_word_is(&node->name, option_names[i])) {
            i++;
        }
        if (i == CONF_OPTIONS) {
            option_unknown(check, &node->name);
            is_lost = true; /* it may have been the command */
            continue;
        }
        same = i == CONF_OPTION_RUN && !seen[i].line    ? CONF_OPTION_EXEC
               : i == CONF_OPTION_EXEC && !seen[i].line ? CONF_OPTION_RUN
                                                        : i;
        if (seen[same].line && same != i) {
            conf_report_add(
                check->report, node->name.where,
                "a module has either run or exec: '%s' stands %s",
                option_names[same],
                conf_there(check->report, node->name.where, seen[same]).text);
        } else if (seen[i].line) {
            conf_report_add(
                check->report, node->name.where, "'%s' is already given %s",
                option_names[i],
                conf_there(check->report, node->name.where, seen[i]).text);
        } else {
            seen[i] = node->name.where;
            conf_where_value(&seen[i], node->words);
            option_store(check, module, (enum conf_option)i, node);
        }
    }
    *p_has_command =
        is_lost || seen[CONF_OPTION_RUN].line || seen[CONF_OPTION_EXEC].line;
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

static void
module_check(struct conf_check *check, const struct conf_node *node)
{
    struct conf *conf = check->conf;
    struct conf_module *module = &conf->modules[conf->n_modules];
    struct conf_shown shown = conf_shown(node->name.text, node->name.len);
    bool has_command;

    if (!name_is_valid(&node->name)) {
        conf_report_add(check->report, node->name.where,
                        "'%s' is no name for a module: use up to %d of a-z, "
                        "0-9, '-' and '_', a letter or digit first",
                        shown.text, NAME_LEN_MAX);
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
    if (!module->name) {
        return;
    }
    module->where = node->name.where;
    module->timeout_ns = 30 * NS_PER_SEC;
    conf->n_modules++;
    module_options(check, module, node->children, &has_command);
    if (!has_command && check->tree->is_whole) {
        conf_report_add(check->report, node->name.where,
                        "module '%s' needs run \"COMMAND\" or exec "
                        "\"COMMAND\"",
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
    check->conf->modules =
        conf_memory_take(check->memory, n, sizeof(*check->conf->modules));
    for (const struct conf_node *node = check->tree->statements;
         node && !check->memory->failed && check->conf->n_modules < n;
         node = node->next) {
        if (node->kind == CONF_NODE_MODULE) {
            module_check(check, node);
        }
    }
}
