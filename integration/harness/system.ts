// SPDX-License-Identifier: Apache-2.0
// A guest that is a Debian of its own: systemd, an initramfs of its own, and the product as `make install` puts it there.
import { join } from 'node:path';
import { rm } from 'node:fs/promises';
import { artifact, fingerprint, repository } from './cache.js';
import { kernelRoot, systemRoot } from './debian.js';
import { buildModule, sshKeys } from './payload.js';
import { asRoot, checkCommand, say } from './process.js';

const script = join(repository, 'integration', 'harness', 'image', 'system.sh');
const installer = join(repository, 'integration', 'harness', 'install.sh');
const rescue = join(repository, 'agent', 'rescue');

/** What makes an initramfs. */
export type InitramfsTool = 'initramfs-tools' | 'dracut';

/** The directory that holds `root.ext4` and an initramfs by the name of each tool, for a kernel. */
export async function systemImage(kernel: string): Promise<string> {
  const root = await systemRoot();
  const kernelDirectory = await kernelRoot(kernel);
  const module = await buildModule(kernel);
  const keys = await sshKeys();
  await checkCommand(['make', '-s', '-C', rescue]);
  const inputs = [root, kernelDirectory, keys];
  for (const path of [
    script,
    installer,
    module,
    join(repository, 'agent', 'packaging'),
    join(repository, 'build', 'rescue', 'elio-rescue'),
    join(repository, 'dist', 'agent'),
    join(repository, 'dist', 'ctl'),
    join(repository, 'package-lock.json'),
  ])
    inputs.push(await fingerprint(path));
  return artifact(`system-${kernel}`, inputs, async (out) => {
    say(`making a Debian that boots by itself, with kernel ${kernel}, about a minute`);
    const product = join(out, 'product');
    await checkCommand(['env', `DESTDIR=${product}`, 'bash', installer, 'install']);
    await checkCommand(
      asRoot(['bash', script, out, join(root, 'root'), kernelDirectory, module, product, keys]),
    );
    await rm(product, { recursive: true });
  });
}
