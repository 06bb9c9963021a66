// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { smallestCowSizeMib } from '../../agent/src/services/diagnose.js';
import { Snapshot, TrackerState } from '../../proto/gen/elio/v1/types.js';
import { cowDataOffset, cowFill, smallestCowBytes } from './cow-fill.js';

const GIB = 1n << 30n;

describe('the fill of a COW file', () => {
  const snapshot = Snapshot.fromPartial({
    state: TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT,
    sizeBytes: 2n * GIB,
    cowSizeBytes: 10n << 20n,
  });

  it('counts header and index from the start', () => {
    // 2 GiB are 128 sections of the index, and the first saved block is number 1025.
    assert.equal(cowDataOffset(2n * GIB), 4198400n);
    assert.equal(cowDataOffset(2n * GIB) / 4096n, 1025n);
    assert.equal(cowDataOffset(512n << 20n) / 4096n, 257n);
    assert.equal(cowFill(snapshot), 4198400 / (10 << 20));
  });

  it('is full when the last block has gone, and no more than full after that', () => {
    assert.equal(cowFill({ ...snapshot, nrChangedBlocks: 1535n }), 1);
    assert.equal(cowFill({ ...snapshot, nrChangedBlocks: 1536n }), 1);
    assert.ok((cowFill({ ...snapshot, nrChangedBlocks: 1534n }) ?? 1) < 1);
  });

  it('is not known where nothing is copied, or a size is missing', () => {
    const state = TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL;
    assert.equal(cowFill({ ...snapshot, state }), undefined);
    assert.equal(cowFill({ ...snapshot, sizeBytes: 0n }), undefined);
    assert.equal(cowFill({ ...snapshot, cowSizeBytes: 0n }), undefined);
  });

  it('begins with the smallest file that the agent allows', () => {
    for (const size of [1n << 20n, 100n << 20n, 2n * GIB, 5n * GIB + 512n, 16n << 40n])
      assert.equal(smallestCowBytes(size), smallestCowSizeMib(size) << 20n);
  });
});
