/* A macro's value is text inside one word: it never makes two words of one, or
 * a keyword, a brace or a comment. So what a file says can be seen without
 * knowing the values, and a value from the command line can do no more than a
 * word can. A macro must be defined before it is used; so its value is whole
 * when it is stored, and cannot hold itself. What values can make of a small
 * file is bounded. */
#include "conf/macro.h"

#include <string.h>

#include "base/util.h"
#include "conf/text.h"

static bool
is_name_byte(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

/* How many bytes of TEXT a macro's name can be. */
static size_t
name_len(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && is_name_byte(text[n], n == 0)) {
        n++;
    }
    return n;
}

/* What is wrong with a name that is to be defined; NULL: nothing. */
static const char *
name_wrong(const char *text, size_t len)
{
    if (len == 0) {
        return "a macro's name is missing before the '='";
    }
    if (text[0] == '$') {
        return "a macro is defined without the '$' before its name";
    }
    if (name_len(text, len) != len) {
        return "a macro's name is made of letters, digits and '_', no digit "
               "first";
    }
    if (len > CONF_MACRO_NAME_MAX) {
        return "a macro's name has at most 64 bytes";
    }
    if (conf_word_is_key(text, len)) {
        return "a word of the language cannot be a macro's name";
    }
    return NULL;
}

static struct conf_macro *
macro_find(const struct conf *conf, const char *name, size_t len)
{
    for (size_t i = 0; i < conf->n_macros; i++) {
        struct conf_macro *macro = &conf->macros[i];

        if (strlen(macro->name) == len && memcmp(macro->name, name, len) == 0) {
            return macro;
        }
    }
    return NULL;
}

/* The macro that NAME was probably meant to be; NULL: none. With FROM_FILES
 * only those that a file defines or uses. */
static const char *
macro_near(const struct conf *conf, const char *name, size_t len,
           bool from_files)
{
    const char *names[CONF_MACROS_MAX + 1] = {NULL};
    size_t n = 0;

    for (size_t i = 0; i < conf->n_macros; i++) {
        const struct conf_macro *macro = &conf->macros[i];

        if (!from_files || macro->where.line > 0 || macro->is_used) {
            names[n++] = macro->name;
        }
    }
    return conf_name_near(names, name, len);
}

/* Adds a macro. NULL: no memory, or too many (reported at WHERE). */
static struct conf_macro *
macro_add(struct conf_source *source, const char *name, size_t name_len,
          const char *value, size_t value_len, struct conf_where where)
{
    struct conf *conf = source->conf;
    struct conf_macro *macros, *macro;

    if (conf->n_macros == CONF_MACROS_MAX) {
        conf_report_add(source->report, where, "more than %d macros",
                        CONF_MACROS_MAX);
        source->is_whole = false;
        return NULL;
    }
    macros = conf_memory_grow(source->memory, conf->macros, conf->n_macros,
                              sizeof(*macros));
    if (!macros) {
        return NULL;
    }
    conf->macros = macros;
    macro = &macros[conf->n_macros];
    *macro = (struct conf_macro){
        .name = conf_memory_text(source->memory, name, name_len),
        .value = conf_memory_text(source->memory, value, value_len),
        .where = where,
    };
    if (!macro->name || !macro->value) {
        return NULL;
    }
    conf->n_macros++;
    return macro;
}

/* One -D. What is wrong with it, as a phrase; NULL: nothing. */
static const char *
macro_give(struct conf_source *source, const char *text)
{
    const char *equals = strchr(text, '='), *why = NULL, *wrong;
    size_t len = equals ? (size_t)(equals - text) : 0;
    struct conf_macro *macro;

    if (conf_bytes_check(text, strlen(text), &why) < strlen(text) ||
        strchr(text, '\n')) {
        return "what is given is no text of one line";
    }
    if (!equals) {
        return "write NAME=VALUE";
    }
    wrong = name_wrong(text, len);
    if (wrong) {
        return wrong;
    }
    if (strlen(equals + 1) > CONF_MACRO_VALUE_MAX) {
        return "the value is longer than 4096 bytes";
    }
    if (macro_find(source->conf, text, len)) {
        return "this macro is given twice";
    }
    macro = macro_add(source, text, len, equals + 1, strlen(equals + 1),
                      (struct conf_where){0});
    if (macro) {
        macro->is_given = true;
    }
    return NULL;
}

