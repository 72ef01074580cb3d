/* Floods: bells, hellos with and without descriptors, messages that are none,
 * connections that say nothing, descriptors that nobody asked for. SECONDS for
 * each kind. */
#include "hostile.h"

static uint64_t each;

static void
bells(const char *path)
{
    struct hand_ring r;

    hand_ring_open(&r, path);
    for (uint64_t end = now_ms() + each; now_ms() < end;) {
        hand_bell(&r);
    }
    hand_good(&r, 0, RING_KIND_BYTES, "after bells");
    SURE(hand_call(&r, 0, 10000) && hand_echoed(&r, 0, "after bells"));
    hand_ring_close(&r);
}

/* Hellos of every kind, with 0 to 253 descriptors. */
static void
hellos(const char *path)
{
    static const size_t counts[] = {0, 1, 2, 3, 4, 8, 9, 20, 253};
    int fds[253], door = dial(path);
    unsigned int n = 0;

    for (int i = 0; i < 253; i++) {
        fds[i] = i % 3;
    }
    for (uint64_t end = now_ms() + each; now_ms() < end; n++) {
        struct door_hello hello = good_hello(n % 7, 4096 + n % 3);
        if (n % 11 == 0) {
            hello.magic++;
        }
        if (n % 13 == 0) {
            hello.major = n;
        }
        int e = say(door, &hello, n % 5 == 0 ? n % sizeof hello : sizeof hello,
                    fds, counts[n % 9], MSG_DONTWAIT);
        if (e == EPIPE || e == ECONNRESET) {
            close(door);
            door = dial(path);
        } else if (e != 0) {
            usleep(100);
        }
    }
    close(door);
}

/* Connections that say nothing, as many as we may have. */
static void
silent(const char *path)
{
    int fds[400];

    for (int turn = 0; turn < 5; turn++) {
        int n = 0;
        for (uint64_t end = now_ms() + each; n < 400 && now_ms() < end; n++) {
            fds[n] = dial(path);
        }
        while (n > 0) {
            close(fds[--n]);
        }
    }
}

/* Descriptors on a ring's and on a channel's connection. */
static void
descriptors(const char *path)
{
    struct door_hello hello = good_hello(DOOR_HELLO_CHANNEL, DOOR_CHANNEL_SIZE);
    struct door_note note = {.kind = DOOR_NOTE_FDS, .seq = 1, .n_fds = 250};
    struct hand_ring r;
    int fds[253], memory, conn, reply, door = dial(path);

    for (int i = 0; i < 253; i++) {
        fds[i] = i % 3;
    }
    hand_ring_open(&r, path);
    struct channel_call *q = good_memory(DOOR_CHANNEL_SIZE, &memory);
    q->magic = DOOR_WIRE_MAGIC;
    q->major = DOOR_WIRE_MAJOR;
    SURE(greet(door, &hello, memory, &conn, &reply, NULL) == 0);
    uint32_t seq = 0;
    for (uint64_t end = now_ms() + each; now_ms() < end;) {
        for (int i = 0; i < 5; i++) {
            note.seq = seq + (uint32_t)i % 3;
            say(r.conn, &note, sizeof note, fds, 253, MSG_DONTWAIT);
            say(conn, &note, sizeof note, fds, 250, MSG_DONTWAIT);
            say(conn, "junk", 4, fds, 253, MSG_DONTWAIT);
        }
        q->n_fds = 1024;
        q->size = 0;
        atomic_store(&q->seq, ++seq);
        struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = seq};
        say(conn, &bell, sizeof bell, NULL, 0, MSG_DONTWAIT);
        usleep(1000);
    }
    munmap(q, DOOR_CHANNEL_SIZE);
    close(memory);
    close(reply);
    close(conn);
    close(door);
    hand_ring_close(&r);
}

int
main(int argc, char **argv)
{
    struct rlimit limit;

    SURE(argc == 3);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 2000 ? limit.rlim_max : 2000;
    setrlimit(RLIMIT_NOFILE, &limit);
    each = strtoull(argv[2], NULL, 10) * 1000;
    bells(argv[1]);
    hellos(argv[1]);
    silent(argv[1]);
    descriptors(argv[1]);
    return 0;
}
