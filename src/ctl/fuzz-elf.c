/* The reader of ELF files on any bytes: it ends, stays within its bounds, and
 * says the same twice. */
#include "base/fuzz.h"
#include "ctl/elf-kind.h"

#include "base/util.h"

struct file {
    const uint8_t *bytes;
    size_t len;
    size_t n_reads, n_bytes;
};

static ssize_t
read_at(void *ctx, void *to, size_t len, uint64_t at)
{
    struct file *file = ctx;
    size_t n = at < file->len ? MIN_OF(len, file->len - (size_t)at) : 0;

    MUST(at <= INT64_MAX - len);
    file->n_reads++;
    file->n_bytes += len;
    memset(to, 0xee, len); /* it is all the reader's */
    if (n > 0) {
        memcpy(to, file->bytes + at, n);
    }
    return (ssize_t)n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = copy_exact(data, size);
    struct file file = {(const uint8_t *)copy, size, 0, 0};
    struct elf_source source = {read_at, &file};
    enum elf_verdict verdict = elf_judge(&source);

    MUST(verdict >= ELF_NONE && verdict <= ELF_FASTCGI);
    MUST(file.n_reads < 1000 && file.n_bytes <= 1u << 20);
    MUST(verdict == elf_judge(&source));
    MUST((verdict == ELF_NONE) == (size < 4 || memcmp(copy,
                                                      "\x7f"
                                                      "ELF",
                                                      4) != 0));
    free(copy);
    return 0;
}
