/* What a door's server does with bytes and descriptors that arrive: hellos of
 * every kind and length on descriptors of doors and on connections made by
 * name, with descriptors that are memory or anything else; then notes, calls
 * and hang-ups on the connections that were granted. Real sockets and memory;
 * only the threads are missing: the fuzz program is the listening thread, and
 * the one that serves. After each input the same descriptors are open. */
#include "base/fuzz.h"
#include "door.h"
#include "door/items.h"
#include "door/name.h"
#include "door/server.h"
#include "stropts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS_WATCHED 96
#define SOURCES     4
#define MEMORIES    3

enum target { PLAIN, REFUSING, NATIVE, BY_SOCKET, BY_FILE, TARGETS };

/* What a message may carry; from OWN_END on the same for all inputs. */
enum thing {
    OWN_END, /* a fresh connection's */
    MEMORY,  /* [MEMORIES]: a channel's, two rings' */
    UNSEALED = MEMORY + MEMORIES,
    HALF_SEALED,
    PIPE,
    DEVICE,
    PROOF,
    PROOF_BY_PATH,
    EPOLL,
    DOOR,
    DATAGRAM,
    FOLDER,
    THINGS
};

static const size_t memory_sizes[MEMORIES] = {DOOR_CHANNEL_SIZE, 8192, 65536};

static struct fuzz_in in;
static int doors[TARGETS]; /* for the last two: this input's, or -1 */
static int things[THINGS];
static uint8_t *memories[MEMORIES];
static struct thread thread;
static char folder[64], socket_path[96], file_path[96];
static struct sockaddr_un file_name;
static socklen_t file_name_len;
static bool detached; /* or maybe so */

/* Our ends of what was granted. */
static struct {
    int conn; /* -1: none */
    int memory;
} granted[SOURCES];

/* ---- once ---- */

static void
procedure(void *cookie, char *args, size_t size, door_desc_t *descs,
          unsigned int n)
{
    abort(); /* no thread is there to call it */
}

static void
native(void *cookie, struct door_task *task)
{
    abort();
}

