/* libFuzzer over the whole parser, with an outside in which every file, program
 * and user exists. What is accepted is asked for routes as well. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/outside.h"
#include "conf/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
fuzz_file(void *ctx, const char *path)
{
    if (path[0] != '/') {
        abort();
    }
    return (int)(strlen(path) % (CONF_FILE_OTHER + 1));
}

static bool
fuzz_user(void *ctx, const char *name)
{
    return name[0] != 'x';
}

static void
fuzz_routes(const struct conf *conf)
{
    struct conf_match match;

    for (size_t i = 0; i < conf->n_listens; i++) {
        const struct conf_listen *listen = &conf->listens[i];

        for (size_t j = 0; j < listen->n_routes; j++) {
            const struct conf_route *route = &listen->routes[j];
            const char *method = route->method ? route->method : "FUZZ";

            /* the path of a map is always answered by some map */
            if (!conf_route_match(listen, method, strlen(method), route->path,
                                  route->path_len, &match) ||
                match.route->path_len != route->path_len ||
                match.route->target >= conf->n_targets) {
                abort();
            }
            conf_route_match(listen, "NONE", 4, route->path, route->path_len,
                             &match);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf_outside outside = {
        .is_root = size % 2,
        .folder = "/fuzz",
        .path = "/bin:/usr/bin",
        .file = fuzz_file,
        .user = fuzz_user,
    };
    char *said = NULL;
    size_t said_len = 0;
    FILE *errors = open_memstream(&said, &said_len);
    struct conf *conf = conf_parse_with(&outside, NULL, "f/x.conf",
                                        (const char *)data, size, errors);

    fclose(errors);
    if (!conf == (said_len == 0)) {
        abort(); /* either a conf or a reason */
    }
    if (conf) {
        fuzz_routes(conf);
    }
    conf_free(conf);
    free(said);
    return 0;
}
