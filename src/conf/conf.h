/* cardea.conf: what the file says, checked and complete. Made by conf_load(),
 * read by the keeper and (after fork) by the workers; never changed after. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

struct conf_where {
    int line, column; /* both from 1; 0: nowhere, a default */
    uint16_t file;    /* index into conf.files; 0 is the file that was named */
    uint16_t macro;   /* 1 + index into conf.macros: what stands there came from
                       * it; 0: was written there */
    bool is_mixed;    /* from other macros as well */
};

/* A file that was read. */
struct conf_input {
    char *name;   /* for messages: as given, or beside the including file */
    char *path;   /* absolute */
    char *folder; /* its folder: its relative paths start here */
    uint64_t device, inode; /* both 0: not known */
    struct conf_where from; /* of its include; line 0: the first file */
};

/* Of what has a place in a list that others keep the number of. As read, all
 * of a configuration is live; see merge.h. */
enum conf_presence {
    CONF_LIVE,
    CONF_GONE, /* not in the configuration any more, but perhaps in use */
    CONF_FREE, /* and not in use: the next one may have its place */
};

struct conf_macro {
    char *name, *value;
    struct conf_where where; /* line 0: -D, and no file defines it */
    bool is_given;           /* by -D: a file's definition does not count */
    bool is_used;
};

enum conf_target_kind {
    CONF_TARGET_DOOR,   /* a path in the file system */
    CONF_TARGET_MODULE, /* a module's own door */
    CONF_TARGET_FILES,  /* a folder of plain files */
};

struct conf_target {
    enum conf_target_kind kind;
    enum conf_presence presence;
    char *path;    /* door or folder, absolute; NULL for a module */
    size_t module; /* index into conf.modules */
    struct conf_where where;
};

struct conf_route {
    char *method; /* NULL: any */
    char *path;   /* prefix, starts with '/', no '/' at its end but "/" */
    size_t path_len;
    size_t target;    /* index into conf.targets (equal targets are one) */
    uint32_t methods; /* bits of the listener's methods that it answers */
    /* Of the method, the path and the target; of a route without map all of its
     * target. NULL: not kept. */
    struct conf_where *wheres;
};

/* Bounds of one listener's method table: what keeps the text of an Allow field
 * within CONF_ALLOW_MAX, whatever the file says. */
#define CONF_METHOD_LEN  20 /* longest method, bytes */
#define CONF_METHODS_MAX 16 /* different methods, HEAD beside GET included */
#define CONF_ALLOW_MAX   (CONF_METHODS_MAX * (CONF_METHOD_LEN + 2))

#define CONF_LISTENS_MAX 32 /* listeners of a configuration */

/* What a listener makes of a connection. */
enum conf_protocol {
    CONF_HTTP,     /* requests, by routes */
    CONF_TCP_CALL, /* what one read gave is one call; its reply; close */
    CONF_TCP_PASS, /* the connection's descriptor is the call's argument */
    CONF_TCP_WAIT, /* nothing: the module has the socket, and accepts */
};

struct conf_listen {
    char *text;                  /* as written, for messages */
    enum conf_protocol protocol; /* but for HTTP there is one route, "/" */
    bool is_hidden;              /* of `set metrics`: no forward is written */
    enum conf_presence presence;
    mode_t mode; /* of the socket file of a unix: address (AF_UNIX, a path
                  * that is absolute and ends with NUL): 0666 unless written */
    struct conf_where mode_where; /* line 0: unless written */
    struct sockaddr_storage addr;
    socklen_t addr_len;
    bool is_default_port; /* nobody wrote the port: a free one near will do */
    struct conf_route *routes; /* longest path first: see route.h */
    size_t n_routes;
    char *methods[CONF_METHODS_MAX]; /* sorted; bit I of a route is entry I */
    size_t n_methods;
    struct conf_where where;
};

/* The module that serves `set metrics`; nobody else's can be named so. */
#define CONF_METRICS_NAME "cardea-metrics"

