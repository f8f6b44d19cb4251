/* Predictions of `process` (SPEC 4.3): what followed, in its session, on the
 * user's words that are most similar to a text. Nothing is invented. */
#include <stdlib.h>

#include "servers/memory/service.h"
#include "servers/values.h"

static bool answered(const void *replies, uint32_t row)
{
    return ((const uint32_t *)replies)[row] != ROW_NONE;
}

void memory_predict(void *memory, const float *vector, size_t top_k, struct json_out *out)
{
    struct memory_service *ms = memory;
    struct scan_config sc = { .filter = scan_any(), .vector = vector, .min_similarity = -2,
                              .order = SCAN_COSINE, .k = top_k, .now_ms = memory_wall(&ms->ep) };
    struct scan s;
    uint32_t *reply = top_k ? store_replies(ms->store) : NULL;
    sc.filter.type = (struct slice){ "user", 4 };
    sc.filter.wanted = answered;
    sc.filter.user = reply;
    if (!reply || store_scan(ms->store, &s, &sc)) {
        free(reply);
        return;
    }
    scan_finish(&s);
    for (size_t i = 0; i < s.n; i++) {
        struct memory m = records_view(store_records(ms->store), reply[s.hits[i].row]);
        json_open(out, '{');
        json_put_key(out, "text"), json_put_str(out, m.text.p, m.text.len);
        member_double(out, "score", cosine_clamp(s.hits[i].cosine));
        member_text(out, "source", "memory");
        json_close(out, '}');
    }
    scan_end(&s);
    free(reply);
}
