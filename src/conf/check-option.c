/* The values of a module's options. */
#include "conf/check.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "conf/text.h"

#define DAY_NS       (24 * 3600ull * NS_PER_SEC)
#define NAME_MAX_LEN 64
#define ENTRIES_MAX  64 /* of one option in one module */

static const char *const examples[CONF_OPTIONS] = {
#define OPTION(option, name, example, kinds) example,
#include "conf/module.def"
#undef OPTION
};

/* What the word of an amount is, and what it takes. */
static const struct amount {
    const char *name;
    enum conf_option option;
    char kind; /* 'B'ytes, 'T'ime, 'C'ount */
    uint64_t min, max;
    const char *range, *example;
} amounts[CONF_AMOUNTS] = {
    [CONF_LIMIT_MEMORY] = {"memory", CONF_OPTION_LIMIT, 'B', 1 << 20,
                           1ull << 50, "1M to 1048576G", "256M"},
    [CONF_LIMIT_FILES] = {"files", CONF_OPTION_LIMIT, 'C', 16, 1 << 30,
                          "16 to 1073741824", "1024"},
    [CONF_LIMIT_PROCESSES] = {"processes", CONF_OPTION_LIMIT, 'C', 1, 1 << 22,
                              "1 to 4194304", "100"},
    [CONF_LIMIT_CPU] = {"cpu", CONF_OPTION_LIMIT, 'T', NS_PER_SEC, 365 * DAY_NS,
                        "1s to 365d", "60s"},
    [CONF_LIMIT_RATE] = {"rate", CONF_OPTION_LIMIT, 'C', 1, 1000000,
                         "1 to 1000000 (starts a minute)", "256"},
    [CONF_RECYCLE_CALLS] = {"calls", CONF_OPTION_RECYCLE, 'C', 1, 1ull << 40,
                            "1 to 1099511627776", "10000"},
    [CONF_RECYCLE_MEMORY] = {"memory", CONF_OPTION_RECYCLE, 'B', 1 << 20,
                             1ull << 50, "1M to 1048576G", "256M"},
    [CONF_RECYCLE_AGE] = {"age", CONF_OPTION_RECYCLE, 'T', NS_PER_SEC,
                          365 * DAY_NS, "1s to 365d", "1d"},
};

const char *
conf_amount_name(enum conf_amount amount)
{
    return amounts[amount].name;
}

/* A mistake was reported where the amount stays 0. */
static void
amount_store(struct conf_check *check, struct conf_module *module,
             const struct amount *amount, const struct conf_word *name,
             const struct conf_word *value)
{
    uint64_t *to = &module->amounts[amount - amounts];

    if (amount->kind == 'T') {
        conf_check_time(check, name, value, amount->min, amount->max,
                        amount->range, to);
    } else if (amount->kind == 'B') {
        conf_check_size(check, name, value, amount->min, amount->max,
                        amount->range, amount->example, to);
    } else {
        conf_check_count(check, name, value, amount->min, amount->max,
                         amount->range, amount->example, to);
    }
}

/* `limit memory 256M`. */
static void
option_amount(struct conf_check *check, struct conf_module *module,
              enum conf_option option, const struct conf_node *node)
{
    const struct conf_words *what = node->words;
    const char *names[CONF_AMOUNTS + 1] = {NULL}, *near;
    const struct conf_word *value;
    const struct amount *amount = NULL;
    size_t n = 0, i;

    if (!what) {
        conf_check_single(check, &node->name, NULL, examples[option]);
        return;
    }
    for (i = 0; i < CONF_AMOUNTS; i++) {
        if (amounts[i].option == option) {
            names[n++] = amounts[i].name;
            if (conf_word_is(&what->word, amounts[i].name)) {
                amount = &amounts[i];
            }
        }
    }
    if (!amount) {
        near = conf_name_near(names, what->word.text, what->word.len);
        conf_report_add(check->report, what->word.where,
                        "'%s' is nothing that '%s' knows: did you mean '%s'?",
                        conf_shown(what->word.text, what->word.len).text,
                        conf_option_name(option), near ? near : names[0]);
        return;
    }
    i = (size_t)(amount - amounts);
    if (module->amount_wheres[i].line) {
        conf_report_add(check->report, what->word.where,
                        "'%s %s' is already given %s", conf_option_name(option),
                        amount->name,
                        conf_there(check->report, what->word.where,
                                   module->amount_wheres[i])
                            .text);
        return;
    }
    value = conf_check_single(check, &what->word, what->next, amount->example);
    if (!value) {
        return;
    }
    module->amount_wheres[i] = node->name.where;
    conf_where_value(&module->amount_wheres[i], what->next);
    amount_store(check, module, amount, &what->word, value);
}

