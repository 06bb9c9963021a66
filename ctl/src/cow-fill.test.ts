// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { Snapshot } from '../../proto/gen/elio/v1/types.js';
import { cowFill } from './cow-fill.js';

const fill = (cowUsedBytes: bigint, cowSizeBytes: bigint): number | undefined =>
  cowFill(Snapshot.fromPartial({ cowUsedBytes, cowSizeBytes }));

describe('how full a COW file is', () => {
  it('is told in snapshot mode, and never more than full', () => {
    assert.equal(fill(25n, 100n), 0.25);
    assert.equal(fill(101n, 100n), 1);
    assert.equal(fill(0n, 100n), undefined);
    assert.equal(fill(0n, 0n), undefined);
  });
});
