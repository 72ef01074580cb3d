/* door_call: arguments, results, errors in their order. Sections 3.1 to 3.5. */
#include "conformance.h"

static void
describe(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    long long told[6] = {argp != NULL,
                         (long long)size,
                         dp != NULL,
                         n,
                         (long long)((uintptr_t)argp % 16),
                         (long long)((uintptr_t)dp % 8)};

    (void)cookie;
    door_return((char *)told, sizeof told, NULL, 0);
}

static void
ask(int d, door_arg_t *arg, long long *told)
{
    SAME(door_call(d, arg), 0);
    SAME((long long)arg->data_size, 48);
    memcpy(told, arg->data_ptr, 48);
}

CASE("door_call: a call without arguments and results", empty)
{
    int d = door_create(echo, NULL, 0);

    SAME(door_call(d, NULL), 0);
}

CASE("door_call: argp is NULL when data_size is 0, dp without descriptors",
     nulls)
{
    char text[] = "not looked at", room[64];
    door_desc_t none[1];
    door_arg_t arg = {text, 0, none, 0, room, sizeof room};
    long long told[6];

    ask(door_create(describe, NULL, 0), &arg, told);
    SAME(told[0], 0);
    SAME(told[1], 0);
    SAME(told[2], 0);
    SAME(told[3], 0);
}

CASE("door_call: arguments are the procedure's own, aligned to 16 bytes",
     aligned)
{
    char text[] = "xabc", room[64];
    long long told[6];
    int d = door_create(describe, NULL, 0);

    for (size_t i = 0; i < 4; i++) {
        door_arg_t arg = {text + i, 1, NULL, 0, room, sizeof room};
        ask(d, &arg, told);
        SAME(told[0], 1);
        SAME(told[1], 1);
        SAME(told[4], 0);
    }
}

static void
scribble(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    (void)cookie;
    (void)dp;
    (void)n;
    memset(argp, '#', size);
    door_return(argp, size, NULL, 0);
}

CASE("door_call: what the procedure writes to its arguments stays there",
     own_copy)
{
    char text[] = "mine", room[16];
    door_arg_t arg = {text, 5, NULL, 0, room, sizeof room};

    SAME(door_call(door_create(scribble, NULL, 0), &arg), 0);
    SAME(strcmp(text, "mine"), 0);
    SAME(memcmp(room, "#####", 5), 0);
}

static void
is_unref_data(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    char answer = argp == DOOR_UNREF_DATA ? 'y' : 'n';

    (void)cookie, (void)size, (void)dp, (void)n;
    door_return(&answer, 1, NULL, 0);
}

CASE("door_call: DOOR_UNREF_DATA cannot be forged", forged)
{
    char room[8];
    door_arg_t arg = {(char *)DOOR_UNREF_DATA, 0, NULL, 0, room, sizeof room};

    SAME(door_call(door_create(is_unref_data, NULL, 0), &arg), 0);
    SAME(room[0], 'n');
}

CASE("door_call: EBADF for what is no descriptor, or no door", not_a_door)
{
    int ends[2], file = open("/dev/null", O_RDONLY), d;

    CHECK(pipe(ends) == 0);
    int table[] = {-1,   99,      INT_MAX, INT_MIN,   0,
                   file, ends[0], ends[1], DOOR_QUERY};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        FAILS(door_call(table[i], NULL), EBADF);
    }
    d = door_create(echo, NULL, 0);
    close(d);
    FAILS(door_call(d, NULL), EBADF);
}

CASE("door_call: ENOBUFS below DATA_MIN and above DATA_MAX", data_limits)
{
    char bytes[64];
    door_arg_t arg = {bytes, 0, NULL, 0, bytes, sizeof bytes};
    int d = door_create(echo, NULL, 0);

    SAME(door_call(d, &arg), 0);
    SAME(door_setparam(d, DOOR_PARAM_DATA_MIN, 8), 0);
    SAME(door_setparam(d, DOOR_PARAM_DATA_MAX, 16), 0);
    for (size_t size = 0; size < 32; size++) {
        arg = (door_arg_t){bytes, size, NULL, 0, bytes, sizeof bytes};
        if (size < 8 || size > 16) {
            FAILS(door_call(d, &arg), ENOBUFS);
        } else {
            SAME(door_call(d, &arg), 0);
        }
    }
}

