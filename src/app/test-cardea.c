/* cardea.h through a real ring: what handlers see of a request, what comes of
 * their answers, and heads that lie. Handlers write what they saw into the
 * body; the tests compare it with literals. */
#include "door/test-ring.h"

#include <pthread.h>
#include <sys/mman.h>

#include "app/app.h"
#include "cardea.h"
#include "door/native.h"

/* ---- making requests ---- */

struct head {
    union {
        struct door_http http;
        char bytes[80000];
    };
    uint32_t len;
    uint32_t n_fields;
};

static struct door_span
put(struct head *h, const char *text)
{
    uint32_t n = (uint32_t)strlen(text);
    struct door_span span = {h->len, n};

    assert_true(h->len + n + 1 < sizeof h->bytes);
    memcpy(h->bytes + h->len, text, n + 1);
    h->len += n + 1;
    return span;
}

static void
head_init(struct head *h, const char *path, const char *query)
{
    memset(h, 0, sizeof *h);
    h->len = sizeof(struct door_http);
    h->http.size = sizeof(struct door_http);
    h->http.method_name = put(h, "GET");
    h->http.target = put(h, "/raw%20target?x");
    h->http.path = put(h, path);
    h->http.query = put(h, query);
    h->http.host = put(h, "example.org:8080");
    h->http.route = put(h, "/app");
    h->http.id = put(h, "0123-4567");
    h->http.family = 4;
    memcpy(h->http.peer, "\300\000\002\001", 4);
    h->http.peer_port = 4711;
    h->http.total = h->len;
}

/* N fields; their table goes behind the strings. */
static void
head_fields(struct head *h, const char *const (*fields)[2], uint32_t n)
{
    struct door_http_field table[16];

    assert_true(n <= 16);
    for (uint32_t i = 0; i < n; i++) {
        table[i].name = put(h, fields[i][0]);
        table[i].value = put(h, fields[i][1]);
    }
    h->len = (h->len + 7) / 8 * 8;
    memcpy(h->bytes + h->len, table, n * sizeof *table);
    h->http.fields_off = h->len;
    h->http.n_fields = n;
    h->len += n * (uint32_t)sizeof *table;
    h->http.total = h->len;
}

/* ---- the server ---- */

static cardea_handler *_Atomic handler;

static void
dispatch(struct cardea_request *r)
{
    test_reads();
    handler(r);
    test_wrote();
}

static cardea_handler *const cookie = dispatch;
static int door;
static struct test_ring *ring;
static uint64_t deadline; /* of the next request; 0: a good one */

static void *
serve(void *arg)
{
    door_native_serve();
}

static int
setup(void **state)
{
    door = door_create_native(app_procedure, (void *)(uintptr_t)&cookie, 0, 1);
    assert_true(door >= 0);
    pthread_detach(test_thread(serve, NULL));
    ring = test_ring_open(door);
    return 0;
}

static int
teardown(void **state)
{
    test_ring_close(ring);
    close(door);
    return 0;
}

/* One request; its answer stays readable until the next. */
static void
ask(cardea_handler *h, const void *head, size_t len, const char *body,
    size_t body_len, struct ring_result *result)
{
    static int last = -1;

    if (last >= 0) {
        ring_slot_give(&ring->r, (uint32_t)last);
    }
    handler = h;
    last = (int)test_ring_post(ring, 2, head, len, 0);
    struct ring_entry *e = ring_entry(&ring->r, (uint32_t)last);
    uint64_t off = body_len > 0 ? ring_area_take(&ring->r, body_len) : 0;
    if (body_len > 0) {
        memcpy(ring_at(&ring->r, off), body, body_len);
        e->body_off = off;
        e->body_len = body_len;
    }
    if (deadline > 0) {
        e->deadline = deadline;
    }
    assert_true(test_ring_wait(ring));
    assert_int_equal(ring->n_answered, 1);
    assert_int_equal(ring_result(&ring->r, (uint32_t)last, result), 0);
    if (body_len > 0) {
        ring_area_give(&ring->r, off, body_len);
    }
}

static void
assert_text(const char *is, uint64_t len, const char *want)
{
    char *copy = calloc(1, len + 1);

    assert_non_null(copy);
    memcpy(copy, is, len);
    assert_string_equal(copy, want);
    free(copy);
}

/* ---- the request ---- */

