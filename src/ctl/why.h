/* What the words of the log mean, in sentences for people. */
#pragma once

/* What the cause WORD of a request means; NULL: no sentence is known. */
const char *why_request(const char *word);
/* The same of the end of a process, "signal-SEGV" and so on, and of an event of
 * a module. */
const char *why_end(const char *word);
const char *why_event(const char *word);
