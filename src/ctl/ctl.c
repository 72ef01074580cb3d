/* One table (verbs.def) drives dispatch, options, help and completion, so that
 * nothing can be named and not done, or done and not named. Options are read
 * here by hand: getopt keeps global state. */
#include "ctl/ctl.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/util.h"
#include "conf/text.h"

typedef int verb_function(struct ctl *ctl);

#define VERB(name, operands, line, text) static verb_function verb_##name;
#define OPTION(verb, flag, argument, what, text)
#include "ctl/verbs.def"
#undef VERB

static const struct verb {
    const char *name, *operands, *line, *text;
    verb_function *function;
} verbs[] = {
#define VERB(name, operands, line, text)                                       \
    {#name, operands, line, text, verb_##name},
#include "ctl/verbs.def"
#undef VERB
#undef OPTION
};

static const struct option {
    const char *verb, *flag, *argument;
    enum ctl_option what;
    const char *text;
} options[] = {
#define VERB(name, operands, line, text)
#define OPTION(verb, flag, argument, what, text)                               \
    {#verb, flag, argument, what, text},
#include "ctl/verbs.def"
#undef VERB
#undef OPTION
};

static const struct verb *
find_verb(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(verbs[i].name, word) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

/* How many letters must be added, dropped or changed to make A of B. */
static size_t
distance(const char *a, const char *b)
{
    size_t row[32];
    size_t len = strlen(b);

    if (len >= ARRAY_LEN(row)) {
        return len;
    }
    for (size_t j = 0; j <= len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t corner = row[0];

        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t change = corner + (a[i - 1] != b[j - 1]);

            corner = row[j];
            row[j] = MIN_OF(MIN_OF(row[j], row[j - 1]) + 1, change);
        }
    }
    return row[len];
}

/* Keeps CANDIDATE in *P_BEST if it is nearer to WORD than *P_LEAST. */
static void
nearer(const char *word, const char *candidate, const char **p_best,
       size_t *p_least)
{
    size_t d = distance(word, candidate);

    if (d < *p_least && d < strlen(candidate)) {
        *p_least = d;
        *p_best = candidate;
    }
}

const char *
ctl_nearest(const char *word)
{
    const char *best = NULL;
    size_t least = 3;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        nearer(word, verbs[i].name, &best, &least);
    }
    return best;
}

static bool
is_of(const struct option *option, const struct verb *verb)
{
    return strcmp(option->verb, verb->name) == 0;
}

/* The option of VERB that WORD may mean: two letters' difference at most for a
 * long one, and a dash too few is none; NULL: nothing is near. */
static const char *
near_option(const struct verb *verb, const char *word)
{
    const char *name = word + strspn(word, "-");
    char bare[32];
    const char *best = "--help";
    size_t least = strlen(name) > 3 ? 3 : 1;
    const char *found = NULL;

    snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(name, "="), name);
    nearer(bare, best + 2, &found, &least);
    best = found != NULL ? best : NULL;
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const char *flag = options[i].flag;

        found = NULL;
        if (is_of(&options[i], verb)) {
            nearer(bare, flag + strspn(flag, "-"), &found, &least);
        }
        best = found != NULL ? flag : best;
        if (is_of(&options[i], verb) && best == NULL && flag[1] != '-' &&
            options[i].argument[0] != '\0' &&
            strcasecmp(bare, options[i].argument) == 0) {
            best = flag; /* --file */
        }
    }
    return best;
}

static void
list_verbs(FILE *to)
{
    fputs("usage: cardea VERB [OPTION...]\n\n", to);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        fprintf(to, "  %-9s %s\n", verbs[i].name, verbs[i].line);
    }
    fputs("\ncardea help VERB explains one. See cardea(1).\n", to);
}

static void
print_usage(FILE *to, const struct verb *verb)
{
    fprintf(to, "usage: cardea %s", verb->name);
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (is_of(&options[i], verb)) {
            fprintf(to, " [%s%s%s]", options[i].flag,
                    options[i].argument[0] != '\0' ? " " : "",
                    options[i].argument);
        }
    }
    fprintf(to, "%s%s\n", verb->operands[0] != '\0' ? " " : "", verb->operands);
}

