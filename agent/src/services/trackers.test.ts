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

describe('the chains of lost trackers', () => {
  /** What is kept when these are tracked; undefined: nothing was ended. */
  async function kept(...infos: Partial<TrackerInfo>[]): Promise<readonly string[] | undefined> {
    let uuids: readonly string[] | undefined;
    class Chains extends ChainStore {
      override endLost(those: readonly string[]): Promise<void> {
        uuids = those;
        return Promise.resolve();
      }
    }
    const driver: Partial<SnapDriver> = {
      minors: () => Promise.resolve(infos.map((_, minor) => minor)),
      info: (minor) => Promise.resolve({ error: 0, ...infos[minor] } as TrackerInfo),
    };
    const leases = new Leases('', () => Promise.resolve());
    const trackers = new Trackers(driver as SnapDriver, new Chains(''), leases);
    assert.equal(await trackers.endLostChains(), uuids !== undefined);
    return uuids;
  }

  it('end when each tracker has told which chain is its own, or never will', async () => {
    const known = { uuid: 'a', state: 2n };
    const awaited = { uuid: '0', state: 4n };
    assert.equal(await kept(known, awaited), undefined);
    assert.deepEqual(await kept(known, { ...awaited, error: -22 }), ['a', '0']);
    assert.deepEqual(await kept(known), ['a']);
  });
});
