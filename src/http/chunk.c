/* Chunked transfer coding (RFC 9112 section 7.1), byte by byte but for data.
 *
 * The decoder is a machine over bytes, so a cut between any two bytes changes
 * nothing. Extensions and trailers are read by their full grammar and dropped:
 * skipping them unread is where decoders come to disagree. A verdict of 400 is
 * final. Output never overtakes input, hence decoding in place. */
#include "http/chunk.h"
#include "http/http_priv.h"

#include <assert.h>
#include <string.h>

#define MAX_DIGITS   15
#define MAX_EXT      1024 /* bytes between a size and its CRLF */
#define MAX_TRAILERS 8192 /* bytes of trailer lines, with their CRLFs */

/* Order matters: EXT_FIRST to EXT_LAST are what MAX_EXT counts. */
enum state {
    START = 0,      /* also "no way" in the table: nothing leads back here */
    SIZE_FIRST,     /* like START, for the chunks that follow */
    SIZE,           /* one digit at least was seen */
    EXT_BWS,        /* white space, ';' must come */
    EXT_NAME_BWS,   /* behind ';' */
    EXT_NAME,       /* within a name */
    EXT_NAME_AFTER, /* white space behind a name */
    EXT_VALUE_BWS,  /* behind '=' */
    EXT_TOKEN,      /* within a value */
    EXT_QUOTED,     /* within a quoted value */
    EXT_ESCAPED,    /* behind a backslash there */
    EXT_VALUE_END,  /* behind the closing quote */
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER, /* start of a trailer line, or of the empty one */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    LAST_LF,
    DONE,
    BAD,
    N_STATES,
};

#define EXT_FIRST EXT_BWS
#define EXT_LAST  EXT_VALUE_END

enum kind {
    C_NONE, /* control bytes, and what no grammar here has */
    C_CR,
    C_LF,
    C_WS,
    C_HEX,   /* a token byte, too */
    C_TOKEN, /* other token bytes */
    C_SEMICOLON,
    C_EQUALS,
    C_QUOTE,
    C_BACKSLASH,
    C_COLON,
    C_OTHER, /* other bytes that a value may hold */
    N_KINDS,
};

#define TOKEN_TO(x) [C_HEX] = (x), [C_TOKEN] = (x)
#define VALUE_TO(x)                                                            \
    TOKEN_TO(x), [C_WS] = (x), [C_SEMICOLON] = (x), [C_EQUALS] = (x),          \
                 [C_COLON] = (x), [C_OTHER] = (x)

static const uint8_t table[N_STATES][N_KINDS] = {
    [START] = {[C_HEX] = SIZE},
    [SIZE_FIRST] = {[C_HEX] = SIZE},
    [SIZE] = {[C_HEX] = SIZE,
              [C_CR] = SIZE_LF,
              [C_SEMICOLON] = EXT_NAME_BWS,
              [C_WS] = EXT_BWS},
    [EXT_BWS] = {[C_WS] = EXT_BWS, [C_SEMICOLON] = EXT_NAME_BWS},
    [EXT_NAME_BWS] = {[C_WS] = EXT_NAME_BWS, TOKEN_TO(EXT_NAME)},
    [EXT_NAME] = {TOKEN_TO(EXT_NAME), [C_EQUALS] = EXT_VALUE_BWS,
                  [C_SEMICOLON] = EXT_NAME_BWS, [C_WS] = EXT_NAME_AFTER,
                  [C_CR] = SIZE_LF},
    [EXT_NAME_AFTER] = {[C_WS] = EXT_NAME_AFTER,
                        [C_EQUALS] = EXT_VALUE_BWS,
                        [C_SEMICOLON] = EXT_NAME_BWS},
    [EXT_VALUE_BWS] =
        {[C_WS] = EXT_VALUE_BWS, [C_QUOTE] = EXT_QUOTED, TOKEN_TO(EXT_TOKEN)},
    [EXT_TOKEN] = {TOKEN_TO(EXT_TOKEN), [C_SEMICOLON] = EXT_NAME_BWS,
                   [C_WS] = EXT_BWS, [C_CR] = SIZE_LF},
    [EXT_QUOTED] = {VALUE_TO(EXT_QUOTED), [C_QUOTE] = EXT_VALUE_END,
                    [C_BACKSLASH] = EXT_ESCAPED},
    [EXT_ESCAPED] = {VALUE_TO(EXT_QUOTED), [C_QUOTE] = EXT_QUOTED,
                     [C_BACKSLASH] = EXT_QUOTED},
    [EXT_VALUE_END] =
        {[C_SEMICOLON] = EXT_NAME_BWS, [C_WS] = EXT_BWS, [C_CR] = SIZE_LF},
    [SIZE_LF] = {[C_LF] = DATA}, /* or TRAILER, if the size is 0 */
    [DATA_CR] = {[C_CR] = DATA_LF},
    [DATA_LF] = {[C_LF] = SIZE_FIRST},
    [TRAILER] = {TOKEN_TO(TRAILER_NAME), [C_CR] = LAST_LF},
    [TRAILER_NAME] = {TOKEN_TO(TRAILER_NAME), [C_COLON] = TRAILER_VALUE},
    [TRAILER_VALUE] = {VALUE_TO(TRAILER_VALUE), [C_QUOTE] = TRAILER_VALUE,
                       [C_BACKSLASH] = TRAILER_VALUE, [C_CR] = TRAILER_LF},
    [TRAILER_LF] = {[C_LF] = TRAILER},
    [LAST_LF] = {[C_LF] = DONE},
};

