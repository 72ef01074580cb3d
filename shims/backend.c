/* cardea-backend: a door behind which a program answers that speaks FastCGI,
 * SCGI or HTTP/1.1. program.c starts and watches it, pool.c has the
 * connections, fcgi.c, scgi.c and hop.c know the three ways to say one thing.
 * See cardea-backend(8).
 *
 * Whatever goes wrong is said in one line on standard error, which Cardea puts
 * in its log, and the client gets 502, 503 or 504. */
#include "answer.h"
#include "cgi.h"
#include "document.h"
#include "fcgi.h"
#include "groups.h"
#include "hop.h"
#include "inherit.h"
#include "orphans.h"
#include "pool.h"
#include "program.h"
#include "say.h"
#include "scgi.h"
#include "start.h"
#include "text.h"

#include "base/util.h"

#include <cardea.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME       "cardea-backend"
#define ABOUT_SIZE 64
#define OUT_MAX    (ANSWER_MAX + HTTP_MAX_HEAD)
#define WAIT_MAX_NS                                                            \
    (5 * (int64_t)NS_PER_SEC) /* for a program that restarts                   \
                               */
#define SPARE_NS (int64_t)(500 * NS_PER_MS)
#define TRY_MS   10

/* Written once by main(), before there are threads. */
static struct backend_setup {
    struct program_plan plan;
    const char *root; /* a document root; NULL: none */
    const char *index;
    int root_fd;
    int64_t time_ns;
    struct inherit inherit;
    struct pool pool;
    struct program *program;
} setup;

/* One request on its way. */
struct way {
    struct cardea_request *r;
    char about[ABOUT_SIZE];
    char *head; /* what is sent, to be freed */
    struct pool_exchange x;
    int64_t deadline;
    /* What came. HTTP has it in hop, the others in text. */
    struct hop hop;
    struct text text;
    struct fcgi_reader reader;
    struct say_stream err;
    enum { WAY_SOUND, WAY_BAD, WAY_BIG, WAY_SCARCE } state;
    bool keep; /* the connection may take another request */
};

/* A line about the request. */
__attribute__((format(printf, 2, 3))) static void
say_of(const struct way *way, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say_args(NAME, way->about, format, args);
    va_end(args);
}

static int
way_gone(void *arg)
{
    return cardea_gone(arg);
}

/* ----- what comes back ----- */

static int
text_take(struct way *way, const char *bytes, size_t len)
{
    if (text_add(&way->text, bytes, len) < 0) {
        way->state = errno == EMSGSIZE ? WAY_BIG : WAY_SCARCE;
        return -1;
    }
    return 1;
}

static int
fcgi_take(void *arg, const char *bytes, size_t len)
{
    struct way *way = arg;
    size_t used, piece;

    if (len == 0) {
        return 1; /* the end, before its record */
    }
    for (;;) {
        enum fcgi_verdict verdict =
            fcgi_read(&way->reader, bytes, len, &used, &piece);

        bytes += used;
        len -= used;
        if (verdict == FCGI_MORE) {
            return 1;
        }
        if (verdict == FCGI_ENDED) {
            way->keep = len == 0 && way->reader.protocol == 0;
            return 0;
        }
        if (verdict == FCGI_ERR) {
            say_stream_add(&way->err, bytes - piece, piece);
        } else if (verdict == FCGI_BAD) {
            way->state = WAY_BAD;
            way->hop.why = "its records are not FastCGI";
            return -1;
        } else if (text_take(way, bytes - piece, piece) < 0) {
            return -1;
        }
    }
}

static int
scgi_take(void *arg, const char *bytes, size_t len)
{
    return len == 0 ? 0 : text_take(arg, bytes, len);
}

static int
http_take(void *arg, const char *bytes, size_t len)
{
    struct way *way = arg;

    switch (hop_read(&way->hop, bytes, len)) {
    case HOP_MORE:
        return 1;
    case HOP_DONE:
        way->keep = way->hop.keep;
        return 0;
    case HOP_BIG:
        way->state = WAY_BIG;
        return -1;
    case HOP_SCARCE:
        way->state = WAY_SCARCE;
        return -1;
    default:
        way->state = WAY_BAD;
        return -1;
    }
}

/* ----- what is sent ----- */

/* Values that CGI would not pass to a command, whose environment others can
 * read, and those of a document root. "NAME=value", to be freed each; NULL ends
 * them. false: no memory. */
