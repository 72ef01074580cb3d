/* A door whose every answer is the lie named in the first argument, at the path
 * in the second or in CARDEA_DOOR. It speaks the wire by hand, so that each
 * word of an answer can be wrong. Nothing in it is parked or attached: then a
 * caller rings its bell for every batch of calls. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "attacks.h"
#include "door/sys.h"
#include "door/wire.h"

#define REPLIES_OFF 0x100000u
#define TEXT_OFF    0x200000u
#define HEAD_OFF    0x201000u
#define REPLY_SIZE  0x400000u
#define SIDES       64
#define FILE_SIZE   65536

/* What stands between us and one worker. */
struct side {
    int conn;
    const struct ring_request *request;
    uint8_t *reply;
    bool flooded;
    uint32_t hoarded;
};

/* What a descriptor that is sent with the answer is. */
enum kind {
    NOTHING,
    GOOD_FILE,
    PIPE,
    SOCKET,
    WRITE_ONLY,
    BY_PATH,
    LINGERING,
};

struct lie {
    const char *name;
    const char *bytes; /* a plain door's answer; NULL: the door is not plain */
    const char *head;  /* field lines */
    uint32_t status, flags;
    enum kind kind;
    uint64_t data_off, data_len, head_off, head_len; /* 0: the truth */
    uint64_t fd_offset, fd_length;
    uint64_t cookie_off, generation_off; /* added to the truth */
    int hoard;                           /* notes that nobody asked for */
    int flood;   /* 1: wakes without end; 2: descriptors without end */
    bool passes; /* says that it takes descriptors (and drops them) */
    bool deaf;   /* reads no notes at all */
    bool claims; /* claims each call twice, and answers none */
};

static const struct lie lies[] = {
    {.name = "truth"},
    {.name = "far-file",
     .flags = RING_REPLY_FD,
     .kind = GOOD_FILE,
     .data_off = 0x600000000000ull,
     .fd_length = 32768},
    {.name = "far-data", .data_off = 1ull << 40, .data_len = 4096},
    {.name = "wrapped-data", .data_off = 4096, .data_len = UINT64_MAX - 100},
    {.name = "far-head", .head_off = UINT64_MAX - 3, .head_len = 4},
    {.name = "other-call", .cookie_off = 1},
    {.name = "other-time", .generation_off = 1},
    {.name = "no-note", .flags = RING_REPLY_FD, .fd_length = 5},
    {.name = "pipe", .flags = RING_REPLY_FD, .kind = PIPE, .fd_length = 5},
    {.name = "socket", .flags = RING_REPLY_FD, .kind = SOCKET},
    {.name = "write-only",
     .flags = RING_REPLY_FD,
     .kind = WRITE_ONLY,
     .fd_length = 5},
    {.name = "by-path",
     .flags = RING_REPLY_FD,
     .kind = BY_PATH,
     .fd_length = 5},
    {.name = "past-end",
     .flags = RING_REPLY_FD,
     .kind = GOOD_FILE,
     .fd_offset = FILE_SIZE - 1,
     .fd_length = 2},
    {.name = "past-all",
     .flags = RING_REPLY_FD,
     .kind = GOOD_FILE,
     .fd_offset = UINT64_MAX,
     .fd_length = 2},
    {.name = "bad-head",
     .head = "bad line",
     .flags = RING_REPLY_FD,
     .kind = GOOD_FILE,
     .fd_length = 100},
    {.name = "bad-status", .status = 99},
    {.name = "framing", .head = "Content-Length: 3\r\n"},
    {.name = "unused-files", .kind = GOOD_FILE},
    {.name = "hoard", .hoard = 3},
    {.name = "lingering", .flags = RING_REPLY_FD, .kind = LINGERING},
    {.name = "lingering-unused", .kind = LINGERING},
    {.name = "flood", .flood = 1},
    {.name = "flood-files", .flood = 2},
    {.name = "plain-file",
     .bytes = "HTTP/1.1 200 OK\r\n\r\nfile\n",
     .flags = RING_REPLY_FD,
     .kind = GOOD_FILE,
     .fd_length = 100},
    {.name = "pass-truth", .bytes = "", .passes = true},
    {.name = "pass-bytes", .bytes = "not asked for", .passes = true},
    {.name = "pass-deaf", .bytes = "", .passes = true, .deaf = true},
    {.name = "pass-claims", .bytes = "", .passes = true, .claims = true},
    {.name = "pass-lies", .bytes = "", .passes = true, .cookie_off = 1},
    {.name = "pass-file", .bytes = "", .passes = true, .kind = GOOD_FILE},
    {.name = "pass-body",
     .bytes = "",
     .passes = true,
     .flags = RING_REPLY_FD,
     .kind = GOOD_FILE,
     .fd_length = 100},
    {.name = "plain-304",
     .bytes = "HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\n"
              "ETag: \"x\"\r\n\r\n"},
    {.name = "plain-no-length",
     .bytes = "HTTP/1.1 200 OK\r\nX-Plain: yes\r\n\r\n"},
};

