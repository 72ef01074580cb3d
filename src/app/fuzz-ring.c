/* What a program reads of a hostile caller's ring: the places in its memory,
 * the order, the entries, and the head as cardea.h shows it; and what it then
 * writes must hold for any caller. The input is a script that fills the memory,
 * and changes it between the calls. */
#include "app/app.h"
#include "cardea.h"
#include "door/fuzz-kernel.h"
#include "door/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>

#define ENTRIES_AT 512u
#define CALLS_MAX  64

static struct fuzz_in in;
static struct door door;
static struct thread thread;
static uint8_t *memory; /* the caller's, with nothing behind it */
static size_t memory_size;
static struct ring_reply_head *reply; /* ours; sparse */
static size_t reply_size;
static int file;
static size_t seen; /* of what the caller wrote: makes the reads real */

/* ---- the kernel ---- */

/* A note with a descriptor for a call, or not quite. */
static int
say_note(int fd, void *bytes, size_t len, size_t room, size_t *p_n_fds)
{
    struct door_note note = {.kind = DOOR_NOTE_FDS};
    uint8_t how = fuzz_byte(&in);

    MUST(len == sizeof note && room <= 1);
    if (in.at >= in.end || how < 128) {
        return how % 8 == 7 ? EPROTO : how % 8 == 6 ? EPIPE : EAGAIN;
    }
    note.seq = how & 8 ? (uint32_t)fuzz_length(&in, 16) : how % 8;
    note.cookie = how & 16 ? fuzz_number(&in, 8) : 0;
    note.kind = how & 32 ? fuzz_byte(&in) % 5 : DOOR_NOTE_FDS;
    *p_n_fds = how & 64 ? 0 : room;
    memcpy(bytes, &note, sizeof note);
    return 0;
}

static bool
is_marked(int fd, uint64_t *p_uniquifier, uint32_t *p_attributes)
{
    *p_uniquifier = 1;
    *p_attributes = 0;
    return fuzz_byte(&in) & 1;
}

static int
take_note(int fd, const void *bytes, size_t len, size_t n_fds)
{
    const struct door_note *note = bytes;

    MUST(len == sizeof *note && fd == thread.call.src->conn);
    MUST(note->kind == (n_fds == 1 ? DOOR_NOTE_FDS : DOOR_NOTE_WAKE));
    return fuzz_byte(&in) % 8 == 7 ? EPIPE : 0;
}

static void *
map_memory(size_t size)
{
    return size == memory_size ? memory : NULL;
}

static void *
make_reply(size_t size)
{
    if (!reply) {
        reply = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        MUST(reply != MAP_FAILED);
        reply_size = size;
    }
    MUST(size == reply_size);
    return reply;
}

static const struct fake_kernel kernel = {.receive = say_note,
                                          .marked = is_marked,
                                          .send = take_note,
                                          .map = map_memory,
                                          .make = make_reply};

/* ---- the caller ---- */

static void
write_number(size_t at, uint64_t value, size_t len)
{
    if (at <= memory_size && len <= memory_size - at) {
        memcpy(memory + at, &value, len);
    }
}

static void
lay_out(uint32_t n_slots)
{
    struct ring_request q = {.magic = DOOR_WIRE_MAGIC,
                             .major = DOOR_WIRE_MAJOR,
                             .n_slots = n_slots,
                             .entries_off = ENTRIES_AT,
                             .size = memory_size,
                             .cpu = -1};

    q.order_off = ENTRIES_AT + n_slots * sizeof(struct ring_entry);
    q.area_off = q.order_off + 64;
    memcpy(memory, &q, sizeof q);
}

static void
change_head(void)
{
    static const struct {
        uint16_t at, len;
    } parts[] = {
        {offsetof(struct ring_request, magic), 8},
        {offsetof(struct ring_request, major), 4},
        {offsetof(struct ring_request, n_slots), 4},
        {offsetof(struct ring_request, entries_off), 8},
        {offsetof(struct ring_request, order_off), 8},
        {offsetof(struct ring_request, cpu), 4},
        {offsetof(struct ring_request, pub), 4},
        {offsetof(struct ring_request, asleep), 4},
    };
    uint8_t which = fuzz_byte(&in) % 8;

    write_number(parts[which].at, fuzz_length(&in, memory_size),
                 parts[which].len);
}

