/* What a caller reads of a hostile door: the welcome, the words of an answer,
 * the notes with descriptors and memory. One input is one or more calls of
 * door_call() or door_info(); the server answers in the places where the caller
 * would wait for it. */
#include "door.h"
#include "door/fuzz-kernel.h"
#include "door/server.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER 256u
#define LARGE  (1u << 16) /* memory that comes with a note, at most */

static struct fuzz_in in;
static int door;                    /* a real socket: fstat() is asked */
static struct channel_call *call;   /* the caller's memory */
static struct channel_reply *reply; /* the server's */
static struct channel_turn *turn;   /* and what both write */
static uint8_t *large;              /* and that of a large result */
static bool hung_up;
static int waits;
static size_t length;
static uint32_t seq;
static size_t seen;

/* ---- the kernel ---- */

static int
say_welcome(void *bytes, size_t room, size_t *p_n_fds)
{
    struct door_welcome w = {.magic = DOOR_WIRE_MAGIC,
                             .major = DOOR_WIRE_MAJOR,
                             .size = DOOR_CHANNEL_SIZE,
                             .data_max = UINT64_MAX,
                             .desc_max = INT32_MAX};
    uint8_t how = fuzz_byte(&in);

    *p_n_fds = how & 1 ? 0 : 1;
    if (room == 2) {
        turn = NULL; /* of a channel that is over */
    }
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
        w.size = fuzz_length(&in, DOOR_CHANNEL_SIZE);
        break;
    case 5:
        w.data_min = fuzz_length(&in, 64);
        w.data_max = fuzz_length(&in, 64);
        break;
    case 6:
        w.desc_max = fuzz_byte(&in) % 3;
        w.attributes = fuzz_byte(&in);
        break;
    case 7:
        return how & 32 ? EPIPE : EPROTO;
    case 8:
        w.pid = how & 32 ? getpid() : -1;
        break;
    case 9:
        w.features = how & 32 ? DOOR_FEATURE_TURN : DOOR_FEATURE_CONTEXT;
        *p_n_fds = how & 64 ? room : how & 1;
        break;
    }
    memcpy(bytes, &w, sizeof w);
    return 0;
}

static int
say_note(void *bytes, size_t room, size_t *p_n_fds)
{
    struct door_note note = {.kind = DOOR_NOTE_FDS, .seq = seq};
    uint8_t how = fuzz_byte(&in);

    if (in.at >= in.end || (how & 15) == 15) {
        return how & 16 ? EAGAIN : how & 32 ? EPROTO : EPIPE;
    }
    switch (how & 7) {
    case 1:
        note.kind = fuzz_byte(&in) % 5;
        break;
    case 2:
        note.seq = (uint32_t)fuzz_length(&in, seq);
        break;
    case 3:
    case 4:
        note.purpose = 1;
        break;
    case 5:
        note.purpose = fuzz_byte(&in);
        break;
    }
    *p_n_fds = how & 32 ? fuzz_byte(&in) % (room + 1) : how >> 6;
    memcpy(bytes, &note, sizeof note);
    return 0;
}

static int
receive(int fd, void *bytes, size_t len, size_t room, size_t *p_n_fds)
{
    if (len == sizeof(struct door_welcome)) {
        MUST(room == 1 || room == 2); /* door_info(), a channel */
        return say_welcome(bytes, room, p_n_fds);
    }
    MUST(len == sizeof(struct door_note));
    return say_note(bytes, room, p_n_fds);
}

static int
send_any(int fd, const void *bytes, size_t len, size_t n_fds)
{
    uint8_t how = fuzz_byte(&in);

    if (len == sizeof(struct door_hello)) {
        MUST(fd == door && n_fds >= 1 && n_fds <= 2);
        return how % 16 == 15 ? EPIPE : 0;
    }
    MUST(fake_is_open(fd) && len == sizeof(struct door_note));
    return how % 16 == 15 ? EPIPE : how % 16 == 14 ? EAGAIN : 0;
}

static void *
map_memory(size_t size)
{
    if (size == DOOR_CHANNEL_SIZE) {
        return fuzz_byte(&in) % 16 != 15 ? reply : NULL;
    }
    if (size > LARGE) {
        return NULL;
    }
    MUST(large == NULL);
    large = calloc(1, size > 0 ? size : 1);
    return large;
}

