/* The ring, both sides, in one process: this thread is the event loop, the
 * door's own threads serve. */
#include "test-ring.h"

#include <semaphore.h>
#include <sys/mman.h>

#include "door/native.h"

#define BYTES 1
#define HTTP  2

/* ---- plain doors ---- */

/* Arguments: a word, and how many bytes the answer has. The answer begins with
 * the word and goes on with bytes made from it. */
struct order {
    uint64_t word, size;
};

static unsigned char
byte_of(uint64_t word, size_t i)
{
    return (unsigned char)(word * 7 + i * 13 + (i >> 12));
}

/* Where a thread's answer lies until its next one; it goes with the thread,
 * which leaves when it was idle for long. */
struct room {
    size_t size;
    char bytes[];
};

static pthread_key_t room_key;

static void
make_room_key(void)
{
    assert_int_equal(pthread_key_create(&room_key, free), 0);
}

static struct room *
room_for(size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_room_key);
    struct room *room = pthread_getspecific(room_key);
    if (room == NULL || size > room->size) {
        free(room);
        room = malloc(sizeof *room + size);
        assert_non_null(room);
        room->size = size;
        pthread_setspecific(room_key, room);
    }
    return room;
}

static void
plain(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
      unsigned int n_desc)
{
    struct room *room;
    struct order o;

    if (arg_size < sizeof o) {
        door_return(argp, arg_size, NULL, 0);
        door_return(NULL, 0, NULL, 0);
    }
    memcpy(&o, argp, sizeof o);
    room = room_for(o.size);
    for (size_t i = 0; i < o.size; i++) {
        room->bytes[i] = (char)byte_of(o.word, i);
    }
    door_return(room->bytes, o.size, NULL, 0);
    /* It does not fit, and the thread ends with its procedure. */
}

static void
post_order(struct test_ring *t, uint64_t word, uint64_t size, uint32_t owner)
{
    struct order o = {word, size};

    test_ring_post(t, BYTES, &o, sizeof o, owner);
}

/* The result of SLOT is that of WORD and SIZE; gives the slot back. */
static void
check_order(struct test_ring *t, uint32_t slot, uint64_t word, uint64_t size)
{
    struct ring_result result;

    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    assert_int_equal(result.error, 0);
    assert_int_equal(result.fd, -1);
    assert_int_equal(result.data_len, size);
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)result.data[i] != byte_of(word, i)) {
            fail_msg("byte %zu of the answer to %llu", i,
                     (unsigned long long)word);
        }
    }
    ring_slot_give(&t->r, slot);
}

static void
test_one_call(void **state)
{
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);

    /* Takes descriptors, tells its threads; no HTTP. */
    assert_int_equal(t->r.features, 6);
    for (uint64_t i = 0; i < 50; i++) {
        post_order(t, i, i * 3, 9);
        assert_true(ring_is_busy(&t->r));
        assert_true(test_ring_wait(t));
        assert_int_equal(t->n_answered, 1);
        assert_false(ring_is_busy(&t->r));
        assert_false(ring_is_waiting(&t->r));
        check_order(t, t->answered[0], i, i * 3);
        assert_int_equal(t->r.n_used, 0);
    }
    test_ring_close(t);
    close(d);
}

/* Arguments of no bytes, of few, of many; echoed. */
static void
test_argument_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 15};
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);
    struct ring_result result;

    for (int i = 0; i < 3; i++) {
        uint32_t slot =
            test_ring_post(t, BYTES, "0123456789abcdef", sizes[i], 0);
        assert_true(test_ring_wait(t));
        assert_int_equal(ring_result(&t->r, slot, &result), 0);
        assert_int_equal(result.error, 0);
        assert_int_equal(result.data_len, sizes[i]);
        assert_memory_equal(result.data, "0123456789abcdef", sizes[i]);
        ring_slot_give(&t->r, slot);
    }
    size_t large = (size_t)20 << 20;
    char *args = calloc(1, large);
    struct order o = {5, 100};
    memcpy(args, &o, sizeof o);
    uint32_t slot = test_ring_post(t, BYTES, args, large, 0);
    assert_true(test_ring_wait(t));
    check_order(t, slot, 5, 100);
    free(args);
    /* One byte more than a plain door copies; nobody touches them. */
    slot = test_ring_post(t, BYTES, "", 0, 0);
    ring_entry(&t->r, slot)->args_len = ((uint64_t)128 << 20) + 1;
    assert_true(test_ring_wait(t));
    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    assert_int_equal(result.error, E2BIG);
    test_ring_close(t);
    close(d);
}

