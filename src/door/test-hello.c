/* What a door's server does with messages that a caller would never send: it
 * answers or is silent, keeps nothing, and serves on. */
#include "test-door.h"

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "door/sys.h"
#include "door/wire.h"
#include "stropts.h"

#define CHANNEL_BYTES (4096u + (8u << 20))

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    door_return(argp, arg_size, NULL, 0);
}

struct world {
    int d, fds;           /* the door; descriptors open without a message */
    int pair[2];          /* a connection; [1] is the server's end */
    int memory, unsealed; /* a channel's */
};

static int
make_memory(size_t size, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const struct channel_call head = {.magic = 0x30726f6f44616443ull,
                                      .major = 1};

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(pwrite(fd, &head, sizeof head, 0), sizeof head);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void
begin(struct world *w)
{
    uint64_t out;

    w->d = door_create(procedure, NULL, 0);
    assert_true(w->d >= 0);
    assert_int_equal(test_call_word(w->d, 1, &out), 0);
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->pair), 0);
    w->memory = make_memory(CHANNEL_BYTES,
                            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
    w->unsealed = make_memory(CHANNEL_BYTES, 0);
    w->fds = test_fds();
}

static void
end(struct world *w)
{
    close(w->d);
    close(w->pair[0]);
    close(w->pair[1]);
    close(w->memory);
    close(w->unsealed);
}

static struct door_hello
hello_of(uint32_t kind)
{
    return (struct door_hello){.magic = 0x30726f6f44616443ull,
                               .major = 1,
                               .kind = kind,
                               .size = CHANNEL_BYTES};
}

/* The door answers, and what came before it was read. */
static void
assert_serves(struct world *w)
{
    door_info_t info;
    uint64_t out = 0;

    assert_int_equal(door_info(w->d, &info), 0);
    assert_int_equal(info.di_target, getpid());
    assert_int_equal(info.di_attributes & DOOR_REVOKED, 0);
    assert_int_equal(test_call_word(w->d, 7, &out), 0);
    assert_int_equal(out, 7);
    assert_true(test_until(test_fds_at_most, &w->fds));
}

/* The error of the welcome on our connection; -1: there is none. */
static int
welcome(struct world *w)
{
    struct door_welcome answer;
    int fd = -1;
    size_t n = 1;

    if (door_receive(w->pair[0], &answer, sizeof answer, &fd, &n, NULL,
                     MSG_DONTWAIT) != 0) {
        return -1;
    }
    if (n == 1) {
        close(fd);
    }
    return answer.error;
}

/* An empty message is not the end of the connection: one caller must not close
 * the door of all. */
static void
test_empty_messages(void **state)
{
    struct world w;
    int fds[12];

    begin(&w);
    for (int i = 0; i < 12; i++) {
        fds[i] = w.pair[1];
    }
    assert_int_equal(send(w.d, "", 0, MSG_NOSIGNAL), 0);
    assert_serves(&w);
    assert_int_equal(door_send(w.d, "", 0, fds, 1), 0);
    assert_serves(&w);
    assert_int_equal(door_send(w.d, "", 0, fds, 12), 0);
    assert_serves(&w);
    end(&w);
}

static void
test_lengths(void **state)
{
    struct door_hello hello[2] = {hello_of(3), hello_of(3)};
    struct world w;

    begin(&w);
    for (size_t len = 1; len <= sizeof hello; len++) {
        assert_int_equal(door_send(w.d, hello, len, &w.pair[1], 1), 0);
        assert_serves(&w);
        assert_int_equal(welcome(&w), len == 64 ? 0 : -1);
    }
    end(&w);
}

/* More descriptors than a hello may bring: none is kept, none is answered. */
static void
test_many_descriptors(void **state)
{
    struct door_hello hello = hello_of(3);
    struct world w;
    int fds[250];

    begin(&w);
    for (int i = 0; i < 250; i++) {
        fds[i] = w.pair[1];
    }
    for (size_t n = 0; n <= 250; n += n < 12 ? 1 : 119) {
        assert_int_equal(door_send(w.d, &hello, sizeof hello, fds, n), 0);
        assert_serves(&w);
        assert_int_equal(welcome(&w), n == 1 ? 0 : -1);
    }
    end(&w);
}

