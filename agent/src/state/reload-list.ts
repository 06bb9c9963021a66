// SPDX-License-Identifier: Apache-2.0
// The list of what is to be tracked again after a reboot. elio-rescue (agent/rescue) reads it, where there is no Node.js:
//
//   elio-reload 1
//   incremental 0 PARTUUID=8c2f1a30-01 /srv/cow\0401 314572800 0
//
// The first line is the version. Then a line for each tracker: its mode (snapshot or incremental), minor, device
// (os/stable-ids.ts), COW file from the root of its filesystem, cache size in bytes, and 1 when errors of its image are
// ignored. White space, control characters and backslashes are escaped as in /proc/mounts.
import { readFile } from 'node:fs/promises';
import { isErrnoException } from '../errors.js';
import { writeFileAtomically } from '../os/atomic-file.js';

/** On the root filesystem: the initramfs looks for it there. */
export const RELOAD_LIST_PATH = '/etc/elio/reload';

const VERSION_LINE = 'elio-reload 1';
const ENTRY = /^(snapshot|incremental) (\d+) ([^ ]+) ([^ ]+) (\d+) ([01])$/;
const UINT32_MAX = 0xffffffff;
const UINT64_MAX = (1n << 64n) - 1n;

export interface ReloadEntry {
  mode: 'snapshot' | 'incremental';
  minor: number;
  /** KIND=VALUE. */
  device: string;
  /** From the root of the device's filesystem. */
  cowFile: string;
  cacheSizeBytes: bigint;
  ignoreErrors: boolean;
}

/** The text is no list; the message says where and why. */
export class ReloadListError extends Error {}

function escape(field: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is escaped
  return field.replace(/[\u0000-\u0020\u007f\\]/g, (c) => {
    return `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`;
  });
}

/** An escape stands for a byte, so this works on bytes, as characters of latin1. */
function unescape(field: string): string {
  const bytes = field.replace(/\\([0-3][0-7]{2})|\\/g, (_, octal: string | undefined) => {
    const byte = Number.parseInt(octal ?? '0', 8);
    if (byte === 0) throw new ReloadListError('a wrong escape');
    return String.fromCharCode(byte);
  });
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

function parseEntry(line: string): ReloadEntry {
  const [, mode, minor = '', device = '', cowFile = '', cacheSize = '', ignoreErrors] =
    ENTRY.exec(line) ?? [];
  if (mode !== 'snapshot' && mode !== 'incremental') throw new ReloadListError('no entry');
  const entry: ReloadEntry = {
    mode,
    minor: Number(minor),
    device: unescape(device),
    cowFile: unescape(cowFile),
    cacheSizeBytes: BigInt(cacheSize),
    ignoreErrors: ignoreErrors === '1',
  };
  if (entry.minor > UINT32_MAX || entry.cacheSizeBytes > UINT64_MAX)
    throw new ReloadListError('a number that is too large');
  if (!entry.device.includes('=')) throw new ReloadListError('a device that is not KIND=VALUE');
  if (!entry.cowFile.startsWith('/'))
    throw new ReloadListError('a COW file that is no absolute path');
  return entry;
}

export function formatReloadList(entries: readonly ReloadEntry[]): string {
  const lines = entries.map((e) =>
    [
      e.mode,
      e.minor,
      escape(e.device),
      escape(e.cowFile),
      e.cacheSizeBytes,
      e.ignoreErrors ? 1 : 0,
    ].join(' '),
  );
  return [VERSION_LINE, ...lines, ''].join('\n');
}

/** Throws ReloadListError. */
export function parseReloadList(data: Buffer): ReloadEntry[] {
  const lines = data.toString('latin1').split('\n');
  if (lines.pop() !== '') throw new ReloadListError('it ends in the middle of a line');
  if (lines.shift() !== VERSION_LINE) throw new ReloadListError(`it is not of ${VERSION_LINE}`);
  return lines.map((line, i) => {
    try {
      return parseEntry(line);
    } catch (error) {
      if (!(error instanceof ReloadListError)) throw error;
      throw new ReloadListError(`line ${String(i + 2)} holds ${error.message}`);
    }
  });
}

/** The list in a file; none is an empty one. Rejects with ReloadListError when it is damaged. */
export async function readReloadList(path: string): Promise<ReloadEntry[]> {
  try {
    return parseReloadList(await readFile(path));
  } catch (error) {
    if (isErrnoException(error) && error.code === 'ENOENT') return [];
    throw error;
  }
}

export function writeReloadList(path: string, entries: readonly ReloadEntry[]): Promise<void> {
  return writeFileAtomically(path, formatReloadList(entries));
}
