/* What Cardea itself knows: a page with threads, high-water mark and calls of
 * each module, and the same as JSON. Both ask the keeper, at the control socket
 * that it names in the environment: see cardea-control(5).
 *
 * The answer tells whoever asks what runs here. On the open network it belongs
 * behind a password, or to another address. */
#include "page.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_MS  2000 /* for the whole answer */
#define REPLY_MAX (1024 * 1024)

struct reply {
    char *text; /* owned; with a NUL */
    size_t len;
};

static long long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A connection whose sends and connect end after LIMIT_MS, or -1 with errno. */
static int dial(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval limit = {LIMIT_MS / 1000, LIMIT_MS % 1000 * 1000};
    int fd;

    if (strlen(path) >= sizeof(un.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(un.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
         connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Reads to the end of FD, until DEADLINE. 0, or -1 with errno. */
static int read_all(int fd, long long deadline, struct reply *reply)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long long left = deadline - now_ms();
        ssize_t n;

        if (left <= 0 || poll(&p, 1, (int)left) == 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        if (reply->len == REPLY_MAX) {
            errno = EMSGSIZE;
            return -1;
        }
        n = recv(fd, reply->text + reply->len, REPLY_MAX - reply->len,
                 MSG_DONTWAIT);
        if (n == 0) {
            reply->text[reply->len] = '\0';
            return 0;
        }
        if (n > 0) {
            reply->len += (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            return -1;
        }
    }
}

/* The keeper's state as JSON text: behind the first line of REPLY, which is the
 * caller's to free. NULL, after a line on standard error. */
static const char *ask(struct reply *reply)
{
    static const char request[] = "status json\n";
    const char *path = getenv("CARDEA_CONTROL");
    long long deadline = now_ms() + LIMIT_MS;
    int fd = -1;
    int good;

    *reply = (struct reply){malloc(REPLY_MAX + 1), 0};
    if (path == NULL) {
        fputs("status: CARDEA_CONTROL names no socket; Cardea sets it\n",
              stderr);
        return NULL;
    }
    good = reply->text != NULL && (fd = dial(path)) >= 0 &&
           send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) ==
               sizeof(request) - 1 &&
           read_all(fd, deadline, reply) == 0;
    if (!good) {
        fprintf(stderr, "status: %s: %s\n", path, strerror(errno));
    } else if (strncmp(reply->text, "ok\n", 3) != 0) {
        fprintf(stderr, "status: %s: %.*s\n", path,
                (int)strcspn(reply->text, "\n"), reply->text);
        good = 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    return good ? reply->text + 3 : NULL;
}

/* What stands in a cell: KEY of OBJECT, a dash where that is null. */
static void put_value(struct cardea_request *r, const json_t *object,
                      const char *key)
{
    const json_t *value = json_object_get(object, key);

    if (json_is_integer(value)) {
        cardea_printf(r, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        cardea_printf(r, "%.0f", json_real_value(value));
    } else if (json_is_string(value)) {
        page_text(r, json_string_value(value), json_string_length(value));
    } else {
        cardea_puts(r, "–");
    }
}

/* The columns, for this table and for that of status.js, which reads them from
 * the head. */
static const struct {
    const char *key, *title;
} columns[] = {
    {"state", "State"},          {"threads", "Threads"},
    {"threads_high", "At most"}, {"in_flight", "In flight"},
    {"calls", "Calls"},          {"restarts", "Restarts"},
    {"last_cause", "Last end"},
};

#define N_COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void put_table(struct cardea_request *r, const json_t *modules)
{
    const json_t *module;
    size_t i;

    cardea_puts(r,
                "<div class=\"scroll\"><table class=\"live\" id=\"modules\">\n"
                "<thead><tr><th scope=\"col\">Module</th>");
    for (size_t c = 0; c < N_COLUMNS; c++) {
        cardea_printf(r, "<th scope=\"col\" data-key=\"%s\">%s</th>",
                      columns[c].key, columns[c].title);
    }
    cardea_puts(r, "</tr></thead>\n<tbody>\n");
    json_array_foreach(modules, i, module)
    {
        cardea_puts(r, "<tr><th scope=\"row\">");
        put_value(r, module, "name");
        cardea_puts(r, "</th>");
        for (size_t c = 0; c < N_COLUMNS; c++) {
            cardea_printf(r, "<td data-title=\"%s\">", columns[c].title);
            put_value(r, module, columns[c].key);
            cardea_puts(r, "</td>");
        }
        cardea_puts(r, "</tr>\n");
    }
    cardea_puts(r, "</tbody>\n</table></div>\n");
}

static void put_fact(struct cardea_request *r, const char *title,
                     const char *id, long long n)
{
    cardea_printf(r, "<div><dt>%s</dt><dd id=\"%s\">%lld</dd></div>\n", title,
                  id, n);
}

static void put_facts(struct cardea_request *r, const json_t *state)
{
    const json_t *workers = json_object_get(state, "workers");
    const json_t *worker;
    long long requests = 0;
    long long connections = 0;
    size_t i;

    json_array_foreach(workers, i, worker)
    {
        requests +=
            (long long)json_integer_value(json_object_get(worker, "requests"));
        connections += (long long)json_integer_value(
            json_object_get(worker, "connections"));
    }
    cardea_puts(r, "<dl class=\"facts short\">\n");
    put_fact(r, "Seconds up", "uptime",
             (long long)json_number_value(json_object_get(state, "uptime_s")));
    put_fact(r, "Workers", "workers", (long long)json_array_size(workers));
    put_fact(r, "Connections", "connections", connections);
    put_fact(r, "Requests", "requests", requests);
    cardea_puts(r, "</dl>\n");
}

static void answer_page(struct cardea_request *r, const json_t *state)
{
    page_begin(r, "What the modules do",
               "The more calls wait at once, the more threads a module gets. "
               "<strong>At most</strong> is how many it ever had.");
    put_facts(r, state);
    cardea_puts(r, "<h2>Modules</h2>\n");
    put_table(r, json_object_get(state, "modules"));
    cardea_puts(r,
                "<p class=\"quiet\" id=\"when\" role=\"status\">As it was when "
                "this page was sent.</p>\n"
                "<noscript><p>Without JavaScript the numbers stand still: "
                "<a href=\"/status\">read them again</a>.</p></noscript>\n"
                "<div class=\"panel controls\" id=\"burst\" hidden>\n"
                "<button type=\"button\" id=\"go\">Call /slow</button>\n"
                "<span class=\"quiet\">Each call sleeps for two seconds. For "
                "more at once, ask from a terminal.</span>\n</div>\n"
                "<pre tabindex=\"0\" aria-label=\"Command\"><code>seq 40 | "
                "xargs -P40 -I{} curl -s \"http://");
    page_text(r, cardea_host(r), strlen(cardea_host(r)));
    cardea_puts(r, "/slow?ms=3000&amp;call={}\"</code></pre>\n"
                   "<p>The same <a href=\"/status.json\">as JSON</a>.</p>\n"
                   "<script src=\"/status.js\"></script>\n");
    page_end(r);
}

static void status(struct cardea_request *r)
{
    struct reply reply;
    const char *text = ask(&reply);
    json_t *state = text != NULL ? json_loads(text, 0, NULL) : NULL;

    cardea_set(r, "Cache-Control", "no-store");
    if (state == NULL) {
        cardea_status(r, 503);
        cardea_puts(r, "Cardea does not tell its state. Its log says why.\n");
    } else if (strcmp(cardea_route(r), "/status.json") == 0) {
        cardea_type(r, "application/json");
        cardea_puts(r, text);
    } else {
        answer_page(r, state);
    }
    json_decref(state);
    free(reply.text);
}

int main(void)
{
    return cardea_serve_threads(status);
}
