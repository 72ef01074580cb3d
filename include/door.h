/* door.h: doors, procedures of other processes, with the illumos calls, on an
 * unmodified Linux kernel. Link with -ldoor. Names, numbers and layouts are
 * those of illumos, so that sources written for it compile; door(7) lists what
 * differs. */
#ifndef CARDEA_DOOR_H
#define CARDEA_DOOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/stat.h>

#include <ucred.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#ifndef S_IFDOOR
#define S_IFDOOR    0xD000
#define S_ISDOOR(m) (((m)&0xF000) == S_IFDOOR)
#endif

/* Attributes of a door. */
#define DOOR_UNREF           0x01
#define DOOR_PRIVATE         0x02
#define DOOR_LOCAL           0x04
#define DOOR_REVOKED         0x08
#define DOOR_UNREF_MULTI     0x10
#define DOOR_IS_UNREF        0x20
#define DOOR_REFUSE_DESC     0x40
#define DOOR_NO_CANCEL       0x80
#define DOOR_NO_DEPLETION_CB 0x100
#define DOOR_PRIVCREATE      0x200
#define DOOR_DEPLETION_CB    0x400

#define DOOR_CREATE_MASK                                                       \
    (DOOR_UNREF | DOOR_PRIVATE | DOOR_UNREF_MULTI | DOOR_REFUSE_DESC |         \
     DOOR_NO_CANCEL | DOOR_NO_DEPLETION_CB | DOOR_PRIVCREATE)
#define DOOR_ATTR_MASK                                                         \
    (DOOR_CREATE_MASK | DOOR_LOCAL | DOOR_REVOKED | DOOR_IS_UNREF)

/* Attributes of a descriptor that is passed. */
#define DOOR_DESCRIPTOR 0x10000
#define DOOR_RELEASE    0x40000

/* Of the illumos kernel; never seen here. */
#define DOOR_DELAY        0x80000
#define DOOR_UNREF_ACTIVE 0x100000

/* What door_getparam() and door_setparam() know. */
#define DOOR_PARAM_DESC_MAX 1
#define DOOR_PARAM_DATA_MAX 2
#define DOOR_PARAM_DATA_MIN 3

#define DOOR_UNREF_DATA ((void *)1)
#define DOOR_INVAL      (-1)
#define DOOR_QUERY      (-2)

__extension__ typedef unsigned long long door_ptr_t;
__extension__ typedef unsigned long long door_id_t;
typedef unsigned int door_attr_t;

#pragma pack(push, 4)
typedef struct door_desc {
    door_attr_t d_attributes;
    union {
        struct {
            int d_descriptor;
            door_id_t d_id;
        } d_desc;
        int d_resv[5];
    } d_data;
} door_desc_t;

typedef struct door_info {
    pid_t di_target;
    door_ptr_t di_proc;
    door_ptr_t di_data;
    door_attr_t di_attributes;
    door_id_t di_uniquifier;
    int di_resv[4];
} door_info_t;
#pragma pack(pop)

typedef struct door_arg {
    char *data_ptr;
    size_t data_size;
    door_desc_t *desc_ptr;
    unsigned int desc_num;
    char *rbuf;
    size_t rsize;
} door_arg_t;

typedef struct door_cred {
    uid_t dc_euid;
    gid_t dc_egid;
    uid_t dc_ruid;
    gid_t dc_rgid;
    pid_t dc_pid;
    int dc_resv[4];
} door_cred_t;

typedef void door_server_procedure_t(void *cookie, char *argp, size_t arg_size,
                                     door_desc_t *dp, unsigned int n_desc);
/* Makes threads: INFO is the private door's that they are for, or NULL. */
typedef void door_server_func_t(door_info_t *info);
typedef int door_xcreate_server_func_t(door_info_t *info,
                                       void *(*start)(void *), void *arg,
                                       void *cookie);
typedef void door_xcreate_thrsetup_func_t(void *cookie);

/* Each is described by its manual page in section 3. */
int door_create(door_server_procedure_t *procedure, void *cookie,
                unsigned int attributes);
int door_call(int d, door_arg_t *params);
int door_return(char *data_ptr, size_t data_size, door_desc_t *desc_ptr,
                unsigned int num_desc);
int door_info(int d, door_info_t *info);
int door_xcreate(door_server_procedure_t *procedure, void *cookie,
                 unsigned int attributes, door_xcreate_server_func_t *create,
                 door_xcreate_thrsetup_func_t *setup, void *create_cookie,
                 int n_threads);
door_server_func_t *door_server_create(door_server_func_t *create);
int door_bind(int d);
int door_unbind(void);
int door_revoke(int d);
int door_cred(door_cred_t *cred);
int door_ucred(ucred_t **p_cred);
int door_getparam(int d, int param, size_t *value);
int door_setparam(int d, int param, size_t value);
int fattach(int fd, const char *path);
int fdetach(const char *path);

/* Not of illumos: a door at a free path, as a Unix socket that `ls -l` shows,
 * with the permission bits MODE; and a descriptor for the door at PATH, however
 * it was put there. */
int door_attach(int d, const char *path, mode_t mode);
int door_open(const char *path);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