static bool
extra_make(const struct way *way, const struct document *document,
           char *extra[5])
{
    const char *who = cardea_header(way->r, "Authorization");
    size_t n = 0;
    int rc = 0;

    if (who != NULL) {
        rc = asprintf(&extra[n], "HTTP_AUTHORIZATION=%s", who);
        n++;
    }
    if (document->file != NULL && rc >= 0) {
        rc = asprintf(&extra[n], "SCRIPT_FILENAME=%s/%s", setup.root,
                      document->file);
        n++;
        if (rc >= 0) {
            rc = asprintf(&extra[n], "DOCUMENT_ROOT=%s", setup.root);
            n++;
        }
        if (rc >= 0) {
            rc = asprintf(&extra[n], "REDIRECT_STATUS=200");
            n++;
        }
    }
    extra[rc < 0 ? n - 1 : n] = NULL;
    return rc >= 0;
}

/* The path up to the script's end. NULL: no memory. */
static char *
script_route(const char *route, const struct document *document)
{
    char *name;

    if (asprintf(&name, "%s/%s", strcmp(route, "/") == 0 ? "" : route,
                 document->file) < 0) {
        return NULL;
    }
    return name;
}

/* The head of FastCGI or SCGI. false: no memory. */
static bool
cgi_put(struct way *way, struct cgi_request *req,
        const struct document *document)
{
    char *extra[5] = {NULL};
    CLEAN_FREE char *route = NULL;
    CLEAN_FREE char **env = NULL;

    if (document->file != NULL) {
        req->route = route = script_route(req->route, document);
        req->rest = document->info;
    }
    if (extra_make(way, document, extra) &&
        (document->file == NULL || route != NULL)) {
        req->inherit = extra;
        env = cgi_env_new(req);
    }
    for (char **e = extra; *e != NULL; e++) {
        free(*e);
    }
    if (env == NULL) {
        return false;
    }
    if (setup.plan.protocol == PROGRAM_SCGI) {
        way->head = scgi_head_new(env, way->x.body_len, &way->x.head_len);
        way->x.take = scgi_take;
    } else {
        way->head = fcgi_request_new(env, way->x.body, way->x.body_len,
                                     &way->x.head_len);
        way->x.body_len = 0; /* its records are in the head */
        way->x.take = fcgi_take;
    }
    return way->head != NULL;
}

/* 0, or the status for the client. */
static int
request_put(struct way *way, const struct document *document)
{
    struct cgi_field fields[HTTP_MAX_FIELDS];
    struct cgi_request req;
    bool done;

    way->x.body = cardea_body(way->r, &way->x.body_len);
    answer_describe(way->r, fields, &req);
    req.body_len = way->x.body_len;
    if (setup.plan.protocol == PROGRAM_HTTP) {
        way->head = hop_head_new(&req, &way->x.head_len);
        way->x.take = http_take;
        done = way->head != NULL;
    } else {
        done = cgi_put(way, &req, document);
    }
    way->x.head = way->head;
    way->x.take_arg = way;
    way->x.gone = way_gone;
    way->x.gone_arg = way->r;
    way->x.deadline = way->deadline;
    return done ? 0 : 503;
}

/* ----- the exchange ----- */

/* Forgets what came, before another try. */
static void
way_reset(struct way *way)
{
    free(way->hop.text.bytes);
    free(way->text.bytes);
    memset(&way->hop, 0, sizeof(way->hop));
    memset(&way->reader, 0, sizeof(way->reader));
    way->text = (struct text){.max = OUT_MAX};
    way->hop.text.max = OUT_MAX;
    way->hop.is_head = strcmp(cardea_method(way->r), "HEAD") == 0;
    way->state = WAY_SOUND;
    way->keep = false;
}

/* A connection. While the program is replaced, that is waited for; one that is
 * not ours has to be there. 0, or the status for the client. */
static int
connect_to(struct way *way, bool fresh, struct pool_conn *conn)
{
    int64_t until = MIN_OF(way->deadline, pool_now() + WAIT_MAX_NS);

    for (;;) {
        if (!program_wait(setup.program, until)) {
            say_of(way, "the program is not ready");
            return 503;
        }
        if (pool_take(&setup.pool, fresh, until, conn) == 0) {
            return 0;
        }
        if (setup.plan.argv == NULL || pool_now() >= until ||
            (errno != ECONNREFUSED && errno != ENOENT)) {
            break;
        }
        poll(NULL, 0, TRY_MS);
    }
    say_of(way, "cannot connect to the program: %s", strerror(errno));
    return errno == ECONNREFUSED || errno == ENOENT ? 502 : 503;
}

/* May the request be sent once more, after END on CONN? */
static bool
may_retry(const struct way *way, const struct pool_conn *conn,
          enum pool_end end)
{
    const char *method = cardea_method(way->r);
    bool is_safe = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    return conn->kept && !way->x.got_any &&
           (end == POOL_CLOSED || end == POOL_REFUSED) &&
           (is_safe || way->x.sent == 0);
}

