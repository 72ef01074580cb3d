/* Numbers as hexadecimal digits. */
#pragma once

#include <stdint.h>

/* Writes the last DIGITS digits of VALUE, lower case, at TO, without a NUL; to
 * where the next may go. */
static inline char *
hex_put(char *to, uint64_t value, int digits)
{
    static const char words[] = "0123456789abcdef";

    for (int i = digits - 1; i >= 0; i--, value >>= 4) {
        to[i] = words[value & 15];
    }
    return to + digits;
}
