/* See trim.h. */
#include "base/trim.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

#define STACK_ONCE (512 << 10) /* deeper it never was */
#define PARTS_MOST 32          /* of a program or library */

/* Takes pages of code and constants out of our table; who touches one gets it
 * again. The list of parts lies in such a page itself. */
static int
drop_code(struct dl_phdr_info *info, size_t size, void *arg)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t n = MIN_OF((size_t)info->dlpi_phnum, (size_t)PARTS_MOST);
    ElfW(Phdr) parts[PARTS_MOST];

    memcpy(parts, info->dlpi_phdr, n * sizeof(parts[0]));
    for (size_t i = 0; i < n; i++) {
        uintptr_t at = info->dlpi_addr + parts[i].p_vaddr;
        uintptr_t begin = at & ~(page - 1);

        if (parts[i].p_type == PT_LOAD && !(parts[i].p_flags & PF_W)) {
            (void)madvise((void *)begin, at + parts[i].p_memsz - begin,
                          MADV_DONTNEED);
        }
    }
    return 0;
}

void
trim_process(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t here = (uintptr_t)__builtin_frame_address(0) & ~(page - 1);

    if (SANITIZED) {
        return;
    }
    (void)malloc_trim(0);
    dl_iterate_phdr(drop_code, NULL);
    /* What the stack once was. Below it the kernel keeps a gap of 1 MB. */
    (void)madvise((void *)(here - STACK_ONCE), STACK_ONCE - page,
                  MADV_DONTNEED);
}