/* Sends and takes. 0 and *P_END, or the status for the client. */
static int
exchange(struct way *way, enum pool_end *p_end)
{
    struct pool_conn conn;
    bool again = false;
    int status;

    do {
        way_reset(way);
        status = connect_to(way, again, &conn);
        if (status != 0) {
            return status;
        }
        *p_end = pool_run(&setup.pool, &conn, &way->x);
        again = may_retry(way, &conn, *p_end);
        way->keep = way->keep && *p_end == POOL_DONE;
        pool_give(&setup.pool, &conn, way->keep);
    } while (again);
    if (way->keep) {
        program_idle(setup.program);
    }
    return 0;
}

/* ----- the answer ----- */

/* The program refused the request, by its protocol. */
static void
protocol_refuse(const struct way *way)
{
    bool is_full = way->reader.protocol < 3;

    say_of(way, "the program refuses the request: %s",
           is_full ? "it has no room for more" : "it is no responder");
    answer_refuse(way->r, is_full ? 503 : 502,
                  "The program behind this page refused the request.");
}

/* A whole answer came. */
static void
done_send(struct way *way)
{
    struct cgi_answer answer;
    char why[CGI_WHY_SIZE];

    if (setup.plan.protocol == PROGRAM_HTTP) {
        answer.head = way->hop.head;
        answer.status = way->hop.head.status;
        answer.body = way->hop.text.bytes + answer.head.head_len;
        answer.body_len = way->hop.text.len - answer.head.head_len;
        answer_send(way->r, NAME, way->hop.text.bytes, &answer);
        return;
    }
    if (way->reader.protocol != 0) {
        protocol_refuse(way);
        return;
    }
    if (way->reader.app != 0) {
        say_of(way, "the program gave the request exit status %u",
               (unsigned)way->reader.app);
    }
    if (cgi_answer_parse(way->text.bytes, way->text.len, &answer, why) != 0) {
        say_of(way, "not a CGI answer: %s", why);
        answer_refuse(way->r, 502,
                      "The program behind this page gave no valid answer.");
        return;
    }
    answer_send(way->r, NAME, way->text.bytes, &answer);
}

/* take() said no. */
static void
refused_send(const struct way *way)
{
    switch (way->state) {
    case WAY_BIG:
        say_of(way, "more than %zu bytes of answer", ANSWER_MAX);
        answer_refuse(way->r, 502,
                      "The program behind this page wrote too much.");
        break;
    case WAY_SCARCE:
        say_of(way, "no memory");
        answer_refuse(way->r, 503, "No memory left for this request.");
        break;
    default:
        say_of(way, "not a valid answer: %s", way->hop.why);
        answer_refuse(way->r, 502,
                      "The program behind this page gave no valid answer.");
    }
}

static void
end_send(struct way *way, enum pool_end end)
{
    switch (end) {
    case POOL_DONE:
        done_send(way);
        break;
    case POOL_REFUSED:
        refused_send(way);
        break;
    case POOL_CLOSED:
        say_of(way, "the program hung up %s",
               way->x.got_any ? "within its answer" : "without an answer");
        answer_refuse(way->r, 502,
                      "The program behind this page gave no whole answer.");
        break;
    case POOL_LATE:
        say_of(way, "the program did not answer in time");
        program_suspect(setup.program);
        answer_refuse(way->r, 504,
                      "The program behind this page took too long.");
        break;
    case POOL_GONE:
        say_of(way, "given up: the client has gone");
        answer_refuse(way->r, 504, "Nobody waits for this answer.");
        break;
    }
}

/* Finds the script, if there is a document root. 0 or a status. */
static int
document_of(const struct way *way, struct document *document)
{
    memset(document, 0, sizeof(*document));
    return setup.root == NULL
               ? 0
               : document_find(setup.root_fd, cardea_rest(way->r), setup.index,
                               document);
}

static void
way_run(struct way *way)
{
    struct document document;
    enum pool_end end = POOL_CLOSED;
    int status = document_of(way, &document);

    if (status == 404) {
        answer_refuse(way->r, 404, "There is no such page.");
    } else if (status == 0) {
        status = request_put(way, &document);
    }
    if (status == 0) {
        status = exchange(way, &end);
    }
    say_stream_end(&way->err);
    if (status == 0) {
        end_send(way, end);
    } else if (status != 404) {
        answer_refuse(way->r, status,
                      "The program behind this page cannot be reached.");
    }
    document_clear(&document);
}

static void
handle(struct cardea_request *r)
{
    struct way *way = calloc(1, sizeof(*way));
    int64_t time = MIN_OF(setup.time_ns, cardea_time_left(r));

    if (way == NULL) {
        answer_refuse(r, 503, "No memory left for this request.");
        return;
    }
    way->r = r;
    way->deadline = pool_now() + time;
    snprintf(way->about, sizeof(way->about), "request %s", cardea_id(r));
    way->err.name = NAME;
    way->err.about = way->about;
    way_run(way);
    free(way->hop.text.bytes);
    free(way->text.bytes);
    free(way->head);
    free(way);
}

