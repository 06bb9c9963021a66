// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { status } from '@grpc/grpc-js';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TrackerInfo } from '../driver/snap-driver.js';
import { AgentError } from '../errors.js';
import { readReloadList, type ReloadEntry } from '../state/reload-list.js';
import { RememberedTrackers } from './remembered-trackers.js';

const tracker: TrackerInfo = {
  minor: 3,
  flags: 2,
  state: 2n,
  error: 0,
  cacheSizeBytes: 1n << 20n,
  cowSizeBytes: 1n << 24n,
  seqId: 1n,
  uuid: '00112233445566778899aabbccddeeff',
  cowFile: '/cow1',
  blockDevice: '/dev/vdb',
  version: 1n,
  nrChangedBlocks: 0n,
  ignoreErrors: true,
};
const entry: ReloadEntry = {
  mode: 'incremental',
  minor: 3,
  device: 'SERIAL=vdb',
  cowFile: '/cow1',
  cacheSizeBytes: 1n << 20n,
  ignoreErrors: true,
};

describe('what is remembered of trackers', () => {
  let directory = '';
  let path = '';
  let infos: TrackerInfo[] = [];
  let said: string[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-remembered-'));
    path = join(directory, 'reload');
    infos = [tracker];
    said = [];
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** An agent that has just been started. */
  function agent(list = (): Promise<TrackerInfo[]> => Promise.resolve(infos)): RememberedTrackers {
    const say = (level: string) => (text: string) => said.push(`${level} ${text}`);
    const log = { info: say('info'), warn: say('warn') } as unknown as ConstructorParameters<
      typeof RememberedTrackers
    >[1];
    const idOf = (device: string): Promise<string | undefined> =>
      Promise.resolve(device.startsWith('/dev/vd') ? `SERIAL=${device.slice(5)}` : undefined);
    return new RememberedTrackers({ list }, log, path, idOf);
  }

  it('is what the driver has, mode by mode, without what has failed or has no identity', async () => {
    const remembered = agent();
    infos = [
      { ...tracker, minor: 0, state: 3n, cowFile: '/a b' },
      { ...tracker, minor: 1, state: 5n },
      { ...tracker, minor: 2, state: 0n },
      { ...tracker, minor: 4, error: -27 },
      { ...tracker, minor: 5, blockDevice: '/dev/loop0' },
      { ...tracker, minor: 6, blockDevice: '/dev/loop0' },
    ];
    await remembered.update();
    assert.deepEqual(await readReloadList(path), [
      { ...entry, minor: 0, mode: 'snapshot', cowFile: '/a b' },
      { ...entry, minor: 1, mode: 'snapshot' },
      { ...entry, minor: 2 },
    ]);
    assert.equal(said.length, 1);
    assert.match(said[0] ?? '', /^warn \/dev\/loop0 has no identity/);
  });

  it('is written only when it has changed', async () => {
    const remembered = agent();
    await remembered.update();
    const { ino } = await stat(path);
    await remembered.update();
    assert.equal((await stat(path)).ino, ino);
    infos = [{ ...tracker, cowFile: '/cow2' }];
    await remembered.update();
    assert.deepEqual(await readReloadList(path), [{ ...entry, cowFile: '/cow2' }]);
  });

  it('is compared with the driver when the agent starts: what is lost is said, and forgotten', async () => {
    infos = [
      tracker,
      { ...tracker, minor: 1, blockDevice: '/dev/vdc' },
      { ...tracker, minor: 2, blockDevice: '/dev/vdd' },
      { ...tracker, minor: 4, blockDevice: '/dev/vde' },
    ];
    await agent().update();
    infos = [
      tracker,
      { ...tracker, minor: 1, blockDevice: '/dev/vdf' },
      { ...tracker, minor: 4, blockDevice: '/dev/vde', state: 4n, error: -22 },
    ];
    await agent().begin();
    const about = (device: string): string => said.find((line) => line.includes(device)) ?? '';
    assert.equal(said.length, 4, said.join('\n'));
    assert.match(about('/dev/vdb'), /^info \/dev\/vdb is still tracked/);
    assert.match(about('vdc'), /^warn the next backup of SERIAL=vdc is a full: .*is not any more/);
    assert.match(about('vdd'), /^warn the next backup of SERIAL=vdd is a full: .*is not any more/);
    assert.match(about('vde'), /^warn the next backup of \/dev\/vde is a full: .*was not closed/);
    assert.deepEqual(await readReloadList(path), [
      entry,
      { ...entry, minor: 1, device: 'SERIAL=vdf' },
    ]);
  });

  it('is kept while there is no module', async () => {
    await agent().update();
    const failure = new AgentError(status.UNAVAILABLE, 'MODULE_NOT_LOADED', 'there is no module');
    await agent(() => Promise.reject(failure)).begin();
    assert.deepEqual(said, ['warn nothing is tracked: there is no module']);
    assert.deepEqual(await readReloadList(path), [entry]);
  });

  it('begins anew when it is damaged, and says so', async () => {
    await writeFile(path, 'elio-reload 1\nincremental');
    await agent().begin();
    assert.equal(said.length, 1);
    assert.match(said[0] ?? '', /^warn .*reload cannot be used .*middle of a line/);
    assert.deepEqual(await readReloadList(path), [entry]);
  });

  it('does not fail a call when it cannot be written', async () => {
    path = join(directory, 'file', 'reload');
    await writeFile(join(directory, 'file'), '');
    await agent().update();
    assert.match(said[0] ?? '', /^warn .*cannot be written .*fulls/);
  });
});
