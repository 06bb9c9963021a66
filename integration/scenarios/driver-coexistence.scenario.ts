// SPDX-License-Identifier: Apache-2.0
// The driver beside others who are interested in the same functions, in the same filesystem or in its devices.
import assert from 'node:assert/strict';
import { defaultKernel, slowness } from '../harness/debian.js';
import { useVm } from '../harness/scenario.js';
import type { Vm } from '../harness/vm.js';
import {
  changedBlocks,
  checkImage,
  copyImage,
  destroyAndCheckExt4,
  info,
  ioctl,
  kernelIsBefore,
  loadDriver,
  mountExt4,
  states,
  tests,
  tryIoctl,
} from './driver.js';
import { udevControl } from './udev.js';

const tracing = '/sys/kernel/tracing';
const image = '/dev/elastio-snap0';

/** Someone who looks at functions; `FUNCTIONS` are their names. */
interface Observer {
  name: string;
  attach: string;
  detach: string;
  /** Prints a line for each function that it saw called. */
  seen?: string;
  /** Before this kernel it and the driver exclude each other. */
  since?: [number, number];
}

const probe = (name: string, kind: string): Observer => ({
  name,
  attach: `for f in FUNCTIONS; do echo ${kind}:elio/$f $f >> ${tracing}/kprobe_events; done; echo 1 > ${tracing}/events/elio/enable`,
  detach: `echo 0 > ${tracing}/events/elio/enable; echo > ${tracing}/kprobe_events`,
  seen: `awk '$2 > 0 { print $1 }' ${tracing}/kprobe_profile`,
});

const tracer = (name: string, kind: string, line: string): Observer => ({
  name,
  attach: `echo FUNCTIONS > ${tracing}/set_ftrace_filter; echo ${kind} > ${tracing}/current_tracer`,
  detach: `echo nop > ${tracing}/current_tracer; echo > ${tracing}/set_ftrace_filter`,
  seen: `for f in FUNCTIONS; do if grep -q "${line}" ${tracing}/trace; then echo $f; fi; done`,
});

const bpf = (name: string, kind: string): Observer => ({
  name,
  attach: `rm -f /run/fentry.*; for f in FUNCTIONS; do
      { ${tests}/fentry ${kind} $f < /dev/null > /run/fentry.$f 2>&1 & echo $! > /run/fentry.pid.$f; }
      until test -s /run/fentry.$f; do sleep 0.1; done; grep -q attached /run/fentry.$f || { cat /run/fentry.$f; exit 1; }
    done`,
  detach: `kill $(cat /run/fentry.pid.*); while pgrep -x fentry; do sleep 0.1; done > /dev/null`,
  since: [6, 0],
});

// Those that look at the return of a function put their own address in the place of the caller's.
const observers: readonly Observer[] = [
  probe('a kprobe', 'p'),
  probe('a kretprobe', 'r'),
  tracer('the function tracer', 'function', ': $f <-'),
  tracer('the function graph tracer', 'function_graph', ' $f()'),
  bpf('a BPF program (fentry)', 'entry'),
  bpf('a BPF program (fexit)', 'exit'),
];

let vm: () => Vm;
let origin = '';
let functions: string[] = [];

/** A machine for the suite that calls this. */
function useMachine(name: string, leakSearch: boolean): void {
  const machine = useVm({
    name,
    leakSearch,
    cpus: 1,
    // What is used after it was freed is not what it was.
    kernelArguments: 'init_on_free=1',
    disks: [
      { name: 'origin', sizeMib: 48 },
      { name: 'copy', sizeMib: 48 },
    ],
  });

  before(async () => {
    vm = machine;
    await loadDriver(vm());
    origin = vm().disk('origin');
    await mountExt4(vm(), origin, '/t');
    await vm().sh('head -c 4M /dev/urandom > /t/data && sync');
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    functions = await hooked();
    await ioctl(vm(), 'destroy', 0);
    for (const name of ['submit_bio_noacct', 'generic_shutdown_super', 'get_tree_bdev'])
      assert.ok(functions.includes(name), functions.join());
  });

  afterEach(async () => {
    await vm().run(
      `${tests}/ioctl-tool destroy 0; mountpoint -q /t || mount ${origin} /t; rm -f /t/cow*; echo 0 > /sys/module/elio_test/parameters/hold_open; rmmod elio-test; pkill fentry; touch /run/stop; rm -f /run/inside /run/udev/rules.d/99-look.rules
     echo nop > ${tracing}/current_tracer; echo > ${tracing}/set_ftrace_filter; echo 0 > ${tracing}/events/elio/enable; echo > ${tracing}/kprobe_events`,
    );
  });
}

/** The functions that anybody has redirected or looks at, among those that ftrace knows. */
async function hooked(): Promise<string[]> {
  const { stdout } = await vm().run(`awk '/^[^ \\t]/ { print $1 }' ${tracing}/enabled_functions`);
  return stdout.split('\n').filter((line) => line !== '');
}

