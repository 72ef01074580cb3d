/* The state of the process that shims which run commands begin with. */
#include "start.h"
#include "say.h"

#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
start_folder(const char *name, const char *folder)
{
    struct stat st;

    if (folder == NULL || (stat(folder, &st) == 0 && S_ISDIR(st.st_mode))) {
        return 0;
    }
    say(name, NULL, "--folder %s: not a folder", folder);
    return START_EXIT_USAGE;
}

int
start_folder_open(const char *name, const char *option, const char **p_path,
                  int *p_fd)
{
    if (*p_path == NULL) {
        return 0;
    }
    *p_fd = open(*p_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*p_fd < 0) {
        say(name, NULL, "%s %s: %s", option, *p_path, strerror(errno));
        return START_EXIT_USAGE;
    }
    *p_path = realpath(*p_path, NULL);
    if (*p_path == NULL) {
        say(name, NULL, "cannot start: %s", strerror(errno));
        return 1;
    }
    return 0;
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