static void *
map_shared(void)
{
    static _Alignas(64) char page[DOOR_SHARED_SIZE];

    turn = fuzz_byte(&in) % 16 != 15 ? (void *)page : NULL;
    return turn;
}

static void *
make_memory(size_t size)
{
    MUST(size == DOOR_CHANNEL_SIZE);
    return call;
}

/* The server's turn: what it writes before the caller looks again. */
static void
answer(void)
{
    uint8_t how = fuzz_byte(&in);

    reply->taken = how & 1 ? seq : (uint32_t)fuzz_length(&in, seq);
    reply->error = 0;
    reply->size = fuzz_byte(&in);
    reply->n_fds = 0;
    reply->by_memory = 0;
    switch (how >> 1 & 7) {
    case 0:
        reply->error = (int32_t)fuzz_length(&in, 4096);
        break;
    case 1:
        reply->size = fuzz_length(&in, DOOR_CHANNEL_AREA);
        if (reply->size <= DOOR_CHANNEL_AREA && fuzz_byte(&in) % 64 != 63) {
            reply->size %= 65536; /* megabytes to copy, but not often */
        }
        break;
    case 2:
        reply->n_fds = (uint32_t)fuzz_length(&in, DOOR_FDS_MAX);
        break;
    case 3:
        reply->n_fds = fuzz_byte(&in) % 4;
        break;
    case 4:
        reply->by_memory = 1;
        reply->size = fuzz_length(&in, LARGE);
        break;
    case 5:
        reply->by_memory = fuzz_byte(&in);
        reply->n_fds = fuzz_byte(&in) % 4;
        break;
    }
    reply->done = how & 128 ? (uint32_t)fuzz_length(&in, seq) : seq;
    if (turn) {
        turn->answered += how & 1;
        turn->posted = how;
    }
}

static int
wait(_Atomic uint32_t *word)
{
    if (!word) { /* for the welcome */
        uint8_t how = fuzz_byte(&in);
        return how % 16 == 15 ? ETIMEDOUT : how % 16 == 14 ? EINTR : 0;
    }
    MUST(word == (turn ? &turn->answered : &reply->done));
    seq = call->seq;
    if (in.at >= in.end || ++waits > 16) {
        hung_up = true;
        return fuzz_byte(&in) & 1 ? EINTR : ETIMEDOUT;
    }
    answer();
    uint8_t how = fuzz_byte(&in);
    return how % 8 == 7 ? ETIMEDOUT : how % 8 == 6 ? EINTR : 0;
}

static bool
has_hung_up(int fd)
{
    return hung_up;
}

/* The door is one; of what it gives, some are. */
static bool
is_marked(int fd, uint64_t *p_uniquifier, uint32_t *p_attributes)
{
    *p_uniquifier = 7;
    *p_attributes = 0;
    if (fd == door) {
        return true;
    }
    MUST(fake_is_open(fd));
    uint8_t how = fuzz_byte(&in);
    *p_attributes = how & 0xfc;
    return how & 1;
}

/* So much time passes that every call looks whether its server has ended. */
uint64_t __wrap_door_now_coarse(void);

uint64_t
__wrap_door_now_coarse(void)
{
    static uint64_t now;

    return now += 2000000;
}

static const struct fake_kernel kernel = {.receive = receive,
                                          .send = send_any,
                                          .map = map_memory,
                                          .map_shared = map_shared,
                                          .make = make_memory,
                                          .wait = wait,
                                          .hung_up = has_hung_up,
                                          .marked = is_marked};

/* ---- the caller ---- */

