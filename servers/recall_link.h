/* The connection of recall, the command-line client: one WebSocket on blocking calls.
 * Whatever fails ends the program with a line on stderr and an exit status of SPEC 1. */
#ifndef RECALL_LINK_H
#define RECALL_LINK_H

#include <stddef.h>

#include "utf8.h"

#define LINK_MESSAGE (16u << 20)  /* bytes of a message, at most */

/* To ws://host[:port][/path], where host may be an IPv6 address in brackets; token: or NULL.
 * At exit it is closed. */
void link_open(const char *url, const char *token);

/* Send a text; the next message, which stays until the next call and may be modified. Where
 * the server has ended the connection since the last one, another is opened first. */
void link_ask(const char *text, size_t len);
struct slice link_next(void);

/* How long the next message may take; 0: for ever. */
void link_wait(int seconds);

/* One line on stderr, whatever stands in it; die() ends the program behind it. */
void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void die(int status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

void *need(size_t n);             /* malloc() that does not fail */

/* What others sent must not reach the terminal with control characters in it. */
void clean(struct slice s);

#endif
