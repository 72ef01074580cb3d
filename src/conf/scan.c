/* The grammar wants two things that a regular scanner cannot give: a separator
 * at the end of every statement, also of one that a '}' or the file's end ends,
 * and braces that pair. Both are made here. It also keeps how far a statement
 * had come, for scan-say.c, which finds the words for what was not expected. */
#include "conf/scan.h"

#include <string.h>

#include "base/util.h"
#include "conf/gram.h"
#include "conf/text.h"

int
conf_scan_word(const char *text, size_t len)
{
    static const struct {
        const char *name;
        int token;
    } keywords[] = {
        {"forward", CONF_T_FORWARD}, {"set", CONF_T_SET},
        {"module", CONF_T_MODULE},   {"map", CONF_T_MAP},
        {"to", CONF_T_TO},           {"files", CONF_T_FILES},
        {"pass", CONF_T_PASS},       {"include", CONF_T_INCLUDE},
        {"mode", CONF_T_MODE},
    };

    for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
        if (strlen(keywords[i].name) == len &&
            memcmp(keywords[i].name, text, len) == 0) {
            return keywords[i].token;
        }
    }
    return CONF_T_WORD;
}

bool
conf_word_is_key(const char *text, size_t len)
{
    return conf_scan_word(text, len) != CONF_T_WORD;
}

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

/* `mode 0660` behind an address can be left out: it does not count as steps on
 * the statement's way. */
static bool
scan_mode(struct conf_place *place, int token)
{
    bool is_mode = token == CONF_T_MODE && place->at == 3 &&
                   place->first == CONF_T_FORWARD && !place->is_mode;
    bool is_value = place->is_mode;

    place->is_mode = is_mode;
    return is_mode || is_value;
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
    if (place->at == 0 && token == CONF_T_SEP && word->len > 0 &&
        word->text[0] == ';') {
        scan->empty_line = word->where.line;
    }
    scan->before = *place;
    scan->given = token;
    scan->given_word = *word;
    scan->closed = token == CONF_T_CLOSE;
    if (place->at == 1) {
        place->second = *word;
    }
    if (place->at == 4) {
        place->goal = *word;
        place->target = token;
    }
    if (!scan_mode(place, token)) {
        place->at++;
    }
    if (token == CONF_T_SEP || token == CONF_T_OPEN || token == CONF_T_CLOSE) {
        place->at = 0;
        place->target = 0;
        place->is_mode = false;
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
    scan->source->is_whole = false; /* what follows stood in the block */
    if (!scan->is_torn) {
        conf_report_add(scan->report, scan->opens[scan->depth - 1].where,
                        "this '{' is never closed: add the '}'");
    }
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
                if (!scan->is_torn) {
                    conf_report_add(scan->report, *where, "'}' without a '{'");
                }
                token = CONF_T_SEP;
                break;
            }
            return scan_ends(scan, token, word);
        case CONF_T_YYEOF:
            *word = (struct conf_word){
                .where = {scan->line, scan->column, .file = scan->file},
            };
            *where = word->where;
            return scan_ends(scan, token, word);
        default:
            break;
        }
        return scan_give(scan, token, word);
    }
}

void
conf_scan_include(struct conf_scan *scan, const struct conf_word *name,
                  const struct conf_words *words, struct conf_nodes_list *list)
{
    if (!words || words->next) {
        conf_report_add(scan->report,
                        words ? words->next->word.where : name->where,
                        words ? "'include' takes one file or folder: write an "
                                "'include' for each"
                              : "'include' needs a file or a folder, such as "
                                "\"conf.d\"");
        scan->source->is_whole = false;
        return;
    }
    conf_source_include(scan->source, &words->word, list);
}

void
conf_tree_parse(struct conf_source *source, size_t file, char *text, size_t len,
                struct conf_nodes_list *list)
{
    struct conf_scan scan = {
        .source = source,
        .memory = source->scratch,
        .report = source->report,
        .file = (uint16_t)file,
        .line = 1,
        .column = 1,
        .statements = list,
    };
    int status;

    if (conf_flex_start(&scan, text, len) < 0) {
        /* not reached: flex asks for less than we have */
        source->scratch->failed = true;
        return;
    }
    status = conf_gram_parse(&scan);
    if (status == 2 || (status != 0 && source->report->n == 0)) {
        source->scratch->failed = true; /* mistakes are recovered from */
    }
    source->is_whole = source->is_whole && status == 0;
    conf_flex_stop(&scan);
}