static int
sealed(size_t size, int seals, uint8_t **p_map)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    MUST(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    if (p_map) {
        *p_map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        MUST(*p_map != MAP_FAILED);
    }
    MUST(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static void
make_things(void)
{
    int ends[2];
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;

    for (int i = 0; i < MEMORIES; i++) {
        things[MEMORY + i] = sealed(memory_sizes[i], seals, &memories[i]);
    }
    things[UNSEALED] = sealed(DOOR_CHANNEL_SIZE, 0, NULL);
    things[HALF_SEALED] =
        sealed(DOOR_CHANNEL_SIZE, F_SEAL_SHRINK | F_SEAL_GROW, NULL);
    MUST(pipe2(ends, O_CLOEXEC) == 0);
    things[PIPE] = ends[0];
    things[DEVICE] = open("/dev/null", O_RDWR | O_CLOEXEC);
    things[PROOF] = open(file_path, O_RDONLY | O_CLOEXEC);
    things[PROOF_BY_PATH] = open(file_path, O_PATH | O_CLOEXEC);
    things[EPOLL] = epoll_create1(EPOLL_CLOEXEC);
    things[DOOR] = dup(doors[PLAIN]);
    things[DATAGRAM] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    things[FOLDER] = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = MEMORY; i < THINGS; i++) {
        MUST(things[i] > 0);
    }
}

static void
remove_paths(void)
{
    unlink(socket_path);
    unlink(file_path);
    rmdir(folder);
}

static void
make_names(void)
{
    struct stat st;

    snprintf(folder, sizeof folder, "/tmp/fuzz-door-XXXXXX");
    MUST(mkdtemp(folder) != NULL);
    snprintf(socket_path, sizeof socket_path, "%s/s", folder);
    snprintf(file_path, sizeof file_path, "%s/f", folder);
    int fd = open(file_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    MUST(fd >= 0 && fstat(fd, &st) == 0);
    close(fd);
    atexit(remove_paths);
    file_name.sun_family = AF_UNIX;
    int n = snprintf(file_name.sun_path + 1, sizeof file_name.sun_path - 1,
                     "cardea.attach/1/%llx:%llx", (unsigned long long)st.st_dev,
                     (unsigned long long)st.st_ino);
    file_name_len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static void
make_once(void)
{
    if (things[DEVICE] > 0) {
        return;
    }
    make_names();
    /* The server without its thread; one thread that serves is said to be
     * there, so that none is made. */
    door_server.n_cpus = 1;
    MUST(server_open_locked() == 0);
    door_server.running = true;
    door_server.cpus = calloc(1, sizeof *door_server.cpus);
    door_server.n_threads = 1;
    doors[PLAIN] = door_create(procedure, NULL, 0);
    doors[REFUSING] = door_create(procedure, NULL, DOOR_REFUSE_DESC);
    doors[NATIVE] = door_create_native(native, NULL, 0, DOOR_FEATURE_HTTP);
    MUST(doors[PLAIN] > 0 && doors[REFUSING] > 0 && doors[NATIVE] > 0);
    MUST(door_attach(doors[PLAIN], socket_path, 0600) == 0);
    MUST(fattach(doors[PLAIN], file_path) == 0);
    make_things();
}

/* A thread that closes by ending does so a little later (test-close.c tries
 * it); here what is open is looked at once. */
void __wrap_door_close_foreign(int fd);
void __wrap_door_close_connection(int fd);

void
__wrap_door_close_foreign(int fd)
{
    close(fd);
}

void
__wrap_door_close_connection(int fd)
{
    close(fd);
}

/* ---- one message ---- */

static void
turn(void)
{
    for (int i = 0; i < 64; i++) {
        int n = server_turn(door_server.epoll, 0);
        MUST(n >= 0);
        if (n == 0) {
            return;
        }
    }
    MUST(!"the server comes to rest");
}

static int
dial(enum target target)
{
    if (target < BY_SOCKET) {
        return doors[target];
    }
    if (doors[target] < 0) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        struct sockaddr_un sun = {.sun_family = AF_UNIX};
        socklen_t len = sizeof sun;
        MUST(fd >= 0);
        snprintf(sun.sun_path, sizeof sun.sun_path, "%s", socket_path);
        if (target == BY_FILE) {
            sun = file_name;
            len = file_name_len;
        }
        int e = connect(fd, (struct sockaddr *)&sun, len);
        MUST(e == 0 || (detached && target == BY_FILE));
        doors[target] = fd;
        turn();
    }
    return doors[target];
}

static void
send_message(int to, const void *bytes, size_t len, const int *fds, size_t n)
{
    char room[CMSG_SPACE(sizeof(int) * 16)] = {0};
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n > 0) {
        msg.msg_control = room;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    if (sendmsg(to, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        MUST(errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ||
             errno == EAGAIN);
    }
}

/* ---- set-up ---- */

static void
lay_out(void)
{
    struct channel_call *call = (void *)memories[0];

    memset(call, 0, sizeof *call);
    call->magic = DOOR_WIRE_MAGIC;
    call->major = DOOR_WIRE_MAJOR;
    for (int i = 1; i < MEMORIES; i++) {
        struct ring_request *q = (void *)memories[i];
        memset(memories[i], 0, 4096);
        q->magic = DOOR_WIRE_MAGIC;
        q->major = DOOR_WIRE_MAJOR;
        q->n_slots = 8;
        q->entries_off = 512;
        q->order_off = 512 + 8 * sizeof(struct ring_entry);
        q->size = memory_sizes[i];
        q->cpu = -1;
    }
}

static struct door_hello
make_hello(const uint8_t *kinds, size_t n)
{
    struct door_hello hello = {.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = fuzz_byte(&in) % 8};
    uint8_t how = fuzz_byte(&in);

    if (n > 1 && kinds[1] >= MEMORY && kinds[1] < MEMORY + MEMORIES) {
        hello.size = memory_sizes[kinds[1] - MEMORY];
    } else {
        hello.size = DOOR_CHANNEL_SIZE;
    }
    switch (how & 31) {
    case 1:
        hello.magic = fuzz_number(&in, 8);
        break;
    case 2:
        hello.major = (uint32_t)fuzz_length(&in, 1);
        break;
    case 3:
        hello.size = fuzz_length(&in, hello.size);
        break;
    case 4:
        hello.kind = (uint32_t)fuzz_number(&in, 4);
        break;
    }
    hello.features = how >> 5 & 3;
    hello.features |= how & 128 ? DOOR_FEATURE_TURN : 0;
    hello.features |= how & 32 ? DOOR_FEATURE_CONTEXT : 0;
    return hello;
}

static void
keep(int conn, const uint8_t *kinds)
{
    for (int i = 0; i < SOURCES; i++) {
        if (granted[i].conn < 0) {
            granted[i].conn = conn;
            granted[i].memory = kinds[1] - MEMORY;
            return;
        }
    }
    close(conn);
}

/* Reads what the server answered on CONN (ours then, or closed). */
static void
read_welcome(int conn, const struct door_hello *hello, bool whole,
             const uint8_t *kinds, size_t n)
{
    struct door_welcome w;
    int got[2] = {-1, -1}, fd;
    size_t n_fds = 2;
    int e = door_receive(conn, &w, sizeof w, got, &n_fds, NULL, MSG_DONTWAIT);

    if (e != 0) {
        MUST(e == EAGAIN || e == EPIPE);
        close(conn);
        return;
    }
    fd = got[0];
    bool source =
        hello->kind == DOOR_HELLO_CHANNEL || hello->kind == DOOR_HELLO_RING;
    MUST(whole && hello->magic == DOOR_WIRE_MAGIC && hello->major == 1);
    MUST(w.magic == DOOR_WIRE_MAGIC && w.major == 1);
    MUST(w.error >= 0 && w.error < 4096 && w.pid == getpid());
    if (w.error != 0 || hello->kind == DOOR_HELLO_DETACH) {
        MUST(w.error != 0 || detached);
    } else if (hello->kind == DOOR_HELLO_OPEN) {
        uint64_t uniquifier;
        uint32_t attributes;
        MUST(n_fds == 1 && door_is_marked(fd, &uniquifier, &attributes));
        MUST(uniquifier == w.uniquifier &&
             attributes == (w.attributes & ~(uint32_t)DOOR_IS_UNREF));
    } else if (source) {
        struct stat st;
        int memory = kinds[1] - MEMORY;
        MUST(n == 2 && kinds[0] == OWN_END);
        MUST(memory >= 0 && memory < MEMORIES);
        MUST(hello->size == memory_sizes[memory]);
        bool turn = hello->kind == DOOR_HELLO_CHANNEL &&
                    (hello->features & DOOR_FEATURE_TURN) != 0;
        MUST(turn == ((w.features & DOOR_FEATURE_TURN) != 0));
        MUST(n_fds == (turn ? 2 : 1) && fstat(fd, &st) == 0 &&
             (uint64_t)st.st_size == w.size);
        MUST((fcntl(fd, F_GET_SEALS) & F_SEAL_FUTURE_WRITE) != 0);
    } else {
        MUST(hello->kind == DOOR_HELLO_INFO && n_fds == 0);
    }
    while (n_fds > 0) {
        close(got[--n_fds]);
    }
    if (source && w.error == 0) {
        keep(conn, kinds);
    } else {
        close(conn);
    }
}

static void
say_hello(void)
{
    enum target target = fuzz_byte(&in) % TARGETS;
    uint8_t shape = fuzz_byte(&in), kinds[16] = {0};
    size_t n = shape % 8 == 7 ? fuzz_byte(&in) % 16 : shape % 3 + 0u;
    int pair[2], fds[16];

    /* Mostly a connection first. */
    for (size_t i = 0; i < n; i++) {
        kinds[i] = i == 0 && !(shape & 64) ? OWN_END : fuzz_byte(&in) % THINGS;
    }
    struct door_hello hello = make_hello(kinds, n);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    for (size_t i = 0; i < n; i++) {
        fds[i] = kinds[i] == OWN_END ? pair[1] : things[kinds[i]];
    }
    int to = dial(target);
    size_t len = sizeof hello;
    uint8_t bytes[2 * sizeof hello] = {0};
    memcpy(bytes, &hello, sizeof hello);
    if (shape & 128) {
        len = fuzz_byte(&in) % sizeof bytes;
    }
    detached |= target == BY_FILE && hello.kind == DOOR_HELLO_DETACH;
    send_message(to, bytes, len, fds, n);
    close(pair[1]);
    turn();
    read_welcome(pair[0], &hello, len == sizeof hello, kinds, n);
}

/* ---- what is granted ---- */

static void
say_note(int conn)
{
    struct door_note note = {.kind = fuzz_byte(&in) % 4};
    uint8_t shape = fuzz_byte(&in);
    size_t n = shape % 8 == 7 ? fuzz_byte(&in) % 16 : shape % 3 + 0u;
    int fds[16];

    note.seq = shape & 32 ? (uint32_t)fuzz_number(&in, 4) : shape >> 6;
    note.n_fds = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        fds[i] = things[MEMORY + fuzz_byte(&in) % (THINGS - MEMORY)];
    }
    uint8_t bytes[2 * sizeof note] = {0};
    memcpy(bytes, &note, sizeof note);
    send_message(conn, bytes,
                 shape & 16 ? fuzz_byte(&in) % sizeof bytes : sizeof note, fds,
                 n);
}

static void
write_memory(int memory)
{
    struct channel_call *call = (void *)memories[0];
    struct ring_request *q = (void *)memories[memory];
    uint8_t how = fuzz_byte(&in);

    if (memory > 0) {
        struct ring_entry *e = (void *)(memories[memory] + 512);
        e += how % 8;
        e->generation = how;
        e->kind = how >> 6;
        e->args_off = fuzz_length(&in, memory_sizes[memory]);
        e->args_len = fuzz_length(&in, memory_sizes[memory]);
        e->body_off = e->body_len = 0;
        e->n_fds = how >> 3 & 1;
        q->pub += how >> 4 & 3;
        q->asleep = how & 1;
        return;
    }
    call->seq = call->seq + (how & 1);
    call->size = how & 2 ? fuzz_length(&in, DOOR_CHANNEL_AREA) : how;
    call->n_fds = how & 4 ? (uint32_t)fuzz_length(&in, DOOR_FDS_MAX) : how >> 6;
    call->no_results = how >> 3 & 1;
    call->waiting = how >> 4 & 1;
    call->bells += how >> 5 & 1;
    call->has_context = call->seq & 2;
    call->context.deadline = call->seq & 4 ? 1 : UINT64_MAX;
    call->context.request_id = how;
    call->context.spare = how;
}

static void
serve_channel(struct call *c)
{
    door_desc_t descs[4] = {0};
    uint8_t how = fuzz_byte(&in);
    size_t size = how & 1 ? fuzz_number(&in, 2) : how;
    unsigned n = how >> 6;
    static char data[65536];

    MUST(c->size <= DOOR_CHANNEL_AREA && c->n_fds <= DOOR_FDS_MAX);
    MUST(c->context.spare == 0 &&
         (c->context.deadline == 0 || c->context.deadline == UINT64_MAX));
    MUST(c->src->has_context || c->context.request_id == 0);
    MUST(thread.args_size > c->size && thread.args[c->size] == 0);
    MUST(memcmp(thread.args, memories[0] + 4096, c->size) == 0);
    for (unsigned i = 0; i < c->n_fds; i++) {
        int fd = thread.descs[i].d_data.d_desc.d_descriptor;
        MUST((thread.descs[i].d_attributes & DOOR_DESCRIPTOR) != 0);
        MUST(close(fd) == 0);
    }
    for (unsigned i = 0; i < n; i++) {
        descs[i].d_attributes = how & 32 && i == 2 ? 0 : DOOR_DESCRIPTOR;
        descs[i].d_data.d_desc.d_descriptor = things[DEVICE];
    }
    int e = channel_answer(&thread, 0, data, size, descs, n);
    if (e != 0) {
        MUST(c->open);
        MUST(channel_answer(&thread, e, NULL, 0, NULL, 0) == 0);
    }
    MUST(!c->open);
}

/* Serves what a bell has told of. */
static void
serve(void)
{
    struct source *src = door_server.watch;

    if (!src) {
        return;
    }
    door_server.watch = src->watch_next;
    src->watched = false;
    MUST(src->refs >= 1);
    if (src->kind == SOURCE_CHANNEL && channel_has_work(src) &&
        channel_take(src, &thread)) {
        serve_channel(&thread.call);
    } else if (src->kind == SOURCE_RING && ring_has_work(src) &&
               ring_take(src, &thread)) {
        struct call *c = &thread.call;
        MUST(c->task.args_len <= src->request_size);
        for (uint32_t i = 0; i < c->n_fds; i++) {
            MUST(close(thread.descs[i].d_data.d_desc.d_descriptor) == 0);
        }
        c->open = true;
        c->task.body_size = fuzz_byte(&in);
        size_t size = src->door->native ? 0 : c->size;
        int e = ring_answer(&thread, 0, thread.args, size);
        e = e ? ring_answer(&thread, e, NULL, 0) : 0;
        MUST(e == 0 && !c->open);
        ring_announce(src);
    }
    source_unref(src);
}

static void
work(uint8_t op)
{
    int i = op >> 3 & (SOURCES - 1), conn = granted[i].conn;
    const struct door_note bell = {.kind = DOOR_NOTE_BELL};

    if (conn < 0) {
        say_hello();
        return;
    }
    switch (op >> 5) {
    case 0:
        close(conn);
        granted[i].conn = -1;
        break;
    case 1:
        say_note(conn);
        break;
    case 2:
        write_memory(granted[i].memory);
        break;
    default:
        write_memory(granted[i].memory);
        if (op >> 5 > 3) {
            say_note(conn);
        }
        send_message(conn, &bell, sizeof bell, NULL, 0);
        turn();
        serve();
    }
}

/* ---- the whole ---- */

/* Which of the lowest descriptors are open. */
static void
look_at_fds(bool open_fds[FDS_WATCHED])
{
    static struct pollfd all[FDS_WATCHED];

    for (int i = 0; i < FDS_WATCHED; i++) {
        all[i] = (struct pollfd){.fd = i};
    }
    MUST(poll(all, FDS_WATCHED, 0) >= 0);
    for (int i = 0; i < FDS_WATCHED; i++) {
        open_fds[i] = (all[i].revents & POLLNVAL) == 0;
    }
}

static void
end(void)
{
    for (int i = 0; i < SOURCES; i++) {
        if (granted[i].conn >= 0) {
            close(granted[i].conn);
        }
    }
    for (int i = BY_SOCKET; i < TARGETS; i++) {
        if (doors[i] >= 0) {
            close(doors[i]);
        }
    }
    turn();
    items_sweep_locked(); /* no thread is beside us */
    while (door_server.watch) {
        struct source *src = door_server.watch;
        door_server.watch = src->watch_next;
        MUST(src->refs == 1 && src->dead);
        source_unref(src);
    }
    free(thread.args);
    free(thread.descs);
    if (detached) {
        MUST(fattach(doors[PLAIN], file_path) == 0 || errno == EBUSY);
        detached = false;
    }
}

static bool
is_left_open(const bool *before, const bool *after)
{
    for (int i = 0; i < FDS_WATCHED; i++) {
        if (after[i] && !before[i]) {
            return true;
        }
    }
    return false;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool before[FDS_WATCHED], after[FDS_WATCHED];

    make_once();
    turn();
    look_at_fds(before);
    in = (struct fuzz_in){data, data + size};
    memset(&thread, 0, sizeof thread);
    for (int i = 0; i < SOURCES; i++) {
        granted[i].conn = -1;
    }
    doors[BY_SOCKET] = doors[BY_FILE] = -1;
    lay_out();
    for (int steps = 0; in.at < in.end && steps < 24; steps++) {
        uint8_t op = fuzz_byte(&in);
        if (op % 8 < 2) {
            say_hello();
        } else {
            work(op);
        }
    }
    end();
    look_at_fds(after);
    /* The kernel collects sockets that were sent to themselves when it likes:
     * what was left open may close late, also that of the input before. */
    for (int i = 0; i < 1000 && is_left_open(before, after); i++) {
        usleep(1000);
        turn();
        look_at_fds(after);
    }
    MUST(!is_left_open(before, after));
    for (int i = MEMORY; i < THINGS; i++) {
        MUST(fcntl(things[i], F_GETFD) >= 0); /* ours */
    }
    return 0;
}
