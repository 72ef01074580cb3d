/* A program with state: counts visits in an SQLite database, which stays when
 * this program, Cardea or the machine is started again. Try /visits twice, and
 * /visits/anything.
 *
 * The handler is called on many threads at once. Each has a connection of its
 * own, as SQLite wants it. Readers of a database in WAL mode do not wait for
 * writers; writers wait for each other. Those of one process wait for a mutex,
 * which wakes the next one at once, where SQLite would make it sleep and look
 * again. What is left for SQLite's busy timeout is another process: the last
 * life of this program, which may just be ending. */
#include "page.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>

#define BUSY_MS   5000
#define PATHS_MAX 1000 /* more are counted together: strangers choose them */
#define PATH_SIZE 200
#define REST_PATH "(others)"
#define LAST      10

/* What a visit is told. */
struct visit {
    char path[PATH_SIZE + 1]; /* as it was counted */
    sqlite3_int64 n, all;     /* on that path, and of all */
    char since[32];
    int n_last;
    struct {
        char at[32];
        char path[PATH_SIZE + 1];
    } last[LAST];
};

static char database[4096]; /* empty: there is no folder for it */
static pthread_key_t connection_key;
static pthread_mutex_t writer = PTHREAD_MUTEX_INITIALIZER;

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS paths ("
    "  path TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS visits ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL,"
    "  at TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS birth (only INTEGER PRIMARY KEY"
    "  CHECK (only = 1), at TEXT NOT NULL);"
    "INSERT OR IGNORE INTO birth VALUES (1,"
    "  strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));";

static void connection_close(void *connection)
{
    sqlite3_close_v2(connection);
}

/* A new connection, or NULL after a line on standard error. */
static sqlite3 *connection_open(void)
{
    sqlite3 *db = NULL;

    if (sqlite3_open_v2(database, &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                            SQLITE_OPEN_NOMUTEX,
                        NULL) == SQLITE_OK &&
        sqlite3_busy_timeout(db, BUSY_MS) == SQLITE_OK &&
        /* NORMAL: a commit survives the end of any process; a power cut may
         * cost the last ones, never the database. */
        sqlite3_exec(db,
                     "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
                     NULL, NULL, NULL) == SQLITE_OK) {
        return db;
    }
    fprintf(stderr, "visits: %s: %s\n", database,
            db != NULL ? sqlite3_errmsg(db) : "no memory");
    sqlite3_close_v2(db);
    return NULL;
}

/* This thread's connection; closed when the thread ends. */
static sqlite3 *connection(void)
{
    sqlite3 *db = pthread_getspecific(connection_key);

    if (db == NULL) {
        db = connection_open();
        if (db != NULL && pthread_setspecific(connection_key, db) != 0) {
            sqlite3_close_v2(db);
            db = NULL;
        }
    }
    return db;
}

/* Runs SQL with the text TEXT as ?1 (if it has one). Each row goes to ROW. The
 * result is SQLite's. */
static int query(sqlite3 *db, const char *sql, const char *text,
                 void (*row)(sqlite3_stmt *, struct visit *), struct visit *v)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);

    if (rc == SQLITE_OK && sqlite3_bind_parameter_count(s) > 0) {
        rc = sqlite3_bind_text(s, 1, text, -1, SQLITE_STATIC);
    }
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW && row != NULL) {
            row(s, v);
        }
    }
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static void copy(sqlite3_stmt *s, int column, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(s, column);

    snprintf(out, size, "%s", text != NULL ? (const char *)text : "");
}

static void take_sum(sqlite3_stmt *s, struct visit *v)
{
    v->all = sqlite3_column_int64(s, 0);
    copy(s, 1, v->since, sizeof(v->since));
}

static void take_path(sqlite3_stmt *s, struct visit *v)
{
    copy(s, 0, v->path, sizeof(v->path));
}

static void take_count(sqlite3_stmt *s, struct visit *v)
{
    v->n = sqlite3_column_int64(s, 0);
}