/* ----- the start ----- */

static int
usage(const char *why)
{
    say(NAME, NULL, "%s", why);
    say(NAME, NULL,
        "usage: cardea-backend --protocol fastcgi|scgi|http [--timeout "
        "SECONDS] [--start-timeout SECONDS] [--address ADDRESS] [--root "
        "FOLDER] [--index NAME] [--folder FOLDER] [-- COMMAND [ARGUMENT ...]]");
    return START_EXIT_USAGE;
}

static int
serve(void *arg)
{
    setup.program = program_start(&setup.plan);
    return setup.program == NULL ? 1 : cardea_serve_threads(handle);
}

/* -1: there is no such protocol. */
static int
protocol_find(const char *name)
{
    static const char *const names[] = {
        [PROGRAM_FASTCGI] = "fastcgi",
        [PROGRAM_SCGI] = "scgi",
        [PROGRAM_HTTP] = "http",
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* 0, or an exit status after a sentence. */
static int
options_judge(int protocol)
{
    if (protocol < 0) {
        return usage("--protocol wants fastcgi, scgi or http");
    }
    if (setup.time_ns < 0 || setup.plan.start_ns < 0) {
        return usage("--timeout and --start-timeout want seconds, more than 0, "
                     "at most 86400");
    }
    if (setup.plan.argv == NULL && setup.plan.address == NULL) {
        return usage("no command, and no --address where a program is found");
    }
    if (setup.plan.address != NULL &&
        !program_address_is_valid(setup.plan.address)) {
        return usage("--address wants unix:/path or host:port");
    }
    if (setup.root != NULL && protocol == PROGRAM_HTTP) {
        return usage("--root is not for http");
    }
    setup.plan.protocol = (enum program_protocol)protocol;
    /* Before Cardea's own deadline ends us, so that the cause can be said. */
    setup.plan.start_ns -= MIN_OF(setup.plan.start_ns / 10, SPARE_NS);
    return 0;
}

static int
options_read(int argc, char **argv)
{
    static const struct option options[] = {
        {"protocol", required_argument, NULL, 'p'},
        {"timeout", required_argument, NULL, 't'},
        {"start-timeout", required_argument, NULL, 's'},
        {"address", required_argument, NULL, 'a'},
        {"root", required_argument, NULL, 'r'},
        {"index", required_argument, NULL, 'i'},
        {"folder", required_argument, NULL, 'f'},
        {0},
    };
    int c, protocol = -1;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        if (c == 'p') {
            protocol = protocol_find(optarg);
        } else if (c == 't') {
            setup.time_ns = start_seconds(optarg);
        } else if (c == 's') {
            setup.plan.start_ns = start_seconds(optarg);
        } else if (c == 'a') {
            setup.plan.address = optarg;
        } else if (c == 'r') {
            setup.root = optarg;
        } else if (c == 'i') {
            setup.index = optarg;
        } else if (c == 'f') {
            setup.plan.folder = optarg;
        } else {
            return usage("unknown option, or one without its value");
        }
    }
    setup.plan.argv = optind < argc ? argv + optind : NULL;
    return options_judge(protocol);
}

/* Looks at the folders. 0, or an exit status after a sentence. */
static int
folders_open(void)
{
    int rc = start_folder(NAME, setup.plan.folder);

    return rc != 0
               ? rc
               : start_folder_open(NAME, "--root", &setup.root, &setup.root_fd);
}

/* SIGTERM is for one thread alone: it is blocked before there are others. */
static int
process_prepare(void)
{
    sigset_t set;

    if (start_process() < 0 || inherit_read(&setup.inherit) < 0) {
        return -1;
    }
    setup.plan.groups = groups_start();
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return setup.plan.groups == NULL ? -1 : 0;
}

int
main(int argc, char **argv)
{
    int rc;

    setup.time_ns = setup.plan.start_ns = 30 * (int64_t)NS_PER_SEC;
    setup.index = "index.php";
    setup.plan.name = NAME;
    rc = options_read(argc, argv);
    if (rc != 0) {
        return rc;
    }
    if (process_prepare() < 0) {
        say(NAME, NULL, "cannot start: %s", strerror(errno));
        return 1;
    }
    rc = folders_open();
    if (rc != 0) {
        return rc;
    }
    pool_init(&setup.pool);
    setup.plan.inherit = &setup.inherit;
    setup.plan.pool = &setup.pool;
    rc = orphans_serve(setup.plan.groups, serve, NULL);
    say(NAME, NULL, "cannot start: %s", strerror(errno));
    return rc;
}
