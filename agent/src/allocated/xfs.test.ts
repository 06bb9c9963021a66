// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdir, open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import {
  allocatedIn,
  assertMatches,
  freeByXfsDb,
  partsRead,
  randomDamages,
  refusalsOfDamage,
  Scratch,
  tool,
  type Damage,
} from '../testing/filesystem-image.js';
import { randomNumbers } from '../testing/random.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** The first that every mkfs.xfs makes. */
const SMALLEST = 320 * MIB;
/** Made by testing/frozen/make.sh; it says how. */
const frozen = join(
  import.meta.dirname,
  '..',
  '..',
  '..',
  '..',
  'agent',
  'src',
  'testing',
  'frozen',
);

interface Form {
  name: string;
  options: string;
  sizeBytes: number;
}

const forms: Form[] = [
  { name: 'XFS as mkfs makes it', options: '', sizeBytes: SMALLEST },
  { name: 'XFS of version 4', options: '-m crc=0', sizeBytes: SMALLEST },
  {
    name: 'XFS of version 4, blocks of 512 bytes',
    options: '-m crc=0 -b size=512',
    sizeBytes: SMALLEST,
  },
  { name: 'XFS, blocks of 1 KiB', options: '-b size=1024', sizeBytes: SMALLEST },
  { name: 'XFS, blocks of 2 KiB', options: '-b size=2048', sizeBytes: SMALLEST },
  { name: 'XFS, blocks of 64 KiB', options: '-b size=65536', sizeBytes: 4 * GIB },
  { name: 'XFS, sectors of 4 KiB', options: '-s size=4096', sizeBytes: SMALLEST },
  { name: 'XFS in 2 groups', options: '-d agcount=2', sizeBytes: SMALLEST },
  { name: 'XFS in 17 groups', options: '-d agcount=17', sizeBytes: 2 * GIB },
  { name: 'XFS with a short last group', options: '-d agsize=100m', sizeBytes: 1033 * MIB },
  { name: 'XFS with a log in the last group', options: '-l agnum=3', sizeBytes: SMALLEST },
  { name: 'XFS with a log in stripes', options: '-l su=262144', sizeBytes: 2 * GIB },
  { name: 'XFS with a log of version 1', options: '-m crc=0 -l version=1', sizeBytes: SMALLEST },
  {
    name: 'XFS with trees of owners and references',
    options: '-m rmapbt=1,reflink=1',
    sizeBytes: SMALLEST,
  },
  { name: 'XFS without both', options: '-m rmapbt=0,reflink=0,finobt=0', sizeBytes: SMALLEST },
  { name: 'XFS without lazy counters', options: '-m crc=0 -l lazy-count=0', sizeBytes: SMALLEST },
  {
    name: 'XFS with a UUID given',
    options: '-m uuid=6b2dd2be-97a3-4e6a-8e0c-a0ae54d2a7b4',
    sizeBytes: SMALLEST,
  },
  { name: 'XFS on a larger device', options: '-d size=310m', sizeBytes: SMALLEST },
  { name: 'XFS on a device of odd size', options: '', sizeBytes: SMALLEST + 512 },
  { name: 'XFS of 40 GiB', options: '', sizeBytes: 40 * GIB },
];

