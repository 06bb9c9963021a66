// SPDX-License-Identifier: Apache-2.0
// The exact text of /proc/elastio-snap-info, which programs of others parse.
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import { info, ioctl, loadDriver, mountExt4, type TrackerInfo } from './driver.js';

const proc = '/proc/elastio-snap-info';

function expectedText(version: string, trackers: readonly TrackerInfo[]): string {
  const objects = trackers.map((tracker) => {
    const entries = [
      ['minor', tracker.minor],
      ['cow_file', tracker.cow],
      ['block_device', tracker.bdev],
      ['max_cache', tracker.cacheSizeBytes],
      ['fallocate', tracker.cowSizeBytes],
      ['seq_id', tracker.seqId],
      ['uuid', tracker.uuid],
      ['version', tracker.version],
      ['nr_changed_blocks', tracker.nrChangedBlocks],
      ...(tracker.error === 0 ? [] : [['error', tracker.error]]),
      ['state', tracker.state],
      ['ignore_errors', tracker.ignoreErrors],
      ['cow_on_bdev', (tracker.flags & 2) !== 0],
    ];
    const lines = entries.map(([key, value]) => `\t\t\t"${String(key)}": ${JSON.stringify(value)}`);
    return `\t\t{\n${lines.join(',\n')}\n\t\t}`;
  });
  return `{\n\t"version": "${version}",\n\t"devices": [\n${objects.join(',\n')}\n\t]\n}\n`;
}

describe('/proc/elastio-snap-info', () => {
  const vm = useVm({
    name: 'proc',
    leakSearch: true,
    cpus: 1,
    disks: ['first', 'second'].map((name) => ({ name, sizeMib: 64 })),
  });
  let version = '';

  /** Compares file and ioctls at a moment when no block is counted in between. */
  async function assertText(minors: readonly number[]): Promise<void> {
    await vm().sh('sync');
    for (;;) {
      const before = await Promise.all(minors.map((minor) => info(vm(), minor)));
      const text = await vm().sh(`cat ${proc}`);
      const after = await Promise.all(minors.map((minor) => info(vm(), minor)));
      if (JSON.stringify(before) !== JSON.stringify(after)) continue;
      assert.equal(text, expectedText(version, before));
      return;
    }
  }

  before(async () => {
    await loadDriver(vm());
    version = (await vm().sh('modinfo -F version /opt/elio/elastio-snap.ko')).trim();
    await mountExt4(vm(), vm().disk('first'), '/t/first');
    await mountExt4(vm(), vm().disk('second'), '/t/second');
  });

  it('has an empty line where devices would be', async () => {
    assert.equal(
      await vm().sh(`cat ${proc}`),
      `{\n\t"version": "${version}",\n\t"devices": [\n\n\t]\n}\n`,
    );
    assert.equal(await vm().sh(`stat -c %a ${proc}`), '444\n');
  });

  it('shows devices in the order of their minors, strings escaped', async () => {
    await ioctl(vm(), 'setup', vm().disk('second'), '/t/second/cow', 12, 4, 7654321, 1);
    await ioctl(vm(), 'setup', vm().disk('first'), `'/t/first/a "quoted\\\\" cow'`, 3, 3);
    assert.equal((await info(vm(), 3)).cow, '/a "quoted\\\\" cow');
    await assertText([3, 12]);
  });

  it('shows the error of a failed device, and an incremental', async () => {
    await vm().sh(
      'for n in 1 2; do dd if=/dev/urandom of=/t/first/data bs=1M count=8 oflag=direct status=none; done',
    );
    await ioctl(vm(), 'inc', 12);
    assert.equal((await info(vm(), 3)).error, -27);
    assert.equal((await info(vm(), 12)).state, 2);
    await assertText([3, 12]);
  });

  it('does not block ioctls while it is open', async () => {
    await vm().sh(`exec 9<${proc}; head -c 1 <&9; timeout 60 /opt/elio/tests/ioctl-tool destroy 3`);
    await assertText([12]);
    await ioctl(vm(), 'destroy', 12);
    await assertText([]);
  });
});