/* Over 2^16 calls, always as many in flight as there is room for (with some
 * taken back and forth), every answer to its call. */
static void
test_wrap(void **state)
{
    static uint64_t word_of[1024];
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);
    uint64_t posted = 0, answered = 0;
    const uint64_t calls = 70000;

    while (answered < calls) {
        /* Bursts of 1, 2, 3 ... up to all slots. */
        uint32_t burst = 1 + (uint32_t)(posted * 31 % 1024);
        while (posted < calls && burst-- > 0 && t->r.n_used < 1024) {
            int slot = (int)test_ring_post(t, BYTES,
                                           &(struct order){posted, 24}, 16, 1);
            word_of[slot] = posted++;
        }
        assert_true(test_ring_wait(t));
        for (uint32_t i = 0; i < t->n_answered; i++) {
            check_order(t, t->answered[i], word_of[t->answered[i]], 24);
        }
        answered += t->n_answered;
    }
    assert_int_equal(t->r.n_used, 0);
    assert_int_equal(t->r.pub, calls);
    test_ring_close(t);
    close(d);
}

static void
test_all_slots(void **state)
{
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);

    for (int turn = 0; turn < 3; turn++) {
        for (uint32_t i = 0; i < 1024; i++) {
            post_order(t, i, 8, i);
        }
        assert_int_equal(ring_slot_take(&t->r, 0), -1);
        uint32_t n = 0;
        while (n < 1024) {
            assert_true(test_ring_wait(t));
            for (uint32_t i = 0; i < t->n_answered; i++) {
                uint32_t slot = t->answered[i];
                check_order(t, slot, t->tables.slots[slot].owner, 8);
            }
            n += t->n_answered;
        }
    }
    test_ring_close(t);
    close(d);
}

/* Several threads of the server at one ring: calls that wait for each other. */
static pthread_barrier_t barrier;

static void
meet(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    test_reads();
    pthread_barrier_wait(&barrier);
    door_return(argp, arg_size, NULL, 0);
}

static void
test_several_consumers(void **state)
{
    struct ring_result result;
    int d = door_create(meet, NULL, 0);
    struct test_ring *t = test_ring_open(d);

    pthread_barrier_init(&barrier, NULL, 8);
    for (int turn = 0; turn < 20; turn++) {
        for (uint64_t i = 0; i < 8; i++) {
            test_ring_post(t, BYTES, &i, sizeof i, (uint32_t)i);
        }
        uint32_t n = 0;
        while (n < 8) {
            assert_true(test_ring_wait(t));
            for (uint32_t i = 0; i < t->n_answered; i++) {
                uint64_t word;
                uint32_t slot = t->answered[i];
                assert_int_equal(ring_result(&t->r, slot, &result), 0);
                assert_int_equal(result.error, 0);
                memcpy(&word, result.data, sizeof word);
                assert_int_equal(word, t->tables.slots[slot].owner);
                ring_slot_give(&t->r, slot);
            }
            n += t->n_answered;
        }
    }
    test_ring_close(t);
    close(d);
    pthread_barrier_destroy(&barrier);
}

/* Answers of any size, up to the largest, and the heap does not leak: many
 * more bytes go through than it holds. */
static void
test_large_replies(void **state)
{
    static const uint64_t sizes[] = {8191,    8192,     8193,    16384,
                                     16385,   100000,   1 << 20, (1 << 20) + 1,
                                     5000000, 16 << 20, 64 << 20};
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        post_order(t, i, sizes[i], 0);
        assert_true(test_ring_wait(t));
        check_order(t, t->answered[0], i, sizes[i]);
    }
    for (uint64_t i = 0; i < 100; i++) {
        for (uint64_t k = 0; k < 8; k++) {
            post_order(t, k, 700000 + k, (uint32_t)k);
        }
        uint32_t n = 0;
        while (n < 8) {
            assert_true(test_ring_wait(t));
            for (uint32_t j = 0; j < t->n_answered; j++) {
                uint32_t slot = t->answered[j];
                uint32_t k = t->tables.slots[slot].owner;
                check_order(t, slot, k, 700000 + k);
            }
            n += t->n_answered;
        }
    }
    /* Too large: the call is answered with an error in the end (door_return
     * fails, the procedure returns, its caller is told). */
    struct ring_result result;
    post_order(t, 1, (64 << 20) + 1, 0);
    assert_true(test_ring_wait(t));
    assert_int_equal(ring_result(&t->r, t->answered[0], &result), 0);
    assert_int_equal(result.error, EINTR);
    assert_int_equal(result.data_len, 0);
    ring_slot_give(&t->r, t->answered[0]);
    test_ring_close(t);
    close(d);
}

