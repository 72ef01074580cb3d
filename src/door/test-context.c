/* What a call is part of: deadline, request and trace go from a caller's call
 * to the doors that its procedure calls, and so on; a call ends at its
 * deadline, whatever its server does; and peers that know nothing of it are
 * served as ever. */
#include "test-ring.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/util.h"
#include "door/native.h"
#include "door/server.h"

#define S_NS  1000000000ull
#define MS_NS 1000000ull

/* ---- the doors ---- */

/* Answers with the context that its call has, and whether it is gone. */
struct seen {
    struct door_context context;
    uint32_t has, gone, plain;
};

static _Atomic uint32_t n_looks;

static void
look(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    struct seen seen = {0};

    n_looks++;
    seen.has = door_context(&seen.context);
    seen.gone = door_context_gone();
    seen.plain = door_context_plain();
    door_return((char *)&seen, sizeof seen, NULL, 0);
}

static _Atomic int passed_on = -1; /* what came of the latest such call */

/* Calls the door that its cookie says, and answers with what that does, or with
 * the errno. */
static void
pass_on(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
        unsigned int n_desc)
{
    char room[256];
    door_arg_t arg = {.data_ptr = argp,
                      .data_size = arg_size,
                      .rbuf = room,
                      .rsize = sizeof room};
    int e = door_call(*(int *)cookie, &arg) < 0 ? errno : 0;

    passed_on = e;
    if (e != 0) {
        door_return((char *)&e, sizeof e, NULL, 0);
    }
    door_return(room, arg.data_size, NULL, 0);
}

/* Answers when it is told to. */
static _Atomic uint32_t held, released;

static void
hold(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    held++;
    while (released == 0) {
        usleep(1000);
    }
    released--;
    door_return(NULL, 0, NULL, 0);
}

/* ---- a thread that serves a call ---- */

/* Makes the calling thread one that serves a call with CONTEXT, by hand. */
static void
pretend(struct call *c, struct source *src, const struct door_context *context)
{
    static struct door door;

    memset(c, 0, sizeof *c);
    memset(src, 0, sizeof *src);
    src->kind = SOURCE_CHANNEL;
    src->door = &door;
    c->src = src;
    c->context = *context;
    c->open = true;
    context_stands_in(c);
}

static const struct door_context context = {
    .deadline = 1ull << 62,
    .request_id = 0x6a3f000000000001ull,
    .trace_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    .span_id = {0x6a, 0x3f, 0, 0, 0, 0, 0, 1},
    .trace_flags = 1};

/* What a call of D finds, while this thread serves one. */
static struct seen
call_look(int d)
{
    struct seen seen = {0};
    char room[sizeof seen];
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};

    assert_int_equal(door_call(d, &arg), 0);
    assert_int_equal(arg.data_size, sizeof seen);
    memcpy(&seen, arg.rbuf, sizeof seen);
    return seen;
}

/* ---- tests ---- */

static void
test_a_call_of_nobodys_is_part_of_nothing(void **state)
{
    int d = door_create(look, NULL, 0);
    struct seen seen = call_look(d);
    struct door_context none = {0}, own = context;

    assert_false(seen.has || seen.gone);
    assert_true(seen.plain);
    assert_memory_equal(&seen.context, &none, sizeof none);
    assert_false(door_context(&own));
    assert_memory_equal(&own, &none, sizeof none);
    assert_false(door_context_gone());
    assert_false(door_context_plain());
    close(d);
}

/* Through two doors, and not into the next call on the same channel. */
static void
test_it_goes_on_from_door_to_door(void **state)
{
    struct source src;
    struct call c;
    int last = door_create(look, NULL, 0);
    int second = door_create(pass_on, &last, 0);
    int first = door_create(pass_on, &second, 0);

    pretend(&c, &src, &context);
    struct seen seen = call_look(first);
    assert_true(seen.has);
    assert_false(seen.gone);
    assert_memory_equal(&seen.context, &context, sizeof context);
    c.open = false; /* it is answered: what comes now is part of nothing */
    assert_false(call_look(first).has);
    context_stands_in(NULL);
    assert_false(call_look(first).has);
    close(first);
    close(second);
    close(last);
}

