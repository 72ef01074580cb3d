/* What of a shim's own start its commands get: environment, bounds, secrets. */
#pragma once

#include "base/limits.h"

#define INHERIT_SECRET "CARDEA_SECRET_"

struct inherit {
    char **env;           /* NULL-terminated; its strings are environ's */
    struct limits limits; /* to be set between fork and exec */
    int first_closed;     /* behind the last secret's descriptor; at least 3 */
};

/* Reads it from our environment, which must not be changed as long as *INHERIT
 * is in use. Not handed on: what makes the shim itself a door (CARDEA_DOOR,
 * CARDEA_MODULE, CARDEA_CONTROL, CARDEA_LIMITS, CARDEA_CONNECTION, and what
 * tells of listening sockets, LISTEN_*), and variables that CGI gives a meaning
 * of its own (RFC 3875 4.1). Before there are threads. The caller frees
 * INHERIT->env, or keeps it. 0; or -1 with errno: ENOMEM; EINVAL, CARDEA_LIMITS
 * is no line of base/limits.h. */
int inherit_read(struct inherit *inherit);
