/* Plain HTTP on the endpoints' ports: the page, the clients, health, stats and
 * metrics; and the door: every request passes here, upgrades too (SPEC 2). */
#ifndef PAGES_H
#define PAGES_H

#include "servers/conn.h"

/* CORS lines of an answer that is the same for every origin. */
extern const char pages_everyone[];

/* One request head of an endpoint (server_ops.request). */
void pages_request(struct conn *c, const struct http_head *h);

#endif
