/* What a program asks of memory while it answers, and while it puts its door
 * up, fails once each: the request fails as a whole with a defined error, or
 * the handler is told; the next one is answered as if nothing had been. */
#include "door/test-ring.h"

#include "base/test-scarce.h"
#include "base/util.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "app/app.h"
#include "cardea.h"
#include "door/dial.h"
#include "door/native.h"
#include "door/wire.h"

/* Room in the reply memory, and the way of a descriptor, can be short too. */
SCARCE_WRAP(int, ENOBUFS, ENOBUFS, door_task_grow,
            (struct door_task * task, size_t used, size_t want),
            (task, used, want))
SCARCE_WRAP(int, EMFILE, EMFILE, door_task_send_fd,
            (struct door_task * task, int fd, uint64_t offset, uint64_t length),
            (task, fd, offset, length))

/* ---- a request whose head is larger than what needs no memory ---- */

struct head {
    union {
        struct door_http http;
        char bytes[8192];
    };
    uint32_t len;
};

static struct door_span
put(struct head *h, const char *text, uint32_t n)
{
    struct door_span span = {h->len, n};

    memcpy(h->bytes + h->len, text, n);
    h->bytes[h->len + n] = 0;
    h->len += n + 1;
    return span;
}

static void
head_init(struct head *h)
{
    static char large[5000];
    struct door_http_field field;

    memset(h, 0, sizeof *h);
    memset(large, 'v', sizeof large);
    h->len = sizeof(struct door_http);
    h->http.size = sizeof(struct door_http);
    h->http.method_name = put(h, "GET", 3);
    h->http.path = put(h, "/path", 5);
    h->http.query = put(h, "", 0);
    h->http.route = put(h, "/", 1);
    field.name = put(h, "X-Large", 7);
    field.value = put(h, large, sizeof large);
    h->len = (h->len + 7) / 8 * 8;
    memcpy(h->bytes + h->len, &field, sizeof field);
    h->http.fields_off = h->len;
    h->http.n_fields = 1;
    h->len += sizeof field;
    h->http.total = h->len;
}

/* ---- the server ---- */

static cardea_handler *_Atomic handler;
static int file_fd;

static void
dispatch(struct cardea_request *r)
{
    test_reads();
    atomic_load (&handler)(r);
    test_wrote();
}

static cardea_handler *const cookie = dispatch;

static void *
serve(void *arg)
{
    door_native_serve();
}

/* All that a handler can see must be of the same request: all or nothing. */
static void
read_large(struct cardea_request *r)
{
    const char *path = cardea_path(r), *value = cardea_header(r, "x-large");
    const char *found = "in parts";

    if (strcmp(path, "/path") == 0 && strcmp(cardea_method(r), "GET") == 0 &&
        value && strlen(value) == 5000) {
        found = "whole";
    } else if (*path == 0 && *cardea_method(r) == 0 && !value) {
        found = "none";
    }
    if (cardea_puts(r, found) < 0) {
        cardea_status(r, 503);
    }
}

/* Each -1 has its errno; told by the status, as a program would. */
static void
must(struct cardea_request *r, int rc, int *p_failed)
{
    if (rc < 0) {
        *p_failed += errno == ENOBUFS ? 1 : 100;
    }
}

static void
write_large(struct cardea_request *r)
{
    static char piece[100000], value[700];
    int failed = 0;

    memset(piece, 'p', sizeof piece);
    memset(value, 'v', sizeof value - 1);
    for (int i = 0; i < 20; i++) {
        must(r, cardea_write(r, piece, sizeof piece), &failed);
    }
    for (int i = 0; i < 4; i++) {
        must(r, cardea_set(r, "X-Large", value), &failed);
    }
    must(r, cardea_printf(r, "%s", value), &failed);
    if (failed > 0) {
        cardea_status(r, failed < 100 ? 503 : 599);
    }
}

static void
send_file(struct cardea_request *r)
{
    if (cardea_send_file(r, file_fd, 2, 6) < 0) {
        cardea_status(r, errno == ENOBUFS ? 503 : 599);
    }
}

/* ---- asking ---- */

/* One request to H; a copy of the beginning of its answer. */
static struct ring_result
ask(struct test_ring *ring, cardea_handler *h, char text[16])
{
    static struct head head;
    struct ring_result result;

    head_init(&head);
    handler = h;
    test_wrote();
    uint32_t slot = test_ring_post(ring, 2, head.bytes, head.len, 0);
    assert_true(test_ring_wait(ring));
    test_reads();
    assert_int_equal(ring_result(&ring->r, slot, &result), 0);
    memset(text, 0, 16);
    if (result.fd < 0) {
        memcpy(text, result.data, MIN_OF(result.data_len, 15u));
    } else {
        ring_fd_taken(&ring->r, slot);
    }
    ring_slot_give(&ring->r, slot);
    return result;
}

/* What may come of H where something is short, and what must come otherwise. */
struct expected {
    const char *name;
    cardea_handler *handler;
    uint64_t data_len;
    const char *text;
    long least; /* so many calls at least can fail */
};

