/* Text of somebody else on a terminal. */
#pragma once

#include <stdio.h>

/* TEXT (until its NUL) on OUT, with a '?' for each byte that a terminal could
 * obey or not show: those below 0x20, 0x7f, U+0080 to U+009f, and what is no
 * UTF-8. */
void plain_put(FILE *out, const char *text);
/* The same, of at most COLUMNS (>= 8) characters: of a longer text the middle
 * is left out, with "..." in its place. How many columns it took. */
int plain_put_short(FILE *out, const char *text, int columns);
