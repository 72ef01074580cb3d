/* The rules of growth with a clock and machines of the test's own: folders that
 * look like /proc and /sys of systems with bounds. */
#include "test-door.h"

#include <sys/stat.h>

#include "door/growth.h"

#define SEC 1000000000ull
#define MB  (1024ull * 1024)

static void
put(const char *root, const char *name, const char *text)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = 0;
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *p = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A machine of 8 GB, 4 of them free, where we are in the group OWN. */
static void
machine(char root[64], const char *own, const char *mounts)
{
    test_folder(root);
    put(root, "proc/meminfo",
        "MemTotal:        8388608 kB\nMemFree:          1024 kB\n"
        "MemAvailable:    4194304 kB\n");
    put(root, "proc/self/cgroup", own);
    put(root, "proc/self/mountinfo", mounts);
}

#define MOUNT_2                                                                \
    "22 1 0:20 / /proc rw - proc proc rw\n"                                    \
    "30 1 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
#define MOUNT_1                                                                \
    "31 1 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"       \
    "32 1 0:29 /top /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"

static void
test_no_groups(void **state)
{
    char root[64];
    struct room room;

    (void)state;
    machine(root, "0::/\n", "");
    room_read(&room, root);
    assert_int_equal(room.cpus, 0);
    assert_int_equal(room.total, 8192 * MB);
    assert_int_equal(room.left, 4096 * MB);
    room_read(&room, "/does/not/exist");
    assert_true(room.left == UINT64_MAX && room.total == UINT64_MAX);
}

