/* A peer is hostile until it proves otherwise, and even root's program may
 * hang. So: few peers at a time, a line of at most 4 KiB, two seconds without
 * progress and it is dropped; a reply is made whole in memory and sent as the
 * peer takes it. When all places are taken, the peer that has been silent
 * longest makes room; who has its question ready is answered at once, so a
 * flood of silent connections keeps nobody out.
 *
 * A status waits (LOOK_PATIENCE at most) until every worker has published fresh
 * counters. A stop is answered until the end: the connection is the sign that
 * the server still lives. */
#include "cohort/control.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/rights.h"
#include "base/util.h"
#include "cohort/asked.h"
#include "cohort/keeper_priv.h"
#include "cohort/numbers.h"
#include "cohort/reload.h"
#include "cohort/status.h"

#define LONG_REPLY    (64u << 10) /* whose memory is given back */
#define PEERS         16
#define PATIENCE      (2 * NS_PER_SEC)
#define LOOK_PATIENCE (200 * NS_PER_MS)
#define TELL_GAP      (250 * NS_PER_MS)
#define LISTEN_BYTES  65536 /* of the log at once */
#define LOOKS_OPEN    4     /* unanswered: a worker that does not read */

enum peer_state {
    PEER_NONE,
    PEER_ASKS,    /* its line is not whole */
    PEER_LOOKS,   /* the workers are asked for fresh numbers */
    PEER_TAKES,   /* the reply leaves, then it is closed */
    PEER_FOLLOWS, /* a stop: hears of it until the end */
    PEER_LISTENS, /* to the log: gets each line as it comes */
    PEER_RELOADS, /* waits until that has ended */
};

struct control_peer {
    struct keeper_source source; /* owner: the keeper */
    enum peer_state state;
    enum control_asked asked;
    uint64_t came, deadline;
    struct history_mark heard; /* of the log */
    uint64_t ticket;           /* of a reload */
    char *line;
    size_t len;
    char *out; /* what it has not taken yet */
    size_t out_len, out_pos;
};

struct control {
    struct keeper_source listener;
    struct control_peer peers[PEERS];
    char path[PATH_MAX + 16];
    int error;          /* why there is no listener */
    uint64_t listen_at; /* out of descriptors: again then; else UINT64_MAX */
    uint64_t tell_at;   /* followers look again then */
    char told[256];     /* to them: what the stop waits for */
};

static void
log_control(struct keeper *k, enum log_level level, const char *event,
            int error)
{
    struct log_line line;

    keeper_log_begin(k, &line, level, event);
    log_text(&line, "path", k->control->path);
    log_errno(&line, error);
    keeper_log_end(k, &line);
}

/* --- Peers ------------------------------------------------------------ */

/* Unread bytes would make the close a reset, which can take the reply along. */
static void
drain(int fd)
{
    char dropped[4096];

    for (int i = 0; i < 16; i++) {
        if (recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT) <= 0) {
            return;
        }
    }
}

static void
drop(struct keeper *k, struct control_peer *p)
{
    bool was_long = p->out_len >= LONG_REPLY;

    if (p->source.fd >= 0) {
        drain(p->source.fd);
    }
    keeper_unwatch(k, &p->source);
    free(p->line);
    free(p->out);
    if (was_long) {
        (void)malloc_trim(0); /* the state of many modules: as much and more */
    }
    p->line = p->out = NULL;
    p->out_len = p->out_pos = 0; /* or its next owner sends what is no text */
    p->state = PEER_NONE;
    p->deadline = UINT64_MAX;
}

static void
want(struct keeper *k, struct control_peer *p, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = &p->source}};

    epoll_ctl(k->epoll_fd, EPOLL_CTL_MOD, p->source.fd, &event);
}

