// SPDX-License-Identifier: Apache-2.0
// Unmounting a tracked filesystem and unloading the module, in every state: no oops, no pin left, nothing of the origin lost.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import { info, ioctl, loadDriver, mkfs, mountExt4, states, tests, tryIoctl } from './driver.js';

const kinds = ['snapshot', 'incremental', 'failed'] as const;
type State = (typeof kinds)[number];

describe('the end of a tracked filesystem', () => {
  const vm = useVm({
    name: 'unmount',
    disks: [
      { name: 'origin', sizeMib: 64 },
      { name: 'slow', sizeMib: 32 },
    ],
  });
  let origin = '';

  before(async () => {
    await loadDriver(vm());
    origin = vm().disk('origin');
  });
  beforeEach(async () => {
    await mountExt4(vm(), origin, '/t');
    await vm().sh(
      'cp -r /etc/lvm /t/kept && cd /t && find kept -type f | xargs sha256sum > /tmp/sums',
    );
  });

  async function bringTo(state: State): Promise<void> {
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 4);
    await vm().sh('echo changed > /t/file && sync');
    if (state === 'incremental') await ioctl(vm(), 'inc', 0);
    if (state !== 'failed') return;
    await vm().sh(
      'for n in 1 2; do dd if=/dev/zero of=/t/zeros bs=1M count=8 oflag=direct status=none; done',
    );
    assert.equal((await info(vm(), 0)).error, -27);
  }

  /** Unmounted, sound, and everything is there. */
  async function checkOrigin(): Promise<void> {
    await vm().sh(
      `e2fsck -fn ${origin} && mount ${origin} /t && cd /t && sha256sum --quiet -c /tmp/sums`,
    );
    await vm().sh('test "$(cat /t/file)" = changed');
  }

  /** A tracker is dormant then; a failed one stays as it is. */
  async function checkTracker(state: State): Promise<void> {
    const tracker = await info(vm(), 0);
    const expected = {
      snapshot: [states.dormantSnapshot, 0],
      incremental: [states.dormantIncremental, 0],
      failed: [states.snapshot, -27],
    };
    assert.deepEqual([tracker.state, tracker.error], expected[state]);
    await ioctl(vm(), 'destroy', 0);
    assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
  }

  /** A COW file that was left is an ordinary file. */
  async function checkLeftFile(state: State): Promise<void> {
    if (state === 'failed') await vm().sh('! test -e /t/cow');
    else await vm().sh('rm /t/cow');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 4);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('umount /t');
  }

  for (const state of kinds) {
    it(`is not held up by a tracker: ${state}`, async () => {
      await bringTo(state);
      await vm().sh('umount /t');
      await checkTracker(state);
      await checkOrigin();
      await checkLeftFile(state);
    });

    it(`comes with the last of several mounts, a lazy one too: ${state}`, async () => {
      await bringTo(state);
      await vm().sh('mkdir -p /b && mount --bind /t /b && umount /t && sync');
      assert.equal((await info(vm(), 0)).error, state === 'failed' ? -27 : 0);
      await vm().sh(
        'exec 9> /b/open; umount -l /b; echo still >&9; exec 9>&-; while grep -q " /b " /proc/mounts; do sleep 0.1; done',
      );
      await vm().sh(`until e2fsck -fn ${origin} > /dev/null; do sleep 0.2; done`);
      await checkTracker(state);
      await checkOrigin();
      await checkLeftFile(state);
    });

    it(`is not there yet when the module goes: ${state}`, async () => {
      await bringTo(state);
      await vm().sh('rmmod elastio-snap');
      await vm().sh('! test -e /t/cow && ! test -e /dev/elastio-snap0 && umount /t');
      await checkOrigin();
      await loadDriver(vm());
      await ioctl(vm(), 'setup', origin, '/t/cow', 0, 4);
      await ioctl(vm(), 'destroy', 0);
      await vm().sh('umount /t');
    });
  }

  // The mount is in a function of the module's, and comes back to it.
  it('is not awaited by the module, but a mount that is under way is', async () => {
    const disk = vm().disk('slow');
    await bringTo('snapshot');
    await vm().sh(
      `${mkfs('ext4', disk)} && modprobe dm-delay && dmsetup create slow --table "0 $(blockdev --getsz ${disk}) delay ${disk} 0 120" && mkdir -p /b && udevadm settle`,
    );
    await vm().sh(
      `mount -t ext4 /dev/mapper/slow /b & until grep -q elastio_snap /proc/$!/stack; do kill -0 $! || exit 1; done
       rmmod elastio-snap && wait $! && mountpoint -q /b && umount /b`,
    );
    await vm().sh('! test -e /dev/elastio-snap0; dmsetup remove slow; umount /t');
    await checkOrigin();
    await loadDriver(vm());
    await vm().sh('umount /t');
  });

  it('makes an open image give errors, and the module stays until it is closed', async () => {
    await bringTo('snapshot');
    await vm().sh(
      'exec 9< /dev/elastio-snap0; sleep 600 < /dev/null > /dev/null 2>&1 & echo $! > /run/holder',
    );
    const refused = await vm().run('rmmod elastio-snap');
    assert.match(refused.stderr, /in use/);
    assert.equal((await info(vm(), 0)).error, 0);
    await vm().sh('umount /t');
    const read = await vm().run('dd if=/dev/elastio-snap0 of=/dev/null bs=4k count=1 iflag=direct');
    assert.match(read.stderr, /Device or resource busy/);
    assert.equal(await tryIoctl(vm(), 'destroy', 0), 'EBUSY');
    await vm().sh(
      'kill $(cat /run/holder); while kill -0 $(cat /run/holder); do sleep 0.1; done 2> /dev/null',
    );
    await checkTracker('snapshot');
    await checkOrigin();
    await checkLeftFile('snapshot');
  });

  it('has come when umount returns, although a call waits for the image to be closed', async () => {
    await bringTo('snapshot');
    await vm().sh(
      `exec 9< /dev/elastio-snap0
       { until test -e /tmp/unmounted; do ${tests}/ioctl-tool destroy 0; done; } < /dev/null > /tmp/refused 2>&1 &
       until grep -q EBUSY /tmp/refused; do sleep 0.1; done
       umount /t; ${tests}/ioctl-tool info 0 > /tmp/info; touch /tmp/unmounted; wait`,
    );
    const { state } = JSON.parse(await vm().sh('cat /tmp/info')) as { state: number };
    assert.equal(state, states.dormantSnapshot);
    await checkTracker('snapshot');
    await checkOrigin();
    await checkLeftFile('snapshot');
  });

  it('comes while programs write, without a complaint of the kernel', async () => {
    for (let round = 0; round < 5; round += 1) {
      await bringTo(round % 2 === 0 ? 'snapshot' : 'incremental');
      await vm().sh(
        `mkdir -p /t/busy; ${tests}/churn /t/busy ${round} & sleep 1; umount -l /t; sleep 0.5; kill $!; wait $! || true`,
      );
      await vm().sh(`until e2fsck -fn ${origin} > /dev/null; do sleep 0.2; done`);
      await ioctl(vm(), 'destroy', 0);
      await checkOrigin();
      await vm().sh('rm -rf /t/cow /t/busy');
    }
    await vm().sh('umount /t');
  });
});
