/* What a worker reads of a hostile server's ring: the welcome, the places, the
 * bits, the answers and the descriptors that come beside them. The input is a
 * script for both sides; a model of slots, areas and descriptors judges. */
#include "door/fuzz-kernel.h"
#include "door/ring.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#define SLOTS      12u /* that the script uses at most */
#define REPLIES_AT 0x4000u
#define HEAP_AT    (REPLIES_AT + RING_SLOTS * (uint32_t)sizeof(struct ring_reply))
#define WHOLE      (HEAP_AT + 0x4000u)
#define SMALL      (uint32_t)sizeof(struct ring_reply_head)

static struct fuzz_in in;
static struct ring ring;
static struct ring_tables tables;
static struct ring_request *request; /* ours; sparse */
static uint8_t *whole, *small;       /* the server's, two sizes */
static bool greeting;
static size_t seen;

/* What must be true of each slot. */
static struct {
    bool taken, flying;
    uint64_t off, len;
} model[RING_SLOTS];

/* ---- the kernel ---- */

static int
say_welcome(void *bytes, size_t len, size_t *p_n_fds)
{
    struct door_welcome w = {
        .magic = DOOR_WIRE_MAGIC, .major = DOOR_WIRE_MAJOR, .size = WHOLE};
    uint8_t how = fuzz_byte(&in);

    MUST(len == sizeof w);
    *p_n_fds = how & 1 ? 0 : 1;
    switch (how >> 1 & 15) {
    case 1:
        w.magic = fuzz_number(&in, 8);
        break;
    case 2:
        w.major = fuzz_byte(&in);
        break;
    case 3:
        w.error = (int32_t)fuzz_length(&in, 4096);
        break;
    case 4:
        w.size = fuzz_length(&in, WHOLE);
        break;
    case 5:
        w.size = SMALL;
        break;
    case 6:
        return how & 32 ? EPROTO : EPIPE;
    case 7:
        return EAGAIN;
    default:
        w.features = how >> 5;
    }
    memcpy(bytes, &w, sizeof w);
    return 0;
}

static int
say_note(void *bytes, size_t len, size_t *p_n_fds)
{
    struct door_note note = {.kind = DOOR_NOTE_FDS};
    uint8_t how = fuzz_byte(&in);

    MUST(len == sizeof note);
    if (how < 64 && !(how & 8)) {
        return how & 1 ? EAGAIN : how & 2 ? EPROTO : how & 4 ? EPIPE : EAGAIN;
    }
    note.seq = how % 8 == 7 ? (uint32_t)fuzz_length(&in, RING_SLOTS) : how % 8;
    note.cookie = how & 16 || note.seq >= RING_SLOTS
                      ? fuzz_number(&in, 8)
                      : ring_entry(&ring, note.seq)->cookie;
    note.kind = how & 32 ? fuzz_byte(&in) % 5 : DOOR_NOTE_FDS;
    *p_n_fds = how & 128 ? 1 : 0;
    memcpy(bytes, &note, sizeof note);
    return how < 64 ? EMFILE : 0; /* its descriptor had no room here */
}

static int
receive(int fd, void *bytes, size_t len, size_t room, size_t *p_n_fds)
{
    MUST(fd == ring.conn && room == 1);
    if (in.at >= in.end) {
        return EAGAIN;
    }
    return greeting ? say_welcome(bytes, len, p_n_fds)
                    : say_note(bytes, len, p_n_fds);
}

static int
send_any(int fd, const void *bytes, size_t len, size_t n_fds)
{
    uint8_t how = fuzz_byte(&in);

    MUST(len ==
         (greeting ? sizeof(struct door_hello) : sizeof(struct door_note)));
    MUST(greeting ? n_fds == 2 : n_fds <= 1);
    return how % 16 == 15 ? EPIPE : how % 16 == 14 ? EAGAIN : 0;
}

static void *
map_memory(size_t size)
{
    return size == WHOLE ? whole : size == SMALL ? small : NULL;
}

static void *
make_memory(size_t size)
{
    MUST(size == RING_SIZE);
    return request;
}

static const struct fake_kernel kernel = {.receive = receive,
                                          .send = send_any,
                                          .map = map_memory,
                                          .make = make_memory};

/* ---- the server ---- */

static struct ring_reply_head *
reply_head(void)
{
    return (struct ring_reply_head *)(uintptr_t)ring.reply;
}

static struct ring_reply *
reply_of(uint32_t slot)
{
    return (struct ring_reply *)((char *)(uintptr_t)ring.reply +
                                 ring.replies_off) +
           slot;
}

