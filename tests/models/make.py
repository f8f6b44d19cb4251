#!/usr/bin/python3
"""Random models and adapters with fixed seeds, and what they must compute.

    make.py DIR [NAME...]   write the named sets (default: tiny shapes minilm) below DIR
    make.py --check DIR     compare the float64 reference here with python3-torch

Layout as docs/ describes it. Each model gets a golden.txt, one case a line:

    ADAPTER(or -) NORMALIZE T id*T value*H

computed in float64 from the weights as they stand in the file. Needs python3-numpy.
"""
import json
import math
import os
import struct
import sys

import numpy as np

TINY = dict(hidden=24, layers=2, heads=3, inter=40, vocab=64, positions=40)
ODD = dict(hidden=36, layers=2, heads=2, inter=70, vocab=70, positions=80)
MINILM = dict(hidden=384, layers=6, heads=12, inter=1536, vocab=30522, positions=512)


def bf16(x):
    bits = x.astype('<f4').view('<u4')
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype('<u2')


def encode(x, dtype):
    if dtype == 'BF16':
        return bf16(x).tobytes()
    return x.astype('<f2' if dtype == 'F16' else '<f4').tobytes()


def rounded(x, dtype):
    """What a reader of the file gets, as float64."""
    if dtype == 'BF16':
        return (bf16(x).astype('<u4') << 16).view('<f4').astype(np.float64)
    return x.astype('<f2' if dtype == 'F16' else '<f4').astype(np.float64)


def write_safetensors(path, tensors, dtype='F32', metadata=None):
    header, at, parts = {}, 0, []
    if metadata is not None:
        header['__metadata__'] = metadata
    for name, x in tensors.items():
        kind = 'I64' if x.dtype == np.int64 else dtype
        data = x.astype('<i8').tobytes() if kind == 'I64' else encode(x, dtype)
        header[name] = dict(dtype=kind, shape=list(x.shape), data_offsets=[at, at + len(data)])
        at += len(data)
        parts.append(data)
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + b''.join(parts))


def parts(s):
    h, i = s['hidden'], s['inter']
    return {'attention.self.query': (h, h), 'attention.self.key': (h, h),
            'attention.self.value': (h, h), 'attention.output.dense': (h, h),
            'intermediate.dense': (i, h), 'output.dense': (h, i)}


def random_weights(s, seed):
    r = np.random.RandomState(seed)
    h = s['hidden']
    w = {'embeddings.word_embeddings.weight': r.randn(s['vocab'], h) * 0.5,
         'embeddings.position_embeddings.weight': r.randn(s['positions'], h) * 0.1,
         'embeddings.token_type_embeddings.weight': r.randn(2, h) * 0.1,
         'embeddings.LayerNorm.weight': 1 + 0.1 * r.randn(h),
         'embeddings.LayerNorm.bias': 0.1 * r.randn(h)}
    for l in range(s['layers']):
        at = 'encoder.layer.%d.' % l
        for name, (out, into) in parts(s).items():
            w[at + name + '.weight'] = r.randn(out, into) / math.sqrt(into)
            w[at + name + '.bias'] = 0.1 * r.randn(out)
        for name in ('attention.output.LayerNorm', 'output.LayerNorm'):
            w[at + name + '.weight'] = 1 + 0.1 * r.randn(h)
            w[at + name + '.bias'] = 0.1 * r.randn(h)
    return {k: v.astype(np.float32) for k, v in w.items()}


def layer_norm(x, gamma, beta, eps):
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + eps) * gamma + beta


erf = np.vectorize(math.erf, otypes=[np.float64])


