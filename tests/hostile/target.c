/* The door that the hostile programs attack, at the path in its argument. It
 * answers with its arguments; to an 'S' and a number with so many bytes. Its
 * procedure knows that it is the target and checks what it is handed: memory
 * that can be read and written from end to end, descriptors that are open. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "door.h"

static void
procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
          unsigned int n_desc)
{
    static _Thread_local char *room;
    unsigned int sum = 0;

    for (size_t i = 0; i < arg_size; i++) {
        sum += (unsigned char)argp[i];
        argp[i] ^= 1;
        argp[i] ^= 1;
    }
    for (unsigned int i = 0; i < n_desc; i++) {
        if (fcntl(dp[i].d_data.d_desc.d_descriptor, F_GETFD) < 0) {
            fprintf(stderr, "target: descriptor %u of %u is not open (%u)\n", i,
                    n_desc, sum);
            abort();
        }
        close(dp[i].d_data.d_desc.d_descriptor);
    }
    if (arg_size > 1 && arg_size < 16 && argp[0] == 'S') {
        char text[16] = "";
        memcpy(text, argp + 1, arg_size - 1);
        size_t n = strtoul(text, NULL, 10);
        n = n < (size_t)32 << 20 ? n : (size_t)32 << 20;
        free(room);
        room = calloc(1, n + 1);
        door_return(room, room ? n : 0, NULL, 0);
    }
    door_return(argp, arg_size, NULL, 0);
    door_return(NULL, 0, NULL, 0);
}

int
main(int argc, char **argv)
{
    int d = door_create(procedure, NULL, 0);

    if (argc != 2 || d < 0 || door_attach(d, argv[1], 0666) < 0) {
        perror("target");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {
    }
    return 0;
}
