// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdir, open, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  allocatedIn,
  assertMatches,
  freeByDumpe2fs,
  partsRead,
  randomDamages,
  refusalsOfDamage,
  Scratch,
  tool,
  type Damage,
} from '../testing/filesystem-image.js';
import { randomNumbers } from '../testing/random.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

interface Form {
  name: string;
  type?: 'ext2' | 'ext3';
  options: string;
  sizeBytes: number;
  /** Of the filesystem, if it is smaller. */
  blocks?: string;
  /** It has no files that are written and deleted. */
  empty?: boolean;
}

const plain: Form = { name: 'ext4 as mkfs makes it', options: '', sizeBytes: 64 * MIB };

const forms: Form[] = [
  plain,
  { name: 'ext4, several groups', options: '-b 4096', sizeBytes: 700 * MIB },
  { name: 'ext4, blocks of 1 KiB', options: '-b 1024', sizeBytes: 64 * MIB },
  { name: 'ext4, blocks of 2 KiB', options: '-b 2048', sizeBytes: 96 * MIB },
  { name: 'ext4, blocks of 64 KiB', options: '-b 65536', sizeBytes: 900 * MIB },
  { name: 'ext4 without 64bit', options: '-b 1024 -O ^64bit', sizeBytes: 64 * MIB },
  { name: 'ext4 with uninit_bg', options: '-O ^metadata_csum,uninit_bg', sizeBytes: 400 * MIB },
  {
    name: 'ext4 with uninit_bg and without 64bit',
    options: '-b 1024 -O ^metadata_csum,^64bit,uninit_bg',
    sizeBytes: 100 * MIB,
  },
  {
    name: 'ext4 without checksums',
    options: '-b 1024 -O ^metadata_csum,^uninit_bg',
    sizeBytes: 64 * MIB,
  },
  { name: 'ext4 without a journal', options: '-O ^has_journal', sizeBytes: 64 * MIB },
  { name: 'ext4 without flex_bg', options: '-b 1024 -O ^flex_bg', sizeBytes: 100 * MIB },
  {
    name: 'ext4 with meta_bg',
    options: '-b 1024 -O meta_bg,^resize_inode',
    sizeBytes: 300 * MIB,
  },
  {
    name: 'ext4 with meta_bg, without flex_bg and sparse_super',
    options: '-b 1024 -O meta_bg,^resize_inode,^flex_bg,^sparse_super',
    sizeBytes: 300 * MIB,
  },
  { name: 'ext4 with sparse_super2', options: '-O sparse_super2', sizeBytes: 600 * MIB },
  {
    name: 'ext4 with sparse_super2 and one copy',
    options: '-b 1024 -O sparse_super2,^resize_inode -E num_backup_sb=1',
    sizeBytes: 100 * MIB,
  },
  { name: 'ext4 with bigalloc', options: '-O bigalloc -C 65536', sizeBytes: 500 * MIB },
  {
    name: 'ext4 with bigalloc and blocks of 1 KiB',
    options: '-b 1024 -O bigalloc -C 16384',
    sizeBytes: 300 * MIB,
  },
  {
    name: 'ext4 with clusters that end behind it',
    options: '-b 1024 -O bigalloc,^resize_inode -C 32768',
    sizeBytes: 40 * MIB,
    blocks: '40003',
  },
  {
    name: 'ext4 with many features',
    options:
      '-O metadata_csum_seed,inline_data,large_dir,project,encrypt,casefold,verity,mmp,ea_inode,fast_commit,orphan_file -I 512',
    sizeBytes: 64 * MIB,
  },
  { name: 'ext4 with few inodes', options: '-b 1024 -N 16 -G 64', sizeBytes: 200 * MIB },
  { name: 'ext4 on a larger device', options: '-b 1024', sizeBytes: 64 * MIB, blocks: '50001' },
  { name: 'ext4 on a device of odd size', options: '-b 1024', sizeBytes: 20 * MIB + 512 },
  { name: 'ext3', type: 'ext3', options: '', sizeBytes: 64 * MIB },
  { name: 'ext2', type: 'ext2', options: '', sizeBytes: 64 * MIB },
  { name: 'ext2 with blocks of 1 KiB', type: 'ext2', options: '-b 1024', sizeBytes: 8 * MIB },
  { name: 'ext4 of 20 GiB', options: '', sizeBytes: 20 * GIB },
  {
    name: 'ext4 of 20 GiB with its tables written',
    options: '-O ^metadata_csum,^uninit_bg -i 65536',
    sizeBytes: 17 * GIB,
    empty: true,
  },
];