static void
tell(struct cardea_request *r)
{
    const char *name, *value;

    cardea_printf(r, "%s|%s|%s|%s|%s|%s|%s|%s|%s:%d\n", cardea_method(r),
                  cardea_target(r), cardea_path(r), cardea_query(r),
                  cardea_host(r), cardea_id(r), cardea_route(r), cardea_rest(r),
                  cardea_peer(r), cardea_peer_port(r));
    for (size_t i = 0; cardea_header_at(r, i, &name, &value) == 0; i++) {
        cardea_printf(r, "%s=%s\n", name, value);
    }
    cardea_printf(r, "%s|%s|%s\n", cardea_header(r, "x-TWO"),
                  cardea_header(r, "X-One"),
                  cardea_header(r, "X-On") ? "there" : "none");
}

static void
test_fields(void **state)
{
    static const char *const fields[][2] = {
        {"X-One", "1"}, {"X-Two", "two words"}, {"X-One", "again"}, {"E", ""}};
    struct ring_result result;
    struct head h;

    head_init(&h, "/app/rest/of", "a=b");
    head_fields(&h, fields, 4);
    ask(tell, h.bytes, h.len, NULL, 0, &result);
    assert_int_equal(result.error, 0);
    assert_int_equal(result.status, 200);
    assert_text(result.data, result.data_len,
                "GET|/raw%20target?x|/app/rest/of|a=b|example.org:8080|"
                "0123-4567|/app|/rest/of|192.0.2.1:4711\n"
                "X-One=1\nX-Two=two words\nX-One=again\nE=\n"
                "two words|1|none\n");
    assert_text(result.head, result.head_len,
                "Content-Type: text/plain; charset=utf-8\r\n");
}

static void
tell_peer(struct cardea_request *r)
{
    cardea_puts(r, cardea_peer(r));
}

static void
tell_rest(struct cardea_request *r)
{
    cardea_puts(r, cardea_rest(r));
}

static void
test_peers_and_routes(void **state)
{
    struct ring_result result;
    struct head h;

    head_init(&h, "/x", "");
    h.http.family = 6;
    memset(h.http.peer, 0, 16);
    h.http.peer[15] = 1;
    ask(tell_peer, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "::1");
    h.http.family = 0;
    ask(tell_peer, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "unix");
    h.http.family = 77;
    ask(tell_peer, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "unix");
    head_init(&h, "/elsewhere", "");
    ask(tell_rest, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "");
    head_init(&h, "/app", "");
    ask(tell_rest, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "");
    head_init(&h, "/some/path", "");
    h.http.route = put(&h, "/");
    h.http.total = h.len;
    ask(tell_rest, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "/some/path");
}

static void
tell_params(struct cardea_request *r)
{
    static const char *const names[] = {"a",   "b",    "c",    "empty", "p",
                                        "bad", "last", "none", "ab"};
    char out[12];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ssize_t n = cardea_param(r, names[i], out, sizeof out);
        cardea_printf(r, "%s:%zd:%s ", names[i], n, n < 0 ? "-" : out);
    }
    cardea_printf(r, "%zd", cardea_param(r, "a", out, 0));
    cardea_printf(r, "%zd", cardea_param(r, "empty", out, 1));
}

static void
test_params(void **state)
{
    static const struct {
        const char *query, *want;
    } table[] = {
        {"a=1&b=x+y&c=%41%2f%zz%4&empty=&p=12345678901&bad=123456789012&last=%",
         "a:1:1 b:3:x y c:7:A/%zz%4 empty:0: p:11:12345678901 bad:-1:- "
         "last:1:% none:-1:- ab:-1:- -10"},
        {"", "a:-1:- b:-1:- c:-1:- empty:-1:- p:-1:- bad:-1:- last:-1:- "
             "none:-1:- ab:-1:- -1-1"},
        {"ab=1&a=2&a=3&&&=5&b", "a:1:2 b:-1:- c:-1:- empty:-1:- p:-1:- "
                                "bad:-1:- last:-1:- none:-1:- ab:1:1 -1-1"},
    };
    struct ring_result result;
    struct head h;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        head_init(&h, "/app", table[i].query);
        ask(tell_params, h.bytes, h.len, NULL, 0, &result);
        assert_text(result.data, result.data_len, table[i].want);
    }
}

static void
tell_body(struct cardea_request *r)
{
    size_t n;
    const char *p = cardea_body(r, &n);

    cardea_printf(r, "%zu%s ", n, p ? "" : "NULL");
    cardea_write(r, p, n);
    cardea_printf(r, " %d %d", cardea_gone(r), cardea_time_left(r) > 0);
}

