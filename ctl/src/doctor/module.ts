// SPDX-License-Identifier: Apache-2.0
// The kernel and the module in it.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GetHostResponse } from '../../../proto/gen/elio/v1/host.js';
import { note, ok, wrong, type Finding } from './finding.js';

/** What a kernel lets in. Of other hosts less is known: what GetHost tells. */
export interface KernelSecurity {
  secureBoot: 'on' | 'off' | 'unknown';
  /** none, integrity or confidentiality; unknown where the kernel has no lockdown. */
  lockdown: string;
  /** The module is loaded, and the kernel trusts no key with which it was signed. */
  moduleUnsigned: boolean;
}

const EFI_GLOBAL_VARIABLES = '8be4df61-93ca-11d2-aa0d-00e098032b8c';

/** Reads what a kernel tells below a root: / outside of tests. */
export async function readKernelSecurity(root = '/'): Promise<KernelSecurity> {
  const read = (path: string): Promise<Buffer | undefined> =>
    readFile(join(root, path)).catch(() => undefined);
  const variable = await read(`sys/firmware/efi/efivars/SecureBoot-${EFI_GLOBAL_VARIABLES}`);
  const lockdown = (await read('sys/kernel/security/lockdown'))?.toString() ?? '';
  // The module's own flags: /proc/sys/kernel/tainted would tell them of all modules together.
  const taint = (await read('sys/module/elastio_snap/taint'))?.toString() ?? '';
  return {
    // Four bytes of attributes come first.
    secureBoot: variable === undefined ? 'unknown' : variable[4] === 1 ? 'on' : 'off',
    lockdown: /\[(\w+)\]/.exec(lockdown)?.[1] ?? 'unknown',
    moduleUnsigned: taint.includes('E'),
  };
}

/** Is the module there, and of the agent's version? */
export function moduleFindings({ moduleVersion, agentVersion }: GetHostResponse): Finding[] {
  if (moduleVersion === '') {
    return [
      wrong(
        'kernel module',
        'not loaded: nothing can be tracked',
        'modprobe elastio-snap; if it is not installed, make install',
      ),
    ];
  }
  if (moduleVersion === agentVersion) return [ok('kernel module', `version ${moduleVersion}`)];
  return [
    note(
      'kernel module',
      `version ${moduleVersion}, and the agent is ${agentVersion}`,
      'make install; destroy the snapshots, modprobe -r elastio-snap && modprobe elastio-snap, systemctl restart eliod',
    ),
  ];
}

const ENROL =
  'mokutil --import /var/lib/dkms/mok.pub, reboot and confirm the key; DKMS signs with it: dkms install --force elastio-snap/VERSION';

/** Does the kernel let the module in, now and when Secure Boot is on? */
export function signatureFindings(security: KernelSecurity, loaded: boolean): Finding[] {
  const { secureBoot, lockdown, moduleUnsigned } = security;
  const strict = secureBoot === 'on' || !['none', 'unknown'].includes(lockdown);
  const mode = `Secure Boot ${secureBoot}, lockdown ${lockdown}`;
  if (!loaded) {
    if (!strict) return [ok('signature', `${mode}: none is needed`)];
    return [note('signature', `${mode}: only a module with a trusted signature is loaded`, ENROL)];
  }
  if (!moduleUnsigned) return [ok('signature', `${mode}: the kernel trusts that of the module`)];
  if (strict) {
    return [wrong('signature', `${mode}: the module has none, it will not load again`, ENROL)];
  }
  return [
    note('signature', `${mode}: the module has none; with Secure Boot it would not load`, ENROL),
  ];
}

/** The same of another host, by what its agent tells: who signed the module, not whether the kernel trusts him. */
export function remoteSignatureFindings(host: GetHostResponse): Finding[] {
  const { capabilities, moduleSignatureRequired, moduleSigner } = host;
  // An agent of before does not tell.
  if (capabilities.length === 0) return [];
  if (moduleSigner !== '') return [ok('signature', `that of the module is by ${moduleSigner}`)];
  if (moduleSignatureRequired) {
    return [wrong('signature', 'the kernel takes signed modules only, and this one is not', ENROL)];
  }
  return [note('signature', 'the module has none; with Secure Boot it would not load', ENROL)];
}

/** On Debian's kernels of these series all scenarios have passed; the tables of README say which. */
export const TESTED_SERIES = ['5.10', '6.1', '6.12', '7.3'] as const;

export function kernelFinding({ kernelRelease, architecture }: GetHostResponse): Finding {
  const series = /^\d+\.\d+/.exec(kernelRelease)?.[0];
  const isDebian = kernelRelease.endsWith('amd64') && architecture === 'x86_64';
  if (isDebian && TESTED_SERIES.some((known) => known === series)) {
    return ok('kernel', `${kernelRelease}: Debian's ${series ?? ''} is tested`);
  }
  return note(
    'kernel',
    `${kernelRelease} (${architecture}) is not tested: Debian's ${TESTED_SERIES.join(', ')} on x86_64 are`,
    'try it on a machine of no value first',
  );
}