static void take_last(sqlite3_stmt *s, struct visit *v)
{
    copy(s, 0, v->last[v->n_last].at, sizeof(v->last[0].at));
    copy(s, 1, v->last[v->n_last].path, sizeof(v->last[0].path));
    v->n_last++;
}

/* One more visit of V's path, within a transaction. */
static int add(sqlite3 *db, struct visit *v)
{
    char wanted[sizeof(v->path)];
    int rc;

    /* Of a path that is new, and one too many, it is the rest's. */
    memcpy(wanted, v->path, sizeof(wanted));
    rc = query(
        db,
        "SELECT '" REST_PATH "' WHERE (SELECT count(*) FROM paths) "
        ">= " PAGE_STRING(PATHS_MAX) " AND NOT EXISTS "
                                     "(SELECT 1 FROM paths WHERE path = ?1)",
        wanted, take_path, v);
    if (rc == SQLITE_OK) {
        rc = query(db,
                   "INSERT INTO paths VALUES (?1, 1) "
                   "ON CONFLICT (path) DO UPDATE SET n = n + 1",
                   v->path, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = query(db,
                   "INSERT INTO visits (path, at) VALUES (?1, "
                   "strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
                   v->path, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = query(db,
                   "DELETE FROM visits WHERE id <= "
                   "(SELECT max(id) FROM visits) - " PAGE_STRING(LAST),
                   NULL, NULL, NULL);
    }
    return rc;
}

static int look(sqlite3 *db, struct visit *v)
{
    int rc = query(db,
                   "SELECT coalesce(sum(n), 0), (SELECT at FROM birth) "
                   "FROM paths",
                   NULL, take_sum, v);

    if (rc == SQLITE_OK) {
        rc = query(db, "SELECT n FROM paths WHERE path = ?1", v->path,
                   take_count, v);
    }
    if (rc == SQLITE_OK) {
        rc = query(db,
                   "SELECT at, path FROM visits ORDER BY id DESC "
                   "LIMIT " PAGE_STRING(LAST),
                   NULL, take_last, v);
    }
    return rc;
}

/* Counts (or only looks) and reads, as one transaction. */
static int visit_transact(sqlite3 *db, struct visit *v, int counts)
{
    int rc;

    if (counts) {
        pthread_mutex_lock(&writer);
    }
    rc = sqlite3_exec(db, counts ? "BEGIN IMMEDIATE" : "BEGIN", NULL, NULL,
                      NULL);
    if (rc == SQLITE_OK && counts) {
        rc = add(db, v);
    }
    if (rc == SQLITE_OK) {
        rc = look(db, v);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK) {
        fprintf(stderr, "visits: %s\n", sqlite3_errmsg(db));
        if (!sqlite3_get_autocommit(db)) {
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        }
    }
    if (counts) {
        pthread_mutex_unlock(&writer);
    }
    return rc;
}

static void answer_text(struct cardea_request *r, const struct visit *v)
{
    cardea_printf(r, "visits of ");
    page_plain(r, v->path, strlen(v->path));
    cardea_printf(r, ": %lld\nvisits of all pages: %lld since %s\n\n",
                  (long long)v->n, (long long)v->all, v->since);
    for (int i = 0; i < v->n_last; i++) {
        cardea_printf(r, "%s ", v->last[i].at);
        page_plain(r, v->last[i].path, strlen(v->last[i].path));
        cardea_puts(r, "\n");
    }
}

static void answer_page(struct cardea_request *r, const struct visit *v)
{
    page_begin(r, "Visits",
               "A C program counts them in an SQLite database. Stop Cardea, "
               "kill the program, start it again: it goes on where it was.");
    cardea_puts(r, "<dl class=\"facts\">\n<div><dt>Visits of <code>");
    page_text(r, v->path, strlen(v->path));
    cardea_printf(
        r,
        "</code></dt><dd>%lld</dd></div>\n"
        "<div><dt>Visits of all pages</dt><dd>%lld</dd></div>\n"
        "<div><dt>Counted since</dt><dd class=\"small\">%.10s "
        "%.8s UTC</dd></div>\n</dl>\n<h2>The last ten</h2>\n"
        "<div class=\"scroll\"><table>\n<thead><tr><th "
        "scope=\"col\">Time (UTC)</th><th scope=\"col\">Path</th></tr>"
        "</thead>\n<tbody>\n",
        (long long)v->n, (long long)v->all, v->since, v->since + 11);
    for (int i = 0; i < v->n_last; i++) {
        cardea_printf(r, "<tr><td>%.10s %.8s</td><td><code>", v->last[i].at,
                      v->last[i].at + 11);
        page_text(r, v->last[i].path, strlen(v->last[i].path));
        cardea_puts(r, "</code></td></tr>\n");
    }
    cardea_puts(r, "</tbody>\n</table></div>\n"
                   "<p>Each path has its own count: try "
                   "<a href=\"/visits/one\"><code>/visits/one</code></a> and "
                   "<a href=\"/visits/two\"><code>/visits/two</code></a>."
                   "</p>\n");
    page_end(r);
}

/* Starting again would not help: it says what would. */
static void answer_no_folder(struct cardea_request *r)
{
    cardea_status(r, 503);
    if (!page_wanted(r)) {
        cardea_puts(r, "There is no state folder to count visits in. Name one "
                       "in cardea.conf: set state-folder PATH\n");
        return;
    }
    page_begin(r, "Visits",
               "They are not counted: there is no state folder for the "
               "database. The log of Cardea says why (<code>no-state</code>).");
    cardea_puts(r, "<p>Name a folder that Cardea may write to in "
                   "<code>cardea.conf</code>, and start it again:</p>\n"
                   "<pre><code>set state-folder \"/a/folder\"</code></pre>\n");
    page_end(r);
}

static void visits(struct cardea_request *r)
{
    struct visit v = {.path = REST_PATH};
    const char *path = cardea_path(r);
    sqlite3 *db;

    if (database[0] == '\0') {
        answer_no_folder(r);
        return;
    }
    db = connection();

    if (strlen(path) <= PATH_SIZE) {
        snprintf(v.path, sizeof(v.path), "%s", path);
    }
    cardea_set(r, "Cache-Control", "no-store");
    /* HEAD only looks. */
    if (db == NULL ||
        visit_transact(db, &v, strcmp(cardea_method(r), "HEAD") != 0) !=
            SQLITE_OK) {
        cardea_status(r, 503);
        cardea_puts(r, "The visits cannot be counted just now. The log of "
                       "Cardea says why.\n");
        return;
    }
    if (page_wanted(r)) {
        answer_page(r, &v);
    } else {
        answer_text(r, &v);
    }
}

/* Where the database lies, and that it can be used. 0, also where there is no
 * folder for it; or -1. Each after a line. */
static int start(void)
{
    const char *folder = getenv("CARDEA_STATE");
    sqlite3 *db;
    int rc;

    if (folder == NULL || folder[0] == '\0') {
        fputs("visits: CARDEA_STATE names no folder for the database. Cardea "
              "sets it, if it can make one; by hand: CARDEA_STATE=.\n",
              stderr);
        return 0;
    }
    snprintf(database, sizeof(database), "%s/visits.db", folder);
    db = connection_open();
    if (db == NULL) {
        return -1;
    }
    rc = sqlite3_exec(db, schema, NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        fprintf(stderr, "visits: %s: %s\n", database, sqlite3_errmsg(db));
    }
    sqlite3_close_v2(db);
    return rc == SQLITE_OK ? 0 : -1;
}

int main(void)
{
    int rc = pthread_key_create(&connection_key, connection_close);

    if (rc != 0) {
        fprintf(stderr, "visits: %s\n", strerror(rc));
        return 1;
    }
    return start() < 0 ? 1 : cardea_serve_threads(visits);
}