/* A plain door behind a ring, as a worker calls it. */
static void
test_it_goes_on_from_a_ring(void **state)
{
    int last = door_create(look, NULL, 0);
    int first = door_create(pass_on, &last, 0);
    struct test_ring *t = test_ring_open(first);
    struct ring_result result;
    struct seen seen;

    for (int named = 0; named < 2; named++) {
        uint32_t slot = (uint32_t)ring_slot_take(&t->r, 0);
        struct ring_entry *e = ring_entry(&t->r, slot);
        e->kind = RING_KIND_BYTES;
        e->args_off = e->args_len = e->body_off = e->body_len = 0;
        e->deadline = context.deadline;
        e->request_id = named ? context.request_id : 0;
        e->trace_flags = named;
        memcpy(e->trace_id, context.trace_id, 16);
        memcpy(e->span_id, context.span_id, 8);
        ring_publish(&t->r, slot);
        test_wrote();
        assert_true(test_ring_wait(t));
        assert_int_equal(ring_result(&t->r, slot, &result), 0);
        assert_int_equal(result.error, 0);
        assert_int_equal(result.data_len, sizeof seen);
        memcpy(&seen, result.data, sizeof seen);
        assert_int_equal(seen.context.request_id,
                         named ? context.request_id : 0);
        assert_int_equal(seen.context.trace_flags, named);
        assert_true(seen.context.deadline == context.deadline);
        assert_memory_equal(seen.context.trace_id, context.trace_id, 16);
        assert_memory_equal(seen.context.span_id, context.span_id, 8);
        ring_slot_give(&t->r, slot);
    }
    test_ring_close(t);
    close(first);
    close(last);
}

/* ---- the deadline ---- */

static int
call_of(int d, uint64_t deadline)
{
    struct door_context until = context;
    struct source src;
    struct call c;

    until.deadline = deadline;
    pretend(&c, &src, &until);
    int e = door_call(d, NULL) < 0 ? errno : 0;
    context_stands_in(NULL);
    return e;
}

/* Enough for a call of D to come to hold(), and little: 80 ms, or more where
 * the machine is so busy that one took a twentieth. Its threads are there then.
 */
static uint64_t
short_time(int d)
{
    uint64_t begin = (uint64_t)test_now();

    released++;
    assert_int_equal(call_of(d, begin + 20 * S_NS), 0);
    return MAX_OF(80 * MS_NS, 20 * ((uint64_t)test_now() - begin));
}

static bool
is_held(void *arg)
{
    return held == *(uint32_t *)arg;
}

static void
test_a_call_ends_at_its_deadline(void **state)
{
    int d = door_create(hold, NULL, 0);
    uint64_t time = short_time(d);
    uint32_t one = held + 1;

    uint64_t begin = (uint64_t)test_now();
    assert_int_equal(call_of(d, begin + time), ETIMEDOUT);
    assert_true((uint64_t)test_now() - begin >= time);
    assert_true(test_until(is_held, &one)); /* it ran, and runs still */
    released++;
    /* The next one is made anew, and answered. */
    released++;
    assert_int_equal(call_of(d, (uint64_t)test_now() + 20 * S_NS), 0);
    assert_int_equal(held, one + 1);
    close(d);
}

static bool
is_passed_on(void *arg)
{
    return passed_on == *(int *)arg;
}

/* The callee's own call ends at the same time, whoever waits for the callee. */
static void
test_the_deadline_holds_for_what_a_callee_calls(void **state)
{
    int last = door_create(hold, NULL, 0);
    int first = door_create(pass_on, &last, 0);
    struct door_context until = context;
    struct source src;
    struct call c;
    uint64_t time = short_time(first);
    uint32_t one = held + 1;
    int over = ETIMEDOUT;
    char room[8];
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};

    passed_on = -1;
    until.deadline = (uint64_t)test_now() + time;
    pretend(&c, &src, &until);
    /* It may just have told of its failure, in time. */
    int e = door_call(first, &arg) < 0 ? errno : 0;
    context_stands_in(NULL);
    assert_true(e == ETIMEDOUT || e == 0);
    assert_true(test_until(is_passed_on, &over));
    assert_true(test_until(is_held, &one));
    released++;
    close(first);
    close(last);
}

