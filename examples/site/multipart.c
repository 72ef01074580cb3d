/* A part lies between two delimiters: CR LF, two hyphens and the boundary. The
 * first one may stand at the very start, without CR LF. Behind the last one
 * stand two more hyphens. */
#include "multipart.h"

#include <string.h>
#include <strings.h>

#define HEAD_MAX 8192

static const char type_name[] = "multipart/form-data";

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && is_blank(*at)) {
        at++;
    }
    return at;
}

/* One parameter, `; NAME=VALUE` or `; NAME="VALUE"`, at *P_AT. 1 and both
 * found; 0: nothing is left; -1: something else stands there. A backslash
 * protects a quote and nothing else: browsers send file names with single
 * ones. */
static int next_param(const char **p_at, const char *end, const char **p_name,
                      size_t *p_name_len, const char **p_value,
                      size_t *p_value_len)
{
    const char *at = skip_blanks(*p_at, end);
    const char *start;

    if (at == end) {
        return 0;
    }
    if (*at++ != ';') {
        return -1;
    }
    start = at = skip_blanks(at, end);
    while (at < end && *at != '=' && *at != ';' && *at != '"') {
        at++;
    }
    if (at == end || *at != '=' || at == start) {
        return -1;
    }
    *p_name = start;
    *p_name_len = (size_t)(at - start);
    at++;
    if (at < end && *at == '"') {
        start = ++at;
        while (at < end && *at != '"') {
            at += *at == '\\' && at + 1 < end && at[1] == '"' ? 2 : 1;
        }
        if (at == end) {
            return -1;
        }
        *p_value_len = (size_t)(at++ - start);
    } else {
        start = at;
        while (at < end && *at != ';' && !is_blank(*at)) {
            at++;
        }
        *p_value_len = (size_t)(at - start);
    }
    *p_value = start;
    *p_at = at;
    return 1;
}

static int is_word(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(text, word, len) == 0;
}

int multipart_is(const char *type)
{
    size_t n = sizeof(type_name) - 1;

    return type != NULL && strncasecmp(type, type_name, n) == 0 &&
           (type[n] == '\0' || type[n] == ';' || is_blank(type[n]));
}

static int find_boundary(const char *type, const char **p_text, size_t *p_len)
{
    const char *at = type + sizeof(type_name) - 1;
    const char *end = type + strlen(type);
    const char *name;
    size_t n;

    while (next_param(&at, end, &name, &n, p_text, p_len) == 1) {
        if (is_word(name, n, "boundary")) {
            return *p_len > 0 && *p_len <= MULTIPART_BOUNDARY_MAX ? 0 : -1;
        }
    }
    return -1;
}

/* Behind a delimiter: moves to the part's first byte, or to the end. 0 or -1.
 */
static int pass_delimiter(struct multipart *m)
{
    if (m->end - m->at >= 2 && memcmp(m->at, "--", 2) == 0) {
        m->at = m->end; /* what follows is of no meaning */
        return 0;
    }
    m->at = skip_blanks(m->at, m->end);
    if (m->end - m->at < 2 || memcmp(m->at, "\r\n", 2) != 0) {
        return -1;
    }
    m->at += 2;
    return m->at < m->end ? 0 : -1;
}

int multipart_begin(struct multipart *m, const char *type, const char *body,
                    size_t len)
{
    const char *text;
    const char *found;
    size_t n;

    if (!multipart_is(type) || find_boundary(type, &text, &n) < 0) {
        return -1;
    }
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, text, n);
    m->delimiter_len = n + 4;
    m->end = body + len;
    if (len >= n + 2 && memcmp(body, m->delimiter + 2, n + 2) == 0) {
        m->at = body + n + 2;
    } else {
        found = memmem(body, len, m->delimiter, m->delimiter_len);
        if (found == NULL) {
            return -1;
        }
        m->at = found + m->delimiter_len;
    }
    return pass_delimiter(m);
}

/* `form-data; name="x"; filename="y"`. */
static int read_disposition(const char *at, const char *end,
                            struct multipart_part *part)
{
    static const char kind[] = "form-data";
    const char *name;
    const char *value;
    size_t n;
    size_t len;
    int rc;

    if (end - at < (long)strlen(kind) ||
        strncasecmp(at, kind, strlen(kind)) != 0) {
        return -1;
    }
    at += strlen(kind);
    while ((rc = next_param(&at, end, &name, &n, &value, &len)) == 1) {
        if (is_word(name, n, "name")) {
            part->name = value;
            part->name_len = len;
        } else if (is_word(name, n, "filename")) {
            part->file = value;
            part->file_len = len;
        }
    }
    return rc;
}

/* One line of a part's head, without its end. 0 or -1. */
static int read_field(const char *at, const char *end,
                      struct multipart_part *part)
{
    const char *colon = memchr(at, ':', (size_t)(end - at));

    if (colon == NULL) {
        return -1;
    }
    if (is_word(at, (size_t)(colon - at), "Content-Disposition")) {
        if (part->name != NULL) {
            return -1; /* two of them: which one is meant? */
        }
        return read_disposition(skip_blanks(colon + 1, end), end, part);
    }
    return 0;
}

/* The head, up to its empty line. 0 or -1. */
static int read_head(struct multipart *m, struct multipart_part *part)
{
    const char *start = m->at;

    for (;;) {
        const char *end = memmem(m->at, (size_t)(m->end - m->at), "\r\n", 2);

        if (end == NULL || end - start > HEAD_MAX) {
            return -1;
        }
        if (end == m->at) {
            m->at = end + 2;
            return part->name != NULL ? 0 : -1;
        }
        if (read_field(m->at, end, part) < 0) {
            return -1;
        }
        m->at = end + 2;
    }
}

int multipart_next(struct multipart *m, struct multipart_part *part)
{
    const char *end;

    memset(part, 0, sizeof(*part));
    if (m->at == m->end) {
        return 0;
    }
    if (read_head(m, part) < 0) {
        return -1;
    }
    /* An empty part's delimiter begins with the head's last CR LF. */
    part->body = m->at;
    end = memmem(m->at - 2, (size_t)(m->end - m->at) + 2, m->delimiter,
                 m->delimiter_len);
    if (end == NULL) {
        return -1;
    }
    part->len = end < m->at ? 0 : (size_t)(end - m->at);
    m->at = end + m->delimiter_len;
    return pass_delimiter(m) < 0 ? -1 : 1;
}
