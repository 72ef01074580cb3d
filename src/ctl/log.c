/* cardea log: what the server wrote lately, and writes from now on. */
#include "ctl/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/log.h"
#include "base/plain.h"
#include "base/util.h"
#include "base/world.h"
#include "ctl/fields.h"
#include "ctl/server.h"

#define LOG_LIMIT (10 * NS_PER_SEC)

static int
level_of(const char *word)
{
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        if (strcmp(log_level_name((enum log_level)i), word) == 0) {
            return i;
        }
    }
    return -1;
}

static bool
is_wanted(const struct ctl *ctl, const struct fields *f)
{
    if (ctl->module != NULL &&
        strcmp(fields_text(f, "module"), ctl->module) != 0) {
        return false;
    }
    if (ctl->event != NULL &&
        strcmp(fields_text(f, "event"), ctl->event) != 0) {
        return false;
    }
    if (ctl->request != NULL &&
        strcmp(fields_text(f, "request"), ctl->request) != 0 &&
        strcmp(fields_text(f, "id"), ctl->request) != 0) {
        return false;
    }
    return ctl->level == NULL ||
           level_of(fields_text(f, "level")) >= level_of(ctl->level);
}

static void
show(const struct ctl *ctl, const struct fields *f, const char *line)
{
    struct json j;

    if (!ctl->as_json) {
        plain_put(ctl->out, line);
        fputc('\n', ctl->out);
        return;
    }
    json_init(&j, ctl->out);
    json_object(&j, NULL);
    fields_json(f, &j);
    json_object_end(&j);
    fputc('\n', ctl->out);
}

/* Lines until the server ends, or without --follow until the last. */
static int
copy_lines(struct ctl *ctl, struct server *server)
{
    uint64_t deadline =
        ctl->follow ? UINT64_MAX : world_real()->now(NULL) + LOG_LIMIT;
    CLEAN_FREE struct fields *f = malloc(sizeof(*f));
    char line[FIELDS_LINE_MAX + 1];
    int rc;

    if (f == NULL) {
        fputs("cardea log: out of memory\n", ctl->errors);
        return CTL_FAILED;
    }
    while ((rc = server_line(server, line, sizeof(line), deadline)) > 0) {
        if (fields_parse(f, line) && is_wanted(ctl, f)) {
            show(ctl, f, line);
        }
        if (ctl->follow && server->pos == server->have &&
            fflush(ctl->out) != 0) {
            return CTL_FAILED; /* who reads has gone */
        }
    }
    return rc < 0 ? server_broke_off(ctl, "log") : CTL_OK;
}

int
ctl_log(struct ctl *ctl)
{
    struct server server;
    int status;

    if (ctl->level != NULL && level_of(ctl->level) < 0) {
        fprintf(ctl->errors,
                "cardea log: no level %s; there are debug, info, warn and "
                "error\n",
                ctl->level);
        return CTL_USAGE;
    }
    status = server_find(ctl, "log", false, &server);
    if (status == CTL_OK) {
        status =
            server_ask(ctl, "log", &server, ctl->follow ? "log follow" : "log");
    }
    if (status == CTL_OK) {
        status = copy_lines(ctl, &server);
    }
    server_close(&server);
    return status;
}
