// SPDX-License-Identifier: Apache-2.0
// Memory that cannot be had and devices that fail, where the kernel can be told to let them: each allocation of a call in turn
// (integration/guest/failnth.c), and one in a hundred of what goes on in the background.
import assert from 'node:assert/strict';
import { rounds } from '../harness/length.js';
import { useVm } from '../harness/scenario.js';
import { info, ioctl, loadDriver, mountExt4, tests, tryIoctl } from './driver.js';

const injection = '/sys/kernel/debug';
const operations = [
  'setup',
  'destroy',
  'inc',
  'snap',
  'reload',
  'mount',
  'umount',
  'load',
  'write',
  'read',
];

describe('the driver where memory and devices fail', () => {
  const vm = useVm({ name: 'failures', disks: [{ name: 'origin', sizeMib: 96 }] });
  let origin = '';

  before(async () => {
    origin = vm().disk('origin');
    await loadDriver(vm());
    // Allocations that may wait fail, too; what an allocation that failed prints is no news.
    await vm().sh(
      `cd ${injection} && echo N > failslab/ignore-gfp-wait && echo N > fail_page_alloc/ignore-gfp-wait && echo 0 > fail_page_alloc/min-order &&
       for what in failslab fail_page_alloc fail_make_request; do echo 0 > $what/verbose; done`,
    );
  });

  for (const operation of operations) {
    it(`leaves nothing, and is right, whichever allocation of this fails: ${operation}`, async () => {
      await mountExt4(vm(), origin, '/t', '-b 4096');
      const output = await vm().sh(
        `${tests}/failnth ${operation} ${origin} /t /opt/elio/elastio-snap.ko`,
        { timeoutMs: 600_000 },
      );
      const { allocations = 0 } = JSON.parse(output) as { allocations?: number };
      assert.ok(allocations > 0, output);
      assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
      await vm().sh(`umount /t && e2fsck -fn ${origin}`);
    });
  }

  /** One in a hundred fails, of the tasks that the list names and of the kernel's workers. */
  async function begin(what: string, tasks: string): Promise<void> {
    await vm().sh(
      `cd ${injection}/${what} && echo Y > task-filter && echo -1 > times && echo 1 > interval && echo 1 > probability &&
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
        await vm().sh(`umount /t && e2fsck -fn ${origin}`);
      }
      assert.ok(sound > 0, 'no snapshot has lived');
    });
  }

  it('gives each write the result of its device where one request in a hundred fails', async () => {
    for (let round = 0; round < rounds(4, 100); round++) {
      await mountExt4(vm(), origin, '/t', '-b 4096 -O ^has_journal');
      await vm().sh('fallocate -l 8M /t/raw && sync');
      const [sector = ''] = (await vm().sh(`${tests}/imagecheck extents /t/raw`)).split(' ');
      await ioctl(vm(), 'setup', origin, '/t/cow', 0, 32);
      await vm().sh(
        `echo 1 > /sys/block/$(basename $(readlink -f ${origin}))/make-it-fail; cd ${injection}/fail_make_request && echo -1 > times && echo 1 > interval && echo 1 > probability`,
      );
      // The filesystem itself writes nothing meanwhile.
      await vm().run(
        `for i in $(seq 300); do dd if=/dev/zero of=${origin} bs=4k seek=$((${sector} / 8 + i)) count=1 oflag=direct conv=notrunc status=none; done; dd if=/dev/elastio-snap0 of=/dev/null bs=1M iflag=direct`,
      );
      await end('fail_make_request');
      await vm().sh(`echo 0 > /sys/block/$(basename $(readlink -f ${origin}))/make-it-fail`);
      const { error } = await info(vm(), 0);
      assert.ok([0, -5].includes(error), String(error));
      await ioctl(vm(), 'destroy', 0);
      await vm().sh(`umount /t && e2fsck -fn ${origin}`);
    }
  });
});
