/* From statements to a configuration: every word judged, every reference
 * resolved, every mistake reported. Inside src/conf only. */
#pragma once

#include "conf/conf.h"
#include "conf/memory.h"
#include "conf/outside.h"
#include "conf/report.h"
#include "conf/tree.h"

#define CONF_MODULES_MAX 1000
#define CONF_TARGETS_MAX 1024

struct conf_check {
    const struct conf_outside *outside;
    struct conf_tree *tree;
    struct conf_memory *memory; /* of what the conf keeps */
    struct conf_report *report;
    struct conf *conf; /* its files and macros are set, the rest is zero */
    const struct conf_word *metrics; /* where they are served; NULL: nowhere */
};

/* Fills CHECK->conf. It is complete only if the report stayed empty and the
 * memory did not fail. */
void conf_check(struct conf_check *check);

/* The parts of it. Each goes on after a mistake, and ends early only where
 * memory is out. */
void conf_check_settings(struct conf_check *check);
void conf_check_modules(struct conf_check *check);
void conf_check_forwards(struct conf_check *check);

/* Notes in *WHERE, the place of a name, from which macro its value came. */
void conf_where_value(struct conf_where *where, const struct conf_words *words);

/* Shared by the parts. NULL: a mistake was reported, or no memory. */

/* The folder where WORD starts if it is a relative path: that of its file.
 * Never NULL; the conf's. */
char *conf_check_base(const struct conf_check *check,
                      const struct conf_word *word);
/* WORD as an absolute path. */
char *conf_check_path(struct conf_check *check, const struct conf_word *word);
/* WORD as the path of a folder that exists. */
char *conf_check_folder(struct conf_check *check, const struct conf_word *word);
/* WORD as a user that processes can be given. */
char *conf_check_user(struct conf_check *check, const struct conf_word *word);
/* WORD as a group that processes can be given. */
char *conf_check_group(struct conf_check *check, const struct conf_word *word);
/* The command in WORD, its program found and able to run: NULL-terminated. */
char **conf_check_command(struct conf_check *check,
                          const struct conf_word *word);
/* Reads WORDS, the value of OPTION, into MODULE. Mistakes are reported. */
void conf_check_option(struct conf_check *check, struct conf_module *module,
                       enum conf_option option, const struct conf_node *node);
/* The one word that the value of NAME is. */
const struct conf_word *conf_check_single(struct conf_check *check,
                                          const struct conf_word *name,
                                          const struct conf_words *words,
                                          const char *example);
/* WORD as a time within MIN and MAX (text RANGE). 0 done, -1 reported. */
int conf_check_time(struct conf_check *check, const struct conf_word *name,
                    const struct conf_word *word, uint64_t min, uint64_t max,
                    const char *range, uint64_t *p_value);

/* WORD as a size within MIN and MAX (text RANGE), and as a whole number;
 * EXAMPLE is one. As above. */
int conf_check_size(struct conf_check *check, const struct conf_word *name,
                    const struct conf_word *word, uint64_t min, uint64_t max,
                    const char *range, const char *example, uint64_t *p_value);
int conf_check_count(struct conf_check *check, const struct conf_word *name,
                     const struct conf_word *word, uint64_t min, uint64_t max,
                     const char *range, const char *example, uint64_t *p_value);

/* Makes room for what MODULE's options say, and where. false: there is no
 * memory. */
bool conf_check_module_room(struct conf_check *check,
                            struct conf_module *module);

/* Reads NODE, `set metrics`. Then, once each and only if there is
 * CHECK->metrics: adds its module, for which there is room; and gives the
 * statement that would be its forward, which points into CHECK->tree. */
void conf_check_metrics(struct conf_check *check, const struct conf_node *node,
                        const char *example);
void conf_check_metrics_module(struct conf_check *check);
struct conf_node conf_check_metrics_node(const struct conf_check *check);

/* The address of NODE (forward), with its mode; one that meets an earlier one
 * is a mistake. false: reported, or no memory; *LISTEN means nothing. */
bool conf_check_address(struct conf_check *check, struct conf_listen *listen,
                        const struct conf_node *node);
/* Index in conf.targets of what NODE (forward or map) leads to. -1 instead of
 * NULL. */
ssize_t conf_check_target(struct conf_check *check,
                          const struct conf_node *node);
/* Is WORD a method that can be mapped, or "any"? false: reported. */
bool conf_check_method(struct conf_check *check, const struct conf_word *word);
/* Can METHOD be written without quotes? */
bool conf_method_is_plain(const char *method);
/* WORD as the path of a map: decoded, without '/' at its end but "/". */
char *conf_check_route(struct conf_check *check, const struct conf_word *word);
/* Gives LISTEN its method table and its routes their masks and order; reports
 * maps that are there twice. */
void conf_check_routes(struct conf_check *check, struct conf_listen *listen);

/* Does WORD spell TEXT? */
bool conf_word_is(const struct conf_word *word, const char *text);