CASE("door_call: ENOTSUP for descriptors to DOOR_REFUSE_DESC", refuses)
{
    door_desc_t desc = {.d_attributes = DOOR_DESCRIPTOR};
    door_arg_t arg = {.desc_ptr = &desc, .desc_num = 1};

    FAILS(door_call(door_create(echo, NULL, DOOR_REFUSE_DESC), &arg), ENOTSUP);
}

CASE("door_call: ENFILE above DESC_MAX", desc_limit)
{
    door_desc_t desc[3] = {{0}};
    door_arg_t arg = {.desc_ptr = desc, .desc_num = 3};
    int d = door_create(echo, NULL, 0);

    SAME(door_setparam(d, DOOR_PARAM_DESC_MAX, 2), 0);
    FAILS(door_call(d, &arg), ENFILE);
}

CASE("door_call: E2BIG for more than 1,024 descriptors", many_descs)
{
    static door_desc_t desc[1025];
    door_arg_t arg = {.desc_ptr = desc, .desc_num = 1025};

    FAILS(door_call(door_create(echo, NULL, 0), &arg), E2BIG);
}

static void *
serve_here(void *arg)
{
    (void)arg;
    door_return(NULL, 0, NULL, 0);
    return NULL;
}

static void
tiny_pool(door_info_t *info)
{
    pthread_attr_t attr;
    pthread_t id;

    (void)info;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    pthread_create(&id, &attr, serve_here, NULL);
}

CASE("door_call: E2BIG beyond the stack of the serving thread", small_stack)
{
    /* 256 KiB less a 32nd of it, less 512. */
    const size_t most = 256 * 1024 - 8 * 1024 - 512;
    char *bytes = calloc(1, 512 * 1024);
    door_arg_t arg = {bytes, most, NULL, 0, NULL, 0};

    if (is_under_tsan()) {
        return;
    }
    door_server_create(tiny_pool);
    int d = door_create(echo, NULL, 0);
    arg.rbuf = bytes;
    arg.rsize = 512 * 1024;
    SAME(door_call(d, &arg), 0);
    arg.data_size = most + 1;
    FAILS(door_call(d, &arg), E2BIG);
    SAME(call_text(d, "and it serves on"), 0);
}

CASE("door_call: EINVAL for an entry that is no open descriptor", bad_entries)
{
    int d = door_create(echo, NULL, 0);
    door_desc_t table[] = {
        {.d_attributes = 0},
        {.d_attributes = DOOR_RELEASE},
        {.d_attributes = DOOR_DESCRIPTOR, .d_data.d_desc.d_descriptor = -1},
        {.d_attributes = DOOR_DESCRIPTOR, .d_data.d_desc.d_descriptor = 999},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        door_arg_t arg = {.desc_ptr = &table[i], .desc_num = 1};
        FAILS(door_call(d, &arg), EINVAL);
    }
    SAME(call_text(d, "and it serves on"), 0);
}

CASE("door_call: errors come in the order of the page", order)
{
    static door_desc_t desc[1025];
    char byte = 0;
    door_arg_t arg = {&byte, 1, desc, 1025, NULL, 0};
    int d = door_create(echo, NULL, DOOR_REFUSE_DESC);
    int e = door_create(echo, NULL, 0);

    SAME(door_setparam(d, DOOR_PARAM_DATA_MIN, 2), 0);
    FAILS(door_call(-1, &arg), EBADF);
    FAILS(door_call(d, &arg), ENOBUFS); /* before ENOTSUP */
    arg.data_size = 2;
    FAILS(door_call(d, &arg), ENOTSUP); /* before E2BIG */
    arg.data_size = 1;
    SAME(door_setparam(e, DOOR_PARAM_DESC_MAX, 5), 0);
    FAILS(door_call(e, &arg), ENFILE); /* before E2BIG */
    SAME(door_setparam(e, DOOR_PARAM_DESC_MAX, INT_MAX), 0);
    FAILS(door_call(e, &arg), E2BIG); /* before EINVAL */
    arg.desc_num = 1;
    FAILS(door_call(e, &arg), EINVAL);
}