/* Room for one more in ENTRIES. NULL: reported, or no memory. */
static struct conf_entry *
entry_add(struct conf_check *check, struct conf_entries *entries,
          const struct conf_node *node)
{
    struct conf_entry *list;

    if (entries->n == ENTRIES_MAX) {
        conf_report_add(check->report, node->name.where,
                        "more than %d of '%.*s' in one module", ENTRIES_MAX,
                        (int)node->name.len, node->name.text);
        return NULL;
    }
    list = conf_memory_grow(check->memory, entries->list, entries->n,
                            sizeof(*list));
    if (!list) {
        /* not reached: no memory */
        return NULL;
    }
    entries->list = list;
    list += entries->n;
    *list = (struct conf_entry){.where = node->name.where};
    conf_where_value(&list->where, node->words);
    return list;
}

/* Letters, digits and '_', no digit first; with DASHES '-' too. */
static bool
name_is_valid(const char *text, size_t len, bool dashes)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool digit = c >= '0' && c <= '9';

        if (!letter && c != '_' &&
            (i == 0 || (!digit && !(dashes && c == '-')))) {
            return false;
        }
    }
    return len > 0 && len <= NAME_MAX_LEN;
}

/* Is NAME in ENTRIES already? Then it is reported. */
static bool
name_is_taken(struct conf_check *check, const struct conf_entries *entries,
              const struct conf_word *word, const char *name, size_t len)
{
    for (size_t i = 0; i < entries->n; i++) {
        const struct conf_entry *entry = &entries->list[i];

        if (strlen(entry->name) == len && memcmp(entry->name, name, len) == 0) {
            conf_report_add(
                check->report, word->where, "'%s' is already given %s",
                entry->name,
                conf_there(check->report, word->where, entry->where).text);
            return true;
        }
    }
    return false;
}

/* `environment NAME=VALUE`. */
static void
option_environment(struct conf_check *check, struct conf_module *module,
                   const struct conf_node *node)
{
    const struct conf_word *word =
        conf_check_single(check, &node->name, node->words, "LANG=C");
    const char *equals = word ? memchr(word->text, '=', word->len) : NULL;
    size_t len = equals ? (size_t)(equals - word->text) : 0;
    struct conf_entry *entry;

    if (!word) {
        return;
    }
    if (!name_is_valid(word->text, len, false)) {
        conf_report_add(check->report, word->where,
                        "'%s': write NAME=VALUE, a name of letters, digits and "
                        "'_'",
                        conf_shown(word->text, word->len).text);
        return;
    }
    if (len >= 7 && memcmp(word->text, "CARDEA_", 7) == 0) {
        conf_report_add(check->report, word->where,
                        "names that begin with CARDEA_ are Cardea's own");
        return;
    }
    if (name_is_taken(check, &module->environment, word, word->text, len)) {
        return;
    }
    entry = entry_add(check, &module->environment, node);
    if (entry) {
        entry->name = conf_memory_text(check->memory, word->text, len);
        entry->value =
            conf_memory_text(check->memory, equals + 1, word->len - len - 1);
        module->environment.n += entry->name && entry->value;
    }
}

/* WORD as a file or folder that exists. NULL: reported. */
static char *
path_that_exists(struct conf_check *check, const struct conf_word *word,
                 bool is_file)
{
    char *path = conf_check_path(check, word);
    int kind = path ? check->outside->file(check->outside->ctx, path) : 0;

    if (!path) {
        return NULL;
    }
    if (kind < 0) {
        conf_report_add(check->report, word->where, "'%s' cannot be used: %s",
                        conf_shown_end(path).text, strerror(-kind));
        return NULL;
    }
    if (is_file && kind != CONF_FILE_PLAIN && kind != CONF_FILE_PROGRAM) {
        conf_report_add(check->report, word->where, "'%s' is not a plain file",
                        conf_shown_end(path).text);
        return NULL;
    }
    return path;
}

/* `secret NAME from FILE`. */
static void
option_secret(struct conf_check *check, struct conf_module *module,
              const struct conf_node *node)
{
    const struct conf_words *name = node->words;
    const struct conf_words *from = name ? name->next : NULL;
    const struct conf_word *word;
    struct conf_entry *entry;
    char *path;

    if (!from || !conf_word_is(&from->word, "from") || !from->next) {
        conf_report_add(check->report, node->name.where,
                        "write secret NAME from FILE");
        return;
    }
    if (!name_is_valid(name->word.text, name->word.len, true)) {
        conf_report_add(check->report, name->word.where,
                        "'%s' is no name for a secret: use up to %d letters, "
                        "digits, '_' and '-', a letter first",
                        conf_shown(name->word.text, name->word.len).text,
                        NAME_MAX_LEN);
        return;
    }
    word = conf_check_single(check, &from->word, from->next, "FILE");
    path = word ? path_that_exists(check, word, true) : NULL;
    if (!path || name_is_taken(check, &module->secrets, &name->word,
                               name->word.text, name->word.len)) {
        return;
    }
    entry = entry_add(check, &module->secrets, node);
    if (entry) {
        entry->name =
            conf_memory_text(check->memory, name->word.text, name->word.len);
        entry->value = path;
        module->secrets.n += entry->name != NULL;
    }
}