static void
lay_out(uint8_t *memory)
{
    struct ring_reply_head *h = (struct ring_reply_head *)(void *)memory;

    memset(h, 0, sizeof *h);
    h->magic = DOOR_WIRE_MAGIC;
    h->major = DOOR_WIRE_MAJOR;
    h->n_slots = RING_SLOTS;
    h->replies_off = REPLIES_AT;
    h->heap_off = HEAP_AT;
    h->size = WHOLE;
    switch (fuzz_byte(&in)) {
    case 1:
        h->magic = fuzz_number(&in, 8);
        break;
    case 2:
        h->major = fuzz_byte(&in);
        break;
    case 3:
        h->n_slots = (uint32_t)fuzz_length(&in, RING_SLOTS);
        break;
    case 4:
        h->replies_off = fuzz_length(&in, REPLIES_AT);
        break;
    case 5:
        h->replies_off = fuzz_length(&in, HEAP_AT) & ~63ull;
        break;
    case 6:
        h->heap_off = fuzz_length(&in, HEAP_AT);
        break;
    }
}

static void
flip(uint32_t slot)
{
    reply_head()->done[slot / 64 % (RING_SLOTS / 64)] ^= 1ull << (slot % 64);
}

/* A true answer, but for what HOW says. */
static void
serve(uint8_t how)
{
    uint32_t slot = fuzz_byte(&in) % SLOTS;
    const struct ring_entry *e = ring_entry(&ring, slot);
    struct ring_reply *r = reply_of(slot);
    uint64_t off = REPLIES_AT + fuzz_number(&in, 2) % (WHOLE - REPLIES_AT);
    uint64_t len = fuzz_byte(&in);

    *r = (struct ring_reply){.generation = e->generation,
                             .cookie = e->cookie,
                             .data_off = off,
                             .data_len = len <= WHOLE - off ? len : 0,
                             .head_off = off,
                             .status = 200};
    switch (how & 15) {
    case 1:
        r->generation += 1 + fuzz_byte(&in);
        break;
    case 2:
        r->cookie ^= 1 + fuzz_byte(&in);
        break;
    case 3:
        r->data_off = fuzz_length(&in, WHOLE);
        break;
    case 4:
        r->data_len = fuzz_length(&in, WHOLE - off);
        break;
    case 5:
        r->head_off = fuzz_length(&in, WHOLE);
        break;
    case 6:
        r->head_len = fuzz_length(&in, WHOLE - off);
        break;
    case 7:
        r->error = (int32_t)fuzz_length(&in, 4096);
        break;
    case 8:
    case 9:
        r->flags = RING_REPLY_FD;
        r->fd_offset = fuzz_length(&in, 65536);
        r->fd_length = fuzz_length(&in, 65536);
        break;
    case 10:
        r->flags = (uint32_t)fuzz_number(&in, 4);
        break;
    }
    if (!(how & 16)) {
        flip(slot);
    }
}

/* ---- the worker ---- */

static void
check_area(uint32_t slot)
{
    uint64_t off = model[slot].off, len = model[slot].len;

    MUST(off >= RING_AREA_OFF && off % RING_SEGMENT == 0);
    MUST(off <= RING_SIZE && len <= RING_SIZE - off);
    for (uint32_t i = 0; i < SLOTS; i++) {
        MUST(i == slot || !model[i].taken || off + len <= model[i].off ||
             model[i].off + model[i].len <= off);
    }
}

static void
publish(void)
{
    if (ring.n_used >= SLOTS) {
        return;
    }
    int slot = ring_slot_take(&ring, 77);
    MUST(slot >= 0 && (uint32_t)slot < SLOTS && !model[slot].taken);
    uint64_t len = fuzz_length(&in, 65536) % (1u << 20);
    uint64_t off = ring_area_take(&ring, len);
    MUST(off != 0);
    model[slot].taken = model[slot].flying = true;
    model[slot].off = off;
    model[slot].len = len;
    check_area((uint32_t)slot);
    ring_slot_area(&ring, (uint32_t)slot, off, len);
    if (len % 4 == 3) { /* with a descriptor, borrowed */
        ring_pass(&ring, (uint32_t)slot, ring.door_fd);
        MUST(ring_entry(&ring, (uint32_t)slot)->n_fds == 1);
    }
    ring_publish(&ring, (uint32_t)slot);
    MUST(ring_entry(&ring, (uint32_t)slot)->generation != 0);
    MUST(ring_is_busy(&ring));
}

/* Reads all that an answer names. */
static void
read_result(const struct ring_result *r)
{
    const char *memory = (const char *)ring.reply;

    MUST(r->head >= memory && r->head + r->head_len <= memory + WHOLE);
    for (uint64_t i = 0; i < r->head_len; i++) {
        seen += (unsigned char)r->head[i];
    }
    if (r->error != 0) {
        MUST(r->head_len == 0 && r->data_len == 0 && r->fd == -1);
        return;
    }
    MUST((r->fd >= 0) == (r->data == NULL));
    if (r->fd >= 0) {
        fake_close(r->fd);
        return;
    }
    MUST(r->data + r->data_len <= memory + WHOLE);
    for (uint64_t i = 0; i < r->data_len; i++) {
        seen += (unsigned char)r->data[i];
    }
}