CASE("door_call: EFAULT for unreadable data or descriptors", unreadable)
{
    char *hole =
        mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    door_arg_t data = {hole, 100, NULL, 0, NULL, 0};
    door_arg_t descs = {NULL, 0, (door_desc_t *)(void *)hole, 1, NULL, 0};
    int d = door_create(echo, NULL, 0);

    FAILS(door_call(d, &data), EFAULT);
    FAILS(door_call(d, &descs), EFAULT);
    FAILS(door_call(d, (door_arg_t *)(void *)hole), EFAULT);
    SAME(call_text(d, "and it serves on"), 0);
}

/* ---- results ---- */

static size_t give_size;
static uint_t give_descs;

static void
give(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    static char bytes[1 << 20];
    static door_desc_t desc[8];

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    memset(bytes, 'r', sizeof bytes);
    for (uint_t i = 0; i < give_descs; i++) {
        desc[i].d_attributes = DOOR_DESCRIPTOR;
        desc[i].d_data.d_desc.d_descriptor = 0;
    }
    door_return(bytes, give_size, desc, give_descs);
}

CASE("door_call: results that fit lie in rbuf, which stays", fits)
{
    char room[4096];
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    int d = door_create(give, NULL, 0);

    give_size = 4096;
    SAME(door_call(d, &arg), 0);
    CHECK(arg.rbuf == room && arg.rsize == sizeof room);
    CHECK(arg.data_ptr == room);
    SAME((long long)arg.data_size, 4096);
    SAME(arg.desc_num, 0);
    CHECK(arg.desc_ptr == NULL);
    SAME(room[4095], 'r');
}

CASE("door_call: results that do not fit get whole pages, zero behind them",
     does_not_fit)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char room[16] = "untouched";
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};
    int d = door_create(give, NULL, 0);

    give_size = page + 1;
    SAME(door_call(d, &arg), 0);
    CHECK(arg.rbuf != room && arg.rsize == 2 * page);
    CHECK(arg.data_ptr == arg.rbuf && arg.data_size == page + 1);
    SAME((long long)((uintptr_t)arg.rbuf % page), 0);
    SAME(arg.rbuf[page], 'r');
    for (size_t i = page + 1; i < 2 * page; i++) {
        SAME(arg.rbuf[i], 0);
    }
    SAME(strcmp(room, "untouched"), 0);
    SAME(munmap(arg.rbuf, arg.rsize), 0);
}

CASE("door_call: descriptors lie behind the data, rounded up to 24", laid_out)
{
    char room[256];
    door_arg_t arg = {.rbuf = room, .rsize = 24 + 2 * 24};
    int d = door_create(give, NULL, 0);

    give_size = 1;
    give_descs = 2;
    SAME(door_call(d, &arg), 0); /* it just fits */
    CHECK(arg.rbuf == room && arg.data_ptr == room);
    CHECK((char *)arg.desc_ptr == room + 24);
    SAME(arg.desc_num, 2);
    close(arg.desc_ptr[0].d_data.d_desc.d_descriptor);
    close(arg.desc_ptr[1].d_data.d_desc.d_descriptor);
    arg = (door_arg_t){.rbuf = room, .rsize = 24 + 2 * 24 - 1};
    SAME(door_call(d, &arg), 0);
    CHECK(arg.rbuf != room);
    SAME((long long)arg.rsize, sysconf(_SC_PAGESIZE));
}

CASE("door_call: the struct that came back can be used again", used_again)
{
    door_arg_t arg = {0};
    int d = door_create(give, NULL, 0);

    give_size = 10000;
    SAME(door_call(d, &arg), 0);
    char *mapped = arg.rbuf;
    give_size = 5000;
    SAME(door_call(d, &arg), 0);
    CHECK(arg.rbuf == mapped && arg.data_ptr == mapped);
    SAME((long long)arg.data_size, 5000);
}

CASE("door_call: data_ptr and desc_ptr change only where there is something",
     kept_pointers)
{
    char text[] = "x", room[64];
    door_desc_t mine[1];
    door_arg_t arg = {text, 1, mine, 0, room, sizeof room};
    int d = door_create(give, NULL, 0);

    give_size = 0;
    SAME(door_call(d, &arg), 0);
    CHECK(arg.data_ptr == text && arg.desc_ptr == mine);
    SAME((long long)arg.data_size, 0);
    SAME(arg.desc_num, 0);
}

