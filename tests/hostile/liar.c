/* A server that lies to door_call(): the child of this program serves a door by
 * hand, the parent calls it with libdoor. Every call must end, with an error
 * where the answer cannot be, and cost no descriptor. */
#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "door.h"
#include "hostile.h"

enum lie {
    NO_WELCOME,
    BAD_SIZE,
    BAD_MAGIC,
    BAD_ERROR,
    NO_MEMORY,
    WRONG_MEMORY,
    NO_TURN, /* where one was told of */
    TURN_UNTOLD,
    TURN_WRONG,
    TURN_SHORT,
    TURN_UNSEALED,
    TURN_TO_READ,
    TURN_SEALED, /* against writing */
    TRUTH_WITH_TURN,
    NOISE_IN_TURN,
    TRUTH, /* so that the rest is known to be a test */
    LONG_DATA,
    MANY_FDS,
    FDS_THAT_DO_NOT_COME,
    MEMORY_THAT_DOES_NOT_COME,
    MEMORY_OF_WRONG_KIND,
    NEGATIVE_ERROR,
    HUGE_ERROR,
    DEATH,
    N_LIES
};

/* What door_call may say; 0 for success. */
static bool
is_right(int lie, int e)
{
    switch (lie) {
    case TRUTH:
    case TRUTH_WITH_TURN:
    case NOISE_IN_TURN:
        return e == 0;
    case NO_WELCOME:
    case BAD_SIZE:
    case BAD_MAGIC:
    case BAD_ERROR:
    case NO_MEMORY:
    case WRONG_MEMORY:
    case NO_TURN:
    case TURN_UNTOLD:
    case TURN_WRONG:
    case TURN_SHORT:
    case TURN_UNSEALED:
    case TURN_TO_READ:
    case TURN_SEALED:
        return e == EBADF;
    default:
        return e == EINTR || e == EOVERFLOW || e == EMFILE || e == EBADF;
    }
}

/* Marked as a door's: what a connect() to this name gives looks like one. */
static int
listen_marked(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int n = snprintf(sun.sun_path + 1, sizeof sun.sun_path - 1,
                     DOOR_NAME_PREFIX "%016llx/%08x",
                     (unsigned long long)getpid(), 0u);
    socklen_t len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);

    SURE(bind(fd, (struct sockaddr *)&sun, len) == 0 && listen(fd, 5) == 0);
    int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    SURE(connect(client, (struct sockaddr *)&sun, len) == 0);
    int server = accept(fd, NULL, NULL);
    SURE(server >= 0);
    close(fd);
    SURE(dup2(client, 50) == 50 && dup2(server, 51) == 51);
    close(client);
    close(server);
    return 50;
}

static int
hear_hello(int door, int *fds)
{
    union {
        char room[CMSG_SPACE(sizeof(int) * 8)];
        struct cmsghdr align;
    } control;
    struct door_hello hello;
    struct iovec iov = {&hello, sizeof hello};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof control.room};

    if (recvmsg(door, &msg, 0) != sizeof hello) {
        return -1;
    }
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&msg)), 2 * sizeof(int));
    return 0;
}

static bool
is_in_welcome(int lie)
{
    return lie < TRUTH_WITH_TURN;
}

/* The page for LIE, or -1. */
static int
turn_for(int lie)
{
    int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    char path[32];

    if (lie < TURN_UNTOLD || lie > NOISE_IN_TURN) {
        return -1;
    }
    if (lie == TURN_WRONG) {
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    }
    int fd = memfd_create("turn", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    SURE(fd >= 0 && ftruncate(fd, lie == TURN_SHORT ? 64 : 4096) == 0);
    seals |= lie == TURN_SEALED ? F_SEAL_WRITE : 0;
    SURE(lie == TURN_UNSEALED || fcntl(fd, F_ADD_SEALS, seals) == 0);
    if (lie == TURN_TO_READ) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        SURE(fd >= 0);
    }
    return fd;
}

static void
lie_in_welcome(int lie, int conn, int memory, int turn)
{
    struct door_welcome w = {.magic = DOOR_WIRE_MAGIC,
                             .major = DOOR_WIRE_MAJOR,
                             .size = DOOR_CHANNEL_SIZE,
                             .data_max = SIZE_MAX,
                             .desc_max = INT32_MAX};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fds[2] = {lie == WRONG_MEMORY ? null : memory, turn};

    w.size += lie == BAD_SIZE ? 4096 : 0;
    w.magic += lie == BAD_MAGIC;
    w.error = lie == BAD_ERROR ? -7 : 0;
    if (lie == NO_TURN || (turn >= 0 && lie != TURN_UNTOLD)) {
        w.features = DOOR_FEATURE_TURN;
    }
    say(conn, &w, sizeof w, fds, lie == NO_MEMORY ? 0 : turn >= 0 ? 2 : 1, 0);
}