/* ---- descriptors of all kinds ---- */

static int
good_file(void)
{
    int fd = memfd_create("file", MFD_CLOEXEC);

    SURE(fd >= 0 && ftruncate(fd, FILE_SIZE) == 0);
    return fd;
}

static int
descriptor(enum kind kind)
{
    int pair[2], fd = -1;

    switch (kind) {
    case PIPE:
        SURE(pipe(pair) == 0 && close(pair[1]) == 0);
        return pair[0];
    case SOCKET:
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        break;
    case WRITE_ONLY:
    case BY_PATH: {
        char name[64];
        int file = good_file();
        snprintf(name, sizeof name, "/proc/self/fd/%d", file);
        fd = open(name, kind == BY_PATH ? O_PATH : O_WRONLY);
        close(file);
        break;
    }
    case LINGERING:
        return lingering();
    case NOTHING:
    case GOOD_FILE:
        return good_file();
    }
    SURE(fd >= 0);
    return fd;
}

/* One note with the descriptor FD, which is closed here. */
static void
note_fd(int conn, uint32_t slot, uint64_t cookie, int fd)
{
    struct door_note note = {
        .kind = DOOR_NOTE_FDS, .seq = slot, .cookie = cookie, .n_fds = 1};

    for (int tries = 0; tries < 1000; tries++) {
        if (door_send(conn, &note, sizeof note, &fd, 1) != EAGAIN) {
            break;
        }
        usleep(1000);
    }
    close(fd);
}

/* Descriptors for calls that there are none of, as many as will go. */
static void
hoard(const struct lie *lie, struct side *s)
{
    int fd = good_file(), e = 0;

    for (int i = 0; i < lie->hoard && e == 0; i++) {
        struct door_note note = {.kind = DOOR_NOTE_FDS,
                                 .seq = s->hoarded++ % RING_SLOTS};
        e = door_send(s->conn, &note, sizeof note, &fd, 1);
    }
    close(fd);
}

/* ---- floods ---- */

static void *
flood_wakes(void *arg)
{
    const struct side *s = arg;
    struct door_note wake = {.kind = DOOR_NOTE_WAKE};

    for (uint32_t i = 0;; i++) {
        /* Of wrong sizes too: some are no notes at all. */
        size_t len = i % 7 == 0 ? 1 : sizeof wake;
        if (send(s->conn, &wake, len, MSG_NOSIGNAL) < 0) {
            return NULL;
        }
    }
}

static void *
flood_files(void *arg)
{
    const struct side *s = arg;
    struct door_note note = {.kind = DOOR_NOTE_FDS, .n_fds = 1};
    int fd = good_file(), e = 0;

    while (e == 0 || e == EAGAIN || e == ETOOMANYREFS) {
        note.seq++;
        note.cookie = note.seq * 7919;
        e = door_send(s->conn, &note, sizeof note, &fd, 1);
    }
    close(fd);
    return NULL;
}

static void
begin_flood(const struct lie *lie, struct side *s)
{
    pthread_t thread;

    if (lie->flood != 0 && !s->flooded) {
        s->flooded = true;
        SURE(pthread_create(&thread, NULL,
                            lie->flood == 1 ? flood_wakes : flood_files,
                            s) == 0);
    }
}

/* ---- one answer ---- */

static void
fill(const struct lie *lie, struct side *s, const struct ring_entry *e,
     struct ring_reply *r)
{
    const char *text = lie->bytes ? lie->bytes : "true\n";
    const char *head = lie->head ? lie->head : "";

    memcpy(s->reply + TEXT_OFF, text, strlen(text));
    memcpy(s->reply + HEAD_OFF, head, strlen(head));
    memset(r, 0, sizeof *r);
    r->generation = e->generation + (uint32_t)lie->generation_off;
    r->cookie = e->cookie + lie->cookie_off;
    r->status = lie->status ? lie->status : 200;
    r->flags = lie->flags;
    r->data_off = lie->data_off ? lie->data_off : TEXT_OFF;
    r->data_len = lie->data_len   ? lie->data_len
                  : lie->data_off ? 0
                                  : strlen(text);
    r->head_off = lie->head_off ? lie->head_off : HEAD_OFF;
    r->head_len = lie->head_len ? lie->head_len : strlen(head);
    r->fd_offset = lie->fd_offset;
    r->fd_length = lie->fd_length;
}

