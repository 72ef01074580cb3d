/* Descriptors that come with a ring's calls: they are the procedure's, exactly
 * one a call, and whatever a caller does with its notes, none is lost and none
 * goes to another call. */
#include "test-ring.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include "door/native.h"

#define BYTES 1

/* What the procedure saw. */
struct seen {
    _Atomic int calls;
    unsigned int n, attributes;
    int flags;
    ino_t ino;
    size_t arg_size;
};

static void
look_and_close(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
               unsigned int n_desc)
{
    struct seen *seen = cookie;
    struct stat st;

    test_reads();
    seen->n = n_desc;
    seen->arg_size = arg_size;
    for (unsigned int i = 0; i < n_desc; i++) {
        int fd = dp[i].d_data.d_desc.d_descriptor;
        seen->attributes = dp[i].d_attributes;
        seen->flags = fcntl(fd, F_GETFD);
        seen->ino = fstat(fd, &st) == 0 ? st.st_ino : 0;
        close(fd);
    }
    seen->calls++;
    door_return(argp, arg_size, NULL, 0);
}

static ino_t
inode(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

/* An entry without its note; nothing is published yet. */
static uint32_t
prepare(struct test_ring *t)
{
    int slot = ring_slot_take(&t->r, 0);

    assert_true(slot >= 0);
    struct ring_entry *e = ring_entry(&t->r, (uint32_t)slot);
    e->kind = BYTES;
    e->args_off = e->args_len = e->body_off = e->body_len = 0;
    e->deadline = (uint64_t)test_now() + TEST_LIMIT_NS;
    return (uint32_t)slot;
}

/* Publishes SLOT and waits; the error of the answer. The slot is given back. */
static int
finish(struct test_ring *t, uint32_t slot)
{
    struct ring_result result;

    test_wrote();
    ring_publish(&t->r, slot);
    assert_true(test_ring_wait(t));
    assert_int_equal(t->n_answered, 1);
    assert_int_equal(t->answered[0], slot);
    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    ring_slot_give(&t->r, slot);
    return result.error;
}

static void
assert_fds(int want)
{
    if (!test_until(test_fds_at_most, &want)) {
        fail_msg("%d descriptors, not %d", test_fds(), want);
    }
}

static void
test_one_comes_with_its_call(void **state)
{
    struct seen seen = {0};
    int file = memfd_create("x", MFD_CLOEXEC);
    int d = door_create(look_and_close, &seen, 0);
    struct test_ring *t = test_ring_open(d);
    int before = test_fds();

    assert_int_equal(t->r.features, 6);
    for (int i = 1; i <= 2000; i++) {
        uint32_t slot = prepare(t);
        assert_int_equal(ring_pass(&t->r, slot, file), 0);
        assert_int_equal(finish(t, slot), 0);
        assert_int_equal(seen.calls, i);
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.attributes, 0x10000);
        assert_int_equal(seen.flags, 0); /* as doors give descriptors */
        assert_int_equal(seen.arg_size, 0);
        assert_true(seen.ino == inode(file));
        /* The next call in that slot brings none. */
        slot = prepare(t);
        assert_int_equal(finish(t, slot), 0);
        assert_int_equal(seen.n, 0);
        seen.calls--;
    }
    assert_fds(before);
    test_ring_close(t);
    close(d);
    close(file);
}

/* An heir does not know whether the note was sent: it sends it again. */
static void
test_a_note_said_twice_counts_once(void **state)
{
    struct seen seen = {0};
    int first = memfd_create("x", MFD_CLOEXEC);
    int second = memfd_create("y", MFD_CLOEXEC);
    int d = door_create(look_and_close, &seen, 0);
    struct test_ring *t = test_ring_open(d);
    int before = test_fds();

    for (int i = 0; i < 100; i++) {
        uint32_t slot = prepare(t);
        assert_int_equal(ring_pass(&t->r, slot, first), 0);
        assert_int_equal(ring_pass(&t->r, slot, second), 0);
        assert_int_equal(finish(t, slot), 0);
        assert_int_equal(seen.n, 1);
        assert_true(seen.ino == inode(second));
    }
    assert_fds(before);
    test_ring_close(t);
    close(d);
    close(first);
    close(second);
}

static void
test_a_withdrawn_call_keeps_none(void **state)
{
    struct seen seen = {0};
    struct ring_result result;
    int file = memfd_create("x", MFD_CLOEXEC);
    int d = door_create(look_and_close, &seen, 0);
    struct test_ring *t = test_ring_open(d);
    int before = test_fds();

    for (int i = 0; i < 100; i++) {
        uint32_t slot = prepare(t);
        assert_int_equal(ring_pass(&t->r, slot, file), 0);
        ring_publish(&t->r, slot);
        ring_withdraw(&t->r, slot);
        assert_true(test_ring_wait(t));
        assert_int_equal(ring_result(&t->r, slot, &result), 0);
        assert_int_equal(result.error, ECANCELED);
        ring_slot_give(&t->r, slot);
    }
    assert_int_equal(seen.calls, 0);
    assert_fds(before);
    test_ring_close(t);
    close(d);
    close(file);
}

static void
native(void *cookie, struct door_task *task)
{
    (void)task;
    ++*(_Atomic int *)cookie;
}

static void *
serve(void *arg)
{
    (void)arg;
    door_native_serve();
}

/* Doors that take none say so in their welcome; who sends one all the same
 * gets an error, and the descriptor is closed. */
