/* stropts.h: where illumos declares fattach(3C) and fdetach(3C). */
#ifndef CARDEA_STROPTS_H
#define CARDEA_STROPTS_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

int fattach(int fd, const char *path);
int fdetach(const char *path);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
