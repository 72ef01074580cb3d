/* The state of the process that shims which run commands begin with. */
#include "start.h"

#include "base/util.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define TIME_MAX_S 86400.0

int64_t
start_seconds(const char *text)
{
    char *end;
    double s;

    if (!isdigit((unsigned char)text[0])) {
        return -1;
    }
    s = strtod(text, &end);
    if (*end != '\0' || !(s > 0) || s > TIME_MAX_S) {
        return -1;
    }
    return (int64_t)(s * (double)NS_PER_SEC);
}

int
start_process(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            return -1;
        }
    } while (fd <= 2 && fcntl(fd, F_SETFD, 0) == 0);
    close(fd);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    return 0;
}