/* What a module is; each is an option of the same name. */
enum conf_module_kind {
    CONF_MODULE_RUN,     /* a program that serves a door itself */
    CONF_MODULE_EXEC,    /* a command a request: CGI/1.1 through a shim */
    CONF_MODULE_INETD,   /* a command a connection, through a shim */
    CONF_MODULE_FASTCGI, /* a program that speaks FastCGI, through a shim */
    CONF_MODULE_SCGI,    /* or SCGI */
    CONF_MODULE_HTTP,    /* or HTTP/1.1 */
    CONF_MODULE_WSGI,    /* a callable of Python */
    CONF_MODULE_SCRIPTS, /* a folder of commands of CGI/1.1 */
    CONF_MODULE_KINDS
};

/* The options of a module, as in module.def. Those of the kinds come first. */
enum conf_option {
#define OPTION(option, name, example, kinds) CONF_OPTION_##option,
#include "conf/module.def"
#undef OPTION
    CONF_OPTIONS
};

/* What `limit` and `recycle` bound. */
enum conf_amount {
    CONF_LIMIT_MEMORY,    /* bytes */
    CONF_LIMIT_FILES,     /* descriptors of one process */
    CONF_LIMIT_PROCESSES, /* processes and threads */
    CONF_LIMIT_CPU,       /* nanoseconds of CPU of one process */
    CONF_LIMIT_RATE,      /* starts a minute (inetd) */
    CONF_RECYCLE_CALLS,   /* a copy is replaced after as many calls */
    CONF_RECYCLE_MEMORY,  /* or above as many bytes */
    CONF_RECYCLE_AGE,     /* or at this age, nanoseconds */
    CONF_AMOUNTS
};

/* One of the options that may stand several times. */
struct conf_entry {
    char *name;  /* of a variable or a secret; NULL: has none */
    char *value; /* a variable's; or a path, absolute */
    struct conf_where where;
};

struct conf_entries {
    struct conf_entry *list;
    size_t n;
};

struct conf_module {
    char *name; /* [a-z0-9][a-z0-9_-]*, at most 32 bytes */
    enum conf_module_kind kind;
    bool is_hidden; /* not the user's own: of `set metrics` */
    enum conf_presence presence;
    char **argv;  /* NULL-terminated; words of the command, no shell; NULL: none
                   * (with address; wsgi, scripts) */
    bool is_wait; /* inetd: the command gets the listening socket */
    bool is_plain; /* exec, scripts: output that is no answer of CGI is the body
                    */
    char
        *address; /* where a program listens: "HOST:PORT", "unix:/PATH"; NULL */
    char *root;   /* fastcgi: document root; scripts: the folder; NULL */
    char *index;  /* fastcgi: of a folder; NULL: index.php */
    char *app;    /* wsgi: "/PATH/FILE.py:NAME" */
    char *python; /* wsgi: the interpreter's path; NULL: python3 of $PATH */
    char *user;   /* NULL: Cardea's own */
    char *group;  /* NULL: the user's */
    char *folder; /* working folder: that of its file unless set */
    uint64_t timeout_ns;       /* of one call: 30 s unless set */
    uint64_t start_timeout_ns; /* until it is ready: 30 s unless set */
    bool has_idle;             /* ends when it had no call for idle_ns */
    uint64_t idle_ns;
    uint64_t copies; /* at most so many processes; 0: as many as it takes */
    bool has_floor;
    uint64_t floor;    /* so many copies stay; 0: no process does */
    uint64_t ceiling;  /* at most so many copies; 0: as memory allows */
    uint64_t calls;    /* at most so many at once in a process; 0: no bound */
    uint64_t queue;    /* calls that may wait for it; 0: as of all doors */
    uint64_t *amounts; /* CONF_AMOUNTS of them, 0: no bound; NULL: none is */
    struct conf_entries environment, secrets, reads, writes;
    struct conf_where where;
    uint32_t set; /* bit of each option that it has */
    /* Where each option stands, of one that stands several times the first, and
     * each amount. NULL: not kept. */
    struct conf_where *wheres, *amount_wheres;
};

/* 0: no bound. */
static inline uint64_t
conf_amount(const struct conf_module *module, enum conf_amount amount)
{
    return module->amounts != NULL ? module->amounts[amount] : 0;
}

