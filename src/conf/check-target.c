/* What a forward or a map leads to: a module's name, a door's path or a folder
 * of files. Equal ones become one entry of conf.targets, and so one channel. */
#include "conf/check.h"

#include <string.h>

#include "conf/text.h"

/* Index of the target of this kind and path or module, made if it is new.
 * -1: reported, or no memory. */
static ssize_t
target_index(struct conf_check *check, const struct conf_target *wanted)
{
    struct conf *conf = check->conf;
    struct conf_target *targets;

    for (size_t i = 0; i < conf->n_targets; i++) {
        const struct conf_target *target = &conf->targets[i];

        if (target->kind == wanted->kind &&
            (wanted->path ? strcmp(target->path, wanted->path) == 0
                          : target->module == wanted->module)) {
            return (ssize_t)i;
        }
    }
    if (conf->n_targets == CONF_TARGETS_MAX) {
        conf_report_add(check->report, wanted->where,
                        "more than %d different targets", CONF_TARGETS_MAX);
        return -1;
    }
    targets = conf_memory_grow(check->memory, conf->targets, conf->n_targets,
                               sizeof(*targets));
    if (!targets) {
        return -1;
    }
    conf->targets = targets;
    targets[conf->n_targets] = *wanted;
    return (ssize_t)conf->n_targets++;
}

/* IS_BARE: without the word `module`; then a path may have been meant. */
static bool
target_module(struct conf_check *check, const struct conf_word *name,
              bool is_bare, size_t *p_module)
{
    const char *names[CONF_MODULES_MAX + 1] = {NULL};
    struct conf *conf = check->conf;
    const char *near;

    for (size_t i = 0; i < conf->n_modules; i++) {
        if (conf_word_is(name, conf->modules[i].name)) {
            *p_module = i;
            return true;
        }
        names[i] = conf->modules[i].name;
    }
    if (!check->tree->is_whole) {
        return false; /* it may be in what was lost */
    }
    near = conf_name_near(names, name->text, name->len);
    conf_report_add(check->report, name->where, "no module '%s'%s%s%s%s",
                    conf_shown(name->text, name->len).text,
                    near ? ": did you mean '" : "", near ? near : "",
                    near ? "'?" : "",
                    is_bare ? " (a door's path needs a '/')" : "");
    return false;
}

/* The path of a door. It need not exist yet; but what is there now must be able
 * to be one. */
static char *
target_door(struct conf_check *check, const struct conf_word *word)
{
    struct conf_shown shown = conf_shown(word->text, word->len);
    char *path;

    if (!memchr(word->text, '/', word->len)) {
        conf_report_add(check->report, word->where,
                        "'%s' is no target: write a module's name without "
                        "quotes, a door's path (with a '/') or 'files FOLDER'",
                        shown.text);
        return NULL;
    }
    path = conf_check_path(check, word);
    if (path &&
        check->outside->file(check->outside->ctx, path) == CONF_FILE_FOLDER) {
        conf_report_add(check->report, word->where,
                        "'%s' is a folder, not a door: to serve its files "
                        "write 'files %s'",
                        shown.text, shown.text);
        return NULL;
    }
    return path;
}

ssize_t
conf_check_target(struct conf_check *check, const struct conf_node *node)
{
    struct conf_target target = {.where = node->target.where};

    switch (node->aim) {
    case CONF_AIM_MODULE:
        target.kind = CONF_TARGET_MODULE;
        if (!target_module(check, &node->target, false, &target.module)) {
            return -1;
        }
        break;
    case CONF_AIM_FILES:
        target.kind = CONF_TARGET_FILES;
        target.path = conf_check_folder(check, &node->target);
        break;
    case CONF_AIM_PATH:
    case CONF_AIM_BLOCK:
        /* A bare word without a '/' is a module's name. */
        if (!node->target.is_string &&
            !memchr(node->target.text, '/', node->target.len)) {
            target.kind = CONF_TARGET_MODULE;
            if (!target_module(check, &node->target, true, &target.module)) {
                return -1;
            }
            break;
        }
        target.kind = CONF_TARGET_DOOR;
        target.path = target_door(check, &node->target);
        break;
    }
    if (target.kind != CONF_TARGET_MODULE && !target.path) {
        return -1;
    }
    return target_index(check, &target);
}
