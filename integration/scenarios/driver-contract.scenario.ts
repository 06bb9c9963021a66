// SPDX-License-Identifier: Apache-2.0
// The ioctl interface byte by byte, as the unchanged binaries of elastio-snap 0.12.2 use it (integration/guest/contract.c).
import assert from 'node:assert/strict';
import { useVm } from '../harness/scenario.js';
import { mkfs } from './driver.js';

describe('driver contract', () => {
  const vm = useVm({
    name: 'contract',
    leakSearch: true,
    cpus: 1,
    disks: ['origin', 'unmounted', 'readonly', 'other'].map((name) => ({
      name,
      sizeMib: name === 'origin' ? 128 : 32,
    })),
  });

  before(async () => {
    await vm().sh('insmod /opt/elio/elastio-snap.ko && mkdir /t /t/origin /t/readonly /t/other');
    for (const name of ['origin', 'unmounted', 'readonly', 'other'])
      await vm().sh(mkfs('ext4', vm().disk(name)));
    for (const name of ['origin', 'other']) await vm().sh(`mount ${vm().disk(name)} /t/${name}`);
    await vm().sh(`mount -o ro ${vm().disk('readonly')} /t/readonly`);
  });

  const sections = {
    numbers: 'knows its ten commands by number, direction and size and no other',
    minors: 'answers for minors out of range, empty and in use',
    pointers: 'survives every pointer, and says which one is wrong',
    info: 'describes a tracker through both info structures, with every byte defined',
    live: 'keeps everyone away from the COW file in use',
    states: 'refuses transitions in the wrong state or with the image open',
    capability: 'demands CAP_SYS_ADMIN',
    reload: 'describes what is announced, and refuses what cannot be',
    extension: 'tells its version and changed blocks by numbers of its own',
    setup: 'refuses what cannot be set up, and leaves nothing behind',
  };
  for (const [section, title] of Object.entries(sections)) {
    it(`${section}: ${title}`, async () => {
      const disk = (name: string): string => vm().disk(name);
      const output = await vm().sh(
        `/opt/elio/tests/contract ${section} ${disk('origin')} /t/origin ${disk('unmounted')} ${disk('readonly')} /t/other`,
      );
      const lines = output.trimEnd().split('\n');
      assert.equal(lines.pop(), 'done');
      assert.deepEqual(
        lines.filter((line) => !line.startsWith('ok ')),
        [],
      );
      assert.ok(lines.length >= 10, `only ${String(lines.length)} expectations`);
      assert.equal(
        await vm().sh('ls -A /t/origin /t/other | grep -v lost+found | sort'),
        '\n/t/origin:\n/t/other:\n',
      );
      assert.equal(await vm().sh('ls /dev/elastio-snap* | cat'), '/dev/elastio-snap-ctl\n');
    });
  }
});
