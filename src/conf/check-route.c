/* Methods and paths of maps, and the order and the masks by which route.c finds
 * the best one with one look at each. */
#include "conf/check.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"
#include "conf/text.h"

#define ANY UINT32_MAX

/* RFC 9110 and RFC 5789, and what stands in the place of one. */
static const char *const known_methods[] = {
    "GET",   "HEAD",    "POST",  "PUT", "DELETE",
    "PATCH", "OPTIONS", "TRACE", "any", NULL,
};

/* Those of IANA's registry that could be taken for a mistyped one. */
static const char *const other_methods[] = {
    "BIND", "COPY", "LINK", "LOCK", "MOVE", "PRI", "UNLINK", "UNLOCK",
};

/* The known method that a word of capital letters was probably meant to be. */
static const char *
method_near(const struct conf_word *word)
{
    for (size_t i = 0; known_methods[i]; i++) {
        if (conf_word_is(word, known_methods[i])) {
            return NULL;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(other_methods); i++) {
        if (conf_word_is(word, other_methods[i])) {
            return NULL;
        }
    }
    return conf_name_near(known_methods, word->text, word->len);
}

bool
conf_method_is_plain(const char *method)
{
    return !method_near(
        &(struct conf_word){.text = method, .len = strlen(method)});
}

/* RFC 9110 section 9: a method is a token, and its case matters. */
bool
conf_check_method(struct conf_check *check, const struct conf_word *word)
{
    struct conf_shown shown = conf_shown(word->text, word->len);
    const char *near;
    size_t upper = 0;

    if (conf_word_is(word, "any")) {
        return true;
    }
    for (size_t i = 0; known_methods[i]; i++) {
        if (strlen(known_methods[i]) == word->len &&
            strncasecmp(known_methods[i], word->text, word->len) == 0 &&
            !conf_word_is(word, known_methods[i])) {
            conf_report_add(check->report, word->where,
                            "unknown method '%s': did you mean '%s'?",
                            shown.text, known_methods[i]);
            return false;
        }
    }
    while (upper < word->len &&
           ((word->text[upper] >= 'A' && word->text[upper] <= 'Z') ||
            (upper > 0 && word->text[upper] == '-'))) {
        upper++;
    }
    if (upper < word->len || word->len > CONF_METHOD_LEN) {
        conf_report_add(check->report, word->where,
                        "'%s' is no method: write up to %d capital letters, "
                        "such as GET, or 'any'",
                        shown.text, CONF_METHOD_LEN);
        return false;
    }
    near = word->is_string ? NULL : method_near(word);
    if (near) {
        conf_report_add(check->report, word->where,
                        "unknown method '%s': did you mean '%s'? (a method of "
                        "your own is written in \"double quotes\")",
                        shown.text, near);
        return false;
    }
    if (conf_word_is(word, "CONNECT")) {
        conf_report_add(check->report, word->where,
                        "CONNECT has no path, and so cannot be mapped");
        return false;
    }
    return true;
}

/* What is wrong with PATH as the start of decoded paths; NULL: nothing. */
static const char *
route_path_wrong(const char *path, size_t len)
{
    if (len == 0 || path[0] != '/') {
        return "a path starts with '/'";
    }
    for (size_t i = 0; i < len; i++) {
        size_t rest = len - i - 1;

        if (path[i] == '%' && rest >= 2 &&
            strspn(path + i + 1, "0123456789abcdefABCDEF") >= 2) {
            return "write the path as it is after decoding, without %XX";
        }
        if (path[i] == '?' || path[i] == '#') {
            return "a path ends before '?' and '#': queries are not matched";
        }
        if (path[i] == '\\') {
            return "a path holds no backslash";
        }
        if (path[i] == '*') {
            return "'*' is no wildcard: a path matches all that is below it";
        }
        if (path[i] != '/') {
            continue;
        }
        if (rest > 0 && path[i + 1] == '/') {
            return "a path holds no '//'";
        }
        for (size_t dots = 1; dots <= 2; dots++) {
            if (rest >= dots && memcmp(path + i + 1, "..", dots) == 0 &&
                (rest == dots || path[i + 1 + dots] == '/')) {
                return "a path holds no '.' or '..' segments";
            }
        }
    }
    return NULL;
}

/* The path of a map, without a '/' at its end but "/". NULL: reported, or no
 * memory. */
char *
conf_check_route(struct conf_check *check, const struct conf_word *word)
{
    char *path = conf_memory_text(check->memory, word->text, word->len);
    size_t len = word->len;
    const char *wrong;

    if (!path) {
        return NULL;
    }
    wrong = route_path_wrong(path, len);
    if (wrong) {
        conf_report_add(check->report, word->where, "'%s': %s",
                        conf_shown(path, len).text, wrong);
        return NULL;
    }
    if (len > 1 && path[len - 1] == '/') {
        path[len - 1] = '\0';
    }
    return path;
}

/* The bit of METHOD in LISTEN's table, added if it is new. 0: the table is
 * full, or no memory. Bits are given for good by methods_sort(). */
static uint32_t
method_bit(struct conf_check *check, struct conf_listen *listen,
           const char *method)
{
    for (size_t i = 0; i < listen->n_methods; i++) {
        if (strcmp(listen->methods[i], method) == 0) {
            return 1u << i;
        }
    }
    if (listen->n_methods == CONF_METHODS_MAX) {
        return 0;
    }
    listen->methods[listen->n_methods] =
        conf_memory_text(check->memory, method, strlen(method));
    if (!listen->methods[listen->n_methods]) {
        return 0;
    }
    return 1u << listen->n_methods++;
}

static int
method_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts the method table and gives each route the bits of what it answers: its
 * method, and HEAD with GET (RFC 9110 section 9.3.2). */
static void
methods_assign(struct conf_check *check, struct conf_listen *listen)
{
    for (size_t i = 0; i < listen->n_routes; i++) {
        struct conf_route *route = &listen->routes[i];
        bool is_get = route->method && strcmp(route->method, "GET") == 0;

        if (route->method &&
            (method_bit(check, listen, route->method) == 0 ||
             (is_get && method_bit(check, listen, "HEAD") == 0)) &&
            !check->memory->failed) {
            conf_report_add(check->report, route->wheres[0],
                            "more than %d different methods at one address",
                            CONF_METHODS_MAX);
            return;
        }
    }
    if (check->memory->failed) {
        return;
    }
    qsort(listen->methods, listen->n_methods, sizeof(listen->methods[0]),
          method_compare);
    for (size_t i = 0; i < listen->n_routes; i++) {
        struct conf_route *route = &listen->routes[i];

        route->methods =
            route->method ? method_bit(check, listen, route->method) : ANY;
        if (route->method && strcmp(route->method, "GET") == 0) {
            route->methods |= method_bit(check, listen, "HEAD");
        }
    }
}

/* How special a route's method is: HEAD before GET, which answers it as well,
 * and any last. */
static int
method_rank(const char *method)
{
    if (!method) {
        return 2;
    }
    return strcmp(method, "HEAD") == 0 ? 0 : 1;
}

/* Longest path first; of one path, the most special method. */
static int
route_compare(const void *a, const void *b)
{
    const struct conf_route *x = a, *y = b;
    int order;

    if (x->path_len != y->path_len) {
        return x->path_len > y->path_len ? -1 : 1;
    }
    order = memcmp(x->path, y->path, x->path_len);
    if (order == 0) {
        order = method_rank(x->method) - method_rank(y->method);
    }
    if (order == 0 && x->method) {
        order = strcmp(x->method, y->method);
    }
    return order ? order : conf_where_compare(x->wheres[0], y->wheres[0]);
}

static void
routes_sort(struct conf_check *check, struct conf_listen *listen)
{
    qsort(listen->routes, listen->n_routes, sizeof(listen->routes[0]),
          route_compare);
    for (size_t i = 1; i < listen->n_routes; i++) {
        struct conf_route *a = &listen->routes[i - 1];
        struct conf_route *b = &listen->routes[i];

        if (a->path_len == b->path_len &&
            memcmp(a->path, b->path, a->path_len) == 0 &&
            method_rank(a->method) == method_rank(b->method) &&
            (!a->method || strcmp(a->method, b->method) == 0)) {
            conf_report_add(
                check->report, b->wheres[0], "'%s %s' is already mapped %s",
                b->method ? b->method : "any",
                conf_shown(b->path, b->path_len).text,
                conf_there(check->report, b->wheres[0], a->wheres[0]).text);
        }
    }
}

void
conf_check_routes(struct conf_check *check, struct conf_listen *listen)
{
    methods_assign(check, listen);
    if (!check->memory->failed) {
        routes_sort(check, listen);
    }
}
