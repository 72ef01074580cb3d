/* A server and its caller as a tutorial of the 1990s has them: old-style
 * functions, fattach() and fdetach() from no header at all, S_ISDOOR from
 * <sys/stat.h>. It must be compiled as the C of the time. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <sys/types.h>
#include <sys/stat.h>

extern int door_create(), door_call(), door_return();

/* What the program knows of door_arg_t. */
struct argument {
    char *data_ptr;
    size_t data_size;
    void *desc_ptr;
    unsigned int desc_num;
    char *rbuf;
    size_t rsize;
};

/* clang-format off */
static void
server(cookie, argp, arg_size, dp, n_desc)
    char *cookie, *argp;
    size_t arg_size;
    void *dp;
    unsigned int n_desc;
/* clang-format on */
{
    long number = 0;

    bcopy(argp, (char *)&number, sizeof number);
    number = number * number;
    door_return((char *)&number, sizeof number, (void *)0, 0);
}

main()
{
    char path[] = "/tmp/period-XXXXXX";
    struct argument arg;
    struct stat st;
    long number = 9, result = 0;
    int fd = mkstemp(path), door, ok = 0;

    close(fd);
    door = door_create(server, (void *)0, 0);
    if (door >= 0 && fattach(door, path) == 0) {
        fd = open(path, O_RDONLY);
        bzero((char *)&arg, sizeof arg);
        arg.data_ptr = (char *)&number;
        arg.data_size = sizeof number;
        arg.rbuf = (char *)&result;
        arg.rsize = sizeof result;
        ok = stat(path, &st) == 0 && S_ISDOOR(st.st_mode) &&
             fstat(fd, &st) == 0 && S_ISDOOR(st.st_mode) &&
             door_call(fd, &arg) == 0 && result == 81 && fdetach(path) == 0;
        close(fd);
    }
    unlink(path);
    printf("%s 1 - a program without declarations\n1..1\n",
           ok ? "ok" : "not ok");
    return ok ? 0 : 1;
}
