// SPDX-License-Identifier: Apache-2.0
// Where the backups of a fleet are: DESTINATION/HOST/DEVICE is a backup set. Each name stands for one directory, and the other way
// round: what is not safe in the name of a file is %XX, the bytes of UTF-8 in hexadecimal digits.
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isErrnoException } from '../../../agent/src/errors.js';
import { isDeviceName, isStableId } from '../device-name.js';

/** Holds the reports; no host's directory has that name. */
const REPORTS = 'reports';

function encoded(name: string): string {
  const percent = (char: string): string =>
    `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  return encodeURIComponent(name)
    .replace(/[!'()*~]/g, percent)
    .replace(/^\./, percent);
}

/** "db1.example.com" stays what it is. */
export function hostDirectory(host: string): string {
  return host === REPORTS ? `%72${REPORTS.slice(1)}` : encoded(host);
}

/** "/dev/mapper/vg-root" -> "dev+mapper+vg-root"; "PARTUUID=1-2" stays what it is. The name is one that isDeviceName() allows. */
export function deviceDirectory(device: string): string {
  const inner = device.slice(1);
  const isPlainPath = device.startsWith('/') && inner !== '' && !isStableId(inner);
  return encoded(isPlainPath ? inner : device)
    .replaceAll('%2F', '+')
    .replaceAll('%3D', '=');
}

/** The device that a directory stands for; undefined: none. */
function deviceOf(directory: string): string | undefined {
  let text: string;
  try {
    text = decodeURIComponent(directory.replaceAll('+', '/'));
  } catch {
    return undefined;
  }
  return [text, `/${text}`].find(
    (name) => isDeviceName(name) && deviceDirectory(name) === directory,
  );
}

export class FleetLayout {
  /** `root`: the destination, an absolute path. */
  constructor(readonly root: string) {}

  get lock(): string {
    return join(this.root, '.lock');
  }

  get reports(): string {
    return join(this.root, REPORTS);
  }

  /** The directory of a device's backup set. */
  set(host: string, device: string): string {
    return join(this.root, hostDirectory(host), deviceDirectory(device));
  }

  /** The devices of a host of which there is a directory. */
  async devicesOf(host: string): Promise<string[]> {
    try {
      const entries = await readdir(join(this.root, hostDirectory(host)), { withFileTypes: true });
      return entries
        .filter((entry) => entry.isDirectory())
        .flatMap(({ name }) => deviceOf(name) ?? []);
    } catch (error) {
      if (isErrnoException(error) && error.code === 'ENOENT') return [];
      throw error;
    }
  }
}