void
conf_macros_give(struct conf_source *source, const struct conf_options *options)
{
    for (size_t i = 0; options && i < options->n_defines; i++) {
        const char *text = options->defines[i], *why = NULL;
        const char *wrong = macro_give(source, text);
        bool is_text =
            conf_bytes_check(text, strlen(text), &why) == strlen(text) &&
            !strchr(text, '\n');

        if (wrong) {
            conf_report_add(source->report, (struct conf_where){0}, "-D %s: %s",
                            is_text ? conf_shown(text, strlen(text)).text : "",
                            wrong);
            source->is_whole = false;
        }
    }
}

void
conf_macros_unused(struct conf_source *source)
{
    const struct conf *conf = source->conf;

    for (size_t i = 0; i < conf->n_macros && source->is_whole; i++) {
        const struct conf_macro *macro = &conf->macros[i];
        const char *near;

        if (!macro->is_given || macro->is_used || macro->where.line > 0) {
            continue;
        }
        near = macro_near(conf, macro->name, strlen(macro->name), true);
        conf_report_add(source->report, (struct conf_where){0},
                        "-D %s: no file defines or uses this macro%s%s%s",
                        macro->name, near ? ": did you mean '" : "",
                        near ? near : "", near ? "'?" : "");
    }
}

/* What is wrong with the value; NULL: nothing. *P_WHERE is the place of it. */
static const char *
value_wrong(const struct conf_words *values, struct conf_where *p_where)
{
    if (!values) {
        return "the macro's value is missing: a word, or one in \"double "
               "quotes\"";
    }
    *p_where = values->word.where;
    if (values->word.len > CONF_MACRO_VALUE_MAX) {
        return "the value is longer than 4096 bytes";
    }
    if (values->next) {
        *p_where = values->next->word.where;
        return "a macro's value is one word: put all of it into \"double "
               "quotes\"";
    }
    return NULL;
}

void
conf_macro_define(struct conf_source *source, const struct conf_word *name,
                  const struct conf_words *values)
{
    struct conf_where where = name->where;
    const char *wrong = name_wrong(name->text, name->len);
    struct conf_macro *macro;

    if (!wrong) {
        wrong = value_wrong(values, &where);
    }
    if (wrong) {
        conf_report_add(source->report, where, "%s", wrong);
        source->is_whole = false;
        return;
    }
    macro = macro_find(source->conf, name->text, name->len);
    if (!macro) {
        macro_add(source, name->text, name->len, values->word.text,
                  values->word.len, name->where);
    } else if (macro->where.line > 0) {
        conf_report_add(
            source->report, name->where, "macro '%s' is already defined %s",
            macro->name,
            conf_there(source->report, name->where, macro->where).text);
    } else {
        macro->where = name->where; /* -D wins */
    }
}

/* A word that is being read: pieces of what was written, one after another. */
struct expansion {
    struct conf_source *source;
    struct conf_word *word;
    size_t at;
};

struct piece {
    const char *text;
    size_t len;
    struct conf_macro *macro; /* NULL: was written there */
};

/* Reports a mistake at byte AT of the word. */
static int
piece_wrong(struct expansion *e, size_t at, const char *format, const char *a,
            const char *b)
{
    struct conf_where where = e->word->where;

    where.column += e->word->is_string; /* the quote */
    for (size_t i = 0; i < at; i++) {
        where.column += ((unsigned char)e->word->text[i] & 0xc0) != 0x80;
    }
    conf_report_add(e->source->report, where, format, a, b);
    return -1;
}

