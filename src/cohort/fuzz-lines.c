/* What a module prints, cut into lines: whatever pieces it comes in, the lines
 * are the same, none is too long for the log, and no byte is lost. A tag lies
 * within its line, and has no byte that the log would quote. */
#include "base/fuzz.h"
#include "cohort/ended.h"
#include "cohort/lines.h"
#include "cohort/tag.h"

struct heard {
    char *text; /* the lines, each with a newline unless it goes on */
    size_t len, room;
};

static void
must_be_word(const char *line, size_t len, const char *word, size_t word_len)
{
    if (word == NULL) {
        MUST(word_len == 0);
        return;
    }
    MUST(word_len > 0 && word_len <= 64);
    MUST(word >= line && word + word_len <= line + len);
    for (size_t i = 0; i < word_len; i++) {
        MUST(word[i] > ' ' && word[i] != '"' && word[i] != '=' &&
             (unsigned char)word[i] < 0x7f);
    }
}

static void
tag(const char *text, size_t len)
{
    char *line = copy_exact(text, len);
    struct tag got;
    bool is = tag_parse(line, len, &got);

    MUST(got.len <= len);
    MUST(is || (got.len == 0 && got.request == NULL && got.pid == NULL));
    must_be_word(line, len, got.request, got.request_len);
    must_be_word(line, len, got.pid, got.pid_len);

    struct ended end;
    is = ended_parse(line, len, &end);
    MUST(is == (end.why != ENDED_N) && is == (end.pid != NULL));
    must_be_word(line, len, end.pid, end.pid_len);
    must_be_word(line, len, end.request, end.request_len);
    free(line);
}

static void
take(void *arg, const char *text, size_t len, bool more)
{
    struct heard *h = arg;
    size_t cost = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        MUST(c != '\n');
        cost += c == '"' || c == '\\' ? 2 : c >= 0x20 && c <= 0x7e ? 1 : 4;
    }
    tag(text, len);
    MUST(len <= LINES_MAX && cost <= LINES_COST);
    MUST(!more || cost > LINES_COST - 4);
    MUST(h->len + len + 1 <= h->room);
    memcpy(h->text + h->len, text, len);
    h->len += len;
    if (!more) {
        h->text[h->len++] = '\n';
    }
}

/* Feeds FIRST bytes, then STEP at a time. */
static struct heard
feed(const uint8_t *data, size_t size, size_t first, size_t step)
{
    struct lines *lines = calloc(1, sizeof *lines);
    struct heard h = {.text = malloc(size + 1), .room = size + 1};

    MUST(lines != NULL && h.text != NULL);
    for (size_t at = 0, n = first; at < size; at += n, n = step) {
        n = n < size - at ? n : size - at;
        char *piece = copy_exact(data + at, n);
        lines_add(lines, piece, n, take, &h);
        free(piece);
    }
    lines_end(lines, take, &h);
    MUST(lines->len == 0);
    free(lines);
    return h;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole = feed(data, size, size, 1);
    struct heard parts = feed(data, size, cut_of(data, size), 7);
    bool open_end = size > 0 && data[size - 1] != '\n';

    MUST(whole.len == size + open_end);
    MUST(size == 0 || memcmp(whole.text, data, size) == 0);
    MUST(parts.len == whole.len);
    MUST(memcmp(parts.text, whole.text, whole.len) == 0);
    free(whole.text);
    free(parts.text);
    return 0;
}
