/* The grammar wants two things that a regular scanner cannot give: a separator
 * at the end of every statement, also of one that a '}' or the file's end ends,
 * and braces that pair. Both are made here. And since only this side knows how
 * far a statement had come, it also finds the words for what was not expected:
 * a parser's set of acceptable tokens is no help to a person. */
#include "conf/scan.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "conf/gram.h"
#include "conf/text.h"

static const char *const top_words[] = {"forward", "module", "set", NULL};
static const char *const map_words[] = {"map", NULL};
static const char *const to_words[] = {"to", NULL};

struct conf_node *
conf_node_make(struct conf_scan *scan, enum conf_node_kind kind,
               const struct conf_word *name, const struct conf_word *value)
{
    struct conf_node *node = conf_memory_take(scan->memory, 1, sizeof(*node));

    if (node) {
        node->kind = kind;
        node->name = *name;
        if (value) {
            node->value = *value;
        }
    }
    return node;
}

bool
conf_words_add(struct conf_scan *scan, struct conf_words_list *list,
               const struct conf_word *word)
{
    struct conf_words *link = conf_memory_take(scan->memory, 1, sizeof(*link));

    if (!link) {
        return false;
    }
    link->word = *word;
    if (list->last) {
        list->last->next = link;
    } else {
        list->first = link;
    }
    list->last = link;
    return true;
}

void
conf_nodes_add(struct conf_nodes_list *list, struct conf_node *node)
{
    if (list->last) {
        list->last->next = node;
    } else {
        list->first = node;
    }
    list->last = node;
}

/* Notes that TOKEN is given now, and where in its statement it stands. */
static int
scan_give(struct conf_scan *scan, int token, const struct conf_word *word)
{
    struct conf_place *place = &scan->place;

    if (place->at == 0) {
        place->first = token;
        place->word = *word;
    }
    scan->before = *place;
    scan->given = token;
    scan->given_word = *word;
    scan->closed = token == CONF_T_CLOSE;
    if (place->at == 4) {
        place->target = token;
    }
    place->at++;
    if (token == CONF_T_SEP || token == CONF_T_OPEN || token == CONF_T_CLOSE) {
        place->at = 0;
        place->target = 0;
        place->block =
            scan->depth > 0
                ? scan->opens[MIN_OF(scan->depth, CONF_DEPTH_MAX) - 1].block
                : 0;
    }
    return token;
}

/* The block that a '{' opens; false: it is too deep and is left out. */
static bool
scan_open(struct conf_scan *scan, struct conf_where where)
{
    if (scan->depth++ >= CONF_DEPTH_MAX) {
        if (scan->depth == CONF_DEPTH_MAX + 1) {
            conf_report_add(scan->report, where,
                            "blocks cannot be nested so deep");
        }
        return false;
    }
    scan->opens[scan->depth - 1] = (struct conf_open){where, scan->place.first};
    return true;
}

static void
scan_hold(struct conf_scan *scan, int token, const struct conf_word *word)
{
    scan->is_held = true;
    scan->held = token;
    scan->word = *word;
}

/* The end of the text: open blocks are closed, the innermost is reported. */
static int
scan_end(struct conf_scan *scan, const struct conf_word *word)
{
    if (scan->depth > CONF_DEPTH_MAX) {
        scan->depth = CONF_DEPTH_MAX;
    }
    if (scan->depth == 0) {
        return scan_give(scan, CONF_T_YYEOF, word);
    }
    conf_report_add(scan->report, scan->opens[scan->depth - 1].where,
                    "this '{' is never closed: add the '}'");
    scan->depth--;
    scan_hold(scan, CONF_T_YYEOF, word); /* comes again after the '}' */
    return scan_give(scan, CONF_T_CLOSE, word);
}

/* Gives TOKEN, or first the separator that must stand before it. */
static int
scan_ends(struct conf_scan *scan, int token, const struct conf_word *word)
{
    if (scan->place.at > 0) {
        scan_hold(scan, token, word);
        return scan_give(scan, CONF_T_SEP, word);
    }
    if (token == CONF_T_YYEOF) {
        return scan_end(scan, word);
    }
    scan->depth--;
    return scan_give(scan, CONF_T_CLOSE, word);
}

int
conf_scan_next(struct conf_scan *scan, struct conf_word *word,
               struct conf_where *where)
{
    int token;

