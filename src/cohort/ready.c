/* When is it ready? When every worker accepts connections and every module's
 * door is open; a module that takes long is named and not waited for. */
#include "cohort/keeper_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/trim.h"
#include "base/util.h"
#include "cohort/listeners.h"

#define READY_PATIENCE (2 * NS_PER_SEC)  /* for modules' doors */
#define START_PATIENCE (30 * NS_PER_SEC) /* for workers */

static bool
module_doors_open(const struct keeper *k)
{
    for (size_t i = 0; i < k->conf->n_targets; i++) {
        const struct keeper_module *m = k->targets[i].module;

        if (m != NULL && !restart_is_parked(&m->unit) &&
            !doors_open_all(k, i)) {
            return false;
        }
    }
    return true;
}

static void
print_waiting(const struct keeper *k, FILE *out)
{
    const char *before = " waiting=";

    for (size_t i = 0; i < k->conf->n_targets; i++) {
        const struct keeper_module *m = k->targets[i].module;

        if (!(m != NULL && restart_is_parked(&m->unit)) &&
            !doors_open_all(k, i)) {
            fprintf(out, "%s%s", before, k->targets[i].name);
            before = ",";
        }
    }
}

/* The line where there is no memory for all of it: somebody waits for it. */
static void
print_short(const struct keeper *k)
{
    char url[LISTENERS_URL_MAX] = "";

    if (k->conf->n_listens > 0) {
        listeners_url(&k->conf->listens[0], k->listen_fds[0], url);
    }
    dprintf(k->options.out_fd,
            "ready%s%s pid=%d workers=%d modules=%zu run-folder=%s\n",
            url[0] != '\0' ? " url=" : "", url, (int)k->main_pid, k->n_workers,
            k->conf->n_modules, k->folder.path);
}

/* Whoever does not read it, or closed it, knows that; a disk that is full or
 * broken is told of in the log. */
static void
write_ready(struct keeper *k, const char *text, size_t len)
{
    struct log_line line;
    ssize_t n;

    do {
        n = write(k->options.out_fd, text, len);
    } while (n < 0 && errno == EINTR);
    if (n >= 0 || errno == EPIPE || errno == EBADF) {
        return;
    }
    keeper_log_begin(k, &line, LOG_WARN, "ready-unsaid");
    log_errno(&line, errno);
    log_bytes(&line, "text", text, len - 1);
    keeper_log_end(k, &line);
}

/* ready url=http://127.0.0.1:8080/ url2=… pid=… workers=… … */
static void
print_ready(struct keeper *k)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    int n_urls = 0;

    if (out == NULL) {
        print_short(k);
        return;
    }
    fputs("ready", out);
    for (size_t i = 0; i < k->conf->n_listens; i++) {
        char url[LISTENERS_URL_MAX];

        listeners_url(&k->conf->listens[i], k->listen_fds[i], url);
        if (url[0] != '\0' && ++n_urls == 1) {
            fprintf(out, " url=%s", url);
        } else if (url[0] != '\0') {
            fprintf(out, " url%d=%s", n_urls, url);
        }
    }
    fprintf(out, " pid=%d workers=%d modules=%zu run-folder=%s",
            (int)k->main_pid, k->n_workers, k->conf->n_modules, k->folder.path);
    print_waiting(k, out);
    fputc('\n', out);
    fclose(out);
    if (text != NULL) {
        write_ready(k, text, len);
    }
    free(text);
}

void
ready_check(struct keeper *k, uint64_t now)
{
    struct log_line line;

    if (k->ready_said || k->phase != PHASE_RUN) {
        return;
    }
    if (!workers_all_ready(k)) {
        if (now >= k->started_at + START_PATIENCE) {
            k->failed = true;
            keeper_say(k, "the workers do not get ready (the log says why)");
            stop_begin(k, "start-failed", 0);
        }
        return;
    }
    if (!module_doors_open(k) && now < k->started_at + READY_PATIENCE) {
        return;
    }
    k->ready_said = true;
    if (!k->was_ready) {
        print_ready(k);
    }
    notify_say(&k->notify, NOTIFY_READY);
    keeper_log_begin(k, &line, LOG_INFO, "ready");
    log_num(&line, "workers", (uint64_t)k->n_workers);
    log_ms(&line, "took_ms", now - k->started_at);
    keeper_log_end(k, &line);
    trim_process();
}

uint64_t
ready_deadline(const struct keeper *k)
{
    if (k->ready_said || k->phase != PHASE_RUN) {
        return UINT64_MAX;
    }
    return k->started_at +
           (workers_all_ready(k) ? READY_PATIENCE : START_PATIENCE);
}