/* ---- withdrawing ---- */

static sem_t inside, go_on;

static void
wait_inside(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
            unsigned int n_desc)
{
    test_reads();
    sem_post(&inside);
    while (sem_wait(&go_on) < 0) {
    }
    door_return(argp, arg_size, NULL, 0);
}

static void
test_withdraw(void **state)
{
    struct ring_result result;
    int d = door_create(wait_inside, NULL, 0);
    struct test_ring *t = test_ring_open(d);

    sem_init(&inside, 0, 0);
    sem_init(&go_on, 0, 0);
    /* Before anybody took it: skipped. */
    uint32_t slot = test_ring_post(t, BYTES, "a", 1, 0);
    ring_withdraw(&t->r, slot);
    assert_true(test_ring_wait(t));
    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    assert_int_equal(result.error, ECANCELED);
    assert_int_equal(sem_trywait(&inside), -1);
    ring_slot_give(&t->r, slot);
    /* In the call: it is answered, and the slot comes back. */
    slot = test_ring_post(t, BYTES, "b", 1, 0);
    ring_flush(&t->r);
    assert_int_equal(sem_wait(&inside), 0);
    /* Its thread is overdue only when nobody waits, and the time is over. */
    uint64_t due = ring_entry(&t->r, slot)->deadline;
    assert_int_equal(ring_n_overdue(&t->r, due), 0);
    ring_withdraw(&t->r, slot);
    ring_slot_disown(&t->r, slot);
    assert_int_equal(ring_n_overdue(&t->r, due - 1), 0);
    assert_int_equal(ring_n_overdue(&t->r, due), 1);
    sem_post(&go_on);
    assert_true(test_ring_wait(t));
    assert_int_equal(t->answered[0], slot);
    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    assert_int_equal(result.error, 0);
    ring_slot_give(&t->r, slot);
    /* The same slot again is not withdrawn any more. */
    sem_post(&go_on);
    uint32_t again = test_ring_post(t, BYTES, "c", 1, 0);
    assert_int_equal(again, slot);
    assert_true(test_ring_wait(t));
    assert_int_equal(ring_result(&t->r, again, &result), 0);
    assert_int_equal(result.error, 0);
    ring_slot_give(&t->r, again);
    test_ring_close(t);
    close(d);
    sem_destroy(&inside);
    sem_destroy(&go_on);
}

/* ---- by ring and by channel at once ---- */

static void *
channel_caller(void *arg)
{
    int d = *(int *)arg;
    uintptr_t bad = 0;

    for (uint64_t i = 0; i < 1000; i++) {
        struct order o = {i, 8};
        char room[8];
        door_arg_t a = {.data_ptr = (char *)&o,
                        .data_size = sizeof o,
                        .rbuf = room,
                        .rsize = sizeof room};
        bad += door_call(d, &a) < 0 || a.data_size != 8 ||
               (unsigned char)room[3] != byte_of(i, 3);
    }
    return (void *)bad;
}

static void
test_ring_and_channel(void **state)
{
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);
    pthread_t ids[4];

    for (int i = 0; i < 4; i++) {
        ids[i] = test_thread(channel_caller, &d);
    }
    for (uint64_t i = 0; i < 2000; i++) {
        post_order(t, i, 8, 0);
        assert_true(test_ring_wait(t));
        check_order(t, t->answered[0], i, 8);
    }
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(ids[i], &bad);
        assert_null(bad);
    }
    test_ring_close(t);
    close(d);
}

/* ---- native doors ---- */

