/* Static probes for tracers (bpftrace, SystemTap, perf), provider "cardea": one
 * no-operation each, and notes in the program's file. Nothing where sys/sdt.h
 * was not there at build time. docs/sight.md lists them. */
#pragma once

#ifdef CARDEA_PROBES
#include <sys/sdt.h>
#define PROBE1(name, a)       DTRACE_PROBE1(cardea, name, a)
#define PROBE2(name, a, b)    DTRACE_PROBE2(cardea, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(cardea, name, a, b, c)
#else
#define PROBE1(name, a)       ((void)0)
#define PROBE2(name, a, b)    ((void)0)
#define PROBE3(name, a, b, c) ((void)0)
#endif