static inline bool
conf_is_set(const struct conf_module *module, enum conf_option option)
{
    return (module->set >> option & 1) != 0;
}

/* How the word of OPTION or KIND is written. Static storage. */
static inline const char *
conf_option_name(enum conf_option option)
{
    static const char *const names[] = {
#define OPTION(option, name, example, kinds) name,
#include "conf/module.def"
#undef OPTION
    };

    return names[option];
}

static inline const char *
conf_kind_name(enum conf_module_kind kind)
{
    return conf_option_name((enum conf_option)kind);
}

/* And that of AMOUNT, behind its option. */
const char *conf_amount_name(enum conf_amount amount);

struct conf {
    char *file;               /* path as given */
    char *folder;             /* absolute folder of it */
    struct conf_input *files; /* [0] is FILE; the others in the order in which
                               * they were included */
    size_t n_files;
    char **left_out; /* names in included folders that were not read */
    size_t n_left_out;
    struct conf_macro *macros;
    size_t n_macros;
    struct conf_where *settings; /* where each was set, as in settings.def;
                                  * NULL: not kept, nor where options stand */
    void *block;                 /* owned, that all of it lies in; or NULL */
    struct conf_listen *listens;
    size_t n_listens;
    struct conf_module *modules;
    size_t n_modules;
    struct conf_target *targets;
    size_t n_targets;
    uint64_t body_limit;        /* bytes; 16M */
    uint64_t header_timeout_ns; /* whole head, 10 s */
    uint64_t body_timeout_ns;   /* between body bytes, 30 s */
    uint64_t idle_timeout_ns;   /* kept connection without a request, 60 s */
    uint64_t call_timeout_ns;   /* door call of a plain door, 30 s */
    uint64_t grace_ns;          /* at stop: in-flight requests, 30 s */
    bool access_log;            /* on */
    bool core_files;            /* off: keeper and workers leave none */
    uint64_t workers;           /* 0: one a CPU */
    uint64_t queue;             /* calls that may wait for one door; 1024 */
    uint64_t heirs;             /* of each worker; 2 */
    char *domain; /* lower case; the site's own name, for requests that name no
                   * host; NULL: none */
    char *user;   /* workers run as; NULL: "nobody" when root */
    char *run_folder;    /* NULL: chosen by the keeper */
    char *metrics;       /* the address of their page; NULL: there is none */
    bool metrics_public; /* other machines may reach it */
    char *state_folder;  /* NULL: chosen by the keeper */
};

/* What the command line adds to a file. */
struct conf_options {
    const char *const *defines; /* macros, "name=value" each */
    size_t n_defines;
};

/* Reads and checks FILE with OPTIONS (NULL: none). The conf (free with
 * conf_free), or NULL after one "file:line:column: message" a mistake was
 * written to ERRORS; nothing else is touched. */
struct conf *conf_load(const char *file, const struct conf_options *options,
                       FILE *errors);

/* The same of text in memory; NAME stands in messages and its folder is where
 * relative paths start. Used by tests and the fuzzer. */
struct conf *conf_parse(const char *name, const char *text, size_t len,
                        FILE *errors);

/* Writes CONF to OUT as one file of the same meaning: macros replaced, paths
 * absolute, includes and defaults written out; comments say where each part
 * comes from. */
void conf_print(const struct conf *conf, FILE *out);

/* Writes TEXT to OUT as a word of the language: in quotes only if it needs
 * them. */
void conf_print_word(const char *text, FILE *out);
/* The same as one argument of a command; it stands inside a string, which the
 * caller begins and ends. */
void conf_print_argument(const char *text, FILE *out);

/* The name of the file that WHERE stands in, for messages; lives as long as
 * CONF. */
static inline const char *
conf_where_file(const struct conf *conf, struct conf_where where)
{
    return where.file < conf->n_files ? conf->files[where.file].name
                                      : conf->file;
}

/* TAKE_CONF as a server keeps it: in one block, without macros and without the
 * places of settings and options, each text once. To be freed by conf_free().
 * Where there is no memory, TAKE_CONF itself. */
struct conf *conf_compact(struct conf *take_conf);

/* NULL is allowed. */
void conf_free(struct conf *conf);
