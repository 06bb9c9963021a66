// SPDX-License-Identifier: Apache-2.0
// What elio-rescue reads, by its own code (rescue-check.c, under ASan and UBSan): the agent's lists, tables of partitions.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatReloadList, parseReloadList, type ReloadEntry } from '../src/state/reload-list.js';
import { randomNumbers } from '../src/testing/random.js';

const repository = join(import.meta.dirname, '..', '..', '..');

describe('elio-rescue', () => {
  let directory = '';
  before(function () {
    this.timeout(120_000);
    directory = mkdtempSync(join(tmpdir(), 'elio-rescue-'));
    const source = join(repository, 'agent', 'rescue');
    execFileSync('make', ['-s', '-C', source, `OUT=${directory}`, 'check', 'all']);
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });

  function check(args: readonly string[], input = ''): { status: number | null; stdout: string } {
    const result = spawnSync(join(directory, 'rescue-check'), args, { input, encoding: 'utf8' });
    assert.ok(result.status === 0 || result.status === 1, result.stderr);
    return result;
  }

  it('reads what the agent writes', () => {
    const random = randomNumbers(1);
    const text = (): string =>
      Array.from({ length: 1 + random(20) }, () =>
        String.fromCodePoint(1 + random(random(2) === 0 ? 126 : 0xd7fe)),
      ).join('');
    const entries = Array.from({ length: 500 }, (): ReloadEntry => ({
      mode: random(2) === 0 ? 'snapshot' : 'incremental',
      minor: random(2 ** 32),
      device: `WWID=${text()}`,
      cowFile: `/${text()}`,
      cacheSizeBytes: BigInt(random(2 ** 40)) << BigInt(random(24)),
      ignoreErrors: random(2) === 0,
    }));
    const list = formatReloadList(entries);
    const { status, stdout } = check(['list'], list);
    assert.equal(status, 0);
    assert.deepEqual(parseReloadList(Buffer.from(stdout)), entries);
    assert.equal(stdout, list);
  });

  it('refuses what the agent refuses', function () {
    this.timeout(120_000);
    const entry: ReloadEntry = {
      mode: 'snapshot',
      minor: 12,
      device: 'DM_UUID=LVM-a',
      cowFile: '/a b',
      cacheSizeBytes: 34n,
      ignoreErrors: false,
    };
    const good = formatReloadList([entry, entry]);
    const random = randomNumbers(2);
    for (let i = 0; i < 200; i++) {
      const at = random(good.length);
      const damaged =
        good.slice(0, at) + '\\ \n/=x0'.charAt(random(7)) + good.slice(at + random(2));
      const expected = ((): string => {
        try {
          return formatReloadList(parseReloadList(Buffer.from(damaged)));
        } catch {
          return '';
        }
      })();
      const { status, stdout } = check(['list'], damaged);
      assert.equal(status === 0 ? stdout : '', expected, JSON.stringify(damaged));
    }
  });

  function partuuid(disk: Buffer, sectorSize: number, number: number): string {
    const path = join(directory, 'disk');
    writeFileSync(path, disk);
    return check(['partuuid', path, String(sectorSize), String(number)]).stdout.trim();
  }

  it('finds the identity of a partition in a GPT', () => {
    for (const sectorSize of [512, 4096]) {
      const disk = Buffer.alloc(64 * 1024);
      disk.writeUInt16LE(0xaa55, 510);
      disk.writeUInt8(0xee, 450);
      disk.write('EFI PART', sectorSize);
      disk.writeBigUInt64LE(2n, sectorSize + 72);
      disk.writeUInt32LE(8, sectorSize + 80);
      disk.writeUInt32LE(128, sectorSize + 84);
      disk.write('00112233445566778899aabbccddeeff', 2 * sectorSize + 2 * 128 + 16, 'hex');
      assert.equal(partuuid(disk, sectorSize, 3), '33221100-5544-7766-8899-aabbccddeeff');
      assert.equal(partuuid(disk, sectorSize, 9), '');
      assert.equal(partuuid(disk, sectorSize === 512 ? 4096 : 512, 3), '');
    }
  });

  it('finds the identity of a partition in an MBR, which has to have one', () => {
    const disk = Buffer.alloc(512);
    disk.writeUInt16LE(0xaa55, 510);
    disk.writeUInt8(0x83, 450);
    assert.equal(partuuid(disk, 512, 1), '');
    disk.writeUInt32LE(0x8c2f1a, 0x1b8);
    assert.equal(partuuid(disk, 512, 17), '008c2f1a-11');
    assert.equal(partuuid(disk.subarray(0, 511), 512, 1), '');
  });

  it('says how it is used, and that there is no module', () => {
    const run = (...args: string[]): ReturnType<typeof spawnSync> =>
      spawnSync(join(directory, 'elio-rescue'), args, { encoding: 'utf8' });
    for (const args of [
      [],
      ['info'],
      ['info', '1x'],
      ['list', '1'],
      ['users', '1'],
      ['reload', '--wait', 'x'],
    ]) {
      const { status, stderr } = run(...args);
      assert.equal(status, 2, args.join(' '));
      assert.match(String(stderr), /^usage: elio-rescue list/);
    }
    const { status, stdout } = run('--help');
    assert.equal(status, 0);
    assert.match(String(stdout), /reload --root DEVICE/);
    assert.equal(run('reload', '--list', join(directory, 'missing')).status, 0);
  });
});