static void
answer(const struct lie *lie, struct side *s, uint32_t slot)
{
    const struct ring_request *q = s->request;
    const struct ring_entry *e =
        (const void *)((const char *)q + q->entries_off +
                       slot * sizeof(struct ring_entry));
    struct ring_reply_head *h = (void *)s->reply;
    struct ring_reply *r =
        (struct ring_reply *)(void *)(s->reply + REPLIES_OFF);
    struct door_note wake = {.kind = DOOR_NOTE_WAKE};

    fill(lie, s, e, r + slot);
    if (lie->kind != NOTHING) {
        note_fd(s->conn, slot, e->cookie, descriptor(lie->kind));
    }
    hoard(lie, s);
    begin_flood(lie, s);
    atomic_fetch_xor(&h->done[slot / 64], 1ull << (slot % 64));
    door_send(s->conn, &wake, sizeof wake, NULL, 0);
}

static void
answer_all(const struct lie *lie, struct side *s)
{
    struct ring_reply_head *h = (void *)s->reply;
    const uint32_t *order =
        (const void *)((const char *)s->request + s->request->order_off);

    while (atomic_load(&h->head) != atomic_load(&s->request->pub)) {
        uint32_t slot = order[atomic_load(&h->head) % RING_SLOTS];
        if (lie->claims) {
            atomic_fetch_add(&h->head, 2);
            return;
        }
        atomic_fetch_add(&h->head, 1);
        answer(lie, s, slot % RING_SLOTS);
    }
}

/* ---- setting up ---- */

static void
welcome(const struct lie *lie, struct side *s, int fds[2], size_t size)
{
    struct door_welcome w = {.magic = DOOR_WIRE_MAGIC,
                             .major = DOOR_WIRE_MAJOR,
                             .features = lie->passes  ? DOOR_FEATURE_DESCS
                                         : lie->bytes ? 0
                                                      : DOOR_FEATURE_HTTP,
                             .size = REPLY_SIZE};
    int memory;

    s->conn = fds[0];
    s->request = door_memory_map(fds[1], size, NULL);
    s->reply = door_memory_make("reply", REPLY_SIZE, NULL, &memory);
    SURE(s->request && s->reply);
    struct ring_reply_head *h = (void *)s->reply;
    h->magic = DOOR_WIRE_MAGIC;
    h->major = DOOR_WIRE_MAJOR;
    h->n_slots = RING_SLOTS;
    h->replies_off = REPLIES_OFF;
    h->heap_off = h->size = REPLY_SIZE;
    SURE(door_send(s->conn, &w, sizeof w, &memory, 1) == 0);
    close(memory);
    close(fds[1]);
    /* Blocking, for the floods. */
    SURE(fcntl(s->conn, F_SETFL, 0) == 0);
}

static int
listen_at(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    SURE(fd >= 0 && strlen(path) < sizeof sun.sun_path);
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", path);
    unlink(path);
    SURE(bind(fd, (struct sockaddr *)&sun, sizeof sun) == 0 &&
         chmod(path, 0666) == 0 && listen(fd, 64) == 0);
    return fd;
}

static const struct lie *
lie_named(const char *name)
{
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        if (strcmp(lies[i].name, name) == 0) {
            return &lies[i];
        }
    }
    fprintf(stderr, "no lie has the name %s\n", name);
    exit(64);
}

/* poll() entry 0 listens; each later one is the door's connection until the
 * hello comes, then the side's. */
static void
serve(const struct lie *lie, int listener)
{
    struct pollfd polls[SIDES] = {{.fd = listener, .events = POLLIN}};
    static struct side sides[SIDES];
    nfds_t n = 1;

    for (;;) {
        SURE(poll(polls, n, -1) >= 0 || errno == EINTR);
        for (nfds_t i = 1; i < n; i++) {
            struct door_hello hello;
            struct door_note bell;
            int fds[2];
            size_t n_fds = 2;

            if (polls[i].revents == 0) {
                continue;
            }
            if (!sides[i].request &&
                door_receive(polls[i].fd, &hello, sizeof hello, fds, &n_fds,
                             NULL, 0) == 0 &&
                n_fds == 2) {
                welcome(lie, &sides[i], fds, hello.size);
                polls[i].fd = lie->deaf ? -1 : sides[i].conn;
            } else if (sides[i].request &&
                       recv(sides[i].conn, &bell, sizeof bell, 0) > 0) {
                answer_all(lie, &sides[i]);
            } else {
                polls[i].fd = -1; /* gone */
            }
        }
        if (polls[0].revents != 0 && n < SIDES) {
            polls[n].fd = accept(listener, NULL, NULL);
            polls[n++].events = POLLIN;
        }
    }
}

int
main(int argc, char **argv)
{
    const char *path = argc > 2 ? argv[2] : getenv("CARDEA_DOOR");

    if (argc < 2 || !path) {
        fprintf(stderr, "usage: attack-liar LIE [PATH]\n");
        return 64;
    }
    int listener = listen_at(path);
    puts("ready");
    fflush(stdout);
    serve(lie_named(argv[1]), listener);
}
