/* `set NAME VALUE`: what settings there are stands in settings.def; this gives
 * each its default, reads its value and stores it. */
#include "conf/check.h"

#include <stddef.h>
#include <string.h>

#include "base/util.h"
#include "conf/text.h"

#define SECOND 1000ull
#define DAY    (24ull * 3600 * SECOND)
#define MEGA   (1024ull * 1024)

enum setting_kind { SIZE, TIME, COUNT, SWITCH, USER, PATH, NAME, ADDRESS };

struct setting {
    const char *name;
    size_t offset;
    enum setting_kind kind;
    uint64_t min, max, preset;
    const char *range, *example;
};

static const struct setting settings[] = {
#define SETTING(name, member, kind, min, max, preset, range, example)          \
    {name,   offsetof(struct conf, member), kind, min, max, preset, range,     \
     example},
#include "conf/settings.def"
#undef SETTING
};

/* For suggestions, NULL at the end. */
static const char *const setting_names[] = {
#define SETTING(name, member, kind, min, max, preset, range, example) name,
#include "conf/settings.def"
#undef SETTING
    NULL,
};

static void *
setting_member(struct conf *conf, const struct setting *setting)
{
    return (char *)conf + setting->offset;
}

static void
setting_preset(struct conf *conf, const struct setting *setting)
{
    void *member = setting_member(conf, setting);

    if (setting->kind == SIZE || setting->kind == TIME ||
        setting->kind == COUNT) {
        uint64_t scale = setting->kind == TIME ? NS_PER_MS : 1;

        *(uint64_t *)member = setting->preset * scale;
    } else if (setting->kind == SWITCH) {
        *(bool *)member = setting->preset != 0;
    }
}

static void
setting_switch(struct conf_check *check, const struct setting *setting,
               const struct conf_word *word, bool *p_value)
{
    if (conf_word_is(word, "on") || conf_word_is(word, "off")) {
        *p_value = conf_word_is(word, "on");
        return;
    }
    conf_report_add(check->report, word->where, "'%s': %s is on or off",
                    conf_shown(word->text, word->len).text, setting->name);
}

/* What is wrong with TEXT as the name of a host (RFC 1123, section 2.1); NULL:
 * nothing. */
static const char *
host_wrong(const char *text, size_t len)
{
    size_t label = 0;
    bool has_letter = false;

    if (len == 0 || len > 253) {
        return "a name has 1 to 253 bytes";
    }
    for (size_t i = 0; i <= len; i++) {
        char c = i < len ? text[i] : '.';
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        has_letter = has_letter || is_letter;
        if (c == '.') {
            if (label == 0 || text[i - 1] == '-') {
                return "between its dots are names that neither start nor end "
                       "with '-'";
            }
            label = 0;
        } else if (is_letter || (c >= '0' && c <= '9') ||
                   (c == '-' && label > 0)) {
            if (++label > 63) {
                return "between its dots are at most 63 bytes";
            }
        } else if ((unsigned char)c >= 0x80) {
            return "letters beyond a-z are written in the form xn--...";
        } else {
            return "a name is made of letters, digits, '-' and dots";
        }
    }
    return has_letter ? NULL : "that is a number: a name has letters";
}

/* In lower case, since the case of host names is of no meaning. */
static void
setting_name(struct conf_check *check, const struct conf_word *word,
             char **p_name)
{
    const char *wrong = host_wrong(word->text, word->len);
    char *name;

    if (wrong) {
        conf_report_add(check->report, word->where, "'%s' is no host name: %s",
                        conf_shown(word->text, word->len).text, wrong);
        return;
    }
    name = conf_memory_text(check->memory, word->text, word->len);
    for (size_t i = 0; name && i < word->len; i++) {
        if (name[i] >= 'A' && name[i] <= 'Z') {
            name[i] |= 0x20;
        }
    }
    *p_name = name;
}

