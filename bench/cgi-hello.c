/* The smallest program of CGI: what a start of it and its answer cost is the
 * floor of what a command can. */
#include <stdio.h>

int
main(void)
{
    printf("Content-Type: text/plain\nContent-Length: 24\n\n"
           "Well, hello to you too!\n");
    return 0;
}