describe('what ext4 has allocated', () => {
  let scratch: Scratch;
  let source = '';

  before(async () => {
    scratch = await Scratch.make();
    source = scratch.path('source');
    await mkdir(join(source, 'directory'), { recursive: true });
    const below = randomNumbers(3);
    for (let i = 0; i < 60; i += 1) {
      const bytes = Buffer.alloc(1 + below(150) * 700, i + 1);
      await writeFile(join(source, i % 2 === 0 ? 'directory' : '', `file${i}`), bytes);
    }
  });
  after(async () => {
    await scratch.remove();
  });

  async function make({ type, options, sizeBytes, blocks, empty }: Form): Promise<string> {
    const path = await scratch.file('image', sizeBytes);
    const kind = ['-t', type ?? 'ext4'];
    const given = options.split(' ').filter((word) => word !== '');
    const files = empty ? [] : ['-d', source];
    const size = blocks === undefined ? [] : [blocks];
    await tool(['mke2fs', '-q', '-F', ...kind, ...given, ...files, path, ...size]);
    if (empty) return path;
    // Holes among the files, and one file in several pieces.
    const gone = Array.from({ length: 15 }, (_, i) => `rm directory/file${i * 4}`);
    const commands = [...gone, `write ${join(source, 'file59')} again`, 'rm file1', ''];
    await tool(['debugfs', '-w', '-f', '-', path], commands.join('\n'));
    return path;
  }

  for (const form of forms) {
    it(`${form.name}: is what dumpe2fs does not list as free`, async () => {
      const path = await make(form);
      await tool(['e2fsck', '-fn', path]);
      const map = await allocatedIn(path);
      const free = await freeByDumpe2fs(path);
      assert.ok(free.length > 0);
      assertMatches(map, form.sizeBytes, free);
    });
  }

  it('all inodes and files are in it: debugfs finds no owner of a free block', async () => {
    const path = await make({ name: '', options: '-b 4096', sizeBytes: 64 * MIB });
    const blocks = [...(await allocatedIn(path)).complement().runs].flatMap(({ first, count }) =>
      Array.from({ length: count }, (_, i) => first + i),
    );
    const commands: string[] = [];
    for (let at = 0; at < blocks.length; at += 500) {
      commands.push(`icheck ${blocks.slice(at, at + 500).join(' ')}`);
    }
    const text = await tool(['debugfs', '-f', '-', path], `${commands.join('\n')}\n`);
    assert.equal(text.match(/<block not found>/g)?.length, blocks.length);
    for (const { first, count } of (await allocatedIn(path)).complement().runs.slice(0, 20)) {
      const free = await tool(['debugfs', '-R', `testb ${first} ${count}`, path]);
      assert.equal(free.match(/not in use/g)?.length, count);
    }
  });

  const conversions: [string, Omit<Form, 'name'>, ...string[]][] = [
    [
      'grown',
      { options: '-b 1024', sizeBytes: 300 * MIB, blocks: '20000' },
      'resize2fs IMAGE 300000',
    ],
    [
      'grown without flex_bg',
      { options: '-b 1024 -O ^flex_bg,^metadata_csum', sizeBytes: 300 * MIB, blocks: '20000' },
      'resize2fs IMAGE 300000',
    ],
    [
      'grown beyond its spare descriptors',
      { options: '-b 1024 -E resize=30000', sizeBytes: 900 * MIB, blocks: '20000' },
      'resize2fs IMAGE 900000',
    ],
    [
      'grown with sparse_super2',
      { options: '-b 1024 -O sparse_super2,^resize_inode', sizeBytes: 100 * MIB, blocks: '20000' },
      'resize2fs IMAGE 100000',
    ],
    ['shrunk', { options: '', sizeBytes: 500 * MIB }, 'resize2fs IMAGE 150M'],
    ['widened to 64bit', { options: '-O ^64bit', sizeBytes: 300 * MIB }, 'resize2fs -b IMAGE'],
    ['narrowed from 64bit', { options: '', sizeBytes: 300 * MIB }, 'resize2fs -s IMAGE'],
    [
      'given checksums',
      { options: '-O ^metadata_csum', sizeBytes: 300 * MIB },
      'tune2fs -O metadata_csum IMAGE',
    ],
    [
      'deprived of checksums',
      { options: '', sizeBytes: 300 * MIB },
      'tune2fs -O ^metadata_csum IMAGE',
    ],
    ['given another UUID', { options: '', sizeBytes: 100 * MIB }, 'tune2fs -U random IMAGE'],
    [
      'given another UUID, but no other checksums',
      { options: '', sizeBytes: 100 * MIB },
      'tune2fs -O metadata_csum_seed IMAGE',
      'tune2fs -U random IMAGE',
    ],
    [
      'made of an ext3',
      { type: 'ext3', options: '', sizeBytes: 100 * MIB },
      'tune2fs -O extents,uninit_bg,dir_index IMAGE',
    ],
    ['given a journal', { options: '-O ^has_journal', sizeBytes: 100 * MIB }, 'tune2fs -j IMAGE'],
    [
      'deprived of its journal',
      { options: '', sizeBytes: 100 * MIB },
      'tune2fs -O ^has_journal IMAGE',
    ],
  ];
  for (const [name, form, ...commands] of conversions) {
    it(`ext4 that was ${name}: is what dumpe2fs does not list as free`, async () => {
      const path = await make({ name, ...form });
      for (const command of commands) {
        // Both tools demand one that has been checked.
        await tool(['e2fsck', '-fp', path]);
        await tool(command.split(' ').map((word) => (word === 'IMAGE' ? path : word)));
      }
      await tool(['e2fsck', '-fp', path]);
      assertMatches(await allocatedIn(path), (await stat(path)).size, await freeByDumpe2fs(path));
    });
  }

  /** Makes the plain one and changes it with debugfs. */
  async function changed(...commands: string[]): Promise<string> {
    const path = await make(plain);
    await tool(['debugfs', '-w', '-f', '-', path], `${commands.join('\n')}\n`);
    return path;
  }

  const refusals: [string, RegExp, ...string[]][] = [
    ['a journal to replay', /needs_recovery/, 'feature needs_recovery'],
    ['an unknown compatible feature', /feature that is not known.*0x8000$/, 'feature FEATURE_C15'],
    ['an unknown incompatible feature', /feature that is not known/, 'feature FEATURE_I27'],
    ['an unknown read-only feature', /feature that is not known/, 'feature FEATURE_R30'],
    ['errors', /not marked as clean/, 'ssv state 3'],
    ['no mark that it is clean', /not marked as clean/, 'ssv state 0'],
    ['orphans that were being deleted', /not marked as clean/, 'ssv state 5'],
    ['noted errors', /noted 2 errors/, 'ssv error_count 2'],
    ['a wrong number of free blocks', /free blocks/, 'ssv free_blocks_count 1000'],
    [
      'a wrong number in a group',
      /group 0/,
      'set_bg 0 free_blocks_count 1000',
      'set_bg 0 checksum calc',
    ],
    [
      'a wrong checksum of a bitmap',
      /bitmap of group 0/,
      'set_bg 0 block_bitmap_csum 7',
      'set_bg 0 checksum calc',
    ],
    ['a wrong checksum of a group', /checksum of group 0/, 'set_bg 0 checksum 7'],
    ['metadata that is free', /free/, 'freeb 2 1'],
    ['an end behind that of the device', /larger than its device/, 'ssv blocks_count 1000000'],
  ];
  for (const [name, reason, ...commands] of refusals) {
    it(`cannot be told of one with ${name}`, async () => {
      const path = await changed(...commands);
      await assert.rejects(allocatedIn(path), reason);
    });
  }

  it('cannot be told when the journal itself says that it is not empty', async () => {
    const path = await make(plain);
    const where = await tool(['debugfs', '-R', 'bmap <8> 0', path]);
    const file = await open(path, 'r+');
    // s_start
    await file.write(Buffer.from([0, 0, 0, 1]), 0, 4, Number(where.trim()) * KIB + 28);
    const text = await tool(['dumpe2fs', '-h', path]);
    assert.match(text, /^Block size: +1024$/m);
    await file.close();
    await assert.rejects(allocatedIn(path), /journal has not been replayed/);
  });

  it('cannot be told of a journal device, or of nothing', async () => {
    const path = await scratch.file('image', 16 * MIB);
    await assert.rejects(allocatedIn(path), /no filesystem of a known kind/);
    await tool(['mke2fs', '-q', '-F', '-O', 'journal_dev', path]);
    await assert.rejects(allocatedIn(path), /feature that is not known/);
    await assert.rejects(allocatedIn(await scratch.file('image', 512)), /too small/);
  });

  it('can be told when the journal is on another device', async () => {
    const form = { name: '', options: '-b 1024', sizeBytes: 32 * MIB };
    const path = await make({ ...form, options: '-b 1024 -O ^has_journal' });
    // What an external journal leaves in the superblock: the feature, and no inode.
    await tool(['debugfs', '-w', '-f', '-', path], 'feature has_journal\nssv journal_dev 0x800\n');
    assertMatches(await allocatedIn(path), form.sizeBytes, await freeByDumpe2fs(path));
  });

  describe('of a damaged image', () => {
    /** Byte ranges of superblock and descriptors, and of all bitmaps. */
    async function metadataOf(path: string): Promise<[number, number][]> {
      return (await partsRead(path)).filter(([start, end]) => end - start > 1 && start >= KIB);
    }

    it('is not told less, whatever byte is wrong, where there are checksums', async () => {
      for (const options of ['-b 1024', '-b 4096 -O bigalloc', '-b 1024 -O ^64bit']) {
        const path = await make({ name: '', options, sizeBytes: 100 * MIB });
        const damages = randomDamages(await metadataOf(path), 400, 'byte', 11);
        const count = await refusalsOfDamage(path, damages);
        assert.ok(count > 100, String(count));
      }
    });

    it('is not told less, whatever bit is wrong, where there are none', async () => {
      for (const options of [
        '-b 1024 -O ^metadata_csum,^uninit_bg',
        '-b 1024 -O ^metadata_csum,uninit_bg',
      ]) {
        const path = await make({ name: '', options, sizeBytes: 64 * MIB });
        const damages = randomDamages(await metadataOf(path), 400, 'bit', 12);
        const count = await refusalsOfDamage(path, damages);
        assert.ok(count > 100, String(count));
      }
    });

    it('is not told at all when a byte of superblock or descriptors is wrong', async () => {
      const path = await make({ name: '', options: '-b 1024', sizeBytes: 8 * MIB });
      const damages: Damage[] = [];
      for (let byte = 0; byte < 1024 + 64; byte += 1)
        damages.push({ offset: KIB + byte, mask: 1 << (byte % 8) });
      const count = await refusalsOfDamage(path, damages);
      assert.equal(count, damages.length);
    });
  });
});
