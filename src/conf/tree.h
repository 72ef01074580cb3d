/* What the grammar makes of a file, before anything is judged: statements with
 * their words and places. Words point into the scanned text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"
#include "conf/memory.h"
#include "conf/report.h"

struct conf_source;

struct conf_word {
    const char *text; /* not terminated */
    size_t len;
    struct conf_where where;
    bool is_string; /* was written in "double quotes" */
};

struct conf_words {
    struct conf_word word;
    struct conf_words *next;
};

enum conf_node_kind {
    CONF_NODE_NONE, /* a statement that was carried out: `include`, a macro */
    CONF_NODE_SET,  /* NAME: the setting; WORDS: its value */
    CONF_NODE_FORWARD, /* NAME: protocol; VALUE: address; MODE */
    CONF_NODE_MAP,     /* NAME: method; VALUE: path */
    CONF_NODE_MODULE,  /* NAME; CHILDREN are options */
    CONF_NODE_OPTION,  /* NAME: the option; WORDS: its value */
};

enum conf_aim {
    CONF_AIM_BLOCK,
    CONF_AIM_PATH,
    CONF_AIM_MODULE,
    CONF_AIM_FILES
};

struct conf_node {
    enum conf_node_kind kind;
    struct conf_word name, value;
    struct conf_word mode;   /* FORWARD: its text is NULL if none is written */
    enum conf_aim aim;       /* FORWARD and MAP: what kind of target */
    bool is_pass;            /* FORWARD: the descriptor itself goes there */
    struct conf_word target; /* of all kinds but BLOCK */
    struct conf_words *words;
    struct conf_node *children; /* of a block */
    struct conf_node *next;
};

/* Lists grow at their end. */
struct conf_words_list {
    struct conf_words *first, *last;
};

struct conf_nodes_list {
    struct conf_node *first, *last;
};

struct conf_target_tree {
    enum conf_aim aim;
    struct conf_word word;
    struct conf_node *children;
};

struct conf_tree {
    struct conf_node *statements;
    bool is_whole; /* no statement was lost to a mistake */
};

/* Scans and parses TEXT of file FILE: LEN bytes that may be written to, with
 * two NULs behind them. Macros are defined and replaced, and what is included
 * is parsed, on the way. The statements, which are added to LIST, belong to the
 * scratch memory of SOURCE and point into TEXT. Mistakes are reported. Either
 * memory may be found failed: then LIST means nothing. */
void conf_tree_parse(struct conf_source *source, size_t file, char *text,
                     size_t len, struct conf_nodes_list *list);
