/* Calls without a pause while another thread flips every word of the request
 * memory that a server may look at: places, lengths, counts, the number of the
 * call itself. By ring and by channel, SECONDS in all. What it gets back does
 * not matter; that the server lives does. */
#include <pthread.h>

#include "hostile.h"

static _Atomic bool over;
static char *area;                /* what is flipped */
static size_t area_len;           /* bytes */
static struct channel_turn *turn; /* and these two words, or NULL */

static uint64_t
next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return *state >> 11;
}

/* Values that lie near what is right, and far from it. */
static uint64_t
nasty(uint64_t *state)
{
    static const uint64_t some[] = {0,
                                    1,
                                    4095,
                                    4096,
                                    AREA_OFF,
                                    RING_SIZE - 1,
                                    RING_SIZE,
                                    RING_SIZE + 1,
                                    DOOR_CHANNEL_AREA,
                                    DOOR_CHANNEL_AREA + 1,
                                    0x7fffffff,
                                    0x80000000u,
                                    0xffffffffu,
                                    UINT64_MAX,
                                    (uint64_t)1 << 63,
                                    250,
                                    251,
                                    1024,
                                    1025};
    uint64_t r = next(state);

    return r % 4 == 0 ? r : some[r % (sizeof some / sizeof *some)];
}

static void *
flipper(void *arg)
{
    uint64_t state = (uintptr_t)arg;

    while (!over) {
        for (int i = 0; i < 2000; i++) {
            size_t at = next(&state) % (area_len / 4) * 4;
            if (turn) {
                turn->posted = (uint32_t)nasty(&state);
                turn->answered = (uint32_t)nasty(&state);
            }
            if (next(&state) % 2 && at + 8 <= area_len) {
                uint64_t v = nasty(&state);
                memcpy(area + at, &v, 8);
            } else {
                uint32_t v = (uint32_t)nasty(&state);
                memcpy(area + at, &v, 4);
            }
        }
    }
    return NULL;
}

/* Posts all slots, whatever they have become, until END. */
static void
by_ring(const char *path, uint32_t kind, uint64_t end)
{
    struct hand_ring r;
    pthread_t id;

    while (now_ms() < end) {
        hand_ring_open(&r, path);
        for (uint32_t slot = 0; slot < 1024; slot++) {
            hand_good(&r, slot, kind, "flip");
        }
        uint32_t *order = (uint32_t *)(void *)((char *)r.request + ORDER_OFF);
        /* Head, entries, order; the publication count is written below too. */
        area = (char *)r.request;
        area_len = ORDER_OFF + 4096;
        over = false;
        SURE(pthread_create(&id, NULL, flipper, (void *)path) == 0);
        uint64_t stop = now_ms() + 1000;
        while (now_ms() < stop && now_ms() < end) {
            for (uint32_t i = 0; i < 64; i++) {
                uint32_t slot = (r.pub * 13) % 1024;
                struct ring_entry *e = hand_entry(&r, slot);
                e->args_off = AREA_OFF + slot * 4096u;
                e->args_len = slot % 3 == 0 ? 100 : 5;
                e->kind = kind;
                order[r.pub++ % 1024] = slot;
            }
            atomic_store(&r.request->pub, r.pub);
            hand_bell(&r);
            sched_yield();
            r.pub = atomic_load(
                &((struct ring_reply_head *)(uintptr_t)r.reply)->head);
        }
        over = true;
        pthread_join(id, NULL);
        hand_ring_close(&r);
    }
}

static void
by_channel(const char *path, uint64_t end)
{
    struct door_hello hello = good_hello(DOOR_HELLO_CHANNEL, DOOR_CHANNEL_SIZE);
    pthread_t id;

    while (now_ms() < end) {
        int memory, conn, reply, shared, door = dial(path);
        struct channel_call *q = good_memory(DOOR_CHANNEL_SIZE, &memory);
        q->magic = DOOR_WIRE_MAGIC;
        q->major = DOOR_WIRE_MAJOR;
        hello.features = DOOR_FEATURE_TURN;
        SURE(greet_turn(door, &hello, memory, &conn, &reply, &shared, NULL) ==
             0);
        turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
        SURE(turn != MAP_FAILED);
        close(shared);
        area = (char *)q;
        area_len = 256;
        over = false;
        SURE(pthread_create(&id, NULL, flipper, (void *)path) == 0);
        uint64_t stop = now_ms() + 500;
        for (uint32_t seq = 1; now_ms() < stop; seq++) {
            struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = seq};
            int fds[3] = {0, 1, 2};
            q->size = seq % 5000;
            q->n_fds = seq % 4;
            if (seq % 4) {
                struct door_note note = {
                    .kind = DOOR_NOTE_FDS, .seq = seq, .n_fds = seq % 4};
                say(conn, &note, sizeof note, fds, seq % 4, MSG_DONTWAIT);
            }
            atomic_store(&q->seq, seq);
            turn->posted++;
            syscall(202 /* futex */, &turn->posted, 1 /* wake */, 1);
            say(conn, &bell, sizeof bell, NULL, 0, MSG_DONTWAIT);
            sched_yield();
        }
        over = true;
        pthread_join(id, NULL);
        munmap(turn, 4096);
        munmap(q, DOOR_CHANNEL_SIZE);
        close(memory);
        close(reply);
        close(conn);
        close(door);
    }
}

int
main(int argc, char **argv)
{
    SURE(argc == 4);
    uint64_t ms = strtoull(argv[2], NULL, 10) * 1000, began = now_ms();
    if (strcmp(argv[3], "http") == 0) { /* the door takes no channels */
        by_ring(argv[1], RING_KIND_HTTP, began + ms);
        return 0;
    }
    by_ring(argv[1], RING_KIND_BYTES, began + ms / 2);
    by_channel(argv[1], began + ms);
    return 0;
}
