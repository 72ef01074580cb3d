/* `module NAME { ... }`: names, commands and who runs them. That a program is
 * there and can be executed is checked now: a server that finds out at the
 * first request finds out too late. */
#include "conf/check.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "conf/text.h"

#define NAME_LEN_MAX 32

enum option { RUN, EXEC, OPTION_USER, TIMEOUT, FOLDER, N_OPTIONS };

static const char *const option_names[N_OPTIONS + 1] = {
    [RUN] = "run",         [EXEC] = "exec",     [OPTION_USER] = "user",
    [TIMEOUT] = "timeout", [FOLDER] = "folder", [N_OPTIONS] = NULL,
};

static const char *const option_examples[N_OPTIONS] = {
    [RUN] = "\"./hello\"", [EXEC] = "\"./hello.sh\"", [OPTION_USER] = "nobody",
    [TIMEOUT] = "30s",     [FOLDER] = "/srv/app",
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
    path = conf_path_absolute(check->memory, check->conf->folder, name,
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
             enum option option, const struct conf_node *node)
{
    const struct conf_word *word = conf_check_single(
        check, &node->name, node->words, option_examples[option]);

    if (!word) {
        return;
    }
    switch (option) {
    case RUN:
    case EXEC:
        module->kind = option == RUN ? CONF_MODULE_RUN : CONF_MODULE_EXEC;
        module->argv = option_command(check, word);
        break;
    case OPTION_USER:
        module->user = conf_check_user(check, word);
        break;
    case TIMEOUT:
        conf_check_time(check, &node->name, word, NS_PER_MS,
                        24 * 3600ull * NS_PER_SEC, "1ms to 1d",
                        &module->timeout_ns);
        break;
    case FOLDER:
        module->folder = conf_check_folder(check, word);
        break;
    case N_OPTIONS:
        abort();
    }
}

static void
option_unknown(struct conf_check *check, const struct conf_word *name)
{
    struct conf_shown shown = conf_shown(name->text, name->len);
    const char *near;

    if (conf_word_is(name, "forward") || conf_word_is(name, "module") ||
        conf_word_is(name, "set")) {
        conf_report_add(check->report, name->where,
                        "'%s' cannot stand inside 'module { }': is a '}' "
                        "missing before it?",
                        shown.text);
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

/* The module's options; *P_HAS_COMMAND: run or exec was there, right or not. */
static void
module_options(struct conf_check *check, struct conf_module *module,
               const struct conf_node *children, bool *p_has_command)
{
    struct conf_where seen[N_OPTIONS] = {{0}};

    for (const struct conf_node *node = children; node; node = node->next) {
        size_t i = 0, same;

        while (i < N_OPTIONS && !conf_word_is(&node->name, option_names[i])) {
            i++;
        }
        if (i == N_OPTIONS) {
            option_unknown(check, &node->name);
            continue;
        }
        same = i == RUN && !seen[RUN].line     ? (size_t)EXEC
               : i == EXEC && !seen[EXEC].line ? (size_t)RUN
                                               : i;
        if (seen[same].line && same != i) {
            conf_report_add(check->report, node->name.where,
                            "a module has either run or exec: '%s' stands in "
                            "line %d",
                            option_names[same], seen[same].line);
        } else if (seen[i].line) {
            conf_report_add(check->report, node->name.where,
                            "'%s' is already given in line %d", option_names[i],
                            seen[i].line);
        } else {
            seen[i] = node->name.where;
            option_store(check, module, (enum option)i, node);
        }
    }
    *p_has_command = seen[RUN].line || seen[EXEC].line;
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
    for (size_t i = 0; i < conf->n_modules; i++) {
        if (conf_word_is(&node->name, conf->modules[i].name)) {
            conf_report_add(check->report, node->name.where,
                            "module '%s' is already defined in line %d",
                            shown.text, conf->modules[i].where.line);
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
        module->folder = conf->folder;
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
