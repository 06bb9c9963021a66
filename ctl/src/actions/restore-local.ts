// SPDX-License-Identifier: Apache-2.0
// elioctl restore --local: to a block device of this machine, or into a file, without an agent.
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { isStableId, pathOfStableId } from '../../../agent/src/os/stable-ids.js';
import { confirm } from '../confirm.js';
import { globalOptions } from '../connection.js';
import { CliError, EXIT } from '../errors.js';
import { LOCAL_LABEL } from '../grpc-errors.js';
import { answersText, PLAN } from '../hosts/results.js';
import { interruptible } from '../interrupt.js';
import { checkDevice, LocalDevice } from '../local/device.js';
import { findPlace, LocalFile } from '../local/file.js';
import { restoreLocally as restoreTo, type LocalPlace } from '../local/restore.js';
import { formatBytes } from '../output.js';
import { glanceAtBackup, openBackup } from '../sets/source.js';
import { leftoverText } from './plans.js';
import { report, type RestoreOptions } from './restore.js';

interface Place extends LocalPlace {
  /** Something is lost. */
  overwrites: boolean;
  /** What is not known before it is opened. */
  unchecked: string;
}

/** What can be restored to: looked at, not opened. Rejects with CliError. */
async function placeOf(target: string, sizeBytes: number, onlyChanged: boolean): Promise<Place> {
  const given = isStableId(target) ? await pathOfStableId(target) : resolve(target);
  if (given === undefined) {
    throw new CliError(`no device of this machine is ${target}`, EXIT.notFound);
  }
  const there = await stat(given).catch(() => undefined);
  if (there?.isBlockDevice() === true) {
    return {
      path: await checkDevice(given, sizeBytes),
      overwrites: true,
      unchecked: 'whether another program uses the device',
      open: () => LocalDevice.open(given, sizeBytes),
    };
  }
  const { path, exists } = await findPlace(given);
  if (onlyChanged) {
    throw new CliError(
      `--only-changed is for devices: ${path} would be a file, which is written anew`,
      EXIT.usage,
    );
  }
  return {
    path,
    overwrites: exists,
    unchecked: 'whether there is room for the file',
    open: () => LocalFile.create(path, sizeBytes),
  };
}

export async function restoreLocally(
  command: Command,
  file: string,
  target: string,
  options: RestoreOptions,
): Promise<void> {
  const { host: hosts, inventory } = globalOptions(command);
  if (hosts.length > 0 || inventory !== undefined) {
    throw new CliError('--local is for a target on this machine: give no --host', EXIT.usage);
  }
  const host = LOCAL_LABEL;
  const onlyChanged = options.onlyChanged === true;
  if (options.dryRun === true) {
    const { found, unfinished } = await glanceAtBackup(file);
    const { path, overwrites, unchecked } = await placeOf(target, found.sizeBytes, onlyChanged);
    const verb = overwrites ? 'overwrite' : 'write';
    const size = formatBytes(BigInt(found.sizeBytes));
    const answer = `${host}: would ${verb} ${onlyChanged ? 'what differs on ' : ''}${path} with ${found.name} (${size}) and verify it there${leftoverText(unfinished)}; not checked: ${unchecked}`;
    const form = options.output === 'json' ? 'json' : undefined;
    process.stdout.write(answersText([{ host, answer }], PLAN, form));
    return;
  }
  const { content, close } = await openBackup(file);
  try {
    const { sizeBytes } = content;
    const place = await placeOf(target, sizeBytes, onlyChanged);
    if (place.overwrites && options.yes !== true) {
      await confirm({
        warning: `All of ${place.path} on ${host} will be overwritten`,
        agreement: place.path,
        agreementName: 'its path',
      });
    }
    const { target: device, bytes } = await interruptible((signal) =>
      restoreTo(place, content, onlyChanged, signal),
    );
    report(options, file, { host, device, sizeBytes, bytes });
  } finally {
    await close();
  }
}
