/* The verbs that touch the system: here the parts are put together, the keeper
 * with the worker it starts and the doors it dials. */
#include "ctl/ctl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cohort/keeper.h"
#include "cohort/reaper.h"
#include "conf/conf.h"
#include "ctl/run.h"
#include "door/dial.h"
#include "front/worker.h"

/* Mistakes in a configuration begin with their place; those in -D have none, so
 * they begin as other complaints about the command line do. */
static struct conf *
load(struct ctl *ctl, const char *file)
{
    struct conf_options options = {
        .defines = ctl->defines,
        .n_defines = ctl->n_defines,
    };
    char *text = NULL;
    size_t len = 0;
    FILE *errors = open_memstream(&text, &len);
    struct conf *conf =
        conf_load(file, &options, errors != NULL ? errors : ctl->errors);

    if (errors == NULL || fclose(errors) != 0) {
        free(text);
        return conf;
    }
    for (char *at = text; *at != '\0';) {
        int n = (int)strcspn(at, "\n");

        if (strncmp(at, "-D ", 3) == 0) {
            fprintf(ctl->errors, "cardea %s: ", ctl->verb);
        }
        fprintf(ctl->errors, "%.*s\n", n, at);
        at += n + (at[n] == '\n');
    }
    free(text);
    return conf;
}

int
ctl_check(struct ctl *ctl, const char *file)
{
    struct conf *conf = load(ctl, file);

    if (conf == NULL) {
        return CTL_CONFIG;
    }
    if (ctl->is_verbose) {
        conf_print(conf, ctl->out);
    }
    conf_free(conf);
    return CTL_OK;
}

/* The file of a server, to be read again. */
struct source {
    struct ctl *ctl;
    const char *file;
};

static struct conf *
load_again(void *ctx, FILE *errors)
{
    const struct source *source = ctx;
    const struct conf_options options = {
        .defines = source->ctl->defines,
        .n_defines = source->ctl->n_defines,
    };

    return conf_load(source->file, &options, errors);
}

static int
run(struct ctl *ctl, const struct conf *conf, const char *text,
    struct source *source)
{
    const struct keeper_options options = {
        .load = source != NULL ? load_again : NULL,
        .load_ctx = source,
        .release = conf_free,
        .worker = worker_main,
        .dial = door_dial_in,
        .print = conf_print,
        .out_fd = STDOUT_FILENO,
        .log_fd = STDERR_FILENO,
        .text = text,
    };

    fflush(ctl->out);
    fflush(ctl->errors);
    return reaper_run(conf, &options);
}

int
ctl_run(struct ctl *ctl, const char *file)
{
    struct source source = {ctl, file};
    struct conf *conf = load(ctl, file);
    int status;

    if (conf == NULL) {
        return CTL_CONFIG;
    }
    conf = conf_compact(conf);
    status = run(ctl, conf, NULL, &source);
    conf_free(conf);
    return status;
}

int
run_text(struct ctl *ctl, const char *name, const char *text, size_t len)
{
    struct conf *conf = conf_parse(name, text, len, ctl->errors);
    int status;

    if (conf == NULL) {
        return CTL_CONFIG;
    }
    fprintf(ctl->out, "%s\n", text);
    conf = conf_compact(conf);
    status = run(ctl, conf, text, NULL);
    conf_free(conf);
    return status;
}