/* Sends what it takes; at the end of a reply it is closed. */
static void
push(struct keeper *k, struct control_peer *p)
{
    while (p->out_pos < p->out_len) {
        ssize_t n = send(p->source.fd, p->out + p->out_pos,
                         p->out_len - p->out_pos, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            want(k, p, EPOLLOUT);
            return;
        }
        if (n < 0 && errno != EINTR) {
            drop(k, p);
            return;
        }
        if (n > 0) {
            p->out_pos += (size_t)n;
            if (p->state != PEER_LISTENS) {
                p->deadline = keeper_now(k) + PATIENCE;
            }
        }
    }
    if (p->state == PEER_TAKES) {
        drop(k, p);
        return;
    }
    p->out_len = p->out_pos = 0;
    p->deadline = UINT64_MAX;
    want(k, p, 0); /* its hang-up is told all the same */
}

/* TEXT (taken, may be NULL: no memory) goes out behind what is still there. */
static void
say_taken(struct keeper *k, struct control_peer *p, char *text, size_t len)
{
    char *both;

    if (text == NULL) {
        drop(k, p);
        return;
    }
    if (p->out_pos == p->out_len) {
        free(p->out);
        p->out = text;
        p->out_len = len;
        p->out_pos = 0;
    } else {
        both = realloc(p->out, p->out_len + len);
        if (both != NULL) {
            memcpy(both + p->out_len, text, len);
            p->out = both;
            p->out_len += len;
        }
        free(text);
    }
    /* Who listens to the log may stop to read it: a page that is looked at. */
    p->deadline =
        p->state == PEER_LISTENS ? UINT64_MAX : keeper_now(k) + PATIENCE;
    push(k, p);
}

static void
say(struct keeper *k, struct control_peer *p, const char *text)
{
    say_taken(k, p, strdup(text), strlen(text));
}

/* --- Answers ---------------------------------------------------------- */

static void
refuse(struct keeper *k, struct control_peer *p, const char *why)
{
    char text[ASKED_WHY_MAX + 16];

    snprintf(text, sizeof(text), "error %s\n", why);
    p->state = PEER_TAKES;
    say(k, p, text);
}

static void
answer_help(struct keeper *k, struct control_peer *p)
{
    p->state = PEER_TAKES;
    say(k, p,
        "ok\n"
#define X(id, words, text) words ": " text "\n"
        CONTROL_ASKED(X)
#undef X
    );
}

/* Lines of the log that P has not heard, of about MOST bytes. */
static void
put_history(const struct keeper *k, struct control_peer *p, size_t most,
            FILE *out)
{
    char line[HISTORY_LINE];
    size_t len;

    for (size_t n = 0; n < most; n += len) {
        len = history_next(&k->history, &p->heard, line);
        if (len == 0) {
            return;
        }
        fwrite(line, 1, len, out);
    }
}

static void
answer_status(struct keeper *k, struct control_peer *p)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    p->state = PEER_TAKES;
    if (out == NULL) {
        drop(k, p);
        return;
    }
    fputs("ok\n", out);
    if (p->asked == ASKED_STATUS_JSON) {
        status_json(k, out);
    } else if (p->asked == ASKED_MODULES) {
        status_modules(k, out);
    } else if (p->asked == ASKED_PROCESSES) {
        status_processes(k, out);
    } else if (p->asked == ASKED_NUMBERS) {
        numbers_write(k, out);
    } else if (p->asked == ASKED_LOG) {
        put_history(k, p, SIZE_MAX, out);
    } else if (p->asked == ASKED_CONFIGURATION && k->options.text != NULL) {
        fputs(k->options.text, out);
    } else if (p->asked == ASKED_CONFIGURATION) {
        k->options.print(k->conf, out);
    } else {
        status_text(k, out);
    }
    if (fclose(out) != 0) {
        free(text);
        text = NULL;
    }
    say_taken(k, p, text, len);
}

static bool
has_looked(const struct keeper_worker *w)
{
    return w->unit.state != RESTART_RUNNING || w->looks_done == w->looks_asked;
}

