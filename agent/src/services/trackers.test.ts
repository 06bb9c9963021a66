// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { SnapDriver, TrackerInfo } from '../driver/snap-driver.js';
import { ChainStore } from '../state/chains.js';
import { Leases } from '../state/leases.js';
import { Trackers } from './trackers.js';

const MIB = 1n << 20n;
const GROWN = 96n * MIB;
const sizes: Readonly<Record<string, bigint>> = {
  '/dev/vdb': GROWN,
  '/dev/elastio-snap4': 64n * MIB,
};

describe('the size of what is tracked', () => {
  const trackers = new Trackers(
    {} as SnapDriver,
    new ChainStore(''),
    new Leases('', () => Promise.resolve()),
    (device) => Promise.resolve(sizes[device] ?? 0n),
  );
  const sizeIn = async (state: bigint, minor = 4): Promise<bigint> => {
    const info = { minor, state, blockDevice: '/dev/vdb' } as TrackerInfo;
    return (await trackers.position(info)).sizeBytes;
  };

  it('is that of the image, which an origin that grows leaves as it is', async () => {
    assert.equal(await sizeIn(3n), 64n * MIB);
  });

  it('is that of the origin where there is no image', async () => {
    assert.equal(await sizeIn(2n), GROWN);
    assert.equal(await sizeIn(3n, 5), GROWN);
    assert.equal(await sizeIn(5n), GROWN);
  });
});
