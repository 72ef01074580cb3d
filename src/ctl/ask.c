/* The verbs that a running server answers: status, reload and stop. */
#include "ctl/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/plain.h"
#include "base/util.h"
#include "base/world.h"
#include "ctl/server.h"

#define BODY_LIMIT   (10 * NS_PER_SEC) /* from its first byte to its last */
#define BODY_MAX     (16u << 20)
#define RELOAD_LIMIT (60 * NS_PER_SEC)
#define QUIET        (500 * NS_PER_MS) /* a stop so short tells nothing */
#define TELL_GAP     (200 * NS_PER_MS) /* between lines of a longer one */
#define EXIT_LIMIT   (5 * NS_PER_SEC)  /* from its last word to its end */

/* A line of the reply, for people: at the end of its room it is broken. */
static void
show(FILE *out, const char *line)
{
    plain_put(out, line);
    fputc('\n', out);
}

/* What completion may be given: a shell expands what it gets. */
static bool
is_name(const char *s)
{
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(s) &&
           s[0] != '-' && s[0] != '\0';
}

/* The rest of the reply to ctl->out. It is as long as the server makes it, if
 * it makes it in time. */
static int
copy_body(struct ctl *ctl, struct server *server)
{
    uint64_t deadline = world_real()->now(NULL) + BODY_LIMIT;
    CLEAN_FREE char *line = malloc(BODY_MAX);
    int rc;

    if (line == NULL) {
        fputs("cardea status: out of memory\n", ctl->errors);
        return CTL_FAILED;
    }
    for (size_t n = 0; n < BODY_MAX; n += strlen(line) + 1) {
        rc = server_line(server, line, BODY_MAX, deadline);
        if (rc == 0) {
            return CTL_OK;
        }
        if (rc < 0) {
            return server_broke_off(ctl, "status");
        }
        if (ctl->as_modules) {
            line[strcspn(line, " ")] = '\0';
        }
        if (!ctl->as_modules || is_name(line)) {
            show(ctl->out, line);
        }
    }
    fputs("cardea status: the answer is longer than any server's\n",
          ctl->errors);
    return CTL_FAILED;
}

int
ctl_status(struct ctl *ctl)
{
    struct server server;
    int status = server_find(ctl, "status", false, &server);

    if (status == CTL_OK) {
        status = server_ask(ctl, "status", &server,
                            ctl->as_modules ? "modules"
                            : ctl->as_json  ? "status json"
                                            : "status");
    }
    if (status == CTL_OK) {
        status = copy_body(ctl, &server);
    }
    server_close(&server);
    return status;
}

/* Prints what the server waits for, once that takes long, until its last word,
 * "ended N": that goes into *P_STATUS. false: the time is over, or it was
 * killed. */
static bool
follow(struct ctl *ctl, struct server *server, uint64_t deadline, char *last,
       size_t size, int *p_status)
{
    uint64_t tell_at = world_real()->now(NULL) + QUIET;
    bool is_told = true;

    for (;;) {
        char line[512];
        int rc;

        if (!is_told && tell_at < deadline &&
            !server_readable(server, tell_at)) {
            show(ctl->out, last);
            fflush(ctl->out);
            is_told = true;
            tell_at = world_real()->now(NULL) + TELL_GAP;
        }
        rc = server_line(server, line, sizeof(line), deadline);
        if (rc <= 0) {
            *p_status = rc == 0 || errno != ETIMEDOUT ? CTL_STOPPED_WITH_ERRORS
                                                      : CTL_FAILED;
            return false;
        }
        if (strncmp(line, "ended ", 6) == 0) {
            *p_status = atoi(line + 6) & 0xff;
            return true;
        }
        is_told = is_told && strcmp(line, last) == 0;
        snprintf(last, size, "%s", line);
    }
}

/* Which one is stopped, before it is. */
static void
name_server(struct ctl *ctl, const struct server *server)
{
    fputs("stopping ", ctl->out);
    plain_put(ctl->out, server->file);
    fprintf(ctl->out, " (pid %d", (int)server->pid);
    if (server->is_foreign) {
        fprintf(ctl->out, " of user %u", (unsigned)server->uid);
    }
    fputs(")\n", ctl->out);
    fflush(ctl->out);
}

static int
stop_server(struct ctl *ctl, struct server *server, uint64_t deadline)
{
    /* While it is connected its number is its own. */
    CLEAN_FD int pidfd = (int)syscall(SYS_pidfd_open, server->pid, 0);
    char last[512] = "waiting";
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int status;

    name_server(ctl, server);
    status = server_ask(ctl, "stop", server, ctl->now ? "stop now" : "stop");
    if (status != CTL_OK) {
        return status;
    }
    if (follow(ctl, server, deadline, last, sizeof(last), &status)) {
        if (pidfd >= 0) {
            poll(&p, 1, (int)(EXIT_LIMIT / NS_PER_MS));
        }
        fprintf(ctl->out, "stopped (pid %d, status %d)\n", (int)server->pid,
                status);
    } else if (status == CTL_FAILED) {
        fputs("cardea stop: still ", ctl->errors);
        plain_put(ctl->errors, last);
        fprintf(ctl->errors, "; cardea stop --now%s%s ends it at once\n",
                ctl->file != NULL ? " -f " : "",
                ctl->file != NULL ? ctl->file : "");
    } else {
        fputs("cardea stop: the server was killed while it stopped; what it "
              "started may be left\n",
              ctl->errors);
    }
    return status;
}

/* What the server says of a reload: mistakes go where `check` puts them. */
static int
copy_reload(struct ctl *ctl, struct server *server)
{
    CLEAN_FREE char *line = malloc(BODY_MAX);
    uint64_t deadline = world_real()->now(NULL) + RELOAD_LIMIT;
    int status = CTL_FAILED;
    bool first = true;
    int rc;

    while (line != NULL &&
           (rc = server_line(server, line, BODY_MAX, deadline)) > 0) {
        if (first && strcmp(line, "refused") == 0) {
            status = CTL_CONFIG;
        } else if (first) {
            status = CTL_OK;
            show(ctl->out, line);
        } else {
            show(ctl->errors, line);
        }
        first = false;
    }
    if (first) {
        fprintf(ctl->errors, "cardea reload: %s\n",
                line == NULL ? "out of memory"
                             : "the server did not say how it ended");
    }
    return status;
}

int
ctl_reload(struct ctl *ctl)
{
    struct server server;
    int status = server_find(ctl, "reload", true, &server);

    if (status != CTL_OK && ctl->file != NULL &&
        ctl_check(ctl, ctl->file) == CTL_CONFIG) {
        status = CTL_CONFIG; /* perhaps it was found in another folder */
    }
    if (status == CTL_OK) {
        status = server_ask(ctl, "reload", &server, "reload");
    }
    if (status == CTL_OK) {
        status = copy_reload(ctl, &server);
    }
    server_close(&server);
    return status;
}

int
ctl_stop(struct ctl *ctl)
{
    uint64_t now = world_real()->now(NULL);
    uint64_t deadline =
        ctl->wait_ns > UINT64_MAX - now ? UINT64_MAX : now + ctl->wait_ns;
    struct server server;
    int status = server_find(ctl, "stop", true, &server);

    if (status == CTL_OK) {
        status = stop_server(ctl, &server, deadline);
    }
    server_close(&server);
    return status;
}