/* Nothing is sent, but descriptors that are marked so are closed. */
static void
test_a_call_past_its_deadline_is_not_made(void **state)
{
    int d = door_create(look, NULL, 0);
    struct door_context over = context;
    struct source src;
    struct call c;
    int given = dup(0);
    door_desc_t desc = {.d_attributes = DOOR_DESCRIPTOR | DOOR_RELEASE};
    door_arg_t arg = {.desc_ptr = &desc, .desc_num = 1};

    desc.d_data.d_desc.d_descriptor = given;
    call_look(d); /* there is a channel */
    uint32_t before = n_looks;
    over.deadline = (uint64_t)test_now();
    pretend(&c, &src, &over);
    assert_int_equal(door_call(d, &arg) < 0 ? errno : 0, ETIMEDOUT);
    context_stands_in(NULL);
    assert_int_equal(fcntl(given, F_GETFD), -1);
    assert_int_equal(n_looks, before);
    close(d);
}

/* ---- by hand: a caller and a server that are not this library's ---- */

/* A channel to D whose hello tells FEATURES. Its connection; what the welcome
 * tells goes to P_FEATURES. */
static int
open_by_hand(int d, uint64_t features, struct channel_call **p_call,
             const struct channel_reply **p_reply, uint64_t *p_features)
{
    struct door_hello hello = {.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = DOOR_HELLO_CHANNEL,
                               .features = features,
                               .size = DOOR_CHANNEL_SIZE};
    struct door_welcome welcome;
    int pair[2], memory, reply = -1;
    size_t n = 1;

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *p_call = door_memory_make("call", DOOR_CHANNEL_SIZE, NULL, &memory);
    assert_non_null(*p_call);
    (*p_call)->magic = DOOR_WIRE_MAGIC;
    (*p_call)->major = DOOR_WIRE_MAJOR;
    assert_int_equal(
        door_send(d, &hello, sizeof hello, (int[]){pair[1], memory}, 2), 0);
    close(pair[1]);
    close(memory);
    assert_int_equal(door_wait_readable(pair[0], 20 * S_NS), 0);
    assert_int_equal(door_receive(pair[0], &welcome, sizeof welcome, &reply, &n,
                                  NULL, MSG_DONTWAIT),
                     0);
    assert_int_equal(welcome.error, 0);
    *p_reply = door_memory_map(reply, DOOR_CHANNEL_SIZE, NULL);
    assert_non_null(*p_reply);
    close(reply);
    *p_features = welcome.features;
    return pair[0];
}

static bool
is_answered(void *arg)
{
    const struct channel_reply *r = arg;

    return atomic_load(&r->done) == 1;
}

/* A first call by hand; its error. */
static int
post_by_hand(int conn, struct channel_call *q, const struct channel_reply *r)
{
    struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = 1};

    atomic_store(&q->seq, 1);
    assert_int_equal(door_send(conn, &bell, sizeof bell, NULL, 0), 0);
    assert_true(test_until(is_answered, (void *)(uintptr_t)r));
    return r->error;
}

static void
close_by_hand(int conn, struct channel_call *q, const struct channel_reply *r)
{
    munmap(q, DOOR_CHANNEL_SIZE);
    munmap((void *)(uintptr_t)r, DOOR_CHANNEL_SIZE);
    close(conn);
}

/* What a caller writes there counts only if both have said that they know it,
 * and only if it says that there is something. */
