/* `forward http ADDRESS to ...`: listeners and their maps. What is wrong with
 * one part does not keep the others from being judged. */
#include "conf/check.h"

#include <string.h>

#include "conf/text.h"

static const char *const protocol_names[] = {"http", "tcp", NULL};

/* Whether a module can take what comes: requests, bytes, or the connection. */
static void
forward_module(struct conf_check *check, struct conf_listen *listen,
               const struct conf_node *node, size_t target)
{
    const struct conf_target *t = &check->conf->targets[target];
    const struct conf_module *module;

    if (t->kind != CONF_TARGET_MODULE) {
        return;
    }
    module = &check->conf->modules[t->module];
    if (module->kind == CONF_MODULE_INETD) {
        if (listen->protocol == CONF_HTTP) {
            conf_report_add(check->report, node->target.where,
                            "module '%s' runs a command for each connection: "
                            "write 'forward tcp'",
                            module->name);
        } else {
            listen->protocol = module->is_wait ? CONF_TCP_WAIT : CONF_TCP_PASS;
        }
        return;
    }
    if (listen->protocol == CONF_HTTP || module->kind == CONF_MODULE_RUN) {
        return;
    }
    conf_report_add(check->report, node->target.where,
                    module->kind == CONF_MODULE_EXEC
                        ? "module '%s' runs a command for each request of "
                          "HTTP: 'forward tcp' needs a door, such as a module "
                          "with 'run'"
                        : "module '%s' answers requests of HTTP: 'forward tcp' "
                          "needs a door, such as a module with 'run' or "
                          "'inetd'",
                    module->name);
}

/* Of a route: of its method, its path and its target. */
static struct conf_where *
route_wheres(struct conf_check *check, struct conf_where method,
             struct conf_where path, struct conf_where target)
{
    struct conf_where *wheres =
        conf_memory_take(check->memory, 3, sizeof(*wheres));

    if (wheres != NULL) {
        wheres[0] = method;
        wheres[1] = path;
        wheres[2] = target;
    }
    return wheres;
}

/* One map, added to LISTEN if nothing is wrong with it. */
static void
map_check(struct conf_check *check, struct conf_listen *listen,
          const struct conf_node *node)
{
    struct conf_route *route = &listen->routes[listen->n_routes];
    bool method_ok = conf_check_method(check, &node->name);
    ssize_t target;

    route->path = conf_check_route(check, &node->value);
    target = conf_check_target(check, node);
    if (target >= 0) {
        forward_module(check, listen, node, (size_t)target);
    }
    if (!method_ok || !route->path || target < 0) {
        return;
    }
    if (!conf_word_is(&node->name, "any")) {
        route->method =
            conf_memory_text(check->memory, node->name.text, node->name.len);
        if (!route->method) {
            return;
        }
    }
    route->path_len = strlen(route->path);
    route->target = (size_t)target;
    route->wheres = route_wheres(check, node->name.where, node->value.where,
                                 node->target.where);
    listen->n_routes++;
}

static void
forward_block(struct conf_check *check, struct conf_listen *listen,
              const struct conf_node *node)
{
    size_t n = 0;

    for (const struct conf_node *map = node->children; map; map = map->next) {
        n++;
    }
    if (n == 0 && check->tree->is_whole) {
        conf_report_add(check->report, node->target.where,
                        "an empty block serves nothing: add a line such as "
                        "map GET / to TARGET");
    }
    listen->routes =
        conf_memory_take(check->memory, n, sizeof(*listen->routes));
    for (const struct conf_node *map = node->children;
         map && !check->memory->failed; map = map->next) {
        map_check(check, listen, map);
    }
    if (check->memory->failed) {
        return;
    }
    conf_check_routes(check, listen);
}

static void
forward_single(struct conf_check *check, struct conf_listen *listen,
               const struct conf_node *node)
{
    ssize_t target = conf_check_target(check, node);
    struct conf_where where = node->target.where;

    if (target < 0) {
        return;
    }
    forward_module(check, listen, node, (size_t)target);
    listen->routes =
        conf_memory_take(check->memory, 1, sizeof(*listen->routes));
    if (!listen->routes) {
        return;
    }
    listen->routes[0] = (struct conf_route){
        .path = conf_memory_text(check->memory, "/", 1),
        .path_len = 1,
        .target = (size_t)target,
        .methods = UINT32_MAX,
        .wheres = route_wheres(check, where, where, where),
    };
    listen->n_routes = 1;
}

