/* Both directions of CGI/1.1. Everything in a request is hostile: no field may
 * take the place of a variable that we set, or of one that libraries trust.
 * What a command writes is judged by the same strict parser as a door's. */
#include "cgi.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/util.h"

#ifndef CARDEA_VERSION
#define CARDEA_VERSION "0"
#endif

/* ----- the environment ----- */

/* "NAME=value" strings, each with its NUL, one after the other. */
struct env_text {
    char *text;
    size_t len, cap, n;
    bool failed; /* no memory: later calls do nothing */
};

static void
env_add(struct env_text *env, const char *bytes, size_t len)
{
    if (env->failed || len == 0) {
        return;
    }
    if (env->cap - env->len < len) {
        size_t cap = ROUND_UP(env->len + len, 4096) * 2;
        char *text = realloc(env->text, cap);

        if (text == NULL) {
            /* not reached: memory is gone */
            env->failed = true;
            return;
        }
        env->text = text;
        env->cap = cap;
    }
    memcpy(env->text + env->len, bytes, len);
    env->len += len;
}

static void
env_str(struct env_text *env, const char *text)
{
    env_add(env, text, strlen(text));
}

static void
env_end(struct env_text *env)
{
    env_add(env, "", 1);
    env->n++;
}

static void
env_set(struct env_text *env, const char *name, const char *value)
{
    env_str(env, name);
    env_add(env, "=", 1);
    env_str(env, value);
    env_end(env);
}

static void
env_set_num(struct env_text *env, const char *name, unsigned long long value)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", value);
    env_set(env, name, text);
}

/* Would this text do as a host's name or address? It came from the client. */
static bool
host_is_sane(const char *host, size_t len)
{
    return len > 0 && strspn(host, "abcdefghijklmnopqrstuvwxyz"
                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                   "0123456789.-_:[]") >= len;
}

/* SERVER_NAME and SERVER_PORT from "name", "name:port" or "[v6]:port": of the
 * server's own idea of its address a door learns nothing. */
static void
env_set_server(struct env_text *env, const char *host)
{
    const char *colon = strrchr(host, ':');
    const char *bracket = strrchr(host, ']');
    size_t len = strlen(host);
    unsigned long port = 80;

    if (colon != NULL && (bracket == NULL || bracket < colon)) {
        char *end;
        unsigned long n = strtoul(colon + 1, &end, 10);

        len = (size_t)(colon - host);
        if (*end == '\0' && n > 0 && n < 65536) {
            port = n;
        }
    }
    if (host_is_sane(host, len)) {
        env_str(env, "SERVER_NAME=");
        env_add(env, host, len);
        env_end(env);
    } else {
        env_set(env, "SERVER_NAME", "localhost");
    }
    env_set_num(env, "SERVER_PORT", port);
}

/* SCRIPT_NAME and PATH_INFO together are the path, and each is empty or starts
 * with '/': a route of "/" counts as an empty one. */
static void
env_set_path(struct env_text *env, const char *route, const char *rest)
{
    bool is_root = strcmp(route, "/") == 0;

    env_set(env, "SCRIPT_NAME", is_root ? "" : route);
    env_str(env, "PATH_INFO=");
    if (rest[0] != '/' && (rest[0] != '\0' || is_root)) {
        env_add(env, "/", 1);
    }
    env_str(env, rest);
    env_end(env);
}

static bool
field_is_passed(const char *name)
{
    static const char *const not_passed[] = {
        "Authorization",
        "Connection",
        "Content-Length",
        "Content-Type",
        "Expect",
        "Keep-Alive",
        "Proxy",
        "Proxy-Connection",
        "Proxy-Authorization",
        "Transfer-Encoding",
        "TE",
        "Trailer",
        "Upgrade",
    };
    size_t i;

    for (i = 0; i < ARRAY_LEN(not_passed); i++) {
        if (strcasecmp(name, not_passed[i]) == 0) {
            return false;
        }
    }
    i = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                     "0123456789-");
    return i > 0 && name[i] == '\0';
}

static bool
field_came_before(const struct cgi_request *req, size_t i)
{
    size_t j;

    for (j = 0; j < i; j++) {
        if (strcasecmp(req->fields[j].name, req->fields[i].name) == 0) {
            return true;
        }
    }
    return false;
}

/* HTTP_NAME=value, with the values of all later fields of the same name, as
 * RFC 3875 section 4.1.18 wants. */