    if (scan->closed) { /* the word is still that of the '}' */
        *word = scan->given_word;
        *where = word->where;
        return scan_give(scan, CONF_T_SEP, word);
    }
    for (;;) {
        if (scan->is_held) {
            token = scan->held;
            *word = scan->word;
            *where = word->where;
            scan->is_held = false;
        } else {
            token = conf_flex_next(word, where, scan->flex);
        }
        switch (token) {
        case CONF_T_OPEN:
            if (!scan_open(scan, *where)) {
                continue;
            }
            break;
        case CONF_T_CLOSE:
            if (scan->depth > CONF_DEPTH_MAX) {
                scan->depth--;
                continue;
            }
            if (scan->depth == 0) {
                conf_report_add(scan->report, *where, "'}' without a '{'");
                token = CONF_T_SEP;
                break;
            }
            return scan_ends(scan, token, word);
        case CONF_T_YYEOF:
            *word = (struct conf_word){
                .where = {scan->line, scan->column},
            };
            *where = word->where;
            return scan_ends(scan, token, word);
        default:
            break;
        }
        return scan_give(scan, token, word);
    }
}

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
        break;
    case CONF_T_SET:
        if (place->at == 1) {
            return "the name of a setting";
        }
        break;
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
    if (place->block != 0 && (first == CONF_T_FORWARD || first == CONF_T_SET ||
                              first == CONF_T_MODULE)) {
        conf_report_add(scan->report, word->where,
                        "'%.*s' cannot stand inside '%s { }': is a '}' missing "
                        "before it?",
                        (int)word->len, word->text,
                        place->block == CONF_T_MODULE ? "module" : "forward");
        return true;
    }
    return false;
}

/* A statement that starts with no word we know. */
static void
report_start(struct conf_scan *scan, const struct conf_word *word)
{
    bool is_map = scan->before.block == CONF_T_FORWARD;
    const char *near =
        conf_name_near(is_map ? map_words : top_words, word->text, word->len);
    struct conf_shown shown = conf_shown(word->text, word->len);

    if (scan->given == CONF_T_STRING) {
        conf_report_add(scan->report, word->where,
                        "a line does not start with a \"string\": expected %s",
                        is_map ? "'map' or '}'"
                               : "'forward', 'module' or 'set'");
    } else if (!is_map && word->len == 7 &&
               memcmp(word->text, "include", 7) == 0) {
        conf_report_add(scan->report, word->where,
                        "'include' is not available in this version");
    } else if (near) {
        conf_report_add(scan->report, word->where,
                        "unknown word '%s': did you mean '%s'?", shown.text,
                        near);
    } else {
        conf_report_add(scan->report, word->where,
                        "unknown word '%s': expected %s", shown.text,
                        is_map ? "'map' or '}'"
                               : "'forward', 'module' or 'set'");
    }
}

#define FOUND_MAX (CONF_SHOWN_MAX + 2)

/* How the token given last is called in a message. */
static void
scan_found(const struct conf_scan *scan, char out[FOUND_MAX])
{
    const struct conf_word *word = &scan->given_word;

    if (word->len == 0 && scan->given != CONF_T_STRING) {
        snprintf(out, FOUND_MAX, "the end of the file");
    } else if (scan->given == CONF_T_SEP && word->text[0] == '\n') {
        snprintf(out, FOUND_MAX, "the end of the line");
    } else {
        snprintf(out, FOUND_MAX, "'%s'",
                 conf_shown(word->text, word->len).text);
    }
}

void
conf_scan_unexpected(struct conf_scan *scan)
{
    const struct conf_word *word = &scan->given_word;
    const struct conf_place *place = &scan->before;
    const char *near = NULL;
    char found[FOUND_MAX];

    if (report_misplaced(scan)) {
        return;
    }
    if (place->at == 0 && word->len > 0 && scan->given != CONF_T_OPEN) {
        report_start(scan, word);
        return;
    }
    scan_found(scan, found);
    if (place->at == 3 && scan->given == CONF_T_WORD &&
        (place->first == CONF_T_FORWARD || place->first == CONF_T_MAP)) {
        near = conf_name_near(to_words, word->text, word->len);
    }
    conf_report_add(scan->report, word->where, "expected %s, found %s%s",
                    place->at == 0 ? "a word before the '{'"
                                   : place_expected(place),
                    found, near ? ": did you mean 'to'?" : "");
}

void
conf_tree_parse(char *text, size_t len, struct conf_memory *memory,
                struct conf_report *report, struct conf_tree *tree)
{
    struct conf_scan scan = {
        .memory = memory,
        .report = report,
        .line = 1,
        .column = 1,
        .is_whole = true,
    };

    if (conf_flex_start(&scan, text, len) < 0) {
        memory->failed = true;
        return;
    }
    if (conf_gram_parse(&scan) != 0 && report->n == 0) {
        memory->failed = true; /* mistakes are recovered from */
    }
    conf_flex_stop(&scan);
    tree->statements = scan.statements;
    tree->is_whole = scan.is_whole;
}
