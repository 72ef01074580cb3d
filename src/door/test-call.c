/* door_call() and door_return() by value: sizes, result buffers, what is
 * rewritten in the caller's struct, and the errors that need no other process.
 * The caller is a thread that calls its own process's door: the same path as
 * from another process. */
#include "test-door.h"

#include <sys/mman.h>

#define AREA ((size_t)8 << 20)

/* Answers with the arguments themselves. */
static void
echo(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    door_return(argp, arg_size, NULL, 0);
}

/* Arguments: a number of bytes to return, counting up. */
static void
count_up(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
         unsigned int n_desc)
{
    uint64_t n;

    memcpy(&n, argp, sizeof n);
    char *out = malloc(n);
    for (uint64_t i = 0; out && i < n; i++) {
        out[i] = (char)(i * 7 + 1);
    }
    /* The memory is lost to a jump out of here, so it is kept for next time. */
    static _Thread_local char *kept;
    free(kept);
    kept = out;
    door_return(out, n, NULL, 0);
}

static char *
pattern(size_t n, unsigned int seed)
{
    char *p = malloc(n + 1);

    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        p[i] = (char)((i * 31 + (i >> 8) + seed) & 0xff);
    }
    return p;
}

static void
test_sizes(void **state)
{
    static const size_t sizes[] = {
        0,    1,    2,     23,    24,    25,     4095,
        4096, 4097, 65535, 65536, 65537, 100000, 1048576,
    };
    int d = door_create(echo, NULL, 0);

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *in = pattern(sizes[i], (unsigned int)i);
        char *out = malloc(sizes[i] + 1);
        door_arg_t arg = {.data_ptr = in,
                          .data_size = sizes[i],
                          .rbuf = out,
                          .rsize = sizes[i]};
        assert_int_equal(door_call(d, &arg), 0);
        assert_int_equal(arg.data_size, sizes[i]);
        assert_ptr_equal(arg.rbuf, out);
        assert_int_equal(arg.rsize, sizes[i]);
        assert_int_equal(arg.desc_num, 0);
        assert_ptr_equal(arg.data_ptr, sizes[i] > 0 ? out : in);
        if (sizes[i] > 0) {
            assert_memory_equal(out, in, sizes[i]);
        }
        free(in);
        free(out);
    }
    close(d);
}

struct seen {
    char *argp;
    size_t size;
    door_desc_t *dp;
    unsigned int n;
    int first_error;
};

/* Notes what it was called with; tries to return a byte, then nothing. */
static void
note(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
     unsigned int n_desc)
{
    struct seen *seen = cookie;
    char byte = 'b';

    test_reads();
    *seen = (struct seen){argp, arg_size, dp, n_desc, 0};
    door_return(&byte, 1, NULL, 0);
    seen->first_error = errno;
    door_return(NULL, 0, NULL, 0);
}

/* Params NULL: no arguments, and no results are taken. The call goes on after
 * the error in the server. */
static void
test_null_params(void **state)
{
    struct seen seen = {(char *)state, 5, (door_desc_t *)state, 5, 0};
    int d = door_create(note, &seen, 0);

    assert_int_equal(door_call(d, NULL), 0);
    assert_null(seen.argp);
    assert_int_equal(seen.size, 0);
    assert_null(seen.dp);
    assert_int_equal(seen.n, 0);
    assert_int_equal(seen.first_error, E2BIG);
    assert_int_equal(door_call(d, NULL), 0);
    close(d);
}

/* data_size 0: argp is NULL whatever data_ptr was, DOOR_UNREF_DATA too. */
static void
test_no_data_is_null(void **state)
{
    struct seen seen = {(char *)state, 5, (door_desc_t *)state, 5, 0};
    char room[4], other;
    int d = door_create(note, &seen, 0);
    door_arg_t arg = {.data_ptr = &other, .rbuf = room, .rsize = sizeof room};

    assert_int_equal(door_call(d, &arg), 0);
    assert_null(seen.argp);
    assert_int_equal(seen.size, 0);
    assert_null(seen.dp);
    assert_int_equal(arg.data_size, 1);
    assert_ptr_equal(arg.data_ptr, room);
    assert_int_equal(room[0], 'b');
    arg.data_ptr = DOOR_UNREF_DATA;
    arg.data_size = 0;
    assert_int_equal(door_call(d, &arg), 0);
    assert_null(seen.argp);
    close(d);
}