/* The flag in 12 columns, or on a line of its own; the text behind it. */
static void
print_option(FILE *to, const struct option *option)
{
    char flag[64];

    snprintf(flag, sizeof(flag), "  %s%s%s", option->flag,
             option->argument[0] != '\0' ? " " : "", option->argument);
    if (strlen(flag) > 11) {
        fprintf(to, "%s\n", flag);
        flag[0] = '\0';
    }
    fprintf(to, "%-12s", flag);
    for (const char *s = option->text; *s != '\0'; s++) {
        fputc(*s, to);
        if (*s == '\n') {
            fprintf(to, "%12s", "");
        }
    }
    fputc('\n', to);
}

static void
explain_verb(FILE *to, const struct verb *verb)
{
    const char *before = "\n";

    print_usage(to, verb);
    fprintf(to, "\n%s", verb->text);
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (is_of(&options[i], verb)) {
            fputs(before, to);
            print_option(to, &options[i]);
            before = "";
        }
    }
}

static int
unknown_verb(struct ctl *ctl, const char *word)
{
    const char *near = ctl_nearest(word);

    if (near != NULL) {
        fprintf(ctl->errors, "cardea: no verb %s; did you mean %s?\n", word,
                near);
    } else {
        fprintf(ctl->errors, "cardea: no verb %s; cardea help lists them\n",
                word);
    }
    return CTL_USAGE;
}

static int
verb_help(struct ctl *ctl)
{
    const struct verb *verb;

    if (ctl->n_words == 0) {
        list_verbs(ctl->out);
        return CTL_OK;
    }
    verb = find_verb(ctl->words[0]);
    if (verb == NULL) {
        return unknown_verb(ctl, ctl->words[0]);
    }
    explain_verb(ctl->out, verb);
    return CTL_OK;
}

static int
verb_version(struct ctl *ctl)
{
    fprintf(ctl->out, "cardea %s\n", CARDEA_VERSION);
    return CTL_OK;
}

/* The configuration that was named or found; NULL after a message. */
static const char *
choose_file(struct ctl *ctl)
{
    if (ctl->file != NULL) {
        return ctl->file;
    }
    for (size_t i = 0; ctl->files[i] != NULL; i++) {
        if (access(ctl->files[i], F_OK) == 0) {
            return ctl->files[i];
        }
    }
    fprintf(ctl->errors, "cardea %s: no configuration:", ctl->verb);
    for (size_t i = 0; ctl->files[i] != NULL; i++) {
        fprintf(ctl->errors, "%s %s", i > 0 ? " and" : "", ctl->files[i]);
    }
    fputs(" do not exist; name one with -f FILE\n", ctl->errors);
    return NULL;
}

static int
verb_check(struct ctl *ctl)
{
    const char *file = choose_file(ctl);
    int status;

    if (file == NULL) {
        return CTL_CONFIG;
    }
    status = ctl->check(ctl, file);
    if (status == CTL_OK && !ctl->is_verbose) {
        fprintf(ctl->out, "%s: ok\n", file);
    }
    return status;
}

static int
verb_run(struct ctl *ctl)
{
    const char *file;

    if (ctl->only_check) {
        return verb_check(ctl);
    }
    file = choose_file(ctl);
    return file != NULL ? ctl->run(ctl, file) : CTL_CONFIG;
}

static int
verb_serve(struct ctl *ctl)
{
    return ctl->serve(ctl);
}

static int
verb_save(struct ctl *ctl)
{
    return ctl->save(ctl);
}

static int
verb_status(struct ctl *ctl)
{
    return ctl->status(ctl);
}

static int
verb_reload(struct ctl *ctl)
{
    return ctl->reload(ctl);
}

static int
verb_stop(struct ctl *ctl)
{
    return ctl->stop(ctl);
}

static int
verb_top(struct ctl *ctl)
{
    return ctl->top(ctl);
}

static int
verb_why(struct ctl *ctl)
{
    return ctl->why(ctl);
}

static int
verb_log(struct ctl *ctl)
{
    return ctl->log(ctl);
}

static int
verb_metrics(struct ctl *ctl)
{
    return ctl->metrics(ctl);
}

static int
verb_call(struct ctl *ctl)
{
    return ctl->call(ctl);
}

static int
verb_doctor(struct ctl *ctl)
{
    return ctl->doctor(ctl);
}

static int
verb_doors(struct ctl *ctl)
{
    return ctl->doors(ctl);
}

static int
verb_chaos(struct ctl *ctl)
{
    return ctl->chaos(ctl);
}

/* --- Words ------------------------------------------------------------- */

