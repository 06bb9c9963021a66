// SPDX-License-Identifier: Apache-2.0
// The NBD client, with qemu-nbd and with a server that fails.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomNumbers } from '../../../agent/src/testing/random.js';
import { OpenImage } from '../qemu/open-image.js';
import { createImage } from '../qemu/qcow2.js';
import { NbdClient } from './client.js';

const MIB = 1 << 20;

describe('the NBD client', function () {
  this.timeout(60_000);
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-nbd-test-'));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  describe('with qemu-nbd', () => {
    it('writes, zeroes and reads what it should, with many requests on their way', async () => {
      const path = join(directory, 'image');
      const size = 16 * MIB + 512;
      await createImage(path, size);
      const expected = Buffer.alloc(size);
      const random = randomNumbers(1);
      const image = await OpenImage.open(path);
      assert.equal(image.client.sizeBytes, size);
      for (let round = 0; round < 4; round += 1) {
        for (let at = 0; at < size; at += 4096 * (1 + random(64))) {
          const length = Math.min(4096 * (1 + random(32)), size - at);
          if (random(3) === 0) {
            expected.fill(0, at, at + length);
            await image.client.zero(at, length);
          } else {
            const data = Buffer.alloc(length, 1 + random(255));
            data.copy(expected, at);
            await image.client.write(at, data);
          }
          // What overlaps must not be on its way at the same time.
          if (random(4) === 0) await image.client.flush();
          at = Math.ceil((at + length) / 4096) * 4096;
        }
        await image.client.flush();
      }
      const back = Buffer.alloc(size);
      const reads = [];
      for (let at = 0; at < size; at += MIB) {
        reads.push(image.client.read(at, back.subarray(at, at + MIB)));
      }
      await Promise.all(reads);
      assert.ok(back.equals(expected));
      await image.close();
      execFileSync('qemu-img', ['convert', '-O', 'raw', path, `${path}.raw`]);
      assert.ok((await readFile(`${path}.raw`)).equals(expected));
    });

    it('tells what the image holds itself, to 4 KiB', async () => {
      const base = join(directory, 'base');
      const path = join(directory, 'image');
      await createImage(base, 8 * MIB);
      await createImage(path, 8 * MIB, 'base');
      const write = await OpenImage.open(path);
      await write.client.write(4096, Buffer.alloc(8192, 1));
      await write.client.zero(5 * MIB + 4096, 2 * MIB);
      await write.client.flush();
      await write.close();
      const read = await OpenImage.open(path, { readOnly: true, alone: true, allocation: true });
      const extents = [];
      for await (const extent of read.client.allocated()) extents.push(extent);
      await read.close();
      assert.deepEqual(extents, [
        { offset: 4096, length: 8192 },
        { offset: 5 * MIB + 4096, length: 2 * MIB },
      ]);
    });

    it('says what is wrong with an image that cannot be opened', async () => {
      await assert.rejects(
        OpenImage.open(join(directory, 'absent')),
        /qemu-nbd cannot work with .*absent.*No such file/,
      );
    });
  });

  describe('with a server that fails', () => {
    let server: Server | undefined;
    afterEach(() => server?.close());

    /** A server of 1 MiB that answers each request as it is told. */
    async function serve(answer: (socket: Socket, cookie: Buffer) => void): Promise<NbdClient> {
      const path = join(directory, 'socket');
      server = createServer((socket) => {
        socket.on('error', () => undefined);
        socket.write(Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1'));
        const reply = (option: number, type: number, data: Buffer): void => {
          const header = Buffer.alloc(20);
          header.writeBigUInt64BE(0x0003e889045565a9n);
          header.writeUInt32BE(option, 8);
          header.writeUInt32BE(type, 12);
          header.writeUInt32BE(data.length, 16);
          socket.write(Buffer.concat([header, data]));
        };
        let step = 0;
        socket.on('data', (data) => {
          step += 1;
          if (step === 1) reply(8, 1, Buffer.alloc(0));
          else if (step === 2) {
            const info = Buffer.alloc(12);
            info.writeBigUInt64BE(1n << 20n, 2);
            reply(7, 3, info);
            reply(7, 1, Buffer.alloc(0));
          } else if (typeof data !== 'string') answer(socket, data.subarray(8, 16));
        });
      });
      const listening = server;
      await new Promise<void>((resolve) => listening.listen(path, resolve));
      return NbdClient.connect(path);
    }

    it('tells a write that found no room, at latest when it flushes', async () => {
      const client = await serve((socket, cookie) => {
        const header = Buffer.alloc(8);
        header.writeUInt32BE(0x67446698);
        header.writeUInt32BE(28, 4);
        socket.write(Buffer.concat([header, cookie]));
      });
      await client.write(0, Buffer.alloc(4096));
      await assert.rejects(client.flush(), { name: 'NbdError', code: 'ENOSPC' });
      await assert.rejects(client.write(0, Buffer.alloc(4096)), { code: 'ENOSPC' });
      client.disconnect();
    });

    it('fails what is on its way when the connection ends', async () => {
      const client = await serve((socket) => socket.destroy());
      await client.write(0, Buffer.alloc(4096));
      await assert.rejects(client.flush(), /connection|ECONNRESET|EPIPE/);
      await assert.rejects(client.read(0, Buffer.alloc(512)), /connection|ECONNRESET|EPIPE/);
    });
  });
});
