/* What reading one configuration shares between its files, and how one file
 * comes to include another. Inside src/conf only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"
#include "conf/memory.h"
#include "conf/outside.h"
#include "conf/report.h"
#include "conf/tree.h"

#define CONF_FILE_MAX      ((size_t)1024 * 1024) /* bytes of one file */
#define CONF_TEXT_MAX      (16 * CONF_FILE_MAX)  /* and of all together */
#define CONF_FILES_MAX     1024
#define CONF_INCLUDE_DEPTH 8 /* files that include one another */
#define CONF_LEFT_OUT_MAX  100

struct conf_source {
    const struct conf_outside *outside;
    struct conf_memory *scratch; /* texts and trees: until all is checked */
    struct conf_memory *memory;  /* of what the conf keeps */
    struct conf_report *report;
    struct conf *conf;
    char *buffer;      /* of SCRATCH: CONF_FILE_MAX + 1 bytes; NULL: not yet */
    size_t n_read;     /* bytes of all files so far */
    size_t n_expanded; /* bytes that macros made so far */
    bool is_whole;     /* nothing was lost to a mistake */
};

/* Adds a file to the conf's table: NAME for messages (kept by the caller),
 * PATH absolute, included at FROM (line 0: the first). Its index, or -1: no
 * memory. */
int conf_source_add(struct conf_source *source, const char *name,
                    const char *path, struct conf_where from);

/* Are these LEN bytes, read from file FILE, a text of bearable size? false: the
 * mistake was reported. */
bool conf_source_judge(struct conf_source *source, size_t file,
                       const char *text, size_t len);

/* Parses the text of file FILE; its statements are added to LIST. */
void conf_source_parse(struct conf_source *source, size_t file,
                       const char *text, size_t len,
                       struct conf_nodes_list *list);

/* Does what `include WORD` says: the statements of the file, or of all *.conf
 * in the folder by order of their names, are added to LIST. */
void conf_source_include(struct conf_source *source,
                         const struct conf_word *word,
                         struct conf_nodes_list *list);
