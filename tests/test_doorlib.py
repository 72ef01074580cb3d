"""libdoor as programs have it: old sources compile and run, and the textbook
programs of examples/doors do what their pages say."""

import os
import subprocess

import pytest

from lib.server import until

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# As they were written: no prototypes, implicit declarations, Solaris threads.
OLD = {
    "implicit.c": r"""
#include <door.h>
#include <stdio.h>
#include <stdlib.h>
#include <fcntl.h>
#include <unistd.h>
#include <string.h>

void servant(void *cookie, char *arg, size_t len, door_desc_t *dp, uint_t n)
{
    long in = *(long *)arg, out = in * in;
    door_return((char *)&out, sizeof (out), NULL, 0);
}

main(int argc, char **argv)
{
    int fd, did, cfd;
    long v = 12;
    door_arg_t da;
    struct stat st;

    did = door_create(servant, 0, 0);
    unlink(argv[1]);
    fd = creat(argv[1], 0644);
    close(fd);
    if (fattach(did, argv[1]) < 0) { perror("fattach"); exit(1); }
    if (stat(argv[1], &st) < 0 || !S_ISDOOR(st.st_mode)) exit(2);
    cfd = open(argv[1], 2);
    memset(&da, 0, sizeof (da));
    da.data_ptr = (char *)&v; da.data_size = sizeof (v);
    da.rbuf = (char *)&v; da.rsize = sizeof (v);
    if (door_call(cfd, &da) < 0) { perror("door_call"); exit(3); }
    printf("%ld\n", v);
    fdetach(argv[1]);
    return (0);
}
""",
    "threads.c": r"""
#include <stdio.h>
#include <strings.h>
#include <thread.h>
#include <ucred.h>
#include <door.h>
#include <stropts.h>
#include <sys/stat.h>

static mutex_t lock = DEFAULTMUTEX;
static cond_t ready = DEFAULTCV;
static int started;
static struct strrecvfd unused;

static void servant(void *cookie, char *arg, size_t len, door_desc_t *dp,
    uint_t n)
{
    thread_t me = thr_self();
    ucred_t *uc = NULL;
    pid_t pid;

    if (door_ucred(&uc) < 0) door_return(NULL, 0, NULL, 0);
    pid = me != 0 ? ucred_getpid(uc) : 0;
    ucred_free(uc);
    door_return((char *)&pid, sizeof (pid), NULL, 0);
}

static void *serve(void *arg)
{
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    mutex_lock(&lock);
    started = 1;
    cond_signal(&ready);
    mutex_unlock(&lock);
    door_return(NULL, 0, NULL, 0);
    return (NULL);
}

static void pool(door_info_t *info)
{
    thread_t id;

    (void) thr_create(NULL, 0, serve, NULL, THR_BOUND | THR_DETACHED, &id);
}

int main(int argc, char **argv)
{
    int d;
    pid_t pid = 0;
    door_arg_t da;

    (void) unused;
    (void) door_server_create(pool);
    d = door_create(servant, NULL, DOOR_UNREF | DOOR_REFUSE_DESC);
    mutex_lock(&lock);
    while (!started) cond_wait(&ready, &lock);
    mutex_unlock(&lock);
    thr_yield();
    bzero(&da, sizeof (da));
    da.rbuf = (char *)&pid; da.rsize = sizeof (pid);
    if (door_call(d, &da) < 0) { perror("door_call"); return (1); }
    printf("%d %d %d\n", pid == getpid(), I_SENDFD != I_RECVFD,
        isastream(d));
    return (0);
}
""",
}


def pkg_config(build):
    """What `pkg-config --cflags --libs door` says of the build folder."""
    folder = os.path.join(build, "meson-uninstalled")
    done = subprocess.run(["pkg-config", "--cflags", "--libs", "door"],
                          env=dict(os.environ, PKG_CONFIG_PATH=folder),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          check=True)
    return done.stdout.decode().split()


def flags(build):
    """What a program is compiled and linked with, for the build folder; with
    its sanitizers."""
    with open(os.path.join(build, "compile_commands.json"),
              encoding="utf-8") as f:
        text = f.read()
    sanitize = [w for w in ("-fsanitize=address,undefined",
                            "-fsanitize=address") if w in text][:1]
    return ["-I" + os.path.join(ROOT, "include"), *sanitize, "-L" + build,
            "-Wl,-rpath," + build]


def compile_with(build, command, source, program):
    done = subprocess.run([*command, *flags(build), source, "-o", program,
                           "-ldoor", "-lpthread"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name,says", [("implicit.c", "144\n"),
                                       ("threads.c", "1 1 0\n")])
