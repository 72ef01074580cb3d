/* A secret of the module: a descriptor that the keeper left open, whose number
 * is in the environment. */
#include "cardea.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_LEN 64

int
cardea_secret(const char *name)
{
    static const char prefix[] = "CARDEA_SECRET_";
    char variable[sizeof(prefix) + NAME_MAX_LEN];
    size_t len = strlen(prefix);
    const char *value;
    char *end;
    long fd;

    if (strlen(name) > NAME_MAX_LEN) {
        errno = ENOENT;
        return -1;
    }
    memcpy(variable, prefix, len);
    for (; *name != '\0'; name++) {
        variable[len++] =
            (char)(*name == '-' ? '_' : toupper((unsigned char)*name));
    }
    variable[len] = '\0';
    value = getenv(variable);
    if (value == NULL) {
        errno = ENOENT;
        return -1;
    }
    fd = strtol(value, &end, 10);
    if (end == value || *end != '\0' || fd < 0 || fd > INT_MAX ||
        fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0) {
        errno = EBADF;
        return -1;
    }
    return (int)fd;
}
