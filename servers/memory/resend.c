#include "servers/memory/resend.h"

#include <stdlib.h>
#include <string.h>

#include "servers/memory/hash.h"

struct entry { uint64_t id, content; struct store_added result; };

/* The last stores of one session, a ring once it is full. */
struct ring {
    uint64_t used;                 /* the greater, the later */
    uint32_t n, cap, at;           /* at: where the next goes when n is RESEND_EACH */
    struct entry *e;               /* [cap] */
};

struct resend {
    uint64_t    key[2], used;
    uint32_t    n;
    uint64_t    session[RESEND_SESSIONS];
    struct ring ring[RESEND_SESSIONS];
};

struct resend *resend_new(const uint64_t key[2])
{
    struct resend *rs = calloc(1, sizeof *rs);
    if (rs) memcpy(rs->key, key, sizeof rs->key);
    return rs;
}

void resend_free(struct resend *rs)
{
    if (!rs) return;
    for (uint32_t i = 0; i < rs->n; i++) free(rs->ring[i].e);
    free(rs);
}

uint64_t resend_hash(const struct resend *rs, struct slice s)
{
    return hash_bytes(rs->key, s.p, s.len);
}

uint64_t resend_session(const struct resend *rs, struct slice session, uint64_t connection)
{
    const uint64_t other[2] = { ~rs->key[0], rs->key[1] };
    return session.p ? hash_bytes(rs->key, session.p, session.len)
                     : hash_bytes(other, &connection, sizeof connection);
}

static uint32_t find(const struct resend *rs, uint64_t session)
{
    uint32_t i = 0;
    while (i < rs->n && rs->session[i] != session) i++;
    return i;
}

const struct store_added *resend_find(struct resend *rs, const struct resend_key *key)
{
    uint32_t at = find(rs, key->session);
    struct ring *r = &rs->ring[at];
    for (uint32_t i = 0; at < rs->n && i < r->n; i++) {
        const struct entry *e = &r->e[i];
        if (e->id != key->id || e->content != key->content) continue;
        r->used = ++rs->used;
        return &e->result;
    }
    return NULL;
}

/* A ring for a new session: a new one, or that of the session unused for longest. */
static struct ring *take(struct resend *rs, uint64_t session)
{
    uint32_t at = rs->n;
    if (at < RESEND_SESSIONS) {
        rs->n++;
    } else {
        at = 0;
        for (uint32_t i = 1; i < rs->n; i++) at = rs->ring[i].used < rs->ring[at].used ? i : at;
        free(rs->ring[at].e);
    }
    rs->session[at] = session;
    rs->ring[at] = (struct ring){ 0 };
    return &rs->ring[at];
}

void resend_keep(struct resend *rs, const struct resend_key *key, const struct store_added *result)
{
    uint32_t at = find(rs, key->session);
    struct ring *r = at < rs->n ? &rs->ring[at] : take(rs, key->session);
    r->used = ++rs->used;
    if (r->n == r->cap && r->cap < RESEND_EACH) {
        uint32_t cap = r->cap ? r->cap * 4 : 4;
        struct entry *e = realloc(r->e, cap * sizeof *e);
        if (!e) return;
        r->e = e;
        r->cap = cap;
    }
    uint32_t i = r->n < RESEND_EACH ? r->n++ : r->at++ % RESEND_EACH;
    r->e[i] = (struct entry){ key->id, key->content, *result };
}

/* What failed is made unlike anything that can be asked for. */
void resend_failed(struct resend *rs, uint64_t seq)
{
    for (uint32_t i = 0; i < rs->n; i++) {
        struct ring *r = &rs->ring[i];
        for (uint32_t k = 0; k < r->n; k++) {
            if (r->e[k].result.seq < seq) continue;
            r->e[k].id = r->e[k].content = 0;
            r->e[k].result.seq = 0;
        }
    }
}
