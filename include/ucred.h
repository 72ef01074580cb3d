/* ucred.h: who a process is, as door_ucred(3) tells it. The calls are those of
 * illumos; what Linux has no such thing for gives a constant, told in
 * ucred_get(3). */
#ifndef CARDEA_UCRED_H
#define CARDEA_UCRED_H

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#ifndef CARDEA_UINT_T
#define CARDEA_UINT_T
typedef unsigned int uint_t;
#endif

/* The C library has a struct ucred of its own, of another meaning. */
typedef struct door_ucred ucred_t;
typedef int projid_t;
typedef int zoneid_t;
typedef struct door_priv_set priv_set_t;
typedef const char *priv_ptype_t;

#ifndef P_MYID
#define P_MYID (-1)
#endif

ucred_t *ucred_get(pid_t pid);
void ucred_free(ucred_t *cred);
size_t ucred_size(void);
uid_t ucred_geteuid(const ucred_t *cred);
uid_t ucred_getruid(const ucred_t *cred);
uid_t ucred_getsuid(const ucred_t *cred);
gid_t ucred_getegid(const ucred_t *cred);
gid_t ucred_getrgid(const ucred_t *cred);
gid_t ucred_getsgid(const ucred_t *cred);
int ucred_getgroups(const ucred_t *cred, const gid_t **p_groups);
pid_t ucred_getpid(const ucred_t *cred);
projid_t ucred_getprojid(const ucred_t *cred);
zoneid_t ucred_getzoneid(const ucred_t *cred);
const priv_set_t *ucred_getprivset(const ucred_t *cred, priv_ptype_t type);
uint_t ucred_getpflags(const ucred_t *cred, uint_t flag);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
