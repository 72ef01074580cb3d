/* The causes of causes.def, by number (enum reply_cause). */
#pragma once

#include <stdbool.h>

#include "front/worker.h"

/* The word for CAUSE; that of CAUSE_NONE for a number that is none. */
static inline const char *
cause_word(unsigned cause)
{
    static const char *const words[CAUSE_N] = {
#define CAUSE(id, word, whose) [CAUSE_##id] = word,
#include "front/causes.def"
#undef CAUSE
    };

    return words[cause < CAUSE_N ? cause : CAUSE_NONE];
}

/* Does an end for CAUSE tell of the server, a program or a folder, and not of
 * the client? */
static inline bool
cause_is_ours(unsigned cause)
{
    enum whose { CLIENT, OURS };
    static const unsigned char whose[CAUSE_N] = {
#define CAUSE(id, word, whose) [CAUSE_##id] = whose,
#include "front/causes.def"
#undef CAUSE
    };

    return cause < CAUSE_N && whose[cause] == OURS;
}
