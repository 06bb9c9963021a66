// SPDX-License-Identifier: Apache-2.0
// What the index says, and where the old content is: exactly the written blocks, on files of any shape, with any cache.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import { info, ioctl, loadDriver, mountExt4, mountXfs, tests, tryIoctl } from './driver.js';
import { linear } from './mapped.js';

const blockSectors = 8;

interface CowContent {
  nrChangedBlocks: number;
  extents: [number, number][];
}

describe('the index', () => {
  const vm = useVm({
    name: 'index',
    disks: [
      { name: 'origin', sizeMib: 128 },
      { name: 'copy', sizeMib: 128 },
    ],
  });
  let origin = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
  });
  afterEach(async () => {
    await vm().run(
      `umount /image; ${tests}/ioctl-tool destroy 0; umount /t; if test -e /dev/mapper/index; then dmsetup remove --retry index; fi`,
    );
  });

  async function cowContent(path: string): Promise<CowContent> {
    const size = (await vm().sh(`blockdev --getsize64 ${origin}`)).trim();
    return JSON.parse(await vm().sh(`${tests}/cowcheck ${path} ${size}`)) as CowContent;
  }

  /** Extents of a file on the device, in sectors. */
  async function extentsOf(path: string): Promise<[number, number][]> {
    const lines = (await vm().sh(`${tests}/imagecheck extents ${path}`)).trim().split('\n');
    return lines.map((line) => line.split(' ').map(Number) as [number, number]);
  }

  function blocksOf(extents: readonly [number, number][]): number[] {
    return extents.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
  }

  /** Extents of blocks, as the driver's extension tells them in calls of so many extents. */
  async function changesSince(seqId: number, perCall: number): Promise<[number, number][]> {
    const text = await tryIoctl(vm(), 'changes', 0, seqId, perCall);
    return text.split('\n').map((line) => line.split(' ').map(Number) as [number, number]);
  }

  it('has exactly the blocks that were written, where nothing else happens', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh('dd if=/dev/urandom of=/t/data bs=1M count=8 oflag=direct status=none && sync');
    const sectors = blocksOf(await extentsOf('/t/data'));
    const blockAt = (fileBlock: number): number =>
      Math.floor((sectors[fileBlock * blockSectors] ?? NaN) / blockSectors);
    const mine = new Set(sectors.map((sector) => Math.floor(sector / blockSectors)));
    await ioctl(vm(), 'setup', origin, '/t/cow1', 0, 20);

    const write = (offset: number, count: number): string =>
      `dd if=/dev/urandom of=/t/data bs=512 seek=${offset} count=${count} oflag=direct conv=notrunc status=none`;
    // Whole blocks, single sectors, twice the same, the end of one block and the begin of the next.
    await vm().sh(
      [write(0, 8), write(0, 8), write(80, 1), write(87, 2), write(8000, 64)].join(' && '),
    );
    const expectedInSnapshot = [0, 10, 11, ...Array.from({ length: 8 }, (_, i) => 1000 + i)];
    await ioctl(vm(), 'inc', 0);
    await vm().sh([write(8 * 500, 8), write(8 * 1001, 1), write(8 * 2047 + 7, 1)].join(' && '));
    const expected = [...expectedInSnapshot, 500, 2047].map(blockAt).sort((a, b) => a - b);
    const { nrChangedBlocks } = await info(vm(), 0);
    const live = await changesSince(1, 3);
    await ioctl(vm(), 'snap', '/t/cow2', 0, 20);

    const content = await cowContent('/t/cow1');
    const entries = blocksOf(content.extents);
    assert.deepEqual(
      entries.filter((block) => mine.has(block)),
      expected,
    );
    // The driver tells the same without the file, and had told it before the instant but for the filesystem's last writes.
    assert.deepEqual(await changesSince(1, 1), content.extents);
    assert.deepEqual(await changesSince(1, 65536), content.extents);
    const all = new Set(entries);
    assert.ok(blocksOf(live).every((block) => all.has(block)));
    assert.deepEqual(
      blocksOf(live).filter((block) => mine.has(block)),
      expected,
    );
    await vm().sh(write(8 * 700, 8));
    const since = blocksOf(await changesSince(2, 100));
    assert.ok(since.includes(blockAt(700)) && !since.includes(blockAt(500)));
    await ioctl(vm(), 'inc', 0);
    assert.ok(blocksOf(await changesSince(2, 100)).includes(blockAt(700)));
    for (const seqId of [0, 1, 3])
      assert.equal(await tryIoctl(vm(), 'changes', 0, seqId, 1), 'ESTALE');
    // cowcheck has compared the header's count with the entries; the filesystem's own writes come after the call.
    assert.ok(nrChangedBlocks >= expected.length && nrChangedBlocks <= content.nrChangedBlocks);
  });

  it('has every block that differs, and no more than the device saw written, on a busy filesystem', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    const written = `awk '{ print $7 }' /sys/class/block/$(basename $(readlink -f ${origin}))/stat`;
    await vm().sh('mkdir /t/busy && sync');
    const before = Number(await vm().sh(written));
    await ioctl(vm(), 'setup', origin, '/t/cow1', 0, 30);
    // Each image hides the blocks of its own COW file.
    await vm().sh(`${tests}/imagecheck extents /t/cow1 > /tmp/cow1`);
    await vm().sh(
      `dd if=/dev/elastio-snap0 of=${vm().disk('copy')} bs=1M oflag=direct status=none`,
    );
    await vm().sh(`${tests}/churn /t/busy 7 & sleep 4; kill $!; sync`);
    await ioctl(vm(), 'inc', 0);
    await vm().sh(`${tests}/churn /t/busy 8 & sleep 4; kill $!`);
    await ioctl(vm(), 'snap', '/t/cow2', 0, 30);
    const after = Number(await vm().sh(written));
    await vm().sh(`${tests}/imagecheck extents /t/cow2 > /tmp/cow2`);
    await vm().sh(
      `${tests}/imagecheck changed ${vm().disk('copy')} /dev/elastio-snap0 /t/cow1 /tmp/cow1 /tmp/cow2`,
    );
    const { nrChangedBlocks } = await cowContent('/t/cow1');
    assert.ok(nrChangedBlocks > 100, String(nrChangedBlocks));
    assert.ok(nrChangedBlocks * blockSectors <= after - before, `${nrChangedBlocks} blocks`);
  });

  /** Overwrites and frees blocks all over, and finds the image to be what it was. */
  async function checkImageStays(cache: number): Promise<void> {
    await vm().sh(
      'cp -r /usr/sbin /t/old && dd if=/dev/urandom of=/t/data bs=1M count=12 status=none && sync',
    );
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 36, cache);
    await vm().sh('dd if=/dev/elastio-snap0 of=/tmp/before bs=1M iflag=direct status=none');
    await vm().sh(
      `rm -r /t/old && fio --name=w --filename=/t/data --rw=randwrite --bs=4k --size=12M --io_size=5M --direct=1 --randseed=3 --minimal > /dev/null
       ${tests}/churn /t 5 2000; sync`,
    );
    assert.equal((await info(vm(), 0)).error, 0);
    await vm().sh(`${tests}/imagecheck same /dev/elastio-snap0 /tmp/before`);
    await vm().sh(`${tests}/imagecheck extents /t/cow > /tmp/cow`);
    await vm().sh(`${tests}/imagecheck zero /dev/elastio-snap0 /tmp/cow`);
    await vm().sh(`${tests}/imagecheck same /dev/elastio-snap0 /tmp/before`);
  }

  it('finds old content with a cache of no section: pages go to the COW file and come back', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await checkImageStays(1);
    await vm().sh(
      'mkdir -p /image && mount -o ro /dev/elastio-snap0 /image && test -d /image/old/.',
    );
  });

  it('finds old content with a cache of hundreds of megabytes, which changes while everything is written', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    const sizes = [1, 0, 700 << 20, 2 ** 33, 1 << 20];
    await vm().sh('rm -f /tmp/answers /tmp/enough');
    await vm().sh(
      `{ until test -b /dev/elastio-snap0; do sleep 0.1; done
         until test -e /tmp/enough; do for size in ${sizes.join(' ')}; do ${tests}/ioctl-tool reconf 0 $size >> /tmp/answers; sleep 0.1; done; done; rm /tmp/enough; } < /dev/null > /tmp/reconf 2>&1 &`,
    );
    await checkImageStays(512 << 20);
    await vm().sh('touch /tmp/enough; while test -e /tmp/enough; do sleep 0.1; done');
    const answers = await vm().sh('sort /tmp/answers | uniq -c');
    // Busy while the image is read.
    assert.match(answers, /^( *\d+ EBUSY\n)? *\d+ ok\n$/);
    const busy = `exec 3< /dev/elastio-snap0; ${tests}/ioctl-tool reconf 0 1`;
    assert.equal(await vm().sh(`${busy} || true`), 'EBUSY\n');
    assert.equal(await tryIoctl(vm(), 'reconf', 0, 700 << 20), 'ok');
    assert.equal((await info(vm(), 0)).cacheSizeBytes, 700 << 20);
  });

  it('gives errors where a page that went to the COW file came back damaged, and reads nothing behind its end', async () => {
    const mapped = '/dev/mapper/index';
    await vm().sh(`modprobe dm-mod && dmsetup create index ${linear(origin)} && udevadm settle`);
    await mountExt4(vm(), mapped, '/t', '-b 4096');
    await vm().sh('head -c 64M /dev/urandom > /t/old && sync');
    const [[first, nr] = [0, 0]] = await extentsOf('/t/old');
    await ioctl(vm(), 'setup', mapped, '/t/cow', 0, 8, 1);
    const cow = await extentsOf('/t/cow');
    // Two blocks in a page of the index that is the file's alone, and then so many other pages that theirs leaves the cache.
    const entries = 512;
    const block = (Math.floor(first / blockSectors / entries) + 1) * entries + 7;
    const others = Math.floor((first + nr) / blockSectors / entries) - block / entries;
    assert.ok(others > 4, `${first} ${nr}`);
    const end = cow.reduce((sum, [, nr]) => sum + nr, 0) / blockSectors;
    let page = (1 + Math.floor(block / entries)) * blockSectors;
    for (const [sector, count] of cow) {
      if (page < count) {
        page += sector;
        break;
      }
      page -= count;
    }
    const overwrite = (count: number, at: string): string =>
      `dd if=/dev/urandom of=/t/old bs=4k count=${count} seek=$((${block - first / blockSectors} + ${at})) oflag=direct conv=notrunc status=none`;
    const read = `dd if=${origin} bs=512 skip=${page} count=8 iflag=direct status=none`;
    const entry = `${read} | od -A n -t u8 -j ${(block % entries) * 8} -N 8`;
    // What was in the place of the page before means nothing to the driver, but would to the loop below.
    await vm().sh(
      `dd if=/dev/zero of=${origin} bs=512 seek=${page} count=8 oflag=direct conv=notrunc status=none`,
    );
    await vm().sh(overwrite(2, '0'));
    await vm().sh(
      `until test $(${entry}) -gt 1; do for n in $(seq ${Math.floor(others)}); do ${overwrite(1, `n * ${entries}`)}; done; done`,
    );
    for (const damaged of [[end], [2 ** 40], [end - 1, end]]) {
      const bytes = damaged
        .flatMap((value) => {
          const buffer = Buffer.alloc(8);
          buffer.writeBigUInt64LE(BigInt(value));
          return [...buffer];
        })
        .map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`);
      await vm().sh(
        `${read} > /tmp/page && printf '${bytes.join('')}' | dd of=/tmp/page bs=1 seek=${(block % entries) * 8} conv=notrunc status=none &&
         dd if=/tmp/page of=${origin} bs=512 seek=${page} oflag=direct conv=notrunc status=none`,
      );
      const { stderr } = await vm().run(
        `dd if=/dev/elastio-snap0 of=/dev/null bs=4k skip=${block} count=${damaged.length} iflag=direct`,
        { timeoutMs: 60_000 },
      );
      assert.match(stderr, /Input\/output error/, damaged.join());
      // Again out of the cache.
      await vm().sh(
        `for n in 1 2 3 4; do dd if=/dev/elastio-snap0 of=/dev/null bs=4k skip=$((${block} + n * ${entries})) count=1 iflag=direct status=none; done`,
      );
    }
  });

  it('finds old content in a COW file of many extents', async () => {
    await mountExt4(vm(), origin, '/t', '-b 4096');
    await vm().sh(
      `mkdir /t/holes && cd /t/holes && for n in $(seq 400); do printf %131072s > $n; done; sync; rm -f *[13579]; cd /; sync`,
    );
    await checkImageStays(0);
    const extents = Number(await vm().sh('wc -l < /tmp/cow'));
    assert.ok(extents > 64, `only ${extents} extents`);
  });

  it('finds old content on a filesystem of 1 KiB blocks, the ends of the COW file inside blocks', async () => {
    await mountExt4(vm(), origin, '/t', '-b 1024');
    await vm().sh(
      `mkdir /t/holes && cd /t/holes && for n in $(seq 500); do printf %64512s > $n; done; sync; rm -f *[13579]; cd /; sync`,
    );
    await checkImageStays(0);
    await vm().sh(`awk '$1 % 8 || $2 % 8 { found = 1 } END { exit !found }' /tmp/cow`);
  });

  it('finds old content on XFS, whose image mounts without recovery', async () => {
    await mountXfs(vm(), origin, '/t');
    await vm().sh('cp -r /usr/sbin /t/kept && cd /t/kept && sha256sum * > /tmp/kept; sync');
    await checkImageStays(0);
    await vm().sh(
      'mkdir -p /image && mount -o ro,norecovery,nouuid /dev/elastio-snap0 /image && cd /image/kept && sha256sum --quiet -c /tmp/kept',
    );
  });
});
