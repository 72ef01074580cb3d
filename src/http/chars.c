/* Character classes of HTTP/1.1, one look-up for each byte. The table is made
 * by the preprocessor from the rules below, so that each rule stands once. */
#include "http/http_priv.h"

#define ALPHA(c) (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z'))
#define DIGIT(c) ((c) >= '0' && (c) <= '9')
#define HEX(c)                                                                 \
    (DIGIT(c) || ((c) >= 'a' && (c) <= 'f') || ((c) >= 'A' && (c) <= 'F'))
#define VISIBLE(c) ((c) > 0x20 && (c) < 0x7f)

#define IN3(c, x, y, z) ((c) == (x) || (c) == (y) || (c) == (z))

#define SUB_DELIM(c)                                                           \
    (IN3(c, '!', '$', '&') || IN3(c, '\'', '(', ')') ||                        \
     IN3(c, '*', '+', ',') || (c) == ';' || (c) == '=')
#define UNRESERVED(c)                                                          \
    (ALPHA(c) || DIGIT(c) || IN3(c, '-', '.', '_') || (c) == '~')
#define TOKEN(c)                                                               \
    (UNRESERVED(c) || IN3(c, '!', '#', '$') || IN3(c, '%', '&', '\'') ||       \
     IN3(c, '*', '+', '^') || (c) == '`' || (c) == '|')
#define TARGET(c) (VISIBLE(c) && (c) != '#')
#define PLAIN(c)  (TARGET(c) && !IN3(c, '/', '%', '?') && (c) != '\\')
#define VALUE(c)  (VISIBLE(c) || IN3(c, ' ', '\t', ' ') || (c) >= 0x80)

#define ONE(c)                                                                 \
    ((TOKEN(c) ? HTTP_C_TOKEN : 0) | (TARGET(c) ? HTTP_C_TARGET : 0) |         \
     (PLAIN(c) ? HTTP_C_PLAIN : 0) | (VALUE(c) ? HTTP_C_VALUE : 0) |           \
     (UNRESERVED(c) || SUB_DELIM(c) ? HTTP_C_HOST : 0) |                       \
     (DIGIT(c) ? HTTP_C_DIGIT : 0) | (HEX(c) ? HTTP_C_HEX : 0))
#define FOUR(c)    ONE(c), ONE((c) + 1), ONE((c) + 2), ONE((c) + 3)
#define SIXTEEN(c) FOUR(c), FOUR((c) + 4), FOUR((c) + 8), FOUR((c) + 12)
#define SIXTY4(c)                                                              \
    SIXTEEN(c), SIXTEEN((c) + 16), SIXTEEN((c) + 32), SIXTEEN((c) + 48)

const uint8_t http_class[256] = {SIXTY4(0), SIXTY4(64), SIXTY4(128),
                                 SIXTY4(192)};
