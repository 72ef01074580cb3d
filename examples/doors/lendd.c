/*
 * lendd: lends the files of a folder, open for reading.
 *
 *    lendd path folder [user number]
 *
 * Whoever runs as the user of that number (without one: as the user of lendd)
 * may borrow. Others may open the door, since it is open to all, but they get
 * EACCES of it: who calls is what door_ucred() says, not what the caller says.
 *
 *    cc lendd.c -o lendd -ldoor -lpthread
 */
#include <door.h>
#include <stropts.h>
#include <ucred.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include "lend.h"

static uid_t friend_of_ours;

/* May this caller have this file? 0, or why not. */
static int
forbidden(const char *name, size_t size)
{
    ucred_t *who = NULL;
    uid_t uid;

    if (door_ucred(&who) < 0)
        return (errno);
    uid = ucred_geteuid(who);
    ucred_free(who);
    if (uid != friend_of_ours)
        return (EACCES);
    if (size < 2 || size > LEND_MAXNAME || name[size - 1] != '\0' ||
        strlen(name) != size - 1)
        return (EINVAL);
    if (strchr(name, '/') != NULL || name[0] == '.')
        return (EPERM);
    return (0);
}

static void
lend(void *cookie, char *arg, size_t size, door_desc_t *desc, uint_t ndesc)
{
    struct lend_answer answer;
    door_desc_t out;
    struct stat st;
    int fd = -1;

    answer.error = forbidden(arg, size);
    if (answer.error == 0) {
        fd = open(arg, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
        if (fd < 0)
            answer.error = errno;
        else if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
            answer.error = EPERM;
    }
    if (answer.error == 0) {
        memset(&out, 0, sizeof(out));
        out.d_attributes = DOOR_DESCRIPTOR | DOOR_RELEASE;
        out.d_data.d_desc.d_descriptor = fd;
        door_return((char *)&answer, sizeof(answer), &out, 1);
        /* It was not passed, and the caller still waits. */
        answer.error = errno;
    }
    if (fd >= 0)
        close(fd);
    door_return((char *)&answer, sizeof(answer), NULL, 0);
}

int
main(int argc, char **argv)
{
    int door, fd;

    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: lendd path folder [user number]\n");
        return (2);
    }
    friend_of_ours = argc == 4 ? (uid_t)atol(argv[3]) : geteuid();
    door = door_create(lend, NULL, DOOR_REFUSE_DESC);
    if (door < 0) {
        perror("door_create");
        return (1);
    }
    fdetach(argv[1]);
    fd = open(argv[1], O_RDWR | O_CREAT, 0644);
    if (fd < 0 || chdir(argv[2]) < 0 || fattach(door, argv[1]) < 0) {
        perror(argv[1]);
        return (1);
    }
    close(fd);
    for (;;)
        pause();
}