/* `read PATH`, `write PATH`. */
static void
option_path(struct conf_check *check, struct conf_entries *entries,
            const struct conf_node *node)
{
    const struct conf_word *word =
        conf_check_single(check, &node->name, node->words, "/srv/data");
    char *path = word ? path_that_exists(check, word, false) : NULL;
    struct conf_entry *entry = path ? entry_add(check, entries, node) : NULL;

    if (entry) {
        entry->value = path;
        entries->n++;
    }
}

/* `wsgi FILE:NAME`; the name is `application` unless written. */
static void
option_wsgi(struct conf_check *check, struct conf_module *module,
            const struct conf_word *word)
{
    const char *colon = memrchr(word->text, ':', word->len);
    size_t len = colon ? (size_t)(colon - word->text) : word->len;
    struct conf_word file = *word;
    char *path, *name, *start;

    if (colon && !name_is_valid(colon + 1, word->len - len - 1, false)) {
        conf_report_add(check->report, word->where,
                        "'%s': behind the ':' stands the name of a callable",
                        conf_shown(word->text, word->len).text);
        return;
    }
    file.len = len;
    path = path_that_exists(check, &file, true);
    if (!path) {
        return;
    }
    name = colon ? conf_memory_text(check->memory, colon, word->len - len)
                 : conf_memory_text(check->memory, ":application", 12);
    start = name ? conf_memory_join(check->memory, path, name) : NULL;
    module->app = start;
}

/* Where a program listens: as for forward, but with a port that is not 0. The
 * canonical text is kept. */
static void
option_address(struct conf_check *check, struct conf_module *module,
               const struct conf_word *word)
{
    struct conf_listen listen = {0};
    struct conf_word path = *word;
    const char *wrong;
    char *text;

    if (word->len >= 5 && memcmp(word->text, "unix:", 5) == 0) {
        path.text += 5;
        path.len -= 5;
        text = conf_check_path(check, &path);
        if (text && strlen(text) > 107) {
            conf_report_add(check->report, word->where,
                            "a socket's path has at most 107 bytes");
            return;
        }
        module->address =
            text ? conf_memory_join(check->memory, "unix:", text) : NULL;
        return;
    }
    wrong = conf_address_parse(word->text, word->len, &listen);
    if (!wrong && (listen.is_default_port || word->text[0] == ':')) {
        wrong = "write HOST:PORT or unix:PATH";
    }
    if (wrong) {
        conf_report_add(check->report, word->where, "address '%s': %s",
                        conf_shown(word->text, word->len).text, wrong);
        return;
    }
    module->address = conf_memory_text(check->memory, word->text, word->len);
}

/* The kinds, and what stands behind them. */
static void
option_kind(struct conf_check *check, struct conf_module *module,
            enum conf_option option, const struct conf_node *node)
{
    struct conf_words *words = node->words;
    const struct conf_word *word;

    if (option == CONF_OPTION_INETD && words && words->next &&
        conf_word_is(&words->word, "wait")) {
        module->is_wait = true;
        words = words->next;
    }
    if ((option == CONF_OPTION_EXEC || option == CONF_OPTION_SCRIPTS) &&
        words && words->next && conf_word_is(&words->word, "plain")) {
        module->is_plain = true;
        words = words->next;
    }
    if (!words && (option == CONF_OPTION_FASTCGI ||
                   option == CONF_OPTION_SCGI || option == CONF_OPTION_HTTP)) {
        return; /* with an address: module_whole() looks */
    }
    word = conf_check_single(check, &node->name, words, examples[option]);
    if (!word) {
        return;
    }
    if (option == CONF_OPTION_WSGI) {
        option_wsgi(check, module, word);
    } else if (option == CONF_OPTION_SCRIPTS) {
        module->root = conf_check_folder(check, word);
    } else {
        module->argv = conf_check_command(check, word);
    }
}

