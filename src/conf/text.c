/* Strict readers of what stands inside one word of the file. Each accepts one
 * spelling and says precisely what was wrong with another. */
#include "conf/text.h"

#include <string.h>

#include "base/util.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* Whole digits from TEXT + *P_AT on. false: more than 64 bits. */
static bool
digits_parse(const char *text, size_t len, size_t *p_at, uint64_t *p_value)
{
    size_t at = *p_at;

    *p_value = 0;
    for (; at < len && text[at] >= '0' && text[at] <= '9'; at++) {
        if (__builtin_mul_overflow(*p_value, 10, p_value) ||
            __builtin_add_overflow(*p_value, (uint64_t)(text[at] - '0'),
                                   p_value)) {
            return false;
        }
    }
    *p_at = at;
    return true;
}

/* The unit at TEXT + AT; its name ends at a digit or at LEN. */
static const struct unit *
unit_find(const struct unit *units, const char *text, size_t len, size_t at,
          size_t *p_end)
{
    size_t end = at;

    while (end < len && (text[end] < '0' || text[end] > '9')) {
        end++;
    }
    *p_end = end;
    for (; units->name; units++) {
        if (strlen(units->name) == end - at &&
            memcmp(units->name, text + at, end - at) == 0) {
            return units;
        }
    }
    return NULL;
}

/* Numbers with units (largest first in UNITS), one or, if IS_SUM, several that
 * become smaller. */
static enum conf_number
number_parse(const struct unit *units, const char *text, size_t len,
             bool is_sum, uint64_t *p_value)
{
    uint64_t sum = 0, value;
    size_t at = 0, end = 0;

    do {
        size_t digits = at;
        const struct unit *unit;

        if (!digits_parse(text, len, &at, &value)) {
            return CONF_NUMBER_RANGE;
        }
        if (at == digits || (at < len && text[at] == '.')) {
            return CONF_NUMBER_BAD;
        }
        if (at == len) {
            return CONF_NUMBER_NO_UNIT;
        }
        unit = unit_find(units, text, len, at, &end);
        if (!unit) {
            bool is_earlier = end < len || digits > 0;

            return is_earlier && is_sum ? CONF_NUMBER_SUM : CONF_NUMBER_UNIT;
        }
        if (__builtin_mul_overflow(value, unit->factor, &value) ||
            __builtin_add_overflow(sum, value, &sum)) {
            return CONF_NUMBER_RANGE;
        }
        at = end;
        units = unit + 1;
        if (!is_sum && at < len) {
            return CONF_NUMBER_UNIT;
        }
    } while (at < len);
    *p_value = sum;
    return CONF_NUMBER_OK;
}

const char *
conf_unit_near(const char *text, size_t len, const char *const *units)
{
    size_t at = 0;
    bool is_milli;

    while (at < len && text[at] >= '0' && text[at] <= '9') {
        at++;
    }
    is_milli = (len - at >= 2 && memcmp(text + at, "ms", 2) == 0) ||
               (len - at >= 3 && memcmp(text + at, "mil", 3) == 0);
    for (; at < len && *units; units++) {
        bool is_long = (*units)[1] != '\0'; /* "ms" */

        if (((*units)[0] | 0x20) == (text[at] | 0x20) &&
            (is_milli || !is_long)) {
            return *units;
        }
    }
    return NULL;
}

enum conf_number
conf_size_parse(const char *text, size_t len, uint64_t *p_value)
{
    static const struct unit units[] = {
        {"G", 1024ull * 1024 * 1024},
        {"M", 1024ull * 1024},
        {"K", 1024ull},
        {NULL, 0},
    };

    return number_parse(units, text, len, false, p_value);
}

enum conf_number
conf_time_parse(const char *text, size_t len, uint64_t *p_value)
{
    static const struct unit units[] = {
        {"d", 24 * 3600ull * NS_PER_SEC},
        {"h", 3600ull * NS_PER_SEC},
        {"m", 60ull * NS_PER_SEC},
        {"s", NS_PER_SEC},
        {"ms", NS_PER_MS},
        {NULL, 0},
    };

    return number_parse(units, text, len, true, p_value);
}

#define NAME_MAX_NEAR 40

/* Edits between A and B; a swap of two neighbours is one. Both at most
 * NAME_MAX_NEAR bytes. */
static size_t
edit_distance(const char *a, size_t n, const char *b, size_t m)
{
    unsigned char row[3][NAME_MAX_NEAR + 1];

    for (size_t j = 0; j <= m; j++) {
        row[0][j] = (unsigned char)j;
    }
    for (size_t i = 1; i <= n; i++) {
        unsigned char *now = row[i % 3], *last = row[(i + 2) % 3];

        now[0] = (unsigned char)i;
        for (size_t j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);

            best = MIN_OF(best, MIN_OF(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1]) {
                best = MIN_OF(best, row[(i + 1) % 3][j - 2] + 1);
            }
            now[j] = (unsigned char)best;
        }
    }
    return row[n % 3][m];
}

const char *
conf_name_near(const char *const *names, const char *text, size_t len)
{
    const char *nearest = NULL;
    size_t least = 0;

    if (len > NAME_MAX_NEAR) {
        return NULL;
    }
    for (; *names; names++) {
        size_t n = strlen(*names), edits;

        if (n > NAME_MAX_NEAR) {
            continue;
        }
        edits = edit_distance(*names, n, text, len);
        if (edits <= MAX_OF(n / 3, 1) && edits < MAX_OF(n, len) &&
            (!nearest || edits < least)) {
            nearest = *names;
            least = edits;
        }
    }
    return nearest;
}