static void
change_entry(void)
{
    static const struct {
        uint16_t at, len;
    } parts[] = {
        {offsetof(struct ring_entry, generation), 4},
        {offsetof(struct ring_entry, kind), 4},
        {offsetof(struct ring_entry, args_off), 8},
        {offsetof(struct ring_entry, args_len), 8},
        {offsetof(struct ring_entry, body_off), 8},
        {offsetof(struct ring_entry, body_len), 8},
        {offsetof(struct ring_entry, withdrawn), 4},
        {offsetof(struct ring_entry, released), 4},
        {offsetof(struct ring_entry, deadline), 8},
        {offsetof(struct ring_entry, cookie), 8},
        {offsetof(struct ring_entry, n_fds), 4},
    };
    size_t slot = fuzz_byte(&in) % 16;
    uint8_t which = fuzz_byte(&in) % 11;

    write_number(ENTRIES_AT + slot * sizeof(struct ring_entry) +
                     parts[which].at,
                 fuzz_length(&in, memory_size), parts[which].len);
}

/* A head that could be true, but for some of its spans. */
static void
put_head(void)
{
    size_t slot = fuzz_byte(&in) % 16, at = fuzz_number(&in, 2);
    uint32_t n_fields = fuzz_byte(&in) % 5, text = fuzz_byte(&in);
    uint32_t fields_off = sizeof(struct door_http);
    uint32_t text_off =
        fields_off + n_fields * (uint32_t)sizeof(struct door_http_field);
    uint32_t total = text_off + text;
    struct door_http h = {.size = sizeof h,
                          .family = fuzz_byte(&in) % 8,
                          .minor = 1,
                          .n_fields = n_fields,
                          .fields_off = fields_off,
                          .total = total};
    struct door_span *spans = &h.method_name;
    uint16_t wrong = (uint16_t)fuzz_number(&in, 2);

    for (unsigned i = 0; i < 7; i++) {
        spans[i].off = text_off + fuzz_byte(&in) % (text + 1);
        spans[i].len = fuzz_byte(&in) % (text_off + text - spans[i].off + 1);
        if (wrong >> i & 1) {
            *(fuzz_byte(&in) & 1 ? &spans[i].off : &spans[i].len) =
                (uint32_t)fuzz_length(&in, total);
        }
    }
    h.n_fields =
        wrong & 0x100 ? (uint32_t)fuzz_length(&in, n_fields) : n_fields;
    h.fields_off =
        wrong & 0x200 ? (uint32_t)fuzz_length(&in, total) : fields_off;
    h.total = wrong & 0x400 ? (uint32_t)fuzz_length(&in, total) : total;
    if (at > memory_size || total > memory_size - at) {
        return;
    }
    memcpy(memory + at, &h, sizeof h);
    fuzz_bytes(&in, memory + at + sizeof h, total - sizeof h);
    size_t entry = ENTRIES_AT + slot * sizeof(struct ring_entry);
    write_number(entry + offsetof(struct ring_entry, kind), RING_KIND_HTTP, 4);
    write_number(entry + offsetof(struct ring_entry, args_off), at, 8);
    write_number(entry + offsetof(struct ring_entry, args_len), total, 8);
}

static void
change(uint8_t op)
{
    switch (op % 8) {
    case 0:
        change_head();
        break;
    case 1:
        change_entry();
        break;
    case 2: { /* the order of the slots */
        uint64_t order;
        memcpy(&order, memory + offsetof(struct ring_request, order_off), 8);
        size_t at = order + fuzz_byte(&in) % 16 * 4u;
        write_number(at, fuzz_length(&in, 16), 4);
        break;
    }
    case 3: { /* anything, anywhere */
        size_t at = fuzz_number(&in, 2), n = fuzz_byte(&in);
        if (at < memory_size) {
            n = n < memory_size - at ? n : memory_size - at;
            fuzz_bytes(&in, memory + at, n);
        }
        break;
    }
    case 4:
        put_head();
        break;
    case 6:
        ring_read_notes(thread.call.src);
        break;
    default: { /* publish some */
        uint32_t pub;
        memcpy(&pub, memory + offsetof(struct ring_request, pub), 4);
        write_number(offsetof(struct ring_request, pub), pub + op / 32, 4);
    }
    }
}

/* ---- the program behind cardea.h ---- */

static void
look(const char *text)
{
    MUST(text != NULL);
    seen += strlen(text);
}

