// uses: servers/memory/resend.c servers/memory/hash.c
#include "servers/memory/resend.h"

#include "memories.h"
#include "test.h"

static const uint64_t seed[2] = { 31, 32 };

static struct resend_key key_of(const struct resend *rs, const char *session, const char *id, const char *content)
{
    return (struct resend_key){ resend_session(rs, (struct slice){ session, strlen(session) }, 0),
                                resend_hash(rs, (struct slice){ id, strlen(id) }),
                                resend_hash(rs, (struct slice){ content, strlen(content) }) };
}

static void keep(struct resend *rs, struct resend_key key, uint64_t seq)
{
    struct store_added a = { .seq = seq };
    resend_keep(rs, &key, &a);
}

static uint64_t seq_of(struct resend *rs, struct resend_key key)
{
    const struct store_added *a = resend_find(rs, &key);
    return a ? a->seq : 0;
}

Test(resend, only_the_same_session_id_and_content_is_the_same)
{
    static const struct { const char *session, *id, *content; uint64_t seq; } rows[] = {
        { "s", "1", "text", 7 }, { "t", "1", "text", 0 }, { "s", "2", "text", 0 }, { "s", "1", "other", 0 }, { "s", "", "text", 0 },
    };
    struct resend *rs = resend_new(seed);
    keep(rs, key_of(rs, "s", "1", "text"), 7);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert_eq(seq_of(rs, key_of(rs, rows[i].session, rows[i].id, rows[i].content)), rows[i].seq, "row %zu", i);
    }
    resend_free(rs);
}

Test(resend, a_session_is_no_connection)
{
    struct resend *rs = resend_new(seed);
    uint64_t connection = 0x4141414141414141;
    cr_assert_neq(resend_session(rs, (struct slice){ "AAAAAAAA", 8 }, 0), resend_session(rs, NO_TEXT, connection));
    cr_assert_neq(resend_session(rs, NO_TEXT, 1), resend_session(rs, NO_TEXT, 2));
    cr_assert_eq(resend_session(rs, S("s"), 1), resend_session(rs, S("s"), 2));
    resend_free(rs);
}

Test(resend, a_session_remembers_its_last_256)
{
    struct resend *rs = resend_new(seed);
    struct resend_key k = { 1, 0, 5 };
    for (k.id = 1; k.id <= 1000; k.id++) keep(rs, k, k.id);
    for (k.id = 1; k.id <= 1000; k.id++) cr_assert_eq(seq_of(rs, k), k.id > 1000 - RESEND_EACH ? k.id : 0, "%d", (int)k.id);
    resend_free(rs);
}

Test(resend, the_session_unused_for_longest_goes_first)
{
    struct resend *rs = resend_new(seed);
    struct resend_key k = { 0, 1, 5 };
    for (k.session = 1; k.session <= RESEND_SESSIONS; k.session++) keep(rs, k, k.session);
    keep(rs, (struct resend_key){ 1, 2, 5 }, 9);             /* used again */
    keep(rs, (struct resend_key){ 5000, 1, 5 }, 10);
    cr_assert_eq(seq_of(rs, (struct resend_key){ 1, 1, 5 }), 1);
    cr_assert_eq(seq_of(rs, (struct resend_key){ 2, 1, 5 }), 0);
    cr_assert_eq(seq_of(rs, (struct resend_key){ 3, 1, 5 }), 3);
    cr_assert_eq(seq_of(rs, (struct resend_key){ 5000, 1, 5 }), 10);
    resend_free(rs);
}

Test(resend, a_session_that_only_asks_again_is_used)
{
    struct resend *rs = resend_new(seed);
    struct resend_key k = { 0, 1, 5 };
    for (k.session = 1; k.session <= RESEND_SESSIONS; k.session++) keep(rs, k, k.session);
    for (k.session = 5000; k.session < 5010; k.session++) {
        cr_assert_eq(seq_of(rs, (struct resend_key){ 1, 1, 5 }), 1);
        keep(rs, k, k.session);
    }
    cr_assert_eq(seq_of(rs, (struct resend_key){ 1, 1, 5 }), 1);
    cr_assert_eq(seq_of(rs, (struct resend_key){ 11, 1, 5 }), 0);
    cr_assert_eq(seq_of(rs, (struct resend_key){ 12, 1, 5 }), 12);
    resend_free(rs);
}

Test(resend, what_failed_is_not_remembered)
{
    struct resend *rs = resend_new(seed);
    for (uint64_t i = 1; i <= 10; i++) keep(rs, (struct resend_key){ i % 3, i, i }, i);
    resend_failed(rs, 6);
    for (uint64_t i = 1; i <= 10; i++) {
        cr_assert_eq(seq_of(rs, (struct resend_key){ i % 3, i, i }), i < 6 ? i : 0, "%d", (int)i);
    }
    resend_free(rs);
}
