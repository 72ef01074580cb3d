/* What is said of a word that the grammar did not expect. A parser's set of
 * acceptable tokens is no help to a person; how far the statement had come is
 * (struct conf_place), and what its words look like. */
#include "conf/scan.h"

#include <stdio.h>
#include <string.h>

#include "conf/gram.h"
#include "conf/text.h"

static const char *const top_words[] = {"forward", "include", "module", "set",
                                        NULL};
static const char *const map_words[] = {"map", NULL};
static const char *const to_words[] = {"to", "pass", "mode", NULL};
static const char *const target_words[] = {"files", "module", NULL};

#define TOP_EXPECTED "'forward', 'include', 'module', 'set' or NAME ="

static const char *
place_expected(const struct conf_place *place)
{
    static const char *const steps[2][4] = {
        {
            "a protocol: http or tcp",
            "an address, such as :8080 or 127.0.0.1:8080",
            "'to'",
            "a target: a module's name, a door's path, 'files FOLDER' or '{'",
        },
        {
            "a method, such as GET, or 'any'",
            "a path, such as /hello",
            "'to'",
            "a target: a module's name, a door's path or 'files FOLDER'",
        },
    };
    static const char *const module[] = {"the module's name", "'{'"};

    if (place->is_mode) {
        return "a mode, such as 0660";
    }
    switch (place->first) {
    case CONF_T_FORWARD:
    case CONF_T_MAP:
        if (place->at >= 1 && place->at <= 4) {
            return steps[place->first == CONF_T_MAP][place->at - 1];
        }
        if (place->at == 5 && place->target == CONF_T_MODULE) {
            return "a module's name";
        }
        if (place->at == 5 && place->target == CONF_T_FILES) {
            return "a folder";
        }
        break;
    case CONF_T_MODULE:
        if (place->at >= 1 && place->at <= 2) {
            return module[place->at - 1];
        }
        /* not reached: the grammar wants no sixth word */
        break;
    case CONF_T_SET:
        if (place->at == 1) {
            return "the name of a setting";
        }
        break;
    case CONF_T_DEFINE:
        return "the macro's value";
    case CONF_T_INCLUDE:
        return "a file or a folder";
    /* not reached: no other word begins a statement */
    default:
        break;
    }
    return "the end of the line";
}

/* Something in a statement that is of no use in this block, seen by its first
 * word. */
static bool
report_misplaced(struct conf_scan *scan)
{
    const struct conf_place *place = &scan->before;
    const struct conf_word *word = &place->word;
    int first = place->first;

    if (place->block == 0 && first == CONF_T_MAP) {
        conf_report_add(scan->report, word->where,
                        "'map' belongs inside 'forward http ADDRESS to { }'");
        return true;
    }
    if (place->block != 0 &&
        (first == CONF_T_FORWARD || first == CONF_T_SET ||
         first == CONF_T_MODULE || first == CONF_T_INCLUDE)) {
        conf_report_add(scan->report, word->where,
                        "'%.*s' cannot stand inside '%s { }': is a '}' missing "
                        "before it?",
                        (int)word->len, word->text,
                        place->block == CONF_T_MODULE ? "module" : "forward");
        return true;
    }
    return false;
}

/* `NAME =` inside a block. */
static void
report_define(struct conf_scan *scan, const struct conf_word *word)
{
    struct conf_shown shown = conf_shown(word->text, word->len);

    if (scan->before.block == CONF_T_MODULE) {
        conf_report_add(scan->report, word->where,
                        "'%s =' in a block: options are written without '=', "
                        "and macros are defined outside of blocks",
                        shown.text);
    } else {
        conf_report_add(scan->report, word->where,
                        "'%s =' in a block: macros are defined outside of "
                        "blocks",
                        shown.text);
    }
}

/* PortunusD's first form had no protocol. */
static bool
report_protocol(struct conf_scan *scan)
{
    const struct conf_place *place = &scan->before;
    const struct conf_word *word = &place->second;
    struct conf_shown shown;

    if (place->first != CONF_T_FORWARD || place->at < 2 || place->at > 3 ||
        !conf_address_like(word->text, word->len)) {
        return false;
    }
    shown = conf_shown(word->text, word->len);
    conf_report_add(scan->report, word->where,
                    "the protocol is missing: write 'forward tcp %s' for a "
                    "door that takes bytes, 'forward http %s' for requests",
                    shown.text, shown.text);
    return true;
}

