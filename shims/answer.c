/* What a program announced and what it gave may differ; the client must never
 * take half of an answer for a whole one. */
#include "answer.h"

#include "hop.h"
#include "say.h"

#include "base/util.h"

#include <cardea.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ABOUT_SIZE 64

/* A line about R. */
__attribute__((format(printf, 3, 4))) static void
say_of(const struct cardea_request *r, const char *name, const char *format,
       ...)
{
    char about[ABOUT_SIZE];
    va_list args;

    snprintf(about, sizeof(about), "request %s", cardea_id(r));
    va_start(args, format);
    say_args(name, about, format, args);
    va_end(args);
}

void
answer_describe(const struct cardea_request *r, struct cgi_field *fields,
                struct cgi_request *req)
{
    *req = (struct cgi_request){
        .method = cardea_method(r),
        .target = cardea_target(r),
        .query = cardea_query(r),
        .host = cardea_host(r),
        .peer = cardea_peer(r),
        .peer_port = cardea_peer_port(r),
        .id = cardea_id(r),
        /* Never 0, which would be no word at all. */
        .ms_left = (uint64_t)cardea_time_left(r) / NS_PER_MS + 1,
        .route = cardea_route(r),
        .rest = cardea_rest(r),
        .fields = fields,
    };
    while (req->n_fields < HTTP_MAX_FIELDS &&
           cardea_header_at(r, req->n_fields, &fields[req->n_fields].name,
                            &fields[req->n_fields].value) == 0) {
        req->n_fields++;
    }
}

void
answer_refuse(struct cardea_request *r, int status, const char *text)
{
    cardea_status(r, status);
    cardea_printf(r, "%s\nRequest id: %s\n", text, cardea_id(r));
}

/* One field of the head, made a string in place: behind a name stands a colon
 * and behind a value at least its line's end. Content-Type waits in *P_TYPE. */
static int
field_send(struct cardea_request *r, char *out, const struct http_field *f,
           const char **p_type)
{
    char *name = out + f->name.off, *value = out + f->value.off;

    if (!http_field_is_free(name, f->name.len)) {
        return 0; /* Cardea sets it itself */
    }
    name[f->name.len] = '\0';
    value[f->value.len] = '\0';
    if (strcasecmp(name, "Content-Type") == 0) {
        *p_type = value;
        return 0;
    }
    return cardea_set(r, name, value);
}

/* More than was announced is still all that there is, and is sent: a program
 * may have counted characters. Less is an answer that was torn off. */
static bool
length_is_wrong(const struct cardea_request *r, const struct cgi_answer *answer)
{
    return answer->head.has_length &&
           answer->head.content_length != answer->body_len &&
           strcmp(cardea_method(r), "HEAD") != 0 && answer->status != 304;
}

/* The body. To HEAD a program writes none and may say how long it would be:
 * then there is room of that length, never written and never sent, so that the
 * client is told the length that GET would have. */
static int
body_send(struct cardea_request *r, const struct cgi_answer *answer)
{
    uint64_t announced = answer->head.content_length;

    if (answer->status == 204 || answer->status == 304) {
        return 0;
    }
    if (strcmp(cardea_method(r), "HEAD") != 0 || !answer->head.has_length ||
        answer->body_len > 0 || announced > ANSWER_MAX ||
        cardea_room(r, announced) == NULL) {
        return cardea_write(r, answer->body, answer->body_len);
    }
    return cardea_commit(r, announced);
}

/* The type comes last: it must not be there if a text of ours has to replace
 * the program's. */
void
answer_send(struct cardea_request *r, const char *name, char *out,
            const struct cgi_answer *answer)
{
    const struct http_response *head = &answer->head;
    const char *type = NULL;
    int rc = 0;
    uint32_t i;

    if (length_is_wrong(r, answer)) {
        say_of(r, name, "the command announced %llu bytes and wrote %zu",
               (unsigned long long)head->content_length, answer->body_len);
        if (answer->body_len < head->content_length) {
            answer_refuse(r, 502,
                          "The program behind this page gave half an answer.");
            return;
        }
    }
    for (i = 0; i < head->n_fields && rc == 0; i++) {
        if (!hop_is_named(out, head, &head->fields[i].name)) {
            rc = field_send(r, out, &head->fields[i], &type);
        }
    }
    if (rc == 0) {
        rc = body_send(r, answer);
    }
    if (rc == 0 && type != NULL) {
        rc = cardea_type(r, type);
    }
    if (rc == 0) {
        rc = cardea_status(r, answer->status);
    }
    if (rc < 0) {
        say_of(r, name, "the command's answer cannot be sent: %s",
               strerror(errno));
        answer_refuse(r, 502,
                      "The program behind this page gave an answer that "
                      "cannot be sent.");
    }
}