static void
test_words(void **state)
{
    struct door_hello hello;
    struct world w;

    begin(&w);
    hello = hello_of(3);
    hello.magic++;
    assert_int_equal(door_send(w.d, &hello, sizeof hello, &w.pair[1], 1), 0);
    hello = hello_of(3);
    hello.major = 2;
    assert_int_equal(door_send(w.d, &hello, sizeof hello, &w.pair[1], 1), 0);
    assert_serves(&w);
    assert_int_equal(welcome(&w), -1);
    hello = hello_of(99);
    assert_int_equal(door_send(w.d, &hello, sizeof hello, &w.pair[1], 1), 0);
    assert_serves(&w);
    assert_int_equal(welcome(&w), EPROTO);
    hello = hello_of(5); /* detach: this is no attached file */
    assert_int_equal(door_send(w.d, &hello, sizeof hello, &w.pair[1], 1), 0);
    assert_serves(&w);
    assert_int_equal(welcome(&w), EINVAL);
    hello = hello_of(6); /* proof: of nothing */
    assert_int_equal(door_send(w.d, &hello, sizeof hello, &w.pair[1], 1), 0);
    assert_serves(&w);
    assert_int_equal(welcome(&w), -1);
    end(&w);
}

static void
test_sizes_and_seals(void **state)
{
    static const struct {
        uint32_t kind;
        uint64_t size;
        bool sealed;
        int error;
    } table[] = {
        {1, 0, true, -1},
        {1, 4095, true, -1},
        {1, (4ull << 30) + 1, true, -1},
        {1, UINT64_MAX, true, -1},
        {1, CHANNEL_BYTES - 4096, true, EPROTO},
        {1, CHANNEL_BYTES, false, EINVAL},
        {2, CHANNEL_BYTES, false, EINVAL},
        {2, CHANNEL_BYTES - 4096, true, EINVAL},
        {2, CHANNEL_BYTES, true, EPROTO}, /* no ring is laid out in it */
        {1, CHANNEL_BYTES, true, 0},
    };
    struct world w;

    begin(&w);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct door_hello hello = hello_of(table[i].kind);
        int pair[2];
        hello.size = table[i].size;
        assert_int_equal(
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        int fds[2] = {pair[1], table[i].sealed ? w.memory : w.unsealed};
        int ours = w.pair[0];
        assert_int_equal(door_send(w.d, &hello, sizeof hello, fds, 2), 0);
        close(pair[1]);
        door_info_t info;
        assert_int_equal(door_info(w.d, &info), 0);
        w.pair[0] = pair[0];
        assert_int_equal(welcome(&w), table[i].error);
        w.pair[0] = ours;
        close(pair[0]);
        assert_serves(&w);
    }
    end(&w);
}

/* A caller that knows of the page which both sides write is given one, that no
 * one can resize; another caller is not. */