def test_old_programs_compile(build, folder, compiler, name, says):
    source, program = (os.path.join(folder, n) for n in (name, "old"))
    with open(source, "w", encoding="utf-8") as f:
        f.write(OLD[name])
    if compiler == "clang" and flags(build)[1:2] != ["-L" + build]:
        pytest.skip("its sanitizers are not those of the library")
    compile_with(build, [compiler, "-std=gnu89", "-w"], source, program)
    done = subprocess.run([program, os.path.join(folder, "old.door")],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, says), done.stderr


TEXTBOOK = os.path.join(ROOT, "examples", "doors")


def textbook(build, folder, name):
    """The program NAME of examples/doors, built as its head says."""
    program = os.path.join(folder, name)
    sanitize = [f for f in flags(build) if f.startswith("-fsanitize")]
    done = subprocess.run(
        ["cc", "-std=gnu89", "-Wall", "-Werror", *sanitize,
         os.path.join(TEXTBOOK, name + ".c"), "-o", program,
         *pkg_config(build), "-lpthread", "-Wl,-rpath," + build],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout.decode()
    return program


def run(*command, **options):
    """(status, output, complaints) of a program."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Daemon:
    """A server of examples/doors, from when its door answers."""

    def __init__(self, *command, ready):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        try:
            until(lambda: ready() or self.process.poll() is not None, 30,
                  "the door")
            assert self.process.poll() is None, self.process.stdout.read()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_squares_with_threads_and_descriptors(build, folder):
    program, path = textbook(build, folder, "squares"), folder + "/squares.door"
    assert run(program, path, "3")[0] == 1  # nobody there
    with Daemon(program, "-s", path,
                ready=lambda: run(program, path, "1")[0] == 0) as server:
        numbers = [str(n) for n in range(-8, 24)]
        status, out, said = run(program, path, *numbers)
        assert status == 0, said
        lines = out.splitlines()
        # What the server wrote onto the caller's descriptor, in any order.
        assert sorted(line for line in lines if "squared" in line) == sorted(
            f"squared {n}" for n in numbers)
        assert [line for line in lines if "=" in line] == [
            f"{n} * {n} = {int(n) ** 2}" for n in numbers]
        fds = os.listdir(f"/proc/{server.pid}/fd")
        for _ in range(3):
            assert run(program, path, *numbers)[0] == 0
        # Those of ended callers go with their channels.
        until(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) <= len(fds))


def test_nscache_ends_when_its_name_goes(build, folder):
    program, path = textbook(build, folder, "nscache"), folder + "/names.door"
    with Daemon(program, "-s", path,
                ready=lambda: run(program, path, "root")[0] == 0) as server:
        assert run(program, path, "root", "daemon", "nobody-of-that-name") == (
            1, "root: 0, remembered\ndaemon: 1\n"
            "nobody-of-that-name: no such user\n", "")
        assert run(program, path, "daemon")[1] == "daemon: 1, remembered\n"
        threads = os.listdir(f"/proc/{server.pid}/task")
        assert len(threads) <= 1 + 4 + 2  # main, the pool, the library's
        assert run(program, "-k", path)[0] == 0
        assert server.wait(30) == 0
        assert server.stdout.read() == b"nobody is left\n"
    status, _, said = run(program, path, "root")
    assert status == 1 and said


def test_lendd_lends_to_its_friends_alone(build, folder):
    server = textbook(build, folder, "lendd")
    program, path = textbook(build, folder, "borrow"), folder + "/lend.door"
    shelf = os.path.join(folder, "shelf")
    os.mkdir(shelf)
    with open(os.path.join(shelf, "book"), "w", encoding="utf-8") as f:
        f.write("a book\n" * 1000)
    os.chmod(os.path.join(shelf, "book"), 0o600)
    os.mkfifo(os.path.join(shelf, "pipe"))
    assert run(program, path, "book")[0] == 1  # no door yet

    def lent():
        return run(program, path, "book") == (0, "a book\n" * 1000, "")

    with Daemon(server, path, shelf, ready=lent):
        for name, why in (("../shelf/book", "Operation not permitted"),
                          ("pipe", "Operation not permitted"),
                          ("none", "No such file or directory"),
                          ("x" * 64, "Invalid argument")):
            assert run(program, path, name) == (1, "", f"{name}: {why}\n")
        assert lent()
        if os.geteuid() == 0:
            os.chmod(folder, 0o755)
            assert run(program, path, "book", user=65534) == (
                1, "", "book: Permission denied\n")
    with Daemon(server, path, shelf, "4711", ready=lambda: run(
            program, path, "book")[2] == "book: Permission denied\n"):
        if os.geteuid() == 0:
            # What it may not open itself is lent to it, open.
            assert run(program, path, "book", user=4711)[1] == \
                "a book\n" * 1000
