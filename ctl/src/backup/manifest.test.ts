// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { CHUNK_SIZE, chunkDigest } from '../../../agent/src/services/chunks.js';
import { ChangeMap } from '../../../agent/src/changes/change-map.js';
import { ChunkDigests } from './digests.js';
import { Manifest } from './manifest.js';

const origin = { host: 'h', machineId: 'm', blockDevice: '/dev/x', stableId: 'PARTUUID=1' };
const cookie = { uuid: 'a'.repeat(32), seq_id: 7, nonce: 'b'.repeat(32) };

function sample(): Manifest {
  const digests = ChunkDigests.empty(CHUNK_SIZE + 5);
  digests.set(0, chunkDigest(Buffer.alloc(CHUNK_SIZE, 1)));
  digests.set(1, chunkDigest(Buffer.from('hello')));
  const skipped = ChangeMap.fromRuns(257, [{ first: 3, count: 2 }]);
  return new Manifest(origin, 'now', cookie, digests, skipped);
}

describe('manifest', () => {
  it('is read back as it was', () => {
    const read = Manifest.parse(sample().serialize());
    assert.deepEqual(read.origin, origin);
    assert.deepEqual(read.cookie, cookie);
    assert.equal(read.sizeBytes, CHUNK_SIZE + 5);
    assert.equal(read.digests.tree(), sample().digests.tree());
    assert.deepEqual(read.skipped, sample().skipped);
    assert.ok(read.digests.matches(1, Buffer.from('hello')));
    assert.ok(!read.digests.matches(1, Buffer.from('hullo')));
  });

  it('has the checksum that the API defines', () => {
    const hash = (data: Buffer): Buffer => createHash('sha256').update(data).digest();
    const leaves = [hash(Buffer.alloc(CHUNK_SIZE, 1)), hash(Buffer.from('hello'))];
    const tree = hash(Buffer.concat(leaves)).toString('hex');
    assert.equal(sample().digests.tree(), tree);
  });

  it('is refused when it is damaged', () => {
    const text = sample().serialize();
    assert.throws(() => Manifest.parse(text.slice(0, -20)));
    assert.throws(() => Manifest.parse(text.replace('"format": 1', '"format": 2')));
    assert.throws(() => Manifest.parse(text.replace(/"size_bytes": \d+/, '"size_bytes": 99')));
    const other = sample();
    other.digests.set(0, chunkDigest(Buffer.from('x')));
    const tree = `"sha256_tree": "${other.digests.tree()}"`;
    assert.throws(
      () => Manifest.parse(text.replace(/"sha256_tree": "[0-9a-f]+"/, tree)),
      /contradict/,
    );
  });
});
