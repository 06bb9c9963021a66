// SPDX-License-Identifier: Apache-2.0
// qcow2 files: made and checked by qemu-img; of their headers this reads what a chain depends on.
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { atStep } from '../backup/steps.js';
import { CliError, EXIT } from '../errors.js';
import { qemuFailure, qemuMessage, runTool, type ToolResult } from './tools.js';

const MAGIC = 0x514649fb;
/** Where a header ends at the latest: in its first cluster, of which the backing file's name is the last part. */
const HEADER_SIZE = 4096;
const MAX_NAME_LENGTH = 1023;

/**
 * A cluster of 128 KiB has 32 subclusters, so that 4 KiB are the smallest piece that is allocated, or is zero, by itself: a
 * change of 4 KiB costs 4 KiB, and nothing is copied out of the backing file.
 */
const FORMAT_OPTIONS = 'extended_l2=on,cluster_size=128k';

export interface Qcow2Header {
  sizeBytes: number;
  /** As it is in the file; undefined: it has none. */
  backingFile: string | undefined;
}

/** Makes an empty image; with a backing file (a name in its directory) it shows that one's content. */
export async function createImage(
  path: string,
  sizeBytes: number,
  backingFile?: string,
): Promise<void> {
  // The file that is there is kept, and so is its mode: backups are for their owner only.
  await (await open(path, 'wx', 0o600)).close();
  const args = ['create', '-q', '-f', 'qcow2', '-o', FORMAT_OPTIONS];
  if (backingFile !== undefined) args.push('-b', backingFile, '-F', 'qcow2');
  const { status, stderr } = await runTool('qemu-img', [...args, path, String(sizeBytes)]);
  if (status !== 0) throw qemuFailure('qemu-img', path, stderr);
}

/** Rejects with CliError when it is no qcow2 file. */
export async function readHeader(path: string): Promise<Qcow2Header> {
  const file = await open(path, 'r');
  try {
    const header = Buffer.alloc(HEADER_SIZE + MAX_NAME_LENGTH);
    const { bytesRead } = await file.read(header, 0, header.length, 0);
    const nameOffset = Number(header.readBigUInt64BE(8));
    const nameEnd = nameOffset + header.readUInt32BE(16);
    if (header.readUInt32BE(0) !== MAGIC || nameEnd > bytesRead) {
      throw new CliError(`${path} is no qcow2 file`);
    }
    const name = header.subarray(nameOffset, nameEnd).toString();
    return {
      sizeBytes: Number(header.readBigUInt64BE(24)),
      backingFile: nameOffset === 0 ? undefined : name,
    };
  } finally {
    await file.close();
  }
}

/** The image as qemu's programs take it: one file, whatever characters its name has. */
export function imageName(path: string): string {
  return `json:${JSON.stringify(imageOptions(path))}`;
}

/** The image without its backing file: what it does not hold itself is zero. */
export function imageAlone(path: string): string {
  return `json:${JSON.stringify({ ...imageOptions(path), backing: null })}`;
}

function imageOptions(path: string): object {
  return { driver: 'qcow2', file: { driver: 'file', filename: path } };
}

const checkSchema = z.object({
  corruptions: z.number().default(0),
  leaks: z.number().default(0),
});

/** What qemu-img check finds wrong with the structure of an image; undefined: nothing. */
export async function checkImage(path: string): Promise<string | undefined> {
  return problemOf(await runTool('qemu-img', ['check', '--output=json', imageAlone(path)]));
}

/** As checkImage; clusters that nothing refers to are set free. Rejects with busy when another program has the file open. */
export async function repairLeaks(path: string): Promise<string | undefined> {
  const args = ['check', '-r', 'leaks', '--output=json', imageAlone(path)];
  const result = await runTool('qemu-img', args);
  const problem = problemOf(result);
  if (problem === undefined) return undefined;
  const failure = qemuFailure('qemu-img', path, result.stderr);
  if (failure instanceof CliError && failure.exitCode === EXIT.busy) throw failure;
  return problem;
}

/**
 * Makes an image forget all that it holds behind a byte, as if nothing had been written there: a smaller image keeps nothing of it, and
 * what is larger again without a look at the backing file shows that one there.
 */
export async function cutImage(
  path: string,
  offsetBytes: number,
  sizeBytes: number,
): Promise<void> {
  for (const size of [offsetBytes, sizeBytes]) {
    const args = ['resize', '-q', '--shrink', imageAlone(path), String(size)];
    const { status, stderr } = await runTool('qemu-img', args);
    if (status !== 0) throw qemuFailure('qemu-img', path, stderr);
    if (size === offsetBytes) atStep('unfinished-cut');
  }
}

function problemOf({ status, stdout, stderr }: ToolResult): string | undefined {
  // 3: clusters that nothing refers to, which cost room and nothing else.
  if (status === 0 || status === 3) return undefined;
  let found: z.infer<typeof checkSchema> | undefined;
  try {
    found = checkSchema.parse(JSON.parse(stdout));
  } catch {
    // It could not even be opened.
  }
  if (found && found.corruptions > 0) {
    return `qemu-img check finds ${String(found.corruptions)} corruptions`;
  }
  return `qemu-img check fails: ${qemuMessage(stderr)}`;
}