async function checkNothingLeft(): Promise<void> {
  assert.deepEqual(await hooked(), []);
  await vm().sh('! test -e /t/cow');
  assert.equal(await tryIoctl(vm(), 'info', 0), 'ENOENT');
}

async function startAgain(): Promise<void> {
  await vm().sh('umount /t');
  await vm().reboot({ powerCut: true });
  await loadDriver(vm());
  await vm().sh(`mkdir -p /t && mount ${origin} /t`);
}

const overwrite = (count: number): string =>
  `dd if=/dev/urandom of=/t/data bs=4k seek=$((RANDOM % 900)) count=${count} oflag=direct conv=notrunc status=none`;

/** A tracker that was set up does all that it promises. */
async function checkTracker(): Promise<void> {
  await copyImage(vm(), vm().disk('copy'));
  await vm().sh(`${overwrite(60)}; cp -r /etc/ssl /t/ssl$RANDOM; sync`);
  await checkImage(vm(), vm().disk('copy'));
  await vm().sh('umount /t');
  assert.equal((await info(vm(), 0)).state, states.dormantSnapshot);
  await vm().sh(`mount ${origin} /t`);
  assert.equal((await info(vm(), 0)).state, states.snapshot);
  await checkImage(vm(), vm().disk('copy'));
  await ioctl(vm(), 'inc', 0);
  await vm().sh('sync');
  const before = (await info(vm(), 0)).nrChangedBlocks;
  await vm().sh('head -c 1M /dev/urandom > /t/new && sync && rm /t/new && sync');
  assert.ok((await info(vm(), 0)).nrChangedBlocks >= before + 256);
  const told = (await changedBlocks(vm(), 1)).reduce((sum, [, nr]) => sum + nr, 0);
  assert.ok(told >= 256 + 60);
}

async function destroyAndRemount(): Promise<void> {
  await destroyAndCheckExt4(vm(), 0, origin);
  await vm().sh(`mount ${origin} /t`);
}

