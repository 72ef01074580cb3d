/* door_cred() of callers that lie about who they are. They speak the wire
 * format themselves, as libdoor does not lie. Needs root, to be other users. */
#include "test-door.h"

#include <grp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statvfs.h>

#include "door/sys.h"
#include "door/wire.h"

/* What the procedure tells: the errno of door_cred(), or the effective user. */
struct told {
    int32_t error;
    uid_t euid;
    pid_t pid;
};

static void
tells(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
      unsigned int n_desc)
{
    door_cred_t cred;
    struct told told = {0};

    if (door_cred(&cred) < 0) {
        told.error = errno;
    } else {
        told.euid = cred.dc_euid;
        told.pid = cred.dc_pid;
    }
    door_return((char *)&told, sizeof told, NULL, 0);
}

/* A channel made by hand. In children: they exit with a number where it fails.
 */
struct raw {
    int conn, theirs;
    struct channel_call *call;
    int memory;
    const struct channel_reply *reply;
};

static void
raw_make(struct raw *r)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0) {
        _exit(101);
    }
    r->conn = pair[0];
    r->theirs = pair[1];
    r->call =
        door_memory_make("door-call", DOOR_CHANNEL_SIZE, NULL, &r->memory);
    if (!r->call) {
        _exit(102);
    }
    r->call->magic = DOOR_WIRE_MAGIC;
    r->call->major = DOOR_WIRE_MAJOR;
}

static void
raw_hello(struct raw *r, int d)
{
    struct door_hello hello = {.magic = DOOR_WIRE_MAGIC,
                               .major = DOOR_WIRE_MAJOR,
                               .kind = DOOR_HELLO_CHANNEL,
                               .size = DOOR_CHANNEL_SIZE};
    int fds[2] = {r->theirs, r->memory};

    if (door_send(d, &hello, sizeof hello, fds, 2) != 0) {
        _exit(103);
    }
    close(r->theirs);
}

static void
raw_welcome(struct raw *r)
{
    struct door_welcome w;
    int fd = -1;
    size_t n = 1;

    if (door_wait_readable(r->conn, TEST_LIMIT_NS) != 0 ||
        door_receive(r->conn, &w, sizeof w, &fd, &n, NULL, 0) != 0 ||
        w.error != 0) {
        _exit(104);
    }
    r->reply = door_memory_map(fd, DOOR_CHANNEL_SIZE, NULL);
    if (!r->reply) {
        _exit(105);
    }
}

static struct told
raw_call(struct raw *r)
{
    struct door_note bell = {.kind = DOOR_NOTE_BELL, .seq = 1};
    struct told told;
    int64_t end = test_now() + TEST_LIMIT_NS;

    atomic_store(&r->call->seq, 1);
    door_send(r->conn, &bell, sizeof bell, NULL, 0);
    while (atomic_load(&r->reply->done) != 1) {
        if (test_now() > end) {
            _exit(106);
        }
        usleep(1000);
    }
    if (r->reply->error != 0 || r->reply->size != sizeof told) {
        _exit(107);
    }
    memcpy(&told, (const char *)r->reply + 4096, sizeof told);
    return told;
}

static int
status_of(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static void
become(uid_t uid)
{
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 ||
        setresuid(uid, uid, uid) < 0) {
        _exit(108);
    }
}

/* The same by hand as by libdoor, or the next two would show nothing. */
static void
test_honest(void **state)
{
    int d = door_create(tells, NULL, 0);
    pid_t pid = fork();

    if (pid == 0) {
        struct raw r;
        become(65534);
        raw_make(&r);
        raw_hello(&r, d);
        raw_welcome(&r);
        struct told told = raw_call(&r);
        _exit(told.error != 0        ? told.error
              : told.euid != 65534   ? 1
              : told.pid != getpid() ? 2
                                     : 0);
    }
    assert_int_equal(status_of(pid), 0);
    close(d);
}

/* Who says hello with the connection of another process is not believed: it may
 * end, and its number become another's. */
static void
test_connection_of_another(void **state)
{
    int d = door_create(tells, NULL, 0);
    pid_t pid = fork();

    if (pid == 0) {
        struct raw r;
        raw_make(&r);
        pid_t other = fork();
        if (other == 0) {
            raw_hello(&r, d);
            raw_welcome(&r);
            _exit(raw_call(&r).error);
        }
        close(r.theirs);
        int status = 0;
        waitpid(other, &status, 0);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 109);
    }
    assert_int_equal(status_of(pid), EINVAL);
    close(d);
}

/* A process hands its channel to a child and executes a set-user-id program of
 * root: the child's call is not root's. */
static void
test_executes_another(void **state)
{
    char folder[64], path[96], command[512];
    struct statvfs fs;
    int d = door_create(tells, NULL, 0), go[2];

    test_folder(folder);
    snprintf(path, sizeof path, "%s/root", folder);
    snprintf(command, sizeof command, "cp /bin/sleep %s && chmod 4755 %s", path,
             path);
    assert_int_equal(system(command), 0);
    assert_int_equal(statvfs(path, &fs), 0);
    if ((fs.f_flag & ST_NOSUID) != 0) {
        test_folder_remove(folder);
        skip();
    }
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct raw r;
        become(65534);
        raw_make(&r);
        raw_hello(&r, d);
        raw_welcome(&r);
        pid_t self = getpid();
        if (fork() == 0) {
            char text[64];
            struct stat st = {0};
            snprintf(text, sizeof text, "/proc/%d", (int)self);
            while (stat(text, &st) == 0 && st.st_uid != 0) {
                usleep(1000); /* until it is root's */
            }
            struct told told = raw_call(&r);
            char byte = (char)(told.error != 0 ? told.error : 200);
            _exit(write(go[1], &byte, 1) == 1 ? 0 : 1);
        }
        execl(path, "sleep", "60", (char *)NULL);
        _exit(110);
    }
    close(go[1]);
    unsigned char byte = 0;
    assert_int_equal(read(go[0], &byte, 1), 1);
    assert_int_equal(byte, EINVAL);
    kill(pid, SIGKILL);
    assert_int_equal(status_of(pid), 256 + SIGKILL);
    close(go[0]);
    close(d);
    test_folder_remove(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_honest),
        cmocka_unit_test(test_connection_of_another),
        cmocka_unit_test(test_executes_another),
    };

    if (geteuid() != 0) {
        printf("1..0 # SKIP needs root\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