static void
test_body(void **state)
{
    struct ring_result result;
    struct head h;

    head_init(&h, "/app", "");
    ask(tell_body, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "0  0 1");
    ask(tell_body, h.bytes, h.len, "the body", 8, &result);
    assert_text(result.data, result.data_len, "8 the body 0 1");
    size_t large = (size_t)10 << 20;
    char *body = malloc(large);
    memset(body, 'q', large);
    ask(tell_body, h.bytes, h.len, body, large, &result);
    assert_int_equal(result.data_len, large + 9 + 4);
    assert_memory_equal(result.data + 9, body, large);
    free(body);
}

static void
tell_time(struct cardea_request *r)
{
    cardea_printf(r, "%lld %d", (long long)cardea_time_left(r), cardea_gone(r));
}

/* The deadline is the caller's word: one that no clock reaches, and one that is
 * long past. */
static void
test_deadlines(void **state)
{
    struct ring_result result;
    struct head h;

    head_init(&h, "/app", "");
    deadline = UINT64_MAX;
    ask(tell_time, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "9223372036854775807 0");
    deadline = 1;
    ask(tell_time, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "0 1");
    deadline = 0;
}

/* Of a call that a plain door serves, asked without a request: what a ring's
 * entry says. */
static const struct {
    uint64_t deadline, id;
    uint8_t trace, span, flags;
    const char *want;
} plain_calls[] = {
    {0, 0, 0, 0, 0, "  9223372036854775807 0"},
    {UINT64_MAX, 0x6a3f000000000001ull, 0xab, 0x0c, 0x03,
     "6a3f000000000001 "
     "00-abababababababababababababababab-0c0c0c0c0c0c0c0c-01 "
     "9223372036854775807 0"},
    {1, 1, 0xff, 0, 1, "0000000000000001  0 1"},
    {1, 1, 0, 0xff, 1, "0000000000000001  0 1"},
};

static void
tell_plain(void *plain_cookie, char *argp, size_t arg_size, door_desc_t *dp,
           unsigned int n_desc)
{
    static _Thread_local char text[200];
    int n = snprintf(text, sizeof text, "%s %s %lld %d", cardea_id(NULL),
                     cardea_traceparent(NULL),
                     (long long)cardea_time_left(NULL), cardea_gone(NULL));

    door_return(text, (size_t)n, NULL, 0);
}

static void
test_plain_doors_are_told_of_the_call(void **state)
{
    int d = door_create(tell_plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);
    struct ring_result result;

    for (size_t i = 0; i < sizeof plain_calls / sizeof *plain_calls; i++) {
        uint32_t slot = (uint32_t)ring_slot_take(&t->r, 0);
        struct ring_entry *e = ring_entry(&t->r, slot);
        e->kind = 1;
        e->args_off = e->args_len = e->body_off = e->body_len = 0;
        e->deadline = plain_calls[i].deadline;
        e->request_id = plain_calls[i].id;
        memset(e->trace_id, plain_calls[i].trace, sizeof e->trace_id);
        memset(e->span_id, plain_calls[i].span, sizeof e->span_id);
        e->trace_flags = plain_calls[i].flags;
        test_wrote();
        ring_publish(&t->r, slot);
        assert_true(test_ring_wait(t));
        assert_int_equal(ring_result(&t->r, slot, &result), 0);
        assert_text(result.data, result.data_len, plain_calls[i].want);
        ring_slot_give(&t->r, slot);
    }
    /* Here no call is served. */
    assert_string_equal(cardea_id(NULL), "");
    assert_string_equal(cardea_traceparent(NULL), "");
    assert_int_equal(cardea_time_left(NULL), INT64_MAX);
    assert_int_equal(cardea_gone(NULL), 0);
    test_ring_close(t);
    close(d);
}

static void
tell_trace(struct cardea_request *r)
{
    cardea_printf(r, "[%s]", cardea_traceparent(r));
}

static void
test_the_trace_of_a_request(void **state)
{
    static const char *const fields[][2] = {{"TraceParent", "00-1-2-01"}};
    struct ring_result result;
    struct head h;

    head_init(&h, "/app", "");
    ask(tell_trace, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "[]");
    head_fields(&h, fields, 1);
    ask(tell_trace, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "[00-1-2-01]");
}

static void
take_room(struct cardea_request *r)
{
    size_t want = (size_t)strtoul(cardea_query(r), NULL, 10);

    if (!cardea_room(r, want)) {
        cardea_status(r, 507);
    }
}