static void
native(void *cookie, struct door_task *task)
{
    char word;

    test_reads();
    if (task->args_len < 1) {
        task->error = EBADMSG;
        return;
    }
    memcpy(&word, task->args, 1);
    if (word == 'f') { /* a descriptor instead of a body */
        task->error = door_task_send_fd(task, *(int *)cookie, 3, 5);
        return;
    }
    memcpy(task->room, "bodyhead", 8);
    task->body_at = 0;
    task->body_size = 4;
    task->head_off = 4;
    task->head_len = 4;
    task->status = 201;
    test_wrote();
}

static void *
server_thread(void *arg)
{
    door_native_serve();
}

static void
test_native(void **state)
{
    struct ring_result result;
    int file = memfd_create("body", MFD_CLOEXEC);
    int d = door_create_native(native, &file, 0, 1);
    struct stat st, got;

    assert_true(d >= 0);
    pthread_detach(test_thread(server_thread, NULL));
    assert_int_equal(write(file, "0123456789", 10), 10);
    assert_int_equal(fstat(file, &st), 0);
    /* By channel it cannot be called. */
    assert_int_equal(door_call(d, NULL), -1);
    assert_int_equal(errno, ENOTSUP);
    struct test_ring *t = test_ring_open(d);
    assert_int_equal(t->r.features, 5);
    uint32_t slot = test_ring_post(t, HTTP, "x", 1, 0);
    assert_true(test_ring_wait(t));
    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    assert_int_equal(result.error, 0);
    assert_int_equal(result.status, 201);
    assert_int_equal(result.data_len, 4);
    assert_memory_equal(result.data, "body", 4);
    assert_int_equal(result.head_len, 4);
    assert_memory_equal(result.head, "head", 4);
    ring_slot_give(&t->r, slot);
    /* An errno instead of an answer. */
    slot = test_ring_post(t, HTTP, "", 0, 0);
    assert_true(test_ring_wait(t));
    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    assert_int_equal(result.error, EBADMSG);
    assert_int_equal(result.data_len, 0);
    assert_int_equal(result.head_len, 0);
    ring_slot_give(&t->r, slot);
    /* Bytes are not what it takes. */
    slot = test_ring_post(t, BYTES, "x", 1, 0);
    assert_true(test_ring_wait(t));
    assert_int_equal(ring_result(&t->r, slot, &result), 0);
    assert_int_equal(result.error, ENOTSUP);
    ring_slot_give(&t->r, slot);
    /* Descriptors, each to its call, in whatever order they are fetched. */
    int before = test_fds();
    for (int turn = 0; turn < 20; turn++) {
        for (uint32_t i = 0; i < 8; i++) {
            test_ring_post(t, HTTP, "f", 1, i);
        }
        uint32_t n = 0, slots[8];
        while (n < 8) {
            assert_true(test_ring_wait(t));
            memcpy(slots + n, t->answered, t->n_answered * sizeof *slots);
            n += t->n_answered;
        }
        while (n-- > 0) { /* last first */
            assert_int_equal(ring_result(&t->r, slots[n], &result), 0);
            assert_int_equal(result.error, 0);
            assert_true(result.fd >= 0);
            assert_int_equal(fstat(result.fd, &got), 0);
            assert_int_equal(got.st_ino, st.st_ino);
            assert_int_equal(result.fd_offset, 3);
            assert_int_equal(result.data_len, 5);
            if (n % 2 == 0) { /* the others go with their slots */
                ring_fd_taken(&t->r, slots[n]);
                close(result.fd);
            }
            ring_slot_give(&t->r, slots[n]);
        }
    }
    assert_true(test_fds() <= before);
    test_ring_close(t);
    close(d);
    close(file);
}

/* ---- segments, slots, and the maps made anew ---- */

