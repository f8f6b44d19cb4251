/* HTTP/1.1 request heads and response heads (RFC 9110, 9112), as much as a
 * WebSocket server and its client need. Decode or nothing over contiguous
 * bytes; every result is a slice of the caller's buffer; nothing is allocated. */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "utf8.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HTTP_MAX_HEAD    8192 /* bytes, request line and the final blank line included */
#define HTTP_MAX_HEADERS 64

struct http_header { struct slice name, value; };  /* value without blanks around it */

struct http_head {
    struct slice method, target;   /* requests; target as sent */
    struct slice authority;        /* of target as in "http://HERE/path" or CONNECT, else empty */
    struct slice path, query;      /* of target: without '?', query empty when there is none */
    uint8_t      minor;            /* HTTP/1.minor: 0 or 1 */
    int          status;           /* responses */
    size_t       size;             /* bytes of the head, blank line included */
    size_t       n;
    struct http_header header[HTTP_MAX_HEADERS];
};

/* How far the search for the head's end has come; all zero at first. It makes
 * the work linear however slowly the bytes come, and finds a byte that may not
 * stand in a head (NUL, bare LF, control) at once. */
struct http_scan { uint16_t at; };

/* Look for the end of a head in p[0..n), where p is always the same head,
 * longer at each call. 0: more bytes are needed; 200: a whole head of
 * scan->at bytes is there; else the status to refuse it with: 400, 431. */
int http_scan(struct http_scan *scan, const char *p, size_t n);

/* Read a whole request head, which may be followed by anything. 200, or the
 * status to refuse it with: 400 malformed (folding, blank before colon, bad
 * name, second Host, Origin, Authorization, Content-Length, Sec-WebSocket-Key
 * or -Version, ...), 431, 505. The slices of h point into p: valid as long as
 * that is. After a refusal h holds what was read before it. */
int http_request(struct http_head *h, const char *p, size_t n);

/* Read a whole response head, as above. 200 or 400 (of the parse; h->status is
 * the answer's). */
int http_response(struct http_head *h, const char *p, size_t n);

/* First header of that name (any case), or NULL. */
const struct http_header *http_find(const struct http_head *h, const char *name);

/* Does any header of that name hold the token in its comma-separated list (any case)? */
bool http_has_token(const struct http_head *h, const char *name, const char *token);

/* Walk the comma-separated items of every header of that name, in order: the
 * next item, without blanks, or an empty slice behind the last. Start with
 * *pos = 0. Quoted strings are not looked into: for lists of tokens. */
struct slice http_item(const struct http_head *h, const char *name, size_t *pos);

/* Does the message announce a body (Content-Length above 0, or any Transfer-Encoding)? */
bool http_has_body(const struct http_head *h);

/* scheme, host and port of an Origin or of a Host header; host lower-cased by
 * comparison, not changed here. */
struct http_origin { struct slice scheme, host; uint16_t port; };  /* port 0: none written */

/* Parse "http://host:port" strictly: no path, no userinfo, nothing behind, no
 * port 0. Slices of s. false: it is not one ("null" too), and *o is of no use. */
bool http_origin(struct http_origin *o, struct slice s);

/* Parse "host", "host:port", "[v6]:port" (host keeps its brackets); a final dot
 * of a name is dropped, scheme is empty. false: it is none of these. */
bool http_host(struct http_origin *o, struct slice s);

bool slice_is(struct slice s, const char *text);        /* same bytes */
bool slice_is_nocase(struct slice s, const char *text); /* ASCII case does not count */

#ifdef __cplusplus
}
#endif
#endif
