// SPDX-License-Identifier: Apache-2.0
// Every row of the agent's table of errors, through a real failure: ioctl, errno, status, reason.
import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { ERROR_TABLE } from '../../agent/src/driver/errors.js';
import type { IoctlName } from '../../agent/src/driver/layout.js';
import {
  ReloadIncrementalRequest,
  ReloadSnapshotRequest,
  SetupSnapshotRequest,
  SnapshotServiceService,
  TransitionToSnapshotRequest,
} from '../../proto/gen/elio/v1/snapshot.js';
import { Api, ApiError } from '../harness/api.js';
import { startAgent, unloadModule } from '../harness/fleet.js';
import { holdOpen } from '../harness/hold-open.js';
import { useFleet } from '../harness/scenario.js';
import type { Vm } from '../harness/vm.js';
import { mountExt4 } from './driver.js';

const MIB = 1n << 20n;

/**
 * Rows that no caller can bring about here: memory or a device has to fail in the very call (debug-failures lets them), or a
 * security module has to refuse.
 */
const NOT_HERE = [
  'DEFAULT EACCES',
  'DEFAULT ENOMEM',
  'DEFAULT EIO',
  'DEFAULT ENODEV',
  'DEFAULT ETIMEDOUT',
  'DEFAULT EFAULT',
  'TRANSITION_INC EFBIG',
];