/* `map /hello to hello`. */
static bool
report_method(struct conf_scan *scan)
{
    const struct conf_place *place = &scan->before;
    const struct conf_word *word = &place->second;
    struct conf_shown shown;

    if (place->first != CONF_T_MAP || place->at < 2 || place->at > 3 ||
        word->len == 0 || word->text[0] != '/') {
        return false;
    }
    shown = conf_shown(word->text, word->len);
    conf_report_add(scan->report, word->where,
                    "the method is missing: write 'map GET %s' for requests of "
                    "GET, 'map any %s' for all",
                    shown.text, shown.text);
    return true;
}

/* A statement that starts with no word we know. */
static void
report_start(struct conf_scan *scan, const struct conf_word *word)
{
    bool is_map = scan->before.block == CONF_T_FORWARD;
    const char *near =
        conf_name_near(is_map ? map_words : top_words, word->text, word->len);
    const char *expected = is_map ? "'map' or '}'" : TOP_EXPECTED;
    struct conf_shown shown = conf_shown(word->text, word->len);

    if (scan->given == CONF_T_STRING) {
        conf_report_add(scan->report, word->where,
                        "a line does not start with a \"string\": expected %s",
                        expected);
    } else if (word->where.macro) {
        conf_report_add(scan->report, word->where,
                        "a statement does not start with a macro: expected %s",
                        expected);
    } else if (near) {
        conf_report_add(scan->report, word->where,
                        "unknown word '%s': did you mean '%s'?", shown.text,
                        near);
    } else if (scan->empty_line == word->where.line) {
        conf_report_add(scan->report, word->where,
                        "unknown word '%s' behind a ';': a comment begins with "
                        "'#'",
                        shown.text);
    } else {
        conf_report_add(scan->report, word->where,
                        "unknown word '%s': expected %s", shown.text, expected);
    }
}

#define FOUND_MAX (CONF_SHOWN_MAX + 2)

/* How the token given last is called in a message. */
static void
scan_found(const struct conf_scan *scan, char out[FOUND_MAX])
{
    const struct conf_word *word = &scan->given_word;

    if (word->len == 0 && scan->given != CONF_T_STRING && !word->where.macro) {
        snprintf(out, FOUND_MAX, "the end of the file");
    } else if (scan->given == CONF_T_SEP && word->text[0] == '\n') {
        snprintf(out, FOUND_MAX, "the end of the line");
    } else {
        snprintf(out, FOUND_MAX, "'%s'",
                 conf_shown(word->text, word->len).text);
    }
}

/* The word that was probably meant where WORD stands; NULL: none. */
static const char *
place_near(const struct conf_scan *scan, const struct conf_word *word)
{
    const struct conf_place *place = &scan->before;

    if (place->first != CONF_T_FORWARD && place->first != CONF_T_MAP) {
        return NULL;
    }
    if (place->at == 3 && scan->given == CONF_T_WORD && !word->where.macro &&
        !place->is_mode) {
        return conf_name_near(to_words, word->text, word->len);
    }
    return NULL;
}

/* `to file www`: the word before was no module's name. */
static bool
report_target(struct conf_scan *scan)
{
    const struct conf_place *place = &scan->before;
    const struct conf_word *word = &place->goal;
    const char *near;

    if ((place->first != CONF_T_FORWARD && place->first != CONF_T_MAP) ||
        place->at != 5 || place->target != CONF_T_WORD || word->where.macro ||
        scan->given == CONF_T_OPEN || scan->given == CONF_T_SEP) {
        return false;
    }
    near = conf_name_near(target_words, word->text, word->len);
    if (near) {
        conf_report_add(
            scan->report, word->where,
            "unknown word '%s' before '%s': did you mean '%s'?",
            conf_shown(word->text, word->len).text,
            conf_shown(scan->given_word.text, scan->given_word.len).text, near);
    }
    return near != NULL;
}

void
conf_scan_unexpected(struct conf_scan *scan)
{
    const struct conf_word *word = &scan->given_word;
    const struct conf_place *place = &scan->before;
    const char *near;
    char found[FOUND_MAX];

    if (scan->given == CONF_T_DEFINE) {
        report_define(scan, word);
        return;
    }
    if (report_misplaced(scan) || report_protocol(scan) ||
        report_method(scan) || report_target(scan)) {
        return;
    }
    if (place->at == 0 && (word->len > 0 || word->where.macro) &&
        scan->given != CONF_T_OPEN) {
        report_start(scan, word);
        return;
    }
    scan_found(scan, found);
    near = place_near(scan, word);
    if (scan->given == CONF_T_WORD &&
        conf_comment_like(word->text, word->len, true)) {
        conf_report_add(scan->report, word->where,
                        "expected %s, found %s: a comment begins with '#'",
                        place_expected(place), found);
        return;
    }
    conf_report_add(
        scan->report, word->where, "expected %s, found %s%s%s%s",
        place->at == 0 ? "a word before the '{'" : place_expected(place), found,
        near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}