/* The server's copy is its own: writable, aligned to 16. */
static void
scribble(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
         unsigned int n_desc)
{
    uint64_t bad = (uintptr_t)argp % 16;

    memset(argp, 'x', arg_size);
    door_return((char *)&bad, sizeof bad, NULL, 0);
}

static void
test_own_copy(void **state)
{
    char in[300], room[16];
    uint64_t bad = 1;
    int d = door_create(scribble, NULL, 0);

    memset(in, 'a', sizeof in);
    door_arg_t arg = {.data_ptr = in,
                      .data_size = sizeof in,
                      .rbuf = room,
                      .rsize = sizeof room};
    assert_int_equal(door_call(d, &arg), 0);
    memcpy(&bad, room, sizeof bad);
    assert_int_equal(bad, 0);
    for (size_t i = 0; i < sizeof in; i++) {
        assert_int_equal(in[i], 'a');
    }
    close(d);
}

/* Results that do not fit: a new mapping of whole pages, zero behind the data;
 * the old buffer untouched. */
static void
test_large_results(void **state)
{
    static const struct {
        size_t n, rsize, pages;
    } table[] = {
        {1, 0, 1},          {17, 16, 1},       {4095, 64, 1},
        {4096, 64, 1},      {4097, 64, 2},     {4097, 4096, 2},
        {1048576, 64, 256}, {1048577, 0, 257}, {9000000, 64, 2198},
    };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int d = door_create(count_up, NULL, 0);

    assert_int_equal(page, 4096);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint64_t n = table[i].n;
        char old[4096];
        memset(old, 0x55, sizeof old);
        door_arg_t arg = {.data_ptr = (char *)&n,
                          .data_size = sizeof n,
                          .rbuf = table[i].rsize > 0 ? old : NULL,
                          .rsize = table[i].rsize};
        assert_int_equal(door_call(d, &arg), 0);
        assert_int_equal(arg.data_size, n);
        assert_ptr_not_equal(arg.rbuf, old);
        assert_non_null(arg.rbuf);
        assert_int_equal((uintptr_t)arg.rbuf % 4096, 0);
        assert_int_equal(arg.rsize, table[i].pages * 4096);
        assert_ptr_equal(arg.data_ptr, arg.rbuf);
        for (size_t k = 0; k < n; k++) {
            if (arg.rbuf[k] != (char)(k * 7 + 1)) {
                fail_msg("byte %zu of %zu", k, (size_t)n);
            }
        }
        for (size_t k = n; k < arg.rsize; k++) {
            if (arg.rbuf[k] != 0) {
                fail_msg("byte %zu behind %zu is not 0", k, (size_t)n);
            }
        }
        for (size_t k = 0; k < sizeof old; k++) {
            assert_int_equal(old[k], 0x55);
        }
        assert_int_equal(munmap(arg.rbuf, arg.rsize), 0);
    }
    close(d);
}

/* The struct as it came back goes into the next call: data_ptr in rbuf. */
static void
test_reuse(void **state)
{
    char room[128];
    int d = door_create(echo, NULL, 0);

    memcpy(room, "0123456789", 10);
    door_arg_t arg = {
        .data_ptr = room, .data_size = 10, .rbuf = room, .rsize = sizeof room};
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(door_call(d, &arg), 0);
        assert_int_equal(arg.data_size, 10);
        assert_ptr_equal(arg.data_ptr, room);
        assert_memory_equal(room, "0123456789", 10);
    }
    /* And a mapping that a call made is used again while it suffices. */
    uint64_t n = 5000;
    int up = door_create(count_up, NULL, 0);
    arg = (door_arg_t){.data_ptr = (char *)&n, .data_size = sizeof n};
    assert_int_equal(door_call(up, &arg), 0);
    char *map = arg.rbuf;
    for (n = 1; n <= 8192; n *= 2) {
        arg.data_ptr = (char *)&n;
        arg.data_size = sizeof n;
        assert_int_equal(door_call(up, &arg), 0);
        assert_ptr_equal(arg.rbuf, map);
        assert_int_equal(arg.rsize, 8192);
        assert_int_equal(arg.data_size, n);
    }
    munmap(map, 8192);
    close(up);
    close(d);
}

