/* cardea top: asks a server for its numbers each second. The terminal is left
 * as it was found, by keys, signals and errors alike: signals are read, not
 * handled. */
#include "ctl/top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/util.h"
#include "base/world.h"
#include "ctl/ctl.h"
#include "ctl/fields.h"
#include "ctl/server.h"

#define TOP_LIMIT (5 * NS_PER_SEC) /* for one answer */
#define GAP       NS_PER_SEC

struct top {
    struct ctl *ctl;
    struct server server;
    struct fields f;
    struct top_sample now, before;
    struct top_screen screen;
    struct termios saved;
    sigset_t old_mask;
    int signal_fd;
};

/* --- Asking ------------------------------------------------------------- */

/* The list of the JSON object that a line belongs to; the names come in the
 * order of the answer. */
static const char *
list_of(const char *event)
{
    return strcmp(event, "listener") == 0 ? "listeners"
           : strcmp(event, "worker") == 0 ? "workers"
           : strcmp(event, "module") == 0 || strcmp(event, "door") == 0 ||
                   strcmp(event, "files") == 0
               ? "targets"
               : NULL;
}

static void
json_next(struct top *top, struct json *j, const char **p_list)
{
    const char *event = fields_text(&top->f, "event");
    const char *list = list_of(event);

    if (*p_list != NULL && (list == NULL || strcmp(list, *p_list) != 0)) {
        json_list_end(j);
    }
    if (list != NULL && (*p_list == NULL || strcmp(list, *p_list) != 0)) {
        json_list(j, list);
    }
    *p_list = list;
    json_object(j, list != NULL ? NULL : event);
    fields_json(&top->f, j);
    json_object_end(j);
}

/* One more sample, into now, or as a line of JSON. An exit status. */
static int
look(struct top *top)
{
    uint64_t now = world_real()->now(NULL);
    char line[FIELDS_LINE_MAX + 1];
    const char *list = NULL;
    struct json j;
    int rc, status;

    if (top->server.fd < 0 && !server_again(&top->server)) {
        fputs("cardea top: the server has ended\n", top->ctl->errors);
        return CTL_FAILED;
    }
    status = server_ask(top->ctl, "top", &top->server, "numbers");
    if (status != CTL_OK) {
        return status;
    }
    json_init(&j, top->ctl->out);
    if (top->ctl->as_json) {
        json_object(&j, NULL);
    }
    while ((rc = server_line(&top->server, line, sizeof(line),
                             now + TOP_LIMIT)) > 0) {
        if (!fields_parse(&top->f, line)) {
            continue;
        }
        if (top->ctl->as_json) {
            json_next(top, &j, &list);
        } else if (!top_add(&top->now, &top->f)) {
            fputs("cardea top: out of memory\n", top->ctl->errors);
            return CTL_FAILED;
        }
    }
    if (top->ctl->as_json) {
        json_object_end(&j);
        fputc('\n', top->ctl->out);
    }
    server_close(&top->server);
    if (rc < 0) {
        return server_broke_off(top->ctl, "top");
    }
    top->now.at = world_real()->now(NULL);
    return CTL_OK;
}

/* The sample before is let go; the next is compared with this one. */
static void
step(struct top *top)
{
    top_free(&top->before);
    top->before = top->now;
    memset(&top->now, 0, sizeof(top->now));
}

/* --- Without a terminal -------------------------------------------------- */

static int
print_lines(struct top *top)
{
    uint64_t until = world_real()->now(NULL) +
                     (top->ctl->time_ns == UINT64_MAX ? 0 : top->ctl->time_ns);
    int status;

    for (;;) {
        status = look(top);
        if (status == CTL_OK && !top->ctl->as_json) {
            top_compare(&top->now, &top->before, &top->screen, "");
            top_draw(&top->now, &top->screen, top->ctl->out);
        }
        step(top);
        if (status != CTL_OK || fflush(top->ctl->out) != 0 ||
            world_real()->now(NULL) + GAP > until) {
            return status;
        }
        poll(NULL, 0, (int)(GAP / NS_PER_MS));
    }
}

/* --- On a terminal ------------------------------------------------------- */

