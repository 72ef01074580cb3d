/* sys/stat.h: the C library's, with the file type of doors. */
#pragma GCC system_header
#include_next <sys/stat.h>

#ifndef S_IFDOOR
#define S_IFDOOR    0xD000
#define S_ISDOOR(m) (((m)&0xF000) == S_IFDOOR)
#endif
