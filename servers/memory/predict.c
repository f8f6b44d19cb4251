/* Predictions of `process` (SPEC 4.3): what followed, in its session, on the
 * user's words that are most similar to a text. Nothing is invented. */
#include "servers/memory/service.h"

/* Look among the k nearest of the user's words; true when that was enough. */
static bool look(struct memory_service *ms, const struct scan_config *sc, size_t top_k,
                 void (*each)(void *, const struct prediction *), void *user)
{
    struct scan s;
    uint32_t reply[64];
    double score[64];
    size_t n = 0;
    if (store_scan(ms->store, &s, sc)) return true;
    store_scan_finish(ms->store, &s);
    for (size_t i = 0; i < s.n && n < top_k; i++) {
        uint32_t row = store_reply_to(ms->store, s.hits[i].row);
        if (row == ROW_NONE) continue;
        reply[n] = row;
        score[n++] = cosine_clamp(s.hits[i].cosine);
    }
    bool enough = n == top_k || s.n < sc->k;
    for (size_t i = 0; enough && i < n; i++) {
        struct memory m;
        store_view(ms->store, reply[i], &m);
        each(user, &(struct prediction){ m.text, score[i] });
    }
    scan_end(&s);
    return enough;
}

void memory_predict(void *memory, const float *vector, size_t top_k,
                    void (*each)(void *user, const struct prediction *p), void *user)
{
    struct memory_service *ms = memory;
    struct scan_config sc = { .filter = scan_any(), .vector = vector, .min_similarity = -2,
                              .order = SCAN_COSINE, .now_ms = memory_wall(&ms->ep) };
    sc.filter.type = (struct slice){ "user", 4 };
    if (!top_k || top_k > 64) return;
    for (sc.k = 4 * top_k; !look(ms, &sc, top_k, each, user);) sc.k *= 4;
}