static void
test_doors_that_take_none(void **state)
{
    struct seen seen = {0};
    _Atomic int calls = 0;
    int file = memfd_create("x", MFD_CLOEXEC);
    int doors[2] = {door_create(look_and_close, &seen, DOOR_REFUSE_DESC),
                    door_create_native(native, &calls, 0, 1)};

    test_thread(serve, NULL);
    for (int k = 0; k < 2; k++) {
        struct test_ring *t = test_ring_open(doors[k]);
        int before = test_fds();
        assert_int_equal(t->r.features, k == 0 ? 4 : 5);
        for (int i = 0; i < 50; i++) {
            uint32_t slot = prepare(t);
            ring_entry(&t->r, slot)->kind = k == 0 ? 1 : 2;
            assert_int_equal(ring_pass(&t->r, slot, file), 0);
            assert_int_equal(finish(t, slot), ENOTSUP);
        }
        assert_int_equal(seen.calls + calls, 0);
        assert_fds(before);
        test_ring_close(t);
        close(doors[k]);
    }
    close(file);
}

/* Sends a note as it should not be, on the ring's connection. */
static void
say(struct test_ring *t, struct door_note note, int file, size_t n)
{
    int fds[8] = {file, file, file, file, file, file, file, file};

    assert_int_equal(door_send(t->r.conn, &note, sizeof note, fds, n), 0);
}

static void
test_notes_that_are_wrong(void **state)
{
    struct seen seen = {0};
    int file = memfd_create("x", MFD_CLOEXEC);
    int d = door_create(look_and_close, &seen, 0);
    struct test_ring *t = test_ring_open(d);
    int before = test_fds();

    for (int i = 0; i < 6; i++) {
        uint32_t slot = prepare(t);
        struct ring_entry *e = ring_entry(&t->r, slot);
        e->cookie = 0x1122334455667788ull + (uint64_t)i;
        e->n_fds = 1;
        struct door_note note = {
            .kind = 2, .seq = slot, .cookie = e->cookie, .n_fds = 1};
        int error = EPROTO;
        switch (i) {
        case 0: /* it never comes */
            break;
        case 1: /* of another call */
            note.cookie++;
            say(t, note, file, 1);
            break;
        case 2: /* for a slot that is not there */
            note.seq = 1024;
            say(t, note, file, 1);
            note.seq = 0xffffffffu;
            say(t, note, file, 1);
            break;
        case 3: /* more than was said; the control part is cut */
            say(t, note, file, 8);
            error = EMFILE;
            break;
        case 4: /* more than there may be */
            say(t, note, file, 1);
            e->n_fds = 7;
            error = E2BIG;
            break;
        case 5: /* no note at all, but a descriptor */
            note.kind = DOOR_NOTE_BELL;
            say(t, note, file, 1);
            break;
        }
        assert_int_equal(finish(t, slot), error);
        /* The call after it is not hurt. */
        slot = prepare(t);
        assert_int_equal(ring_pass(&t->r, slot, file), 0);
        assert_int_equal(finish(t, slot), 0);
        assert_int_equal(seen.n, 1);
    }
    assert_int_equal(seen.calls, 6);
    assert_fds(before);
    test_ring_close(t);
    close(d);
    close(file);
}

/* Held for calls that never come: one a slot, and gone with the ring. */
static void
test_notes_without_calls(void **state)
{
    struct seen seen = {0};
    int file = memfd_create("x", MFD_CLOEXEC);
    int d = door_create(look_and_close, &seen, 0);
    int outer = test_fds();
    struct test_ring *t = test_ring_open(d);
    int before = test_fds();

    for (uint32_t i = 0; i < 3000; i++) {
        struct door_note note = {
            .kind = 2, .seq = i % 64, .cookie = i, .n_fds = 1};
        int fds[1] = {file}, e;
        while ((e = door_send(t->r.conn, &note, sizeof note, fds, 1)) ==
                   EAGAIN ||
               e == ETOOMANYREFS) {
            usleep(100);
        }
        assert_int_equal(e, 0);
    }
    assert_fds(before + 64);
    assert_int_equal(seen.calls, 0);
    test_ring_close(t);
    assert_fds(outer);
    close(d);
    close(file);
}

/* One call while this process may open no descriptor more. Its error. */
static int
call_without_room(struct test_ring *t, int file)
{
    struct rlimit old, none;
    uint32_t slot = prepare(t);
    int lowest = dup(file);

    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(ring_pass(&t->r, slot, file), 0);
    int error = finish(t, slot);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    return error;
}

/* The server's process has no room for one more: that call fails, with the
 * reason, and the next one works. */
static void
test_no_room_for_it(void **state)
{
    struct seen seen = {0};
    int file = memfd_create("x", MFD_CLOEXEC);
    int d = door_create(look_and_close, &seen, 0);
    struct test_ring *t = test_ring_open(d);
    int before = test_fds(), error = 0;

    /* The listening thread opens a file now and then: there is room then. */
    for (int tries = 0; tries < 100 && error == 0; tries++) {
        error = call_without_room(t, file);
        assert_int_equal(seen.calls, tries + (error == 0));
    }
    assert_int_equal(error, EMFILE);
    uint32_t slot = prepare(t);
    assert_int_equal(ring_pass(&t->r, slot, file), 0);
    assert_int_equal(finish(t, slot), 0);
    assert_int_equal(seen.n, 1);
    assert_fds(before);
    test_ring_close(t);
    close(d);
    close(file);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_comes_with_its_call),
        cmocka_unit_test(test_a_note_said_twice_counts_once),
        cmocka_unit_test(test_a_withdrawn_call_keeps_none),
        cmocka_unit_test(test_doors_that_take_none),
        cmocka_unit_test(test_notes_that_are_wrong),
        cmocka_unit_test(test_notes_without_calls),
        cmocka_unit_test(test_no_room_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
