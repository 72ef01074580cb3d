/* Memory that was only for the start. */
#pragma once

/* Gives back what the caller's past has used and its future need not: free
 * heap, the stack below the caller, and the pages of code and constants in this
 * process's own table, which come again when they are touched. For a process
 * that is about to wait for a long time, in the thread that began it. Nothing
 * is lost and nothing fails; the sanitizers' stacks are left alone. madvise(2),
 * malloc_trim(3). */
void trim_process(void);