/* The reply memory of one caller has 256 MiB: sixteen answers of 16 MiB fill
 * it. What a slot holds is free again when the caller has sent it. */
static void
test_full_reply_memory(void **state)
{
    struct test_ring *own = test_ring_open(door);
    struct ring_result result;
    uint32_t slots[16];
    struct head h;

    handler = take_room;
    head_init(&h, "/app", "16777216");
    for (int i = 0; i < 16; i++) {
        slots[i] = test_ring_post(own, 2, h.bytes, h.len, 0);
        assert_true(test_ring_wait(own));
        assert_int_equal(ring_result(&own->r, slots[i], &result), 0);
        assert_int_equal(result.status, 200);
    }
    /* Neither a large run nor a small one is left. */
    static const char *const queries[] = {"16777216", "10000"};
    for (int i = 0; i < 2; i++) {
        head_init(&h, "/app", queries[i]);
        uint32_t slot = test_ring_post(own, 2, h.bytes, h.len, 0);
        assert_true(test_ring_wait(own));
        assert_int_equal(ring_result(&own->r, slot, &result), 0);
        assert_int_equal(result.status, 507);
    }
    ring_slot_give(&own->r, slots[3]);
    /* Not the slot that was given back: the sweep must find its run. */
    assert_int_equal(ring_slot_take(&own->r, 0), slots[3]);
    head_init(&h, "/app", "16777216");
    uint32_t slot = test_ring_post(own, 2, h.bytes, h.len, 0);
    assert_true(test_ring_wait(own));
    assert_int_equal(ring_result(&own->r, slot, &result), 0);
    assert_int_equal(result.status, 200);
    test_ring_close(own);
}

/* ---- heads that lie ---- */

static void
test_bad_heads(void **state)
{
    static const uint32_t totals[] = {0, 1, sizeof(struct door_http) - 1,
                                      0xffffffffu, 80000};
    static const struct door_span spans[] = {
        {0, 5},      {0xffffffffu, 1},   {0xfffffff0u, 0x20},
        {100000, 1}, {200, 0xffffffffu}, {4, 4},
        {200, 4000},
    };
    static const char *const fields[][2] = {{"X-One", "1"}};
    struct ring_result result;
    struct head h;

    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        head_init(&h, "/app", "");
        h.http.total = totals[i];
        ask(tell, h.bytes, h.len, NULL, 0, &result);
        assert_int_equal(result.error, 0);
        assert_text(result.data, result.data_len,
                    "|||||||\x7cunix:0\n(null)|(null)|none\n");
    }
    ask(tell, "short", 5, NULL, 0, &result);
    assert_text(result.data, result.data_len,
                "|||||||\x7cunix:0\n(null)|(null)|none\n");
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        head_init(&h, "/app/x", "");
        h.http.method_name = h.http.query = spans[i];
        ask(tell, h.bytes, h.len, NULL, 0, &result);
        assert_text(result.data, result.data_len,
                    "|/raw%20target?x|/app/x||example.org:8080|0123-4567|/app|"
                    "/x|192.0.2.1:4711\n(null)|(null)|none\n");
    }
    static const uint32_t tables[] = {0, 1, 0xffffffffu, 70000, 0xfffffff8u};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        head_init(&h, "/app", "");
        head_fields(&h, fields, 1);
        h.http.n_fields = 0xffffffffu;
        h.http.fields_off = tables[i];
        ask(tell_peer, h.bytes, h.len, NULL, 0, &result);
        assert_text(result.data, result.data_len, "192.0.2.1");
        ask(tell, h.bytes, h.len, NULL, 0, &result);
        assert_int_equal(result.error, 0);
    }
}

/* ---- the answer ---- */

static void
say_everything(struct cardea_request *r)
{
    cardea_status(r, 404);
    cardea_type(r, "text/x");
    cardea_set(r, "X-A", "1");
    cardea_set(r, "X-A", "a\tb \x80\xff");
    cardea_puts(r, "one ");
    cardea_write(r, "two\0three", 9);
}

static void
say_nothing(struct cardea_request *r)
{
}

static void
test_answer(void **state)
{
    struct ring_result result;
    struct head h;

    head_init(&h, "/app", "");
    ask(say_everything, h.bytes, h.len, NULL, 0, &result);
    assert_int_equal(result.status, 404);
    assert_int_equal(result.data_len, 13);
    assert_memory_equal(result.data, "one two\0three", 13);
    assert_text(result.head, result.head_len,
                "Content-Type: text/x\r\nX-A: 1\r\nX-A: a\tb \x80\xff\r\n");
    ask(say_nothing, h.bytes, h.len, NULL, 0, &result);
    assert_int_equal(result.status, 200);
    assert_int_equal(result.data_len, 0);
    assert_int_equal(result.head_len, 0);
}