static int
bad_usage(struct ctl *ctl, const struct verb *verb, const char *what,
          const char *word)
{
    fprintf(ctl->errors, "cardea %s: %s %s\n", verb->name, what, word);
    print_usage(ctl->errors, verb);
    return CTL_USAGE;
}

/* Where an option goes that the verb itself understands. */
static const char **
text_of(struct ctl *ctl, enum ctl_option what)
{
    return what == CTL_OPTION_AS            ? &ctl->as_kind
           : what == CTL_OPTION_OUTPUT      ? &ctl->output
           : what == CTL_OPTION_SIGNAL      ? &ctl->signals
           : what == CTL_OPTION_PROBABILITY ? &ctl->probability
           : what == CTL_OPTION_SEED        ? &ctl->seed
           : what == CTL_OPTION_MODULE      ? &ctl->module
           : what == CTL_OPTION_EVENT       ? &ctl->event
           : what == CTL_OPTION_REQUEST     ? &ctl->request
           : what == CTL_OPTION_LEVEL       ? &ctl->level
                                            : &ctl->file;
}

static int
set_time(struct ctl *ctl, const struct verb *verb, uint64_t *p_ns,
         const char *value)
{
    return conf_time_parse(value, strlen(value), p_ns) == CONF_NUMBER_OK
               ? CTL_OK
               : bad_usage(ctl, verb, "no time (10s, 2m):", value);
}

static int
set_option(struct ctl *ctl, const struct verb *verb,
           const struct option *option, const char *value)
{
    switch (option->what) {
    case CTL_OPTION_ONLY_CHECK:
        ctl->only_check = true;
        return CTL_OK;
    case CTL_OPTION_DEFINE:
        if (ctl->n_defines == CTL_DEFINES_MAX) {
            return bad_usage(ctl, verb, "more than 64 -D:", value);
        }
        ctl->defines[ctl->n_defines++] = value;
        return CTL_OK;
    case CTL_OPTION_VERBOSE:
        ctl->is_verbose = true;
        return CTL_OK;
    case CTL_OPTION_JSON:
        ctl->as_json = true;
        return CTL_OK;
    case CTL_OPTION_MODULES:
        ctl->as_modules = true;
        return CTL_OK;
    case CTL_OPTION_FOLLOW:
        ctl->follow = true;
        return CTL_OK;
    case CTL_OPTION_NOW:
        ctl->now = true;
        return CTL_OK;
    case CTL_OPTION_HEAD:
        ctl->with_head = true;
        return CTL_OK;
    case CTL_OPTION_FD:
        if (ctl->n_fds == CTL_FDS_MAX) {
            return bad_usage(ctl, verb, "more than 16 --fd:", value);
        }
        ctl->fds[ctl->n_fds++] = value;
        return CTL_OK;
    case CTL_OPTION_PRINT:
        ctl->only_print = true;
        return CTL_OK;
    case CTL_OPTION_UNIT:
        if (strcmp(value, "system") != 0 && strcmp(value, "user") != 0) {
            return bad_usage(ctl, verb, "neither system nor user:", value);
        }
        ctl->unit = value;
        return CTL_OK;
    case CTL_OPTION_WAIT:
        return set_time(ctl, verb, &ctl->wait_ns, value);
    case CTL_OPTION_TIME:
        return set_time(ctl, verb, &ctl->time_ns, value);
    case CTL_OPTION_FILE:
    case CTL_OPTION_AS:
    case CTL_OPTION_OUTPUT:
    case CTL_OPTION_SIGNAL:
    case CTL_OPTION_PROBABILITY:
    case CTL_OPTION_SEED:
    case CTL_OPTION_MODULE:
    case CTL_OPTION_EVENT:
    case CTL_OPTION_REQUEST:
    case CTL_OPTION_LEVEL:
        *text_of(ctl, option->what) = value;
        return CTL_OK;
    }
    return CTL_USAGE;
}

/* The option of VERB that WORD is; its value, if it is in the same word, in
 * *P_VALUE: -fFILE, --wait=TIME. */
static const struct option *
find_option(const struct verb *verb, const char *word, const char **p_value)
{
    *p_value = NULL;
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const struct option *o = &options[i];
        size_t len = strlen(o->flag);

        if (!is_of(o, verb) || strncmp(word, o->flag, len) != 0) {
            continue;
        }
        if (word[len] == '\0') {
            return o;
        }
        if (o->argument[0] != '\0' && (o->flag[1] != '-' || word[len] == '=')) {
            *p_value = word + len + (o->flag[1] == '-');
            return o;
        }
    }
    return NULL;
}

