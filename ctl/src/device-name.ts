// SPDX-License-Identifier: Apache-2.0
// How a person names a block device of a host.
import { posix } from 'node:path';

/** Is that a stable id, such as PARTUUID=...? */
export function isStableId(name: string): boolean {
  return /^[A-Z_]+=/.test(name);
}

/** Is that a name which means the same wherever it is typed? */
export function isDeviceName(name: string): boolean {
  return isStableId(name) || (posix.isAbsolute(name) && posix.normalize(name) === name);
}