bool
conf_comment_like(const char *text, size_t len, bool dashes)
{
    return len >= 2 &&
           (memcmp(text, "//", 2) == 0 || memcmp(text, "/*", 2) == 0 ||
            (dashes && len == 2 && memcmp(text, "--", 2) == 0));
}

const char *
conf_path_wrong(const char *text, size_t len)
{
    if (len == 0) {
        return "the path is empty";
    }
    if (text[0] == '~') {
        return "'~' is not expanded: write the whole path";
    }
    return NULL;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Copies one word from TEXT + *P_AT to OUT (NULL: measures only), counts its
 * bytes in *P_LEN. NULL or what is wrong. */
static const char *
command_word(const char *text, size_t len, size_t *p_at, char *out,
             size_t *p_len)
{
    size_t at = *p_at, n = 0;
    bool quoted = false;

    for (; at < len && (quoted || !is_blank(text[at])); at++) {
        if (text[at] == '\'') {
            quoted = !quoted;
            continue;
        }
        if (!quoted && text[at] == '"') {
            return "quote with '...' inside a command, not with \"";
        }
        if (!quoted && text[at] == '\\' && ++at == len) {
            return "a backslash at the command's end quotes nothing";
        }
        if (out) {
            out[n] = text[at];
        }
        n++;
    }
    *p_at = at;
    *p_len = n;
    return quoted ? "unterminated ' in the command" : NULL;
}

static size_t
command_skip(const char *text, size_t len, size_t at)
{
    while (at < len && is_blank(text[at])) {
        at++;
    }
    return at;
}

const char *
conf_command_split(struct conf_memory *memory, const char *text, size_t len,
                   char ***p_argv)
{
    size_t n_words = 0, size;
    const char *wrong;
    char **argv;

    for (size_t at = command_skip(text, len, 0); at < len;
         at = command_skip(text, len, at)) {
        wrong = command_word(text, len, &at, NULL, &size);
        if (wrong) {
            return wrong;
        }
        n_words++;
    }
    argv = conf_memory_take(memory, n_words + 1, sizeof(*argv));
    if (!argv) {
        return NULL;
    }
    for (size_t i = 0, at = 0; i < n_words; i++) {
        size_t start = command_skip(text, len, at);

        at = start;
        command_word(text, len, &at, NULL, &size);
        argv[i] = conf_memory_take(memory, size + 1, 1);
        if (!argv[i]) {
            return NULL;
        }
        command_word(text, len, &start, argv[i], &size);
    }
    *p_argv = argv;
    return n_words > 0 && argv[0][0] ? NULL : "the command is empty";
}

/* Appends the segments of PATH to OUT (which has room), *P_LEN bytes so far. */
static void
path_append(char *out, size_t *p_len, const char *path, size_t len)
{
    size_t n = *p_len;

    for (size_t at = 0, end; at < len; at = end + 1) {
        const char *slash = memchr(path + at, '/', len - at);
        size_t size;

        end = slash ? (size_t)(slash - path) : len;
        size = end - at;
        if (size == 0 || (size == 1 && path[at] == '.')) {
            continue;
        }
        if (size == 2 && memcmp(path + at, "..", 2) == 0) {
            while (n > 0 && out[--n] != '/') {
            }
            continue;
        }
        out[n++] = '/';
        memcpy(out + n, path + at, size);
        n += size;
    }
    *p_len = n;
}

char *
conf_path_absolute(struct conf_memory *memory, const char *folder,
                   const char *path, size_t len)
{
    size_t folder_len = strlen(folder), n = 0;
    char *out = conf_memory_take(memory, folder_len + len + 3, 1);

    if (!out) {
        return NULL;
    }
    if (len == 0 || path[0] != '/') {
        path_append(out, &n, folder, folder_len);
    }
    path_append(out, &n, path, len);
    if (n == 0) {
        out[n++] = '/';
    }
    out[n] = '\0';
    return out;
}

/* Length of the UTF-8 sequence at TEXT, or 0: it is none (overlong forms,
 * surrogates and numbers above U+10FFFF included). RFC 3629, section 4. */
static size_t
utf8_len(const unsigned char *text, size_t len)
{
    size_t n = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    unsigned char low = 0x80, high = 0xbf;

    if (text[0] < 0xc2 || text[0] > 0xf4 || len < n) {
        return 0;
    }
    switch (text[0]) {
    case 0xe0:
        low = 0xa0;
        break;
    case 0xed:
        high = 0x9f;
        break;
    case 0xf0:
        low = 0x90;
        break;
    case 0xf4:
        high = 0x8f;
        break;
    default:
        break;
    }
    if (text[1] < low || text[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

size_t
conf_bytes_check(const char *text, size_t len, const char **p_why)
{
    const unsigned char *bytes = (const unsigned char *)text;

    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        *p_why = "the file starts with a byte order mark: remove it";
        return 0;
    }
    for (size_t at = 0, size = 1; at < len; at += size) {
        size = 1;
        if (bytes[at] == '\r') {
            *p_why = "carriage return: end lines with a newline only";
            return at;
        }
        if (bytes[at] == '\0') {
            *p_why = "NUL byte: this is not a text file";
            return at;
        }
        if ((bytes[at] < ' ' && bytes[at] != '\n' && bytes[at] != '\t') ||
            bytes[at] == 0x7f ||
            (bytes[at] == 0xc2 && len - at > 1 && bytes[at + 1] >= 0x80 &&
             bytes[at + 1] < 0xa0)) {
            *p_why = "control byte: remove it";
            return at;
        }
        if (bytes[at] >= 0x80) {
            size = utf8_len(bytes + at, len - at);
            if (size == 0) {
                *p_why = "this byte is not UTF-8: save the file as UTF-8";
                return at;
            }
        }
    }
    return len;
}