static bool
all_have_looked(const struct keeper *k)
{
    for (int i = 0; i < k->n_workers; i++) {
        if (!has_looked(&k->workers[i])) {
            return false;
        }
    }
    return true;
}

static void
begin_status(struct keeper *k, struct control_peer *p)
{
    static const struct worker_message look = {.kind = WORKER_LOOK};

    for (int i = 0; i < k->n_workers; i++) {
        struct keeper_worker *w = &k->workers[i];

        if (w->ready && w->unit.state == RESTART_RUNNING &&
            w->looks_asked - w->looks_done < LOOKS_OPEN &&
            worker_send(w, &look, -1) == 0) {
            w->looks_asked++;
        }
    }
    p->state = PEER_LOOKS;
    p->deadline = keeper_now(k) + LOOK_PATIENCE;
    want(k, p, 0);
    if (all_have_looked(k)) {
        answer_status(k, p);
    }
}

static void
begin_stop(struct keeper *k, struct control_peer *p)
{
    p->state = PEER_FOLLOWS;
    p->deadline = UINT64_MAX;
    want(k, p, 0);
    say(k, p, "ok\n");
    if (k->phase == PHASE_RUN) {
        stop_begin(k, "control-stop",
                   p->asked == ASKED_STOP_NOW ? 0 : k->conf->grace_ns);
    }
    if (p->asked == ASKED_STOP_NOW) {
        stop_force(k, "control-stop-now");
    }
    k->control->told[0] = '\0'; /* this one has heard nothing yet */
}

static void
answer_reload(struct keeper *k, struct control_peer *p)
{
    char *text = NULL;
    int n;

    if (k->reload.error != NULL) {
        n = asprintf(&text, "refused\n%s\n", k->reload.error);
    } else {
        n = asprintf(&text,
                     "reloaded generation=%llu modules-started=%llu "
                     "modules-changed=%llu modules-ended=%llu\n",
                     (unsigned long long)k->generation,
                     (unsigned long long)k->reload.n_comes,
                     (unsigned long long)k->reload.n_changes,
                     (unsigned long long)k->reload.n_goes);
    }
    p->state = PEER_TAKES;
    say_taken(k, p, n < 0 ? NULL : text, n < 0 ? 0 : (size_t)n);
}

void
control_reloaded(struct keeper *k)
{
    for (int i = 0; k->control != NULL && i < PEERS; i++) {
        struct control_peer *p = &k->control->peers[i];

        if (p->state == PEER_RELOADS && reload_is_done(k, p->ticket)) {
            answer_reload(k, p);
        }
    }
}

static void
begin_reload(struct keeper *k, struct control_peer *p)
{
    if (k->phase != PHASE_RUN) {
        refuse(k, p, "the server is stopping");
        return;
    }
    p->state = PEER_RELOADS;
    p->deadline = UINT64_MAX;
    p->ticket = reload_ask(k);
    want(k, p, 0);
    say(k, p, "ok\n");
}

