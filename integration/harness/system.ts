// SPDX-License-Identifier: Apache-2.0
// A guest that is a Debian of its own: systemd, an initramfs of its own, and the product as its packages have it.
import { join } from 'node:path';
import { readdir, rm } from 'node:fs/promises';
import { artifact, fingerprint, repository } from './cache.js';
import { kernelRoot, systemRoot } from './debian.js';
import { debianPackages } from './packages.js';
import { buildModule, sshKeys } from './payload.js';
import { asRoot, checkCommand, say } from './process.js';

const script = join(repository, 'integration', 'harness', 'image', 'system.sh');

/** What makes an initramfs. */
export type InitramfsTool = 'initramfs-tools' | 'dracut';

/** The directory that holds `root.ext4` and an initramfs by the name of each tool, for a kernel. */
export async function systemImage(kernel: string): Promise<string> {
  const root = await systemRoot();
  const kernelDirectory = await kernelRoot(kernel);
  const module = await buildModule(kernel);
  const keys = await sshKeys();
  const packages = await debianPackages();
  const inputs = [root, kernelDirectory, keys, packages];
  for (const path of [script, module]) inputs.push(await fingerprint(path));
  return artifact(`system-${kernel}`, inputs, async (out) => {
    say(`making a Debian that boots by itself, with kernel ${kernel}, about a minute`);
    const product = join(out, 'product');
    for (const file of await readdir(packages))
      await checkCommand(['dpkg-deb', '-x', join(packages, file), product]);
    await checkCommand(
      asRoot(['bash', script, out, join(root, 'root'), kernelDirectory, module, product, keys]),
    );
    await rm(product, { recursive: true });
  });
}
