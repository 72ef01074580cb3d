/* Routes are sorted longest path first, and of one path the most special method
 * first, so the first that fits is the best. Methods are bits of the listener's
 * own table: one lookup a request, then a mask a route. */
#include "conf/route.h"

#include <string.h>

#define METHOD_OTHER (1u << 31) /* only routes of any method have this bit */

_Static_assert(CONF_METHODS_MAX < 31, "a bit for each method and one more");

static uint32_t
method_bit(const struct conf_listen *listen, const char *method, size_t len)
{
    for (size_t i = 0; i < listen->n_methods; i++) {
        const char *name = listen->methods[i];

        if (strncmp(name, method, len) == 0 && name[len] == '\0') {
            return 1u << i;
        }
    }
    return METHOD_OTHER;
}

/* Is PATH the route's, or below it? */
static bool
route_covers(const struct conf_route *route, const char *path, size_t len)
{
    size_t n = route->path_len;

    if (n == 1) {
        return len > 0 && path[0] == '/';
    }
    return n <= len && (n == len || path[n] == '/') &&
           memcmp(route->path, path, n) == 0;
}

/* Writes the names of METHODS (bits) to MATCH->allow; the bounds in conf.h make
 * it large enough. */
static void
match_allow(const struct conf_listen *listen, uint32_t methods,
            struct conf_match *match)
{
    size_t at = 0;

    for (size_t i = 0; i < listen->n_methods; i++) {
        size_t len = strlen(listen->methods[i]);

        if (!(methods & (1u << i))) {
            continue;
        }
        if (at > 0) {
            memcpy(match->allow + at, ", ", 2);
            at += 2;
        }
        memcpy(match->allow + at, listen->methods[i], len);
        at += len;
    }
    match->allow[at] = '\0';
    match->allow_len = at;
}

bool
conf_route_match(const struct conf_listen *listen, const char *method,
                 size_t method_len, const char *path, size_t path_len,
                 struct conf_match *match)
{
    uint32_t wanted = method_bit(listen, method, method_len);
    uint32_t methods = 0;

    for (size_t i = 0; i < listen->n_routes; i++) {
        const struct conf_route *route = &listen->routes[i];

        if (!route_covers(route, path, path_len)) {
            continue;
        }
        if (route->methods & wanted) {
            match->route = route;
            match->status = 0;
            return true;
        }
        methods |= route->methods;
    }
    match->status = methods ? 405 : 404;
    if (methods) {
        match_allow(listen, methods, match);
    }
    return false;
}