/* What set() and status() refuse, by errno; nothing of it is sent. */
static void
try_bad(struct cardea_request *r)
{
    static const char *const bad[][2] = {
        {"", "v"},
        {"a b", "v"},
        {"a:", "v"},
        {"a\r", "v"},
        {"(x)", "v"},
        {"\x80", "v"},
        {"X", "a\r\nB: c"},
        {"X", "a\n"},
        {"X", "\x01"},
        {"X", "\x7f"},
        {"Connection", "close"},
        {"content-LENGTH", "5"},
        {"Transfer-Encoding", "chunked"},
        {"Keep-Alive", "x"},
        {"Upgrade", "x"},
        {"TE", "x"},
        {"Trailer", "x"},
        {"Proxy-Connection", "x"},
        {"Date", "x"},
    };
    static const int statuses[] = {0, 100, 199, 600, -1, 1000};
    int right = 0;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        errno = 0;
        right += cardea_set(r, bad[i][0], bad[i][1]) == -1 && errno == EINVAL;
    }
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        errno = 0;
        right += cardea_status(r, statuses[i]) == -1 && errno == EINVAL;
    }
    errno = 0;
    right += cardea_commit(r, 1) == -1 && errno == EINVAL;
    char *room = cardea_room(r, 10);
    errno = 0;
    right += room && cardea_commit(r, 11) == -1 && errno == EINVAL;
    cardea_printf(r, "%d", right);
}

static void
test_refused(void **state)
{
    struct ring_result result;
    struct head h;

    head_init(&h, "/app", "");
    ask(try_bad, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "27");
    assert_int_equal(result.status, 200);
    assert_text(result.head, result.head_len,
                "Content-Type: text/plain; charset=utf-8\r\n");
}

/* Fields up to 32 KB. */
static void
many_fields(struct cardea_request *r)
{
    int n = 0;

    errno = 0;
    while (cardea_set(r, "X-Field", "0123456789abcdef") == 0) {
        n++;
    }
    cardea_printf(r, "%d %d", n, errno == ENOBUFS);
}

static void
test_many_fields(void **state)
{
    struct ring_result result;
    struct head h;

    head_init(&h, "/app", "");
    ask(many_fields, h.bytes, h.len, NULL, 0, &result);
    /* 27 bytes each; one is kept free for a NUL, and the type found no room. */
    assert_text(result.data, result.data_len, "1213 1");
    assert_int_equal(result.head_len, 1213 * 27);
}

static void
printf_sizes(struct cardea_request *r)
{
    static char text[3000];

    memset(text, 'p', sizeof text - 1);
    for (int n = 509; n < 516; n++) {
        cardea_printf(r, "%.*s\n", n, text);
    }
    cardea_printf(r, "%s|%d", text, 42);
    cardea_printf(r, "%s", "");
}

static void
test_printf(void **state)
{
    struct ring_result result;
    struct head h;
    size_t at = 0;

    head_init(&h, "/app", "");
    ask(printf_sizes, h.bytes, h.len, NULL, 0, &result);
    for (size_t n = 509; n < 516; n++) {
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(result.data[at + i], 'p');
        }
        at += n;
        assert_int_equal(result.data[at++], '\n');
    }
    at += 2999;
    assert_int_equal(result.data_len, at + 3);
    assert_memory_equal(result.data + at, "|42", 3);
}

#define LIMIT ((size_t)16 << 20)

static void
sixteen(struct cardea_request *r)
{
    char *room = cardea_room(r, LIMIT);

    if (room) {
        memset(room, 'm', LIMIT);
        cardea_commit(r, LIMIT);
    }
    errno = 0;
    if (cardea_write(r, "x", 1) == 0 || errno != ENOBUFS) {
        cardea_status(r, 500);
    }
    errno = 0;
    if (cardea_room(r, (size_t)-1) || errno != ENOBUFS) {
        cardea_status(r, 501);
    }
}

/* The same in small pieces: room moves as it grows. */
static void
piecemeal(struct cardea_request *r)
{
    char piece[1000];

    for (int i = 0; i < 5000; i++) {
        memset(piece, 'a' + i % 26, sizeof piece);
        if (cardea_write(r, piece, sizeof piece) < 0) {
            cardea_status(r, 500);
        }
    }
}

