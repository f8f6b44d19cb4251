#!/usr/bin/env python3
"""The encoder beside onnxruntime on a random model of MiniLM's shape, one thread each: CPU time of a text.

    bench/embed/run.py [--build build] [--rounds 9]

Makes the model (tests/models/make.py) and its ONNX graphs when they are not there and lets compare.mjs
measure. Wants python3-numpy, python3-onnx and onnxruntime-node of npm (bench/install); without the
last two only our own figures are measured.
"""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import report  # noqa: E402
from report import ROOT  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
GOALS = {'float32': {8: 1.6, 16: 1.25, 32: 1.2, 128: 1.1, 256: 1.1}, 'int8': {8: 1.5, 16: 1.3, 32: 1.3, 128: 1.3, 256: 1.3}}
READY, MEGABYTES = {'float32': '<= 60', 'int8': ''}, {'float32': '<= 65', 'int8': '<= 25'}


def models(at):
    model, graphs = at + '/models/minilm', at + '/models/onnx'
    if not os.path.exists(model + '/golden.txt'):
        subprocess.run([sys.executable, ROOT + '/tests/models/make.py', at + '/models', 'minilm'], check=True)
    if not os.path.exists(graphs + '/int8.onnx'):
        os.makedirs(graphs, exist_ok=True)
        subprocess.run([sys.executable, HERE + '/make_onnx.py', model, graphs], stderr=subprocess.DEVNULL)
    return model, graphs


def show(out, kind, said):
    for row in said['tokens']:
        tokens, ours, theirs = row['tokens'], [x['cpu'] for x in row['ours']], [x['cpu'] for x in row['theirs']]
        flops = 2 * tokens * 6 * (4 * 384 * 384 + 2 * 384 * 1536) + 6 * 4 * tokens * tokens * 384
        share = flops / sorted(ours)[len(ours) // 2] / 1e6 / said['peak']
        out.add('%d tokens, %s' % (tokens, kind), 'recalld', ours, 'ms',
                note='%.0f %% of peak' % (100 * share) if kind == 'float32' else '')
        out.add('%d tokens, %s' % (tokens, kind), 'onnxruntime', theirs, 'ms', (theirs, ours), '>= %g x' % GOALS[kind][tokens],
                'cosine of both %.6f' % row['cosine'] if theirs else '')
    out.add('32 texts of 8 tokens, a token, ' + kind, 'recalld', said['batch'], 'ms', (said['one'], said['batch']),
            '>= 0.8 x text of 128')
    for who, x in (('recalld', said['ours']), ('onnxruntime', said['theirs'])):
        if x:
            ours = who == 'recalld'
            out.add('load, ' + kind, who, x['ready'], 'ms', goal=READY[kind] if ours else '')
            out.add('memory after load, ' + kind, who, [x['megabytes']], 'MB', goal=MEGABYTES[kind] if ours else '',
                    note='after all runs %.0f MB' % x['after'] if ours else 'growth of the process')


def main():
    a = report.arguments(9)
    program = a.build + '/bench/embed/embed'                     # make bench builds it
    model, graphs = models(a.build)
    there = report.npm('bench/embed', 'onnxruntime-node')
    out = report.Report('embed', 'Encoder: CPU time of one text', a.rounds, {
        'onnxruntime-node': there if os.path.exists(graphs + '/int8.onnx') else None, 'node': report.one_line('node', '--version')})
    if not shutil.which('node'):
        sys.exit('node is missing')
    for kind in ('float32', 'int8'):
        done = subprocess.run([*report.core('server'), 'node', HERE + '/compare.mjs', program, model, graphs, kind, str(a.rounds)],
                              stdout=subprocess.PIPE, text=True, check=True)
        said = json.loads(done.stdout)
        print('peak of this core: %.0f GFLOP/s of fused multiply-add; kernels %s' % (said['peak'], said['ours']['kernels']))
        show(out, kind, said)
    out.write()


if __name__ == '__main__':
    main()
