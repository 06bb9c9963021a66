// SPDX-License-Identifier: Apache-2.0
// What a block device is known by over reboots, whatever its name is then. elio-rescue finds it by the same rules
// (agent/rescue/device.c).
import { access, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { deviceNumber } from './mounts.js';

const BY_PARTUUID = '/dev/disk/by-partuuid';

/**
 * Kinds of identity and where sysfs has them, the first that is there counts. A partition has none of these, but a UUID in
 * its table. The UUID of a filesystem is no identity: each image and each clone of the filesystem has the same.
 */
const ATTRIBUTES: readonly [kind: string, file: string][] = [
  // LVM, LUKS, multipath and the partitions of that; a mapped device that was made by hand has none.
  ['DM_UUID', 'dm/uuid'],
  ['MD_UUID', 'md/uuid'],
  // NVMe, then SCSI and SATA.
  ['WWID', 'wwid'],
  ['WWID', 'device/wwid'],
  // virtio
  ['SERIAL', 'serial'],
];

/** KIND=VALUE of a whole device that sysfs has in `directory`. */
export async function attributeId(directory: string): Promise<string | undefined> {
  for (const [kind, file] of ATTRIBUTES) {
    const value = (await readFile(join(directory, file), 'utf8').catch(() => '')).trim();
    if (value !== '') return `${kind}=${value}`;
  }
  return undefined;
}

/** The link that udev has made for a partition. Where a copy of the disk is there too, it leads to one of the two only. */
async function partuuid(rdev: number): Promise<string | undefined> {
  for (const name of await readdir(BY_PARTUUID).catch(() => [])) {
    const info = await stat(join(BY_PARTUUID, name)).catch(() => undefined);
    if (info?.rdev === rdev) return name;
  }
  return undefined;
}

/** KIND=VALUE; undefined when the device is gone or has nothing that outlives a reboot (a loop device, say). */
export async function stableId(path: string): Promise<string | undefined> {
  const info = await stat(path).catch(() => undefined);
  if (info?.isBlockDevice() !== true) return undefined;
  const directory = join('/sys/dev/block', deviceNumber(info.rdev));
  const isPartition = await access(join(directory, 'partition')).then(
    () => true,
    () => false,
  );
  if (!isPartition) return attributeId(directory);
  const name = await partuuid(info.rdev);
  return name === undefined ? undefined : `PARTUUID=${name}`;
}

/** Does a caller mean a stable id, and not a path? */
export function isStableId(text: string): boolean {
  const kinds = new Set(['PARTUUID', ...ATTRIBUTES.map(([kind]) => kind)]);
  return kinds.has(text.split('=', 1)[0] ?? '') && text.includes('=');
}

/** Path -> stable id, of all block devices that have one. What several devices claim (a copy of a disk) is the id of none. */
export async function readStableIds(): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  const owners = new Map<string, number>();
  for (const name of await readdir('/sys/class/block')) {
    const path = `/dev/${name.replaceAll('!', '/')}`;
    const id = await stableId(path);
    if (id === undefined) continue;
    ids.set(path, id);
    owners.set(id, (owners.get(id) ?? 0) + 1);
  }
  return new Map([...ids].filter(([, id]) => owners.get(id) === 1));
}

/** The path of the one device that has this id; undefined when none has it, or several. */
export async function pathOfStableId(id: string): Promise<string | undefined> {
  return [...(await readStableIds())].find(([, other]) => other === id)?.[0];
}
