/* The parent of forked copies and the shims have no way to the keeper but their
 * standard error, so what they say there of an end is read: whole lines, to the
 * letter. A program that writes such a line of itself lies about itself alone,
 * and what is taken from it is digits, and the few bytes that ids have. */
#include "cohort/ended.h"

#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cohort/tag.h"

#define PID_MAX  10
#define CODE_MAX 3
#define ID_LEN   16

struct reader {
    const char *line;
    size_t at, len;
};

/* Passes WORD if it stands next. */
static bool
pass(struct reader *r, const char *word)
{
    size_t n = strlen(word);

    if (r->len - r->at < n || memcmp(r->line + r->at, word, n) != 0) {
        return false;
    }
    r->at += n;
    return true;
}

/* Passes the bytes of SET that stand next, at most MOST; how many. */
static size_t
pass_set(struct reader *r, const char *set, size_t most)
{
    size_t from = r->at;

    while (r->at < r->len && r->at - from < most && r->line[r->at] != '\0' &&
           strchr(set, r->line[r->at]) != NULL) {
        r->at++;
    }
    return r->at - from;
}

/* A number of a few digits; -1: there is none. */
static int
pass_code(struct reader *r)
{
    size_t n = pass_set(r, "0123456789", CODE_MAX);
    int code = n > 0 ? 0 : -1;

    for (size_t i = r->at - n; i < r->at; i++) {
        code = code * 10 + (r->line[i] - '0');
    }
    return code;
}

/* A request's id, of exactly so many digits. */
static bool
pass_request(struct reader *r, struct ended *e)
{
    e->request = r->line + r->at;
    e->request_len = pass_set(r, "0123456789abcdef", ID_LEN);
    return e->request_len == ID_LEN;
}

/* What follows "copy PID is killed: ". */
static bool
killed(struct reader *r, struct ended *e)
{
    if (pass(r, "it was not ready in time")) {
        e->why = ENDED_LATE;
    } else if (pass(r, "its call is past its time")) {
        e->why = ENDED_DEADLINE;
    } else if (pass(r, "it is stopped")) {
        e->why = ENDED_FROZEN;
    } else {
        return false;
    }
    return !pass(r, " request=") || pass_request(r, e);
}

/* What follows "copy PID ": how it ended by itself. */
static bool
ended_itself(struct reader *r, struct ended *e)
{
    if (pass(r, "was ended by signal ")) {
        e->why = ENDED_SIGNAL;
        e->code = pass_code(r);
        if (!pass(r, " (")) {
            return false;
        }
        while (r->at < r->len && r->line[r->at] != ')') {
            r->at++; /* its name */
        }
        if (!pass(r, ")")) {
            return false;
        }
    } else if (pass(r, "exited with status ")) {
        e->why = ENDED_EXIT;
        e->code = pass_code(r);
    } else {
        return false;
    }
    if (pass(r, " in request ") && !pass_request(r, e)) {
        return false;
    }
    return e->code >= 0 &&
           (e->request || r->at == r->len || pass(r, " before it was ready"));
}

static bool
of_copy(struct reader *r, struct ended *e)
{
    e->pid = r->line + r->at;
    e->pid_len = pass_set(r, "0123456789", PID_MAX);
    return e->pid_len > 0 && pass(r, " ") &&
           (pass(r, "is killed: ") ? killed(r, e) : ended_itself(r, e));
}

/* Of a shim's command. */
static bool
of_command(struct reader *r, struct ended *e)
{
    struct tag tag;

    if (!tag_parse(r->line, r->len, &tag) || tag.len != 0 || !tag.request) {
        return false;
    }
    e->request = tag.request;
    e->request_len = tag.request_len;
    r->at = (size_t)(tag.request + tag.request_len - r->line);
    if (!pass(r, ": the command was killed: its time was over (process ")) {
        return false;
    }
    e->why = ENDED_DEADLINE;
    e->pid = r->line + r->at;
    e->pid_len = pass_set(r, "0123456789", PID_MAX);
    return e->pid_len > 0 && pass(r, ")");
}

bool
ended_parse(const char *line, size_t len, struct ended *ended)
{
    struct reader r = {line, 0, len};
    struct ended got = {.why = ENDED_N};
    bool is =
        pass(&r, "cardea: copy ") ? of_copy(&r, &got) : of_command(&r, &got);

    *ended = (struct ended){.why = ENDED_N};
    if (!is || r.at != len) {
        return false;
    }
    *ended = got;
    return true;
}

const char *
ended_name(enum ended_why why)
{
    static const char *const names[] = {
#define X(id, name) [ENDED_##id] = name,
        ENDED_WHY(X)
#undef X
    };

    return names[why];
}

void
ended_cause(const struct ended *ended, char out[ENDED_CAUSE_MAX])
{
    const char *name = ended_name(ended->why);

    if (ended->why == ENDED_SIGNAL) {
        const char *signal = sigabbrev_np(ended->code);
        snprintf(out, ENDED_CAUSE_MAX, "signal-%s", signal ? signal : "other");
    } else if (ended->why == ENDED_EXIT) {
        snprintf(out, ENDED_CAUSE_MAX, "exit-%d", ended->code);
    } else {
        snprintf(out, ENDED_CAUSE_MAX, "%s", name);
    }
}