static void
look_at_all(struct cardea_request *r)
{
    static const char *const names[] = {"host", "Content-Type", "a", ""};
    const char *name, *value;
    char out[64];
    size_t n;

    look(cardea_method(r));
    look(cardea_target(r));
    look(cardea_path(r));
    look(cardea_query(r));
    look(cardea_host(r));
    look(cardea_id(r));
    look(cardea_route(r));
    look(cardea_rest(r));
    look(cardea_peer(r));
    seen += (size_t)cardea_peer_port(r);
    for (size_t i = 0; cardea_header_at(r, i, &name, &value) == 0; i++) {
        MUST(i < 4096);
        look(name);
        look(value);
    }
    for (size_t i = 0; i < 4; i++) {
        const char *field = cardea_header(r, names[i]);
        look(field ? field : "");
        size_t room = fuzz_byte(&in) % (sizeof out + 1);
        ssize_t len = cardea_param(r, names[i], out, room);
        MUST(len >= -1 && (len < 0 || (size_t)len < room));
    }
    const uint8_t *body = cardea_body(r, &n);
    MUST(body != NULL && n <= memory_size);
    for (size_t i = 0; i < n; i++) {
        seen += body[i];
    }
    MUST(cardea_time_left(r) >= 0);
    seen += (size_t)cardea_gone(r);
}

static void
answer(struct cardea_request *r)
{
    char text[256];

    for (uint8_t parts = fuzz_byte(&in) % 8; parts > 0; parts--) {
        size_t n = fuzz_bytes(&in, text, fuzz_byte(&in) % sizeof text);
        text[n] = 0;
        switch (fuzz_byte(&in) % 8) {
        case 0:
            cardea_status(r, (int)fuzz_number(&in, 2));
            break;
        case 1:
            cardea_set(r, "X-Text", text);
            break;
        case 2:
            cardea_set(r, text, "value");
            break;
        case 3:
            cardea_printf(r, "%s%0*d", text, fuzz_byte(&in) * 8, 1);
            break;
        case 4: {
            size_t len = fuzz_length(&in, 65536);
            char *room = cardea_room(r, len);
            if (room && len > 0) {
                room[0] = room[len - 1] = 'x';
                MUST(cardea_commit(r, len + 1) < 0);
                MUST(cardea_commit(r, len / 2) == 0);
            }
            break;
        }
        case 5:
            cardea_send_file(r, file, fuzz_byte(&in), fuzz_number(&in, 2));
            break;
        default:
            cardea_write(r, text, n);
        }
    }
}

static void
handler(struct cardea_request *r)
{
    look_at_all(r);
    answer(r);
}

/* ---- one call ---- */

static const struct ring_reply *
reply_at(uint32_t slot)
{
    return (const void *)((const char *)reply + reply->replies_off +
                          slot * sizeof(struct ring_reply));
}

/* No page of the heap is lost, none is given twice. */
static void
check_heap(const struct source *src)
{
    unsigned bits = 0, runs = 0;

    for (size_t i = 0; i < RING_HEAP / RING_SEGMENT / 64; i++) {
        bits += (unsigned)__builtin_popcountll(reply->heap_map[i]);
    }
    for (size_t i = 0; i < RING_SLOTS; i++) {
        runs += atomic_load(&src->runs[i]) & 0xffff;
    }
    MUST(bits == runs);
}

/* Is what was taken within the memory, and was it copied? */
static void
check_call(const struct call *c)
{
    const struct door_task *t = &c->task;

    MUST(c->slot < c->src->n_slots);
    MUST(t->args_len <= memory_size && t->body_len <= memory_size);
    MUST(t->args >= memory && t->args + t->args_len <= memory + memory_size);
    MUST(t->body >= memory && t->body + t->body_len <= memory + memory_size);
    MUST(t->room >= (uint8_t *)reply &&
         t->room + t->room_size <= (uint8_t *)reply + reply_size);
    if (!door.native) {
        MUST(c->size == t->args_len && c->size < thread.args_size);
        MUST(memcmp(thread.args, t->args, c->size) == 0);
        MUST(thread.args[c->size] == 0);
    }
    MUST(c->n_fds <= (door.native ? 0 : 1));
    if (c->n_fds == 1) {
        MUST((thread.descs[0].d_attributes & DOOR_DESCRIPTOR) != 0);
        fake_close(thread.descs[0].d_data.d_desc.d_descriptor);
    }
}

/* As the worker will read it. */
static void
check_answer(const struct call *c)
{
    const struct ring_reply *r = reply_at(c->slot);

    MUST(r->generation == c->generation && r->cookie == c->cookie);
    MUST(r->data_off <= reply_size && r->head_off <= reply_size);
    MUST(r->data_len <= reply_size - r->data_off);
    MUST(r->head_len <= reply_size - r->head_off);
    MUST(!door.native || r->error != 0 ||
         (r->status >= 200 && r->status < 600));
    MUST(!door.native || r->head_len == 0 ||
         memcmp((const char *)reply + r->head_off + r->head_len - 2, "\r\n",
                2) == 0);
}