/* Says in the log who asked for something that changes the server. */
static void
log_asked(struct keeper *k, const struct control_peer *p)
{
    struct ucred who = {0};
    socklen_t len = sizeof(who);
    struct log_line line;

    getsockopt(p->source.fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
    keeper_log_begin(k, &line, LOG_INFO, "control");
    log_text(&line, "asked", control_words(p->asked));
    log_num(&line, "uid", who.uid);
    log_num(&line, "pid", (uint64_t)who.pid);
    keeper_log_end(k, &line);
}

static void
answer(struct keeper *k, struct control_peer *p, size_t line_len)
{
    char why[ASKED_WHY_MAX];

    p->asked = control_asked(p->line, line_len, why);
    switch (p->asked) {
    case ASKED_NOTHING:
        refuse(k, p, why);
        return;
    case ASKED_HELP:
        answer_help(k, p);
        return;
    case ASKED_STATUS:
    case ASKED_STATUS_JSON:
    case ASKED_NUMBERS:
        begin_status(k, p);
        return;
    case ASKED_CONFIGURATION:
    case ASKED_PROCESSES:
    case ASKED_LOG:
    case ASKED_MODULES: /* no worker's numbers are needed */
        answer_status(k, p);
        return;
    case ASKED_LOG_FOLLOW:
        p->state = PEER_LISTENS;
        want(k, p, 0);
        say(k, p, "ok\n");
        return;
    case ASKED_RELOAD:
        log_asked(k, p);
        begin_reload(k, p);
        return;
    case ASKED_STOP:
    case ASKED_STOP_NOW:
        log_asked(k, p);
        begin_stop(k, p);
        return;
    }
}

/* --- Events ----------------------------------------------------------- */

static void
listen_to(struct keeper *k, struct control_peer *p)
{
    ssize_t n = recv(p->source.fd, p->line + p->len, ASKED_LINE_MAX - p->len,
                     MSG_DONTWAIT);
    const char *end;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n < 0 || (n == 0 && p->len == 0)) {
        drop(k, p);
        return;
    }
    p->len += (size_t)n;
    end = memchr(p->line, '\n', p->len);
    if (end != NULL) {
        answer(k, p, (size_t)(end - p->line));
    } else if (n == 0) {
        answer(k, p, p->len); /* it ended without a newline: that will do */
    } else if (p->len == ASKED_LINE_MAX) {
        refuse(k, p, "the line is longer than 4096 bytes");
    }
}

static void
peer_ready(struct keeper_source *source, uint32_t events)
{
    struct control_peer *p = (struct control_peer *)source;
    struct keeper *k = source->owner;

    if (p->state == PEER_ASKS) {
        listen_to(k, p);
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        drop(k, p);
    } else if (events & EPOLLOUT) {
        push(k, p);
    }
}

/* The peer that is longest in STATE (PEER_NONE: any free place), or NULL. */
static struct control_peer *
oldest_in(struct keeper *k, enum peer_state state)
{
    struct control_peer *oldest = NULL;

    for (int i = 0; i < PEERS; i++) {
        struct control_peer *p = &k->control->peers[i];

        if (p->state == state && (oldest == NULL || p->came < oldest->came)) {
            oldest = p;
        }
    }
    return oldest;
}

/* A free place, made if need be: of who has asked nothing; of who waits for
 * fresh numbers, and gets those that there are; of who does not read. NULL:
 * all follow a stop. */
static struct control_peer *
find_place(struct keeper *k)
{
    static const enum peer_state order[] = {PEER_NONE, PEER_ASKS, PEER_LOOKS,
                                            PEER_TAKES, PEER_LISTENS};
    struct control_peer *p = NULL;

    for (size_t i = 0; p == NULL && i < ARRAY_LEN(order); i++) {
        p = oldest_in(k, order[i]);
    }
    if (p != NULL && p->state == PEER_LOOKS) {
        answer_status(k, p);
    }
    if (p != NULL && p->state != PEER_NONE) {
        drop(k, p);
    }
    return p;
}

/* The name of the program behind FD into NAME, where the kernel can prove that
 * the process is still the one that connected. */
static void
program_of(int fd, pid_t pid, char name[64])
{
    name[0] = '\0';
#ifdef SO_PEERPIDFD
    CLEAN_FD int pidfd = -1;
    socklen_t len = sizeof(pidfd);
    struct pollfd ended;
    char path[64];
    FILE *f;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) < 0) {
        pidfd = -1; /* before Linux 6.5 */
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    f = fopen(path, "re");
    if (f == NULL) {
        return;
    }
    if (fgets(name, 64, f) == NULL) {
        name[0] = '\0';
    }
    name[strcspn(name, "\n")] = '\0';
    fclose(f);
    ended = (struct pollfd){.fd = pidfd, .events = POLLIN};
    if (poll(&ended, 1, 0) != 0) {
        name[0] = '\0'; /* its number may be another's by now */
    }
#endif
}

