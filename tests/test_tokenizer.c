// uses: servers/inference/tokenizer.c servers/inference/wordpiece.c servers/inference/vocab.c servers/inference/unicode.c servers/inference/config_file.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
#include "servers/inference/tokenizer.h"

#include "model_dir.h"
#include "test.h"
#include "tokenizers.h"

static const struct { const char *vocab, *config, *json, *why;
} refused[] = {
    {"", NULL, NULL, "vocab.txt: it is empty"},
    {"[UNK]\n[SEP]\n", NULL, NULL, "the vocabulary has no [CLS]"},
    {"[UNK]\n[CLS]\n", NULL, NULL, "the vocabulary has no [SEP]"},
    {"[CLS]\n[SEP]\n", NULL, NULL, "the vocabulary has no [UNK]"},
    {SPECIALS, "{\"unk_token\":\"<unk>\"}", NULL, "the vocabulary has no <unk>"},
    {SPECIALS "\xff\n", NULL, NULL, "vocab.txt: line 6 is not UTF-8"},
    {SPECIALS, "[]", NULL, "tokenizer_config.json: is no JSON object"},
    {SPECIALS, "{", NULL, "tokenizer_config.json: no JSON: "},
    {SPECIALS, "{} {}", NULL, "tokenizer_config.json: no JSON: "},
    {SPECIALS, "", NULL, "tokenizer_config.json: no JSON: "},
    {SPECIALS, "{\"do_lower_case\":1}", NULL,
     "tokenizer_config.json: do_lower_case must be true or false"},
    {SPECIALS, "{\"strip_accents\":\"\"}", NULL,
     "tokenizer_config.json: strip_accents must be true or false"},
    {SPECIALS, "{\"tokenize_chinese_chars\":[]}", NULL,
     "tokenizer_config.json: tokenize_chinese_chars must be true or false"},
    {SPECIALS, "{\"cls_token\":\"\"}", NULL,
     "tokenizer_config.json: cls_token must be a text of 1 to 63 bytes"},
    {SPECIALS, "{\"cls_token\":7}", NULL,
     "tokenizer_config.json: cls_token must be a text of 1 to 63 bytes"},
    {SPECIALS, "{\"pad_token\":{}}", NULL,
     "tokenizer_config.json: pad_token must be a text of 1 to 63 bytes"},
    {SPECIALS, "{\"pad_token\":\"a\\u0000b\"}", NULL,
     "tokenizer_config.json: pad_token must be a text of 1 to 63 bytes"},
    {SPECIALS, NULL, "{\"model\":{\"type\":\"BPE\"}}",
     "tokenizer.json: model.type must be WordPiece"},
    {SPECIALS, NULL, "{\"model\":[]}", "tokenizer.json: model must be an object"},
    {SPECIALS, NULL, "{\"model\":{\"max_input_chars_per_word\":200}}",
     "tokenizer.json: model.max_input_chars_per_word must be 100"},
    {SPECIALS, NULL, "{\"normalizer\":null}", "tokenizer.json: normalizer must be an object"},
    {SPECIALS, NULL, "{\"normalizer\":{\"type\":\"NFC\"}}",
     "tokenizer.json: normalizer.type must be BertNormalizer"},
    {SPECIALS, NULL, "{\"normalizer\":{\"clean_text\":false}}",
     "tokenizer.json: normalizer.clean_text false is not supported"},
    {SPECIALS, NULL, "{\"pre_tokenizer\":null}", "tokenizer.json: pre_tokenizer must be an object"},
    {SPECIALS, NULL, "{\"pre_tokenizer\":{}}",
     "tokenizer.json: pre_tokenizer.type must be BertPreTokenizer"},
    {SPECIALS, NULL, "{\"pre_tokenizer\":{\"type\":\"Whitespace\"}}",
     "tokenizer.json: pre_tokenizer.type must be BertPreTokenizer"},
};

Test(tokenizer_read, what_is_wrong_is_refused_by_name)
{
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct made m;
        make(&m, refused[i].vocab, refused[i].config, refused[i].json);
        cr_assert_eq(m.r, -1, "row %zu was accepted", i);
        cr_assert(!strncmp(m.f.why, refused[i].why, strlen(refused[i].why)), "row %zu: %s", i,
                  m.f.why);
        cr_assert_eq(m.f.exit, 65);
        put_away(&m);
    }
}

