/* Paths: what comes out is clean, and decoding it again (once its '%' are
 * escaped) changes nothing. */
#include "fuzz.h"

static void
check(const char *out, size_t len)
{
    MUST(out[0] == '/' && out[len] == '\0' && strlen(out) == len);
    MUST(strstr(out, "//") == NULL && strstr(out, "/../") == NULL);
    MUST(strstr(out, "/./") == NULL && strchr(out, '\\') == NULL);
    MUST(len < 2 || strcmp(out + len - 2, "/.") != 0);
    MUST(len < 3 || strcmp(out + len - 3, "/..") != 0);
    for (size_t i = 0; i < len; i++) {
        MUST((unsigned char)out[i] >= 0x20 && out[i] != 0x7f);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *out = malloc(size + 1), *escaped, *again;
    int n = http_path_decode((const char *)data, size, out);
    size_t k = 0;

    MUST(n >= -1 && n != 0 && n <= (int)size);
    if (n < 0) {
        free(out);
        return 0;
    }
    check(out, (size_t)n);
    escaped = malloc((size_t)n * 3);
    again = malloc((size_t)n * 3 + 1);
    for (int i = 0; i < n; i++) {
        escaped[k++] = out[i];
        if (out[i] == '%') {
            escaped[k++] = '2';
            escaped[k++] = '5';
        }
    }
    MUST(http_path_decode(escaped, k, again) == n);
    MUST(memcmp(out, again, (size_t)n + 1) == 0);
    free(again);
    free(escaped);
    free(out);
    return 0;
}