CASE("door_call: data_ptr may point into rbuf", in_place)
{
    char room[64] = "in place";
    door_arg_t arg = {room + 3, 6, NULL, 0, room, sizeof room};

    SAME(door_call(door_create(echo, NULL, 0), &arg), 0);
    SAME(strcmp(room, "place"), 0);
}

CASE("door_call: on an error params is not written", untouched)
{
    char text[] = "x", room[64];
    door_desc_t bad[1] = {{.d_attributes = 0}};
    door_arg_t arg, before;
    int d = door_create(echo, NULL, 0);

    memset(&arg, 0, sizeof arg); /* its padding too */
    arg.data_ptr = text;
    arg.data_size = 1;
    arg.desc_ptr = bad;
    arg.desc_num = 1;
    arg.rbuf = room;
    arg.rsize = sizeof room;
    memcpy(&before, &arg, sizeof arg);

    FAILS(door_call(d, &arg), EINVAL);
    SAME(memcmp(&arg, &before, sizeof arg), 0);
}

static void
give_huge(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    char *bytes = malloc(64u << 20);

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    memset(bytes, 'h', 64u << 20);
    door_return(bytes, 64u << 20, NULL, 0);
}

CASE("door_call: a result of 64 MiB", huge)
{
    const size_t size = 64u << 20;
    char *bytes = calloc(1, 4096);
    door_arg_t arg = {bytes, 4096, NULL, 0, NULL, 0};

    SAME(door_call(door_create(give_huge, NULL, 0), &arg), 0);
    SAME((long long)arg.data_size, (long long)size);
    SAME(arg.rbuf[0], 'h');
    SAME(arg.rbuf[size - 1], 'h');
}

/* ---- nested ---- */

static int inner;

static void
outer(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    int e = call_text(inner, "nested");
    char answer = e == 0 ? 'y' : 'n';

    (void)cookie, (void)argp, (void)size, (void)dp, (void)n;
    door_return(&answer, 1, NULL, 0);
}

CASE("door_call: a procedure may call on, also its own process", nested)
{
    char room[8];
    door_arg_t arg = {.rbuf = room, .rsize = sizeof room};

    inner = door_create(echo, NULL, 0);
    SAME(door_call(door_create(outer, NULL, 0), &arg), 0);
    SAME(room[0], 'y');
}

static int self;

static void
recurse(void *cookie, char *argp, size_t size, door_desc_t *dp, uint_t n)
{
    int depth;
    door_arg_t arg = {(char *)&depth, sizeof depth, NULL, 0,
                      (char *)&depth, sizeof depth};

    (void)cookie, (void)dp, (void)n, (void)size;
    memcpy(&depth, argp, sizeof depth);
    if (depth > 0) {
        depth--;
        CHECK(door_call(self, &arg) == 0);
        depth++;
    }
    door_return((char *)&depth, sizeof depth, NULL, 0);
}

CASE("door_call: a door that calls itself, 20 deep", recursion)
{
    int depth = 20;
    door_arg_t arg = {(char *)&depth, sizeof depth, NULL, 0,
                      (char *)&depth, sizeof depth};

    self = door_create(recurse, NULL, 0);
    SAME(door_call(self, &arg), 0);
    SAME(depth, 20);
}

CASE("door_call: one call a thread, many threads at once", at_once)
{
    struct caller c[8];
    int d = door_create(stay, NULL, 0);

    for (int i = 0; i < 8; i++) {
        caller_start(&c[i], d);
    }
    await(&shared[0], 8); /* all of them are inside */
    atomic_store(&shared[1], 1);
    for (int i = 0; i < 8; i++) {
        SAME(caller_end(&c[i]), 0);
    }
}

CASES(&case_empty, &case_nulls, &case_aligned, &case_own_copy, &case_forged,
      &case_not_a_door, &case_data_limits, &case_refuses, &case_desc_limit,
      &case_many_descs, &case_small_stack, &case_bad_entries, &case_order,
      &case_unreadable, &case_fits, &case_does_not_fit, &case_laid_out,
      &case_used_again, &case_kept_pointers, &case_in_place, &case_untouched,
      &case_huge, &case_nested, &case_recursion, &case_at_once)
