/* The grammar of cardea.conf. It knows how statements are built, not which
 * settings or protocols there are: check.c judges those, and says more about
 * them than a grammar can. Macros and includes are carried out as soon as their
 * statement ends, before what follows it is read. Every statement ends with SEP: the scanner's side
 * (scan.c) puts one before and after each '}'. A statement with a mistake is
 * skipped up to its SEP, together with its block. */
%code requires {
#include "conf/scan.h"
}

%code {
#include "conf/gram.h"
#include "conf/macro.h"

#define YYLLOC_DEFAULT(here, parts, n) \
    ((here) = YYRHSLOC(parts, (n) ? 1 : 0))

static int conf_gram_lex(CONF_GRAM_STYPE *value, struct conf_where *where,
                         struct conf_scan *scan);
static void conf_gram_error(struct conf_where *where, struct conf_scan *scan,
                            const char *message);
}

%define api.pure full
%define api.prefix {conf_gram_}
%define api.token.prefix {CONF_T_}
%define api.location.type {struct conf_where}
%define parse.error custom
%locations
%param {struct conf_scan *scan}
%expect 0

%union {
    struct conf_word word;
    struct conf_words_list words;
    struct conf_node *node;
    struct conf_nodes_list nodes;
    struct conf_target_tree target;
}

%token <word> WORD STRING FORWARD SET MODULE MAP TO FILES PASS INCLUDE MODE
%token <word> DEFINE
%token <word> SEP OPEN CLOSE
%type <word> value any mode
%type <words> words
%type <node> statement map option
%type <nodes> statements maps options
%type <target> target goal

%initial-action { @$ = (struct conf_where){1, 1}; }

%%

file:
    statements                      { *scan->statements = $1; }
    ;

statements:
    %empty                          { $$ = *scan->statements; }
    | statements SEP                { $$ = $1; }
    | statements statement SEP      { $$ = $1; conf_nodes_add(&$$, $2); }
    | statements define SEP         { $$ = $1; }
    | statements INCLUDE words SEP  {
        $$ = $1;
        conf_scan_include(scan, &$2, $3.first, &$$);
    }
    | statements lost               { $$ = $1; yyerrok; }
    ;

statement:
    SET any words {
        $$ = conf_node_make(scan, CONF_NODE_SET, &$2, NULL);
        if (!$$) {
            YYNOMEM;
        }
        $$->words = $3.first;
    }
    | FORWARD WORD value mode TO goal {
        $$ = conf_node_make(scan, CONF_NODE_FORWARD, &$2, &$3);
        if (!$$) {
            YYNOMEM;
        }
        $$->mode = $4;
        $$->aim = $6.aim;
        $$->target = $6.word;
        $$->children = $6.children;
    }
    | FORWARD WORD value mode PASS target {
        $$ = conf_node_make(scan, CONF_NODE_FORWARD, &$2, &$3);
        if (!$$) {
            YYNOMEM;
        }
        $$->mode = $4;
        $$->aim = $6.aim;
        $$->target = $6.word;
        $$->is_pass = true;
    }
    | MODULE any OPEN options CLOSE {
        $$ = conf_node_make(scan, CONF_NODE_MODULE, &$2, NULL);
        if (!$$) {
            YYNOMEM;
        }
        $$->children = $4.first;
    }
    ;

define:
    DEFINE words                    {
        conf_macro_define(scan->source, &$1, $2.first);
    }
    ;

mode:
    %empty                          { $$ = (struct conf_word){0}; }
    | MODE value                    { $$ = $2; }
    ;

goal:
    target
    | OPEN maps CLOSE {
        $$ = (struct conf_target_tree){CONF_AIM_BLOCK, $1, $2.first};
    }
    ;

target:
    value        { $$ = (struct conf_target_tree){CONF_AIM_PATH, $1, NULL}; }
    | MODE       { $$ = (struct conf_target_tree){CONF_AIM_PATH, $1, NULL}; }
    | INCLUDE    { $$ = (struct conf_target_tree){CONF_AIM_PATH, $1, NULL}; }
    | MODULE any { $$ = (struct conf_target_tree){CONF_AIM_MODULE, $2, NULL}; }
    | FILES any  { $$ = (struct conf_target_tree){CONF_AIM_FILES, $2, NULL}; }
    ;

maps:
    %empty                          { $$ = (struct conf_nodes_list){0}; }
    | maps SEP                      { $$ = $1; }
    | maps map SEP                  { $$ = $1; conf_nodes_add(&$$, $2); }
    | maps lost                     { $$ = $1; yyerrok; }
    ;

map:
    MAP value value TO target {
        $$ = conf_node_make(scan, CONF_NODE_MAP, &$2, &$3);
        if (!$$) {
            YYNOMEM;
        }
        $$->aim = $5.aim;
        $$->target = $5.word;
    }
    ;

options:
    %empty                          { $$ = (struct conf_nodes_list){0}; }
    | options SEP                   { $$ = $1; }
    | options option SEP            { $$ = $1; conf_nodes_add(&$$, $2); }
    | options lost                  { $$ = $1; yyerrok; }
    ;

option:
    any words {
        $$ = conf_node_make(scan, CONF_NODE_OPTION, &$1, NULL);
        if (!$$) {
            YYNOMEM;
        }
        $$->words = $2.first;
    }
    ;

words:
    %empty                          { $$ = (struct conf_words_list){0}; }
    | words any {
        $$ = $1;
        if (!conf_words_add(scan, &$$, &$2)) {
            YYNOMEM;
        }
    }
    ;

value: WORD | STRING ;

any:
    WORD | STRING | FORWARD | SET | MODULE | MAP | TO | FILES | PASS | INCLUDE
    | MODE
    ;

lost:
    error SEP                       { scan->source->is_whole = false; }
    | error OPEN junk CLOSE SEP     { scan->source->is_whole = false; }
    ;

junk: %empty | junk any | junk DEFINE | junk SEP | junk OPEN junk CLOSE | junk error ;

%%

static int
conf_gram_lex(CONF_GRAM_STYPE *value, struct conf_where *where,
              struct conf_scan *scan)
{
    return conf_scan_next(scan, &value->word, where);
}

static int
yyreport_syntax_error(const yypcontext_t *context, struct conf_scan *scan)
{
    (void)context; /* the last token read is the one refused */
    conf_scan_unexpected(scan);
    return 0;
}

/* Only "memory exhausted" comes here: by the allocator or by the parser's own
 * stack. */
static void
conf_gram_error(struct conf_where *where, struct conf_scan *scan,
                const char *message)
{
    (void)where;
    (void)message;
    scan->memory->failed = true;
}
