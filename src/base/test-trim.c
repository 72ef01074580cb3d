/* What the start has used is given back, and nothing else: trim.h. */
#include "base/trim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"

#define DEEP ((size_t)256 << 10)

/* kB of the stack that are there. */
static long
stack_kb(void)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    char line[512];
    bool here = false;
    long kb = -1;

    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        here = here || strstr(line, "[stack]") != NULL;
        if (here && sscanf(line, "Rss: %ld kB", &kb) == 1) {
            break;
        }
    }
    fclose(f);
    return kb;
}

/* Not inlined: its frame must be gone when it returns. */
__attribute__((noinline)) static size_t
go_deep(void)
{
    volatile char deep[DEEP];
    size_t sum = 0;

    for (size_t i = 0; i < DEEP; i += 512) {
        deep[i] = (char)(i / 512);
        sum += (size_t)deep[i];
    }
    return sum;
}

static void
a_stack_once_deep_is_given_back(void **state)
{
    char kept[8192];
    char *heap;

    if (SANITIZED) {
        skip();
    }
    heap = malloc(100);
    assert_non_null(heap);
    memset(kept, 'k', sizeof kept);
    memset(heap, 'h', 100);
    assert_true(go_deep() != 1);
    long before = stack_kb();
    assert_true(before >= (long)(DEEP >> 10));
    trim_process();
    assert_true(stack_kb() <= before - (long)(DEEP >> 10) + 64);
    for (size_t i = 0; i < sizeof kept; i++) {
        assert_int_equal(kept[i], 'k');
    }
    assert_int_equal(heap[99], 'h');
    free(heap);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stack_once_deep_is_given_back),
    };

    return cmocka_run_group_tests_name("trim", tests, NULL, NULL);
}