/* Nothing is returned: data_ptr and desc_ptr stay as they were. */
static void
nothing(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
        unsigned int n_desc)
{
    door_return(NULL, 0, NULL, 0);
}

static void
test_empty_result(void **state)
{
    char in[3] = "abc", room[8];
    door_desc_t desc;
    int d = door_create(nothing, NULL, 0);
    door_arg_t arg = {.data_ptr = in,
                      .data_size = 3,
                      .desc_ptr = &desc,
                      .rbuf = room,
                      .rsize = sizeof room};

    assert_int_equal(door_call(d, &arg), 0);
    assert_int_equal(arg.data_size, 0);
    assert_int_equal(arg.desc_num, 0);
    assert_ptr_equal(arg.data_ptr, in);
    assert_ptr_equal(arg.desc_ptr, &desc);
    assert_ptr_equal(arg.rbuf, room);
    assert_int_equal(arg.rsize, sizeof room);
    close(d);
}

/* Arguments over what a server thread's stack would hold, and over what a
 * channel carries. Params stay as they were. */
static void
test_too_big(void **state)
{
    static const size_t sizes[] = {AREA, AREA + 1, (size_t)1 << 32};
    int d = door_create(echo, NULL, 0);
    char *in = mmap(NULL, (size_t)1 << 32, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_ptr_not_equal(in, MAP_FAILED);
    for (int i = 0; i < 3; i++) {
        door_arg_t arg = {.data_ptr = in, .data_size = sizes[i]}, was = arg;
        assert_int_equal(door_call(d, &arg), -1);
        assert_int_equal(errno, E2BIG);
        assert_memory_equal(&arg, &was, sizeof arg);
    }
    uint64_t out = 0;
    assert_int_equal(test_call_word(d, 7, &out), 0);
    assert_int_equal(out, 7);
    munmap(in, (size_t)1 << 32);
    close(d);
}

/* Many threads, each its own numbers, on one door. */
static void *
caller(void *arg)
{
    int d = *(int *)arg;
    uintptr_t bad = 0;

    for (uint64_t i = 0; i < 500; i++) {
        uint64_t in = (uint64_t)(uintptr_t)&bad + i, out = 0;
        bad += test_call_word(d, in, &out) != 0 || out != in;
    }
    return (void *)bad;
}

static void
test_many_callers(void **state)
{
    pthread_t ids[16];
    int d = door_create(echo, NULL, 0);

    for (int i = 0; i < 16; i++) {
        ids[i] = test_thread(caller, &d);
    }
    for (int i = 0; i < 16; i++) {
        void *bad = NULL;
        pthread_join(ids[i], &bad);
        assert_null(bad);
    }
    close(d);
}

/* A thread keeps channels to 32 doors; with more of them each call still goes
 * to the right one. */
static void
which(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
      unsigned int n_desc)
{
    uint64_t out = (uint64_t)(uintptr_t)cookie;

    door_return((char *)&out, sizeof out, NULL, 0);
}

static void
test_many_doors(void **state)
{
    int doors[50];

    test_raise_limit();
    for (int i = 0; i < 50; i++) {
        doors[i] = door_create(which, (void *)(uintptr_t)(i + 1), 0);
        assert_true(doors[i] >= 0);
    }
    for (int turn = 0; turn < 3; turn++) {
        for (uint64_t i = 0; i < 50; i++) {
            uint64_t out = 0;
            assert_int_equal(test_call_word(doors[i], 0, &out), 0);
            assert_int_equal(out, i + 1);
        }
    }
    for (int i = 0; i < 50; i++) {
        close(doors[i]);
    }
}

/* The number of a closed descriptor given to another door calls the other. */
static void
test_number_reused(void **state)
{
    int a = door_create(which, (void *)1, 0);
    int b = door_create(which, (void *)2, 0);
    uint64_t out = 0;

    assert_int_equal(test_call_word(a, 0, &out), 0);
    assert_int_equal(out, 1);
    assert_int_equal(dup2(b, a), a);
    assert_int_equal(test_call_word(a, 0, &out), 0);
    assert_int_equal(out, 2);
    close(a);
    close(b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_null_params),
        cmocka_unit_test(test_no_data_is_null),
        cmocka_unit_test(test_own_copy),
        cmocka_unit_test(test_large_results),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_empty_result),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_many_callers),
        cmocka_unit_test(test_many_doors),
        cmocka_unit_test(test_number_reused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