static bool
forward_protocol(struct conf_check *check, const struct conf_word *word)
{
    struct conf_shown shown = conf_shown(word->text, word->len);
    const char *near;

    if (conf_word_is(word, "http") || conf_word_is(word, "tcp")) {
        return true;
    }
    if (conf_word_is(word, "https") || conf_word_is(word, "tls")) {
        conf_report_add(check->report, word->where,
                        "'forward %s' needs TLS, which this version does not "
                        "have yet: write 'forward %s', and let a server in "
                        "front of this one end TLS",
                        shown.text, conf_word_is(word, "tls") ? "tcp" : "http");
        return false;
    }
    if (conf_word_is(word, "udp")) {
        conf_report_add(check->report, word->where,
                        "'forward udp' needs UDP, which this version does not "
                        "have yet: remove the line, or write 'forward tcp' if "
                        "its clients can use that");
        return false;
    }
    if (conf_address_like(word->text, word->len)) {
        conf_report_add(check->report, word->where,
                        "the protocol is missing: write 'forward tcp %s' for a "
                        "door that takes bytes, 'forward http %s' for requests",
                        shown.text, shown.text);
        return false;
    }
    near = conf_name_near(protocol_names, word->text, word->len);
    conf_report_add(check->report, word->where,
                    near ? "unknown protocol '%s': did you mean '%s'?"
                         : "unknown protocol '%s': expected http or tcp%s",
                    shown.text, near ? near : "");
    return false;
}

/* What becomes of a connection, and whether the target is fit for it. */
static void
forward_kind(struct conf_check *check, struct conf_listen *listen,
             const struct conf_node *node)
{
    bool is_tcp = conf_word_is(&node->name, "tcp");

    listen->protocol = !is_tcp         ? CONF_HTTP
                       : node->is_pass ? CONF_TCP_PASS
                                       : CONF_TCP_CALL;
    if (node->is_pass && !is_tcp) {
        conf_report_add(check->report, node->name.where,
                        "only 'forward tcp' can pass a connection: write "
                        "'to' for http");
    }
    if (is_tcp && node->aim == CONF_AIM_BLOCK) {
        conf_report_add(check->report, node->target.where,
                        "'forward tcp' has one target, no block: maps need "
                        "'forward http'");
    }
    if (is_tcp && node->aim == CONF_AIM_FILES) {
        conf_report_add(check->report, node->target.where,
                        "'forward tcp' leads to a door, not to files");
    }
}

static void
forward_check(struct conf_check *check, const struct conf_node *node)
{
    struct conf_listen *listen = &check->conf->listens[check->conf->n_listens];
    struct conf_listen spare = {0};

    if (!forward_protocol(check, &node->name)) {
        return;
    }
    if (conf_check_address(check, listen, node)) {
        check->conf->n_listens++;
    } else if (check->memory->failed) {
        return;
    } else {
        *listen = spare; /* its maps are judged all the same */
        listen = &spare;
    }
    forward_kind(check, listen, node);
    if (node->aim == CONF_AIM_BLOCK) {
        forward_block(check, listen, node);
    } else {
        forward_single(check, listen, node);
    }
}

void
conf_check_forwards(struct conf_check *check)
{
    size_t n = check->metrics != NULL;

    for (const struct conf_node *node = check->tree->statements; node;
         node = node->next) {
        if (node->kind != CONF_NODE_FORWARD) {
            continue;
        }
        if (++n > CONF_LISTENS_MAX) {
            conf_report_add(check->report, node->name.where,
                            "more than %d forwards", CONF_LISTENS_MAX);
            return;
        }
    }
    if (n == 0 && check->tree->is_whole) {
        conf_report_add(check->report, (struct conf_where){1, 1},
                        "nothing to serve: add a line such as forward http "
                        ":8080 to /run/app/hello.door");
    }
    check->conf->listens =
        conf_memory_take(check->memory, n, sizeof(*check->conf->listens));
    for (const struct conf_node *node = check->tree->statements;
         node && !check->memory->failed; node = node->next) {
        if (node->kind == CONF_NODE_FORWARD) {
            forward_check(check, node);
        }
    }
    if (check->metrics && !check->memory->failed) {
        struct conf_node node = conf_check_metrics_node(check);
        size_t i = check->conf->n_listens;

        forward_check(check, &node);
        check->conf->listens[i].is_hidden = true;
    }
}
