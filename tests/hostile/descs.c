/* Descriptors sent to a door by ring, as they should not be: more than the
 * entry says, of other calls, without calls, twice, as other notes. The target
 * checks that what its procedure gets is open; after each a good call is
 * answered. */
#include "hostile.h"

static void
send_note(struct hand_ring *r, uint32_t kind, uint32_t slot, uint64_t cookie,
          size_t n, size_t len)
{
    struct door_note note = {
        .kind = kind, .seq = slot, .cookie = cookie, .n_fds = (uint32_t)n};
    int fds[253], file = open("/dev/null", O_RDWR | O_CLOEXEC);

    SURE(file >= 0);
    for (size_t i = 0; i < n; i++) {
        fds[i] = file;
    }
    /* A target that is behind is waited for: it must read. */
    int e;
    uint64_t end = now_ms() + 10000;
    while ((e = say(r->conn, &note, len, fds, n, MSG_DONTWAIT)) == EAGAIN ||
           e == ETOOMANYREFS) {
        SURE(now_ms() < end);
        usleep(200);
    }
    SURE(e == 0);
    close(file);
}

static void
good_call(struct hand_ring *r, uint32_t slot)
{
    hand_good(r, slot, RING_KIND_BYTES, "after");
    SURE(hand_call(r, slot, 10000) && hand_echoed(r, slot, "after"));
    hand_good(r, slot, RING_KIND_BYTES, "with one");
    hand_entry(r, slot)->n_fds = 1;
    send_note(r, DOOR_NOTE_FDS, slot, hand_entry(r, slot)->cookie, 1,
              sizeof(struct door_note));
    SURE(hand_call(r, slot, 10000) && hand_echoed(r, slot, "with one"));
}

/* One call for each kind of wrong; what the answer's error must be. */
static void
wrong_ones(const char *path)
{
    static const struct {
        uint32_t n_fds, kind;
        uint64_t cookie_off;
        size_t sent, len;
        int error;
    } table[] = {
        {1, DOOR_NOTE_FDS, 0, 0, 32, EMFILE}, /* a note without one */
        {1, DOOR_NOTE_FDS, 0, 2, 32, EMFILE},
        {1, DOOR_NOTE_FDS, 0, 253, 32, EMFILE},
        {1, DOOR_NOTE_FDS, 1, 1, 32, EPROTO},
        {1, DOOR_NOTE_BELL, 0, 1, 32, EPROTO},
        {1, DOOR_NOTE_WAKE, 0, 100, 32, EPROTO},
        {1, 77, 0, 1, 32, EPROTO},
        {1, DOOR_NOTE_FDS, 0, 1, 3, EPROTO}, /* too short to be a note */
        {2, DOOR_NOTE_FDS, 0, 1, 32, E2BIG},
        {0xffffffffu, DOOR_NOTE_FDS, 0, 253, 32, E2BIG},
        {0, DOOR_NOTE_FDS, 0, 1, 32, 0}, /* sent, and not said */
        {0, DOOR_NOTE_FDS, 0, 253, 32, 0},
    };
    struct hand_ring r;

    hand_ring_open(&r, path);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint32_t slot = (uint32_t)i;
        SURE(sizeof(struct door_note) == 32);
        hand_good(&r, slot, RING_KIND_BYTES, "x");
        hand_entry(&r, slot)->n_fds = table[i].n_fds;
        send_note(&r, table[i].kind, slot,
                  hand_entry(&r, slot)->cookie + table[i].cookie_off,
                  table[i].sent, table[i].len);
        SURE(hand_call(&r, slot, 10000));
        if (hand_reply(&r, slot)->error != table[i].error) {
            fprintf(stderr, "wrong %zu: error %d\n", i,
                    hand_reply(&r, slot)->error);
            exit(1);
        }
        good_call(&r, slot);
    }
    hand_ring_close(&r);
}

/* Notes without calls, for every slot there is and many that are not; then one
 * slot is used by two publications at once. */
static void
floods(const char *path)
{
    struct hand_ring r;

    for (int round = 0; round < 3; round++) {
        hand_ring_open(&r, path);
        for (uint32_t i = 0; i < 3000; i++) {
            send_note(&r, DOOR_NOTE_FDS, i % 100 == 99 ? i * 7919 : i % 128, i,
                      1, sizeof(struct door_note));
        }
        good_call(&r, 5);
        uint32_t *order = (uint32_t *)(void *)((char *)r.request + ORDER_OFF);
        hand_good(&r, 9, RING_KIND_BYTES, "x");
        hand_entry(&r, 9)->n_fds = 1;
        send_note(&r, DOOR_NOTE_FDS, 9, hand_entry(&r, 9)->cookie, 1,
                  sizeof(struct door_note));
        for (int i = 0; i < 64; i++) {
            order[r.pub % 1024] = 9;
            atomic_store(&r.request->pub, ++r.pub);
        }
        hand_bell(&r);
        good_call(&r, 10);
        hand_ring_close(&r); /* with all that is held */
    }
}

int
main(int argc, char **argv)
{
    SURE(argc == 2);
    wrong_ones(argv[1]);
    floods(argv[1]);
    return 0;
}