static void
test_only_who_says_so_tells_a_context(void **state)
{
    static const struct {
        uint64_t features;
        uint32_t has_context;
        bool counts;
    } cases[] = {{0, 1, false},
                 {DOOR_FEATURE_CONTEXT, 0, false},
                 {DOOR_FEATURE_CONTEXT, 1, true},
                 {DOOR_FEATURE_CONTEXT, 0xffffffff, true}};
    int d = door_create(look, NULL, 0);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct channel_call *q;
        const struct channel_reply *r;
        struct seen seen;
        uint64_t features;
        int conn = open_by_hand(d, cases[i].features, &q, &r, &features);

        assert_int_equal(features & DOOR_FEATURE_CONTEXT,
                         cases[i].features & DOOR_FEATURE_CONTEXT);
        q->has_context = cases[i].has_context;
        q->context = context;
        q->context.spare = 7; /* of a later release */
        assert_int_equal(post_by_hand(conn, q, r), 0);
        memcpy(&seen, (const char *)r + 4096, sizeof seen);
        assert_int_equal(seen.has, cases[i].counts);
        if (cases[i].counts) {
            assert_memory_equal(&seen.context, &context, sizeof context);
        }
        close_by_hand(conn, q, r);
    }
    close(d);
}

/* Nor is it run, whatever the caller does about it. */
static void
test_a_call_that_comes_too_late_is_refused(void **state)
{
    int d = door_create(look, NULL, 0);
    struct channel_call *q;
    const struct channel_reply *r;
    uint64_t features;
    uint32_t before = n_looks;
    int conn = open_by_hand(d, DOOR_FEATURE_CONTEXT, &q, &r, &features);

    q->has_context = 1;
    q->context.deadline = 1;
    assert_int_equal(post_by_hand(conn, q, r), ETIMEDOUT);
    assert_int_equal(n_looks, before);
    close_by_hand(conn, q, r);
    close(d);
}

/* ---- an older server, which never answers ---- */

struct deaf {
    int door; /* the caller's end */
    int ends[3];
    int n;
};