static void
test_large(void **state)
{
    struct ring_result result;
    struct head h;

    head_init(&h, "/app", "");
    for (int turn = 0; turn < 20; turn++) {
        ask(sixteen, h.bytes, h.len, NULL, 0, &result);
        assert_int_equal(result.error, 0);
        assert_int_equal(result.status, 200);
        assert_int_equal(result.data_len, LIMIT);
        assert_int_equal(result.data[0], 'm');
        assert_int_equal(result.data[LIMIT - 1], 'm');
    }
    ask(piecemeal, h.bytes, h.len, NULL, 0, &result);
    assert_int_equal(result.status, 200);
    assert_int_equal(result.data_len, 5000000);
    for (size_t i = 0; i < 5000000; i += 500) {
        assert_int_equal(result.data[i], 'a' + (int)(i / 1000 % 26));
    }
}

/* ---- send_file ---- */

static int file_fd, bad_fd;

static void
send_good(struct cardea_request *r)
{
    cardea_puts(r, "replaced");
    if (cardea_send_file(r, file_fd, 2, 6) < 0) {
        cardea_status(r, 500);
        return;
    }
    errno = 0;
    if (cardea_puts(r, "late") == 0 || errno != EALREADY) {
        cardea_status(r, 501);
    }
    errno = 0;
    if (cardea_send_file(r, file_fd, 0, 1) == 0 || errno != EALREADY) {
        cardea_status(r, 502);
    }
}

static void
send_bad(struct cardea_request *r)
{
    static const struct {
        int which;
        off_t offset;
        size_t length;
    } table[] = {
        {0, -1, 1},         {0, 0, 11}, {0, 11, 0}, {0, 10, 1},
        {0, 5, (size_t)-1}, {1, 0, 0},  {2, 0, 0},
    };
    int right = 0;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int fd = table[i].which == 0   ? file_fd
                 : table[i].which == 1 ? bad_fd
                                       : 900000;
        errno = 0;
        right +=
            cardea_send_file(r, fd, table[i].offset, table[i].length) == -1 &&
            errno == EBADF;
    }
    cardea_printf(r, "%d", right);
}

static void
test_send_file(void **state)
{
    struct ring_result result;
    struct stat want, got;
    struct head h;
    int pipe_ends[2];

    file_fd = memfd_create("f", MFD_CLOEXEC);
    assert_int_equal(write(file_fd, "0123456789", 10), 10);
    assert_int_equal(pipe(pipe_ends), 0);
    bad_fd = pipe_ends[0];
    head_init(&h, "/app", "");
    ask(send_good, h.bytes, h.len, NULL, 0, &result);
    assert_int_equal(result.error, 0);
    assert_int_equal(result.status, 200);
    assert_true(result.fd >= 0);
    assert_int_equal(result.fd_offset, 2);
    assert_int_equal(result.data_len, 6);
    assert_int_equal(fstat(file_fd, &want), 0);
    assert_int_equal(fstat(result.fd, &got), 0);
    assert_int_equal(want.st_ino, got.st_ino);
    assert_text(result.head, result.head_len,
                "Content-Type: text/plain; charset=utf-8\r\n");
    ask(send_bad, h.bytes, h.len, NULL, 0, &result);
    assert_text(result.data, result.data_len, "7");
    assert_int_equal(result.fd, -1);
    close(file_fd);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

/* ---- starting ---- */

static void
test_serve_needs_a_door(void **state)
{
    char path[] = "/tmp/door-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    unsetenv("CARDEA_DOOR");
    assert_int_equal(cardea_serve_threads(say_nothing), 1);
    assert_int_equal(setenv("CARDEA_DOOR", "", 1), 0);
    assert_int_equal(cardea_serve_threads(say_nothing), 1);
    /* What stands there is no door, and stays. */
    assert_int_equal(cardea_serve_threads_at(say_nothing, path), 1);
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    assert_int_equal(cardea_serve_threads_at(say_nothing, "/nonexistent/x"), 1);
    /* A living door is not replaced. */
    assert_int_equal(door_attach(door, path, 0600), 0);
    assert_int_equal(cardea_serve_threads_at(say_nothing, path), 1);
    unlink(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_peers_and_routes),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_plain_doors_are_told_of_the_call),
        cmocka_unit_test(test_the_trace_of_a_request),
        cmocka_unit_test(test_full_reply_memory),
        cmocka_unit_test(test_bad_heads),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_many_fields),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_send_file),
        cmocka_unit_test(test_serve_needs_a_door),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