describe('the driver beside others', () => {
  useMachine('coexistence', false);

  for (const observer of observers) {
    const withFunctions = (text: string): string =>
      text.replaceAll('FUNCTIONS', functions.join(' '));

    async function shares(): Promise<boolean> {
      return observer.since === undefined || !(await kernelIsBefore(vm(), ...observer.since));
    }

    async function checkSeen(): Promise<void> {
      if (observer.seen === undefined) return;
      const seen = (await vm().sh(withFunctions(observer.seen))).split('\n').filter(Boolean);
      // Which of the two a filesystem is mounted by depends on the kernel.
      const mount = seen.filter((name) => ['get_tree_bdev', 'mount_bdev'].includes(name));
      assert.equal(mount.length, 1, seen.join());
      for (const name of ['submit_bio_noacct', 'generic_shutdown_super'])
        assert.ok(seen.includes(name), seen.join());
    }

    it(`works where ${observer.name} came first, or refuses clearly`, async () => {
      await vm().sh(withFunctions(observer.attach));
      if (await shares()) {
        await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
        await checkTracker();
        await checkSeen();
        await vm().sh(withFunctions(observer.detach));
        await destroyAndRemount();
      } else {
        assert.equal(await tryIoctl(vm(), 'setup', origin, '/t/cow', 0, 6), 'EBUSY');
        await vm().sh(
          'dmesg | tail -1 | grep "elastio-snap: cannot hook [a-z_]* (-16): .* a BPF program has it"',
        );
        assert.deepEqual((await hooked()).sort(), [...functions].sort());
        await vm().sh(withFunctions(observer.detach));
      }
      await checkNothingLeft();
    });

    it(`works where ${observer.name} comes second, or keeps it away`, async () => {
      await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
      if (await shares()) {
        await vm().sh(withFunctions(observer.attach));
        await checkTracker();
        await checkSeen();
        await ioctl(vm(), 'destroy', 0);
        await vm().sh(withFunctions(observer.detach));
      } else {
        const { status, stdout } = await vm().run(withFunctions(observer.attach));
        assert.deepEqual([status, stdout.trim()], [1, 'EBUSY']);
        await checkTracker();
        await ioctl(vm(), 'destroy', 0);
      }
      await checkNothingLeft();
    });
  }

  /** Whatever finds something wrong in ftrace ends all of it until the machine is restarted, with what is hooked then. */
  const endFtrace = `insmod ${tests}/elio-test.ko kill_ftrace=1`;
  const told = 'dmesg | grep "elastio-snap: cannot unhook .* the module stays"';

  it('stays loaded, sets nothing up any more and lets writes pass where ftrace has shut itself down', async () => {
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    await vm().sh(endFtrace);
    await checkTracker();
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(told);
    const { stderr } = await vm().run('rmmod elastio-snap');
    assert.match(stderr, /in use/);
    assert.equal(await tryIoctl(vm(), 'setup', origin, '/t/cow', 0, 6), 'ENODEV');
    await vm().sh(`! test -e /t/cow && ${overwrite(60)} && umount /t && mount ${origin} /t`);
    await startAgain();
  });

  it('is not unloaded under its hooks where ftrace has shut itself down', async () => {
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    await vm().sh(
      `${endFtrace} && { rmmod elastio-snap < /dev/null > /dev/null 2>&1 & } && until ${told}; do sleep 0.1; done`,
    );
    await vm().sh(`${overwrite(60)} && umount /t && mount ${origin} /t`);
    await vm().sh('pgrep -x rmmod');
    await startAgain();
  });

  it('goes on while private mount namespaces come and go, and until the last of them has gone', async () => {
    await vm().sh(
      `rm -f /run/stop; { until test -e /run/stop; do
         for n in 1 2 3; do unshare -m sh -c 'ls /t > /dev/null; umount /t; sleep 0.2' & done; wait
       done; rm /run/stop; } < /dev/null > /tmp/namespaces 2>&1 &`,
    );
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    await copyImage(vm(), vm().disk('copy'));
    await vm().sh(`for n in $(seq 5); do ${overwrite(40)}; sync; sleep 0.3; done`);
    await checkImage(vm(), vm().disk('copy'));
    await ioctl(vm(), 'inc', 0);
    await ioctl(vm(), 'snap', '/t/cow2', 0, 6);
    await vm().sh('touch /run/stop; while test -e /run/stop; do sleep 0.1; done');
    assert.equal((await info(vm(), 0)).state, states.snapshot);

    await vm().sh(
      `{ unshare -m sh -c 'touch /run/inside; while test -e /run/inside; do sleep 0.1; done' < /dev/null > /dev/null 2>&1 & }
       until test -e /run/inside; do sleep 0.1; done; umount /t`,
    );
    assert.equal((await info(vm(), 0)).state, states.snapshot);
    await vm().sh(
      `rm /run/inside; until test "$(${tests}/ioctl-tool info 0 | grep -o '"state":1')"; do sleep 0.1; done; mount ${origin} /t`,
    );
    assert.equal((await info(vm(), 0)).state, states.snapshot);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh('rm /t/cow');
    await checkNothingLeft();
  });

  it('shows its image to nobody who goes by UUIDs, and to nobody who assembles devices', async () => {
    // The other tests' copy has the same UUID; udev may not have looked at the origin since the copy took the link.
    await vm().sh(
      `wipefs -qa ${vm().disk('copy')} && udevadm settle && udevadm trigger --action=change ${origin} && udevadm settle`,
    );
    const uuid = (await vm().sh(`blkid -s UUID -o value ${origin}`)).trim();
    const found = `readlink -f /dev/disk/by-uuid/${uuid}`;
    const before = await vm().sh(found);
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    assert.equal(await vm().sh(found), before);
    assert.equal(before, await vm().sh(`readlink -f ${origin}`));
    assert.equal(await vm().sh(`find -L /dev/disk -samefile ${image}`), '');
    const properties = (await vm().sh(`udevadm info --query=property ${image}`)).split('\n');
    for (const property of ['DM_MULTIPATH_DEVICE_PATH=0', 'SYSTEMD_READY=0', 'UDISKS_IGNORE=1'])
      assert.ok(properties.includes(property), properties.join());
    assert.ok(!properties.some((property) => property.startsWith('ID_FS_')), properties.join());
    await vm().sh(`umount /t && mount UUID=${uuid} /t`);
    assert.equal((await info(vm(), 0)).state, states.snapshot);
    await ioctl(vm(), 'destroy', 0);
    await checkNothingLeft();
  });

  it('can go on to incremental mode at once, although somebody looks into each image that is announced', async () => {
    const rule = '/run/udev/rules.d/99-look.rules';
    await vm().sh(
      `echo 'ACTION=="add", KERNEL=="elastio-snap*", IMPORT{builtin}="blkid", ENV{LOOKED}="1"' > ${rule}; ${udevControl('reload')}`,
    );
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    const properties = await vm().sh(`udevadm info --query=property ${image}`);
    assert.match(properties, /^LOOKED=1$/m);
    assert.match(properties, /^ID_FS_TYPE=ext4$/m);
    await ioctl(vm(), 'destroy', 0);
    // A kernel that looks for errors looks longer than the half second that the driver waits: the call can be made again.
    const inc =
      slowness(defaultKernel()) === 1
        ? './ioctl-tool inc 0'
        : 'until ./ioctl-tool inc 0 > /tmp/inc; ! grep -q EBUSY /tmp/inc; do sleep 1; done; cat /tmp/inc';
    const results = await vm().sh(
      `cd ${tests}; for n in $(seq 10); do ./ioctl-tool setup ${origin} /t/cow 0 6; ${inc}; ./ioctl-tool destroy 0; done`,
    );
    assert.equal(results, 'ok\n'.repeat(30));
    await vm().sh(`rm ${rule}; ${udevControl('reload')}; udevadm settle`);
    await checkNothingLeft();
  });

  // The disk is gone by then, but before 5.13 nobody looks again.
  it('lets nobody open its image who had found it before it went', async () => {
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    await vm().sh(
      `cp $(which dd) /run/late && insmod ${tests}/elio-test.ko hold_open=1 &&
       { /run/late if=${image} of=/dev/null count=1; echo $? > /run/opened; } < /dev/null > /dev/null 2> /run/error &
       until dmesg | tail -1 | grep 'an opener waits'; do sleep 0.1; done`,
    );
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(
      `echo 0 > /sys/module/elio_test/parameters/hold_open; until test -s /run/opened; do sleep 0.1; done
       grep 'No such device or address' /run/error && grep -vx 0 /run/opened && rm /run/opened && rmmod elio-test`,
    );
    await checkNothingLeft();
  });

  it('shows its image to LVM neither, where the origin has the label of a physical volume', async () => {
    // A filesystem leaves its first sectors as they are, so that an old label can be found beside it.
    const other = vm().disk('copy');
    await vm().sh(
      `wipefs -qa ${other} && pvcreate -qq -y --metadatacopies 0 ${other} && dd if=${other} bs=512 skip=1 count=1 status=none |
         dd of=${origin} bs=512 seek=1 conv=notrunc,fsync status=none; wipefs -qa ${other}; udevadm settle`,
    );
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    assert.equal(
      await vm().sh(`dd if=${image} bs=512 skip=1 count=1 status=none | head -c 8`),
      'LABELONE',
    );
    const volumes = await vm().run('pvs --noheadings -o pv_name');
    assert.equal(volumes.stdout.trim(), (await vm().sh(`readlink -f ${origin}`)).trim());
    assert.doesNotMatch(volumes.stderr, /elastio-snap|WARNING|uplicate/);
    const scan = await vm().run(`pvscan --cache ${image}`);
    assert.match(`${scan.stdout}${scan.stderr}`, /elastio-snap0 excluded/);
    await ioctl(vm(), 'destroy', 0);
    await vm().sh(
      `dd if=/dev/zero of=${origin} bs=512 seek=1 count=1 conv=notrunc,fsync status=none`,
    );
    await checkNothingLeft();
  });
});

