/* Another configuration for a server that runs. Everything that can fail is
 * done before anything changes: the file is read and compared, sockets and
 * folders are opened. Then the keeper goes over to it at once, and each worker
 * when it has it (renew.c there).
 *
 *      asked --read--> refused (the old one stays)
 *                  \-> sent --each worker has it--> done
 *
 * What went is ended when no worker uses it: a target's number is free then, a
 * module is told to end, a socket is shut. One change is under way at a time;
 * whoever asks meanwhile starts another after it. */
#include "cohort/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "cohort/control.h"
#include "cohort/keeper_priv.h"
#include "cohort/listeners.h"
#include "conf/merge.h"
#include "conf/pack.h"
#include "module/sandbox.h"

#define AGAIN        (100 * NS_PER_MS) /* a module is on its way out */
#define AGAIN_MAX    100
#define ANEW         (1 * NS_PER_SEC)
#define ANEW_MAX     35 /* an orphan of the grace has its sockets as long */
#define SEND_AGAIN   (200 * NS_PER_MS)
#define MODULE_GRACE (5 * NS_PER_SEC)

/* What was opened for a configuration that does not run yet. */
struct opened {
    int listen_fds[CONF_LISTENS_MAX];
    struct listeners_file files[CONF_LISTENS_MAX];
    int from[CONF_LISTENS_MAX]; /* whose socket it is, too; -1 */
    int *folder_fds;
};

static bool
is_under_way(const struct keeper *k)
{
    return k->reload.sent;
}

uint64_t
reload_ask(struct keeper *k)
{
    k->reload.at = 0;
    return ++k->reload.asked;
}

bool
reload_is_done(const struct keeper *k, uint64_t ticket)
{
    return k->reload.done >= ticket;
}

/* --- The end ------------------------------------------------------------ */

static void
log_lines(struct keeper *k, const char *text)
{
    while (*text != '\0') {
        int n = (int)strcspn(text, "\n");
        struct log_line line;

        keeper_log_begin(k, &line, LOG_ERROR, "reload-refused");
        log_bytes(&line, "error", text, (size_t)n);
        keeper_log_end(k, &line);
        text += n + (text[n] == '\n');
    }
}

/* The configuration stays as it was, for TEXT, which is taken (NULL: no
 * memory). */
static void
refused(struct keeper *k, char *text)
{
    k->reload.n_refused++;
    free(k->reload.error);
    k->reload.error = text;
    log_lines(k, text != NULL ? text : "out of memory");
    k->reload.done = k->reload.begun;
    notify_say(&k->notify, NOTIFY_READY);
    control_reloaded(k);
    if (k->reload.n_again > 0) {
        k->reload.n_again--;
        k->reload.at = keeper_now(k) + ANEW;
        k->reload.asked++;
    }
}

static void
done(struct keeper *k)
{
    struct log_line line;

    k->reload.sent = false;
    k->reload.n_again = 0;
    k->reload.done = k->reload.begun;
    keeper_log_begin(k, &line, LOG_INFO, "reload");
    log_num(&line, "generation", k->generation);
    log_num(&line, "started", k->reload.n_comes);
    log_num(&line, "changed", k->reload.n_changes);
    log_num(&line, "ended", k->reload.n_goes);
    log_ms(&line, "took_ms", keeper_now(k) - k->reload.began_at);
    keeper_log_end(k, &line);
    notify_say(&k->notify, NOTIFY_READY);
    control_reloaded(k);
}

/* --- Opening ------------------------------------------------------------ */

static void
close_opened(struct opened *o, const struct conf *conf)
{
    listeners_remove(conf, o->files);
    for (size_t i = 0; i < CONF_LISTENS_MAX; i++) {
        if (o->listen_fds[i] >= 0) {
            close(o->listen_fds[i]);
        }
    }
    for (size_t i = 0; o->folder_fds != NULL && i < conf->n_targets; i++) {
        if (o->folder_fds[i] >= 0) {
            close(o->folder_fds[i]);
        }
    }
    free(o->folder_fds);
}

