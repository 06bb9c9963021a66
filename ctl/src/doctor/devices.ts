// SPDX-License-Identifier: Apache-2.0
// What can be tracked, and whether there is room for it.
import { statfs } from 'node:fs/promises';
import type { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import { smallestCowSizeMib } from '../../../agent/src/driver/cow-size.js';
import { formatBytes } from '../output.js';
import { note, ok, type Finding } from './finding.js';

/** What can be written past a device that is, or could be, tracked. */
export function stackFindings(devices: readonly BlockDevice[]): Finding[] {
  return devices
    .filter((d) => d.lowerDevices.length > 0 && (d.mountPoints.length > 0 || d.minor !== undefined))
    .map((d) =>
      note(
        d.path,
        `it is made of ${d.lowerDevices.join(', ')}: what is written there, and not through ${d.path}, is not seen`,
        `write only through ${d.path}; after anything else take a full backup`,
      ),
    );
}

/** What is mounted and cannot be tracked as it is. */
export function refusalFindings(devices: readonly BlockDevice[]): Finding[] {
  return devices
    .filter((d) => d.mountPoints.length > 0 && d.minor === undefined && d.refusal !== '')
    .map((d) => note(d.path, `it cannot be tracked: ${d.refusal}`, 'back it up by other means'));
}

/** What a COW file could be made on. */
function isCandidate(d: BlockDevice): boolean {
  return d.mountPoints.length > 0 && d.minor === undefined && d.refusal === '' && !d.readOnly;
}

/** Is there room for a COW file of the default size? `freeBytes` is that of the filesystem on the device. */
export function spaceFinding(device: BlockDevice, freeBytes: bigint): Finding {
  const wanted = device.sizeBytes / 10n;
  const least = smallestCowSizeMib(device.sizeBytes) << 20n;
  const free = `${formatBytes(freeBytes)} free`;
  const subject = `space on ${device.path}`;
  if (freeBytes >= wanted) {
    return ok(subject, `${free}: enough for a COW file of 10 % (${formatBytes(wanted)})`);
  }
  const small = `give a smaller one (-f, at least ${String(least >> 20n)} MiB) if little changes`;
  return note(
    subject,
    `${free}: too little for a COW file of 10 % (${formatBytes(wanted)})`,
    freeBytes >= least ? `make room, or ${small}` : 'make room',
  );
}

/** The same of this host's mounted devices that are not tracked yet. */
export async function spaceFindings(devices: readonly BlockDevice[]): Promise<Finding[]> {
  const findings = devices.filter(isCandidate).map(async (device) => {
    const [mountPoint = ''] = device.mountPoints;
    const info = await statfs(mountPoint, { bigint: true }).catch(() => undefined);
    return info ? [spaceFinding(device, info.bavail * info.bsize)] : [];
  });
  return (await Promise.all(findings)).flat();
}
