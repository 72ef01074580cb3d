/* Every constant and layout of the public headers, as illumos has them on
 * 64-bit machines. That this compiles is the test; C11 and C++. */
#include <door.h>
#include <stddef.h>
#include <stdio.h>
#include <stropts.h>
#include <sys/stat.h>
#include <thread.h>

#ifdef __cplusplus
#define SAME(a, b) static_assert((a) == (b), #a)
#else
#define SAME(a, b) _Static_assert((a) == (b), #a)
#endif
#define AT(type, field, offset) SAME(offsetof(type, field), offset)

SAME(DOOR_UNREF, 0x01);
SAME(DOOR_PRIVATE, 0x02);
SAME(DOOR_LOCAL, 0x04);
SAME(DOOR_REVOKED, 0x08);
SAME(DOOR_UNREF_MULTI, 0x10);
SAME(DOOR_IS_UNREF, 0x20);
SAME(DOOR_REFUSE_DESC, 0x40);
SAME(DOOR_NO_CANCEL, 0x80);
SAME(DOOR_NO_DEPLETION_CB, 0x100);
SAME(DOOR_PRIVCREATE, 0x200);
SAME(DOOR_DEPLETION_CB, 0x400);
SAME(DOOR_DESCRIPTOR, 0x10000);
SAME(DOOR_RELEASE, 0x40000);
SAME(DOOR_DELAY, 0x80000);
SAME(DOOR_UNREF_ACTIVE, 0x100000);
SAME(DOOR_CREATE_MASK, 0x3d3);
SAME(DOOR_ATTR_MASK, 0x3ff);
SAME(DOOR_PARAM_DESC_MAX, 1);
SAME(DOOR_PARAM_DATA_MAX, 2);
SAME(DOOR_PARAM_DATA_MIN, 3);
SAME(DOOR_INVAL, -1);
SAME(DOOR_QUERY, -2);
SAME(S_IFDOOR, 0xD000);
SAME(S_ISDOOR(0xD1ff), 1);
SAME(S_ISDOOR(S_IFSOCK | 0777), 0);
SAME(S_ISDOOR(S_IFREG), 0);

SAME(sizeof(door_ptr_t), 8);
SAME(sizeof(door_id_t), 8);
SAME(sizeof(door_attr_t), 4);
SAME(sizeof(uint_t), 4);

SAME(sizeof(door_arg_t), 48);
AT(struct door_arg, data_ptr, 0);
AT(struct door_arg, data_size, 8);
AT(struct door_arg, desc_ptr, 16);
AT(struct door_arg, desc_num, 24);
AT(struct door_arg, rbuf, 32);
AT(struct door_arg, rsize, 40);

SAME(sizeof(door_desc_t), 24);
AT(struct door_desc, d_attributes, 0);
AT(struct door_desc, d_data.d_desc.d_descriptor, 4);
AT(struct door_desc, d_data.d_desc.d_id, 8);
AT(struct door_desc, d_data.d_resv, 4);

SAME(sizeof(door_info_t), 48);
AT(struct door_info, di_target, 0);
AT(struct door_info, di_proc, 4);
AT(struct door_info, di_data, 12);
AT(struct door_info, di_attributes, 20);
AT(struct door_info, di_uniquifier, 24);
AT(struct door_info, di_resv, 32);

SAME(sizeof(door_cred_t), 36);
AT(struct door_cred, dc_euid, 0);
AT(struct door_cred, dc_egid, 4);
AT(struct door_cred, dc_ruid, 8);
AT(struct door_cred, dc_rgid, 12);
AT(struct door_cred, dc_pid, 16);
AT(struct door_cred, dc_resv, 20);

SAME(I_RECVFD, 0x5310);
SAME(I_SENDFD, 0x5311);
SAME(sizeof(struct strrecvfd), 20);
AT(struct strrecvfd, fd, 0);
AT(struct strrecvfd, uid, 4);
AT(struct strrecvfd, gid, 8);
AT(struct strrecvfd, fill, 12);

SAME(THR_BOUND, 0x01);
SAME(THR_NEW_LWP, 0x02);
SAME(THR_DETACHED, 0x40);
SAME(THR_SUSPENDED, 0x80);
SAME(THR_DAEMON, 0x100);
SAME(USYNC_THREAD, 0);
SAME(USYNC_PROCESS, 1);
SAME(LOCK_ERRORCHECK, 2);
SAME(LOCK_RECURSIVE, 4);

/* The function types are those of the pages. */
static void
a_procedure(void *cookie, char *argp, size_t arg_size, door_desc_t *dp,
            uint_t n_desc)
{
    (void)cookie, (void)argp, (void)arg_size, (void)dp, (void)n_desc;
}

static void
a_creator(door_info_t *info)
{
    (void)info;
}

static int
a_private_creator(door_info_t *info, void *(*start)(void *), void *arg,
                  void *cookie)
{
    (void)info, (void)start, (void)arg, (void)cookie;
    return 0;
}

static void
a_setup(void *cookie)
{
    (void)cookie;
}

int
main(void)
{
    door_server_procedure_t *procedure = a_procedure;
    door_server_func_t *creator = a_creator;
    door_xcreate_server_func_t *private_creator = a_private_creator;
    door_xcreate_thrsetup_func_t *setup = a_setup;
    int ok = procedure && creator && private_creator && setup &&
             DOOR_UNREF_DATA == (void *)1;

    printf("%s 1 - constants, layouts, function types\n1..1\n",
           ok ? "ok" : "not ok");
    return !ok;
}