static void
test_areas(void **state)
{
    struct test_ring *t = calloc(1, sizeof *t);
    uint64_t a[4];

    assert_non_null(t);
    ring_init(&t->r, &t->tables);
    assert_int_equal(ring_area_take(&t->r, ((uint64_t)256 << 20) + 1), 0);
    a[0] = ring_area_take(&t->r, 0);
    a[1] = ring_area_take(&t->r, 4096);
    a[2] = ring_area_take(&t->r, 4097);
    a[3] = ring_area_take(&t->r, 1);
    assert_int_equal(a[0], 0x100000);
    assert_int_equal(a[1], 0x101000);
    assert_int_equal(a[2], 0x102000);
    assert_int_equal(a[3], 0x104000);
    ring_area_give(&t->r, a[1], 4096);
    assert_int_equal(ring_area_take(&t->r, 8192), 0x105000); /* no room there */
    assert_int_equal(ring_area_take(&t->r, 2), 0x101000);
    ring_area_give(&t->r, a[2], 4097);
    assert_int_equal(ring_area_take(&t->r, 8192), 0x102000);
    /* The rest in one piece; then nothing. */
    uint64_t rest = ((uint64_t)256 << 20) - 7 * 4096;
    assert_int_equal(ring_area_take(&t->r, rest + 1), 0);
    assert_int_equal(ring_area_take(&t->r, rest), 0x107000);
    assert_int_equal(ring_area_take(&t->r, 1), 0);
    ring_area_give(&t->r, a[0], 0);
    assert_int_equal(ring_area_take(&t->r, 4096), 0x100000);
    free(t);
}

static void
test_rebuild(void **state)
{
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);
    uint64_t *was = malloc(sizeof t->tables.area);

    assert_non_null(was);
    for (uint32_t i = 0; i < 100; i++) {
        int slot = ring_slot_take(&t->r, i);
        uint64_t len = i % 7 * 3000;
        uint64_t off = ring_area_take(&t->r, len);
        assert_true(slot >= 0 && off != 0);
        ring_slot_area(&t->r, (uint32_t)slot, off, len);
    }
    for (uint32_t i = 0; i < 100; i += 3) {
        ring_slot_give(&t->r, i);
    }
    uint64_t loose = ring_area_take(&t->r, 50000);
    uint32_t n = t->r.n_used;
    memcpy(was, t->tables.area, sizeof t->tables.area);
    memset(t->tables.area, 0xff, 33); /* 268 segments were used */
    t->r.n_used = 999;
    ring_rebuild(&t->r);
    ring_area_claim(&t->r, loose, 50000);
    assert_int_equal(t->r.n_used, n);
    assert_memory_equal(was, t->tables.area, sizeof t->tables.area);
    /* Closed, it leaves its tables fit for the next opening. */
    ring_close(&t->r);
    memset(was, 0, sizeof t->tables.area);
    assert_memory_equal(was, t->tables.area, sizeof t->tables.area);
    assert_ptr_equal(t->r.tables, &t->tables);
    free(was);
    test_ring_close(t);
    close(d);
}

/* ---- ends ---- */

static const char *peer_program;

static void
test_server_dies(void **state)
{
    char folder[64], path[96];
    struct test_peer peer;

    test_folder(folder);
    snprintf(path, sizeof path, "%s/door", folder);
    test_peer_start(&peer, peer_program, -1, "serve", path, "plain");
    assert_int_equal(test_peer_says(&peer), 'R');
    int d = door_open(path), before = test_fds();
    struct test_ring *t = test_ring_open(d);
    for (int i = 0; i < 5; i++) {
        test_ring_post(t, BYTES, "hang", 5, 0);
    }
    ring_flush(&t->r);
    assert_int_equal(test_peer_says(&peer), 'h');
    test_peer_kill(&peer);
    int64_t at = test_now();
    assert_false(test_ring_wait(t));
    assert_true(test_now() - at < 5000000000ll);
    assert_true(ring_is_busy(&t->r));
    test_ring_close(t);
    assert_true(test_fds() <= before);
    /* A dead door takes no ring. */
    t = test_ring_new();
    int e = ring_open(&t->r, fcntl(d, F_DUPFD_CLOEXEC, 0), -1, NULL);
    assert_int_equal(e, EPIPE);
    close(t->epoll);
    free(t);
    close(d);
    assert_true(test_fds() < before);
    test_folder_remove(folder);
}

/* Rings come and go; with them go their descriptors, on both sides. */
/* Who goes on with a dead loop's ring counts on slots of odd owners. */
static bool
is_odd(void *arg, const struct ring *r, uint32_t owner, uint32_t slot)
{
    return owner % 2 == 1;
}

