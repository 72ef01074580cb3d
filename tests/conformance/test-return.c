/* door_return, and descriptors through doors. Sections 4.1 and 5. */
#include "conformance.h"

static void
returns_at_all(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
}

CASE("door_return: a procedure that returns without it: EINTR, and the door "
     "goes "
     "on",
     without)
{
    int d = door_create(returns_at_all, NULL, 0);

    for (int i = 0; i < 3; i++) {
        FAILS(door_call(d, NULL), EINTR);
    }
}

static void
exits(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    if (size > 0 && argp[0] == 'x') {
        pthread_exit(NULL);
    }
    echo(cookie, argp, size, dp, n);
}

CASE("door_return: pthread_exit in the procedure: EINTR, and the door goes on",
     thread_exits)
{
    char x = 'x';
    door_arg_t arg = {&x, 1, NULL, 0, NULL, 0};
    int d = door_create(exits, NULL, 0);

    FAILS(door_call(d, &arg), EINTR);
    SAME(call_text(d, "and it serves on"), 0);
}

/* Tries what must fail, and then answers with the errno. */
static void (*try_it)(void);

static void
try(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    errno = 0;
    try_it();
    int e = errno;
    door_return((char *)&e, sizeof e, NULL, 0);
    /* The caller wants no results: the word tells, and an empty answer. */
    atomic_store(&shared[2], e);
    atomic_store(&shared[3], errno);
    door_return(NULL, 0, NULL, 0);
}

static int
tried(void (*what)(void))
{
    int e = -1;
    door_arg_t arg = {.rbuf = (char *)&e, .rsize = sizeof e};

    try_it = what;
    SAME(door_call(door_create(try, NULL, 0), &arg), 0);
    SAME((long long)arg.data_size, sizeof e);
    return e;
}

static void
with_1025(void)
{
    static door_desc_t desc[1025];

    door_return(NULL, 0, desc, 1025);
}

static void
with_bad_entry(void)
{
    door_desc_t desc = {.d_attributes = DOOR_DESCRIPTOR,
                        .d_data.d_desc.d_descriptor = 999};

    door_return(NULL, 0, &desc, 1);
}

static void
without_descriptor_bit(void)
{
    door_desc_t desc = {.d_attributes = 0};

    door_return(NULL, 0, &desc, 1);
}

static void
with_hole(void)
{
    char *hole =
        mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    door_return(hole, 100, NULL, 0);
}

static void
with_hole_of_descs(void)
{
    char *hole =
        mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    door_return(NULL, 0, (door_desc_t *)(void *)hole, 1);
}

CASE("door_return: E2BIG for more than 1,024 descriptors, the call stays open",
     too_many)
{
    SAME(tried(with_1025), E2BIG);
}

CASE("door_return: EINVAL for a bad entry, the call stays open", bad_entry)
{
    SAME(tried(with_bad_entry), EINVAL);
    SAME(tried(without_descriptor_bit), EINVAL);
}

CASE("door_return: EFAULT for unreadable results, the call stays open", hole)
{
    SAME(tried(with_hole), EFAULT);
    SAME(tried(with_hole_of_descs), EFAULT);
}

static void
nothing(void)
{
}

CASE("door_return: E2BIG for results that the caller does not want", unwanted)
{
    try_it = nothing;
    SAME(door_call(door_create(try, NULL, 0), NULL), 0);
    SAME(shared[3], E2BIG);
}

static void *
serves(void *arg)
{
    (void)arg;
    atomic_fetch_add(&shared[5], 1);
    door_return(NULL, 0, NULL, 0);
    return NULL;
}

CASE("door_return: a thread's first one makes it a server thread", first)
{
    pthread_t id;
    int d;

    door_server_create(no_threads);
    d = door_create(echo, NULL, 0);
    pthread_create(&id, NULL, serves, NULL);
    SAME(call_text(d, "by the program's own thread"), 0);
    SAME(shared[5], 1);
}

