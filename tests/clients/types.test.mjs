// The clients pass tsc --checkJs, their .d.ts files serve a strict program, and both name the same methods.
import test from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const clients = new URL('../../clients/', import.meta.url);

test('tsc --checkJs finds nothing in the clients and the page, and the types serve a program', () => {
  const r = spawnSync(process.execPath, ['../node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'], { cwd: here, encoding: 'utf8' });
  assert.equal(r.status, 0, r.stdout + r.stderr);
});

test('classes and their declarations name the same methods', async () => {
  for (const [file, name] of [['reconnecting-socket', 'ReconnectingSocket'], ['memory-interface', 'MemoryInterface'], ['lora-interface', 'LoRAInterface']]) {
    const { [name]: Class } = await import(new URL(`${file}.js`, clients));
    const declared = readFileSync(new URL(`${file}.d.ts`, clients), 'utf8').split(`class ${name}`)[1];
    const names = [...declared.matchAll(/^ {2}(\w+)(?:<.*?>)?\(/gm)].map((m) => m[1]).sort();
    const real = Object.getOwnPropertyNames(Class.prototype).sort();
    assert.deepEqual(names.filter((n) => n !== 'locate' && n !== 'constructor'), real.filter((n) => n !== 'locate' && n !== 'constructor'), name);
  }
});

test('the package holds what it exports, and every module has its types', () => {
  const r = spawnSync('npm', ['pack', '--dry-run', '--json'], { cwd: fileURLToPath(clients), encoding: 'utf8' });
  assert.equal(r.status, 0, r.stderr);
  const packed = JSON.parse(r.stdout)[0].files.map((f) => f.path).filter((f) => f !== 'package.json').sort();
  const stems = ['index', 'lora-interface', 'memory-interface', 'reconnecting-socket'];
  assert.deepEqual(packed, stems.flatMap((s) => [`${s}.d.ts`, `${s}.js`]));
});

test('page and clients are at most 80 KiB together', () => {
  const sizes = readdirSync(clients).filter((f) => /\.(html|css|js)$/.test(f)).map((f) => readFileSync(new URL(f, clients)).length);
  const sum = sizes.reduce((a, b) => a + b);
  assert.ok(sum <= 80 * 1024, `${sum} bytes`);
});

test('nothing in the page is set as HTML, styled or scripted inline', () => {
  for (const file of readdirSync(clients).filter((f) => /\.(html|js)$/.test(f))) {
    const source = readFileSync(new URL(file, clients), 'utf8');
    assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/, file);
    if (file.endsWith('.html')) assert.doesNotMatch(source, /\sstyle=|\son\w+=|<style|<script(?![^>]*src=)|https?:/, file);
  }
});