static enum kind
kind_of(char b)
{
    switch (b) {
    case '\r':
        return C_CR;
    case '\n':
        return C_LF;
    case ' ':
    case '\t':
        return C_WS;
    case ';':
        return C_SEMICOLON;
    case '=':
        return C_EQUALS;
    case '"':
        return C_QUOTE;
    case '\\':
        return C_BACKSLASH;
    case ':':
        return C_COLON;
    default:
        break;
    }
    if (http_is(b, HTTP_C_HEX)) {
        return C_HEX;
    }
    if (http_is(b, HTTP_C_TOKEN)) {
        return C_TOKEN;
    }
    return http_is(b, HTTP_C_VALUE) ? C_OTHER : C_NONE;
}

/* One byte of all that is not data: the table's step, and the counts. */
static void
step(struct http_chunk *c, char b)
{
    uint8_t from = c->state, to = table[from][kind_of(b)];

    if (to == START) {
        to = BAD;
    } else if (to == SIZE) {
        c->digits = from == SIZE ? c->digits + 1 : 1;
        c->line = 0;
        c->left = (from == SIZE ? c->left << 4 : 0) | (uint64_t)http_hex(b);
        to = c->digits > MAX_DIGITS ? BAD : SIZE;
    } else if (to >= EXT_FIRST && to <= EXT_LAST) {
        to = ++c->line > MAX_EXT ? BAD : to;
    } else if (to == DATA) {
        c->line = 0;
        to = c->left > 0 ? DATA : TRAILER;
    } else if (to >= TRAILER && to <= TRAILER_LF) {
        to = ++c->line > MAX_TRAILERS ? BAD : to;
    }
    c->state = to;
}

int
http_chunk_copy(struct http_chunk *c, char *to, const char *from, size_t len,
                size_t *p_out, size_t *p_used)
{
    size_t in = 0, out = 0;

    assert(c->state < N_STATES);
    while (in < len && c->state != DONE && c->state != BAD) {
        if (c->state == DATA) {
            size_t n = len - in < c->left ? len - in : (size_t)c->left;

            if (from + in != to + out) {
                memmove(to + out, from + in, n);
            }
            in += n;
            out += n;
            c->left -= n;
            if (c->left == 0) {
                c->state = DATA_CR;
            }
        } else {
            step(c, from[in++]);
        }
    }
    *p_out = out;
    *p_used = in;
    if (c->state == BAD) {
        return 400;
    }
    return c->state == DONE ? HTTP_CHUNK_DONE : HTTP_MORE;
}

int
http_chunk_decode(struct http_chunk *c, char *buf, size_t len, size_t *p_out,
                  size_t *p_used)
{
    return http_chunk_copy(c, buf, buf, len, p_out, p_used);
}