/* Root, and whoever we are, may ask. The mode of the socket says so already;
 * this holds where that was changed, or the descriptor came another way. */
static bool
may_ask(struct keeper *k, int fd)
{
    static const char no[] = "error only root and the user that runs this "
                             "server may ask\n";
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof(who);
    struct log_line line;
    char name[64];

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
        (who.uid == 0 || who.uid == geteuid())) {
        return true;
    }
    program_of(fd, who.pid, name);
    keeper_log_begin(k, &line, LOG_WARN, "control-refused");
    log_num(&line, "uid", who.uid);
    log_num(&line, "pid", (uint64_t)who.pid);
    if (name[0] != '\0') {
        log_text(&line, "program", name);
    }
    keeper_log_end(k, &line);
    send(fd, no, sizeof(no) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    drain(fd);
    return false;
}

static void
welcome(struct keeper *k, int take_fd)
{
    static const char busy[] = "error too many ask at the same time\n";
    struct control_peer *p;

    if (!may_ask(k, take_fd)) {
        close(take_fd);
        return;
    }
    p = find_place(k);
    if (p != NULL) {
        p->line = malloc(ASKED_LINE_MAX);
    }
    if (p == NULL || p->line == NULL) {
        send(take_fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        drain(take_fd);
        close(take_fd);
        return;
    }
    p->source = (struct keeper_source){take_fd, peer_ready, k};
    p->state = PEER_ASKS;
    p->came = keeper_now(k);
    p->deadline = p->came + PATIENCE;
    p->len = p->out_len = p->out_pos = 0;
    p->heard = (struct history_mark){0};
    if (keeper_watch(k, &p->source, EPOLLIN) < 0) {
        drop(k, p);
        return;
    }
    listen_to(k, p); /* most have their question ready */
}

static void
listen_events(struct keeper *k, uint32_t events)
{
    struct keeper_source *source = &k->control->listener;
    struct epoll_event event = {.events = events, .data = {.ptr = source}};

    epoll_ctl(k->epoll_fd, EPOLL_CTL_MOD, source->fd, &event);
}

static void
listener_ready(struct keeper_source *source, uint32_t events)
{
    struct keeper *k = source->owner;
    int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0) {
        welcome(k, fd);
    } else if (errno == EMFILE || errno == ENFILE) {
        /* Level-triggered: it would call for ever. */
        listen_events(k, 0);
        k->control->listen_at = keeper_now(k) + NS_PER_SEC / 10;
    }
}

void
control_looked(struct keeper *k)
{
    if (k->control == NULL || !all_have_looked(k)) {
        return;
    }
    for (int i = 0; i < PEERS; i++) {
        if (k->control->peers[i].state == PEER_LOOKS) {
            answer_status(k, &k->control->peers[i]);
        }
    }
}

static void
tell_followers(struct keeper *k, uint64_t now)
{
    struct control *c = k->control;
    char text[sizeof(c->told)];

    if (k->phase == PHASE_RUN) {
        return;
    }
    c->tell_at = now + TELL_GAP;
    status_waiting(k, text, sizeof(text));
    if (strcmp(text, c->told) == 0) {
        return;
    }
    memcpy(c->told, text, sizeof(text));
    for (int i = 0; i < PEERS; i++) {
        struct control_peer *p = &c->peers[i];

        /* Who does not take the last line needs no newer one. */
        if (p->state == PEER_FOLLOWS && p->out_len == p->out_pos) {
            say(k, p, text);
        }
    }
}

/* Who listens to the log, and has taken all so far, gets what came since. What
 * one reads too slowly is overwritten meanwhile, and costs no memory. */
static void
tell_listeners(struct keeper *k)
{
    for (int i = 0; i < PEERS; i++) {
        struct control_peer *p = &k->control->peers[i];
        char *text = NULL;
        size_t len = 0;
        FILE *out;

        if (p->state != PEER_LISTENS || p->out_pos < p->out_len) {
            continue;
        }
        out = open_memstream(&text, &len);
        if (out == NULL) {
            drop(k, p);
            continue;
        }
        put_history(k, p, LISTEN_BYTES, out);
        if (fclose(out) != 0 || len == 0) {
            free(text);
        } else {
            say_taken(k, p, text, len);
        }
    }
}

