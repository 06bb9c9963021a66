// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { SetupSnapshotRequest } from '../../../proto/gen/elio/v1/snapshot.js';
import { hostsOf, type Connection } from '../connection.js';
import { Volume } from '../sets/testing/volume.js';
import { StubOrigin } from '../testing/stub-origin.js';
import { Pacer } from './pacer.js';
import { openBlockStream } from './stream.js';

describe('a stream of blocks', () => {
  let directory = '';
  let origin: StubOrigin;
  let connection: Connection;
  const { signal } = new AbortController();
  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-stream-'));
    origin = await StubOrigin.start(join(directory, 'socket'), new Volume(1, 4 << 20));
    const [host] = hostsOf({ host: [], group: [], parallel: 1, socket: join(directory, 'socket') });
    assert.ok(host);
    connection = host.connect();
    const blockDevice = '/dev/vdb1';
    await connection.snapshots.setupSnapshot(SetupSnapshotRequest.fromPartial({ blockDevice }));
  });
  after(() => {
    connection.close();
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
    const pacer = new Pacer(bytesPerSecond, clock);
    const stream = await openBlockStream(connection, { minor: 0 }, signal, pacer);
    for await (const { kind } of stream.blocks) assert.ok(kind);
    assert.ok(stream.sentBytes() > 1 << 20);
    const seconds = stream.sentBytes() / bytesPerSecond;
    assert.ok(Math.abs(now / 1000 - seconds) < 0.2, `${String(now / 1000)} s`);
  });

  it('is refused when the checksum of a MiB is another one, or does not come', async () => {
    const read = async (tamper: StubOrigin['tamper']): Promise<number> => {
      origin.tamper = tamper;
      const stream = await openBlockStream(connection, { minor: 0 }, signal);
      for await (const { kind } of stream.blocks) assert.ok(kind);
      return stream.sentBytes();
    };
    assert.ok((await read((message) => message)) > 1 << 20);
    const ofData: StubOrigin['tamper'] = ({ content }) => {
      if (content?.$case !== 'data' || content.value.offsetBytes < 1n << 20n) return { content };
      const data = Buffer.from(content.value.data);
      data.writeUInt8(data.readUInt8(100) ^ 1, 100);
      return { content: { $case: 'data', value: { ...content.value, data, crc32: crc32(data) } } };
    };
    await assert.rejects(read(ofData), /not whole: the MiB at byte \d+ has a wrong checksum/);
    const without: StubOrigin['tamper'] = ({ content }) =>
      content?.$case === 'digests' ? undefined : { content };
    await assert.rejects(read(without), /the checksum of the MiB at byte \d+ did not come/);
  });
});
