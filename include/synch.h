/* synch.h: the locks of Solaris and illumos, which thread.h has. */
#ifndef CARDEA_SYNCH_H
#define CARDEA_SYNCH_H

#include <thread.h>

#endif