static void
try_each(struct test_ring *ring, const struct expected *want)
{
    char text[16];
    struct ring_result first = ask(ring, want->handler, text);
    int fds = test_fds() - (first.fd >= 0);
    bool was_short = true;
    long n;

    if (first.fd >= 0) {
        close(first.fd);
    }
    for (n = 1; n < 1000 && was_short; n++) {
        scarce_begin(n);
        struct ring_result got = ask(ring, want->handler, text);
        was_short = scarce_end();
        bool is_whole = got.error == 0 && got.status == 200 &&
                        got.data_len == want->data_len &&
                        strcmp(text, want->text) == 0;
        if (got.fd >= 0) {
            close(got.fd);
        }
        assert_true(got.error == 0 || got.error == ENOBUFS ||
                    got.error == ENOMEM);
        assert_true(was_short || is_whole);
        if (!is_whole && got.error == 0 && got.status != 503) {
            fail_msg("%s, n=%ld: %u, %llu bytes: %s", want->name, n,
                     (unsigned)got.status, (unsigned long long)got.data_len,
                     text);
        }
        /* The next one finds nothing of it. */
        got = ask(ring, want->handler, text);
        assert_int_equal(got.error, 0);
        assert_int_equal(got.status, 200);
        assert_int_equal(got.data_len, want->data_len);
        if (got.fd >= 0) {
            close(got.fd);
        }
    }
    print_message("# %s: %ld\n", want->name, n - 2);
    assert_true(n - 2 >= want->least && n < 100);
    assert_true(test_until(test_fds_at_most, &fds));
}

static void
test_requests(void **state)
{
    static const struct expected cases[] = {
        {"a request with a large head", read_large, 5, "whole", 2},
        {"a large answer", write_large, 2000699, "ppppppppppppppp", 8},
        {"an answer by descriptor", send_file, 6, "", 2},
    };
    int door =
        door_create_native(app_procedure, (void *)(uintptr_t)&cookie, 0, 1);

    assert_true(door >= 0);
    pthread_t id;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    assert_int_equal(__real_pthread_create(&id, &attr, serve, NULL), 0);
    pthread_attr_destroy(&attr);
    pthread_detach(id);
    file_fd = __real_memfd_create("f", MFD_CLOEXEC);
    assert_int_equal(write(file_fd, "0123456789", 10), 10);
    struct test_ring *ring = test_ring_open(door);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        try_each(ring, &cases[i]);
    }
    test_ring_close(ring);
    close(file_fd);
    close(door);
}

/* ---- starting: cardea_serve_threads_at() in a process of its own ---- */

static void
tell_short(struct cardea_request *r)
{
    cardea_puts(r, scarce_end() ? "short" : "whole");
}

static void __attribute__((noreturn))
be_program(const char *path, long n, int errors)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(errors, STDERR_FILENO);
    scarce_begin(n);
    int status = cardea_serve_threads_at(tell_short, path);
    scarce_end();
    exit(status); /* through the leak check */
}

/* A connection to the door at PATH as soon as it is there; -1: the program PID
 * has ended, *P_STATUS says how. */
static int
dial(const char *path, pid_t pid, int *p_status)
{
    int64_t end = test_now() + TEST_LIMIT_NS;

    while (test_now() < end) {
        int fd = door_dial(path);
        if (fd >= 0) {
            return fd;
        }
        if (waitpid(pid, p_status, WNOHANG) == pid) {
            return -1;
        }
        usleep(1000);
    }
    fail_msg("neither a door nor an end");
    return -1;
}

/* One call by the connection FD (taken). 0 and what came, or an errno. */
static int
visit(int fd, char text[16])
{
    struct test_ring *ring = test_ring_new();
    int e = ring_open(&ring->r, fd, -1, NULL);

    if (e == 0) {
        e = test_ring_greet(ring);
    }
    if (e == 0) {
        test_ring_listen(ring);
        ask(ring, tell_short, text);
    }
    test_ring_close(ring);
    return e;
}

/* One start with the Nth call failing: 's' it serves and one had failed, 'w' it
 * serves and none had, 'f' it said why it could not. */
static char
start(const char *path, long n)
{
    char text[16] = "", said[4096] = "";
    int errors[2], status = 0;

    assert_int_equal(__real_pipe2(errors, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        be_program(path, n, errors[1]);
    }
    close(errors[1]);
    int fd = dial(path, pid, &status);
    if (fd >= 0) {
        int e = visit(fd, text);
        /* No room for this caller, as it sees itself; for the next there is. */
        if (e != 0 && e != EPIPE && e != ENOMEM && e != EMFILE && e != ENOSPC &&
            e != ENFILE && e != ECONNRESET) {
            fail_msg("n=%ld: %s", n, strerror(e));
        }
        if (e != 0) {
            text[0] = 's';
            assert_int_equal(visit(door_dial(path), said), 0);
        }
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    } else {
        ssize_t len = read(errors[0], said, sizeof said - 1);
        if (len <= 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 1 ||
            strncmp(said, "cardea: ", 8) != 0) {
            fail_msg("n=%ld: status %#x\n%s", n, (unsigned)status, said);
        }
        text[0] = 'f';
    }
    close(errors[0]);
    return text[0];
}

static void
test_start(void **state)
{
    char path[64], end = 0;
    long n = 0, failed = 0;

    /* A dead door lies at the path each time but the first: it is replaced. */
    snprintf(path, sizeof path, "/tmp/scarce-app-%d.door", (int)getpid());
    unlink(path);
    while (end != 'w' && ++n < 1000) {
        end = start(path, n);
        failed += end == 'f';
        assert_true(end == 'f' || end == 's' || end == 'w');
    }
    unlink(path);
    print_message("# starting a program: %ld, %ld failed\n", n - 1, failed);
    assert_in_range(n, 10, 100);
    assert_true(failed >= 5);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        /* Forks, so before there are threads. */
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
