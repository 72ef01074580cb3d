/* Sizes and numbers, judged within their bounds. */
#include "conf/check.h"

#include "base/util.h"
#include "conf/text.h"

int
conf_check_size(struct conf_check *check, const struct conf_word *name,
                const struct conf_word *word, uint64_t min, uint64_t max,
                const char *range, const char *example, uint64_t *p_value)
{
    static const char *const units[] = {"K", "M", "G", NULL};
    struct conf_shown shown = conf_shown(word->text, word->len);
    const char *near;
    uint64_t value;

    switch (conf_size_parse(word->text, word->len, &value)) {
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
                        "'%s' has no unit: write K, M or G behind it",
                        shown.text);
        return -1;
    case CONF_NUMBER_UNIT:
        near = conf_unit_near(word->text, word->len, units);
        conf_report_add(check->report, word->where,
                        near ? "unknown unit in '%s': did you mean '%s'?"
                             : "unknown unit in '%s': the units are K, M and "
                               "G%s",
                        shown.text, near ? near : "");
        return -1;
    default:
        conf_report_add(check->report, word->where,
                        "'%s' is not a size: write a whole number and a unit, "
                        "such as %s",
                        shown.text, example);
        return -1;
    }
}

int
conf_check_count(struct conf_check *check, const struct conf_word *name,
                 const struct conf_word *word, uint64_t min, uint64_t max,
                 const char *range, const char *example, uint64_t *p_value)
{
    struct conf_shown shown = conf_shown(word->text, word->len);
    uint64_t value = 0;
    size_t i = 0;

    while (i < word->len && word->text[i] >= '0' && word->text[i] <= '9') {
        value = MIN_OF(value * 10 + (uint64_t)(word->text[i] - '0'), max + 1);
        i++;
    }
    if (i == 0 || i < word->len) {
        conf_report_add(check->report, word->where,
                        "'%s' is not a whole number, such as %s", shown.text,
                        example);
    } else if (value < min || value > max) {
        conf_report_add(check->report, word->where,
                        "'%s' is out of range: %.*s takes %s", shown.text,
                        (int)name->len, name->text, range);
    } else {
        *p_value = value;
        return 0;
    }
    return -1;
}
