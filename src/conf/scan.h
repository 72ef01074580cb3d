/* Between the scanner and the grammar. Inside the parser only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "conf/source.h"

/* A token that was reported already: the grammar only recovers. */
#define CONF_T_LOST CONF_T_CONF_GRAM_error

#define CONF_DEPTH_MAX   8
#define CONF_SCRATCH_MAX 1024

/* Where in a statement a token stands: its first token's kind, how many are
 * before it, and what kind of block it is in (a statement's first token; 0 at
 * the top). This, not the parser's state, says what was expected. */
struct conf_place {
    int first;
    struct conf_word word; /* the statement's first */
    int at;
    bool is_mode; /* `mode` was given: its value, which does not count, follows
                   */
    int target;   /* token 4 of forward and map */
    struct conf_word second, goal; /* words 1 and 4 */
    int block;
};

struct conf_open {
    struct conf_where where;
    int block;
};

struct conf_scan {
    struct conf_source *source;
    struct conf_memory *memory; /* the source's scratch memory */
    struct conf_report *report; /* the source's as well */
    uint16_t file;
    void *flex;
    int line, column;         /* of the next byte */
    struct conf_place place;  /* of the next token */
    struct conf_place before; /* of the token given last */
    int given;                /* that token, and its text */
    struct conf_word given_word;
    struct conf_open opens[CONF_DEPTH_MAX];
    int depth;
    bool is_torn;   /* a string without end may have held braces */
    int empty_line; /* of a ';' that ended nothing: a comment, probably */
    bool closed;    /* a '}' was given: a separator must follow */
    bool is_held;   /* a token is to be given next: */
    int held;
    struct conf_word word; /* of the held token */
    struct conf_nodes_list *statements;
    size_t scratch_used;
    _Alignas(max_align_t) char scratch[CONF_SCRATCH_MAX]; /* flex's memory */
};

/* A token for the grammar: the scanner's, with a separator before each '}' and
 * after it, and before the end of the file, and with braces that pair. */
int conf_scan_next(struct conf_scan *scan, struct conf_word *word,
                   struct conf_where *where);

/* `include WORDS` (NAME is the first word): adds to LIST what stands there. */
void conf_scan_include(struct conf_scan *scan, const struct conf_word *name,
                       const struct conf_words *words,
                       struct conf_nodes_list *list);

/* Reports that the grammar did not expect the token given last. */
void conf_scan_unexpected(struct conf_scan *scan);

/* The token of a bare word: a keyword's, or CONF_T_WORD. */
int conf_scan_word(const char *text, size_t len);

/* Makers for the grammar's actions; NULL or false: no memory. */
struct conf_node *conf_node_make(struct conf_scan *scan,
                                 enum conf_node_kind kind,
                                 const struct conf_word *name,
                                 const struct conf_word *value);
bool conf_words_add(struct conf_scan *scan, struct conf_words_list *list,
                    const struct conf_word *word);
void conf_nodes_add(struct conf_nodes_list *list, struct conf_node *node);

/* The scanner proper (flex). conf_flex_next gives 0 at the end of the text, and
 * CONF_T_LOST for what it has reported itself. */
int conf_flex_start(struct conf_scan *scan, char *text, size_t len);
void conf_flex_stop(struct conf_scan *scan);
int conf_flex_next(struct conf_word *word, struct conf_where *where,
                   void *flex);
