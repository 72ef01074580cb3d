/* Who links libdoor serves a door. A program that is linked to the shared
 * library needs it by name (DT_NEEDED); one that was linked to libdoor.a holds
 * the note that lies beside door_create() in it (src/door/note.h), which stays
 * when symbols are stripped. Both are found by the program headers, which the
 * kernel needs too: section headers may be missing.
 *
 * The file may be anything: every number in it is a claim. Offsets are checked
 * by reading, counts and sizes are cut to what real programs have. */
#include "ctl/elf-kind.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>

#include "base/util.h"
#include "door/note.h"

#define HEADERS_MAX 128u
#define NOTES_MAX   4096u /* bytes of one segment */
#define ENTRIES_MAX 512u  /* of the dynamic section */
#define NAME_SIZE   64u   /* longer names are none that we know */

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#define MACHINE EM_NONE
#endif

struct program {
    const struct elf_source *source;
    Elf64_Ehdr head;
    Elf64_Phdr headers[HEADERS_MAX];
    size_t n_headers;
};

static bool
read_all(const struct elf_source *source, void *to, size_t len, uint64_t at)
{
    return at <= INT64_MAX - len &&
           source->read(source->ctx, to, len, at) == (ssize_t)len;
}

/* How many of LEN bytes are there. */
static size_t
read_some(const struct elf_source *source, void *to, size_t len, uint64_t at)
{
    ssize_t n =
        at <= INT64_MAX - len ? source->read(source->ctx, to, len, at) : -1;

    return n > 0 ? MIN_OF((size_t)n, len) : 0;
}

static const Elf64_Phdr *
header_of(const struct program *program, uint32_t type)
{
    for (size_t i = 0; i < program->n_headers; i++) {
        if (program->headers[i].p_type == type) {
            return &program->headers[i];
        }
    }
    return NULL;
}

/* Is our note among the LEN bytes of notes? A note is three numbers, a name and
 * a text, each padded to 4 bytes. */
static bool
notes_have_ours(const unsigned char *notes, size_t len)
{
    size_t at = 0;

    while (len - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        uint64_t name, size;

        memcpy(&note, notes + at, sizeof(note));
        at += sizeof(note);
        name = ROUND_UP((uint64_t)note.n_namesz, 4);
        size = name + ROUND_UP((uint64_t)note.n_descsz, 4);
        if (note.n_namesz == sizeof(DOOR_NOTE_NAME) && name <= len - at &&
            note.n_type == DOOR_NOTE_TYPE &&
            memcmp(notes + at, DOOR_NOTE_NAME, sizeof(DOOR_NOTE_NAME)) == 0) {
            return true;
        }
        if (size > len - at) {
            return false;
        }
        at += (size_t)size;
    }
    return false;
}

static bool
program_has_note(const struct program *program)
{
    for (size_t i = 0; i < program->n_headers; i++) {
        const Elf64_Phdr *header = &program->headers[i];
        unsigned char notes[NOTES_MAX];
        size_t len = (size_t)MIN_OF(header->p_filesz, sizeof(notes));

        if (header->p_type == PT_NOTE) {
            len = read_some(program->source, notes, len, header->p_offset);
            if (notes_have_ours(notes, len)) {
                return true;
            }
        }
    }
    return false;
}

/* Where in the file the byte lies that is at ADDRESS in memory. */
static bool
place_of(const struct program *program, uint64_t address, uint64_t *p_at)
{
    for (size_t i = 0; i < program->n_headers; i++) {
        const Elf64_Phdr *header = &program->headers[i];

        if (header->p_type == PT_LOAD && address >= header->p_vaddr &&
            address - header->p_vaddr < header->p_filesz &&
            header->p_offset <= INT64_MAX) {
            *p_at = header->p_offset + (address - header->p_vaddr);
            return true;
        }
    }
    return false;
}

