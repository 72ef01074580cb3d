/* Wrong kinds of request memory, and heads that lie: each must be refused, for
 * a ring and for a channel, and a good one still be taken after each. */
#include "hostile.h"

struct memory {
    const char *name;
    int fd;
    uint64_t size; /* that the hello names */
};

static int
memfd(size_t size, unsigned int flags, int seals)
{
    int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

    if (fd >= 0 && ftruncate(fd, (off_t)size) < 0) {
        close(fd);
        return -1; /* no huge pages here */
    }
    SURE(fd < 0 || seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static int
file(const char *template, size_t size)
{
    char path[64];

    snprintf(path, sizeof path, "%s", template);
    int fd = mkstemp(path);
    if (fd >= 0) {
        unlink(path);
        SURE(ftruncate(fd, (off_t)size) == 0);
    }
    return fd;
}

static void
refuse(int door, uint32_t kind, const struct memory *m)
{
    struct door_hello hello = good_hello(kind, m->size);

    if (m->fd < 0) {
        printf("# no %s here\n", m->name);
        return;
    }
    int e = greet(door, &hello, m->fd, NULL, NULL, NULL);
    if (e == 0) {
        fprintf(stderr, "%s (kind %u) was accepted\n", m->name, kind);
        exit(1);
    }
}

static void
kinds(int door, uint32_t kind, size_t size)
{
    const int good = F_SEAL_SHRINK | F_SEAL_GROW | 0x10;
    int ends[2], pair[2];

    SURE(pipe2(ends, O_CLOEXEC) == 0);
    SURE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    struct memory table[] = {
        {"plain file", file("/var/tmp/hostile-XXXXXX", size), size},
        {"tmpfs file", file("/dev/shm/hostile-XXXXXX", size), size},
        {"unsealed memfd", memfd(size, 0, 0), size},
        {"memfd that may shrink", memfd(size, 0, F_SEAL_GROW | 0x10), size},
        {"memfd that may grow", memfd(size, 0, F_SEAL_SHRINK | 0x10), size},
        {"memfd that others may write",
         memfd(size, 0, F_SEAL_SHRINK | F_SEAL_GROW), size},
        {"shorter memfd", memfd(size - 4096, 0, good), size},
        {"longer memfd", memfd(size + 4096, 0, good), size},
        {"empty memfd", memfd(0, 0, good), size},
        {"memfd of one page", memfd(4096, 0, good), size},
        {"pipe", ends[0], size},
        {"socket", pair[0], size},
        {"terminal or null", open("/dev/null", O_RDWR | O_CLOEXEC), size},
        {"zero device", open("/dev/zero", O_RDWR | O_CLOEXEC), size},
        {"folder", open("/", O_RDONLY | O_CLOEXEC), size},
        {"O_PATH", open("/", O_PATH | O_CLOEXEC), size},
        {"huge pages", memfd(256u << 20, MFD_HUGETLB, good), 256u << 20},
        {"size 0", memfd(4096, 0, good), 0},
        {"size 1", memfd(1, 0, good), 1},
        {"size 4095", memfd(4095, 0, good), 4095},
        {"size without end", memfd(size, 0, good), UINT64_MAX},
        {"negative size", memfd(size, 0, good), (uint64_t)1 << 63},
        {"zeroes where the head should be", memfd(size, 0, good), size},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        refuse(door, kind, &table[i]);
        if (table[i].fd >= 0 && table[i].fd != ends[0] &&
            table[i].fd != pair[0]) {
            close(table[i].fd);
        }
    }
    close(ends[0]);
    close(ends[1]);
    close(pair[0]);
    close(pair[1]);
}

/* Places of entries and order outside the memory. */
static void
heads(int door)
{
    static const struct {
        uint64_t entries, order;
        uint32_t n;
    } table[] = {
        {RING_SIZE, ORDER_OFF, 1024},
        {RING_SIZE - 1024 * 256 + 64, ORDER_OFF, 1024},
        {UINT64_MAX - 63, ORDER_OFF, 1024},
        {(uint64_t)1 << 63, ORDER_OFF, 1024},
        {4097, ORDER_OFF, 1024},
        {4096, RING_SIZE, 1024},
        {4096, RING_SIZE - 4096 + 64, 1024},
        {4096, UINT64_MAX - 63, 1024},
        {4096, ORDER_OFF + 4, 1024},
        {4096, ORDER_OFF, 0},
        {4096, ORDER_OFF, 1023},
        {4096, ORDER_OFF, 2048},
        {4096, ORDER_OFF, 0x80000000u},
        {4096, ORDER_OFF, UINT32_MAX},
    };
    struct door_hello hello = good_hello(DOOR_HELLO_RING, RING_SIZE);

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int memory;
        struct ring_request *q = good_memory(RING_SIZE, &memory);
        ring_head(q);
        q->entries_off = table[i].entries;
        q->order_off = table[i].order;
        q->n_slots = table[i].n;
        if (greet(door, &hello, memory, NULL, NULL, NULL) == 0) {
            fprintf(stderr, "head %zu was accepted\n", i);
            exit(1);
        }
        munmap(q, RING_SIZE);
        close(memory);
    }
}

int
main(int argc, char **argv)
{
    struct hand_ring r;

    SURE(argc == 2);
    int door = dial(argv[1]);
    for (int turn = 0; turn < 3; turn++) {
        kinds(door, DOOR_HELLO_RING, RING_SIZE);
        kinds(door, DOOR_HELLO_CHANNEL, DOOR_CHANNEL_SIZE);
        heads(door);
        hand_ring_open(&r, argv[1]);
        hand_good(&r, 0, RING_KIND_BYTES, "still here");
        SURE(hand_call(&r, 0, 10000) && hand_echoed(&r, 0, "still here"));
        hand_ring_close(&r);
    }
    close(door);
    return 0;
}
