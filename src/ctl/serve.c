/* The verb serve: looks at what is to be served (detect.c), says what it is,
 * writes the configuration that a person would have written for it, and runs
 * that. Nothing happens that the configuration does not say: `cardea serve
 * --print FILE >cardea.conf; cardea run` is the same.
 *
 * The configuration's name is that of what is served: its run folder is known
 * by it, so that `cardea stop -f ./hello.sh` finds the server. */
#include "ctl/ctl.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/plain.h"
#include "base/util.h"
#include "conf/conf.h"
#include "conf/text.h"
#include "ctl/detect.h"
#include "ctl/run.h"
#include "door.h"

#define PHP_SOCKETS "/run/php"
#define COPIES_MAX  65536u

/* What was asked for, understood. */
struct plan {
    struct detect_found found;
    char address[2 * PATH_MAX + 8]; /* of forward; as it is written */
    uint64_t copies;                /* 0: not asked for */
};

/* What runs as "cardea serve: " WHAT ": " and the sentence. STATUS. */
static int
refuse(const struct ctl *ctl, const char *what, const char *why, int status)
{
    fputs("cardea serve: ", ctl->errors);
    plain_put(ctl->errors, what);
    fputs(": ", ctl->errors);
    plain_put(ctl->errors, why);
    fputc('\n', ctl->errors);
    return status;
}

static bool
is_door(const char *path)
{
    CLEAN_FD int d = door_open(path);

    return d >= 0;
}

/* --- Words ---------------------------------------------------------------- */

static bool
is_number(const char *word)
{
    return word[0] != '\0' && word[strspn(word, "0123456789")] == '\0';
}

