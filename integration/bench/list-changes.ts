// SPDX-License-Identifier: Apache-2.0
// list-changes.js: takes a transition with a million changed extents on 1 TiB into the agent's store, lists them as
// ListChangedExtents does, and prints what that took.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { blocksOf, extentOf } from '../../agent/src/changes/change-map.js';
import { RunList } from '../../agent/src/changes/run-list.js';
import { ChainStore, type Position } from '../../agent/src/state/chains.js';
import { ListChangedExtentsResponse } from '../../proto/gen/elio/v1/change.js';
import type { ChangeList } from './change-list.js';

const EXTENTS = 1_000_000;
const EXTENTS_PER_MESSAGE = 8192;
const sizeBytes = 1n << 40n;

function changed(): RunList {
  const runs = new RunList();
  const distance = Math.floor(blocksOf(sizeBytes) / EXTENTS);
  for (let i = 0; i < EXTENTS; i += 1) runs.add(i * distance, 1);
  return runs;
}

function at(seqId: bigint): Position {
  return {
    uuid: 'a'.repeat(32),
    seqId,
    sizeBytes,
    cowFileBlocks: () => Promise.resolve([{ first: 5, count: 1 }]),
    changedBefore: () => Promise.resolve(changed()),
  };
}

const peakKib = (): number => process.resourceUsage().maxRSS;
const directory = await mkdtemp(join(tmpdir(), 'elio-bench-'));
try {
  const chains = new ChainStore(directory);
  await chains.begin(at(1n));
  const since = await chains.cookie(at(1n));
  await chains.prepareTransition(at(1n), '/old');
  const before = peakKib();
  const startMs = performance.now();
  const cookie = await chains.cookie(at(2n));
  const { runs } = await chains.changesSince(since, at(2n));
  for (let i = 0; i < runs.length; i += EXTENTS_PER_MESSAGE) {
    const part = runs.slice(i, i + EXTENTS_PER_MESSAGE);
    const extents = Array.from(part, (run) => extentOf(run, sizeBytes));
    ListChangedExtentsResponse.encode({ cookie, volumeSizeBytes: sizeBytes, extents }).finish();
  }
  const result: ChangeList = {
    extents: runs.length,
    seconds: (performance.now() - startMs) / 1000,
    mib: (peakKib() - before) / 1024,
  };
  console.log(JSON.stringify(result));
} finally {
  await rm(directory, { recursive: true });
}