static void
env_set_field(struct env_text *env, const struct cgi_request *req, size_t i)
{
    const char *name = req->fields[i].name;
    const char *comma = strcasecmp(name, "Cookie") == 0 ? "; " : ", ";
    size_t j;

    env_str(env, "HTTP_");
    for (j = 0; name[j] != '\0'; j++) {
        char c = name[j];

        if (c == '-') {
            c = '_';
        } else if (c >= 'a' && c <= 'z') {
            c = (char)(c - 'a' + 'A');
        }
        env_add(env, &c, 1);
    }
    env_add(env, "=", 1);
    env_str(env, req->fields[i].value);
    for (j = i + 1; j < req->n_fields; j++) {
        if (strcasecmp(req->fields[j].name, name) == 0) {
            env_str(env, comma);
            env_str(env, req->fields[j].value);
        }
    }
    env_end(env);
}

static void
env_set_body(struct env_text *env, const struct cgi_request *req)
{
    size_t i;

    if (req->body_len == 0) {
        return;
    }
    env_set_num(env, "CONTENT_LENGTH", req->body_len);
    for (i = 0; i < req->n_fields; i++) {
        if (strcasecmp(req->fields[i].name, "Content-Type") == 0) {
            env_set(env, "CONTENT_TYPE", req->fields[i].value);
            return;
        }
    }
}

/* Pointers and text in one block. NULL: no memory. */
static char **
env_pack(const struct env_text *env)
{
    size_t table = (env->n + 1) * sizeof(char *);
    char **block = env->failed ? NULL : malloc(table + env->len);
    char *at;
    size_t i;

    if (block == NULL) {
        /* not reached: memory is gone */
        return NULL;
    }
    at = (char *)block + table;
    memcpy(at, env->text, env->len);
    for (i = 0; i < env->n; i++) {
        block[i] = at;
        at += strlen(at) + 1;
    }
    block[env->n] = NULL;
    return block;
}

char **
cgi_env_new(const struct cgi_request *req)
{
    struct env_text env = {0};
    char **block;
    char number[24];
    size_t i;

    for (i = 0; req->inherit != NULL && req->inherit[i] != NULL; i++) {
        env_str(&env, req->inherit[i]);
        env_end(&env);
    }
    env_set(&env, "GATEWAY_INTERFACE", "CGI/1.1");
    env_set(&env, "SERVER_PROTOCOL", "HTTP/1.1");
    env_set(&env, "SERVER_SOFTWARE", "cardea/" CARDEA_VERSION);
    env_set_server(&env, req->host);
    env_set(&env, "REQUEST_METHOD", req->method);
    env_set(&env, "REQUEST_URI", req->target);
    env_set_path(&env, req->route, req->rest);
    if (req->script != NULL) {
        env_set(&env, "SCRIPT_FILENAME", req->script);
    }
    env_set(&env, "QUERY_STRING", req->query);
    env_set(&env, "REMOTE_ADDR", req->peer);
    env_set_num(&env, "REMOTE_PORT", (unsigned)MAX_OF(req->peer_port, 0));
    env_set(&env, "CARDEA_REQUEST_ID", req->id);
    if (req->ms_left > 0) {
        snprintf(number, sizeof(number), "%llu",
                 (unsigned long long)req->ms_left);
        env_set(&env, "CARDEA_TIME_LEFT_MS", number);
    }
    env_set_body(&env, req);
    for (i = 0; i < req->n_fields; i++) {
        if (field_is_passed(req->fields[i].name) &&
            !field_came_before(req, i)) {
            env_set_field(&env, req, i);
        }
    }
    block = env_pack(&env);
    free(env.text);
    return block;
}

/* ----- the answer ----- */

void
cgi_quote(const char *text, size_t len, char *out, size_t size)
{
    size_t n = 0, i;

    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x20 && c < 0x7f && c != '\\';

        if (n + (plain ? 1 : 4) + 4 > size) {
            memcpy(out + n, "...", 4);
            return;
        }
        if (plain) {
            out[n++] = (char)c;
        } else {
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
        }
    }
    out[n] = '\0';
}

/* Where the line that starts at FROM ends, with its newline; LEN without one.
 */
static size_t
line_end(const char *out, size_t len, size_t from)
{
    const char *nl = memchr(out + from, '\n', len - from);

    return nl == NULL ? len : (size_t)(nl - out) + 1;
}

