// SPDX-License-Identifier: Apache-2.0
// bundle.js: makes of each program one file with all the libraries that it begins with, in dist/bundle/bin; what it loads only when
// it needs it is in files beside. To find, read and compile each module by itself takes as long as everything else that a start does.
import { cpSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const dist = fileURLToPath(new URL('../..', import.meta.url));
const require = createRequire(import.meta.url);

// The names of files there tell of their content.
rmSync(join(dist, 'bundle'), { recursive: true, force: true });
await build({
  entryPoints: {
    eliod: join(dist, 'agent/src/main.js'),
    elioctl: join(dist, 'ctl/src/main.js'),
    'update-img': join(dist, 'ctl/src/update-img.js'),
  },
  outdir: join(dist, 'bundle/bin'),
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  minifySyntax: true,
  // Machine code, which it looks for beside itself.
  external: ['koffi'],
  // What a CommonJS module expects.
  banner: {
    js: `import { createRequire as requireOf } from 'node:module';
const require = requireOf(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;`,
  },
  logLevel: 'warning',
});

// These libraries read their .proto files when they are loaded, from where they would be two directories above.
for (const [library, protos, name] of [
  ['grpc-health-check', '../../proto', 'health'],
  ['@grpc/reflection', '../proto', 'grpc'],
] as const) {
  const source = join(dirname(require.resolve(library)), protos, name);
  cpSync(source, join(dist, 'proto', name), { recursive: true });
}
