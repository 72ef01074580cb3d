/* The verbs that a running server answers: status and stop. */
#include "ctl/ctl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "base/world.h"
#include "ctl/server.h"

#define BODY_LIMIT (10 * NS_PER_SEC) /* without a byte */
#define EXIT_LIMIT (5 * NS_PER_SEC)  /* from its last word to its end */

/* The rest of the reply to ctl->out. */
static int
copy_body(struct ctl *ctl, struct server *server)
{
    char bytes[16384];

    for (;;) {
        struct pollfd p = {.fd = server->fd, .events = POLLIN};
        ssize_t n;

        if (poll(&p, 1, (int)(BODY_LIMIT / NS_PER_MS)) == 0) {
            fputs("cardea status: the server stopped answering\n", ctl->errors);
            return CTL_FAILED;
        }
        n = recv(server->fd, bytes, sizeof(bytes), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            fprintf(ctl->errors, "cardea status: %s\n", strerrordesc_np(errno));
            return CTL_FAILED;
        }
        if (n == 0) {
            return CTL_OK;
        }
        fwrite(bytes, 1, (size_t)n, ctl->out);
    }
}

int
ctl_status(struct ctl *ctl)
{
    struct server server;
    int status = server_find(ctl, "status", &server);

    if (status == CTL_OK) {
        status = server_ask(ctl, "status", &server,
                            ctl->as_json ? "status json" : "status");
    }
    if (status == CTL_OK) {
        status = copy_body(ctl, &server);
    }
    server_close(&server);
    return status;
}

/* Prints what the server waits for until its last word, "ended N": that goes
 * into *P_STATUS. false: the time is over, or it was killed. */
static bool
follow(struct ctl *ctl, struct server *server, uint64_t deadline, char *last,
       size_t size, int *p_status)
{
    for (;;) {
        char line[512];
        int rc = server_line(server, line, sizeof(line), deadline);

        if (rc <= 0) {
            *p_status = rc == 0 || errno != ETIMEDOUT ? CTL_STOPPED_WITH_ERRORS
                                                      : CTL_FAILED;
            return false;
        }
        if (strncmp(line, "ended ", 6) == 0) {
            *p_status = atoi(line + 6) & 0xff;
            return true;
        }
        fprintf(ctl->out, "%s\n", line);
        fflush(ctl->out);
        snprintf(last, size, "%s", line);
    }
}

static int
stop_server(struct ctl *ctl, struct server *server, uint64_t deadline)
{
    /* While it is connected its number is its own. */
    CLEAN_FD int pidfd = (int)syscall(SYS_pidfd_open, server->pid, 0);
    char last[512] = "waiting";
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int status =
        server_ask(ctl, "stop", server, ctl->now ? "stop now" : "stop");

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
        fprintf(ctl->errors,
                "cardea stop: still %s; cardea stop --now ends it at once\n",
                last);
    } else {
        fputs("cardea stop: the server was killed while it stopped; what it "
              "started may be left\n",
              ctl->errors);
    }
    return status;
}

int
ctl_stop(struct ctl *ctl)
{
    uint64_t now = world_real()->now(NULL);
    uint64_t deadline =
        ctl->wait_ns > UINT64_MAX - now ? UINT64_MAX : now + ctl->wait_ns;
    struct server server;
    int status = server_find(ctl, "stop", &server);

    if (status == CTL_OK) {
        status = stop_server(ctl, &server, deadline);
    }
    server_close(&server);
    return status;
}
