// SPDX-License-Identifier: Apache-2.0
// driver.js KERNEL DIRECTORY: builds elastio-snap.ko for a kernel into a directory.
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { buildModule } from './payload.js';
import { say } from './process.js';

const [kernel, directory] = process.argv.slice(2);
if (kernel === undefined || directory === undefined)
  throw new Error('usage: driver.js KERNEL DIRECTORY');
try {
  const module = await buildModule(kernel);
  await mkdir(directory, { recursive: true });
  await copyFile(module, join(directory, 'elastio-snap.ko'));
  console.log(join(directory, 'elastio-snap.ko'));
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
