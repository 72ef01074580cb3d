/* Callers that do not do their part: large results never fetched, a second call
 * posted before the first is answered, abandoned calls, and at last a stop in
 * the middle (SIGSTOP), as the test then sees. */
#include <signal.h>

#include "hostile.h"

/* All slots ask for large results; none is read or released. */
static void
never_reads(struct hand_ring *r, const char *path)
{
    uint32_t *order;

    hand_ring_open(r, path);
    order = (uint32_t *)(void *)((char *)r->request + ORDER_OFF);
    for (uint32_t slot = 0; slot < 1024; slot++) {
        hand_good(r, slot, RING_KIND_BYTES, slot % 2 ? "S2000000" : "S9000");
        order[slot] = slot;
    }
    r->pub = 1024;
    r->request->asleep = 7; /* and it says that it sleeps */
    atomic_store(&r->request->pub, r->pub);
    hand_bell(r);
}

/* Posts without waiting, many times over; never listens. */
static void
posts_twice(const char *path)
{
    struct door_hello hello = good_hello(DOOR_HELLO_CHANNEL, DOOR_CHANNEL_SIZE);
    int memory, conn, reply, door = dial(path);
    struct channel_call *q = good_memory(DOOR_CHANNEL_SIZE, &memory);

    q->magic = DOOR_WIRE_MAGIC;
    q->major = DOOR_WIRE_MAJOR;
    SURE(greet(door, &hello, memory, &conn, &reply, NULL) == 0);
    for (uint32_t i = 0; i < 3000; i++) {
        struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = i};
        q->size = 100;
        q->waiting = 1;
        q->given_up = i;
        atomic_store(&q->seq, i * 7919);
        say(conn, &bell, sizeof bell, NULL, 0, MSG_DONTWAIT);
        if (i % 100 == 0) {
            usleep(1000);
        }
    }
    /* Comes as memory of its own. */
    memcpy((char *)q + 4096, "S20000000", 10);
    q->size = 9;
    for (uint32_t i = 0; i < 20; i++) {
        struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = i};
        atomic_fetch_add(&q->seq, 1);
        say(conn, &bell, sizeof bell, NULL, 0, MSG_DONTWAIT);
        usleep(1000);
    }
}

int
main(int argc, char **argv)
{
    struct hand_ring r;

    SURE(argc == 2);
    never_reads(&r, argv[1]);
    posts_twice(argv[1]);
    puts("stuck");
    fflush(stdout);
    raise(SIGSTOP);
    return 0;
}
