/* A ring's caller against servers that lie. The test is the server: it answers
 * the hello itself and writes what it likes into the reply memory. */
#include "test-ring.h"

#include <sys/mman.h>
#include <sys/socket.h>

#define REPLIES 0x100000u
#define SIZE    ((size_t)0x400000)

struct liar {
    struct test_ring *t;
    int door;                      /* our end of the door descriptor */
    int conn;                      /* our end of the ring's connection */
    struct ring_reply_head *reply; /* our memory */
    int reply_fd;
};

/* Takes the caller's hello; the connection is then ours. */
static void
take_hello(struct liar *l)
{
    struct door_hello hello;
    int pair[2], fds[2];
    size_t n = 2;

    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    l->door = pair[0];
    l->t = test_ring_new();
    assert_int_equal(ring_open(&l->t->r, pair[1], -1, NULL), 0);
    assert_int_equal(ring_greeted(&l->t->r), EAGAIN);
    assert_int_equal(
        door_receive(l->door, &hello, sizeof hello, fds, &n, NULL, 0), 0);
    assert_int_equal(n, 2);
    assert_true(hello.magic == 0x30726f6f44616443ull);
    assert_int_equal(hello.kind, 2);
    l->conn = fds[0];
    close(fds[1]);
    l->reply = door_memory_make("reply", SIZE, NULL, &l->reply_fd);
    assert_non_null(l->reply);
    l->reply->magic = hello.magic;
    l->reply->major = 1;
    l->reply->n_slots = 1024;
    l->reply->replies_off = REPLIES;
    l->reply->size = SIZE;
}

static struct door_welcome
good_welcome(void)
{
    return (struct door_welcome){
        .magic = 0x30726f6f44616443ull, .major = 1, .size = SIZE};
}

static void
end(struct liar *l)
{
    test_ring_close(l->t);
    munmap(l->reply, SIZE);
    close(l->reply_fd);
    close(l->conn);
    close(l->door);
}

static void
begin(struct liar *l)
{
    struct door_welcome w = good_welcome();

    take_hello(l);
    assert_int_equal(door_send(l->conn, &w, sizeof w, &l->reply_fd, 1), 0);
    assert_int_equal(ring_greeted(&l->t->r), 0);
    test_ring_listen(l->t);
}

/* ---- the welcome ---- */

static void
test_welcomes(void **state)
{
    struct door_welcome good = good_welcome();
    struct {
        struct door_welcome w;
        int n_fds, error;
    } table[] = {
        {good, 0, EPROTO}, {good, 2, EPROTO}, {good, 1, EPROTO},
        {good, 1, EPROTO}, {good, 1, EPROTO}, {good, 1, EPROTO},
        {good, 0, ENOMEM}, {good, 1, EPROTO}, {good, 1, EPROTO},
        {good, 1, EPROTO},
    };
    table[2].w.magic++;
    table[3].w.major = 2;
    table[4].w.size = SIZE - 4096;
    table[5].w.size = SIZE + 4096;
    table[6].w.error = ENOMEM;
    table[7].w.error = -5;
    table[8].w.size = 100;
    table[9].w.error = EAGAIN; /* would be "not yet", for ever */
    int before = test_fds();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct liar l;
        take_hello(&l);
        int fds[2] = {l.reply_fd, l.reply_fd};
        assert_int_equal(door_send(l.conn, &table[i].w, sizeof table[i].w, fds,
                                   (size_t)table[i].n_fds),
                         0);
        assert_int_equal(ring_greeted(&l.t->r), table[i].error);
        assert_int_equal(l.t->r.state, 3);
        end(&l);
        assert_int_equal(test_fds(), before);
    }
}

