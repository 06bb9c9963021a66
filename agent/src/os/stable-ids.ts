// SPDX-License-Identifier: Apache-2.0
// Names of block devices that outlive a reboot: KIND=VALUE, as udev and sysfs know them. A filesystem's UUID or label is none of
// them: an image of a snapshot has the same one as its origin.
import { access, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

const SYS_BLOCK = '/sys/class/block';
const UDEV_DATA = '/run/udev/data';
const KINDS = ['PARTUUID', 'DM_UUID', 'MD_UUID', 'WWN', 'SERIAL'];

/** Does a caller mean a stable id, and not a path? */
export function isStableId(text: string): boolean {
  return KINDS.some((kind) => text.startsWith(`${kind}=`));
}

/** What udev keeps of a device: one property a line, "E:NAME=value". */
export function parseUdevData(text: string): Map<string, string> {
  const properties = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^E:([^=]+)=(.*)$/.exec(line);
    if (match) properties.set(match[1] ?? '', match[2] ?? '');
  }
  return properties;
}

/** The ids of one device, the best first. */
export function idsOf(
  udev: ReadonlyMap<string, string>,
  isPartition: boolean,
  dmUuid: string,
): string[] {
  const ids: [string, string | undefined][] = isPartition
    ? [['PARTUUID', udev.get('ID_PART_ENTRY_UUID')]]
    : [
        ['DM_UUID', dmUuid],
        ['MD_UUID', udev.get('MD_UUID')],
        ['WWN', udev.get('ID_WWN_WITH_EXTENSION') ?? udev.get('ID_WWN')],
        ['SERIAL', udev.get('ID_SERIAL')],
      ];
  return ids.flatMap(([kind, value = '']) => (value === '' ? [] : [`${kind}=${value}`]));
}

async function read(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch(() => '');
}

async function idsOfName(name: string): Promise<string[]> {
  const directory = join(SYS_BLOCK, name);
  const device = (await read(join(directory, 'dev'))).trim();
  const isPartition = await access(join(directory, 'partition')).then(
    () => true,
    () => false,
  );
  const udev = parseUdevData(await read(join(UDEV_DATA, `b${device}`)));
  return idsOf(udev, isPartition, (await read(join(directory, 'dm', 'uuid'))).trim());
}

/** Path -> its stable ids, of all block devices. What several devices claim (a cloned disk) names none of them. */
export async function readStableIds(): Promise<Map<string, string[]>> {
  const names = await readdir(SYS_BLOCK);
  const found = await Promise.all(
    names.map(async (name): Promise<[string, string[]]> => [
      `/dev/${name.replaceAll('!', '/')}`,
      await idsOfName(name),
    ]),
  );
  const owners = new Map<string, number>();
  for (const id of found.flatMap(([, ids]) => ids)) owners.set(id, (owners.get(id) ?? 0) + 1);
  return new Map(found.map(([path, ids]) => [path, ids.filter((id) => owners.get(id) === 1)]));
}

/** The path of the one device that has this id; undefined when none has it, or several. */
export async function pathOfStableId(id: string): Promise<string | undefined> {
  const found = [...(await readStableIds())].find(([, ids]) => ids.includes(id));
  return found?.[0];
}