static void
answered(void *arg, struct ring *r, uint32_t owner, uint32_t slot)
{
    struct ring_result result;

    MUST(arg == &model && r == &ring && slot < SLOTS);
    MUST(owner == 77 && model[slot].taken && model[slot].flying);
    model[slot].flying = false;
    if (ring_result(&ring, slot, &result) != 0) {
        ring.state = RING_DEAD; /* as the loop gives it up */
        return;
    }
    read_result(&result);
    if (result.fd >= 0) {
        ring_fd_taken(&ring, slot);
    }
    MUST(ring.high_reply == ring.heap_off ||
         ring.high_reply <= ring.reply_size);
    ring_slot_give(&ring, slot);
    model[slot].taken = false;
}

static void
rebuild(void)
{
    static uint64_t before[RING_SEGMENTS / 64];
    uint32_t used = ring.n_used, segments = ring.segments_used;

    memcpy(before, tables.area, sizeof before);
    ring_rebuild(&ring);
    MUST(ring.n_used == used && ring.segments_used == segments);
    MUST(memcmp(before, tables.area, sizeof before) == 0);
}

static void
do_little(uint8_t how)
{
    struct ring_reply_head *h = reply_head();

    switch (how & 15) {
    case 0:
        ring_flush(&ring);
        break;
    case 1:
        ring_withdraw(&ring, fuzz_byte(&in) % SLOTS);
        break;
    case 2:
        ring_sleep(&ring);
        MUST(request->asleep != 0);
        break;
    case 3:
        ring_wake(&ring);
        MUST(request->asleep == 0);
        break;
    case 4:
        ring.wakes = RING_WAKES - 1; /* the last one before they are read */
        ring_woken(&ring);
        break;
    case 5:
        ring_nudge(&ring, fuzz_number(&in, 2), 100);
        break;
    case 6:
        h->head = (uint32_t)fuzz_length(&in, ring.pub);
        break;
    case 7:
        h->parked = how >> 4;
        break;
    case 8:
        h->attached = how >> 4;
        break;
    case 9:
        seen += ring_is_waiting(&ring) + ring_has_answer(&ring) +
                ring_was_claimed(&ring, fuzz_byte(&in));
        break;
    case 10:
        rebuild();
        break;
    case 11: {
        uint32_t now = 0, most = 0;
        if (ring_threads(&ring, &now, &most)) {
            seen += now + most;
        }
        break;
    }
    default:
        flip((uint32_t)fuzz_number(&in, 2));
    }
}

static void
work(void)
{
    while (in.at < in.end && ring.state == RING_READY) {
        uint8_t op = fuzz_byte(&in);

        switch (op & 3) {
        case 0:
            publish();
            break;
        case 1:
            serve(op >> 2);
            break;
        case 2:
            ring_poll(&ring, answered, &model);
            break;
        default:
            do_little(op >> 2);
        }
    }
}

/* A ring that was given up is asked in vain. */
static void
work_no_more(void)
{
    bool ready = ring.state == RING_READY;
    uint32_t n = ring_poll(&ring, answered, &model);

    MUST(ready || n == 0);
    ring_nudge(&ring, 1000, 1);
    MUST(ring_in_flight(&ring) <= ring.n_used);
    MUST(ring_is_busy(&ring) == (ring_in_flight(&ring) > 0));
}

static void
make_once(void)
{
    if (request) {
        return;
    }
    request = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(request != MAP_FAILED);
    whole = aligned_alloc(64, WHOLE);
    small = aligned_alloc(64, SMALL);
    MUST(whole && small && SMALL % 64 == 0);
    memset(whole, 0, WHOLE);
}

static void
greet(void)
{
    lay_out(whole);
    memset(whole + REPLIES_AT, 0, SLOTS * sizeof(struct ring_reply));
    memcpy(small, whole, SMALL);
    int e = ring_greeted(&ring);
    MUST(e >= 0 && e < 4096);
    MUST(ring.state == (e == 0        ? RING_READY
                        : e == EAGAIN ? RING_GREETING
                                      : RING_DEAD));
    if (e == 0) {
        MUST(ring.reply_size == WHOLE && ring.replies_off % 64 == 0);
        MUST(ring.replies_off <=
             WHOLE - RING_SLOTS * sizeof(struct ring_reply));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t no_area[RING_SEGMENTS / 64];

    in = (struct fuzz_in){data, data + size};
    make_once();
    fake_begin(&kernel);
    memset(model, 0, sizeof model);
    memset(request, 0, sizeof *request);
    memset((char *)request + RING_ENTRIES_OFF, 0,
           SLOTS * sizeof(struct ring_entry));
    greeting = true;
    ring_init(&ring, &tables);
    if (ring_open(&ring, fake_open(), -1, NULL) == 0) {
        MUST(ring.state == RING_GREETING);
        greet();
        greeting = false;
        work();
        work_no_more();
        ring_close(&ring);
    }
    MUST(ring.state == RING_CLOSED && ring.conn == -1);
    MUST(memcmp(tables.area, no_area, sizeof no_area) == 0);
    MUST(fake_open_count() == 0 && fake_map_count() == 0);
    return 0;
}
