/* After start the process needs few system calls and no files but its data: a
 * seccomp filter and Landlock see to that, as far as the kernel offers them. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include "servers/log.h"
#include "servers/options.h"

/* Close the door: no new privileges, no core dumps, Landlock, seccomp. Best effort;
 * with o->require_sandbox what the kernel does not offer is a fault (exit 71). */
int sandbox_enter(const struct options *o, struct fault *f);

/* The same for the disk helper, with what it needs (journal_config.child); user: struct options. */
void sandbox_enter_helper(void *user);

/* What is on in this process, for `stats`: "seccomp+landlock", "off", … */
const char *sandbox_state(void);

/* What this kernel offers, for --version. */
const char *sandbox_offered(void);

/* --sandbox-selftest: enter, try what must be denied, each in a child; prints a line
 * each. Returns the exit status. */
int sandbox_selftest(const struct options *o);

#endif