static void
measure(struct top *top)
{
    struct winsize size;

    top->screen.rows = 24;
    top->screen.columns = 80;
    if (ioctl(fileno(top->ctl->out), TIOCGWINSZ, &size) == 0 &&
        size.ws_row > 0 && size.ws_col > 0) {
        top->screen.rows = size.ws_row;
        top->screen.columns = size.ws_col;
    }
}

static void
enter(struct top *top)
{
    struct termios raw = top->saved;

    raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    /* The other screen, no cursor, no wrap at the edge. */
    fputs("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J", top->ctl->out);
}

static void
leave(struct top *top)
{
    fputs("\x1b[?7h\x1b[?25h\x1b[?1049l", top->ctl->out);
    fflush(top->ctl->out);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &top->saved);
}

/* A signal that was read. false: it ends the program. */
static bool
take_signal(struct top *top)
{
    struct signalfd_siginfo info;

    if (read(top->signal_fd, &info, sizeof(info)) != sizeof(info)) {
        return true;
    }
    if (info.ssi_signo == SIGTSTP) {
        leave(top);
        raise(SIGSTOP);
        enter(top);
    } else if (info.ssi_signo == SIGWINCH) {
        fputs("\x1b[2J", top->ctl->out);
    }
    return info.ssi_signo == SIGTSTP || info.ssi_signo == SIGWINCH;
}

/* Waits for keys until UNTIL, and draws after each. false: leave. */
static bool
wait_keys(struct top *top, uint64_t until)
{
    struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                          {.fd = top->signal_fd, .events = POLLIN}};

    for (;;) {
        uint64_t now = world_real()->now(NULL);
        char key;

        if (now >= until) {
            return true;
        }
        if (poll(p, 2, (int)((until - now) / NS_PER_MS) + 1) <= 0) {
            continue;
        }
        if (p[1].revents != 0 && !take_signal(top)) {
            return false;
        }
        if (p[0].revents != 0 &&
            (read(STDIN_FILENO, &key, 1) != 1 || !top_key(&top->screen, key))) {
            return false;
        }
        measure(top);
        top_draw(&top->before, &top->screen, top->ctl->out);
        fflush(top->ctl->out);
    }
}

static int
show(struct top *top)
{
    uint64_t end = top->ctl->time_ns == UINT64_MAX
                       ? UINT64_MAX
                       : world_real()->now(NULL) + top->ctl->time_ns;

    for (;;) {
        uint64_t now = world_real()->now(NULL);
        char clock[16];
        time_t at = time(NULL);
        struct tm tm;
        int status = CTL_OK;

        if (now >= end) {
            return CTL_OK;
        }
        if (!top->screen.held) {
            status = look(top);
        }
        if (status != CTL_OK) {
            return status;
        }
        measure(top);
        if (!top->screen.held) {
            strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&at, &tm));
            top_compare(&top->now, &top->before, &top->screen, clock);
            step(top);
        }
        top_draw(&top->before, &top->screen, top->ctl->out);
        fflush(top->ctl->out);
        if (!wait_keys(top, MIN_OF(now + GAP, end))) {
            return CTL_OK;
        }
    }
}

static int
run_terminal(struct top *top)
{
    sigset_t mask;
    int status;

    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    sigaddset(&mask, SIGTSTP);
    sigaddset(&mask, SIGWINCH);
    sigprocmask(SIG_BLOCK, &mask, &top->old_mask);
    top->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    enter(top);
    status = show(top);
    leave(top);
    if (top->signal_fd >= 0) {
        close(top->signal_fd);
    }
    sigprocmask(SIG_SETMASK, &top->old_mask, NULL);
    return status;
}

int
ctl_top(struct ctl *ctl)
{
    CLEAN_FREE struct top *top = calloc(1, sizeof(*top));
    int status;

    if (top == NULL) {
        fputs("cardea top: out of memory\n", ctl->errors);
        return CTL_FAILED;
    }
    top->ctl = ctl;
    top->screen.order = TOP_BY_BUSY;
    top->screen.columns = 100;
    top->screen.is_terminal = !ctl->as_json && isatty(fileno(ctl->out)) &&
                              tcgetattr(STDIN_FILENO, &top->saved) == 0;
    status = server_find(ctl, "top", false, &top->server);
    if (status == CTL_OK) {
        status = top->screen.is_terminal ? run_terminal(top) : print_lines(top);
    }
    server_close(&top->server);
    top_free(&top->now);
    top_free(&top->before);
    return status;
}
