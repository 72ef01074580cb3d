/*
 * borrow: borrows a file of lendd, and prints what it holds.
 *
 *    borrow path name
 *
 *    cc borrow.c -o borrow -ldoor -lpthread
 */
#include <door.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "lend.h"

/* The answer's descriptors are ours now: those that nobody asked for too. Gives
   the first, or -1. */
static int
take(const door_arg_t *args)
{
    uint_t i;

    for (i = 1; i < args->desc_num; i++)
        close(args->desc_ptr[i].d_data.d_desc.d_descriptor);
    return (args->desc_num > 0 ? args->desc_ptr[0].d_data.d_desc.d_descriptor
                               : -1);
}

static int
borrow(int door, char *name)
{
    struct lend_answer answer;
    door_arg_t args;
    char room[256];
    int fd;

    memset(&args, 0, sizeof(args));
    args.data_ptr = name;
    args.data_size = strlen(name) + 1;
    args.rbuf = room;
    args.rsize = sizeof(room);
    if (door_call(door, &args) < 0) {
        perror("door_call");
        return (-1);
    }
    answer.error = -1;
    if (args.data_size == sizeof(answer))
        memcpy(&answer, args.data_ptr, sizeof(answer));
    fd = take(&args);
    if (args.rbuf != room)
        munmap(args.rbuf, args.rsize); /* more came than there was room for */
    if (answer.error == 0 && fd >= 0)
        return (fd);
    fprintf(stderr, "%s: %s\n", name,
            answer.error > 0 ? strerror(answer.error) : "no answer");
    if (fd >= 0)
        close(fd);
    return (-1);
}

int
main(int argc, char **argv)
{
    char buffer[4096];
    struct stat st;
    ssize_t n;
    int door, fd;

    if (argc != 3) {
        fprintf(stderr, "usage: borrow path name\n");
        return (2);
    }
    door = open(argv[1], O_RDONLY);
    if (door < 0 || fstat(door, &st) < 0) {
        perror(argv[1]);
        return (1);
    }
    if (!S_ISDOOR(st.st_mode)) {
        fprintf(stderr, "%s: no door\n", argv[1]);
        return (1);
    }
    fd = borrow(door, argv[2]);
    if (fd < 0)
        return (1);
    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        if (write(1, buffer, (size_t)n) != n)
            return (1);
    }
    close(fd);
    close(door);
    return (n < 0);
}