/* The narrowest bound of all levels holds; cache counts as free. */
static void
test_levels(void **state)
{
    char root[64];
    struct room room;

    (void)state;
    machine(root, "0::/a/b\n", MOUNT_2);
    put(root, "sys/fs/cgroup/a/memory.max", "268435456\n");
    put(root, "sys/fs/cgroup/a/memory.current", "134217728\n");
    put(root, "sys/fs/cgroup/a/memory.stat",
        "anon 1\nfile 67108864\ninactive_file 67108864\n");
    put(root, "sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    put(root, "sys/fs/cgroup/a/b/memory.max", "max\n");
    put(root, "sys/fs/cgroup/a/b/memory.current", "134217728\n");
    put(root, "sys/fs/cgroup/a/b/cpu.max", "350000 100000\n");
    room_read(&room, root);
    assert_int_equal(room.cpus, 1);
    assert_int_equal(room.total, 256 * MB);
    assert_int_equal(room.left, 192 * MB);
    put(root, "sys/fs/cgroup/a/cpu.max", "max 100000\n");
    put(root, "sys/fs/cgroup/a/b/memory.max", "150000000\n");
    room_read(&room, root);
    assert_int_equal(room.cpus, 4);
    assert_int_equal(room.total, 150000000);
    assert_int_equal(room.left, 150000000 - 134217728);
    /* Over the bound: nothing is left, and not very much. */
    put(root, "sys/fs/cgroup/a/b/memory.max", "1000000\n");
    room_read(&room, root);
    assert_int_equal(room.left, 0);
}

static void
test_version_1(void **state)
{
    char root[64];
    struct room room;

    (void)state;
    machine(root,
            "9:name=systemd:/x\n4:memory:/top/m\n1:cpu,cpuacct:/c\n0::/\n",
            MOUNT_1);
    put(root, "sys/fs/cgroup/memory/m/memory.limit_in_bytes", "104857600\n");
    put(root, "sys/fs/cgroup/memory/m/memory.usage_in_bytes", "52428800\n");
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "9223372036854771712\n");
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n");
    put(root, "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "-1\n");
    put(root, "sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n");
    room_read(&room, root);
    assert_int_equal(room.cpus, 0);
    assert_int_equal(room.left, 50 * MB);
    put(root, "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "150000\n");
    room_read(&room, root);
    assert_int_equal(room.cpus, 2);
}

/* In a container the group's name is that of another name space. */
static void
test_foreign_name(void **state)
{
    char root[64];
    struct room room;

    (void)state;
    machine(root, "0::/../../elsewhere\n", MOUNT_2);
    put(root, "sys/fs/cgroup/memory.max", "104857600\n");
    put(root, "sys/fs/cgroup/memory.current", "4857600\n");
    put(root, "sys/fs/cgroup/cpu.max", "200000 100000\n");
    room_read(&room, root);
    assert_int_equal(room.left, 100000000);
    assert_int_equal(room.cpus, 2);
}

static void
test_by_memory(void **state)
{
    char root[64];
    struct growth g = GROWTH_NULL;

    (void)state;
    machine(root, "0::/\n", MOUNT_2);
    put(root, "sys/fs/cgroup/memory.max", "1073741824\n");
    put(root, "sys/fs/cgroup/memory.current", "0\n");
    g.room_root = root;
    g.size = 64 * MB;
    /* A sixteenth is left alone: 960 MB are 15 copies. */
    assert_int_equal(growth_room(&g, 1, 0, SEC), 15);
    assert_int_equal(growth_room(&g, 1, 5, SEC), 10);
    /* Those that were made count until the next look. */
    growth_made(&g, 2, SEC);
    growth_made(&g, 3, SEC);
    assert_int_equal(growth_room(&g, 3, 1, SEC + 1), 13);
    put(root, "sys/fs/cgroup/memory.current", "1073741824\n");
    assert_int_equal(growth_room(&g, 3, 0, SEC + 2), 13);
    assert_int_equal(growth_room(&g, 3, 0, 2 * SEC), 0);
    assert_int_equal(g.n_waits, 1);
    /* The first one is always made. */
    assert_int_equal(growth_room(&g, 0, 0, 2 * SEC), 1);
    put(root, "sys/fs/cgroup/memory.current", "0\n");
    g.ceiling = 5;
    assert_int_equal(growth_room(&g, 3, 0, 3 * SEC), 2);
    assert_int_equal(growth_room(&g, 5, 0, 3 * SEC), 0);
    assert_int_equal(g.n_waits, 0);
}

static void
test_size(void **state)
{
    struct growth g = GROWTH_NULL;

    (void)state;
    growth_measured(&g, 80 * MB);
    assert_int_equal(g.size, 80 * MB);
    growth_measured(&g, 8 * MB);
    assert_int_equal(g.size, 70 * MB);
    growth_measured(&g, 90 * MB);
    assert_int_equal(g.size, 90 * MB);
}

static void
test_cpus(void **state)
{
    char root[64];
    struct growth g = GROWTH_NULL;

    (void)state;
    machine(root, "0::/\n", MOUNT_2);
    put(root, "sys/fs/cgroup/cpu.max", "50000 100000\n");
    g.room_root = root;
    assert_int_equal(growth_cpus(&g, 8, SEC), 1);
    put(root, "sys/fs/cgroup/cpu.max", "1600000 100000\n");
    assert_int_equal(growth_cpus(&g, 8, SEC + SEC / 100), 1);
    assert_int_equal(growth_cpus(&g, 8, 2 * SEC), 8);
}

/* The last burst needed 40: a quarter of it is enough to make all again, as
 * long as it is not long ago. */
static void
test_peak(void **state)
{
    struct growth g = GROWTH_NULL;

    (void)state;
    assert_int_equal(growth_wanted(&g, 7, SEC), 7);
    for (uint32_t n = 1; n <= 40; n++) {
        growth_made(&g, n, SEC);
    }
    growth_made(&g, 10, 20 * SEC); /* fewer are no new peak */
    assert_int_equal(growth_wanted(&g, 9, 20 * SEC), 9);
    assert_int_equal(growth_wanted(&g, 10, 20 * SEC), 40);
    assert_int_equal(growth_wanted(&g, 50, 20 * SEC), 50);
    assert_int_equal(growth_missing(&g, 10, 38, 20 * SEC), 2);
    assert_int_equal(growth_missing(&g, 10, 40, 20 * SEC), 0);
    assert_int_equal(growth_missing(&g, 9, 20, 20 * SEC), 0);
    /* Half of it after a minute, nothing after an hour. */
    assert_int_equal(growth_wanted(&g, 10, 62 * SEC), 20);
    assert_int_equal(growth_wanted(&g, 3, 3700 * SEC), 3);
    /* One call alone is none, whatever was. */
    growth_made(&g, 3, 4000 * SEC);
    assert_int_equal(growth_wanted(&g, 1, 4000 * SEC), 1);
}

/* What is needed again soon after it left stays longer the next time. */
static void
test_hysteresis(void **state)
{
    struct growth g = GROWTH_NULL;
    uint64_t now = 100 * SEC;

    (void)state;
    assert_int_equal(g.quiet_ns, 10 * SEC);
    for (int i = 0; i < 5; i++) {
        growth_left(&g, now);
        growth_made(&g, 2, now + 5 * SEC);
        growth_made(&g, 3, now + 5 * SEC); /* counts once */
        now += 100 * SEC;
    }
    assert_int_equal(g.quiet_ns, 80 * SEC);
    growth_left(&g, now);
    growth_made(&g, 2, now + 321 * SEC);
    assert_int_equal(g.quiet_ns, 40 * SEC);
    growth_left(&g, now + 400 * SEC);
    growth_made(&g, 2, now + 500 * SEC); /* neither soon nor late */
    assert_int_equal(g.quiet_ns, 40 * SEC);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_groups),  cmocka_unit_test(test_levels),
        cmocka_unit_test(test_version_1),  cmocka_unit_test(test_foreign_name),
        cmocka_unit_test(test_by_memory),  cmocka_unit_test(test_size),
        cmocka_unit_test(test_cpus),       cmocka_unit_test(test_peak),
        cmocka_unit_test(test_hysteresis),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
