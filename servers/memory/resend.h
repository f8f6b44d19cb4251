/* What a repeated store is answered with (SPEC 4.2): the first result, when the
 * envelope's id, the session and the content are the same within the last
 * RESEND_EACH stores of that session. In memory; the session unused for longest
 * goes first. */
#ifndef RESEND_H
#define RESEND_H

#include "servers/memory/store.h"

#define RESEND_SESSIONS 1024
#define RESEND_EACH     256

struct resend;

struct resend *resend_new(const uint64_t key[2]);
void resend_free(struct resend *rs);

/* Who asks what: session, id and content, as hashes. */
struct resend_key { uint64_t session, id, content; };

/* Hash of what a request says, to be taken before it is read. */
uint64_t resend_hash(const struct resend *rs, struct slice s);

/* Whose it is: metadata.session_id or, where p is NULL, the connection. */
uint64_t resend_session(const struct resend *rs, struct slice session, uint64_t connection);

/* The first result, or NULL; valid until the next call. Its session counts as used. */
const struct store_added *resend_find(struct resend *rs, const struct resend_key *key);

/* Remember one. Without memory nothing is remembered. */
void resend_keep(struct resend *rs, const struct resend_key *key, const struct store_added *result);

/* Nothing from seq on was stored after all. */
void resend_failed(struct resend *rs, uint64_t seq);

#endif
