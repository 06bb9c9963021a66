// SPDX-License-Identifier: Apache-2.0
// Memory that cannot be had and devices that fail, where the kernel can be told to let them: each allocation of a call in turn
// (integration/guest/failnth.c), and one in a hundred of what goes on in the background. ELIO_LENGTH=long lets every single
// allocation fail, otherwise it is one in eight, beginning with another one for each ELIO_SEED.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { info, ioctl, loadDriver, mountExt4, tests, tryIoctl } from './driver.js';

const injection = '/sys/kernel/debug';
const seed = Number(process.env['ELIO_SEED'] ?? 1);
const step = rounds(8, 1);
const operations = [
  'setup',
  'destroy',
  'inc',
  'snap',
  'reload-snap',
  'reload-inc',
  'mount',
  'umount',
  'load',
  'write',
  'read',
];

describe('the driver where memory and devices fail', () => {
  const vm = useVm({
    name: 'failures',
    leakSearch: true,
    disks: [{ name: 'origin', sizeMib: 96 }],
  });
  let origin = '';
  /** Where a disk is told that its requests may fail. */
  let makeItFail = '';

  before(async () => {
    origin = vm().disk('origin');
    makeItFail = `/sys/block/$(basename $(readlink -f ${origin}))/make-it-fail`;
    await loadDriver(vm());
    // Allocations that may wait fail, too; what an allocation that failed prints is no news.
    await vm().sh(
      `cd ${injection} && echo N > failslab/ignore-gfp-wait && echo N > fail_page_alloc/ignore-gfp-wait && echo 0 > fail_page_alloc/min-order &&
       for what in failslab fail_page_alloc fail_make_request; do echo 0 > $what/verbose; done`,
    );
  });

  /**
   * Where an allocation of ext4's own fails (a truncation's, say), ext4 wants a fsck and may leave a file in its list of orphans: what
   * a fsck mends without a question. Any other damage, and any other error that ext4 found, is one. Where the device has refused what
   * the filesystem wrote (`refused`), a fsck has to mend that.
   */
  async function unmountAndCheck(refused = false): Promise<void> {
    if (refused) {
      await vm().sh(
        `umount /t && { e2fsck -fy ${origin} || test $? -eq 1; } && e2fsck -fn ${origin}`,
      );
      return;
    }
    const wantsFsck = `dumpe2fs -h ${origin} 2> /dev/null | grep -q '^Filesystem state:.*with errors'`;
    await vm().sh(
      `umount /t && ! { dmesg | grep 'EXT4-fs error' | grep -v ': Out of memory$'; } &&
       if ${wantsFsck}; then e2fsck -fp ${origin} || test $? -eq 1; fi && e2fsck -fn ${origin}`,
    );
  }

  // Only after a failure is there anything left to end: it must not be the others' failure, too.
  afterEach(async () => {
    await vm().run(
      `for what in failslab fail_page_alloc fail_make_request; do echo 0 > ${injection}/$what/probability; done; umount /t; ${tests}/ioctl-tool destroy 0`,
    );
  });

  for (const operation of operations) {
    it(`leaves nothing, and is right, whichever allocation of this fails: ${operation}`, async () => {
      await mountExt4(vm(), origin, '/t', '-b 4096');
      const output = await vm().sh(
        `${tests}/failnth ${operation} ${origin} /t /opt/elio/elastio-snap.ko ${String((seed % step) + 1)} ${String(step)}`,
        { timeoutMs: rounds(600_000, 4_800_000) },
      );
      const { made_to_fail: madeToFail = 0 } = JSON.parse(output) as { made_to_fail?: number };
      assert.ok(madeToFail > 0, output);
      assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
      await unmountAndCheck();
    });
  }

  /** One in a hundred fails, of the tasks that the list names and of the kernel's workers; of requests, on the disk that is told. */
  async function begin(what: string, tasks = ''): Promise<void> {
    const filter = what === 'fail_make_request' ? 'N' : 'Y';
    await vm().sh(
      `cd ${injection}/${what} && echo ${filter} > task-filter && echo -1 > times && echo 1 > interval && echo 1 > probability &&
       for pid in ${tasks} $(pgrep '^kworker'); do echo 1 > /proc/$pid/make-it-fail 2> /dev/null; done; true`,
    );
  }

  async function end(what: string): Promise<void> {
    await vm().sh(`echo 0 > ${injection}/${what}/probability`);
  }

  for (const what of ['failslab', 'fail_page_alloc']) {
    it(`never has a wrong image, and takes every write, where one allocation in a hundred fails: ${what}`, async () => {
      let sound = 0;
      for (let round = 0; round < rounds(4, 100); round++) {
        await mountExt4(vm(), origin, '/t', '-b 4096');
        await vm().sh(
          `rm -f /tmp/log; ${tests}/stamper run /tmp/log ${round + 1} 4 1 /t/a,4 /t/b,4`,
        );
        await vm().sh(
          `${tests}/stamper call /tmp/log call0 ${tests}/ioctl-tool setup ${origin} /t/cow 0 32 && udevadm settle`,
        );
        await begin(what, "$(pgrep '^stamper')");
        await vm().sh('sleep 4');
        await end(what);
        const { error } = await info(vm(), 0);
        assert.ok([0, -12].includes(error), String(error));
        if (error === 0) {
          sound++;
          await vm().sh(`${tests}/stampcheck image /tmp/log call0 /dev/elastio-snap0`);
        }
        // A write that had no memory for itself ends the writers; that is their affair.
        await vm().run(`${tests}/stamper stop /tmp/log`);
        await ioctl(vm(), 'destroy', 0);
        await unmountAndCheck();
      }
      assert.ok(sound > 0, 'no snapshot has lived');
    });
  }

  it('fails its snapshot where blocks can be read only when they have been written (dm-dust)', async () => {
    await vm().sh(
      `modprobe dm-dust && dmsetup create dusty --table "0 $(blockdev --getsz ${origin}) dust ${origin} 0 512" && udevadm settle`,
    );
    await mountExt4(vm(), '/dev/mapper/dusty', '/t', '-b 4096');
    await vm().sh('dd if=/dev/urandom of=/t/old bs=64k count=1 status=none && sync');
    await ioctl(vm(), 'setup', '/dev/mapper/dusty', '/t/cow', 0, 8);
    await vm().sh(
      `dmsetup message dusty 0 addbadblock $(${tests}/imagecheck extents /t/old | awk '{ print $1; exit }') && dmsetup message dusty 0 enable`,
    );
    await vm().sh(
      'dd if=/dev/urandom of=/tmp/new bs=4k count=1 status=none && dd if=/tmp/new of=/t/old bs=4k oflag=direct conv=notrunc status=none && cmp -n 4096 /tmp/new /t/old',
    );
    const { state, error } = await info(vm(), 0);
    assert.deepEqual([state, error], [3, -5]);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(
      'umount /t && e2fsck -fn /dev/mapper/dusty && udevadm settle && dmsetup remove --retry dusty',
    );
  });

  for (const what of ['failslab', 'fail_page_alloc', 'fail_make_request']) {
    it(`does each call when it is asked again, where one in a hundred fails once: ${what}`, async () => {
      const cow = 8;
      const change = 'head -c 64k /dev/urandom > /t/file; sync /t/file';
      // With each first attempt one thing may fail, of the call's own or of the workers'; what has failed leaves the way free.
      const calls = `
        call() { echo 1 > ${injection}/${what}/times; ${tests}/ioctl-tool "$@" || { echo 0 > ${injection}/${what}/times; ${tests}/ioctl-tool "$@"; }; }
        call setup ${origin} /t/cow 0 ${cow}; ${change}
        call inc 0; ${change}
        call snap /t/next 0 ${cow}; umount /t; call destroy 0
        call reload-snap ${origin} /next 0; mount ${origin} /t; ${change}; umount /t; call destroy 0
        call reload-inc ${origin} /next 0; mount ${origin} /t; ${change}; call destroy 0`;
      // A bio belongs to the disk that is told, an allocation to a task.
      const mark = what === 'fail_make_request' ? makeItFail : '/proc/$BASHPID/make-it-fail';
      let done = 0;
      for (let round = 0; round < rounds(6, 100); round++) {
        await mountExt4(vm(), origin, '/t', '-b 4096');
        await begin(what);
        const output = await vm().sh(
          `( echo 1 > ${mark}; exec 2> /dev/null; ${calls} ); echo 0 > ${makeItFail}`,
        );
        await end(what);
        done += output.split('\n').filter((line) => line === 'ok').length;
        // What could not be ended then can be ended now, and nothing of it is left.
        assert.ok(['ok', 'ENOENT'].includes(await tryIoctl(vm(), 'destroy', 0)));
        await vm().sh(
          `test ! -e /sys/block/elastio-snap0 && { mountpoint -q /t || mount ${origin} /t; }`,
        );
        await unmountAndCheck(what === 'fail_make_request');
      }
      assert.ok(done > 0, 'no call has succeeded');
    });
  }

  it('gives each write the result of its device where one request in a hundred fails', async () => {
    const blocks = 300;
    let failed = 0;
    for (let round = 0; round < rounds(4, 100); round++) {
      await mountExt4(vm(), origin, '/t', '-b 4096 -O ^has_journal');
      await vm().sh('fallocate -l 8M /t/raw && sync');
      const [sector = ''] = (await vm().sh(`${tests}/imagecheck extents /t/raw`)).split(' ');
      const first = Number(sector) / 8;
      const read = (device: string, file: string): string =>
        `dd if=${device} of=${file} bs=4k skip=${first} count=${blocks} iflag=direct status=none`;
      await vm().sh(
        `dd if=/dev/urandom of=/tmp/new bs=4k count=${blocks} status=none && ${read(origin, '/tmp/old')}`,
      );
      await ioctl(vm(), 'setup', origin, '/t/cow', 0, 32);
      await begin('fail_make_request');
      // The filesystem itself writes nothing meanwhile, unless the snapshot fails and its COW file goes.
      const ended = await vm().sh(
        `echo 1 > ${makeItFail}
         for n in $(seq 0 ${blocks - 1}); do
           dd if=/tmp/new of=${origin} bs=4k skip=$n seek=$((${first} + n)) count=1 oflag=direct conv=notrunc status=none 2> /dev/null && echo $n
         done
         dd if=/dev/elastio-snap0 of=/dev/null bs=1M iflag=direct 2> /dev/null
         echo 0 > ${makeItFail}`,
      );
      await end('fail_make_request');
      const written = new Set(ended.trim().split('\n').map(Number));
      failed += blocks - written.size;
      const others = await vm().sh(
        `${read(origin, '/tmp/now')} && cmp -l /tmp/now /tmp/new | awk '{ b = int(($1 - 1) / 4096); if (!(b in seen)) print b; seen[b] }'`,
      );
      const lost = others.split('\n').filter((n) => n !== '' && written.has(Number(n)));
      assert.deepEqual(lost, [], 'writes that ended well and are not there');
      const { error } = await info(vm(), 0);
      assert.ok([0, -5].includes(error), String(error));
      if (error === 0)
        await vm().sh(`${read('/dev/elastio-snap0', '/tmp/image')} && cmp /tmp/image /tmp/old`);
      await ioctl(vm(), 'destroy', 0);
      // Where the device refused what the filesystem wrote then, which the kernel tells, a fsck mends that.
      const refused = `dmesg | awk '/: mounted filesystem/ { refused = 0 } /Buffer I.O error/ { refused = 1 } END { exit !refused }'`;
      await vm().sh(
        `umount /t && if ${refused}; then e2fsck -fy ${origin} || test $? -eq 1; fi && e2fsck -fn ${origin}`,
      );
    }
    assert.ok(failed > 0, 'no write has failed');
  });
});
