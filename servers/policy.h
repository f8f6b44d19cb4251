/* Who may in: Host, Origin and token of a request (SPEC 2). It guards against the
 * page in the next tab and against names that were rebound to 127.0.0.1. */
#ifndef POLICY_H
#define POLICY_H

#include "http.h"
#include "servers/log.h"
#include "servers/net.h"
#include "servers/options.h"

#define POLICY_TOKEN 256          /* bytes of a token at most */

struct policy {
    const struct options *options;
    uint16_t              ports[2];   /* of memory and inference, 0: not served */
    char                  token[POLICY_TOKEN];
    size_t                token_len;  /* 0: none is wanted */
};

/* Read the token file and check the lists. 0, or -1 with f: exit 78. Called again on
 * SIGHUP: on an error the policy stays as it was. */
int policy_load(struct policy *p, const struct options *o, struct fault *f);

/* What a request may not: 0, 400 (no or bad Host), 403 or 401, with the header that is to
 * blame, its value and the flag that would allow it. */
struct verdict { int status; const char *header, *flag; struct slice value; };

/* Host, on every request. local: the address that the connection reached. */
struct verdict policy_host(const struct policy *p, const struct http_head *h,
                           const struct net_address *local);

/* Origin, and then token: of upgrades, /stats and /metrics. */
struct verdict policy_origin(const struct policy *p, const struct http_head *h,
                             const struct net_address *local);
struct verdict policy_token(const struct policy *p, const struct http_head *h);

/* The offered subprotocol "bearer.T" that let the client in, or an empty slice. */
struct slice policy_bearer(const struct policy *p, const struct http_head *h);

#endif
