// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cookie } from '../../../proto/gen/elio/v1/types.js';
import { writeCowFile } from '../testing/cow-file.js';
import { ChainStore, ChangesUnknownError, MAPS_KEPT, type Position } from './chains.js';

const uuid = '00112233445566778899aabbccddeeff';
const sizeBytes = 4096n * 4096n;

function at(seqId: bigint, ...cowBlocks: number[]): Position {
  const runs = cowBlocks.map((first) => ({ first, count: 1 }));
  return {
    uuid,
    seqId,
    sizeBytes,
    cowFileBlocks: () => Promise.resolve(runs),
    changedBefore: () => Promise.resolve(undefined),
  };
}

describe('chains', () => {
  let directory = '';
  let cowFile = '';
  let chains: ChainStore;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-chains-'));
    cowFile = join(directory, 'cow');
    chains = new ChainStore(join(directory, 'chains'));
    await chains.begin(at(1n));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** A transition from snapshot `seqId` to the next in which blocks changed. */
  async function transition(seqId: bigint, ...changed: number[]): Promise<Cookie> {
    await chains.prepareTransition(at(seqId), cowFile);
    await writeCowFile(cowFile, { uuid, seqId, nrEntries: 4096, changed });
    return chains.cookie(at(seqId + 1n));
  }

  async function runsSince(cookie: Cookie, seqId: bigint): Promise<readonly object[]> {
    return [...(await chains.changesSince(cookie, at(seqId))).runs];
  }

  it('unite the maps since a snapshot', async () => {
    const first = await chains.cookie(at(1n));
    const second = await transition(1n, 1, 2);
    const third = await transition(2n, 2, 3, 100);
    assert.equal(new Set([first.nonce, second.nonce, third.nonce]).size, 3);
    assert.deepEqual(await runsSince(third, 3n), []);
    assert.deepEqual(await runsSince(second, 3n), [
      { first: 2, count: 2 },
      { first: 100, count: 1 },
    ]);
    assert.deepEqual(await runsSince(first, 3n), [
      { first: 1, count: 3 },
      { first: 100, count: 1 },
    ]);
  });

  it('count the blocks of both COW files as changed: the images hide them', async () => {
    await chains.begin(at(1n, 50, 51));
    const first = await chains.cookie(at(1n));
    await chains.prepareTransition(at(1n), cowFile);
    await writeCowFile(cowFile, { uuid, seqId: 1n, nrEntries: 4096, changed: [1] });
    await chains.cookie(at(2n, 51, 52));
    assert.deepEqual(await runsSince(first, 2n), [
      { first: 1, count: 1 },
      { first: 50, count: 3 },
    ]);
  });

  it('ask the driver before the COW file', async () => {
    const first = await chains.cookie(at(1n));
    await chains.prepareTransition(at(1n), cowFile);
    await chains.cookie({
      ...at(2n),
      changedBefore: () => Promise.resolve([{ first: 7, count: 2 }]),
    });
    assert.deepEqual(await runsSince(first, 2n), [{ first: 7, count: 2 }]);
  });

  it('do not know the changes when the driver cannot tell for another reason', async () => {
    const first = await chains.cookie(at(1n));
    await chains.prepareTransition(at(1n), cowFile);
    await writeCowFile(cowFile, { uuid, seqId: 1n, nrEntries: 4096, changed: [1] });
    await chains.cookie({ ...at(2n), changedBefore: () => Promise.reject(new Error('EIO')) });
    await assert.rejects(runsSince(first, 2n), ChangesUnknownError);
  });

  it('do not know the changes when the COW file was cut before its blocks were noted', async () => {
    const cut = (position: Position): Position => ({
      ...position,
      cowFileBlocks: () => Promise.reject(new Error('cut')),
    });
    const first = await chains.cookie(at(1n));
    await chains.prepareTransition(at(1n), cowFile);
    await writeCowFile(cowFile, { uuid, seqId: 1n, nrEntries: 4096, changed: [1] });
    const second = await chains.cookie(cut(at(2n)));
    await assert.rejects(runsSince(first, 2n), ChangesUnknownError);
    const third = await transition(2n, 2);
    await assert.rejects(runsSince(second, 3n), ChangesUnknownError);
    await transition(3n, 3);
    assert.deepEqual(await runsSince(third, 4n), [{ first: 3, count: 1 }]);
  });

  it('outlive the agent, which may end between the transition and its book-keeping', async () => {
    const first = await chains.cookie(at(1n));
    await chains.prepareTransition(at(1n), cowFile);
    await writeCowFile(cowFile, { uuid, seqId: 1n, nrEntries: 4096, changed: [9] });
    chains = new ChainStore(join(directory, 'chains'));
    assert.deepEqual(await runsSince(first, 2n), [{ first: 9, count: 1 }]);
    assert.deepEqual(await chains.oldCowFile(at(2n)), { path: cowFile, seqId: 1n });
    await chains.forgetOldCowFile(at(2n));
    assert.equal(await chains.oldCowFile(at(2n)), undefined);
  });

  it('forget a transition that did not happen', async () => {
    const first = await chains.cookie(at(1n));
    await chains.prepareTransition(at(1n), cowFile);
    assert.deepEqual(await chains.cookie(at(1n)), first);
    const second = await transition(1n, 4);
    assert.deepEqual(await runsSince(first, 2n), [{ first: 4, count: 1 }]);
    assert.notEqual(second.nonce, '');
  });

  it('do not know the changes when their map was lost', async () => {
    const first = await chains.cookie(at(1n));
    await chains.prepareTransition(at(1n), cowFile);
    await writeFile(cowFile, 'overwritten');
    const second = await chains.cookie(at(2n));
    await assert.rejects(runsSince(first, 2n), ChangesUnknownError);
    assert.deepEqual(await runsSince(second, 2n), []);
  });

  it('do not know a snapshot that was taken without the agent', async () => {
    const first = await chains.cookie(at(1n));
    const foreign = await chains.cookie(at(2n));
    assert.equal(foreign.nonce, '');
    await assert.rejects(runsSince(first, 2n), /missing or damaged/);
    await assert.rejects(runsSince(foreign, 2n), ChangesUnknownError);
  });

  it('recognise a host that was reverted, by the nonce', async () => {
    const lost = await transition(1n, 1);
    await rm(join(directory, 'chains'), { recursive: true });
    await chains.begin(at(1n));
    const again = await transition(1n, 2);
    assert.equal(lost.seqId, again.seqId);
    await assert.rejects(runsSince(lost, 2n), /reverted or cloned/);
  });

  it('of a volume that was set back do not believe a map of the other timeline', async () => {
    const second = await transition(1n, 1);
    // The agent ends between the map and its book-keeping.
    const chain = join(directory, 'chains', uuid, 'chain.json');
    const before = await readFile(chain);
    await transition(2n, 2);
    await writeFile(chain, before);
    await chains.prepareTransition(at(2n), cowFile);
    await writeFile(cowFile, 'lost');
    await chains.cookie(at(3n));
    await assert.rejects(runsSince(second, 3n), /missing or damaged/);
  });

  it('of a volume that was set back forget the snapshots of the other timeline', async () => {
    const second = await transition(1n, 1);
    const third = await transition(2n, 2);
    assert.deepEqual(await chains.presentCookie(at(2n)), second);
    // By somebody else, without the agent.
    assert.equal((await chains.cookie(at(3n))).nonce, '');
    await assert.rejects(runsSince(third, 3n), /reverted or cloned/);
    await assert.rejects(runsSince(second, 3n), /missing or damaged/);
  });

  it('do not know the changes of a volume of another size', async () => {
    const first = await chains.cookie(at(1n));
    await transition(1n, 1);
    const grown = { ...at(2n), sizeBytes: 2n * sizeBytes };
    await assert.rejects(chains.changesSince(first, grown), (error: Error) => {
      assert.ok(error instanceof ChangesUnknownError);
      assert.match(error.message, /another size/);
      return true;
    });
  });

  it('refuse cookies of another chain and of the future', async () => {
    const cookie = await chains.cookie(at(1n));
    await assert.rejects(runsSince({ ...cookie, uuid: 'f'.repeat(32) }, 1n), /another chain/);
    await assert.rejects(runsSince({ ...cookie, seqId: 5n }, 1n), /newer/);
  });

  it(`keep the last ${String(MAPS_KEPT)} maps`, async () => {
    const cookies = [await chains.cookie(at(1n))];
    for (let seqId = 1n; seqId <= BigInt(MAPS_KEPT) + 2n; seqId += 1n) {
      cookies.push(await transition(seqId, Number(seqId)));
    }
    const now = BigInt(cookies.length);
    const oldest = cookies.at(-1 - MAPS_KEPT);
    const older = cookies.at(-2 - MAPS_KEPT);
    assert.ok(oldest && older);
    assert.deepEqual(await runsSince(oldest, now), [{ first: 3, count: MAPS_KEPT }]);
    await assert.rejects(runsSince(older, now), /too old/);
    const maps = await readdir(join(directory, 'chains', uuid));
    assert.equal(maps.filter((name) => name.endsWith('.map')).length, MAPS_KEPT);
  });

  it('end when no tracker has had them for long', async () => {
    const names = (): Promise<string[]> => readdir(join(directory, 'chains'));
    const other = 'e'.repeat(32);
    await chains.begin({ ...at(1n), uuid: other });
    const days = (count: number): number => Date.now() + count * 86_400_000;
    await chains.endLost([other], days(29));
    assert.equal((await names()).length, 2);
    await chains.endLost([other], days(31));
    assert.deepEqual(await names(), [other]);
  });

  it('end', async () => {
    await chains.end(uuid);
    assert.deepEqual(await readdir(join(directory, 'chains')), []);
  });
});
