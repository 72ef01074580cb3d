/* The keeper starts a shim as it would start the command: with the module's
 * user, folder, environment and secrets. A command gets all of this but what is
 * meant for the shim. Bounds that count up over a process's life would end a
 * shim that is well, so they come as text and are set in each command.
 *
 * Secrets are descriptors of low numbers that variables name; the shim's own
 * begin behind them. */
#include "inherit.h"

#include "base/util.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool
is_named(const char *variable, const char *name)
{
    size_t len = strlen(name);

    return strncmp(variable, name, len) == 0 && variable[len] == '=';
}

static bool
is_handed_on(const char *variable)
{
    static const char *const not_these[] = {
        "CARDEA_DOOR",     "CARDEA_MODULE",       "CARDEA_CONTROL",
        "CARDEA_LIMITS",   "CARDEA_REQUEST_ID",   "CARDEA_CONNECTION",
        "CARDEA_OUTPUT",   "CARDEA_TIME_LEFT_MS", "AUTH_TYPE",
        "CONTENT_LENGTH",  "CONTENT_TYPE",        "GATEWAY_INTERFACE",
        "PATH_INFO",       "PATH_TRANSLATED",     "QUERY_STRING",
        "REMOTE_ADDR",     "REMOTE_HOST",         "REMOTE_IDENT",
        "REMOTE_PORT",     "REMOTE_USER",         "REQUEST_METHOD",
        "REQUEST_URI",     "CARDEA_CEILING",      "CARDEA_CALLS",
        "SCRIPT_NAME",     "SERVER_NAME",         "SERVER_PORT",
        "SERVER_PROTOCOL", "SERVER_SOFTWARE",
    };

    if (strncmp(variable, "HTTP_", 5) == 0 ||
        strncmp(variable, "LISTEN_", 7) == 0) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(not_these); i++) {
        if (is_named(variable, not_these[i])) {
            return false;
        }
    }
    return true;
}

/* The descriptor that VARIABLE says a secret is; -1: it is about none. */
static int
secret_of(const char *variable)
{
    const char *value = strchr(variable, '=');
    char *end;
    long fd;

    if (value == NULL ||
        strncmp(variable, INHERIT_SECRET, strlen(INHERIT_SECRET)) != 0) {
        return -1;
    }
    fd = strtol(value + 1, &end, 10);
    return *end == '\0' && end != value + 1 && fd > 2 && fd < 1024 ? (int)fd
                                                                   : -1;
}

int
inherit_read(struct inherit *inherit)
{
    size_t n = 0;

    *inherit = (struct inherit){.first_closed = 3};
    if (limits_parse(getenv("CARDEA_LIMITS"), &inherit->limits) < 0) {
        errno = EINVAL;
        return -1;
    }
    while (environ != NULL && environ[n] != NULL) {
        n++;
    }
    inherit->env = calloc(n + 1, sizeof(*inherit->env));
    if (inherit->env == NULL) {
        return -1;
    }
    n = 0;
    for (char **e = environ; e != NULL && *e != NULL; e++) {
        if (is_handed_on(*e)) {
            inherit->env[n++] = *e;
        }
        inherit->first_closed =
            MAX_OF(inherit->first_closed, secret_of(*e) + 1);
    }
    return 0;
}
