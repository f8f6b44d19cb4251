// All tests of the clients in Node; closes with `N passed, N failed, N skipped`.
//   node run.mjs
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const absent = Number(process.versions.node.split('.')[0]) < 20 ? `Node ${process.version} is older than 20`
  : existsSync(new URL('../node_modules/ws', import.meta.url)) ? '' : 'npm packages are missing: run npm ci in tests/';
if (absent) {
  process.stdout.write(`skipped: ${absent}\n0 passed, 0 failed, 1 skipped\n`);
  process.exit(0);
}
const files = readdirSync(here).filter((f) => f.endsWith('.test.mjs'));
const r = spawnSync(process.execPath, ['--test', '--test-timeout=30000', '--test-reporter=tap', ...files], { cwd: here, encoding: 'utf8', timeout: 120000 });
const lines = r.stdout.split('\n').filter((l) => /^ *(not )?ok /.test(l));
const leaves = lines.filter((l) => !/- no promise hangs/.test(l)); // it only holds the rows
const failed = leaves.filter((l) => /^ *not ok/.test(l)).length;
const skipped = leaves.filter((l) => /# SKIP/.test(l)).length;
if (failed || r.status) process.stdout.write(r.stdout);
process.stdout.write(`${leaves.length - failed - skipped} passed, ${failed || (r.status ? 1 : 0)} failed, ${skipped} skipped\n`);
process.exit(r.status ? 1 : 0);
