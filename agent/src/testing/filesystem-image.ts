// SPDX-License-Identifier: Apache-2.0
// Filesystems in files, and what the filesystems' own tools say of them.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readAllocated } from '../allocated/allocated.js';
import { DeviceReader, type ImageReader } from '../allocated/image-reader.js';
import { AllocationUnknownError } from '../allocated/unknown.js';
import type { ChangeMap } from '../changes/change-map.js';
import { BLOCK_SIZE } from '../driver/layout.js';
import { randomNumbers } from './random.js';

/** Tools of administrators are not in everybody's PATH. */
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };

/** Runs a command that has to succeed; resolves with what it printed to its standard output. */
export function tool(argv: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0] ?? '', argv.slice(1), { env });
    const out: Buffer[] = [];
    let errors = '';
    child.stdout.on('data', (data: Buffer) => out.push(data));
    child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
    child.once('error', reject);
    child.once('close', (status) => {
      if (status === 0) resolve(Buffer.concat(out).toString());
      else reject(new Error(`${argv.join(' ')}: ${String(status)}\n${errors}`));
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

/** Free bytes [start, end), ascending. */
export type FreeRanges = readonly (readonly [number, number])[];

/** A directory for images. */
export class Scratch {
  private constructor(readonly directory: string) {}

  static async make(): Promise<Scratch> {
    return new Scratch(await mkdtemp(join(tmpdir(), 'elio-allocated-')));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** An empty file of a size. */
  async file(name: string, sizeBytes: number): Promise<string> {
    const path = this.path(name);
    await rm(path, { force: true });
    await writeFile(path, '');
    await truncate(path, sizeBytes);
    return path;
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true });
  }
}

/** Does something with an image in a file. */
export async function withImage<T>(
  path: string,
  task: (image: ImageReader) => Promise<T>,
): Promise<T> {
  const file = await open(path, 'r');
  try {
    return await task(new DeviceReader(file, BigInt((await file.stat()).size)));
  } finally {
    await file.close();
  }
}

/** What is allocated in an image in a file. */
export function allocatedIn(path: string): Promise<ChangeMap> {
  return withImage(path, readAllocated);
}

/** Which parts of an image are read to find out what is allocated, [start, end). */
export async function partsRead(path: string): Promise<[number, number][]> {
  const parts: [number, number][] = [];
  await withImage(path, (image) =>
    readAllocated({
      sizeBytes: image.sizeBytes,
      read: (offset, length) => {
        parts.push([offset, offset + length]);
        return image.read(offset, length);
      },
    }),
  );
  return parts;
}

/** Every block counts as allocated that is not wholly in free ranges: block by block, a way of its own. */
export function assertMatches(map: ChangeMap, sizeBytes: number, free: FreeRanges): void {
  // Bytes of each block that are free.
  const freeBytes = new Uint16Array(Math.ceil(sizeBytes / BLOCK_SIZE));
  for (const [start, end] of free) {
    for (let at = start; at < end;) {
      const block = Math.floor(at / BLOCK_SIZE);
      const next = Math.min(end, (block + 1) * BLOCK_SIZE);
      freeBytes[block] = (freeBytes[block] ?? 0) + next - at;
      at = next;
    }
  }
  const allocated = new Uint8Array(freeBytes.length);
  for (const { first, count } of map.runs) allocated.fill(1, first, first + count);
  assert.equal(map.nrBlocks, freeBytes.length);
  for (let block = 0; block < freeBytes.length; block += 1) {
    const expected = freeBytes[block] === BLOCK_SIZE ? 0 : 1;
    if (allocated[block] !== expected) {
      assert.fail(`block ${block} is ${allocated[block] === 1 ? '' : 'not '}told as allocated`);
    }
  }
}

/** What is read when an image is changed at a place; the file is as before afterwards. */
export interface Damage {
  offset: number;
  /** XORed to the byte there. */
  mask: number;
}

/**
 * Changes bytes of an image one after the other. Each time it has to be told that nothing can be told, or else nothing that is
 * allocated may be told as free. Resolves with how often the former was so.
 */
export async function refusalsOfDamage(path: string, damages: readonly Damage[]): Promise<number> {
  const sound = await allocatedIn(path);
  const file = await open(path, 'r+');
  let refusals = 0;
  try {
    for (const { offset, mask } of damages) {
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, offset);
      await file.write(Buffer.from([(buffer[0] ?? 0) ^ mask]), 0, 1, offset);
      try {
        const map = await allocatedIn(path);
        const missing = sound.intersection(map.complement());
        assert.deepEqual([...missing.runs], [], `byte ${offset} ^ ${mask}: told as free`);
      } catch (error) {
        if (!(error instanceof AllocationUnknownError)) throw error;
        refusals += 1;
      }
      await file.write(buffer, 0, 1, offset);
    }
  } finally {
    await file.close();
  }
  return refusals;
}

