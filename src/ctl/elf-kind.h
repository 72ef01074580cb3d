/* What an ELF file is, by its own words: nothing of it is run. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum elf_verdict {
    ELF_NONE,    /* no ELF file */
    ELF_BROKEN,  /* its header says what cannot be */
    ELF_FOREIGN, /* for another processor */
    ELF_PART,    /* an object file, a library, a core: nothing to start */
    ELF_PROGRAM,
    ELF_DOOR,    /* a program that libdoor is part of, or that needs it */
    ELF_FASTCGI, /* a program that needs libfcgi */
};

/* How the file is read: LEN bytes at AT into TO; how many there were, or
 * negative. Less than LEN is the end of the file. */
struct elf_source {
    ssize_t (*read)(void *ctx, void *to, size_t len, uint64_t at);
    void *ctx;
};

/* Judges the file behind SOURCE (borrowed). Whatever its bytes are, it is read
 * less than 1,000 times and 256 KiB in all; what is damaged behind the header
 * of a program makes it a plain ELF_PROGRAM. See elf(5). */
enum elf_verdict elf_judge(const struct elf_source *source);
