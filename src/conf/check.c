/* The judges that all parts of a configuration share, and their order: modules
 * before forwards, since a map may name one that stands further down. */
#include "conf/check.h"

#include <string.h>

#include "base/util.h"
#include "conf/text.h"

#define USER_LEN_MAX 32

bool
conf_word_is(const struct conf_word *word, const char *text)
{
    return strlen(text) == word->len &&
           memcmp(text, word->text, word->len) == 0;
}

void
conf_where_value(struct conf_where *where, const struct conf_words *words)
{
    if (words && words->word.where.macro) {
        where->macro = words->word.where.macro;
        where->is_mixed = words->word.where.is_mixed;
    }
}

char *
conf_check_base(const struct conf_check *check, const struct conf_word *word)
{
    return check->conf->files[word->where.file].folder;
}

char *
conf_check_path(struct conf_check *check, const struct conf_word *word)
{
    const char *wrong = conf_path_wrong(word->text, word->len);
    char *path;

    if (wrong) {
        conf_report_add(check->report, word->where, "%s", wrong);
        return NULL;
    }
    path = conf_path_absolute(check->memory, conf_check_base(check, word),
                              word->text, word->len);
    if (path && strlen(path) > CONF_PATH_MAX) {
        conf_report_add(check->report, word->where,
                        "the path is longer than %d bytes", CONF_PATH_MAX);
        return NULL;
    }
    return path;
}

char *
conf_check_folder(struct conf_check *check, const struct conf_word *word)
{
    char *path = conf_check_path(check, word);
    int kind;

    if (!path) {
        return NULL;
    }
    kind = check->outside->file(check->outside->ctx, path);
    if (kind == CONF_FILE_FOLDER) {
        return path;
    }
    conf_report_add(check->report, word->where, "'%s' %s%s",
                    conf_shown(path, strlen(path)).text,
                    kind < 0 ? "cannot be used as a folder: "
                             : "is not a folder",
                    kind < 0 ? strerror(-kind) : "");
    return NULL;
}

/* WORD as the name of a user or group, which EXISTS knows. */
static char *
check_account(struct conf_check *check, const struct conf_word *word,
              const char *what, bool (*exists)(void *ctx, const char *name))
{
    char *name;

    if (!check->outside->is_root) {
        conf_report_add(check->report, word->where,
                        "%s needs root: start cardea as root or remove the "
                        "line",
                        what);
        return NULL;
    }
    name = conf_memory_text(check->memory, word->text, word->len);
    if (!name) {
        return NULL;
    }
    if (word->len == 0 || word->len > USER_LEN_MAX ||
        !exists(check->outside->ctx, name)) {
        conf_report_add(check->report, word->where, "no %s '%s' on this system",
                        what, conf_shown(word->text, word->len).text);
        return NULL;
    }
    return name;
}

char *
conf_check_user(struct conf_check *check, const struct conf_word *word)
{
    return check_account(check, word, "user", check->outside->user);
}

char *
conf_check_group(struct conf_check *check, const struct conf_word *word)
{
    return check_account(check, word, "group", check->outside->group);
}

/* Words that begin something of their own: behind a value, only the end of the
 * statement before them was forgotten. */
static bool
begins_statement(const struct conf_word *word)
{
    static const char *const names[] = {
        "set", "forward", "map", "module", "include",
    };

    for (size_t i = 0; i < ARRAY_LEN(names) + CONF_OPTIONS; i++) {
        const char *name =
            i < ARRAY_LEN(names)
                ? names[i]
                : conf_option_name((enum conf_option)(i - ARRAY_LEN(names)));

        if (!word->is_string && conf_word_is(word, name)) {
            return true;
        }
    }
    return false;
}

/* The words REST follow VALUE, which was to stand alone. What they begin is
 * lost. */
static void
report_rest(struct conf_check *check, const struct conf_word *name,
            const struct conf_word *value, const struct conf_words *rest,
            bool is_command)
{
    const struct conf_word *word = &rest->word;
    struct conf_shown shown = conf_shown(word->text, word->len), next;
    const char *mend = "";

    while (rest && !begins_statement(&rest->word)) {
        rest = rest->next;
    }
    if (rest) {
        check->tree->is_whole = false;
        next = conf_shown(rest->word.text, rest->word.len);
    }
    if (conf_comment_like(word->text, word->len, !is_command)) {
        mend = ": a comment begins with '#'";
    } else if (value->is_string || (rest && word == &rest->word)) {
        mend = ": a ';' or a new line must stand before it";
    } else if (is_command && rest) {
        conf_report_add(check->report, word->where,
                        "unexpected '%s' after the value of '%.*s': put the "
                        "command into \"double quotes\", and a ';' or a new "
                        "line before '%s'",
                        shown.text, (int)name->len, name->text, next.text);
        return;
    } else if (is_command) {
        mend = ": put the whole command into \"double quotes\"";
    }
    conf_report_add(check->report, word->where,
                    "unexpected '%s' after the value of '%.*s'%s", shown.text,
                    (int)name->len, name->text, mend);
}

const struct conf_word *
conf_check_single(struct conf_check *check, const struct conf_word *name,
                  const struct conf_words *words, const char *example)
{
    if (!words) {
        conf_report_add(check->report, name->where,
                        "'%.*s' needs a value, such as %s", (int)name->len,
                        name->text, example);
        return NULL;
    }
    if (words->word.len == 1 && words->word.text[0] == '=' &&
        !words->word.is_string) {
        conf_report_add(check->report, words->word.where,
                        "no '=' stands between '%.*s' and its value",
                        (int)name->len, name->text);
        return NULL;
    }
    if (words->next) {
        report_rest(check, name, &words->word, words->next, example[0] == '"');
        return NULL;
    }
    return &words->word;
}

int
conf_check_time(struct conf_check *check, const struct conf_word *name,
                const struct conf_word *word, uint64_t min, uint64_t max,
                const char *range, uint64_t *p_value)
{
    static const char *const units[] = {"ms", "s", "m", "h", "d", NULL};
    struct conf_shown shown = conf_shown(word->text, word->len);
    const char *near;
    uint64_t value;

    switch (conf_time_parse(word->text, word->len, &value)) {
    case CONF_NUMBER_OK:
        if (value >= min && value <= max) {
            *p_value = value;
            return 0;
        }
        /* fallthrough */
    case CONF_NUMBER_RANGE:
        conf_report_add(check->report, word->where,
                        "'%s' is out of range: %.*s takes %s", shown.text,
                        (int)name->len, name->text, range);
        return -1;
    case CONF_NUMBER_NO_UNIT:
        conf_report_add(check->report, word->where,
                        "'%s' has no unit: write ms, s, m, h or d behind it",
                        shown.text);
        return -1;
    case CONF_NUMBER_UNIT:
        near = conf_unit_near(word->text, word->len, units);
        conf_report_add(check->report, word->where,
                        near ? "unknown unit in '%s': did you mean '%s'?"
                             : "unknown unit in '%s': the units are ms, s, m, "
                               "h and d%s",
                        shown.text, near ? near : "");
        return -1;
    case CONF_NUMBER_SUM:
        conf_report_add(check->report, word->where,
                        "'%s' is not a time: its parts have the units d, h, m, "
                        "s and ms, the larger first, such as 1m30s",
                        shown.text);
        return -1;
    default:
        conf_report_add(check->report, word->where,
                        "'%s' is not a time: write a whole number and a unit, "
                        "such as 30s or 500ms",
                        shown.text);
        return -1;
    }
}

void
conf_check(struct conf_check *check)
{
    conf_check_settings(check);
    conf_check_modules(check);
    conf_check_forwards(check);
}