static void
test_turn(void **state)
{
    struct world w;

    begin(&w);
    for (int knows = 0; knows < 2; knows++) {
        struct door_hello hello = hello_of(1);
        struct door_welcome answer;
        struct stat st;
        int pair[2], got[3];
        size_t n = 3;

        hello.features = knows ? 32 : ~32ull;
        assert_int_equal(
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        int fds[2] = {pair[1], w.memory};
        assert_int_equal(door_send(w.d, &hello, sizeof hello, fds, 2), 0);
        close(pair[1]);
        assert_int_equal(door_wait_readable(pair[0], 20000000000u), 0);
        assert_int_equal(
            door_receive(pair[0], &answer, sizeof answer, got, &n, NULL, 0), 0);
        assert_int_equal(answer.error, 0);
        assert_int_equal(answer.features & 32, knows ? 32 : 0);
        assert_int_equal(n, 1 + knows);
        const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
        assert_int_equal(fcntl(got[0], F_GET_SEALS) & 31,
                         all | F_SEAL_FUTURE_WRITE);
        if (knows) {
            assert_int_equal(fstat(got[1], &st), 0);
            assert_int_equal(st.st_size, 4096);
            assert_int_equal(fcntl(got[1], F_GET_SEALS) & 31, all);
        }
        while (n > 0) {
            close(got[--n]);
        }
        close(pair[0]);
        assert_serves(&w);
    }
    end(&w);
}

/* Memory that does not say what it is. */
static void
test_memory_without_magic(void **state)
{
    struct world w;
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
    uint32_t major = 2;

    begin(&w);
    int fd = make_memory(CHANNEL_BYTES, 0);
    assert_int_equal(pwrite(fd, &major, sizeof major, 8), sizeof major);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    struct door_hello hello = hello_of(1);
    int fds[2] = {w.pair[1], fd};
    assert_int_equal(door_send(w.d, &hello, sizeof hello, fds, 2), 0);
    close(fd);
    assert_serves(&w);
    assert_int_equal(welcome(&w), EPROTO);
    end(&w);
}

/* What is no end of a fresh pair would perhaps never hang up: the door's own
 * descriptor, a datagram socket, a connection to a name. */
static void
test_what_is_no_connection(void **state)
{
    struct door_hello hello = hello_of(1);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t);
    struct world w;
    int others[6], ends[2];

    begin(&w);
    others[0] = w.d;
    others[1] = w.memory;
    others[2] = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends),
                     0);
    others[3] = ends[0];
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&name, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    len = sizeof name;
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &len), 0);
    others[4] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(others[4], (struct sockaddr *)&name, len), 0);
    others[5] = listener;
    w.fds = test_fds();
    for (int i = 0; i < 6; i++) {
        int fds[2] = {others[i], w.memory};
        assert_int_equal(door_send(w.d, &hello, sizeof hello, fds, 2), 0);
        assert_serves(&w);
    }
    for (int i = 2; i < 6; i++) {
        close(others[i]);
    }
    close(ends[1]);
    end(&w);
}

/* Takes all descriptors that are left under a limit of 256. How many. */
static int
fill_table(int fds[256], struct rlimit *old)
{
    struct rlimit few;
    int n = 0;

    getrlimit(RLIMIT_NOFILE, old);
    few = *old;
    few.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (n < 256 && (fds[n] = dup(0)) >= 0) {
        n++;
    }
    assert_true(n < 256);
    return n;
}

/* Who connects while the server has no descriptor left waits, and is heard as
 * soon as there is one. */
static void
test_no_room_for_a_connection(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct door_hello hello = hello_of(3);
    char folder[64];
    struct rlimit old;
    struct world w;
    int fds[256];

    begin(&w);
    test_folder(folder);
    snprintf(name.sun_path, sizeof name.sun_path, "%s/door", folder);
    assert_int_equal(door_attach(w.d, name.sun_path, 0600), 0);
    int c = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int n = fill_table(fds, &old);
    assert_int_equal(connect(c, (struct sockaddr *)&name, sizeof name), 0);
    assert_int_equal(door_send(c, &hello, sizeof hello, &w.pair[1], 1), 0);
    /* Some of its turns long: it must not answer. */
    struct pollfd look = {.fd = w.pair[0], .events = POLLIN};
    assert_int_equal(poll(&look, 1, 70), 0);
    while (n > 0) {
        close(fds[--n]);
    }
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(poll(&look, 1, 20000), 1);
    assert_int_equal(welcome(&w), 0);
    close(c);
    assert_int_equal(fdetach(name.sun_path), 0);
    test_folder_remove(folder);
    end(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_messages),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_many_descriptors),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_sizes_and_seals),
        cmocka_unit_test(test_turn),
        cmocka_unit_test(test_memory_without_magic),
        cmocka_unit_test(test_what_is_no_connection),
        cmocka_unit_test(test_no_room_for_a_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