static const struct { const char *config, *json; bool lower, strip, ideographs;
} options[] = {
    {NULL, NULL, true, true, true},
    {"{}", "{}", true, true, true},
    {"{\"do_lower_case\":false}", NULL, false, false, true},
    {"{\"do_lower_case\":false,\"strip_accents\":true}", NULL, false, true, true},
    {"{\"strip_accents\":null}", NULL, true, true, true},
    {"{\"strip_accents\":false}", NULL, true, false, true},
    {"{\"tokenize_chinese_chars\":false}", NULL, true, true, false},
    {NULL, "{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":false}}", false, false,
     true},
    {NULL, "{\"normalizer\":{\"lowercase\":false,\"strip_accents\":true}}", false, true, true},
    {NULL, "{\"normalizer\":{\"handle_chinese_chars\":false}}", true, true, false},
    {"{\"do_lower_case\":true}", "{\"normalizer\":{\"lowercase\":false}}", true, true, true},
    {"{\"strip_accents\":null}", "{\"normalizer\":{\"strip_accents\":false}}", true, false, true},
    {NULL, "{\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}}", true, true, true},
    {NULL, "{\"truncation\":{\"max_length\":128},\"padding\":{\"strategy\":{\"Fixed\":128}}}", true,
     true, true},
    {"{\"model_max_length\":512,\"never_split\":null,\"pad_token\":null}", "{\"model\":{}}", true,
     true, true},
};

Test(tokenizer_read, configuration_wins_over_tokenizer_json_over_the_default)
{
    for (size_t i = 0; i < COUNT(options); i++) {
        struct made m;
        make(&m, SPECIALS, options[i].config, options[i].json);
        cr_assert_eq(m.r, 0, "row %zu: %s", i, m.f.why);
        cr_assert_eq(m.t.wordpiece.lower, options[i].lower, "row %zu: lower", i);
        cr_assert_eq(m.t.wordpiece.strip_accents, options[i].strip, "row %zu: strip", i);
        cr_assert_eq(m.t.wordpiece.ideographs, options[i].ideographs, "row %zu: ideographs", i);
        put_away(&m);
    }
}

Test(tokenizer_read, specials_and_prefix_have_other_names_where_the_files_say_so)
{
    struct made m;
    make(&m, "[CLS]\n[SEP]\n<u>\na\n@@b\n##b\n",
         "{\"unk_token\":{\"content\":\"<u>\",\"special\":true}}",
         "{\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"@@\",\"vocab\":{\"x\":"
         "7}}}");
    cr_assert_eq(m.r, 0, "%s", m.f.why);
    struct wordpiece_token out[4];
    cr_assert_eq(wordpiece_cut(&m.t.wordpiece, text_of("ab <u>x"), out, 4), 4);
    uint32_t want[] = { 3, 4, 2, 2 };
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(out[i].id, want[i], "piece %zu is %u", i, out[i].id);
    put_away(&m);
}

Test(tokenizer_open, reads_a_directory_and_names_it_in_errors)
{
    char *dir = dir_copy("", (const char *const[]){ NULL });
    struct tokenizer t;
    struct fault f;
    cr_assert_eq(tokenizer_open(&t, dir, &f), -1);
    cr_assert(!strncmp(f.why, dir, strlen(dir)) && strstr(f.why, "vocab.txt: No such file"), "%s",
              f.why);
    tokenizer_close(&t);
    dir_edit(dir, "vocab.txt", NULL, SPECIALS "hello\n");
    dir_edit(dir, "tokenizer_config.json", NULL, "{\"do_lower_case\": false}");
    cr_assert_eq(tokenizer_open(&t, dir, &f), 0, "%s", f.why);
    cr_assert(!t.wordpiece.lower);
    cr_assert_eq(vocab_id(&t.wordpiece.vocab, text_of("hello")), 5);
    tokenizer_close(&t);
    dir_edit(dir, "sentence_bert_config.json", NULL, "{\"do_lower_case\": true}");
    cr_assert_eq(tokenizer_open(&t, dir, &f), -1, "a text in lower case has other tokens here");
    cr_assert(strstr(f.why, "sentence_bert_config.json: do_lower_case is not supported"), "%s",
              f.why);
    tokenizer_close(&t);
    dir_edit(dir, "tokenizer_config.json", NULL, "{\"do_lower_case\": true}");
    cr_assert_eq(tokenizer_open(&t, dir, &f), 0, "it says the same: %s", f.why);
    tokenizer_close(&t);
    dir_remove(dir);
}
