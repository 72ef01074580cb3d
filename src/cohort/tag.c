/* A pipe does not tell who wrote, nor for which request; so a line may begin
 * with it. A program can only lie about itself: module and stream are what the
 * keeper knows, also the pid where a copy has pipes of its own (writers.c), and
 * what is read here is digits, or of the few bytes that ids have. */
#include "cohort/tag.h"

#include <string.h>

#define ID_MAX  64
#define PID_MAX 10

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
is_small(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool
is_of_id(char c)
{
    return is_digit(c) || is_small(c) || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
}

/* Moves *P_AT behind WORD if that stands there. */
static bool
pass(const char *line, size_t len, size_t *p_at, const char *word)
{
    size_t n = strlen(word);

    if (len - *p_at < n || memcmp(line + *p_at, word, n) != 0) {
        return false;
    }
    *p_at += n;
    return true;
}

/* Moves *P_AT behind as many bytes as IS takes, up to MOST; how many. */
static size_t
pass_all(const char *line, size_t len, size_t *p_at, bool (*is)(char c),
         size_t most)
{
    size_t from = *p_at;

    while (*p_at < len && *p_at - from < most && is(line[*p_at])) {
        (*p_at)++;
    }
    return *p_at - from;
}

bool
tag_parse(const char *line, size_t len, struct tag *tag)
{
    struct tag got = {0};
    size_t at = 0;
    bool has_name = pass(line, len, &at, "cardea-");

    *tag = got;
    if (has_name && (pass_all(line, len, &at, is_small, 32) == 0 ||
                     !pass(line, len, &at, ": "))) {
        return false;
    }
    if (!pass(line, len, &at, "request ")) {
        return false;
    }
    got.request = line + at;
    got.request_len = pass_all(line, len, &at, is_of_id, ID_MAX);
    if (pass(line, len, &at, " [")) {
        got.pid = line + at;
        got.pid_len = pass_all(line, len, &at, is_digit, PID_MAX);
        if (got.pid_len == 0 || !pass(line, len, &at, "]")) {
            return false;
        }
    }
    if (got.request_len == 0 || !pass(line, len, &at, ": ")) {
        return false;
    }
    if (got.request_len == 1 && got.request[0] == '-') {
        got.request = NULL;
        got.request_len = 0;
    }
    got.len = has_name ? 0 : at;
    *tag = got;
    return true;
}