describe('what XFS has allocated', () => {
  let scratch: Scratch;
  let protofile = '';

  before(async () => {
    scratch = await Scratch.make();
    const source = scratch.path('source');
    await mkdir(source);
    const below = randomNumbers(3);
    const lines = ['/', '0 0', 'd--755 0 0', 'directory d--755 0 0'];
    for (let i = 0; i < 60; i += 1) {
      const file = join(source, String(i));
      await writeFile(file, Buffer.alloc(1 + below(150) * 700, i + 1));
      lines.push(`file${i} ---644 0 0 ${file}`);
      if (i === 30) lines.push('$');
    }
    protofile = scratch.path('protofile');
    await writeFile(protofile, `${[...lines, '$', '$'].join('\n')}\n`);
  });
  after(async () => {
    await scratch.remove();
  });

  async function make({ options, sizeBytes }: Omit<Form, 'name'>): Promise<string> {
    const path = await scratch.file('image', sizeBytes);
    const given = options.split(' ').filter((word) => word !== '');
    await tool(['mkfs.xfs', '-q', '-f', ...given, '-p', protofile, path]);
    return path;
  }

  for (const { name, ...form } of forms) {
    it(`${name}: is what xfs_db does not find as free`, async () => {
      const path = await make(form);
      const map = await allocatedIn(path);
      const free = await freeByXfsDb(path);
      assert.ok(free.length > 0);
      assertMatches(map, form.sizeBytes, free);
    });
  }

  it('after its UUID was changed: is what xfs_db does not find as free', async () => {
    const path = await make({ options: '', sizeBytes: SMALLEST });
    await tool(['xfs_admin', '-U', 'generate', path]);
    assertMatches(await allocatedIn(path), SMALLEST, await freeByXfsDb(path));
  });

  /** An image of testing/frozen in a file. */
  async function frozenImage(name: string): Promise<string> {
    const path = scratch.path('frozen');
    await writeFile(path, brotliDecompressSync(await readFile(join(frozen, `${name}.br`))));
    return path;
  }

  it('frozen by a kernel, with trees of several levels: is what xfs_db does not find as free', async () => {
    const path = await frozenImage('xfs-frozen');
    const map = await allocatedIn(path);
    const free = await freeByXfsDb(path);
    assert.ok(free.length > 1000, String(free.length));
    assertMatches(map, (await stat(path)).size, free);
  });

  it('cannot be told when the log was not replayed', async () => {
    await assert.rejects(allocatedIn(await frozenImage('xfs-dirty')), /log has not been replayed/);
  });

  it('after its log was thrown away: is what xfs_db does not find as free', async () => {
    const path = await frozenImage('xfs-dirty');
    await tool(['xfs_repair', '-L', path]);
    assertMatches(await allocatedIn(path), (await stat(path)).size, await freeByXfsDb(path));
  });

  const refusals: [string, RegExp, string, ...string[]][] = [
    [
      'that has to be repaired',
      /feature that is not known/,
      '',
      'sb 0',
      'write -d features_incompat 0x1b',
    ],
    [
      'with an unknown read-only feature',
      /feature that is not known/,
      '',
      'sb 0',
      'write -d features_ro_compat 0x45',
    ],
    [
      'with an unknown compatible feature',
      /feature that is not known/,
      '',
      'sb 0',
      'write -d features_compat 1',
    ],
    [
      'with an unknown feature of the log',
      /feature that is not known/,
      '',
      'sb 0',
      'write -d features_log_incompat 2',
    ],
    [
      'with an unknown feature of version 4',
      /feature that is not known/,
      '-m crc=0',
      'sb 0',
      'write features2 0x40a',
      'write bad_features2 0x40a',
    ],
    [
      'with features in the wrong place',
      /in the wrong place/,
      '-m crc=0',
      'sb 0',
      'write bad_features2 0',
    ],
    ['that is not complete', /not complete/, '', 'sb 0', 'write -d inprogress 1'],
    [
      'that is larger than its device',
      /larger than its device/,
      '',
      'sb 0',
      'write -d dblocks 82000',
    ],
    ['with too many free blocks', /more free blocks/, '', 'sb 0', 'write -d fdblocks 81000'],
    ['with a wrong number in a group', /does not agree/, '', 'agf 1', 'write -d freeblks 100'],
    ['with a wrong longest extent', /does not agree/, '', 'agf 1', 'write -d longest 100'],
    [
      'with a group of a wrong length',
      /length of allocation group 1/,
      '',
      'agf 1',
      'write -d length 100',
    ],
    ['with trees of a wrong size', /not as large/, '', 'agf 1', 'write -d btreeblks 7'],
    ['with a list of impossible ends', /impossible ends/, '', 'agf 0', 'write -d flfirst 9'],
    [
      'with trees that differ',
      /does not agree/,
      '-m crc=0',
      'agf 1',
      'addr bnoroot',
      'write recs[1].blockcount 50',
    ],
    [
      'with a free extent that is too long',
      /impossible extent/,
      '-m crc=0',
      'agf 1',
      'addr bnoroot',
      'write recs[1].blockcount 900000',
    ],
    [
      'with metadata that is free',
      /impossible extent|metadata are marked/,
      '-m crc=0',
      'agf 1',
      'addr bnoroot',
      'write recs[1].startblock 1',
    ],
  ];
  for (const [name, reason, options, ...commands] of refusals) {
    it(`cannot be told of one ${name}`, async () => {
      const path = await make({ options, sizeBytes: SMALLEST });
      await tool(['xfs_db', '-x', ...commands.flatMap((command) => ['-c', command]), path]);
      await assert.rejects(allocatedIn(path), reason);
    });
  }

  it('with its log on another device: is what xfs_db does not find as free', async () => {
    const other = await scratch.file('other', 200 * MIB);
    const path = await scratch.file('image', SMALLEST);
    await tool(['mkfs.xfs', '-q', '-f', '-l', `logdev=${other},size=80m`, path]);
    assertMatches(await allocatedIn(path), SMALLEST, await freeByXfsDb(path));
  });

  it('cannot be told when it has a realtime part', async () => {
    const other = await scratch.file('other', 200 * MIB);
    const path = await scratch.file('image', SMALLEST);
    await tool(['mkfs.xfs', '-q', '-f', '-r', `rtdev=${other}`, path]);
    await assert.rejects(allocatedIn(path), /realtime/);
  });

  it('cannot be told when it begins like an ext4, too', async () => {
    const path = await make({ options: '', sizeBytes: SMALLEST });
    const file = await open(path, 'r+');
    await file.write(Buffer.from([0x53, 0xef]), 0, 2, 1080);
    await file.close();
    await assert.rejects(allocatedIn(path), /two filesystems/);
  });

  describe('of a damaged image', () => {
    it('is not told less, whatever byte is wrong, where there are checksums', async () => {
      const path = await frozenImage('xfs-frozen');
      const parts = (await partsRead(path)).filter(([start]) => start > 0);
      const count = await refusalsOfDamage(path, randomDamages(parts, 150, 'byte', 21));
      assert.ok(count > 100, String(count));
    });

    it('is not told less, whatever bit is wrong, where there are none', async () => {
      const path = await make({ options: '-m crc=0 -d agcount=2', sizeBytes: SMALLEST });
      const headers: Damage[] = [];
      for (let byte = 0; byte < 4 * 512; byte += 1)
        headers.push({ offset: byte, mask: 1 << (byte % 8) });
      await refusalsOfDamage(path, headers);
      // The beginnings of blocks of trees: the rest is empty.
      const parts = (await partsRead(path))
        .filter(([start, end]) => end - start === 4096)
        .map(([start]) => [start, start + 32] as const);
      const count = await refusalsOfDamage(path, randomDamages(parts, 200, 'bit', 22));
      assert.ok(count > 100, String(count));
    });

    it('is not told at all when a byte of superblock or headers of a group is wrong', async () => {
      const path = await make({ options: '', sizeBytes: SMALLEST });
      const damages: Damage[] = [];
      for (const sector of [0, 1, 3]) {
        for (let byte = 0; byte < 512; byte += 1)
          damages.push({ offset: sector * 512 + byte, mask: 1 << (byte % 8) });
      }
      assert.equal(await refusalsOfDamage(path, damages), damages.length);
    });
  });
});
