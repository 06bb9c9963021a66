#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// update-img <snapshot device> <cow file> <image>: copies the blocks that a COW file names from the image device to an image
// of the snapshot before. It needs the module, but no agent.
import { realpath } from 'node:fs/promises';
import { blocksOf } from '../../agent/src/changes/change-map.js';
import { IMAGE_PREFIX } from '../../agent/src/driver/layout.js';
import { KernelSnapDriver, ModuleNotLoadedError } from '../../agent/src/driver/snap-driver.js';
import { deviceSizeBytes } from '../../agent/src/os/block-devices.js';
import { messageOf } from './errors.js';
import { openOrExplain, UpdateError, updateImage, type Snapshot } from './image-update.js';

const USAGE = 'usage: update-img <snapshot device> <cow file> <image>\n';

/** The number of an image device, by its path or a link to it. */
async function minorOf(device: string): Promise<number> {
  const path = await realpath(device).catch(() => {
    throw new UpdateError(`${device} does not exist`);
  });
  const digits = path.startsWith(IMAGE_PREFIX) ? path.slice(IMAGE_PREFIX.length) : '';
  if (!/^\d+$/.test(digits)) {
    throw new UpdateError(`${device} is no snapshot device: give ${IMAGE_PREFIX}<minor>`);
  }
  return Number(digits);
}

/** The snapshot that an image device shows. One that has failed may show zeros instead (ignore errors), and `what` comes of it. */
async function soundSnapshot(
  driver: KernelSnapDriver,
  minor: number,
  what: string,
): Promise<Snapshot> {
  const { uuid, seqId, error } = await driver.info(minor);
  if (error !== 0) throw new UpdateError(`the snapshot has failed (${String(error)}): ${what}`);
  return { uuid, seqId };
}

async function update(device: string, cowFile: string, imageFile: string): Promise<void> {
  const minor = await minorOf(device);
  const driver = new KernelSnapDriver();
  const source = await openOrExplain(device, 'r');
  const snapshot = await soundSnapshot(driver, minor, 'make a new one');
  const sizeBytes = await deviceSizeBytes(await realpath(device));
  process.stdout.write(`snapshot has ${String(blocksOf(sizeBytes))} blocks\n`);
  const changed = await updateImage(source, snapshot, sizeBytes, cowFile, imageFile);
  const spoilt = `${imageFile} may have got zeros from it and is no image any more`;
  await soundSnapshot(driver, minor, spoilt);
  await source.close();
  process.stdout.write(`update complete: ${String(changed)} blocks changed, 0 errors\n`);
}

async function main(args: readonly string[]): Promise<number> {
  const [device, cowFile, image] = args;
  if (device === undefined || cowFile === undefined || image === undefined || args.length !== 3) {
    process.stderr.write(USAGE);
    return 1;
  }
  try {
    await update(device, cowFile, image);
    return 0;
  } catch (error) {
    const loaded = !(error instanceof ModuleNotLoadedError);
    const message = loaded ? messageOf(error) : 'the kernel module is not loaded';
    process.stderr.write(`update-img: ${message}\n`);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