static int
piece_macro(struct expansion *e, struct piece *piece)
{
    const char *text = e->word->text + e->at + 1, *near;
    size_t rest = e->word->len - e->at - 1, len;
    bool has_brace = rest > 0 && text[0] == '{';
    struct conf_shown shown;

    text += has_brace;
    rest -= has_brace;
    len = name_len(text, rest);
    if (has_brace && len > 0 && !memchr(text, '}', rest)) {
        shown = conf_shown(text, len);
        return piece_wrong(e, e->at,
                           "the '}' of '${%s' is missing: write '${%s}'",
                           shown.text, shown.text);
    }
    if (len == 0 || (has_brace && (len == rest || text[len] != '}'))) {
        return piece_wrong(
            e, e->at,
            has_brace ? "'${' needs a macro's name and a '}'%s%s"
            : e->word->is_string
                ? "'$' stands before a macro's name: for the sign itself "
                  "write \\$%s%s"
                : "'$' stands before a macro's name: for the sign itself "
                  "write the word in \"double quotes\", with \\$%s%s",
            "", "");
    }
    piece->macro = macro_find(e->source->conf, text, len);
    if (!piece->macro) {
        shown = conf_shown(text, len);
        near = macro_near(e->source->conf, text, len, false);
        return piece_wrong(
            e, e->at,
            near ? "no macro '%s' is defined before this: did you mean '%s'?"
                 : "no macro '%s' is defined before this: write %s = \"VALUE\" "
                   "above it",
            shown.text, near ? near : shown.text);
    }
    piece->text = piece->macro->value;
    piece->len = strlen(piece->macro->value);
    e->at += 1 + len + 2 * (size_t)has_brace;
    return 1;
}

/* The next piece. 1, 0: there is none, -1: reported. */
static int
piece_next(struct expansion *e, struct piece *piece)
{
    const char *text = e->word->text;
    size_t end = e->at;

    *piece = (struct piece){.text = text + e->at};
    if (e->at == e->word->len) {
        return 0;
    }
    if (text[e->at] == '$') {
        return piece_macro(e, piece);
    }
    if (text[e->at] == '\\') { /* only in strings, and never the last */
        if (!memchr("\\\"$", text[e->at + 1], 3)) {
            return piece_wrong(e, e->at,
                               "a string knows only the escapes \\\\, \\\" and "
                               "\\$%s%s",
                               "", "");
        }
        piece->text++;
        piece->len = 1;
        e->at += 2;
        return 1;
    }
    while (end < e->word->len && text[end] != '$' && text[end] != '\\') {
        end++;
    }
    piece->len = end - e->at;
    e->at = end;
    return 1;
}

/* How long the word becomes, and from which macros. -1: reported. */
static ssize_t
expansion_measure(struct conf_source *source, struct conf_word *word,
                  struct conf_where *where)
{
    struct expansion e = {.source = source, .word = word};
    struct conf *conf = source->conf;
    struct piece piece;
    size_t len = 0;
    int rc;

    while ((rc = piece_next(&e, &piece)) > 0) {
        len += piece.len;
        if (!piece.macro) {
            continue;
        }
        piece.macro->is_used = true;
        source->n_expanded += piece.len;
        where->is_mixed =
            where->is_mixed ||
            (where->macro && piece.macro != &conf->macros[where->macro - 1]);
        if (!where->macro) {
            where->macro = (uint16_t)(piece.macro - conf->macros + 1);
        }
        if (source->n_expanded > CONF_EXPANDED_MAX) {
            return piece_wrong(&e, 0,
                               "with this, macros make more than 1 MiB "
                               "of text%s%s",
                               "", "");
        }
    }
    return rc < 0 ? -1 : (ssize_t)len;
}

bool
conf_macro_expand(struct conf_source *source, struct conf_word *word)
{
    struct expansion e = {.source = source, .word = word};
    struct conf_where where = word->where;
    struct piece piece;
    size_t n = 0;
    ssize_t len;
    char *text;

    if (!memchr(word->text, '$', word->len) &&
        !memchr(word->text, '\\', word->len)) {
        return true;
    }
    len = expansion_measure(source, word, &where);
    text =
        len < 0 ? NULL : conf_memory_take(source->scratch, (size_t)len + 1, 1);
    if (!text) {
        return false;
    }
    while (piece_next(&e, &piece) > 0) {
        memcpy(text + n, piece.text, piece.len);
        n += piece.len;
    }
    word->text = text;
    word->len = n;
    word->where = where;
    return true;
}