/* What looks like a door: connected to a socket whose name is marked. */
static struct deaf
make_deaf(void)
{
    static int n;
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct deaf deaf = {.n = 0};
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int len = snprintf(sun.sun_path + 1, sizeof sun.sun_path - 1,
                       "cardea.door/1/%08x%08x/00000000", (unsigned)getpid(),
                       (unsigned)++n);

    socklen_t size =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    assert_int_equal(bind(listener, (struct sockaddr *)&sun, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    deaf.door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(deaf.door, (struct sockaddr *)&sun, size), 0);
    deaf.ends[deaf.n++] = accept(listener, NULL, NULL);
    deaf.ends[deaf.n++] = listener;
    return deaf;
}

static void
end_deaf(const struct deaf *deaf)
{
    for (int i = 0; i < deaf->n; i++) {
        close(deaf->ends[i]);
    }
    close(deaf->door);
}

/* The wait for a channel ends at the deadline too. */
static void
test_the_set_up_ends_at_the_deadline(void **state)
{
    struct deaf deaf = make_deaf();
    uint64_t begin = (uint64_t)test_now();

    assert_int_equal(call_of(deaf.door, begin + 50 * MS_NS), ETIMEDOUT);
    assert_true((uint64_t)test_now() - begin >= 50 * MS_NS);
    end_deaf(&deaf);
}

/* Grants one channel as a release without the feature would, and looks whether
 * anything but zeroes stands where the context would. */
static void *
serve_as_of_old(void *arg)
{
    int server = *(int *)arg, fds[2], memory;
    struct door_hello hello;
    size_t n = 2;

    assert_int_equal(door_wait_readable(server, 20 * S_NS), 0);
    assert_int_equal(
        door_receive(server, &hello, sizeof hello, fds, &n, NULL, 0), 0);
    const struct channel_call *q =
        door_memory_map(fds[1], DOOR_CHANNEL_SIZE, NULL);
    struct channel_reply *r =
        door_memory_make("reply", DOOR_CHANNEL_SIZE, NULL, &memory);
    struct door_welcome welcome = {.magic = DOOR_WIRE_MAGIC,
                                   .major = DOOR_WIRE_MAJOR,
                                   .size = DOOR_CHANNEL_SIZE,
                                   .data_max = UINT64_MAX};
    assert_int_equal(door_send(fds[0], &welcome, sizeof welcome, &memory, 1),
                     0);
    struct door_note bell;
    n = 0;
    assert_int_equal(door_wait_readable(fds[0], 20 * S_NS), 0);
    assert_int_equal(
        door_receive(fds[0], &bell, sizeof bell, NULL, &n, NULL, 0), 0);
    struct door_context none = {0};
    intptr_t clean = q->has_context == 0 &&
                     memcmp((const void *)&q->context, &none, sizeof none) == 0;
    atomic_store(&r->taken, 1);
    atomic_store(&r->done, 1);
    door_futex_wake(&r->done, 1, true);
    char c;
    while (recv(fds[0], &c, 1, 0) > 0) { /* until the caller has gone */
    }
    munmap((void *)(uintptr_t)q, DOOR_CHANNEL_SIZE);
    munmap(r, DOOR_CHANNEL_SIZE);
    close(fds[0]);
    close(fds[1]);
    close(memory);
    return (void *)clean;
}

struct caller {
    int door, error;
};

static void *
call_once(void *arg)
{
    struct caller *caller = arg;

    caller->error = call_of(caller->door, (uint64_t)test_now() + 20 * S_NS);
    return NULL; /* and its channels are closed */
}

static void
test_an_older_server_is_told_nothing(void **state)
{
    struct deaf deaf = make_deaf();
    struct caller caller = {deaf.door, -1};
    pthread_t server = test_thread(serve_as_of_old, &deaf.ends[0]);
    pthread_t thread = test_thread(call_once, &caller);
    void *clean;

    pthread_join(thread, NULL);
    pthread_join(server, &clean);
    assert_int_equal(caller.error, 0);
    assert_non_null(clean);
    end_deaf(&deaf);
}

/* A door that is told that nobody refers to it is called by nobody. */
static _Atomic int told;

static void
unreferenced(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
             unsigned int n_desc)
{
    struct door_context any;

    if (argp == DOOR_UNREF_DATA) {
        told = door_context(&any) || door_context_gone() ? -1 : 1;
    }
    door_return(NULL, 0, NULL, 0);
}

static bool
is_told(void *arg)
{
    return told != 0;
}

static void
test_unreferenced_is_part_of_nothing(void **state)
{
    int d = door_create(unreferenced, NULL, DOOR_UNREF), more;
    struct source src;
    struct call c;
    char path[600], folder[32];

    test_folder(folder);
    snprintf(path, sizeof path, "%s/door", folder);
    assert_int_equal(door_attach(d, path, 0666), 0);
    more = door_open(path);
    pretend(&c, &src, &context);
    assert_int_equal(door_call(more, NULL), 0); /* its thread knows one now */
    context_stands_in(NULL);
    assert_int_equal(unlink(path), 0);
    close(more);
    assert_true(test_until(is_told, NULL));
    assert_int_equal(told, 1);
    close(d);
    test_folder_remove(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_of_nobodys_is_part_of_nothing),
        cmocka_unit_test(test_it_goes_on_from_door_to_door),
        cmocka_unit_test(test_it_goes_on_from_a_ring),
        cmocka_unit_test(test_a_call_ends_at_its_deadline),
        cmocka_unit_test(test_the_deadline_holds_for_what_a_callee_calls),
        cmocka_unit_test(test_a_call_past_its_deadline_is_not_made),
        cmocka_unit_test(test_only_who_says_so_tells_a_context),
        cmocka_unit_test(test_a_call_that_comes_too_late_is_refused),
        cmocka_unit_test(test_the_set_up_ends_at_the_deadline),
        cmocka_unit_test(test_an_older_server_is_told_nothing),
        cmocka_unit_test(test_unreferenced_is_part_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