/* Wakes and words without an answer, for a while. */
static void
make_noise(struct channel_turn *turn)
{
    for (uint32_t i = 0; i < 200; i++) {
        turn->answered = i * 0x01010101u;
        turn->posted = ~i;
        syscall(202 /* futex */, &turn->answered, 1 /* wake */, 1000);
        usleep(50);
    }
}

static void
lie_in_answer(int lie, int conn, struct channel_reply *r,
              struct channel_turn *turn, uint32_t seq)
{
    struct door_note note = {
        .kind = DOOR_NOTE_FDS, .seq = seq, .n_fds = 1, .purpose = 1};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    r->size = lie == LONG_DATA ? DOOR_CHANNEL_AREA + 1 : 5;
    r->n_fds = lie == MANY_FDS ? 5000 : lie == FDS_THAT_DO_NOT_COME ? 3 : 0;
    r->by_memory =
        lie == MEMORY_THAT_DOES_NOT_COME || lie == MEMORY_OF_WRONG_KIND;
    r->error = lie == NEGATIVE_ERROR ? -5 : lie == HUGE_ERROR ? 100000 : 0;
    memcpy((char *)r + 4096, "truth", 5);
    if (lie == MEMORY_OF_WRONG_KIND) {
        r->size = 4096;
        say(conn, &note, sizeof note, &null, 1, 0);
    }
    if (lie == DEATH) {
        _exit(0);
    }
    if (lie == NOISE_IN_TURN) {
        make_noise(turn);
    }
    atomic_store(&r->done, seq);
    if (turn) {
        turn->answered++;
    }
    syscall(202 /* futex */, turn ? &turn->answered : &r->done, 1 /* wake */,
            1000);
}

static void
serve(int lie)
{
    int fds[2], memory;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct channel_reply *r = good_memory(DOOR_CHANNEL_SIZE, &memory);
    while (hear_hello(51, fds) == 0) {
        if (lie == NO_WELCOME) {
            close(fds[0]);
            continue;
        }
        int page = turn_for(lie);
        struct channel_turn *turn = NULL;
        if (page >= 0 && !is_in_welcome(lie)) {
            turn =
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page, 0);
            SURE(turn != MAP_FAILED);
        }
        lie_in_welcome(lie, fds[0], memory, page);
        if (is_in_welcome(lie)) {
            close(fds[0]);
            continue;
        }
        struct channel_call *q =
            mmap(NULL, DOOR_CHANNEL_SIZE, PROT_READ, MAP_SHARED, fds[1], 0);
        SURE(q != MAP_FAILED);
        while (atomic_load(&q->seq) == 0) {
            usleep(100);
        }
        r->taken = 1;
        lie_in_answer(lie, fds[0], r, turn, 1);
    }
    _exit(0);
}

static int
open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    SURE(d != NULL);
    while (readdir(d)) {
        n++;
    }
    closedir(d);
    return n;
}

static void
try_lie(int lie)
{
    char room[64], data[5] = "hello";
    int status, d = listen_marked();
    pid_t pid = fork();

    SURE(pid >= 0);
    if (pid == 0) {
        close(d);
        serve(lie);
    }
    close(51);
    int before = open_fds();
    door_arg_t arg = {
        .data_ptr = data, .data_size = 5, .rbuf = room, .rsize = sizeof room};
    uint64_t began = now_ms();
    int e = door_call(d, &arg) < 0 ? errno : 0;
    if (!is_right(lie, e) || now_ms() - began > 8000 ||
        (e == 0 && (arg.data_size != 5 || memcmp(room, "truth", 5) != 0))) {
        fprintf(stderr, "lie %d: %s after %llu ms\n", lie, strerror(e),
                (unsigned long long)(now_ms() - began));
        exit(1);
    }
    kill(pid, SIGKILL);
    SURE(waitpid(pid, &status, 0) == pid);
    /* One more look at a dead door lets a channel go, if there is one. */
    SURE(door_call(d, NULL) < 0 && errno == EBADF);
    if (open_fds() > before) {
        fprintf(stderr, "lie %d: descriptors were lost\n", lie);
        exit(1);
    }
    close(d);
}

int
main(void)
{
    for (int lie = 0; lie < N_LIES; lie++) {
        try_lie(lie);
    }
    return 0;
}
