/* What the tests of libdoor run as another process: a server that does what the
 * first byte of a call says, or a caller. Dies with the test. It prints single
 * bytes: 'R' ready, others as the test told it to. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "door.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int sleepers, wanted, turn;

static void
say(char c)
{
    if (write(1, &c, 1) != 1) {
        _exit(3);
    }
}

/* Sleeps until as many calls as ARGS says are inside at once. */
static void
gather(const char *args)
{
    pthread_mutex_lock(&lock);
    int mine = turn;
    wanted = atoi(args);
    if (++sleepers >= wanted) {
        sleepers = 0;
        turn++;
        pthread_cond_broadcast(&turned);
    }
    while (turn == mine) {
        pthread_cond_wait(&turned, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    uint64_t word = 0;

    switch (argp ? argp[0] : 0) {
    case 'h': /* hangs */
        say('h');
        for (;;) {
            pause();
        }
    case 'k': /* is killed */
        kill(getpid(), SIGKILL);
        break;
    case 'g':
        gather(argp + 1);
        break;
    case 's': /* takes a while */
        usleep(100);
        break;
    case 'p':
        word = (uint64_t)getpid();
        break;
    default: /* echo */
        for (unsigned int i = 0; i < n_desc; i++) {
            close(dp[i].d_data.d_desc.d_descriptor);
        }
        door_return(argp, arg_size, NULL, 0);
    }
    door_return((char *)&word, sizeof word, NULL, 0);
}

static int
serve(const char *path, const char *how)
{
    int d = door_create(procedure, NULL, 0);
    int file = strcmp(how, "file") == 0;

    if (strcmp(how, "few") == 0) { /* nearly no descriptors */
        struct rlimit few = {30, 30};
        setrlimit(RLIMIT_NOFILE, &few);
    }
    if (d < 0 || (file ? fattach(d, path) : door_attach(d, path, 0666)) < 0) {
        perror("test-peer");
        return 1;
    }
    say('R');
    for (;;) {
        pause();
    }
}

/* Calls the door at descriptor 3; its exit status is 0, or an errno. */
static int
call(const char *text)
{
    char room[64];
    door_arg_t arg = {.data_ptr = (char *)(uintptr_t)text,
                      .data_size = strlen(text) + 1,
                      .rbuf = room,
                      .rsize = sizeof room};

    if (door_call(3, &arg) < 0) {
        return errno;
    }
    return arg.data_size == strlen(text) + 1 && strcmp(room, text) == 0 ? 0
                                                                        : 255;
}

/* As another user (UID; "-": this one) does VERB with PATH. Exit status 0, or
 * the errno. */
static int
as_user(const char *verb, const char *path, const char *uid)
{
    int d = -1, e = 0;

    if (strcmp(uid, "-") != 0 &&
        (setgid((gid_t)atoi(uid)) < 0 || setuid((uid_t)atoi(uid)) < 0)) {
        return 254;
    }
    if (strcmp(verb, "fattach") == 0) {
        d = door_create(procedure, NULL, 0);
        e = d < 0 ? 253 : fattach(d, path) < 0 ? errno : 0;
    } else if (strcmp(verb, "fdetach") == 0) {
        e = fdetach(path) < 0 ? errno : 0;
    } else {
        d = door_open(path);
        e = d < 0 ? errno : door_call(d, NULL) < 0 ? errno : 0;
    }
    return e;
}

int
main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc == 4 && strcmp(argv[1], "serve") == 0) {
        return serve(argv[2], argv[3]);
    }
    if (argc == 3 && strcmp(argv[1], "call") == 0) {
        return call(argv[2]);
    }
    if (argc == 4) {
        return as_user(argv[1], argv[2], argv[3]);
    }
    fprintf(stderr, "test-peer is run by the tests\n");
    return 64;
}