/* `python PATH`: a program. */
static void
option_python(struct conf_check *check, struct conf_module *module,
              const struct conf_word *word)
{
    char **argv = conf_check_command(check, word);

    if (argv && argv[1]) {
        conf_report_add(check->report, word->where,
                        "'python' is the path of an interpreter, without "
                        "arguments");
        return;
    }
    module->python = argv ? argv[0] : NULL;
}

/* `index NAME`: a file's name. */
static void
option_index(struct conf_check *check, struct conf_module *module,
             const struct conf_word *word)
{
    if (word->len == 0 || word->len > NAME_MAX ||
        memchr(word->text, '/', word->len) || word->text[0] == '.') {
        conf_report_add(check->report, word->where,
                        "'%s' is no name of a file, such as index.php",
                        conf_shown(word->text, word->len).text);
        return;
    }
    module->index = conf_memory_text(check->memory, word->text, word->len);
}

/* Options with one word. */
static void
option_single(struct conf_check *check, struct conf_module *module,
              enum conf_option option, const struct conf_node *node)
{
    const struct conf_word *word =
        conf_check_single(check, &node->name, node->words, examples[option]);

    if (!word) {
        return;
    }
    if (option == CONF_OPTION_ADDRESS) {
        option_address(check, module, word);
    } else if (option == CONF_OPTION_ROOT) {
        module->root = conf_check_folder(check, word);
    } else if (option == CONF_OPTION_INDEX) {
        option_index(check, module, word);
    } else if (option == CONF_OPTION_PYTHON) {
        option_python(check, module, word);
    } else if (option == CONF_OPTION_USER) {
        module->user = conf_check_user(check, word);
    } else if (option == CONF_OPTION_GROUP) {
        module->group = conf_check_group(check, word);
    } else if (option == CONF_OPTION_FOLDER) {
        module->folder = conf_check_folder(check, word);
    } else if (option == CONF_OPTION_TIMEOUT) {
        conf_check_time(check, &node->name, word, NS_PER_MS, DAY_NS,
                        "1ms to 1d", &module->timeout_ns);
    } else if (option == CONF_OPTION_START_TIMEOUT) {
        conf_check_time(check, &node->name, word, NS_PER_MS, DAY_NS,
                        "1ms to 1d", &module->start_timeout_ns);
    } else if (option == CONF_OPTION_IDLE) {
        module->has_idle = conf_check_time(check, &node->name, word, 0, DAY_NS,
                                           "0s to 1d", &module->idle_ns) == 0;
    } else if (option == CONF_OPTION_COPIES) {
        conf_check_count(check, &node->name, word, 1, 10000, "1 to 10000", "20",
                         &module->copies);
    } else if (option == CONF_OPTION_FLOOR) {
        module->has_floor =
            conf_check_count(check, &node->name, word, 0, 1000, "0 to 1000",
                             "2", &module->floor) == 0;
    } else if (option == CONF_OPTION_CEILING) {
        conf_check_count(check, &node->name, word, 1, 10000, "1 to 10000", "50",
                         &module->ceiling);
    } else if (option == CONF_OPTION_QUEUE) {
        conf_check_count(check, &node->name, word, 1, 65536, "1 to 65536",
                         "100", &module->queue);
    }
}

/* `calls per copy 8`. */
static void
option_calls(struct conf_check *check, struct conf_module *module,
             const struct conf_node *node)
{
    const struct conf_words *per = node->words;
    const struct conf_words *copy = per ? per->next : NULL;
    const struct conf_word *word;

    if (!copy || !conf_word_is(&per->word, "per") ||
        !conf_word_is(&copy->word, "copy") || !copy->next) {
        conf_report_add(check->report, node->name.where,
                        "write calls per copy NUMBER");
        return;
    }
    word = conf_check_single(check, &copy->word, copy->next, "8");
    if (word) {
        conf_check_count(check, &node->name, word, 1, 10000, "1 to 10000", "8",
                         &module->calls);
    }
}

void
conf_check_option(struct conf_check *check, struct conf_module *module,
                  enum conf_option option, const struct conf_node *node)
{
    if ((size_t)option < CONF_MODULE_KINDS) {
        option_kind(check, module, option, node);
    } else if (option == CONF_OPTION_ENVIRONMENT) {
        option_environment(check, module, node);
    } else if (option == CONF_OPTION_SECRET) {
        option_secret(check, module, node);
    } else if (option == CONF_OPTION_READ) {
        option_path(check, &module->reads, node);
    } else if (option == CONF_OPTION_WRITE) {
        option_path(check, &module->writes, node);
    } else if (option == CONF_OPTION_LIMIT || option == CONF_OPTION_RECYCLE) {
        option_amount(check, module, option, node);
    } else if (option == CONF_OPTION_CALLS) {
        option_calls(check, module, node);
    } else {
        option_single(check, module, option, node);
    }
}