/* Which line does the parser refuse first? It does not say, so it is asked
 * again with one line more each time. *P_FROM and the return value bound that
 * line; they are equal if no single line is to blame. */
static size_t
bad_line_find(const char *out, size_t len, size_t *p_from)
{
    struct http_response head;
    size_t from = 0, to = 0;
    char *copy;

    len = MIN_OF(len, (size_t)HTTP_MAX_HEAD);
    copy = malloc(len + 2);
    *p_from = 0;
    if (copy == NULL) {
        /* not reached: memory is gone */
        return 0;
    }
    memcpy(copy, out, len);
    for (from = 0; from < len; from = to) {
        to = line_end(out, len, from);
        if (out[from] == '\n' || (out[from] == '\r' && to - from == 2)) {
            to = from;
            break;
        }
        /* A last line without an end gets one; "\n" then ends the head. */
        copy[to] = '\n';
        copy[to + 1] = '\n';
        if (http_cgi_parse(copy, to + (out[to - 1] == '\n' ? 1 : 2), &head) !=
            HTTP_OK) {
            break;
        }
        memcpy(copy + to, out + to, MIN_OF(len - to, (size_t)2));
    }
    *p_from = MIN_OF(from, len);
    free(copy);
    return MAX_OF(to, *p_from);
}

static void
why_bad_head(const char *out, size_t len, int verdict, char why[CGI_WHY_SIZE])
{
    char line[CGI_WHY_SIZE / 2];
    size_t from, to, i, n = 1;

    to = bad_line_find(out, len, &from);
    if (from == to) {
        snprintf(why, CGI_WHY_SIZE, "%s",
                 verdict == HTTP_MORE ? "no empty line ends the header"
                                      : "the header is not valid as a whole");
        return;
    }
    for (i = 0; i < from; i++) {
        n += out[i] == '\n';
    }
    while (to > from && (out[to - 1] == '\n' || out[to - 1] == '\r')) {
        to--;
    }
    cgi_quote(out + from, to - from, line, sizeof(line));
    snprintf(why, CGI_WHY_SIZE, "line %zu of the header is not valid: \"%s\"",
             n, line);
}

/* Is there a Status field? The parser takes it out of the list. */
static bool
head_has_status(const char *out, size_t len)
{
    size_t from, to;

    for (from = 0; from < len; from = to) {
        to = line_end(out, len, from);
        if (to - from > 7 && strncasecmp(out + from, "Status:", 7) == 0) {
            return true;
        }
    }
    return false;
}

static bool
answer_redirects(const char *out, const struct http_response *head)
{
    const struct http_field *f =
        http_field_find(out, head->fields, head->n_fields, "location", 8);

    return f != NULL && f->value.len > 0 && out[f->value.off] == '/' &&
           !head_has_status(out, head->head_len);
}

int
cgi_answer_parse(const char *out, size_t len, struct cgi_answer *answer,
                 char why[CGI_WHY_SIZE])
{
    struct http_response *head = &answer->head;
    int verdict;

    if (len == 0) {
        snprintf(why, CGI_WHY_SIZE, "no output");
        return 502;
    }
    verdict = http_cgi_parse(out, len, head);
    if (verdict != HTTP_OK) {
        why_bad_head(out, len, verdict, why);
        return 502;
    }
    answer->status = answer_redirects(out, head) ? 302 : head->status;
    answer->body = out + head->head_len;
    answer->body_len = len - head->head_len;
    why[0] = '\0';
    return 0;
}

/* Is it the head of an answer, and not a text that happens to have a colon in
 * its first line? RFC 3875 section 6.2 wants one of these fields. */
static bool
head_is_meant(const char *out, const struct cgi_answer *answer)
{
    static const char *const names[] = {"content-type", "location"};
    const struct http_response *head = &answer->head;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (http_field_find(out, head->fields, head->n_fields, names[i],
                            strlen(names[i])) != NULL) {
            return true;
        }
    }
    return head_has_status(out, head->head_len);
}

void
cgi_answer_parse_plain(const char *out, size_t len, struct cgi_answer *answer)
{
    char why[CGI_WHY_SIZE];

    if (cgi_answer_parse(out, len, answer, why) != 0 ||
        !head_is_meant(out, answer)) {
        *answer = (struct cgi_answer){
            .status = 200,
            .body = out,
            .body_len = len,
        };
    }
}