static void
test_resume(void **state)
{
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);

    /* Four died with the loop before the server was told of any: two calls that
     * were published, one of them for nobody now, and two slots that were
     * taken and not used yet. */
    post_order(t, 1, 8, 1);
    post_order(t, 2, 8, 2);
    int kept = ring_slot_take(&t->r, 3), lost = ring_slot_take(&t->r, 4);
    assert_true(kept >= 0 && lost >= 0);
    t->r.flushed = t->r.pub; /* as if it had been told */
    ring_resume(&t->r, is_odd, NULL);
    ring_rebuild(&t->r);
    assert_int_equal(t->r.n_used, 3);
    assert_int_equal(ring_slot_owner(&t->r, 0), 1);
    assert_int_equal(ring_slot_owner(&t->r, 1), RING_NO_OWNER);
    assert_int_equal(ring_slot_owner(&t->r, (uint32_t)kept), 3);
    /* Two threads may have taken them: their answers come in any order. */
    uint32_t n_first = 0, n_nobodys = 0;
    while (ring_is_busy(&t->r)) {
        assert_true(test_ring_wait(t));
        for (uint32_t i = 0; i < t->n_answered; i++) {
            if (t->answered[i] == 0) {
                check_order(t, 0, 1, 8);
                n_first++;
            } else {
                assert_int_equal(t->answered[i], 1);
                ring_slot_give(&t->r, 1);
                n_nobodys++;
            }
        }
    }
    assert_int_equal(n_first, 1);
    assert_int_equal(n_nobodys, 1);
    assert_int_equal(t->r.n_used, 1);
    ring_slot_give(&t->r, (uint32_t)kept);
    /* Nothing is known of one that is closed. */
    ring_close(&t->r);
    t->r.used[0] = 5;
    ring_resume(&t->r, is_odd, NULL);
    ring_rebuild(&t->r);
    assert_int_equal(t->r.used[0], 0);
    close(t->epoll);
    free(t);
    close(d);
}

/* A page to be written by both that nobody may write any more. */
static void
test_shared_for_reading(void **state)
{
    int fd = memfd_create("shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_int_equal(ftruncate(fd, DOOR_SHARED_SIZE), 0);
    assert_int_equal(
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
    errno = 0;
    assert_null(door_shared_map(fd));
    assert_int_equal(errno, EINVAL);
    close(fd);
}

/* Nobody calls it any more, by whatever way; who calls is told. */
static void
test_revoke(void **state)
{
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);
    struct ring_result result;

    post_order(t, 1, 8, 0);
    assert_true(test_ring_wait(t));
    check_order(t, t->answered[0], 1, 8);
    assert_int_equal(door_revoke(d), 0);
    for (int i = 0; i < 3; i++) {
        post_order(t, 2, 8, 0);
        assert_true(test_ring_wait(t));
        assert_int_equal(ring_result(&t->r, t->answered[0], &result), 0);
        assert_int_equal(result.error, EBADF);
        assert_int_equal(result.data_len, 0);
        ring_slot_give(&t->r, t->answered[0]);
    }
    test_ring_close(t);
}

static void
test_open_and_close(void **state)
{
    int d = door_create(plain, NULL, 0);
    struct test_ring *t = test_ring_open(d);

    test_ring_close(t);
    int n = test_fds();
    for (int i = 0; i < 30; i++) {
        t = test_ring_open(d);
        post_order(t, 1, 8, 0);
        if (i % 2) {
            assert_true(test_ring_wait(t));
        } else {
            ring_flush(&t->r); /* closed with a call in flight */
        }
        test_ring_close(t);
    }
    assert_true(test_until(test_fds_at_most, &n));
    close(d);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_call),
        cmocka_unit_test(test_argument_sizes),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_all_slots),
        cmocka_unit_test(test_several_consumers),
        cmocka_unit_test(test_large_replies),
        cmocka_unit_test(test_withdraw),
        cmocka_unit_test(test_ring_and_channel),
        cmocka_unit_test(test_native),
        cmocka_unit_test(test_areas),
        cmocka_unit_test(test_rebuild),
        cmocka_unit_test(test_server_dies),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_shared_for_reading),
        cmocka_unit_test(test_revoke),
        cmocka_unit_test(test_open_and_close),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: %s TEST-PEER\n", argv[0]);
        return 64;
    }
    peer_program = argv[1];
    test_raise_limit();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
