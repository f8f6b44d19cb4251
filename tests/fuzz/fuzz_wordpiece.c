// uses: servers/inference/wordpiece.c servers/inference/vocab.c servers/inference/unicode.c servers/log.c servers/values.c json.c number.c utf8.c base64.c
/* WordPiece on any bytes: pieces lie inside the text and are tokens; less room gives the
 * same beginning; a space parts a text into two that are cut alone alike; a whole word is
 * the longest match that a plain search finds. The first byte chooses the options,
 * and whether the plain search is made. */
#include "servers/inference/wordpiece.h"

#include "servers/log.h"

#include "fuzz.h"

static const char tokens[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\nb\n##b\nab\n##ab\nabc\n##"
                             "c\n!\n[\n]\ncls\n##\n \n\n"
                             "e\n##e\n\xc3\xa9\n##\xc3\xa9\n\xe6\x97\xa5\n##"
                             "\xe6\x9c\xac\n\xe6\x9c\xac\n\xe1\x84\x92\n##\xe1\x85\xa1\n"
                             "##\xe1\x86\xab\n\xcf\x83\n##\xcf\x83\n##\xe1\xad\x84\n##"
                             "\xf0\x9d\x85\xad\n\xf0\xa0\x80\x80\n##\xcc\x87\ni\n";

/* A word of ASCII letters against a search without hashes. */
static void check_word(const struct wordpiece *w, const char *word, size_t len)
{
    struct wordpiece_token out[WORDPIECE_CHARS + 1];
    size_t n = wordpiece_cut(w, (struct slice){word, len}, out, WORDPIECE_CHARS + 1), at = 0,
           pieces = 0;
    while (at < len) {
        size_t best = 0;
        for (uint32_t id = 0; id < w->vocab.n; id++) {
            struct slice t = w->vocab.token[id];
            size_t skip = at ? 2 : 0;
            if (t.len <= skip || (at && memcmp(t.p, "##", 2)) || t.len - skip > len - at) continue;
            if (!memcmp(t.p + skip, word + at, t.len - skip) && t.len - skip > best)
                best = t.len - skip;
        }
        if (!best) break;
        CHECK(n == 1 || (pieces < n && out[pieces].start == at && out[pieces].end == at + best));
        at += best;
        pieces++;
    }
    if (at < len) CHECK(n == 1 && out[0].id == w->special[WP_UNK].id);
    else CHECK(n == pieces);
}

static void check_words(const struct wordpiece *w, const char *p, size_t len)
{
    for (size_t i = 0, n; i < len; i += n ? n : 1) {
        for (n = 0; i + n < len && p[i + n] >= 'a' && p[i + n] <= 'e'; n++) {}
        if (n && n <= 32) check_word(w, p + i, n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wordpiece w;
    struct fault f;
    if (!size || size > 500) return 0;
    if (!w.vocab.n) {
        wordpiece_defaults(&w);
        CHECK(!vocab_lines(&w.vocab, tokens, sizeof tokens - 1, &f));
    }
    w.lower = data[0] & 1;
    w.strip_accents = data[0] & 2;
    w.ideographs = data[0] & 4;
    static int ready = -1;
    if (ready != (data[0] & 7)) CHECK(!wordpiece_ready(&w, &f));
    ready = data[0] & 7;
    size_t len = size - 1;
    char *text = malloc(len + 1);       /* its own block: reading past it is seen */
    CHECK(text);
    memcpy(text, data + 1, len);
    struct wordpiece_token *all = malloc((len + 1) * sizeof *all),
                           *part = malloc((len + 1) * sizeof *part);
    CHECK(all && part);
    size_t n = wordpiece_cut(&w, (struct slice){ text, len }, all, len);
    CHECK(n <= len);
    for (size_t i = 0; i < n; i++)
        CHECK(all[i].start < all[i].end && all[i].end <= len && all[i].id < w.vocab.n);
    size_t cap = n / 2, got = wordpiece_cut(&w, (struct slice){ text, len }, part, cap);
    CHECK(n > cap ? got > cap : got == n);
    CHECK(!memcmp(all, part, cap * sizeof *all));
    char *space = memchr(text, ' ', len);
    if (space) {
        size_t left = (size_t)(space - text);
        got = wordpiece_cut(&w, (struct slice){ text, left }, part, len);
        got += wordpiece_cut(&w, (struct slice){ space, len - left }, part + got, len - got);
        CHECK(got == n);
        for (size_t i = 0; i < n; i++) CHECK(all[i].id == part[i].id);
    }
    if (data[0] & 8) check_words(&w, text, len);
    free(text);
    free(all);
    free(part);
    return 0;
}
