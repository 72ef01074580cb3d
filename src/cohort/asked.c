/* Bytes in, verdict out: no I/O, no memory, no clock. */
#include "cohort/asked.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"

static const struct {
    enum control_asked asked;
    const char *words;
} table[] = {
#define X(id, words, text) {ASKED_##id, words},
    CONTROL_ASKED(X)
#undef X
};

#define WORDS_MAX 64

/* Copies LINE with one blank between words. The length, or -1: a byte that
 * cannot stand in words, or too long to be any of ours. */
static int
squeeze(const char *line, size_t len, char words[WORDS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (line[i] == ' ' || line[i] == '\t') {
            continue;
        }
        if (line[i] < 0x21 || line[i] > 0x7e || n + 2 >= WORDS_MAX) {
            return -1;
        }
        if (n > 0 && (line[i - 1] == ' ' || line[i - 1] == '\t')) {
            words[n++] = ' ';
        }
        words[n++] = line[i];
    }
    words[n] = '\0';
    return (int)n;
}

enum control_asked
control_asked(const char *line, size_t len, char why[ASKED_WHY_MAX])
{
    char words[WORDS_MAX];
    int n;

    if (len > 0 && line[len - 1] == '\r') {
        len--;
    }
    n = squeeze(line, len, words);
    for (size_t i = 0; n > 0 && i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].words, words) == 0) {
            return table[i].asked;
        }
    }
    if (n < 0) {
        snprintf(why, ASKED_WHY_MAX,
                 "not a request: one line of words in ASCII; help lists them");
    } else if (n == 0) {
        snprintf(why, ASKED_WHY_MAX, "nothing asked; help lists the requests");
    } else {
        snprintf(why, ASKED_WHY_MAX, "no request '%s'; help lists them", words);
    }
    return ASKED_NOTHING;
}

const char *
control_words(enum control_asked asked)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (table[i].asked == asked) {
            return table[i].words;
        }
    }
    return "nothing";
}
