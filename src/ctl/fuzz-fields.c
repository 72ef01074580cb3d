/* A line of the log: what is taken apart lies within the copy, and is text. */
#include "base/fuzz.h"
#include "ctl/fields.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fields f;
    char *line = copy_exact(data, size);
    char *text = malloc(size + 1);

    MUST(text != NULL);
    memcpy(text, line, size);
    text[size] = '\0';
    if (fields_parse(&f, text)) {
        MUST(f.n >= 1 && f.n <= FIELDS_MAX);
        for (size_t i = 1; i < f.n; i++) {
            MUST(f.list[i].key > f.text);
            MUST(f.list[i].value > f.list[i].key);
            MUST(f.list[i].value + strlen(f.list[i].value) <=
                 f.text + FIELDS_LINE_MAX);
            MUST(f.list[i].key[0] != '\0');
        }
    }
    free(text);
    free(line);
    return 0;
}
