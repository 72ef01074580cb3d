/*
 * squares: a server that squares numbers, and its client.
 *
 *    squares -s path            serves at path
 *    squares path number ...    asks for the squares
 *
 * The client has a thread for each number, and all of them call at once. With
 * its number each thread passes a descriptor, onto which the server writes a
 * line of what it did; it comes out at the client.
 *
 *    cc squares.c -o squares -ldoor -lpthread
 */
#include <door.h>
#include <stropts.h>
#include <thread.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAXTHREADS 64

struct job {
    int door;
    long number;
    long square;
    int failed;
};

/* The procedure behind the door. Several threads are in it at once, so it has
   no variable that is not its own. */
static void
square(void *cookie, char *arg, size_t size, door_desc_t *desc, uint_t ndesc)
{
    long n, result;
    char line[80];
    uint_t i;

    if (size != sizeof(n)) {
        /* The descriptors are ours, whatever came with them. */
        for (i = 0; i < ndesc; i++)
            close(desc[i].d_data.d_desc.d_descriptor);
        door_return(NULL, 0, NULL, 0);
        return;
    }
    memcpy(&n, arg, sizeof(n));
    result = (long)((unsigned long)n * (unsigned long)n);
    for (i = 0; i < ndesc; i++) {
        snprintf(line, sizeof(line), "squared %ld\n", n);
        if (write(desc[i].d_data.d_desc.d_descriptor, line, strlen(line)) < 0)
            perror("a caller's descriptor");
        close(desc[i].d_data.d_desc.d_descriptor);
    }
    door_return((char *)&result, sizeof(result), NULL, 0);
}

static int
serve(const char *path)
{
    int door, fd;

    door = door_create(square, NULL, 0);
    if (door < 0) {
        perror("door_create");
        return (1);
    }
    /* There must be a file that the door can be laid over. */
    fdetach(path);
    fd = open(path, O_RDWR | O_CREAT, 0644);
    if (fd < 0 || fattach(door, path) < 0) {
        perror(path);
        return (1);
    }
    close(fd);
    for (;;)
        pause();
}

static void *
ask(void *arg)
{
    struct job *job = arg;
    door_arg_t args;
    door_desc_t out;

    memset(&out, 0, sizeof(out));
    out.d_attributes = DOOR_DESCRIPTOR;
    out.d_data.d_desc.d_descriptor = 1;
    args.data_ptr = (char *)&job->number;
    args.data_size = sizeof(job->number);
    args.desc_ptr = &out;
    args.desc_num = 1;
    args.rbuf = (char *)&job->square;
    args.rsize = sizeof(job->square);
    job->failed = 1;
    if (door_call(job->door, &args) < 0)
        perror("door_call");
    else if (args.data_size != sizeof(job->square))
        fprintf(stderr, "the server gave no square\n");
    else
        job->failed = 0;
    return (NULL);
}

static int
client(const char *path, char **numbers, int n)
{
    static struct job jobs[MAXTHREADS];
    thread_t ids[MAXTHREADS];
    int i, started, door, bad;

    door = open(path, O_RDONLY);
    if (door < 0) {
        perror(path);
        return (1);
    }
    for (started = 0; started < n; started++) {
        jobs[started].door = door;
        jobs[started].number = atol(numbers[started]);
        if (thr_create(NULL, 0, ask, &jobs[started], 0, &ids[started]) != 0)
            break;
    }
    bad = started < n;
    for (i = 0; i < started; i++) {
        thr_join(ids[i], NULL, NULL);
        if (jobs[i].failed)
            bad = 1;
        else
            printf("%ld * %ld = %ld\n", jobs[i].number, jobs[i].number,
                   jobs[i].square);
    }
    close(door);
    return (bad);
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "-s") == 0)
        return (serve(argv[2]));
    if (argc >= 3 && argc - 2 <= MAXTHREADS)
        return (client(argv[1], argv + 2, argc - 2));
    fprintf(stderr, "usage: squares -s path | squares path number ...\n");
    return (2);
}