static void
deep(int left)
{
    volatile char room[4096];

    room[0] = (char)left;
    if (left > 0) {
        deep(left - 1);
    }
    door_return((char *)(uintptr_t)room, 1, NULL, 0);
}

static void
goes_deep(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    deep(100);
}

CASE("door_return: each invocation begins with a fresh stack", fresh_stack)
{
    char room[8];
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    int d = door_create(goes_deep, NULL, 0);

    for (int i = 0; i < 5000; i++) { /* 2 GB of stack, if it piled up */
        SAME(door_call(d, &arg), 0);
    }
}

/* ---- descriptors ---- */

static void
one_desc(door_arg_t *arg, door_desc_t *desc, int fd, door_attr_t more)
{
    memset(desc, 0, sizeof *desc);
    desc->d_attributes = DOOR_DESCRIPTOR | more;
    desc->d_data.d_desc.d_descriptor = fd;
    arg->desc_ptr = desc;
    arg->desc_num = 1;
}

CASE("descriptors: a file passed there and back is the same description",
     shared_offset)
{
    char room[256];
    door_desc_t desc;
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    int fd = open("/proc/self/exe", O_RDONLY);

    one_desc(&arg, &desc, fd, 0);
    SAME(door_call(door_create(echo, NULL, 0), &arg), 0);
    SAME(arg.desc_num, 1);
    int back = arg.desc_ptr[0].d_data.d_desc.d_descriptor;
    CHECK(back != fd);
    SAME((long long)arg.desc_ptr[0].d_attributes, DOOR_DESCRIPTOR);
    SAME(lseek(fd, 123, SEEK_SET), 123);
    SAME(lseek(back, 0, SEEK_CUR), 123);
    SAME(fcntl(back, F_GETFD), 0); /* not close-on-exec */
}

CASE("descriptors: the receiver gets the lowest free number", lowest)
{
    char room[256];
    door_desc_t desc;
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    int d = door_create(echo, NULL, 0);

    SAME(call_text(d, "the channel is made"), 0);
    one_desc(&arg, &desc, 0, 0);
    SAME(door_call(d, &arg), 0);
    int got = arg.desc_ptr[0].d_data.d_desc.d_descriptor;
    for (int fd = 0; fd < got; fd++) {
        CHECK(fcntl(fd, F_GETFD) >= 0);
    }
}

CASE("descriptors: a door shows its attributes, its number, and LOCAL where it "
     "is",
     doors_as_descs)
{
    char room[256];
    door_desc_t desc;
    door_info_t info;
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    int d = door_create(echo, NULL, 0);
    int other = door_create(echo, NULL, DOOR_REFUSE_DESC | DOOR_NO_CANCEL);

    one_desc(&arg, &desc, other, 0);
    SAME(door_call(d, &arg), 0);
    SAME(door_info(other, &info), 0);
    SAME((long long)arg.desc_ptr[0].d_attributes,
         DOOR_DESCRIPTOR | DOOR_REFUSE_DESC | DOOR_NO_CANCEL | DOOR_LOCAL);
    CHECK(arg.desc_ptr[0].d_data.d_desc.d_id == info.di_uniquifier);
    SAME(call_text(arg.desc_ptr[0].d_data.d_desc.d_descriptor, "through"), 0);
}

CASE("descriptors: entries that came out go in again as they are", again)
{
    char room[256], room2[256];
    door_desc_t desc;
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    int d = door_create(echo, NULL, 0);

    one_desc(&arg, &desc, d, 0);
    SAME(door_call(d, &arg), 0);
    door_arg_t next = {NULL, 0, arg.desc_ptr, 1, room2, sizeof room2};
    SAME(door_call(d, &next), 0);
    SAME(next.desc_num, 1);
}

static void
takes(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie, (void)argp, (void)size;
    for (uint_t i = 0; i < n; i++) {
        close(dp[i].d_data.d_desc.d_descriptor);
    }
    door_return((char *)&n, sizeof n, NULL, 0);
}

