// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SetupSnapshotRequest } from '../../../proto/gen/elio/v1/snapshot.js';
import { hostsOf } from '../connection.js';
import { Volume } from '../sets/testing/volume.js';
import { StubOrigin } from '../testing/stub-origin.js';
import { Pacer } from './pacer.js';
import { openBlockStream } from './stream.js';

describe('a stream of blocks', () => {
  let directory = '';
  let origin: StubOrigin;
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-stream-'));
    origin = await StubOrigin.start(join(directory, 'socket'), new Volume(1, 4 << 20));
  });
  after(() => {
    origin.stop();
    rmSync(directory, { recursive: true });
  });

  it('is read no faster than its pacer allows', async () => {
    let now = 0;
    const clock = {
      nowMs: () => now,
      sleep: (ms: number): Promise<void> => {
        now += ms;
        return Promise.resolve();
      },
    };
    const bytesPerSecond = 1 << 10;
    const [host] = hostsOf({ host: [], group: [], parallel: 1, socket: join(directory, 'socket') });
    const connection = host?.connect();
    assert.ok(connection);
    const { signal } = new AbortController();
    await connection.snapshots.setupSnapshot(
      SetupSnapshotRequest.fromPartial({ blockDevice: '/dev/vdb1' }),
    );
    const pacer = new Pacer(bytesPerSecond, clock);
    const stream = await openBlockStream(connection, { minor: 0 }, signal, pacer);
    for await (const { kind } of stream.blocks) assert.ok(kind);
    connection.close();
    assert.ok(stream.sentBytes() > 1 << 20);
    const seconds = stream.sentBytes() / bytesPerSecond;
    assert.ok(Math.abs(now / 1000 - seconds) < 0.2, `${String(now / 1000)} s`);
  });
});