/** So many single bits, or whole bytes, in parts of an image. */
export function randomDamages(
  parts: readonly (readonly [number, number])[],
  count: number,
  kind: 'bit' | 'byte',
  seed: number,
): Damage[] {
  const below = randomNumbers(seed);
  return Array.from({ length: count }, () => {
    const [start, end] = parts[below(parts.length)] ?? [0, 1];
    const mask = kind === 'bit' ? 1 << below(8) : 1 + below(255);
    return { offset: start + below(end - start), mask };
  });
}

/** What `dumpe2fs` lists as free. */
export async function freeByDumpe2fs(path: string): Promise<FreeRanges> {
  const text = await tool(['dumpe2fs', path]);
  const blockSize = Number(/^Block size: +(\d+)$/m.exec(text)?.[1]);
  assert.ok(blockSize > 0);
  // Of each range it names the first block of the first and of the last cluster.
  const clusterSize = Number(/^Cluster size: +(\d+)$/m.exec(text)?.[1] ?? blockSize);
  const end = Number(/^Block count: +(\d+)$/m.exec(text)?.[1]) * blockSize;
  const ranges: [number, number][] = [];
  for (const [, list] of text.matchAll(/^ +Free blocks: (.*)$/gm)) {
    for (const item of (list ?? '').split(', ')) {
      if (item.trim() === '') continue;
      const [first, last] = item.split('-').map(Number);
      assert.ok(first !== undefined && Number.isInteger(first), item);
      const lastEnd = (last ?? first) * blockSize + clusterSize;
      ranges.push([first * blockSize, Math.min(lastEnd, end)]);
    }
  }
  return ranges;
}

/** What `xfs_db` finds in the trees of free extents of all groups. */
export async function freeByXfsDb(path: string): Promise<FreeRanges> {
  const ask = (...commands: string[]): Promise<string> =>
    tool(['xfs_db', '-r', ...commands.flatMap((command) => ['-c', command]), path]);
  const sb = await ask('sb 0', 'p blocksize agblocks agcount');
  const value = (name: string): number =>
    Number(new RegExp(`^${name} = (\\d+)$`, 'm').exec(sb)?.[1]);
  const [blockSize, groupBlocks] = [value('blocksize'), value('agblocks')];
  assert.ok(blockSize > 0 && groupBlocks > 0);
  const ranges: [number, number][] = [];
  for (let group = 0; group < value('agcount'); group += 1) {
    const dump = await ask(`agf ${group}`, 'addr bnoroot', 'btdump');
    // Nodes above the leaves are dumped, too.
    const leaves = dump.split(/^bnobt level /m).filter((node) => node.startsWith('0 '));
    for (const [, block, count] of leaves.join('').matchAll(/^\d+:\[(\d+),(\d+)\] *$/gm)) {
      const first = group * groupBlocks + Number(block);
      ranges.push([first * blockSize, (first + Number(count)) * blockSize]);
    }
  }
  return ranges;
}