CASE("descriptors: DOOR_RELEASE closes at the sender what was passed", release)
{
    door_desc_t desc;
    door_arg_t arg = {0};
    int fd = open("/dev/null", O_RDONLY);

    one_desc(&arg, &desc, fd, DOOR_RELEASE);
    SAME(door_call(door_create(takes, NULL, 0), &arg), 0);
    FAILS(fcntl(fd, F_GETFD), EBADF);
}

CASE("descriptors: DOOR_RELEASE closes also when the call fails",
     release_failed)
{
    door_desc_t desc[2];
    char byte = 0;
    door_arg_t arg = {0};
    int d = door_create(takes, NULL, DOOR_REFUSE_DESC);
    int fd = open("/dev/null", O_RDONLY);

    one_desc(&arg, desc, fd, DOOR_RELEASE);
    FAILS(door_call(d, &arg), ENOTSUP);
    FAILS(fcntl(fd, F_GETFD), EBADF);
    d = door_create(takes, NULL, 0);
    fd = open("/dev/null", O_RDONLY);
    one_desc(&arg, desc, fd, DOOR_RELEASE);
    desc[1] = (door_desc_t){.d_attributes = 0};
    arg.desc_num = 2;
    FAILS(door_call(d, &arg), EINVAL);
    FAILS(fcntl(fd, F_GETFD), EBADF);
    SAME(door_setparam(d, DOOR_PARAM_DATA_MIN, 10), 0);
    fd = open("/dev/null", O_RDONLY);
    one_desc(&arg, desc, fd, DOOR_RELEASE);
    arg.data_ptr = &byte;
    arg.data_size = 1;
    FAILS(door_call(d, &arg), ENOBUFS);
    FAILS(fcntl(fd, F_GETFD), EBADF);
}

CASE("descriptors: DOOR_RELEASE leaves all open on EBADF and EFAULT",
     release_kept)
{
    char *hole =
        mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    door_desc_t desc;
    door_arg_t arg = {0};
    int fd = open("/dev/null", O_RDONLY), d = door_create(takes, NULL, 0);

    one_desc(&arg, &desc, fd, DOOR_RELEASE);
    FAILS(door_call(0, &arg), EBADF);
    CHECK(fcntl(fd, F_GETFD) >= 0);
    arg.data_ptr = hole;
    arg.data_size = 10;
    FAILS(door_call(d, &arg), EFAULT);
    CHECK(fcntl(fd, F_GETFD) >= 0);
}

CASE("descriptors: 1,000 there and back, and nothing is left", thousand)
{
    static char room[1024 * 24];
    static door_desc_t desc[1000];
    struct rlimit many;
    door_arg_t arg = {NULL, 0, desc, 1000, room, sizeof room};

    getrlimit(RLIMIT_NOFILE, &many);
    many.rlim_cur = many.rlim_max < 5000 ? many.rlim_max : 5000;
    CHECK(setrlimit(RLIMIT_NOFILE, &many) == 0);
    int d = door_create(echo, NULL, 0);
    SAME(call_text(d, "the channel is made"), 0);
    for (int i = 0; i < 1000; i++) {
        desc[i].d_attributes = DOOR_DESCRIPTOR;
        desc[i].d_data.d_desc.d_descriptor = 0;
    }
    int before = count_fds();
    SAME(door_call(d, &arg), 0);
    SAME(arg.desc_num, 1000);
    /* The procedure gave its own copies back and still has them. */
    SAME(count_fds(), before + 2000);
    door_arg_t mine = {NULL, 0, desc, 1000, room, sizeof room};
    for (int i = 0; i < 1000; i++) {
        close(arg.desc_ptr[i].d_data.d_desc.d_descriptor);
        desc[i].d_attributes = DOOR_DESCRIPTOR;
    }
    int counts = door_create(takes, NULL, 0);
    SAME(call_text(counts, ""), 0); /* the channel is made */
    before = count_fds();
    SAME(door_call(counts, &mine), 0);
    SAME(count_fds(), before);
}

