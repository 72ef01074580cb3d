/* Ring entries whose places lie outside the memory, orders that name slots that
 * are not there, and a publication count that jumps. After each, a good call
 * must be answered; where the caller has spoilt its own ring, on a new one. */
#include "hostile.h"

static void
places(const char *path)
{
    static const struct {
        uint64_t off, len;
        bool bad;
    } table[] = {
        {RING_SIZE, 1, true},
        {RING_SIZE - 1, 2, true},
        {AREA_OFF, RING_SIZE - AREA_OFF + 1, true},
        {AREA_OFF, UINT64_MAX, true},
        {UINT64_MAX, 1, true},
        {UINT64_MAX, UINT64_MAX, true},
        {UINT64_MAX - 4095, 4096, true},
        {(uint64_t)-4096, 8192, true},
        {(uint64_t)1 << 63, (uint64_t)1 << 63, true},
        {0, 8, true}, /* the head itself */
        {8, UINT64_MAX - 7, true},
        {RING_SIZE - 5, 5, false},
        {RING_SIZE + 5, 0, false}, /* nothing is nowhere */
        {UINT64_MAX, 0, false},
    };
    struct hand_ring r;

    hand_ring_open(&r, path);
    for (size_t i = 0; i < 2 * (sizeof table / sizeof *table); i++) {
        uint32_t slot = (uint32_t)i % 7;
        size_t k = i / 2;
        hand_good(&r, slot, RING_KIND_BYTES, "x");
        struct ring_entry *e = hand_entry(&r, slot);
        if (i % 2) {
            e->body_off = table[k].off;
            e->body_len = table[k].len;
        } else {
            e->args_off = table[k].off;
            e->args_len = table[k].len;
        }
        SURE(hand_call(&r, slot, 10000));
        if ((hand_reply(&r, slot)->error != 0) != table[k].bad) {
            fprintf(stderr, "place %zu.%zu: error %d\n", k, i % 2,
                    hand_reply(&r, slot)->error);
            exit(1);
        }
        hand_good(&r, slot, RING_KIND_BYTES, "after");
        SURE(hand_call(&r, slot, 10000) && hand_echoed(&r, slot, "after"));
    }
    hand_ring_close(&r);
}

/* 256 MB of arguments, again and again: the server copies them, once each. */
static void
whole(const char *path)
{
    struct hand_ring r;

    hand_ring_open(&r, path);
    for (int i = 0; i < 3; i++) {
        hand_good(&r, 0, RING_KIND_BYTES, "");
        hand_entry(&r, 0)->args_off = AREA_OFF;
        hand_entry(&r, 0)->args_len = RING_SIZE - AREA_OFF;
        SURE(hand_call(&r, 0, 30000));
    }
    hand_good(&r, 1, RING_KIND_BYTES, "after");
    SURE(hand_call(&r, 1, 10000) && hand_echoed(&r, 1, "after"));
    hand_ring_close(&r);
}

/* Slots that are not there are folded onto those that are; whatever happens to
 * this ring, the next one works. */
static void
orders(const char *path)
{
    static const uint32_t slots[] = {1024,        1025,        0x7fffffffu,
                                     0x80000000u, 0xffffffffu, 0xfffffc00u};
    struct hand_ring r;

    hand_ring_open(&r, path);
    uint32_t *order = (uint32_t *)(void *)((char *)r.request + ORDER_OFF);
    for (uint32_t slot = 0; slot < 1024; slot++) {
        hand_good(&r, slot, RING_KIND_BYTES, "o");
    }
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        order[r.pub % 1024] = slots[i];
        atomic_store(&r.request->pub, ++r.pub);
        hand_bell(&r);
    }
    hand_good(&r, 77, RING_KIND_BYTES, "after");
    SURE(hand_call(&r, 77, 10000) && hand_echoed(&r, 77, "after"));
    hand_ring_close(&r);
}

static void
jumps(const char *path)
{
    static const uint32_t by[] = {0x80000000u, 0x7fffffffu, 0x80000001u, 1025,
                                  2048,        0xffffffffu, 0xfffffffeu, 65536};
    struct hand_ring r;

    for (size_t i = 0; i < sizeof by / sizeof *by; i++) {
        hand_ring_open(&r, path);
        hand_good(&r, 0, RING_KIND_BYTES, "before");
        SURE(hand_call(&r, 0, 10000) && hand_echoed(&r, 0, "before"));
        for (int k = 0; k < 50; k++) {
            atomic_store(&r.request->pub, r.pub + by[i] * (uint32_t)(k + 1));
            hand_bell(&r);
        }
        hand_ring_close(&r);
    }
    /* All slots published though few were given back: all are answered. */
    hand_ring_open(&r, path);
    for (uint32_t slot = 0; slot < 1024; slot++) {
        hand_good(&r, slot, RING_KIND_BYTES, "again");
        ((uint32_t *)(void *)((char *)r.request + ORDER_OFF))[slot] = slot;
    }
    for (int k = 0; k < 20; k++) {
        r.pub += 1024;
        atomic_store(&r.request->pub, r.pub);
        hand_bell(&r);
        uint64_t end = now_ms() + 10000;
        while (atomic_load(
                   &((struct ring_reply_head *)(uintptr_t)r.reply)->head) !=
               r.pub) {
            SURE(now_ms() < end);
            usleep(100);
        }
    }
    hand_ring_close(&r);
}

int
main(int argc, char **argv)
{
    SURE(argc == 2);
    places(argv[1]);
    whole(argv[1]);
    orders(argv[1]);
    jumps(argv[1]);
    return 0;
}
