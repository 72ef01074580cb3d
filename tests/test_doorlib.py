"""libdoor as programs have it: old sources compile and run, and the textbook
programs of examples/doors do what their pages say."""

import os
import select
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


def flags(build):
    """What `pkg-config --cflags --libs door` says, for the build folder; with
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