// What is refused is refused in the middle of a set-up.
describe('the driver where its hooks are refused', () => {
  useMachine('refused-hooks', true);

  it('refuses clearly, and leaves nothing, where something like a live patch has one of its functions', async () => {
    for (const name of functions) {
      await vm().sh(`insmod ${tests}/elio-test.ko ipmodify=${name}`);
      assert.equal(await tryIoctl(vm(), 'setup', origin, '/t/cow', 0, 6), 'EBUSY');
      await vm().sh(
        `dmesg | tail -1 | grep "elastio-snap: cannot hook ${name} (-16): a live patch"`,
      );
      assert.deepEqual(await hooked(), [name]);
      await vm().sh('rmmod elio-test');
      await checkNothingLeft();
    }
  });

  it('keeps something like a live patch away from its functions', async () => {
    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    for (const name of functions) {
      const { stderr } = await vm().run(`insmod ${tests}/elio-test.ko ipmodify=${name}`);
      assert.match(stderr, /resource busy/i, name);
    }
    await checkTracker();
    await ioctl(vm(), 'destroy', 0);
    await checkNothingLeft();
  });

  it('refuses clearly where ftrace is switched off, and does not let it be switched off', async () => {
    const off = await vm().run('echo 0 > /proc/sys/kernel/ftrace_enabled');
    if (await kernelIsBefore(vm(), 7, 0)) {
      assert.equal(off.status, 0);
      assert.equal(await tryIoctl(vm(), 'setup', origin, '/t/cow', 0, 6), 'EBUSY');
      await vm().sh('dmesg | tail -1 | grep "kernel.ftrace_enabled is 0"');
      await checkNothingLeft();
      await vm().sh('echo 1 > /proc/sys/kernel/ftrace_enabled');
    } else {
      // Such kernels cannot switch it off any more.
      assert.match(off.stderr, /Operation not supported/);
    }

    await ioctl(vm(), 'setup', origin, '/t/cow', 0, 6);
    await vm().sh('! echo 0 > /proc/sys/kernel/ftrace_enabled');
    await checkTracker();
    await ioctl(vm(), 'destroy', 0);
    await checkNothingLeft();
  });
});