/* By another process: memcheck only makes believe that one's own limit is set.
 */
static int
limit_files(rlim_t n)
{
    struct rlimit few;
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        getrlimit(RLIMIT_NOFILE, &few);
        few.rlim_cur = n;
        _exit(prlimit(getppid(), RLIMIT_NOFILE, &few, NULL) < 0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

CASE("descriptors: EMFILE where the server has no room, and it serves on",
     server_full)
{
    door_desc_t desc[20];
    door_arg_t arg = {NULL, 0, desc, 20, NULL, 0};
    int d = door_create(takes, NULL, 0);

    SAME(door_call(d, NULL) == -1 && errno == E2BIG, 0);
    for (int i = 0; i < 20; i++) {
        desc[i].d_attributes = DOOR_DESCRIPTOR;
        desc[i].d_data.d_desc.d_descriptor = 0;
    }
    CHECK(limit_files((rlim_t)count_fds() + 4) == 0);
    int before = count_fds();
    FAILS(door_call(d, &arg), EMFILE);
    SAME(count_fds(), before);
}

static void
handler(int signum)
{
    (void)signum;
}

static void *
passes_pipe(void *arg)
{
    int *ends = arg;
    door_desc_t desc;
    door_arg_t call = {0};

    one_desc(&call, &desc, ends[1], DOOR_RELEASE);
    atomic_store(&shared[6], 1);
    FAILS(door_call(ends[2], &call), EAGAIN);
    return NULL;
}

CASE("descriptors: closed where the caller gave up before a thread took them",
     given_up)
{
    int ends[3];
    char byte;
    pthread_t id;
    struct sigaction action = {.sa_handler = handler};

    sigaction(SIGUSR1, &action, NULL);
    door_server_create(no_threads);
    CHECK(pipe(ends) == 0);
    ends[2] = door_create(takes, NULL, 0);
    pthread_create(&id, NULL, passes_pipe, ends);
    await(&shared[6], 1);
    while (fcntl(ends[1], F_GETFD) >= 0) {
        usleep(1000); /* not yet sent */
    }
    /* Again and again: one may come before it waits. */
    do {
        usleep(20000);
        pthread_kill(id, SIGUSR1);
    } while (pthread_tryjoin_np(id, NULL) != 0);
    SAME(read(ends[0], &byte, 1), 0); /* nobody has the other end any more */
}

static void
hand_over(int conn, int fd)
{
    char room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {room, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct cmsghdr *c;

    msg.msg_control = room;
    msg.msg_controllen = sizeof room;
    c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    CHECK(sendmsg(conn, &msg, 0) == 1);
}

static int
take_over(int conn)
{
    char room[CMSG_SPACE(sizeof(int))], byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fd;

    msg.msg_control = room;
    msg.msg_controllen = sizeof room;
    CHECK(recvmsg(conn, &msg, 0) == 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    return fd;
}

CASE("descriptors: a door goes on after the one who handed it over has gone",
     handed_over)
{
    int d;
    pid_t pid = server_start(echo, 0, &d);
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    pid_t middle = fork();
    if (middle == 0) {
        hand_over(ends[1], d);
        _exit(0);
    }
    SAME(end_of(middle), 0);
    int mine = take_over(ends[0]);
    door_info_t a, b;
    SAME(call_text(mine, "still there"), 0);
    SAME(door_info(mine, &a), 0);
    SAME(door_info(d, &b), 0);
    CHECK(a.di_uniquifier == b.di_uniquifier);
    server_end(pid);
}

CASES(&case_without, &case_thread_exits, &case_too_many, &case_bad_entry,
      &case_hole, &case_unwanted, &case_first, &case_fresh_stack,
      &case_shared_offset, &case_lowest, &case_doors_as_descs, &case_again,
      &case_release, &case_release_failed, &case_release_kept, &case_thousand,
      &case_server_full, &case_handed_over, &case_given_up)