/* How many operands VERB takes at most: its words but for brackets. */
static size_t
n_operands(const struct verb *verb)
{
    size_t n = verb->operands[0] != '\0';

    for (const char *s = verb->operands; *s != '\0'; s++) {
        n += *s == ' ';
    }
    return n;
}

static int
unknown_option(struct ctl *ctl, const struct verb *verb, const char *word)
{
    const char *near = near_option(verb, word);

    if (near == NULL) {
        return bad_usage(ctl, verb, "no option", word);
    }
    fprintf(ctl->errors, "cardea %s: no option %s; did you mean %s?\n",
            verb->name, word, near);
    print_usage(ctl->errors, verb);
    return CTL_USAGE;
}

/* Many give the configuration as a word. */
static int
word_too_many(struct ctl *ctl, const struct verb *verb, const char *word)
{
    const struct option *file = NULL;

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (is_of(&options[i], verb) && options[i].what == CTL_OPTION_FILE) {
            file = &options[i];
        }
    }
    if (file == NULL || ctl->file != NULL || verb->operands[0] != '\0') {
        return bad_usage(ctl, verb, "one word too many:", word);
    }
    fprintf(ctl->errors,
            "cardea %s: one word too many: %s; did you mean -f %s?\n",
            verb->name, word, word);
    print_usage(ctl->errors, verb);
    return CTL_USAGE;
}

static int
read_option(struct ctl *ctl, const struct verb *verb, int argc,
            char *const *argv, int *p_i)
{
    const char *word = argv[*p_i];
    const char *value;
    const struct option *option = find_option(verb, word, &value);
    char what[64];

    if (option == NULL) {
        return unknown_option(ctl, verb, word);
    }
    if (option->argument[0] != '\0' && value == NULL && *p_i + 1 < argc) {
        value = argv[++*p_i];
    }
    if (option->argument[0] != '\0' && value == NULL) {
        snprintf(what, sizeof(what), "no %s behind", option->argument);
        return bad_usage(ctl, verb, what, word);
    }
    return set_option(ctl, verb, option, value);
}

/* Reads the words behind the verb as the table allows them. 0, a status, or -1:
 * help is wanted. */
static int
read_words(struct ctl *ctl, const struct verb *verb, int argc,
           char *const *argv)
{
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        int status = CTL_OK;

        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            return -1;
        }
        if (word[0] == '-' && word[1] != '\0') {
            status = read_option(ctl, verb, argc, argv, &i);
        } else if (ctl->n_words < n_operands(verb)) {
            ctl->words[ctl->n_words++] = word;
        } else {
            status = word_too_many(ctl, verb, word);
        }
        if (status != CTL_OK) {
            return status;
        }
    }
    if (ctl->n_words == 0 && verb->operands[0] != '\0' &&
        verb->operands[0] != '[') {
        return bad_usage(ctl, verb, "missing:", verb->operands);
    }
    return CTL_OK;
}

static int
run_verb(struct ctl *ctl, const struct verb *verb, int argc, char *const *argv)
{
    int status;

    ctl->verb = verb->name;
    ctl->wait_ns = UINT64_MAX;
    ctl->time_ns = UINT64_MAX;
    status = read_words(ctl, verb, argc, argv);
    if (status > 0) {
        return status;
    }
    if (status < 0) {
        explain_verb(ctl->out, verb);
        status = CTL_OK;
    } else {
        status = verb->function(ctl);
    }
    if (fflush(ctl->out) != 0 && status == CTL_OK) {
        status = CTL_FAILED; /* the answer did not arrive */
    }
    return status;
}

int
ctl_main(struct ctl *ctl, int argc, char *const *argv)
{
    static const struct {
        const char *word, *verb;
    } aliases[] = {
        {"-n", "check"},   {"--help", "help"},       {"-h", "help"},
        {"-V", "version"}, {"--version", "version"},
    };
    const char *word = argc > 1 ? argv[1] : NULL;
    const struct verb *verb;

    if (word == NULL) {
        list_verbs(ctl->errors);
        return CTL_USAGE;
    }
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcmp(word, aliases[i].word) == 0) {
            word = aliases[i].verb;
        }
    }
    verb = find_verb(word);
    if (verb == NULL) {
        return unknown_verb(ctl, word);
    }
    return run_verb(ctl, verb, argc - 2, argv + 2);
}
