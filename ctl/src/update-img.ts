#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// update-img <snapshot device> <cow file> <image>: copies the blocks that a COW file names from the image device to an image
// of the snapshot before. It needs the module, but no agent.
import { open, realpath, type FileHandle } from 'node:fs/promises';
import { blocksOf, extentOf } from '../../agent/src/changes/change-map.js';
import { readChangeMap, readCowHeader } from '../../agent/src/changes/cow-file.js';
import { BLOCK_SIZE, IMAGE_PREFIX } from '../../agent/src/driver/layout.js';
import { KernelSnapDriver, ModuleNotLoadedError } from '../../agent/src/driver/snap-driver.js';
import { deviceSizeBytes } from '../../agent/src/os/block-devices.js';
import { readFully, writeBlocks } from './backup/file-io.js';
import { CHUNK_SIZE } from '../../agent/src/services/chunks.js';
import { messageOf } from './errors.js';

const USAGE = 'usage: update-img <snapshot device> <cow file> <image>\n';

class UpdateError extends Error {}

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

async function openOrExplain(path: string, flags: string): Promise<FileHandle> {
  return open(path, flags).catch((error: unknown) => {
    throw new UpdateError(`cannot open ${path}: ${messageOf(error)}`);
  });
}

/** Proves that the COW file is that of the snapshot before the one that the device shows. */
async function checkCowFile(cowFile: string, uuid: string, seqId: bigint): Promise<void> {
  const file = await openOrExplain(cowFile, 'r');
  const header = await readCowHeader(file).finally(() => file.close());
  if (!header) throw new UpdateError(`${cowFile} is no COW file`);
  if (header.uuid !== uuid) {
    throw new UpdateError(
      `${cowFile} belongs to another chain of snapshots: copy the whole device`,
    );
  }
  if (header.seqId !== seqId) {
    throw new UpdateError(
      `${cowFile} is of snapshot ${String(header.seqId)}, and ${String(seqId)} is needed: copy the whole device`,
    );
  }
  if (!header.clean) throw new UpdateError(`${cowFile} is not complete: copy the whole device`);
}

async function update(device: string, cowFile: string, imageFile: string): Promise<void> {
  const minor = await minorOf(device);
  const source = await openOrExplain(device, 'r');
  const image = await openOrExplain(imageFile, 'r+');
  const info = await new KernelSnapDriver().info(minor);
  const seqId = info.seqId - 1n;
  await checkCowFile(cowFile, info.uuid, seqId);
  const sizeBytes = await deviceSizeBytes(await realpath(device));
  if ((await image.stat()).isFile() && (await image.stat()).size !== Number(sizeBytes)) {
    throw new UpdateError(`${imageFile} has not the size of ${device}: it is no image of it`);
  }
  const map = await readChangeMap(cowFile, info.uuid, seqId, sizeBytes);
  process.stdout.write(`snapshot has ${String(blocksOf(sizeBytes))} blocks\n`);
  let changed = 0;
  for (const run of map.runs) {
    const { offsetBytes, lengthBytes } = extentOf(run, sizeBytes);
    for (let at = 0; at < Number(lengthBytes); at += CHUNK_SIZE) {
      const data = Buffer.alloc(Math.min(CHUNK_SIZE, Number(lengthBytes) - at));
      const offset = Number(offsetBytes) + at;
      await readFully(source, data, offset);
      await writeBlocks(image, { kind: 'data', offset, data });
      changed += Math.ceil(data.length / BLOCK_SIZE);
    }
  }
  await image.sync();
  await Promise.all([source.close(), image.close()]);
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