static void
serve(struct source *src)
{
    for (int calls = 0; calls < CALLS_MAX; calls++) {
        struct call *c = &thread.call;
        uint64_t before[RING_SLOTS / 64];
        uint32_t head = reply->head;

        if (!ring_take(src, &thread)) {
            return;
        }
        MUST(reply->head - head - 1 < src->n_slots);
        check_call(c);
        memcpy(before, (const void *)reply->done, sizeof before);
        c->open = true;
        if (door.native) {
            cardea_handler *call = handler;
            app_procedure((void *)&call, &c->task);
            MUST(ring_answer(&thread, c->task.error, NULL, 0) == 0);
        } else {
            size_t n = fuzz_length(&in, c->size);
            const char *data = n > c->size ? NULL : thread.args;
            int e = ring_answer(&thread, data ? 0 : EINTR, data, data ? n : 0);
            MUST(e == 0 || (e == ENOBUFS && c->open));
            e = e ? ring_answer(&thread, e, NULL, 0) : 0;
            MUST(e == 0);
        }
        MUST(!c->open);
        check_answer(c);
        before[c->slot / 64] ^= 1ull << (c->slot % 64);
        MUST(memcmp(before, (const void *)reply->done, sizeof before) == 0);
        ring_announce(src);
    }
}

/* ---- the whole ---- */

static void
check_places(const struct source *src)
{
    const uint8_t *entries = (const uint8_t *)src->entries;
    const uint8_t *order = (const uint8_t *)src->order;
    uint32_t n = src->n_slots;

    MUST(n > 0 && n <= RING_SLOTS && (n & (n - 1)) == 0);
    MUST(entries >= memory &&
         entries + n * sizeof(struct ring_entry) <= memory + memory_size);
    MUST(order >= memory && order + n * 4 <= memory + memory_size);
}

static void
end(struct source *src, bool accepted, int reply_fd)
{
    if (accepted) {
        check_heap(src);
        memset((void *)reply->heap_map, 0, sizeof reply->heap_map);
        fake_close(reply_fd);
        munmap(src->reply, src->reply_size);
    }
    if (src->request) {
        munmap((void *)(uintptr_t)src->request, memory_size);
    }
    MUST(fake_map_count() == 0);
    ring_drop_held(src, true);
    fake_close(src->conn);
    MUST(fake_open_count() == 0);
    munmap(src->runs, RING_SLOTS * sizeof *src->runs);
    free(thread.args);
    free(thread.descs);
    free(memory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t sizes[] = {4096, 8192, 16384, 65536};
    static unsigned turns;
    struct source src = {.kind = SOURCE_RING, .door = &door};
    int reply_fd = -1;

    in = (struct fuzz_in){data, data + size};
    fake_begin(&kernel);
    if (file == 0) {
        file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        MUST(file > 0);
    }
    if (reply && ++turns % 256 == 0) {
        /* What large answers touched goes back. */
        madvise(reply, reply_size, MADV_DONTNEED);
    }
    uint8_t shape = fuzz_byte(&in);
    door.native = shape & 1 ? app_procedure : NULL;
    door.features = shape & 1 ? DOOR_FEATURE_HTTP : 0;
    memory_size = sizes[shape >> 1 & 3];
    memory = calloc(1, memory_size);
    MUST(memory != NULL);
    memset(&thread, 0, sizeof thread);
    src.request_size = memory_size;
    src.conn = fake_open();
    src.refs = 1;
    pthread_mutex_init(&src.held_lock, NULL);
    thread.call.src = &src;
    lay_out(1u << (shape >> 3 & 3));
    if (reply) {
        memset(reply, 0, sizeof *reply);
        memset((char *)reply + 0x100000, 0, 16 * sizeof(struct ring_reply));
    }
    for (int n = shape >> 5; n > 0; n--) {
        change(fuzz_byte(&in));
    }
    int memory_fd = fake_open();
    bool accepted = ring_accept(&src, memory_fd, &reply_fd) == 0;
    fake_close(memory_fd);
    if (accepted) {
        check_places(&src);
        while (in.at < in.end) {
            change(fuzz_byte(&in));
            serve(&src);
        }
    }
    end(&src, accepted, reply_fd);
    return 0;
}
