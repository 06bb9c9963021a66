// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of our module and of modules at all.
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from './run-command.js';

const EFI_VARIABLES = '/sys/firmware/efi/efivars';

async function firstLine(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n', 1)[0] ?? '';
}

/** Version of the loaded module; empty: not loaded. */
export function moduleVersion(): Promise<string> {
  return firstLine('/sys/module/elastio_snap/version');
}

/** Trackers that the module takes at most; 0: not loaded. */
export async function maxSnapshots(): Promise<number> {
  return Number(await firstLine('/sys/module/elastio_snap/parameters/max_snap_devices'));
}

/** Does the kernel refuse modules that are not signed by a key it knows? */
export async function needsSignature(): Promise<boolean> {
  if ((await firstLine('/sys/module/module/parameters/sig_enforce')) === 'Y') return true;
  // "none [integrity] confidentiality"; kernels without lockdown have no such file.
  const lockdown = await firstLine('/sys/kernel/security/lockdown');
  if (/\[(integrity|confidentiality)\]/.test(lockdown)) return true;
  const names = await readdir(EFI_VARIABLES).catch(() => []);
  const secureBoot = names.find((name) => name.startsWith('SecureBoot-'));
  if (secureBoot === undefined) return false;
  // Four bytes of attributes, then the value. Debian's kernels lock themselves down when it is 1.
  const value = await readFile(join(EFI_VARIABLES, secureBoot)).catch(() => Buffer.alloc(0));
  return value[4] === 1;
}

/** Who signed the installed module; empty: nobody, or it is not installed where modprobe finds it. */
export async function moduleSigner(): Promise<string> {
  const { status, output } = await runCommand(
    ['/sbin/modinfo', '-F', 'signer', 'elastio-snap'],
    {},
    5_000,
  );
  return status === 0 ? output : '';
}
