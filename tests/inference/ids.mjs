// Ids of npm @huggingface/tokenizers, for tests/test_wordpiece.c to compare with.
//   node ids.mjs VOCAB TEXTS LOWER < nothing: one line of ids for each text of the JSON list TEXTS
import { readFileSync } from 'node:fs';
import { Tokenizer } from '@huggingface/tokenizers';

const [vocabFile, textFile, lower] = process.argv.slice(2);
const vocab = Object.create(null);
readFileSync(vocabFile, 'utf8').replace(/\n$/, '').split('\n').forEach((token, id) => { vocab[token] = id; });
const special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'];
const tokenizer = new Tokenizer({
    version: '1.0',
    added_tokens: special.map((content) => ({
        id: vocab[content], content, single_word: false, lstrip: false, rstrip: false,
        normalized: false, special: true,
    })),
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true,
                  strip_accents: null, lowercase: lower === '1' },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: null,
    decoder: null,
    model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##',
             max_input_chars_per_word: 100, vocab: { ...vocab } },
}, {});
for (const text of JSON.parse(readFileSync(textFile, 'utf8')))
    console.log(tokenizer.encode(text, { add_special_tokens: false }).ids.join(' '));