/* Does the name begin with LIBRARY and ".so"? */
static bool
name_is(const char *name, const char *library)
{
    size_t len = strlen(library);

    return strncmp(name, library, len) == 0 &&
           strncmp(name + len, ".so", 3) == 0;
}

/* What PROGRAM is by the libraries that it needs; and *P_IS_PIE: it says of
 * itself that it is a program, not a library. */
static enum elf_verdict
needed_by(const struct program *program, bool *p_is_pie)
{
    const Elf64_Phdr *header = header_of(program, PT_DYNAMIC);
    enum elf_verdict verdict = ELF_PROGRAM;
    Elf64_Dyn entries[ENTRIES_MAX];
    uint64_t strings = 0;
    size_t n;

    if (header == NULL) {
        return ELF_PROGRAM;
    }
    n = (size_t)MIN_OF(header->p_filesz, sizeof(entries));
    n = read_some(program->source, entries, n, header->p_offset) /
        sizeof(entries[0]);
    for (size_t i = 0; i < n && entries[i].d_tag != DT_NULL; i++) {
        if (entries[i].d_tag == DT_STRTAB &&
            !place_of(program, entries[i].d_un.d_ptr, &strings)) {
            return ELF_PROGRAM;
        }
        *p_is_pie = *p_is_pie || (entries[i].d_tag == DT_FLAGS_1 &&
                                  (entries[i].d_un.d_val & DF_1_PIE) != 0);
    }
    for (size_t i = 0; strings > 0 && i < n && entries[i].d_tag != DT_NULL;
         i++) {
        char name[NAME_SIZE] = "";
        uint64_t at;

        if (entries[i].d_tag != DT_NEEDED ||
            __builtin_add_overflow(strings, entries[i].d_un.d_val, &at)) {
            continue;
        }
        read_some(program->source, name, sizeof(name) - 1, at);
        if (name_is(name, "libdoor")) {
            return ELF_DOOR;
        }
        verdict = name_is(name, "libfcgi") ? ELF_FASTCGI : verdict;
    }
    return verdict;
}

static enum elf_verdict
judge_headers(struct program *program)
{
    bool is_pie = false;
    enum elf_verdict verdict;

    program->n_headers = MIN_OF(program->head.e_phnum, HEADERS_MAX);
    if (program->head.e_phentsize != sizeof(program->headers[0]) ||
        !read_all(program->source, program->headers,
                  program->n_headers * sizeof(program->headers[0]),
                  program->head.e_phoff) ||
        header_of(program, PT_LOAD) == NULL) {
        return ELF_BROKEN;
    }
    verdict = needed_by(program, &is_pie);
    if (program->head.e_type == ET_DYN && !is_pie &&
        header_of(program, PT_INTERP) == NULL) {
        return ELF_PART;
    }
    return program_has_note(program) ? ELF_DOOR : verdict;
}

enum elf_verdict
elf_judge(const struct elf_source *source)
{
    struct program program = {.source = source};
    Elf64_Ehdr *head = &program.head;
    size_t n = read_some(source, head, sizeof(*head), 0);

    if (n < SELFMAG || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0) {
        return ELF_NONE;
    }
    if (n < sizeof(Elf32_Ehdr) || head->e_ident[EI_VERSION] != EV_CURRENT) {
        return ELF_BROKEN;
    }
    if (head->e_ident[EI_DATA] != ELFDATA2LSB) {
        return ELF_FOREIGN; /* the other order of bytes: its type as well */
    }
    if (head->e_type != ET_EXEC && head->e_type != ET_DYN) {
        return ELF_PART;
    }
    if (head->e_ident[EI_CLASS] == ELFCLASS32) {
        return MACHINE == EM_X86_64 && head->e_machine == EM_386 ? ELF_PROGRAM
                                                                 : ELF_FOREIGN;
    }
    if (head->e_ident[EI_CLASS] != ELFCLASS64 || n < sizeof(*head)) {
        return ELF_BROKEN;
    }
    return head->e_machine == MACHINE ? judge_headers(&program) : ELF_FOREIGN;
}