static void
setting_store(struct conf_check *check, const struct setting *setting,
              const struct conf_node *node)
{
    void *member = setting_member(check->conf, setting);
    const struct conf_word *word;

    if (setting->kind == ADDRESS) {
        conf_check_metrics(check, node, setting->example);
        return;
    }
    word = conf_check_single(check, &node->name, node->words, setting->example);
    if (!word) {
        return;
    }
    switch (setting->kind) {
    case SIZE:
        conf_check_size(check, &node->name, word, setting->min, setting->max,
                        setting->range, setting->example, member);
        break;
    case TIME:
        conf_check_time(check, &node->name, word, setting->min * NS_PER_MS,
                        setting->max * NS_PER_MS, setting->range, member);
        break;
    case COUNT:
        conf_check_count(check, &node->name, word, setting->min, setting->max,
                         setting->range, setting->example, member);
        break;
    case SWITCH:
        setting_switch(check, setting, word, member);
        break;
    case USER:
        *(char **)member = conf_check_user(check, word);
        break;
    case PATH:
        *(char **)member = conf_check_path(check, word);
        break;
    case NAME:
        setting_name(check, word, member);
        break;
    /* not reached: of several words, and read above */
    case ADDRESS:
        break;
    }
}

/* `set port = 80`, `set port=80`: a macro was meant, or a setting with an '='
 * too many. */
static bool
setting_equals(struct conf_check *check, const struct conf_word *name,
               const struct conf_words *words)
{
    const char *equals = memchr(name->text, '=', name->len), *value;
    size_t len = equals ? (size_t)(equals - name->text) : name->len, value_len;
    struct conf_word left = {.text = name->text, .len = len};
    bool has_word = words && words->word.len > 0;

    if (!equals && has_word && words->word.text[0] == '=' &&
        !words->word.is_string) {
        equals = words->word.text;
        value_len = words->word.len - 1;
        words = words->next;
    } else {
        value_len = equals ? name->len - len - 1 : 0;
    }
    if (!equals) {
        return false;
    }
    value = equals + 1;
    if (value_len == 0 && words) {
        value = words->word.text;
        value_len = words->word.len;
    }
    for (size_t i = 0; setting_names[i]; i++) {
        if (conf_word_is(&left, setting_names[i])) {
            conf_report_add(check->report, name->where,
                            "no '=' stands between '%s' and its value",
                            setting_names[i]);
            return true;
        }
    }
    conf_report_add(check->report, name->where,
                    "unknown setting '%s': a macro is defined without 'set': "
                    "%s = \"%s\"",
                    conf_shown(left.text, left.len).text,
                    conf_shown(left.text, left.len).text,
                    value_len > 0 ? conf_shown(value, value_len).text
                                  : "VALUE");
    return true;
}

static void
setting_unknown(struct conf_check *check, const struct conf_word *name,
                const struct conf_words *words)
{
    struct conf_shown shown = conf_shown(name->text, name->len);
    const char *near;

    if (setting_equals(check, name, words)) {
        return;
    }

    if (conf_word_is(name, "certificate") || conf_word_is(name, "key")) {
        conf_report_add(check->report, name->where,
                        "'set %s' needs TLS, which this version does not have "
                        "yet: remove the line, and let a server in front of "
                        "this one end TLS",
                        shown.text);
        return;
    }
    near = conf_name_near(setting_names, name->text, name->len);
    conf_report_add(check->report, name->where, "unknown setting '%s': %s%s%s",
                    shown.text, near ? "did you mean '" : "",
                    near ? near : "cardea.conf(5) lists them",
                    near ? "'?" : "");
}

void
conf_check_settings(struct conf_check *check)
{
    struct conf_where *seen =
        conf_memory_take(check->memory, ARRAY_LEN(settings), sizeof(*seen));

    if (!seen) {
        return;
    }
    check->conf->settings = seen;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        setting_preset(check->conf, &settings[i]);
    }
    for (const struct conf_node *node = check->tree->statements; node;
         node = node->next) {
        size_t i = 0;

        if (node->kind != CONF_NODE_SET) {
            continue;
        }
        while (i < ARRAY_LEN(settings) &&
               !conf_word_is(&node->name, settings[i].name)) {
            i++;
        }
        if (i == ARRAY_LEN(settings)) {
            setting_unknown(check, &node->name, node->words);
        } else if (seen[i].line) {
            conf_report_add(
                check->report, node->name.where, "'%s' is already set %s",
                settings[i].name,
                conf_there(check->report, node->name.where, seen[i]).text);
        } else {
            seen[i] = node->name.where;
            conf_where_value(&seen[i], node->words);
            setting_store(check, &settings[i], node);
        }
    }
}
