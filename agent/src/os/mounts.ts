// SPDX-License-Identifier: Apache-2.0
import { readFile, stat } from 'node:fs/promises';
import { posix } from 'node:path';

export interface Mount {
  /** "major:minor" of the filesystem's device. */
  device: string;
  /** What of the filesystem is mounted, from its root. */
  root: string;
  mountPoint: string;
  filesystem: string;
  readOnly: boolean;
}

/** The kernel writes space, tab, newline and backslash as octal escapes. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

export function parseMountInfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const [left, right] = line.split(' - ');
    const [, , device, root, mountPoint, options] = left?.split(' ') ?? [];
    const [filesystem, , superOptions] = right?.split(' ') ?? [];
    if (device === undefined || root === undefined || mountPoint === undefined) continue;
    const flags = [...(options ?? '').split(','), ...(superOptions ?? '').split(',')];
    mounts.push({
      device,
      root: unescape(root),
      mountPoint: unescape(mountPoint),
      filesystem: filesystem ?? '',
      readOnly: flags.includes('ro'),
    });
  }
  return mounts;
}

/** What is mounted in the agent's mount namespace, in the kernel's order. */
export async function readMounts(): Promise<Mount[]> {
  return parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** "major:minor" as the kernel prints it; the encoding is glibc's dev_t. */
export function deviceNumber(rdev: number): string {
  const dev = BigInt(rdev);
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return `${String(major)}:${String(minor)}`;
}

/** "major:minor" of a block device; undefined when the path is none. */
export async function blockDeviceNumber(path: string): Promise<string | undefined> {
  const info = await stat(path).catch(() => undefined);
  return info?.isBlockDevice() === true ? deviceNumber(info.rdev) : undefined;
}

/**
 * Where a file of a filesystem can be reached: `path` counts from the filesystem's root. Undefined
 * when no mount shows it.
 */
export function pathInMounts(
  mounts: readonly Mount[],
  device: string,
  path: string,
): string | undefined {
  for (const mount of mounts) {
    if (mount.device !== device) continue;
    if (mount.root === '/') return posix.join(mount.mountPoint, path);
    if (path.startsWith(`${mount.root}/`)) {
      return posix.join(mount.mountPoint, path.slice(mount.root.length));
    }
  }
  return undefined;
}
