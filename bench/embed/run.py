#!/usr/bin/env python3
"""The encoder beside onnxruntime on a random model of MiniLM's shape, one thread each.

    bench/embed/run.py [--build build] [--rounds 9]

Makes the model (tests/models/make.py) and its ONNX graphs when they are not there, builds
embed.c and lets compare.mjs print the table; the same goes to bench/results/embed.csv.
Wants python3-numpy, python3-onnx and, from npm, onnxruntime-node in bench/embed; without
the last two only our own figures are measured.
"""
import argparse
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PARTS = ('encoder weights kernels processor lora lora_config model config_file safetensors '
         'fingerprint').split()
OTHERS = 'servers/crc32c servers/log json number utf8 base64'.split()


def build(at):
    objects = ['%s/servers/inference/%s.o' % (at, p) for p in PARTS]
    if os.uname().machine == 'x86_64':
        objects += ['%s/servers/inference/kernels_%s.o' % (at, k) for k in ('avx2', 'avx512')]
    objects += ['%s/%s.o' % (at, o) for o in OTHERS]
    subprocess.run(['make', '-s', '-C', ROOT, 'BUILD=' + at] + objects, check=True)
    out = at + '/bench/embed'
    os.makedirs(ROOT + '/' + at + '/bench', exist_ok=True)
    subprocess.run([os.environ.get('CC', 'gcc'), '-std=c11', '-O2', '-D_GNU_SOURCE', '-I.', '-o', out,
                    'bench/embed/embed.c'] + objects + ['-lm'], check=True, cwd=ROOT)
    return ROOT + '/' + out


def models(at):
    model, graphs = at + '/models/minilm', at + '/models/onnx'
    if not os.path.exists(model + '/golden.txt'):
        subprocess.run([sys.executable, ROOT + '/tests/models/make.py', at + '/models', 'minilm'], check=True)
    if not os.path.exists(graphs + '/int8.onnx'):
        os.makedirs(graphs, exist_ok=True)
        if subprocess.run([sys.executable, HERE + '/make_onnx.py', model, graphs]).returncode:
            print('python3-onnx is missing: onnxruntime has nothing to run')
    return model, graphs


def main():
    a = argparse.ArgumentParser()
    a.add_argument('--build', default='build')
    a.add_argument('--rounds', default='9')
    a = a.parse_args()
    if not os.path.isdir(HERE + '/node_modules/onnxruntime-node'):
        subprocess.run(['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', '--silent'], cwd=HERE)
    program = build(a.build)
    model, graphs = models(ROOT + '/' + a.build)
    os.makedirs(ROOT + '/bench/results', exist_ok=True)
    sys.exit(subprocess.run(['node', HERE + '/compare.mjs', program, model, graphs, a.rounds,
                             ROOT + '/bench/results/embed.csv']).returncode)


if __name__ == '__main__':
    main()