static bool
is_taken(const struct conf_listen *listen)
{
    CLEAN_FD int fd =
        socket(listen->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0) {
        return false;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    return bind(fd, (const struct sockaddr *)&listen->addr, listen->addr_len) <
               0 &&
           errno == EADDRINUSE;
}

/* Is the port free that WORD asked for? The keeper finds that out again; here
 * the sentence can be a better one. As there (listeners_open_soon()), a server
 * that was killed has a second to let go of it. */
static int
look_at_port(const struct ctl *ctl, const char *word,
             const struct conf_listen *listen)
{
    static const struct timespec wait = {0, 10 * 1000 * 1000};

    for (int i = 0; !listen->is_default_port && is_taken(listen); i++) {
        if (i == 100) {
            return refuse(ctl, word,
                          "another program listens at this port (ss -ltnp "
                          "shows which); name another port, or none: then the "
                          "nearest free one is taken",
                          CTL_FAILED);
        }
        nanosleep(&wait, NULL);
    }
    return CTL_OK;
}

/* PORT|ADDRESS, as it is written in a configuration. */
static int
read_address(const struct ctl *ctl, const char *word, struct plan *plan)
{
    struct conf_listen listen = {0};
    char folder[PATH_MAX];
    const char *why;

    if (word == NULL) {
        snprintf(plan->address, sizeof(plan->address), "127.0.0.1");
        return CTL_OK;
    }
    if (strncmp(word, "unix:", 5) == 0) {
        bool is_relative =
            word[5] != '/' && getcwd(folder, sizeof(folder)) != NULL;

        snprintf(plan->address, sizeof(plan->address), "unix:%s%s%.*s",
                 is_relative ? folder : "", is_relative ? "/" : "", PATH_MAX,
                 word + 5);
        return CTL_OK;
    }
    snprintf(plan->address, sizeof(plan->address), "%s%.*s",
             is_number(word) ? "127.0.0.1:" : "", 256, word);
    why = conf_address_parse(plan->address, strlen(plan->address), &listen);
    if (why != NULL) {
        return refuse(ctl, word, why, CTL_USAGE);
    }
    return look_at_port(ctl, word, &listen);
}

static int
read_copies(const struct ctl *ctl, const char *word, struct plan *plan)
{
    int kind = plan->found.kind;

    if (word == NULL) {
        return CTL_OK;
    }
    plan->copies =
        is_number(word) && strlen(word) < 8 ? strtoull(word, NULL, 10) : 0;
    if (plan->copies == 0 || plan->copies > COPIES_MAX) {
        return refuse(ctl, word,
                      "no number of copies; write one from 1 to 65536, or none "
                      "for as many as it takes",
                      CTL_USAGE);
    }
    if (kind != CONF_MODULE_RUN && kind != CONF_MODULE_WSGI) {
        return refuse(ctl, word,
                      "a number of copies is for programs that serve a door "
                      "and for WSGI; leave it out here",
                      CTL_USAGE);
    }
    return CTL_OK;
}

/* Understands the words. A status, after a sentence if it is not CTL_OK. */
static int
make_plan(const struct ctl *ctl, struct plan *plan)
{
    const char *const *words = ctl->words;
    char folder[PATH_MAX];
    const char *path = getenv("PATH");
    struct detect_asked asked = {
        .word = words[0],
        .as = ctl->as_kind,
        .folder = folder,
        .path = path != NULL ? path : "/usr/bin:/bin",
        .sockets = PHP_SOCKETS,
        .is_door = is_door,
    };
    int status;

    if (getcwd(folder, sizeof(folder)) == NULL) {
        return refuse(ctl, words[0],
                      "the working folder is gone; change to another",
                      CTL_FAILED);
    }
    status = detect(&asked, &plan->found);
    if (status != 0) {
        return refuse(ctl, words[0], plan->found.why, status);
    }
    status = read_copies(ctl, ctl->n_words > 2 ? words[2] : NULL, plan);
    return status != CTL_OK
               ? status
               : read_address(ctl, ctl->n_words > 1 ? words[1] : NULL, plan);
}

/* --- The configuration ---------------------------------------------------- */

static void
print_path(const char *path, FILE *out)
{
    conf_print_word(path, out);
    fputc('\n', out);
}

/* The kind with its command. */
static void
print_kind(const struct detect_found *found, FILE *out)
{
    enum conf_module_kind kind = (enum conf_module_kind)found->kind;

    fprintf(out, "    %s%s", conf_kind_name(kind),
            found->is_plain ? " plain" : "");
    if (kind == CONF_MODULE_WSGI) {
        char app[PATH_MAX + sizeof(found->callable) + 1];

        snprintf(app, sizeof(app), "%s:%s", found->file,
                 found->callable[0] != '\0' ? found->callable : "application");
        fputc(' ', out);
        print_path(app, out);
        return;
    }
    if (kind == CONF_MODULE_SCRIPTS) {
        fputc(' ', out);
        print_path(found->file, out);
        return;
    }
    if (found->address[0] != '\0') {
        fputs("\n    address ", out);
        print_path(found->address, out);
        return;
    }
    fputs(" \"", out);
    if (found->program != NULL) {
        fputs(found->program, out);
    }
    if (found->index[0] == '\0') { /* of a page, the interpreter is told */
        fputs(found->program != NULL ? " " : "", out);
        conf_print_argument(found->file, out);
    }
    fputs("\"\n", out);
}

static void
print_module(const struct plan *plan, FILE *out)
{
    const struct detect_found *found = &plan->found;

    fprintf(out, "module %s {\n", found->name);
    print_kind(found, out);
    if (found->index[0] != '\0') {
        fputs("    root ", out);
        print_path(found->folder, out);
        if (strcmp(found->index, "index.php") != 0) {
            fputs("    index ", out);
            print_path(found->index, out);
        }
    } else if (found->kind != CONF_MODULE_SCRIPTS &&
               found->address[0] == '\0') {
        fputs("    folder ", out);
        print_path(found->folder, out);
    }
    if (plan->copies > 0) {
        fprintf(out, "    copies %llu\n", (unsigned long long)plan->copies);
    }
    fputs("}\n\n", out);
}

static void
print_conf(const struct ctl *ctl, const struct plan *plan, FILE *out)
{
    const struct detect_found *found = &plan->found;

    fputs("# ", out);
    plain_put(out, ctl->words[0]);
    fprintf(out, ": %s\n", found->text);
    if (found->kind < CONF_MODULE_KINDS) {
        print_module(plan, out);
    }
    fprintf(out, "forward %s ",
            found->kind == CONF_MODULE_INETD ? "tcp" : "http");
    conf_print_word(plan->address, out);
    fputs(" to ", out);
    if (found->kind == DETECT_FILES || found->kind == DETECT_DOOR) {
        fputs(found->kind == DETECT_FILES ? "files " : "", out);
        print_path(found->file, out);
    } else {
        fprintf(out, "%s\n", found->name);
    }
}

/* --- All of it ------------------------------------------------------------ */

int
ctl_serve(struct ctl *ctl)
{
    CLEAN_FREE struct plan *plan = calloc(1, sizeof(*plan));
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    int status = plan != NULL && out != NULL ? CTL_OK : CTL_FAILED;

    if (status != CTL_OK) {
        /* not reached: memory is gone */
        fputs("cardea serve: out of memory\n", ctl->errors);
    } else {
        status = make_plan(ctl, plan);
    }
    if (status == CTL_OK) {
        print_conf(ctl, plan, out);
    }
    if (out != NULL && (fclose(out) != 0 || text == NULL) && status == CTL_OK) {
        /* not reached: memory is gone */
        fputs("cardea serve: out of memory\n", ctl->errors);
        status = CTL_FAILED;
    }
    if (status == CTL_OK && ctl->only_print) {
        fputs(text, ctl->out);
    } else if (status == CTL_OK) {
        status = run_text(ctl, plan->found.served, text, len);
    }
    free(text);
    return status;
}
