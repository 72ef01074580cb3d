/* The mark of a program that serves doors: an ELF note (elf(5)) that is linked
 * into it with libdoor.a, and stays when its symbols are stripped. `cardea
 * serve` looks for it. Its text is the number of the interface, 4 bytes. */
#pragma once

#define DOOR_NOTE_NAME "Cardea" /* with its NUL */
#define DOOR_NOTE_TYPE 1

/* Puts the note into the object file where this stands, once. */
#define DOOR_NOTE                                                              \
    __asm__(".pushsection .note.cardea,\"a\",%note\n"                          \
            ".balign 4\n"                                                      \
            ".long 7, 4, 1\n"                                                  \
            ".asciz \"" DOOR_NOTE_NAME "\"\n"                                  \
            ".balign 4\n"                                                      \
            ".long 1\n"                                                        \
            ".popsection")
