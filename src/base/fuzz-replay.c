/* Runs a fuzz program's function over the files of the folders given, for
 * builds without libFuzzer: what was once found stays found. Ends with 1 if a
 * folder holds nothing. */
#include "base/fuzz.h"

#include <dirent.h>
#include <limits.h>

static void
file_replay(const char *path)
{
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    size_t n;

    MUST(file != NULL);
    n = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    data = (uint8_t *)copy_exact(bytes, n);
    LLVMFuzzerTestOneInput(data, n);
    free(data);
}

static unsigned
folder_replay(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    unsigned n = 0;

    MUST(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        char path[PATH_MAX];

        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            file_replay(path);
            n++;
        }
    }
    closedir(dir);
    return n;
}

int
main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        unsigned n = folder_replay(argv[i]);

        printf("%s: %u files\n", argv[i], n);
        if (n == 0) {
            return 1;
        }
    }
    return argc < 2;
}