void
control_tick(struct keeper *k, uint64_t now)
{
    if (k->control == NULL) {
        return;
    }
    if (k->control->listen_at <= now) {
        k->control->listen_at = UINT64_MAX;
        listen_events(k, EPOLLIN);
    }
    for (int i = 0; i < PEERS; i++) {
        struct control_peer *p = &k->control->peers[i];

        if (p->state == PEER_NONE || p->deadline > now) {
            continue;
        }
        if (p->state == PEER_LOOKS) {
            answer_status(k, p); /* with what there is */
        } else {
            drop(k, p);
        }
    }
    tell_followers(k, now);
    tell_listeners(k);
}

uint64_t
control_deadline(const struct keeper *k)
{
    const struct control *c = k->control;
    uint64_t first = c != NULL ? c->listen_at : UINT64_MAX;

    for (int i = 0; c != NULL && i < PEERS; i++) {
        if (c->peers[i].state != PEER_NONE) {
            first = MIN_OF(first, c->peers[i].deadline);
        }
        if (c->peers[i].state == PEER_FOLLOWS) {
            first = MIN_OF(first, c->tell_at);
        }
    }
    return first;
}

/* --- Beginning and end ------------------------------------------------- */

/* The socket, listening; 0 or an errno. What lies at its path is of an earlier
 * life: the folder is locked and ours. */
static int
bind_socket(struct keeper *k)
{
    struct control *c = k->control;
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    if (strlen(c->path) >= sizeof(at.sun_path)) {
        return ENAMETOOLONG;
    }
    memcpy(at.sun_path, c->path, strlen(c->path));
    c->listener.fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->listener.fd < 0) {
        return errno;
    }
    unlinkat(k->folder.fd, "control", 0);
    if (bind(c->listener.fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
        return errno;
    }
    /* Nobody can connect before the listen. */
    rights_refuse(c->listener.fd);
    if (fchmodat(k->folder.fd, "control", 0600, 0) < 0 ||
        listen(c->listener.fd, 64) < 0) {
        return errno;
    }
    return 0;
}

int
control_hold(struct keeper *k)
{
    struct control *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        return -ENOMEM;
    }
    k->control = c;
    c->listen_at = UINT64_MAX;
    c->listener = (struct keeper_source){-1, listener_ready, k};
    for (int i = 0; i < PEERS; i++) {
        c->peers[i].source.fd = -1;
    }
    snprintf(c->path, sizeof(c->path), "%s/control", k->folder.path);
    c->error = bind_socket(k);
    if (c->error != 0 && c->listener.fd >= 0) {
        close(c->listener.fd);
        c->listener.fd = -1;
    }
    return 0;
}

int
control_init(struct keeper *k)
{
    struct control *c = k->control;

    if (c->error == 0) {
        c->error = -keeper_watch(k, &c->listener, EPOLLIN);
    }
    if (c->error != 0) {
        log_control(k, LOG_WARN, "control-missing", c->error);
        keeper_unwatch(k, &c->listener);
    }
    return 0;
}

void
control_deinit(struct keeper *k, int status)
{
    char text[32];

    if (k->control == NULL) {
        return;
    }
    keeper_unwatch(k, &k->control->listener);
    tell_listeners(k);
    snprintf(text, sizeof(text), "ended %d\n", status);
    for (int i = 0; i < PEERS; i++) {
        struct control_peer *p = &k->control->peers[i];

        if (p->state == PEER_FOLLOWS) {
            say(k, p, text);
        }
        if (p->state != PEER_NONE) {
            drop(k, p);
        }
    }
    free(k->control);
    k->control = NULL;
}