static void
check_results(door_arg_t *arg, const char *buffer)
{
    MUST(arg->data_size <= arg->rsize);
    MUST(arg->rbuf == buffer || arg->rsize % 4096 == 0);
    if (arg->data_size > 0) {
        MUST(arg->data_ptr == arg->rbuf);
        /* Each page of it, and its end. */
        for (size_t i = 0; i < arg->data_size; i += 4096) {
            seen += (unsigned char)arg->data_ptr[i];
        }
        seen += (unsigned char)arg->data_ptr[arg->data_size - 1];
    }
    MUST(arg->desc_num <= DOOR_FDS_MAX);
    if (arg->desc_num > 0) {
        size_t at = (size_t)((char *)arg->desc_ptr - arg->rbuf);
        MUST(at >= arg->data_size && at <= arg->rsize);
        MUST(arg->desc_num * sizeof(door_desc_t) <= arg->rsize - at);
    }
    for (unsigned i = 0; i < arg->desc_num; i++) {
        MUST((arg->desc_ptr[i].d_attributes & DOOR_DESCRIPTOR) != 0);
        fake_close(arg->desc_ptr[i].d_data.d_desc.d_descriptor);
    }
    if (arg->rbuf != buffer) {
        munmap(arg->rbuf, arg->rsize);
    }
}

/* By the length of the input, the caller itself serves a call, whose time is
 * over or far from it. */
static void
serve_a_call(void)
{
    static struct door plain;
    static struct source src = {.kind = SOURCE_CHANNEL, .door = &plain};
    static struct call mine = {.src = &src, .open = true};

    mine.context.deadline = length & 4 ? UINT64_MAX : 1;
    mine.context.request_id = 7;
    context_stands_in(length & 2 ? &mine : NULL);
}

static void
call_once(void)
{
    char *buffer = malloc(BUFFER);
    uint8_t how = fuzz_byte(&in);
    door_desc_t desc = {.d_attributes = DOOR_DESCRIPTOR};
    door_arg_t arg = {.data_ptr = buffer,
                      .data_size = how % 64,
                      .rbuf = buffer,
                      .rsize = how & 64 ? 16 : BUFFER};

    MUST(buffer != NULL);
    memset(buffer, 'x', BUFFER);
    desc.d_data.d_desc.d_descriptor = door;
    if (how & 128) {
        arg.desc_ptr = &desc;
        arg.desc_num = 1;
    }
    waits = 0;
    serve_a_call();
    bool without = how == 127;
    int e = door_call(door, without ? NULL : &arg);
    MUST(e == 0 || errno > 0);
    MUST(call->has_context == 0 ||
         (call->context.deadline == UINT64_MAX && length & 2));
    if (e == 0 && !without) {
        check_results(&arg, buffer);
    }
    MUST(e < 0 || call->seq == reply->done);
    if (large) {
        free(large);
        large = NULL;
    }
    free(buffer);
}

static void
info_once(void)
{
    struct door_info info;

    if (door_info(door, &info) == 0) {
        MUST(info.di_uniquifier == 7);
        /* A dead door is revoked; a living one may be. */
        MUST(info.di_target != -1 || (info.di_attributes & DOOR_REVOKED) != 0);
        MUST((info.di_attributes & ~(unsigned)DOOR_ATTR_MASK) == 0);
    } else {
        MUST(errno > 0);
    }
}

static void
make_once(void)
{
    if (call) {
        return;
    }
    /* The real one: the linker's stand-in makes none that fstat() knows. */
    door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    MUST(door > 0);
    call = mmap(NULL, DOOR_CHANNEL_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    reply = mmap(NULL, DOOR_CHANNEL_SIZE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST((void *)call != MAP_FAILED && (void *)reply != MAP_FAILED);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    in = (struct fuzz_in){data, data + size};
    make_once();
    fake_begin(&kernel);
    memset(call, 0, 4096);
    memset(reply, 0, 4096);
    reply->parked = size & 1;
    length = size;
    hung_up = false;
    while (in.at < in.end) {
        if (fuzz_byte(&in) % 8 == 7) {
            info_once();
        } else {
            call_once();
        }
    }
    /* The thread keeps its channel until it finds it dead; a call whose hello
     * cannot be sent then leaves none. */
    hung_up = true;
    context_stands_in(NULL);
    door_arg_t none = {0};
    static const uint8_t refuse = 15;
    in = (struct fuzz_in){&refuse, &refuse + 1};
    MUST(door_call(door, &none) < 0 && errno == EBADF);
    MUST(fake_open_count() == 0 && fake_map_count() == 0);
    return 0;
}
