/* Macros: defined in order, replaced inside single words. Inside src/conf
 * only. */
#pragma once

#include "conf/source.h"

#define CONF_MACROS_MAX      256
#define CONF_MACRO_NAME_MAX  64
#define CONF_MACRO_VALUE_MAX 4096
#define CONF_EXPANDED_MAX    ((size_t)1024 * 1024) /* all that macros make */

/* Defines what -D gives (OPTIONS may be NULL), before any file is read. */
void conf_macros_give(struct conf_source *source,
                      const struct conf_options *options);

/* Reports what was given and is of no use: no file knows the name. */
void conf_macros_unused(struct conf_source *source);

/* NAME = VALUES in a file. */
void conf_macro_define(struct conf_source *source, const struct conf_word *name,
                       const struct conf_words *values);

/* WORD->text is as written, without the quotes if WORD->is_string: $name and
 * ${name} are replaced, in a string escapes as well; WORD->where then says from
 * which macro. The new text is the scratch memory's, or the old one. false: a
 * mistake was reported, or no memory. */
bool conf_macro_expand(struct conf_source *source, struct conf_word *word);
