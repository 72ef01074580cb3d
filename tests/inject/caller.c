/* The calling half of libdoor as a program: opens the door at PATH, asks about
 * it, and calls it with a small argument, with one of 100 KB whose answer needs
 * room of its own, and with a descriptor. 0: all went well; 1: a call failed,
 * and which one is said with its errno. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <door.h>
#include <stropts.h>

static int
fail(const char *what)
{
    fprintf(stderr, "caller: %s: %s\n", what, strerror(errno));
    return 1;
}

/* Calls with SIZE bytes, and FD beside them (-1: none). */
static int
call(int d, size_t size, int fd)
{
    static char data[100000], room[200];
    door_desc_t desc = {.d_attributes = DOOR_DESCRIPTOR};
    door_arg_t arg = {.data_ptr = data,
                      .data_size = size,
                      .rbuf = room,
                      .rsize = sizeof(room)};

    memset(data, 'x', size);
    memcpy(data, "GET / HTTP/1.1\r\n", 16);
    desc.d_data.d_desc.d_descriptor = fd;
    if (fd >= 0) {
        arg.desc_ptr = &desc;
        arg.desc_num = 1;
    }
    if (door_call(d, &arg) < 0) {
        return -1;
    }
    if (arg.data_size < size ||
        memcmp(arg.data_ptr, "HTTP/1.1 200 OK\r\n", 17) != 0) {
        errno = EBADMSG;
        return -1;
    }
    if (arg.rbuf != room) {
        munmap(arg.rbuf, arg.rsize);
    }
    return 0;
}

int
main(int argc, char **argv)
{
    door_info_t info;
    int d = argc == 2 ? door_open(argv[1]) : -1;

    if (d < 0) {
        return fail("door_open");
    }
    if (door_info(d, &info) < 0) {
        return fail("door_info");
    }
    if (call(d, 100, -1) < 0) {
        return fail("a small call");
    }
    if (call(d, 100000, -1) < 0) {
        return fail("a large call");
    }
    if (call(d, 100, 0) < 0) {
        return fail("a call with a descriptor");
    }
    close(d);
    return puts("called") < 0;
}
