// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { artifact } from './cache.js';
import { bootableKernel, initramfs, qemu } from './debian.js';
import { runCommand, say } from './process.js';

/**
 * The plainest processor is the fastest to emulate: vector and AES instructions, and copies by `rep movsb`, are each a call
 * per piece, while what programs use without them is translated (a copy 8 times, ChaCha20 10 times, SHA-256 5 times faster).
 */
const emulation = ['-accel', 'tcg,thread=multi', '-cpu', 'qemu64'];
const virtualisation = ['-accel', 'kvm', '-cpu', 'host'];

/** QEMU's arguments for a guest whose clock advances by 2 ns with each instruction, and by nothing else. */
export const instructionClock: readonly string[] = [
  '-accel',
  'tcg,thread=single',
  '-icount',
  'shift=1,sleep=off',
  '-cpu',
  'max',
];

const probeTimeoutMs = 30_000;

/**
 * QEMU's arguments for the fastest processor that works here. KVM counts only after a guest has really booted in it:
 * /dev/kvm can exist and a guest still hang. The answer is kept until this machine reboots.
 */
export async function accelerator(kernel: string): Promise<readonly string[]> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return emulation;
  }
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
  const answer = await artifact('accelerator', [bootId, kernel], async (directory) => {
    const works = await kvmBoots(kernel);
    say(
      works
        ? 'KVM works: guests run in it'
        : 'KVM does not boot a guest here: guests are emulated (slow)',
    );
    await writeFile(join(directory, 'kvm'), works ? 'yes' : 'no');
  });
  return (await readFile(join(answer, 'kvm'), 'utf8')) === 'yes' ? virtualisation : emulation;
}

async function kvmBoots(kernel: string): Promise<boolean> {
  const argv = [...(await qemu()), '-machine', 'q35', ...virtualisation, '-m', '512', '-smp', '2'];
  argv.push('-nodefaults', '-display', 'none', '-no-reboot', '-serial', 'stdio');
  argv.push('-kernel', await bootableKernel(kernel), '-initrd', await initramfs(kernel));
  argv.push('-append', 'console=ttyS0 panic=-1 elio.probe');
  try {
    const { stdout } = await runCommand(argv, { timeoutMs: probeTimeoutMs });
    return stdout.includes('elio: probe ok');
  } catch {
    return false;
  }
}