def activation(x, kind):
    if kind == 'relu':
        return np.maximum(x, 0)
    if kind == 'gelu':
        return 0.5 * x * (1 + erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def forward(s, w, ids, act='gelu', eps=1e-12, pooling='mean', normalize=True):
    """The reference, in float64: w are float64 arrays by tensor name."""
    n, h, heads = len(ids), s['hidden'], s['heads']
    d = h // heads
    x = (w['embeddings.word_embeddings.weight'][ids] + w['embeddings.token_type_embeddings.weight'][0]
         + w['embeddings.position_embeddings.weight'][:n])
    x = layer_norm(x, w['embeddings.LayerNorm.weight'], w['embeddings.LayerNorm.bias'], eps)
    for l in range(s['layers']):
        at = 'encoder.layer.%d.' % l

        def lin(name, y):
            return y @ w[at + name + '.weight'].T + w[at + name + '.bias']

        def norm(name, y):
            return layer_norm(y, w[at + name + '.LayerNorm.weight'], w[at + name + '.LayerNorm.bias'], eps)

        q, k, v = (lin('attention.self.' + m, x).reshape(n, heads, d).transpose(1, 0, 2)
                   for m in ('query', 'key', 'value'))
        p = q @ k.transpose(0, 2, 1) / math.sqrt(d)
        p = np.exp(p - p.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        ctx = (p @ v).transpose(1, 0, 2).reshape(n, h)
        x = norm('attention.output', lin('attention.output.dense', ctx) + x)
        x = norm('output', lin('output.dense', activation(lin('intermediate.dense', x), act)) + x)
    out = x.mean(0) if pooling == 'mean' else x[0] if pooling == 'cls' else x.max(0)
    return out / max(np.linalg.norm(out), 1e-12) if normalize else out


def random_adapter(s, seed, targets, rank, ranks=None, bias='none'):
    """{module: (A, B)} and {module: bias}; module as encoder.layer.0.attention.self.query."""
    r = np.random.RandomState(seed)
    ab, biases = {}, {}
    for l in range(s['layers']):
        for name, (out, into) in parts(s).items():
            if not any(('.' + name).endswith('.' + t) for t in targets):
                continue
            module = 'encoder.layer.%d.%s' % (l, name)
            k = (ranks or {}).get(name.split('.')[-1], rank)
            ab[module] = ((r.randn(k, into) / math.sqrt(into)).astype(np.float32),
                          (r.randn(out, k) * 0.3).astype(np.float32))
            if bias != 'none':
                biases[module] = (0.1 * r.randn(out)).astype(np.float32)
    if bias == 'all':   # of modules without LoRA too, as PEFT writes them
        h = s['hidden']
        rest = [('pooler.dense', h), ('embeddings.LayerNorm', h)]
        for l in range(s['layers']):
            sizes = [(name, out) for name, (out, _) in parts(s).items()]
            rest += [('encoder.layer.%d.%s' % (l, name), out) for name, out in sizes + [
                ('attention.output.LayerNorm', h), ('output.LayerNorm', h)]]
        for module, out in rest:
            if module not in ab:
                biases[module] = (0.1 * r.randn(out)).astype(np.float32)
    return ab, biases


def write_adapter(path, adapter, config, prefix='base_model.model.', bias_name='.base_layer.bias', dtype='F32'):
    os.makedirs(path, exist_ok=True)
    ab, biases = adapter
    tensors = {}
    for module, (a, b) in ab.items():
        tensors[prefix + module + '.lora_A.weight'] = a
        tensors[prefix + module + '.lora_B.weight'] = b
        if module in biases:
            tensors[prefix + module + bias_name] = biases[module]
    for module in biases:
        if module not in ab:
            tensors[prefix + module + '.bias'] = biases[module]
    write_safetensors(path + '/adapter_model.safetensors', tensors, dtype, {'format': 'pt'})
    with open(path + '/adapter_config.json', 'w') as f:
        json.dump(dict(dict(peft_type='LORA', bias='none', lora_dropout=0.1, fan_in_fan_out=False,
                            modules_to_save=None, use_dora=False, use_rslora=False), **config), f)


def merge(w, adapter, scale):
    out = dict(w)
    for module, (a, b) in adapter[0].items():
        out[module + '.weight'] = w[module + '.weight'] + scale(module) * (
            b.astype(np.float64) @ a.astype(np.float64))
    for module, bias in adapter[1].items():
        out[module + '.bias'] = bias.astype(np.float64)
    return out


def write_json(path, value):
    with open(path, 'w') as f:
        json.dump(value, f, indent=1)


def write_model(path, s, w, dtype='F32', act='gelu', eps=1e-12, pooling='mean', prefix='', old=False,
                extra=None, max_seq=None):
    os.makedirs(path + '/1_Pooling', exist_ok=True)
    write_json(path + '/config.json', dict(
        model_type='bert', hidden_size=s['hidden'], num_hidden_layers=s['layers'], num_attention_heads=s['heads'],
        intermediate_size=s['inter'], hidden_act=act, layer_norm_eps=eps, max_position_embeddings=s['positions'],
        type_vocab_size=2, vocab_size=s['vocab'], pad_token_id=0, position_embedding_type='absolute'))
    write_json(path + '/modules.json', [
        dict(idx=i, name=str(i), path=p, type='sentence_transformers.models.' + t)
        for i, (p, t) in enumerate([('', 'Transformer'), ('1_Pooling', 'Pooling'), ('2_Normalize', 'Normalize')])])
    write_json(path + '/1_Pooling/config.json', dict(
        word_embedding_dimension=s['hidden'], pooling_mode_cls_token=pooling == 'cls',
        pooling_mode_mean_tokens=pooling == 'mean', pooling_mode_max_tokens=pooling == 'max',
        pooling_mode_mean_sqrt_len_tokens=False))
    write_json(path + '/sentence_bert_config.json', dict(max_seq_length=max_seq or s['positions'], do_lower_case=False))
    write_json(path + '/tokenizer_config.json', dict(do_lower_case=True, model_max_length=s['positions'],
                                                     tokenizer_class='BertTokenizer'))
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] + [chr(c) for c in range(97, 123)]
    words += ['##' + chr(c) for c in range(97, 123)]
    words += ['w%d' % i for i in range(s['vocab'])]
    with open(path + '/vocab.txt', 'w') as f:
        f.write(''.join(v + '\n' for v in words[:s['vocab']]))
    tensors = {}
    for name, x in w.items():
        if old:
            name = name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')
        tensors[prefix + name] = x
    tensors.update(extra or {})
    write_safetensors(path + '/model.safetensors', tensors, dtype, {'format': 'pt'})


def some_ids(s, n, seed):
    r = np.random.RandomState(seed)
    return [2] + [int(i) for i in r.randint(5, s['vocab'], n - 2)] + [3]


def golden(path, cases):
    with open(path + '/golden.txt', 'w') as f:
        for adapter, normalize, ids, v in cases:
            f.write('%s %d %d %s %s\n' % (adapter, normalize, len(ids), ' '.join(map(str, ids)),
                                          ' '.join('%.17g' % x for x in v)))


def plain_cases(s, w, dtype, lengths, **kw):
    w64 = {k: rounded(v, dtype) for k, v in w.items()}
    out = []
    for i, n in enumerate(lengths):
        ids = some_ids(s, n, 100 + i)
        for normalize in (True, False) if i == 0 else (True,):
            out.append(('-', normalize, ids, forward(s, w64, ids, normalize=normalize, **kw)))
    return out


def adapter_sets(s):
    """name, adapter, configuration, scale by module, how it is written."""
    attention = ['query', 'value']
    everything = ['query', 'key', 'value', 'dense']
    yield ('qv', random_adapter(s, 21, attention, 4), dict(r=4, lora_alpha=8, target_modules=attention),
           lambda m: 2.0, {})
    yield ('all', random_adapter(s, 24, ['query', 'value', 'dense'], 3, bias='all'),
           dict(r=3, lora_alpha=6, use_rslora=True, bias='all', target_modules=['query', 'value', 'dense']),
           lambda m: 6 / math.sqrt(3), dict(prefix='base_model.model.bert.'))
    yield ('pattern', random_adapter(s, 23, everything, 2, ranks={'key': 17}, bias='lora_only'),
           dict(r=2, lora_alpha=2, rank_pattern={'key': 17}, alpha_pattern={'attention.output.dense': 5},
                bias='lora_only', target_modules='all-linear'),
           lambda m: 2 / 17 if m.endswith('.key') else 2.5 if m.endswith('attention.output.dense') else 1.0,
           dict(prefix='', bias_name='.bias'))


def with_adapters(path, s, w, lengths):
    w64 = {k: rounded(v, 'F32') for k, v in w.items()}
    cases = []
    for name, adapter, config, scale, how in adapter_sets(s):
        write_adapter('%s/adapters/%s' % (path, name), adapter, config, **how)
        merged = merge(w64, adapter, scale)
        for i, n in enumerate(lengths):
            ids = some_ids(s, n, 200 + i)
            cases.append((name, True, ids, forward(s, merged, ids)))
    return cases


def make_tiny(at):
    """Small enough to lie in the tree."""
    w = random_weights(TINY, 1)
    path = at + '/tiny'
    write_model(path, TINY, w)
    cases = plain_cases(TINY, w, 'F32', [2, 3, 5, 17, 40])
    golden(path, cases + with_adapters(path, TINY, w, [2, 9, 40]))


def make_shapes(at):
    """Every form that a directory may have, in a shape that fits no vector."""
    pooler = {'pooler.dense.weight': np.zeros((36, 36), np.float32), 'pooler.dense.bias': np.zeros(36, np.float32),
              'embeddings.position_ids': np.arange(80, dtype=np.int64).reshape(1, 80)}
    for name, kw in [('odd', {}), ('f16', dict(dtype='F16')), ('bf16', dict(dtype='BF16')),
                     ('bert', dict(prefix='bert.', old=True, extra={'bert.' + k: v for k, v in pooler.items()})),
                     ('pooler', dict(extra=pooler)), ('cls', dict(pooling='cls')), ('max', dict(pooling='max')),
                     ('tanh', dict(act='gelu_new')), ('pytorch_tanh', dict(act='gelu_pytorch_tanh')),
                     ('relu', dict(act='relu')), ('eps', dict(eps=1e-3))]:
        w = random_weights(ODD, 2)
        write_model(at + '/' + name, ODD, w, **kw)
        golden(at + '/' + name, plain_cases(
            ODD, w, kw.get('dtype', 'F32'), [2, 7, 33, 80],
            **{k: v for k, v in kw.items() if k in ('act', 'eps', 'pooling')}))


def make_minilm(at):
    """The shape of all-MiniLM-L6-v2 (90 MB)."""
    w = random_weights(MINILM, 3)
    path = at + '/minilm'
    write_model(path, MINILM, w)
    cases = plain_cases(MINILM, w, 'F32', [2, 3, 8, 16, 31, 32, 64, 128, 255, 256, 512])
    golden(path, cases + with_adapters(path, MINILM, w, [8, 100]))
    # The same weights rounded to bfloat16, with the vectors of the unrounded ones.
    write_model(at + '/minilm-bf16', MINILM, w, dtype='BF16')
    golden(at + '/minilm-bf16', cases)


def check(at):
    """The reference above against an independent one."""
    import torch
    import torch.nn.functional as F
    torch.set_default_dtype(torch.float64)
    worst = 0
    for name, s, seed, lengths in (('tiny', TINY, 1, [5, 40]), ('minilm', MINILM, 3, [8, 128])):
        w = {k: torch.tensor(v.astype(np.float64)) for k, v in random_weights(s, seed).items()}
        for n in lengths:
            ids = some_ids(s, n, n)
            x = F.embedding(torch.tensor(ids), w['embeddings.word_embeddings.weight'])
            x = x + w['embeddings.position_embeddings.weight'][:n] + w['embeddings.token_type_embeddings.weight'][0]
            x = F.layer_norm(x, (s['hidden'],), w['embeddings.LayerNorm.weight'], w['embeddings.LayerNorm.bias'], 1e-12)
            for l in range(s['layers']):
                p = {k.split('.', 3)[3]: v for k, v in w.items() if k.startswith('encoder.layer.%d.' % l)}
                q, k, v = (F.linear(x, p['attention.self.%s.weight' % m], p['attention.self.%s.bias' % m])
                           .view(n, s['heads'], -1).transpose(0, 1) for m in ('query', 'key', 'value'))
                c = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), -1) @ v
                c = c.transpose(0, 1).reshape(n, -1)
                for block, inside in (('attention.output', lambda y: y), ('output', None)):
                    if inside is None:
                        c = F.gelu(F.linear(x, p['intermediate.dense.weight'], p['intermediate.dense.bias']))
                    c = F.linear(c, p[block + '.dense.weight'], p[block + '.dense.bias'])
                    x = F.layer_norm(c + x, (s['hidden'],), p[block + '.LayerNorm.weight'],
                                     p[block + '.LayerNorm.bias'], 1e-12)
            v = F.normalize(x.mean(0), dim=0).numpy()
            w64 = {k: t.numpy() for k, t in w.items()}
            worst = max(worst, np.abs(v - forward(s, w64, ids)).max())
            print('%s, %d tokens: differs from torch by %.2g' % (name, n, worst))
    return worst < 1e-12


def main():
    if sys.argv[1] == '--check':
        sys.exit(0 if check(sys.argv[2] if len(sys.argv) > 2 else '.') else 1)
    at = sys.argv[1]
    for name in sys.argv[2:] or ['tiny', 'shapes', 'minilm']:
        globals()['make_' + name](at)


if __name__ == '__main__':
    main()
