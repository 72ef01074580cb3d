/* One table (verbs.def) drives dispatch and help, so that no verb can be named
 * and not done, or done and not named. Options are read here by hand: there are
 * three, and getopt keeps global state. */
#include "ctl/ctl.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

struct options {
    const char *file;
    bool only_check;
    const char *word; /* what is no option */
};

typedef int verb_function(struct ctl *ctl, const struct options *options);

#define VERB(name, usage, line, text) static verb_function verb_##name;
#include "ctl/verbs.def"
#undef VERB

static const struct verb {
    const char *name, *usage, *line, *text;
    verb_function *function;
} verbs[] = {
#define VERB(name, usage, line, text) {#name, usage, line, text, verb_##name},
#include "ctl/verbs.def"
#undef VERB
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

const char *
ctl_nearest(const char *word)
{
    const char *best = NULL;
    size_t least = 3;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        size_t d = distance(word, verbs[i].name);

        if (d < least && d < strlen(verbs[i].name)) {
            least = d;
            best = verbs[i].name;
        }
    }
    return best;
}

static void
list_verbs(FILE *to)
{
    fputs("usage: cardea VERB [OPTION...]\n\n", to);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        fprintf(to, "  %s\n      %s\n", verbs[i].usage, verbs[i].line);
    }
    fputs("\ncardea help VERB explains one. See cardea(1).\n", to);
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
verb_help(struct ctl *ctl, const struct options *options)
{
    const struct verb *verb;

    if (options->word == NULL) {
        list_verbs(ctl->out);
        return CTL_OK;
    }
    verb = find_verb(options->word);
    if (verb == NULL) {
        return unknown_verb(ctl, options->word);
    }
    fprintf(ctl->out, "usage: cardea %s\n\n%s", verb->usage, verb->text);
    return CTL_OK;
}

static int
verb_version(struct ctl *ctl, const struct options *options)
{
    fprintf(ctl->out, "cardea %s\n", CARDEA_VERSION);
    return CTL_OK;
}

/* The configuration that was named or found; NULL after a message. */
static const char *
choose_file(struct ctl *ctl, const struct options *options)
{
    if (options->file != NULL) {
        return options->file;
    }
    for (size_t i = 0; ctl->files[i] != NULL; i++) {
        if (access(ctl->files[i], F_OK) == 0) {
            return ctl->files[i];
        }
    }
    fputs("cardea: no configuration:", ctl->errors);
    for (size_t i = 0; ctl->files[i] != NULL; i++) {
        fprintf(ctl->errors, "%s %s", i > 0 ? " and" : "", ctl->files[i]);
    }
    fputs(" do not exist; name one with -f FILE\n", ctl->errors);
    return NULL;
}

static int
verb_check(struct ctl *ctl, const struct options *options)
{
    const char *file = choose_file(ctl, options);
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
verb_run(struct ctl *ctl, const struct options *options)
{
    const char *file;

    if (options->only_check) {
        return verb_check(ctl, options);
    }
    file = choose_file(ctl, options);
    return file != NULL ? ctl->serve(ctl, file) : CTL_CONFIG;
}

static int
bad_usage(struct ctl *ctl, const struct verb *verb, const char *what,
          const char *word)
{
    fprintf(ctl->errors, "cardea %s: %s %s\nusage: cardea %s\n", verb->name,
            what, word, verb->usage);
    return CTL_USAGE;
}

static bool
takes(const struct verb *verb, const char *option)
{
    return strstr(verb->usage, option) != NULL;
}

/* Takes -D name=value, as one word or two, at argument *P_I. What is wrong with
 * the two sides of the '=' is said by those who read the configuration. */
static int
read_define(struct ctl *ctl, const struct verb *verb, int argc,
            char *const *argv, int *p_i)
{
    const char *word = argv[*p_i];
    const char *text = word[2] != '\0'   ? word + 2
                       : *p_i + 1 < argc ? argv[++*p_i]
                                         : NULL;

    if (text == NULL) {
        return bad_usage(ctl, verb, "no name=value behind", word);
    }
    if (ctl->n_defines == CTL_DEFINES_MAX) {
        return bad_usage(ctl, verb, "more than 64 -D:", text);
    }
    ctl->defines[ctl->n_defines++] = text;
    return CTL_OK;
}

/* Reads the words behind the verb as its usage line allows them. */
static int
read_options(struct ctl *ctl, const struct verb *verb, int argc,
             char *const *argv, struct options *options)
{
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];

        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            options->word = "--help";
            return CTL_OK;
        }
        if (strncmp(word, "-f", 2) == 0 && takes(verb, "-f")) {
            options->file = word[2] != '\0' ? word + 2
                            : i + 1 < argc  ? argv[++i]
                                            : NULL;
            if (options->file == NULL) {
                return bad_usage(ctl, verb, "no file behind", word);
            }
        } else if (strcmp(word, "-n") == 0 && takes(verb, "-n")) {
            options->only_check = true;
        } else if (strcmp(word, "-v") == 0 && takes(verb, "-v")) {
            ctl->is_verbose = true;
        } else if (strncmp(word, "-D", 2) == 0 && takes(verb, "-D")) {
            int status = read_define(ctl, verb, argc, argv, &i);

            if (status != CTL_OK) {
                return status;
            }
        } else if (word[0] == '-') {
            return bad_usage(ctl, verb, "no option", word);
        } else if (takes(verb, "VERB") && options->word == NULL) {
            options->word = word;
        } else {
            return bad_usage(ctl, verb, "one word too many:", word);
        }
    }
    return CTL_OK;
}

static int
run_verb(struct ctl *ctl, const struct verb *verb, int argc, char *const *argv)
{
    struct options options = {0};
    int status = read_options(ctl, verb, argc, argv, &options);

    if (status != CTL_OK) {
        return status;
    }
    if (options.word != NULL && strcmp(options.word, "--help") == 0) {
        options.word = verb->name;
        verb = find_verb("help");
    }
    status = verb->function(ctl, &options);
    if (fflush(ctl->out) != 0 && status == CTL_OK) {
        status = CTL_START_FAILED; /* the answer did not arrive */
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
