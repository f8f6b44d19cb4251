#!/usr/bin/python3
"""The random MiniLM-shaped model of tests/models/make.py as ONNX graphs for onnxruntime.

    make_onnx.py MODEL_DIR OUT_DIR     writes float32.onnx and int8.onnx

The graphs are what an export gives: one text, no mask (all tokens are real), mean pooling
and normalisation at the end. int8.onnx is dynamic quantisation: int8 weights, activations
quantised at run time. Needs python3-numpy and python3-onnx.
"""
import json
import math
import struct
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def read_safetensors(path):
    data = open(path, 'rb').read()
    n = struct.unpack('<Q', data[:8])[0]
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name != '__metadata__':
            a, b = t['data_offsets']
            out[name] = np.frombuffer(data[8 + n + a:8 + n + b], '<f4').reshape(t['shape'])
    return out


class Graph:
    def __init__(self, config, weights, int8):
        self.c, self.w, self.int8 = config, weights, int8
        self.nodes, self.inits, self.n = [], [], 0
        self.quantized = {}

    def init(self, name, x):
        self.inits.append(numpy_helper.from_array(np.ascontiguousarray(x), name))
        return name

    def op(self, kind, inputs, outputs=1, **attributes):
        self.n += 1
        names = ['t%d_%d' % (self.n, i) for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x, name):
        w, b = self.w[name + '.weight'], self.w[name + '.bias']
        if not self.int8:
            y = self.op('MatMul', [x, self.init(name + '.wt', w.T)])
        else:
            if x not in self.quantized:
                self.quantized[x] = self.op('DynamicQuantizeLinear', [x], 3)
            q, scale, zero = self.quantized[x]
            s = np.float32(np.abs(w).max() / 127)
            wq = self.init(name + '.wq', np.clip(np.rint(w.T / s), -127, 127).astype(np.int8))
            y = self.op('MatMulInteger', [q, wq, zero, self.init(name + '.zero', np.int8(0))])
            y = self.op('Cast', [y], to=TensorProto.FLOAT)
            y = self.op('Mul', [y, self.op('Mul', [scale, self.init(name + '.scale', np.array(s))])])
        return self.op('Add', [y, self.init(name + '.b', b)])

    def norm(self, x, name):
        return self.op('LayerNormalization', [x, self.init(name + '.g', self.w[name + '.weight']),
                                              self.init(name + '.be', self.w[name + '.bias'])],
                       axis=-1, epsilon=float(self.c['layer_norm_eps']))

    def gelu(self, x):
        e = self.op('Erf', [self.op('Div', [x, 'sqrt2'])])
        y = self.op('Mul', [x, self.op('Add', [e, 'one'])])
        return self.op('Mul', [y, 'half'])

    def layer(self, x, at, heads, dim):
        def split(name, perm):
            y = self.op('Reshape', [self.linear(x, at + 'attention.self.' + name), 'to_heads'])
            return self.op('Transpose', [y], perm=perm)
        q, k, v = split('query', [0, 2, 1, 3]), split('key', [0, 2, 3, 1]), split('value', [0, 2, 1, 3])
        p = self.op('Softmax', [self.op('Div', [self.op('MatMul', [q, k]), 'root'])], axis=-1)
        c = self.op('Transpose', [self.op('MatMul', [p, v])], perm=[0, 2, 1, 3])
        c = self.linear(self.op('Reshape', [c, 'from_heads']), at + 'attention.output.dense')
        x = self.norm(self.op('Add', [c, x]), at + 'attention.output.LayerNorm')
        u = self.gelu(self.linear(x, at + 'intermediate.dense'))
        return self.norm(self.op('Add', [self.linear(u, at + 'output.dense'), x]), at + 'output.LayerNorm')

    def build(self):
        h, heads = self.c['hidden_size'], self.c['num_attention_heads']
        for name, v in (('sqrt2', math.sqrt(2)), ('one', 1), ('half', 0.5), ('root', math.sqrt(h // heads)),
                        ('tiny', 1e-12)):
            self.init(name, np.array(v, np.float32))
        self.init('to_heads', np.array([0, 0, heads, h // heads], np.int64))
        self.init('from_heads', np.array([0, 0, h], np.int64))
        self.init('type', self.w['embeddings.token_type_embeddings.weight'][0])
        self.init('zero1', np.array([0], np.int64))
        self.init('axis1', np.array([1], np.int64))
        word = self.op('Gather', [self.init('words', self.w['embeddings.word_embeddings.weight']), 'input_ids'])
        length = self.op('Gather', [self.op('Shape', ['input_ids']), self.init('one_i', np.array([1], np.int64))])
        pos = self.op('Slice', [self.init('positions', self.w['embeddings.position_embeddings.weight']),
                                'zero1', length, 'zero1'])
        x = self.op('Add', [self.op('Add', [word, 'type']), pos])
        x = self.norm(x, 'embeddings.LayerNorm')
        for l in range(self.c['num_hidden_layers']):
            x = self.layer(x, 'encoder.layer.%d.' % l, heads, h // heads)
        v = self.op('ReduceMean', [x], axes=[1], keepdims=0)
        norm = self.op('ReduceL2', [v], axes=[1], keepdims=1)
        self.nodes.append(helper.make_node('Div', [v, self.op('Max', [norm, 'tiny'])], ['vector']))
        graph = helper.make_graph(
            self.nodes, 'encoder', [helper.make_tensor_value_info('input_ids', TensorProto.INT64, [1, 'tokens'])],
            [helper.make_tensor_value_info('vector', TensorProto.FLOAT, [1, h])], self.inits)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)])
        model.ir_version = 8
        return model


def main():
    config = json.load(open(sys.argv[1] + '/config.json'))
    weights = read_safetensors(sys.argv[1] + '/model.safetensors')
    for name, int8 in (('float32', False), ('int8', True)):
        onnx.save(Graph(config, weights, int8).build(), '%s/%s.onnx' % (sys.argv[2], name))


if __name__ == '__main__':
    main()