/* The wrong kinds of memory. */
static void
test_memories(void **state)
{
    struct door_welcome w = good_welcome();
    char path[] = "/tmp/door-XXXXXX";
    int ends[2], pair[2];
    int before = test_fds();

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    int unsealed = memfd_create("x", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    int half = memfd_create("x", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    int plain = mkstemp(path);
    unlink(path);
    assert_int_equal(ftruncate(unsealed, SIZE), 0);
    assert_int_equal(ftruncate(half, SIZE), 0);
    assert_int_equal(ftruncate(plain, SIZE), 0);
    assert_int_equal(fcntl(half, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    int bad[] = {ends[0], pair[0], unsealed, half, plain};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct liar l;
        take_hello(&l);
        assert_int_equal(door_send(l.conn, &w, sizeof w, &bad[i], 1), 0);
        assert_int_equal(ring_greeted(&l.t->r), EPROTO);
        end(&l);
    }
    close(ends[0]);
    close(ends[1]);
    close(pair[0]);
    close(pair[1]);
    close(unsealed);
    close(half);
    close(plain);
    assert_int_equal(test_fds(), before);
}

/* Places outside the memory. */
static void
test_places(void **state)
{
    static const uint64_t offs[] = {
        1,
        63,
        SIZE - 1024 * 256 + 64,
        SIZE,
        (uint64_t)1 << 40,
        UINT64_MAX - 63,
        UINT64_MAX,
    };
    struct door_welcome w = good_welcome();

    for (size_t i = 0; i < sizeof offs / sizeof *offs + 3; i++) {
        struct liar l;
        take_hello(&l);
        size_t n = sizeof offs / sizeof *offs;
        if (i < n) {
            l.reply->replies_off = offs[i];
        } else if (i == n) {
            l.reply->magic = 0;
        } else if (i == n + 1) {
            l.reply->major = 9;
        } else {
            l.reply->n_slots = 2048;
        }
        assert_int_equal(door_send(l.conn, &w, sizeof w, &l.reply_fd, 1), 0);
        assert_int_equal(ring_greeted(&l.t->r), EPROTO);
        assert_int_equal(l.t->r.state, 3);
        end(&l);
    }
}

static void
test_no_welcome(void **state)
{
    struct liar l;

    take_hello(&l);
    close(l.conn);
    l.conn = -1;
    assert_int_equal(ring_greeted(&l.t->r), EPIPE);
    assert_int_equal(l.t->r.state, 3);
    end(&l);
    take_hello(&l);
    assert_int_equal(send(l.conn, "short", 5, 0), 5);
    assert_int_equal(ring_greeted(&l.t->r), EPROTO);
    end(&l);
}

/* ---- answers ---- */

static struct ring_reply *
reply_of(struct liar *l, uint32_t slot)
{
    return (struct ring_reply *)(void *)((char *)l->reply + REPLIES) + slot;
}

static void
flip(struct liar *l, uint32_t slot)
{
    l->reply->done[slot / 64] ^= 1ull << (slot % 64);
}

/* What a true server would answer to SLOT. */
static struct ring_reply
good_reply(struct liar *l, uint32_t slot)
{
    const struct ring_entry *e = ring_entry(&l->t->r, slot);

    return (struct ring_reply){.generation = e->generation,
                               .cookie = e->cookie,
                               .status = 200,
                               .data_off = 0x200000,
                               .data_len = 10,
                               .head_off = 0x200010,
                               .head_len = 10};
}

static void
test_answers(void **state)
{
    static const struct {
        uint64_t off, len;
        int error;
    } table[] = {
        {0x200000, 10, 0},       {0, 0, 0},
        {UINT64_MAX, 0, EPROTO}, {SIZE, 0, 0},
        {SIZE - 1, 1, 0},        {0, SIZE, 0},
        {SIZE, 1, EPROTO},       {SIZE - 1, 2, EPROTO},
        {0, SIZE + 1, EPROTO},   {1, SIZE, EPROTO},
        {UINT64_MAX, 1, EPROTO}, {UINT64_MAX, UINT64_MAX, EPROTO},
        {1, UINT64_MAX, EPROTO}, {(uint64_t)1 << 63, (uint64_t)1 << 63, EPROTO},
    };
    struct liar l;
    struct ring_result result;

    begin(&l);
    for (size_t i = 0; i < 2 * (sizeof table / sizeof *table); i++) {
        uint32_t slot = test_ring_post(l.t, 2, "x", 1, 0);
        struct ring_reply good = good_reply(&l, slot);
        size_t k = i / 2;
        if (i % 2) {
            good.head_off = table[k].off;
            good.head_len = table[k].len;
        } else {
            good.data_off = table[k].off;
            good.data_len = table[k].len;
        }
        *reply_of(&l, slot) = good;
        flip(&l, slot);
        assert_true(test_ring_wait(l.t));
        assert_int_equal(l.t->n_answered, 1);
        assert_int_equal(ring_result(&l.t->r, slot, &result), table[k].error);
        ring_slot_give(&l.t->r, slot);
    }
    end(&l);
}

/* A reply of another call: by generation, by cookie; a million guesses. */
static void
test_forged(void **state)
{
    struct liar l;
    struct ring_result result;
    uint64_t guess = 12345;

    begin(&l);
    uint32_t slot = test_ring_post(l.t, 2, "x", 1, 0);
    struct ring_reply good = good_reply(&l, slot);
    good.began = 1000;
    good.taker = 77;
    *reply_of(&l, slot) = good;
    assert_int_equal(ring_taker(&l.t->r, slot, 1000), 77);
    assert_int_equal(ring_taker(&l.t->r, slot, 1001), 0); /* of a call before */
    assert_int_equal(ring_taker(&l.t->r, RING_SLOTS, 0), 0);
    assert_int_equal(ring_result(&l.t->r, slot, &result), 0);
    assert_int_equal(result.taker, 77);
    for (int i = -2; i <= 2; i++) {
        if (i == 0) {
            continue;
        }
        reply_of(&l, slot)->generation = good.generation + (uint32_t)i;
        assert_int_equal(ring_result(&l.t->r, slot, &result), EPROTO);
        reply_of(&l, slot)->generation = good.generation;
        reply_of(&l, slot)->cookie = good.cookie + (uint64_t)(int64_t)i;
        assert_int_equal(ring_result(&l.t->r, slot, &result), EPROTO);
        reply_of(&l, slot)->cookie = good.cookie;
    }
    for (int i = 0; i < 1000000; i++) {
        guess = guess * 6364136223846793005ull + 1442695040888963407ull;
        reply_of(&l, slot)->cookie = guess == good.cookie ? 0 : guess;
        if (ring_result(&l.t->r, slot, &result) != EPROTO) {
            fail_msg("guess %d was believed", i);
        }
    }
    /* The answer to the slot's last call is none to its next. */
    *reply_of(&l, slot) = good;
    flip(&l, slot);
    assert_true(test_ring_wait(l.t));
    assert_int_equal(ring_result(&l.t->r, slot, &result), 0);
    ring_slot_give(&l.t->r, slot);
    assert_int_equal(test_ring_post(l.t, 2, "y", 1, 0), slot);
    flip(&l, slot);
    assert_true(test_ring_wait(l.t));
    assert_int_equal(ring_result(&l.t->r, slot, &result), EPROTO);
    end(&l);
}

/* Bits of slots that are not in flight say nothing, now or later. */
static void
test_unasked_answers(void **state)
{
    struct liar l;

    begin(&l);
    uint32_t slot = test_ring_post(l.t, 2, "x", 1, 0);
    for (uint32_t w = 0; w < 16; w++) {
        l.reply->done[w] = ~0ull;
    }
    l.reply->done[slot / 64] &= ~(1ull << (slot % 64));
    l.t->n_answered = 0;
    assert_int_equal(ring_poll(&l.t->r, test_ring_answered, l.t), 0);
    assert_false(ring_has_answer(&l.t->r));
    flip(&l, slot);
    assert_int_equal(ring_poll(&l.t->r, test_ring_answered, l.t), 1);
    assert_int_equal(ring_poll(&l.t->r, test_ring_answered, l.t), 0);
    end(&l);
}

/* A descriptor is promised and does not come; comes for another call; comes
 * too often. None is lost. */
static void
test_descriptors(void **state)
{
    struct liar l;
    struct ring_result result;
    int file = memfd_create("x", MFD_CLOEXEC), outer = test_fds();

    begin(&l);
    int before = test_fds();
    uint32_t slot = test_ring_post(l.t, 2, "x", 1, 0);
    struct ring_reply good = good_reply(&l, slot);
    good.flags = 1;
    *reply_of(&l, slot) = good;
    assert_int_equal(ring_result(&l.t->r, slot, &result), EPROTO);
    struct door_note note = {
        .kind = 2, .seq = slot, .cookie = good.cookie + 1, .n_fds = 1};
    for (int i = 0; i < 100; i++) { /* of other calls */
        note.seq = (uint32_t)i % 2 ? slot : 5000000u + (uint32_t)i;
        assert_int_equal(door_send(l.conn, &note, sizeof note, &file, 1), 0);
        if (i % 10 == 9) {
            assert_int_equal(ring_result(&l.t->r, slot, &result), EPROTO);
        }
    }
    assert_true(test_fds() <= before + 2);
    note.cookie = good.cookie;
    note.seq = slot;
    int two[2] = {file, file};
    assert_int_equal(door_send(l.conn, &note, sizeof note, two, 2), 0);
    assert_int_equal(ring_result(&l.t->r, slot, &result), EPROTO);
    assert_true(test_fds() <= before + 2);
    end(&l);
    assert_int_equal(test_fds(), outer);
    /* And the right one. */
    begin(&l);
    slot = test_ring_post(l.t, 2, "x", 1, 0);
    good = good_reply(&l, slot);
    good.flags = 1;
    good.fd_offset = 5;
    good.fd_length = 6;
    *reply_of(&l, slot) = good;
    note.cookie = good.cookie;
    note.seq = slot;
    assert_int_equal(door_send(l.conn, &note, sizeof note, &file, 1), 0);
    assert_int_equal(ring_result(&l.t->r, slot, &result), 0);
    assert_true(result.fd >= 0);
    assert_int_equal(result.fd_offset, 5);
    assert_int_equal(result.data_len, 6);
    end(&l);
    assert_int_equal(test_fds(), outer);
    close(file);
}

/* A server that never reads its notes: what is in flight to it is bounded, the
 * caller is told, and its close brings all of it back. */
static void
test_passes_that_nobody_takes(void **state)
{
    struct liar l;
    int pair[2], e = 0;
    char byte;

    begin(&l);
    int outer = test_fds();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    for (int n = 0; n < 2000 && e == 0; n++) {
        int slot = ring_slot_take(&l.t->r, 0);
        assert_true(slot >= 0);
        e = ring_pass(&l.t->r, (uint32_t)slot, pair[0]);
        if (e == 0) {
            ring_publish(&l.t->r, (uint32_t)slot);
        } else {
            assert_true(n > 100); /* a burst has room */
            ring_slot_give(&l.t->r, (uint32_t)slot);
        }
    }
    assert_int_equal(e, EAGAIN);
    ring_flush(&l.t->r); /* its bell has no room either: no harm */
    close(pair[0]);
    assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN); /* the notes hold it open ... */
    close(l.conn);
    l.conn = -1;
    assert_int_equal(recv(pair[1], &byte, 1, 0), 0); /* ... and only they */
    close(pair[1]);
    assert_int_equal(test_fds(), outer - 1);
    end(&l);
}

/* Its counters are hints: nonsense in them ends nothing. */
static void
test_counters(void **state)
{
    static const uint32_t values[] = {0, 1, 0x80000000u, 0xffffffffu, 1000};
    struct liar l;
    struct ring_result result;

    begin(&l);
    for (size_t i = 0; i < 5; i++) {
        l.reply->head = values[i];
        l.reply->parked = values[i];
        l.reply->attached = values[i];
        uint32_t slot = test_ring_post(l.t, 2, "x", 1, 0);
        ring_flush(&l.t->r);
        ring_is_waiting(&l.t->r);
        ring_was_claimed(&l.t->r, 7);
        for (uint64_t now = 1; now < 20; now++) {
            ring_nudge(&l.t->r, now * 1000000, 2000000);
        }
        *reply_of(&l, slot) = good_reply(&l, slot);
        flip(&l, slot);
        assert_true(test_ring_wait(l.t));
        assert_int_equal(ring_result(&l.t->r, slot, &result), 0);
        ring_slot_give(&l.t->r, slot);
    }
    end(&l);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_welcomes),
        cmocka_unit_test(test_memories),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_no_welcome),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_forged),
        cmocka_unit_test(test_unasked_answers),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_passes_that_nobody_takes),
        cmocka_unit_test(test_counters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
