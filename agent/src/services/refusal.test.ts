// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { refusalOf, refusalOfCache, refusalOfCowSize, type DeviceFacts } from './refusal.js';

const sound: DeviceFacts = {
  filesystem: 'ext4',
  readOnly: false,
  minor: undefined,
  zoned: false,
  swap: false,
  holders: [],
};

describe('why a device cannot be snapshotted', () => {
  it('is nothing when it can', () => {
    assert.equal(refusalOf(sound), '');
    assert.equal(refusalOf({ ...sound, filesystem: 'xfs' }), '');
  });

  it('names what stands against it', () => {
    const refused: [Partial<DeviceFacts>, RegExp][] = [
      [{ minor: 4 }, /tracked, as snapshot 4/],
      [{ zoned: true }, /zoned/],
      [{ filesystem: '', swap: true }, /swap/],
      [{ filesystem: '' }, /mount it/],
      [{ filesystem: '', holders: ['/dev/dm-0'] }, /part of \/dev\/dm-0/],
      [{ filesystem: 'btrfs' }, /is btrfs/],
      [{ readOnly: true }, /remount it/],
    ];
    for (const [facts, message] of refused)
      assert.match(refusalOf({ ...sound, ...facts }), message, JSON.stringify(facts));
  });
});

describe('why a COW file is too small', () => {
  const MIB = 1n << 20n;
  const path = '/dev/vdb';

  it('is nothing when it holds its index and 1 MiB', () => {
    assert.equal(refusalOfCowSize({ path, sizeBytes: 2048n * MIB }, 6n), '');
    assert.equal(refusalOfCowSize({ path, sizeBytes: 16n * MIB }, 0n), '');
  });

  it('names the smallest that is large enough, also when no size was given', () => {
    const refusals = [
      [2048n, 5n, /of 5 MiB is too small for \/dev\/vdb: give at least 6 MiB/],
      [8n, 0n, /of the default size is too small for \/dev\/vdb: give at least 2 MiB/],
    ] as const;
    for (const [sizeMib, cowSizeMib, message] of refusals) {
      const origin = { path, sizeBytes: sizeMib * MIB };
      assert.match(refusalOfCowSize(origin, cowSizeMib), message);
    }
  });
});

describe('a cache', () => {
  it('is refused when it can only be bytes of an old script', () => {
    assert.equal(refusalOfCache(1n << 30n, 2n << 30n), '');
    assert.match(
      refusalOfCache((1n << 30n) + 1n, 2n << 30n),
      /1025 MiB is more than half .*not bytes/,
    );
    assert.equal(refusalOfCache(1n << 50n, 0n), '');
  });

  it('is taken when it is the default, or half of what the machine has and the kernel has not', () => {
    assert.equal(refusalOfCache(300n << 20n, 256n << 20n), '');
    assert.match(refusalOfCache(301n << 20n, 256n << 20n), /301 MiB is more than half/);
    assert.equal(refusalOfCache(1n << 30n, 1960n << 20n), '');
  });
});