describe('each error of the driver', () => {
  const fleet = useFleet({
    count: 1,
    disks: [
      { name: 'data', sizeMib: 96 },
      { name: 'spare', sizeMib: 64 },
    ],
  });
  let vm: Vm;
  let api: Api;
  let origin = '';
  let spare = '';
  const seen = new Set<string>();

  before(async () => {
    const [host] = fleet().hosts;
    assert.ok(host);
    vm = host.vm;
    api = new Api(host, fleet().tls);
    origin = (await vm.sh(`readlink -f ${vm.disk('data')}`)).trim();
    spare = (await vm.sh(`readlink -f ${vm.disk('spare')}`)).trim();
    await mountExt4(vm, origin, '/t', '-b 4096');
  });
  after(() => {
    api.close();
  });
  afterEach(async () => {
    const { listSnapshots, destroySnapshot } = SnapshotServiceService;
    const { snapshots } = await api.call(listSnapshots, { pageSize: 0, pageToken: '' });
    for (const { minor } of snapshots) await api.call(destroySnapshot, { minor, requestId: '' });
  });

  const setUp = (changes: Partial<SetupSnapshotRequest> = {}): Promise<unknown> =>
    api.call(
      SnapshotServiceService.setupSnapshot,
      SetupSnapshotRequest.fromPartial({
        blockDevice: origin,
        cowFile: '/t/cow',
        cowSizeBytes: 8n * MIB,
        minor: 0,
        ...changes,
      }),
    );
  const toIncremental = (): Promise<unknown> =>
    api.call(SnapshotServiceService.transitionToIncremental, { minor: 0, requestId: '' });
  const toSnapshot = (changes: Partial<TransitionToSnapshotRequest> = {}): Promise<unknown> =>
    api.call(
      SnapshotServiceService.transitionToSnapshot,
      TransitionToSnapshotRequest.fromPartial({
        minor: 0,
        cowFile: '/t/cow2',
        cowSizeBytes: 8n * MIB,
        ...changes,
      }),
    );
  const reconfigure = (): Promise<unknown> =>
    api.call(SnapshotServiceService.reconfigureSnapshot, {
      minor: 0,
      cacheSizeBytes: 0n,
      requestId: '',
    });
  const destroy = (): Promise<unknown> =>
    api.call(SnapshotServiceService.destroySnapshot, { minor: 0, requestId: '' });
  const get = (minor: number): Promise<unknown> =>
    api.call(SnapshotServiceService.getSnapshot, { minor });
  const reload = (
    mode: 'RELOAD_SNAP' | 'RELOAD_INC',
    blockDevice: string,
    minor = 1,
  ): Promise<unknown> => {
    const request = { blockDevice, cowFile: '/cow', minor };
    return mode === 'RELOAD_SNAP'
      ? api.call(SnapshotServiceService.reloadSnapshot, ReloadSnapshotRequest.fromPartial(request))
      : api.call(
          SnapshotServiceService.reloadIncremental,
          ReloadIncrementalRequest.fromPartial(request),
        );
  };
  /** Fills the COW file past its end. */
  const overflow = (): Promise<string> =>
    vm.sh(
      'dd if=/dev/urandom of=/t/much bs=1M count=12 conv=fsync status=none; dd if=/dev/urandom of=/t/much bs=1M count=12 conv=notrunc,fsync status=none; rm /t/much',
    );

  /** The call fails by this row of the table. `reason` is another one where the agent has found out more. */
  async function fails(
    ioctl: IoctlName | 'DEFAULT',
    errno: string,
    call: Promise<unknown>,
    reason = ERROR_TABLE[ioctl][errno]?.reason ?? '',
    actual: string = ioctl,
  ): Promise<void> {
    seen.add(`${ioctl} ${errno}`);
    await assert.rejects(call, (error: unknown) => {
      assert.ok(error instanceof ApiError, String(error));
      const { metadata } = error;
      assert.deepEqual(
        { errno: metadata['errno'], ioctl: metadata['ioctl'] ?? actual, reason: error.reason },
        { errno, ioctl: actual, reason },
        error.message,
      );
      if (reason === ERROR_TABLE[ioctl][errno]?.reason)
        assert.equal(status[error.code], status[ERROR_TABLE[ioctl][errno].code]);
      return true;
    });
  }

  it('of a set-up', async () => {
    const fail = (errno: string, changes: Partial<SetupSnapshotRequest>): Promise<void> =>
      fails('SETUP_SNAP', errno, setUp(changes));
    await vm.sh(
      'echo text > /t/text; mkdir -p /t/directory /ro; ln -sf /t/text /t/link; touch /t/fixed; chattr +i /t/fixed; mount --bind /t /ro; mount -o remount,bind,ro /ro; mknod /dev/nothing b 240 77',
    );
    await fail('ENOENT', { blockDevice: '/dev/missing' });
    await fail('ENOENT', { cowFile: '/t/missing/cow' });
    await fail('ENOTBLK', { blockDevice: '/t/text' });
    await fail('ENXIO', { blockDevice: '/dev/nothing' });
    await fail('EEXIST', { cowFile: '/t/text' });
    await fail('EISDIR', { cowFile: '/t/directory' });
    await fail('ENOTDIR', { cowFile: '/t/text/cow' });
    await fail('ELOOP', { cowFile: '/t/link' });
    await fail('EROFS', { cowFile: '/ro/cow' });
    await fail('EPERM', { cowFile: '/t/fixed' });
    await fail('ENOSPC', { cowSizeBytes: 90n * MIB });
    await fail('EFBIG', { cowSizeBytes: 1n << 50n });
    await fails(
      'DEFAULT',
      'ENAMETOOLONG',
      setUp({ cowFile: `/t/${'c'.repeat(300)}` }),
      undefined,
      'SETUP_SNAP',
    );
    await fails('SETUP_SNAP', 'EINVAL', setUp({ blockDevice: spare }), 'NOT_MOUNTED');
    await vm.sh('umount /ro; chattr -i /t/fixed; rm /t/fixed /t/link /dev/nothing');
    await vm.sh(`mkfs.vfat ${spare} > /dev/null && mkdir -p /v && mount ${spare} /v`);
    await fail('EOPNOTSUPP', { blockDevice: spare, cowFile: '/v/cow' });
    await vm.sh('umount /v');
    await setUp();
    await fail('EBUSY', { blockDevice: spare });
    assert.equal(await vm.sh('cat /t/text'), 'text\n');
  });

  it('of an announcement', async () => {
    await vm.sh(`wipefs -qa ${spare}; mknod /dev/nothing b 240 77`);
    for (const mode of ['RELOAD_SNAP', 'RELOAD_INC'] as const) {
      await fails(mode, 'ENOENT', reload(mode, '/dev/missing'));
      await fails(mode, 'ENOTBLK', reload(mode, '/t/text'));
      await fails(mode, 'ENXIO', reload(mode, '/dev/nothing'));
      await fails(mode, 'EINVAL', reload(mode, origin));
    }
    await setUp();
    for (const mode of ['RELOAD_SNAP', 'RELOAD_INC'] as const)
      await fails(mode, 'EBUSY', reload(mode, spare, 0));
    await vm.sh(
      'rm /dev/nothing; modprobe null_blk nr_devices=1 gb=1 zoned=1 zone_size=64 && udevadm settle',
    );
    for (const mode of ['RELOAD_SNAP', 'RELOAD_INC'] as const)
      await fails(mode, 'EOPNOTSUPP', reload(mode, '/dev/nullb0'));
    await vm.sh('modprobe -r null_blk');
  });

  it('of transitions and reconfiguring', async () => {
    await vm.sh('fsfreeze -f /t');
    await fails('SETUP_SNAP', 'EBUSY', setUp(), 'FILESYSTEM_BUSY');
    await vm.sh('fsfreeze -u /t');
    await setUp();
    await fails('TRANSITION_SNAP', 'EINVAL', toSnapshot());
    await toIncremental();
    await fails('TRANSITION_INC', 'EINVAL', toIncremental());
    await fails(
      'TRANSITION_SNAP',
      'EINVAL',
      toSnapshot({ cowSizeBytes: MIB }),
      'COW_FILE_TOO_SMALL',
    );
    await fails('TRANSITION_SNAP', 'EPERM', toSnapshot({ cowFile: '/t/cow' }));
    await fails(
      'SETUP_SNAP',
      'EEXIST',
      toSnapshot({ cowFile: '/t/text' }),
      undefined,
      'TRANSITION_SNAP',
    );
    await vm.sh('fsfreeze -f /t');
    await fails('TRANSITION_SNAP', 'EBUSY', toSnapshot());
    await vm.sh('fsfreeze -u /t');
    await toSnapshot();
    await overflow();
    await fails('TRANSITION_INC', 'EINVAL', toIncremental());
    await fails('RECONFIGURE', 'EINVAL', reconfigure());
  });

  it('of any call', async () => {
    await fails('DEFAULT', 'ENOENT', get(0), undefined, 'INFO');
    await fails('DEFAULT', 'EINVAL', get(255), undefined, 'INFO');
    await setUp();
    const holder = await holdOpen(vm, '/dev/elastio-snap0');
    await fails('DEFAULT', 'EBUSY', destroy(), undefined, 'DESTROY');
    await vm.sh(`kill ${holder}`);
  });

  it('of a full table', async () => {
    await vm.sh(`${unloadModule} && insmod /opt/elio/elastio-snap.ko max_snap_devices=1`);
    await setUp();
    await fails('GET_FREE', 'ENOENT', api.call(SnapshotServiceService.getFreeMinor, {}));
  });

  it('of an agent without the capability', async () => {
    await vm.sh(
      'pid=$(cat /run/eliod.pid); kill $pid; while kill -0 $pid 2> /dev/null; do sleep 0.2; done',
    );
    await startAgent(vm, 'setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin');
    await fails('DEFAULT', 'EPERM', toIncremental(), undefined, 'TRANSITION_INC');
    await vm.sh(
      'pid=$(cat /run/eliod.pid); kill $pid; while kill -0 $pid 2> /dev/null; do sleep 0.2; done',
    );
    await startAgent(vm);
  });

  // Until the machine is restarted: nothing can come after it.
  it('of a kernel that can track nothing any more', async () => {
    await setUp();
    await vm.sh('insmod /opt/elio/tests/elio-test.ko kill_ftrace=1');
    await destroy();
    await fails('SETUP_SNAP', 'ENODEV', setUp());
    for (const mode of ['RELOAD_SNAP', 'RELOAD_INC'] as const)
      await fails(mode, 'ENODEV', reload(mode, spare, 0));
    await vm.sh('! test -e /t/cow');
  });

  it('is one that was seen here', () => {
    const rows = Object.entries(ERROR_TABLE).flatMap(([name, errors]) =>
      Object.keys(errors).map((errno) => `${name} ${errno}`),
    );
    assert.deepEqual(
      rows.filter((row) => !seen.has(row) && !NOT_HERE.includes(row)),
      [],
    );
  });
});
