/* Which route of a listener answers a request. Called for each request: no
 * allocation, one pass over routes that were sorted when the file was read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"

struct conf_match {
    const struct conf_route *route;
    int status;                 /* 0: ROUTE; 404: no path; 405: no method */
    char allow[CONF_ALLOW_MAX]; /* with 405: "GET, HEAD, POST", and a NUL */
    size_t allow_len;
};

/* Of LISTEN's routes, the one with the longest path that PATH is or is below
 * (at a '/'), and whose method is METHOD; a route of GET answers HEAD, one of
 * "any" everything; of one path, the most special method wins. METHOD is a
 * token, PATH is decoded and starts with '/'; neither ends with NUL.
 * true: MATCH->route is it. false: MATCH->status is 404, or 405 and
 * MATCH->allow is the value of the Allow field (RFC 9110 section 10.2.1), its
 * methods sorted. Other members are not written. */
bool conf_route_match(const struct conf_listen *listen, const char *method,
                      size_t method_len, const char *path, size_t path_len,
                      struct conf_match *match);
