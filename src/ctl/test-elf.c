/* ELF files made by hand: good ones, and each lie that a header can tell. */
#include "ctl/elf-kind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <elf.h>

#include "base/util.h"

#if defined(__x86_64__)
#define OURS   62
#define OTHERS 183
#else
#define OURS   183
#define OTHERS 62
#endif

/* A program with four headers, a dynamic section, strings and notes. */
struct image {
    Elf64_Ehdr head;
    Elf64_Phdr headers[4];
    Elf64_Dyn dynamic[4];
    char strings[32];
    struct {
        uint32_t name, text, type;
        char bytes[12];
    } note;
};

struct file {
    const char *bytes;
    size_t len;
};

static ssize_t
read_at(void *ctx, void *to, size_t len, uint64_t at)
{
    const struct file *file = ctx;
    size_t n = at < file->len ? MIN_OF(len, file->len - (size_t)at) : 0;

    if (n > 0) {
        memcpy(to, file->bytes + at, n);
    }
    return (ssize_t)n;
}

static enum elf_verdict
judge(const struct image *image, size_t len)
{
    struct file file = {(const char *)image, len};
    struct elf_source source = {read_at, &file};

    return elf_judge(&source);
}

#define AT(member) offsetof(struct image, member)

static struct image
good(void)
{
    struct image image = {
        .head =
            {
                .e_ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
                .e_type = 3,
                .e_machine = OURS,
                .e_version = 1,
                .e_phoff = AT(headers),
                .e_ehsize = 64,
                .e_phentsize = 56,
                .e_phnum = 4,
            },
        .headers =
            {
                {.p_type = 1, .p_vaddr = 0x10000, .p_filesz = sizeof(image)},
                {.p_type = 2,
                 .p_offset = AT(dynamic),
                 .p_filesz = sizeof(image.dynamic)},
                {.p_type = 3, .p_offset = 1, .p_filesz = 1},
                {.p_type = 4,
                 .p_offset = AT(note),
                 .p_filesz = sizeof(image.note)},
            },
        .dynamic =
            {
                {.d_tag = 5, .d_un.d_ptr = 0x10000 + AT(strings)},
                {.d_tag = 1, .d_un.d_val = 1},
                {.d_tag = 1, .d_un.d_val = 11},
            },
        .strings = "\0libc.so.6\0libm.so.6",
        .note = {4, 4, 1, "GNU\0abcd"},
    };

    return image;
}

static void
test_programs(void **state)
{
    struct image image = good();

    assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
    memcpy(image.strings + 11, "libdoor.so.0", 13);
    assert_int_equal(judge(&image, sizeof(image)), ELF_DOOR);
    memcpy(image.strings + 11, "libfcgi.so.0", 13);
    assert_int_equal(judge(&image, sizeof(image)), ELF_FASTCGI);
    memcpy(image.strings + 11, "libdoors.so", 12);
    assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
    image = good();
    image.note.name = 7;
    memcpy(image.note.bytes, "Cardea\0\0\1\0\0", 12);
    assert_int_equal(judge(&image, sizeof(image)), ELF_DOOR);
    image.note.type = 2;
    assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
}

/* Without an interpreter it is a library, but for a flag. */
static void
test_parts(void **state)
{
    struct image image = good();

    image.headers[2].p_type = 0;
    assert_int_equal(judge(&image, sizeof(image)), ELF_PART);
    image.dynamic[2] =
        (Elf64_Dyn){.d_tag = 0x6ffffffb, .d_un.d_val = 0x08000000};
    assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
    image.head.e_type = 2;
    assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
    image.headers[1].p_type = 0; /* nothing is dynamic in it */
    assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
    image.headers[1].p_type = 2;
    image.head.e_type = 1;
    assert_int_equal(judge(&image, sizeof(image)), ELF_PART);
    image.head.e_type = 4;
    assert_int_equal(judge(&image, sizeof(image)), ELF_PART);
}

static void
test_foreign(void **state)
{
    struct image image = good();

    image.head.e_machine = OTHERS;
    assert_int_equal(judge(&image, sizeof(image)), ELF_FOREIGN);
    image = good();
    image.head.e_ident[5] = 2;
    assert_int_equal(judge(&image, sizeof(image)), ELF_FOREIGN);
    image = good();
    image.head.e_ident[4] = 1;
    image.head.e_machine = 40;
    assert_int_equal(judge(&image, sizeof(image)), ELF_FOREIGN);
}

static void
test_broken(void **state)
{
    struct image image = good();

    image.head.e_ident[4] = 3;
    assert_int_equal(judge(&image, sizeof(image)), ELF_BROKEN);
    image = good();
    image.head.e_ident[6] = 0;
    assert_int_equal(judge(&image, sizeof(image)), ELF_BROKEN);
    image = good();
    image.head.e_phoff = UINT64_MAX - 8;
    assert_int_equal(judge(&image, sizeof(image)), ELF_BROKEN);
    image = good();
    image.head.e_phnum = 0xffff;
    assert_int_equal(judge(&image, sizeof(image)), ELF_BROKEN);
    image = good();
    image.head.e_phentsize = 1;
    assert_int_equal(judge(&image, sizeof(image)), ELF_BROKEN);
    image = good();
    image.headers[0].p_type = 0;
    assert_int_equal(judge(&image, sizeof(image)), ELF_BROKEN);
    assert_int_equal(judge(&image, 3), ELF_NONE);
    assert_int_equal(judge(&image, 4), ELF_BROKEN);
    memcpy(&image, "#!/bin/sh", 9);
    assert_int_equal(judge(&image, sizeof(image)), ELF_NONE);
}

/* Behind a header that is right, nothing is believed, and nothing is refused:
 * the kernel would run it. */
static void
test_lies(void **state)
{
    struct image image;
    uint64_t *const numbers[] = {
        &image.headers[0].p_offset,   &image.headers[0].p_vaddr,
        &image.headers[0].p_filesz,   &image.headers[1].p_offset,
        &image.headers[1].p_filesz,   &image.headers[3].p_offset,
        &image.headers[3].p_filesz,   &image.dynamic[0].d_un.d_val,
        &image.dynamic[1].d_un.d_val,
    };
    static const uint64_t lies[] = {
        0, 1, 0xfffff, INT64_MAX, UINT64_MAX, UINT64_MAX - 0x10000};
    static const uint32_t sizes[] = {0, 5, 0xfffffff0, UINT32_MAX};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        for (size_t j = 0; j < ARRAY_LEN(lies); j++) {
            image = good();
            *numbers[i] = lies[j];
            assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        image = good();
        image.note.name = sizes[i];
        assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
        image = good();
        image.note.text = sizes[i];
        assert_int_equal(judge(&image, sizeof(image)), ELF_PROGRAM);
    }
    image = good();
    for (size_t len = AT(dynamic); len < sizeof(image); len++) {
        assert_int_equal(judge(&image, len), ELF_PROGRAM);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_programs), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_foreign),  cmocka_unit_test(test_broken),
        cmocka_unit_test(test_lies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
