/* A line on the control socket: what is accepted is one of our requests, blanks
 * change nothing, and the sentence of a refusal can be shown. */
#include "base/fuzz.h"
#include "cohort/asked.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[ASKED_WHY_MAX] = "", again[ASKED_WHY_MAX] = "";
    char *line = copy_exact(data, size);
    char *wide = malloc(2 * size + 2);
    enum control_asked asked = control_asked(line, size, why);
    size_t n = 0;

    MUST(wide != NULL);
    if (asked == ASKED_NOTHING) {
        size_t len = strnlen(why, sizeof why);
        MUST(len > 0 && len < sizeof why);
        MUST(strcmp(control_words(asked), "nothing") == 0);
        for (size_t i = 0; i < len; i++) {
            MUST(why[i] >= 0x20 && why[i] < 0x7f);
        }
    } else {
        const char *words = control_words(asked);
        MUST(control_asked(words, strlen(words), again) == asked);
        MUST(why[0] == '\0');
    }
    wide[n++] = '\t';
    for (size_t i = 0; i < size; i++) {
        wide[n++] = line[i];
        if (line[i] == ' ' || line[i] == '\t') {
            wide[n++] = ' ';
        }
    }
    MUST(control_asked(wide, n, again) == asked);
    free(wide);
    free(line);
    return 0;
}