/* The socket of a listener that goes, at the same address: it is used on. */
static int
same_socket(struct keeper *k, const struct conf_merge *merge, size_t index,
            int *p_from)
{
    const struct conf_listen *l = &merge->conf.listens[index];

    for (size_t i = 0; i < k->conf->n_listens; i++) {
        const struct conf_listen *was = &k->conf->listens[i];

        if (merge->listens[i] != CONF_GOES || k->listen_fds[i] < 0 ||
            was->addr_len != l->addr_len ||
            memcmp(&was->addr, &l->addr, l->addr_len) != 0) {
            continue;
        }
        if (l->addr.ss_family == AF_UNIX &&
            chmod(((const struct sockaddr_un *)&l->addr)->sun_path, l->mode) <
                0) {
            return -errno;
        }
        *p_from = (int)i;
        return fcntl(k->listen_fds[i], F_DUPFD_CLOEXEC, 3);
    }
    return -1;
}

static int
open_listeners(struct keeper *k, const struct conf_merge *merge,
               struct opened *o, char *why, size_t why_size)
{
    for (size_t i = 0; i < merge->conf.n_listens; i++) {
        struct conf one = merge->conf;
        int rc;

        if (merge->listens[i] != CONF_COMES &&
            merge->listens[i] != CONF_RETURNS) {
            continue;
        }
        o->listen_fds[i] = same_socket(k, merge, i, &o->from[i]);
        if (o->listen_fds[i] >= 0) {
            continue;
        }
        one.listens = &merge->conf.listens[i];
        one.n_listens = 1;
        rc = listeners_open(&one, &o->listen_fds[i], &o->files[i], why,
                            why_size);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* Workers may read only what is below folders that they were started with. */
static bool
may_be_read(const struct keeper *k, const char *path)
{
    for (size_t i = 0; i < k->n_read; i++) {
        size_t n = strlen(k->read[i]);

        if (strncmp(path, k->read[i], n) == 0 &&
            (path[n] == '\0' || path[n] == '/' || k->read[i][n - 1] == '/')) {
            return true;
        }
    }
    return sandbox_version() <= 0;
}

static int
open_folder(struct keeper *k, const struct conf_merge *merge, size_t index,
            struct opened *o, char *why, size_t why_size)
{
    const struct conf_target *t = &merge->conf.targets[index];
    CLEAN_FREE char *real = realpath(t->path, NULL);
    int error = real == NULL ? errno : 0;

    if (error == 0 && !may_be_read(k, real)) {
        snprintf(why, why_size,
                 "%s:%d:%d: folder %s: the workers may read only what is below "
                 "the folders that they were started with: stop the server and "
                 "start it again",
                 conf_where_file(&merge->conf, t->where), t->where.line,
                 t->where.column, t->path);
        return -EACCES;
    }
    if (error == 0) {
        o->folder_fds[index] = open(t->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        error = o->folder_fds[index] < 0 ? errno : 0;
    }
    if (error != 0) {
        snprintf(why, why_size, "%s:%d:%d: folder %s: %s",
                 conf_where_file(&merge->conf, t->where), t->where.line,
                 t->where.column, t->path, strerrordesc_np(error));
    }
    return -error;
}

static int
open_all(struct keeper *k, const struct conf_merge *merge, struct opened *o,
         char *why, size_t why_size)
{
    const struct conf *runs = k->conf;
    int rc = 0;

    memset(o, 0, sizeof(*o));
    memset(o->listen_fds, 0xff, sizeof(o->listen_fds)); /* all -1 */
    memset(o->from, 0xff, sizeof(o->from));
    o->folder_fds = malloc((merge->conf.n_targets + 1) * sizeof(int));
    if (o->folder_fds == NULL) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    memset(o->folder_fds, 0xff, (merge->conf.n_targets + 1) * sizeof(int));
    for (size_t i = 0; rc == 0 && i < merge->conf.n_targets; i++) {
        if (merge->conf.targets[i].kind == CONF_TARGET_FILES &&
            (merge->targets[i] == CONF_COMES ||
             merge->targets[i] == CONF_RETURNS)) {
            rc = open_folder(k, merge, i, o, why, why_size);
        }
    }
    if (rc == 0) {
        k->conf = &merge->conf; /* whose places it tells */
        rc = secrets_check(k);
        k->conf = runs;
        if (rc < 0) {
            snprintf(why, why_size,
                     "a secret cannot be opened (the log says which)");
        }
    }
    return rc == 0 ? open_listeners(k, merge, o, why, why_size) : rc;
}

/* --- The workers ---------------------------------------------------------- */

/* Sends all of it to W. 0 or a negative errno. */
static int
send_all(struct keeper *k, struct keeper_worker *w)
{
    struct worker_message m = {.grace_ns = k->generation};
    uint32_t n = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < k->conf->n_listens; i++) {
        if (k->reload.listens[i] > w->generation && k->listen_fds[i] >= 0 &&
            k->conf->listens[i].protocol != CONF_TCP_WAIT) {
            m.kind = WORKER_LISTEN;
            m.target = (uint32_t)i;
            rc = worker_send(w, &m, k->listen_fds[i]);
            n++;
        }
    }
    for (size_t i = 0; rc == 0 && i < k->conf->n_targets; i++) {
        if (k->targets[i].generation > w->generation && k->folder_fds[i] >= 0) {
            m.kind = WORKER_FOLDER;
            m.target = (uint32_t)i;
            rc = worker_send(w, &m, k->folder_fds[i]);
            n++;
        }
    }
    m.kind = WORKER_CONF;
    m.target = 0;
    m.cause = n;
    m.spare = (uint32_t)k->reload.len;
    return rc == 0 ? worker_send(w, &m, k->reload.file) : rc;
}

static bool
has_it(const struct keeper *k, const struct keeper_worker *w)
{
    return w->generation == k->generation || w->unit.pid <= 0 ||
           w->unit.state != RESTART_RUNNING;
}

static void
look_at_workers(struct keeper *k, uint64_t now)
{
    bool all = true;

    if (!is_under_way(k)) {
        return;
    }
    for (int i = 0; i < k->n_workers; i++) {
        struct keeper_worker *w = &k->workers[i];

        if (has_it(k, w)) {
            continue;
        }
        all = false;
        if (w->conf_at <= now) {
            (void)send_all(k, w); /* what is lost of it is sent again */
            w->conf_at = now + SEND_AGAIN;
        }
    }
    if (all) {
        done(k);
    }
}

void
reload_worker_has(struct keeper_worker *w, uint64_t generation)
{
    struct keeper *k = w->keeper;

    if (generation > k->generation) {
        return; /* none of ours */
    }
    w->generation = MAX_OF(w->generation, generation);
    w->conf_at = 0;
    doors_renewed(k, w->index);
}

void
reload_worker_passed(struct keeper_worker *w, uint32_t generation)
{
    w->generation = MIN_OF(w->keeper->generation, generation);
    w->conf_at = 0;
    if (w->generation < w->keeper->generation) {
        w->keeper->reload.sent = true; /* it may have had it, and died */
    }
}

/* --- What went ------------------------------------------------------------ */

static void
set_bit(uint64_t *bits, int i)
{
    bits[i / 64] |= 1ull << (i % 64);
}

static bool
all_unused(const struct keeper *k, const uint64_t *bits)
{
    for (int i = 0; i < k->n_workers; i++) {
        const struct keeper_worker *w = &k->workers[i];

        if (w->unit.pid > 0 && w->unit.state == RESTART_RUNNING &&
            !(bits[i / 64] >> (i % 64) & 1)) {
            return false;
        }
    }
    return true;
}

int
reload_unused(struct keeper_worker *w, const struct worker_message *m)
{
    struct keeper *k = w->keeper;

    if (m->cause > 1 || m->target >= (m->cause == 1 ? k->conf->n_listens
                                                    : k->conf->n_targets)) {
        return -EPROTO;
    }
    if (m->grace_ns != k->generation) {
        return 0; /* it may be in use again */
    }
    if (m->cause == 1) {
        set_bit(k->reload.unused[m->target], w->index);
    } else {
        set_bit(k->targets[m->target].unused, w->index);
        doors_unused(k, w->index, m->target);
    }
    return 0;
}

/* Ends what no worker uses. */
static void
end_gone(struct keeper *k, uint64_t now)
{
    struct conf *conf = k->reload.conf;

    if (conf == NULL || k->reload.n_gone == 0 || is_under_way(k) ||
        k->phase != PHASE_RUN) {
        return;
    }
    k->reload.n_gone = 0;
    for (size_t i = 0; i < conf->n_targets; i++) {
        if (conf->targets[i].presence == CONF_GONE &&
            all_unused(k, k->targets[i].unused)) {
            doors_free(k, i);
            conf->targets[i].presence = CONF_FREE;
        }
        k->reload.n_gone += conf->targets[i].presence == CONF_GONE;
    }
    for (size_t i = 0; i < conf->n_listens; i++) {
        if (conf->listens[i].presence == CONF_GONE &&
            all_unused(k, k->reload.unused[i])) {
            conf->listens[i].presence = CONF_FREE;
        }
        k->reload.n_gone += conf->listens[i].presence == CONF_GONE;
    }
    for (size_t i = 0; i < conf->n_modules; i++) {
        struct keeper_module *m = &k->modules[i];

        if (conf->modules[i].presence != CONF_GONE) {
            continue;
        }
        if (m->conf == NULL ? doors_target(k, i) == NULL
                            : m->unit.state == RESTART_STOPPED) {
            modules_free(m);
            past_forget(k, i);
            conf->modules[i].presence = CONF_FREE;
            continue;
        }
        k->reload.n_gone++;
        if (m->conf != NULL && doors_target(k, i) == NULL &&
            m->unit.state != RESTART_STOPPING) {
            restart_stop(&m->unit, SIGTERM, MODULE_GRACE, now);
        }
    }
}

/* --- The change ----------------------------------------------------------- */

/* Nobody can connect to it any more, whoever has it open; but for one whose
 * address is used on. */
static void
shut_listener(struct keeper *k, size_t index)
{
    const struct conf_listen *was = &k->conf->listens[index];
    struct listeners_file *file = &k->listen_files[index];
    bool is_used = false;

    for (size_t i = 0; i < k->conf->n_listens; i++) {
        const struct conf_listen *l = &k->conf->listens[i];

        is_used |= l->presence == CONF_LIVE && l->addr_len == was->addr_len &&
                   memcmp(&l->addr, &was->addr, l->addr_len) == 0;
    }
    if (!is_used && file->ino != 0) {
        struct conf one = {.listens = &k->reload.conf->listens[index],
                           .n_listens = 1};

        listeners_remove(&one, file);
    }
    *file = (struct listeners_file){0};
    if (!is_used) {
        shutdown(k->reload.closing[index], SHUT_RDWR);
    }
    close(k->reload.closing[index]);
    k->reload.closing[index] = -1;
}

static void
shut_listeners(struct keeper *k)
{
    for (size_t i = 0; i < CONF_LISTENS_MAX; i++) {
        if (k->reload.closing[i] >= 0) {
            shut_listener(k, i);
        }
    }
}

static void
take_listeners(struct keeper *k, const struct conf_merge *merge,
               struct opened *o)
{
    for (size_t i = 0; i < merge->conf.n_listens; i++) {
        memset(k->reload.unused[i], 0, sizeof(k->reload.unused[i]));
        if (merge->listens[i] == CONF_GOES) {
            k->reload.closing[i] = k->listen_fds[i];
            k->listen_fds[i] = -1;
        } else if (o->listen_fds[i] >= 0) {
            k->listen_fds[i] = o->listen_fds[i];
            k->listen_files[i] =
                o->from[i] >= 0 ? k->listen_files[o->from[i]] : o->files[i];
            k->reload.listens[i] = k->generation;
        }
    }
}

static void
take_targets(struct keeper *k, const struct conf_merge *merge,
             const struct opened *o)
{
    for (size_t i = 0; i < merge->conf.n_targets; i++) {
        struct keeper_target *t = &k->targets[i];

        memset(t->unused, 0, sizeof(t->unused));
        if (merge->targets[i] == CONF_GOES && k->folder_fds[i] >= 0) {
            close(k->folder_fds[i]);
            k->folder_fds[i] = -1;
        }
        if (merge->targets[i] == CONF_COMES) {
            doors_add(k, i);
        }
        if (merge->targets[i] == CONF_COMES ||
            merge->targets[i] == CONF_RETURNS) {
            t->generation = k->generation;
        }
        if (o->folder_fds[i] >= 0) {
            k->folder_fds[i] = o->folder_fds[i];
        }
    }
    doors_point(k);
}

static void
take_modules(struct keeper *k, const struct conf_merge *merge)
{
    k->reload.n_comes = k->reload.n_changes = k->reload.n_goes = 0;
    for (size_t i = 0; i < merge->conf.n_modules; i++) {
        switch (merge->modules[i]) {
        case CONF_COMES:
            k->reload.n_comes++;
            modules_add(k, i);
            break;
        case CONF_CHANGES:
            k->reload.n_changes++;
            modules_renew(&k->modules[i], true);
            break;
        case CONF_GOES:
            k->reload.n_goes++;
            modules_renew(&k->modules[i], false);
            break;
        case CONF_STAYS:
        case CONF_RETURNS:
        case CONF_REST:
            modules_renew(&k->modules[i], false);
            break;
        }
    }
}

/* MERGE holds from now on. BLOCK, which has LEN bytes and is in FILE as well,
 * is taken, as are FILE, what is open in O, and NEW. */
static void
change(struct keeper *k, const struct conf_merge *merge, struct opened *o,
       void *block, size_t len, int file, struct conf *new)
{
    struct keeper_reload *r = &k->reload;
    void *old_block = r->block;

    k->generation++;
    r->block = block;
    r->len = len;
    r->conf = conf_unpack(block, len);
    if (r->file >= 0) {
        close(r->file);
    }
    r->file = file;
    k->conf = r->conf;
    for (int i = 0; i < k->n_workers; i++) {
        k->workers[i].setup.conf = k->conf;
        k->workers[i].setup.generation = k->generation;
        k->workers[i].conf_at = 0;
    }
    take_listeners(k, merge, o);
    take_modules(k, merge);
    take_targets(k, merge, o);
    free(o->folder_fds);
    modules_begin(k);
    free(old_block);
    k->options.release(new); /* BLOCK has all of it */
    r->n_gone = 1;           /* look */
    r->n_done++;
    r->wall_ns = k->real->wall(k->real->ctx);
    free(r->error);
    r->error = NULL;
    r->sent = true;
}

/* BLOCK's bytes in a memory file, which nobody can change. -1 with errno. */
static int
make_file(const void *block, size_t len)
{
    CLEAN_FD int fd =
        memfd_create("cardea-conf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int out;

    if (fd < 0) {
        return -1;
    }
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, (const char *)block + at, len - at);

        if (n <= 0) {
            return -1;
        }
        at += (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS,
              F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        return -1;
    }
    out = fd;
    fd = -1;
    return out;
}

/* NEW was read, and is taken. */
static void
try_change(struct keeper *k, struct conf *new)
{
    struct conf_merge merge;
    struct opened opened = {0};
    char why[PATH_MAX + 512] = "out of memory";
    size_t len = 0;
    void *block = NULL;
    int file = -1;
    int rc = conf_merge(k->conf, new, &k->bounds, &merge);

    if (rc == -EAGAIN && ++k->reload.n_waits < AGAIN_MAX) {
        k->reload.begun--;
        k->reload.at = keeper_now(k) + AGAIN;
        conf_merge_free(&merge);
        k->options.release(new);
        return;
    }
    k->reload.n_waits = 0;
    if (rc < 0 && merge.why[0] != '\0') {
        snprintf(why, sizeof(why), "%s", merge.why);
    }
    rc = rc < 0 ? rc : open_all(k, &merge, &opened, why, sizeof(why));
    if (rc == 0) {
        block = conf_pack(&merge.conf, &len);
        file = block != NULL ? make_file(block, len) : -1;
    }
    if (file >= 0) {
        change(k, &merge, &opened, block, len, file, new);
    } else {
        if (opened.folder_fds != NULL) {
            close_opened(&opened, &merge.conf);
        }
        free(block);
        k->options.release(new);
        refused(k, strdup(why));
    }
    conf_merge_free(&merge);
    (void)malloc_trim(0); /* what reading the file has used */
}

static void
begin(struct keeper *k)
{
    char *text = NULL;
    size_t len = 0;
    FILE *errors;
    struct conf *new = NULL;

    k->reload.begun = k->reload.asked;
    k->reload.began_at = keeper_now(k);
    notify_say(&k->notify, NOTIFY_RELOADING);
    if (k->options.load == NULL) {
        refused(k, strdup("what is served is in no file: stop it, and serve "
                          "it anew"));
        return;
    }
    errors = open_memstream(&text, &len);
    if (errors != NULL) {
        new = k->options.load(k->options.load_ctx, errors);
        fclose(errors);
    }
    if (new == NULL) {
        refused(k, text);
        return;
    }
    free(text);
    try_change(k, new);
}

void
reload_tick(struct keeper *k, uint64_t now)
{
    if (k->phase != PHASE_RUN) {
        return;
    }
    look_at_workers(k, now);
    if (!is_under_way(k)) {
        shut_listeners(k);
    }
    end_gone(k, now);
    if (k->reload.asked > k->reload.begun && !is_under_way(k) &&
        k->ready_said && now >= k->reload.at) {
        begin(k);
        look_at_workers(k, now);
    }
}

uint64_t
reload_deadline(const struct keeper *k)
{
    uint64_t first = UINT64_MAX;

    if (k->phase != PHASE_RUN) {
        return first;
    }
    if (k->reload.asked > k->reload.begun && !is_under_way(k) &&
        k->ready_said) {
        first = k->reload.at;
    }
    for (int i = 0; is_under_way(k) && i < k->n_workers; i++) {
        if (!has_it(k, &k->workers[i])) {
            first = MIN_OF(first, k->workers[i].conf_at);
        }
    }
    return first;
}

/* A keeper before us died. We begin with what it began with, and what was shut
 * since then; so the file is read again, until no orphan of it has the sockets
 * that it had opened. */
static void
begin_again(struct keeper *k)
{
    for (size_t i = 0; i < k->conf->n_listens; i++) {
        int listens = 1;
        socklen_t len = sizeof(listens);

        if (getsockopt(k->listen_fds[i], SOL_SOCKET, SO_ACCEPTCONN, &listens,
                       &len) == 0 &&
            !listens) {
            (void)listen(k->listen_fds[i], SOMAXCONN);
        }
    }
    if (k->options.load != NULL) {
        k->reload.asked = 1;
        k->reload.n_again = ANEW_MAX;
    }
}

int
reload_init(struct keeper *k)
{
    if (k->was_ready) {
        begin_again(k);
    }
    k->reload.file = -1;
    memset(k->reload.closing, 0xff, sizeof(k->reload.closing)); /* all -1 */
    k->read = calloc(k->conf->n_targets + 1, sizeof(*k->read));
    if (k->read == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        if (k->conf->targets[i].kind == CONF_TARGET_FILES) {
            char *real = realpath(k->conf->targets[i].path, NULL);

            if (real != NULL) {
                k->read[k->n_read++] = real;
            }
        }
    }
    return 0;
}

void
reload_deinit(struct keeper *k)
{
    for (size_t i = 0; i < k->n_read; i++) {
        free(k->read[i]);
    }
    free(k->read);
    k->read = NULL;
    free(k->reload.error);
    if (k->reload.conf == NULL) {
        return;
    }
    for (size_t i = 0; i < CONF_LISTENS_MAX; i++) {
        if (k->reload.closing[i] >= 0) {
            close(k->reload.closing[i]);
        }
    }
    close(k->reload.file);
    free(k->reload.block);
}
