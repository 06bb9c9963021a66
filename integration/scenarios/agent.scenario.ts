// SPDX-License-Identifier: Apache-2.0
// The agent as a controller sees it: events, leases, hooks, roles, limits, certificates, health. All on the real module.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Metadata, status } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import { LEAST_ROLE, mayCall } from '../../agent/src/server/roles.js';
import { DataServiceService, ReadBlocksRequest } from '../../proto/gen/elio/v1/data.js';
import { EventServiceService, type WatchEventsResponse } from '../../proto/gen/elio/v1/event.js';
import { HostServiceService } from '../../proto/gen/elio/v1/host.js';
import {
  BeginRestoreRequest,
  RestoreServiceService,
  type GetRestoreResponse,
} from '../../proto/gen/elio/v1/restore.js';
import { SetupSnapshotRequest, SnapshotServiceService } from '../../proto/gen/elio/v1/snapshot.js';
import { TrackerState, type Snapshot } from '../../proto/gen/elio/v1/types.js';
import { Api, ApiError, type Role } from '../harness/api.js';
import { repository } from '../harness/cache.js';
import { startAgent, unloadModule, type FleetHost } from '../harness/fleet.js';
import { holdOpen } from '../harness/hold-open.js';
import { rounds } from '../harness/length.js';
import { useFleet } from '../harness/scenario.js';
import type { Vm } from '../harness/vm.js';
import { mkfs, mountExt4 } from './driver.js';

const roles: readonly Role[] = ['viewer', 'operator', 'admin'];
const MIB = 1024 * 1024;

describe('the agent', () => {
  const fleet = useFleet({
    count: 1,
    disks: [
      { name: 'data', sizeMib: 96 },
      { name: 'spare', sizeMib: 64 },
      { name: 'many', sizeMib: 800 },
    ],
  });
  let host: FleetHost;
  let vm: Vm;
  let api: Api;
  let origin = '';
  let spare = '';

  before(async () => {
    const [only] = fleet().hosts;
    assert.ok(only);
    host = only;
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
    const { snapshots } = await api.call(SnapshotServiceService.listSnapshots, {
      pageSize: 0,
      pageToken: '',
    });
    for (const { minor } of snapshots) await destroy(minor);
    await vm.run('rm -f /t/much');
  });

  async function setUp(
    changes: Partial<SetupSnapshotRequest> = {},
    client = api,
  ): Promise<Snapshot> {
    const request = SetupSnapshotRequest.fromPartial({
      blockDevice: origin,
      cowFile: '/t/cow',
      cowSizeBytes: BigInt(8 * MIB),
      ...changes,
    });
    const { snapshot } = await client.call(SnapshotServiceService.setupSnapshot, request);
    assert.ok(snapshot);
    return snapshot;
  }

  async function get(minor: number): Promise<Snapshot> {
    const { snapshot } = await api.call(SnapshotServiceService.getSnapshot, { minor });
    assert.ok(snapshot);
    return snapshot;
  }

  async function destroy(minor: number): Promise<void> {
    await api.call(SnapshotServiceService.destroySnapshot, { minor, requestId: '' });
  }

  async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    for (let i = 0; i < 120; i++) {
      if (await isSo()) return;
      await sleep(500);
    }
    assert.fail(`not so after a minute: ${what}`);
  }

  const refusal =
    (code: status, reason: string, message = /./) =>
    (error: unknown): boolean => {
      assert.ok(error instanceof ApiError, String(error));
      assert.deepEqual([status[error.code], error.reason], [status[code], reason], error.message);
      assert.match(error.message, message);
      return true;
    };

  async function configure(yaml: string): Promise<void> {
    await vm.sh('mkdir -p /etc/elio && cat > /etc/elio/agent.yaml', { stdin: yaml });
  }

  async function restartAgent(): Promise<void> {
    await vm.sh(
      'pid=$(cat /run/eliod.pid); kill $pid; while kill -0 $pid 2> /dev/null; do sleep 0.2; done',
    );
    await startAgent(vm);
  }

  it('tells what happens to a snapshot, and goes on from a token', async () => {
    const watching = api.stream(EventServiceService.watchEvents, { resumeToken: '' });
    const seen: WatchEventsResponse[] = [];
    const kind = ({ event }: WatchEventsResponse): string => event?.$case ?? '';
    const collect = (async () => {
      for await (const event of watching.messages) {
        seen.push(event);
        if (kind(event) === 'stateChanged' && seen.length > 1) return;
      }
    })();
    const { minor } = await setUp();
    // More than the COW file takes, slowly enough to be seen on the way.
    await vm.sh(
      'for i in 0 1 2 3 4 5 6 7; do dd if=/dev/urandom of=/t/much bs=1M count=1 seek=$i conv=notrunc,fsync status=none; sleep 2.5; done',
    );
    await until('it has failed', async () => (await get(minor)).error !== 0);
    await until('that was told', () => Promise.resolve(seen.some((e) => kind(e) === 'failed')));
    await destroy(minor);
    await collect;
    watching.cancel();
    const kinds = seen.map(kind);
    assert.equal(kinds[0], 'stateChanged');
    assert.equal(kinds.at(-1), 'stateChanged');
    assert.ok(kinds.includes('cowFill') && kinds.includes('overflowForecast'), String(kinds));
    const failed = seen.find((e) => kind(e) === 'failed')?.event;
    assert.ok(failed?.$case === 'failed');
    assert.equal(failed.value.error, -27);
    assert.ok(seen.every((e) => e.blockDevice === origin && e.minor === minor));

    const rest = api.stream(EventServiceService.watchEvents, {
      resumeToken: seen[1]?.resumeToken ?? '',
    });
    for (const expected of seen.slice(2)) {
      const next = await rest.messages.next();
      assert.deepEqual(next.value, expected);
    }
    rest.cancel();
    const lost = api.stream(EventServiceService.watchEvents, { resumeToken: 'other.7' });
    await assert.rejects(lost.messages.next(), refusal(status.OUT_OF_RANGE, 'EVENTS_LOST'));
  });

  it('goes to incremental mode when nobody has used a snapshot for the time of its lease', async () => {
    const { minor, lease } = await setUp({ leaseSeconds: 600 });
    assert.equal(lease?.durationSeconds, 600);
    // Whoever has the image open holds it up.
    const holder = await holdOpen(vm, `/dev/elastio-snap${String(minor)}`);
    await api.call(SnapshotServiceService.renewLease, { minor, leaseSeconds: 4 });
    await until('the lease is over', async () => (await get(minor)).lease?.remainingSeconds === 0);
    assert.equal((await get(minor)).state, TrackerState.TRACKER_STATE_ACTIVE_SNAPSHOT);
    await vm.sh(`kill ${holder}`);
    await until(
      'it is incremental',
      async () => (await get(minor)).state === TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL,
    );
    assert.equal((await get(minor)).lease, undefined);
    // The chain goes on.
    const next = await api.call(SnapshotServiceService.transitionToSnapshot, {
      minor,
      cowFile: '/t/cow2',
      cowSizeBytes: BigInt(8 * MIB),
      requestId: '',
      leaseSeconds: 600,
    });
    assert.equal(next.snapshot?.cookie?.seqId, 2n);
    const renewed = await api.call(SnapshotServiceService.renewLease, { minor, leaseSeconds: 0 });
    assert.equal(renewed.snapshot?.lease, undefined);
    await assert.rejects(
      api.call(SnapshotServiceService.renewLease, { minor, leaseSeconds: 604_801 }),
      refusal(status.INVALID_ARGUMENT, 'BAD_ARGUMENT', /a week/),
    );
  });

  it('names who has an image open, and a client may stop waiting', async () => {
    const { minor } = await setUp();
    const image = `/dev/elastio-snap${String(minor)}`;
    const pid = await holdOpen(vm, image);
    await assert.rejects(
      destroy(minor),
      refusal(status.ABORTED, 'IMAGE_IN_USE', new RegExp(`process ${pid} \\(sleep\\)`)),
    );
    await vm.sh(`kill ${pid}; mkdir -p /image && mount -o ro,noload ${image} /image`);
    await assert.rejects(
      destroy(minor),
      refusal(status.ABORTED, 'IMAGE_IN_USE', /mounted on \/image/),
    );
    await vm.sh('umount /image');
    // Where the agent does not see it: a mount namespace of another.
    await vm.sh(
      `unshare -m sh -c 'mount -o ro,noload ${image} /image; touch /tmp/mounted; exec sleep 1000' > /dev/null 2>&1 & echo $! > /tmp/holder; until test -e /tmp/mounted; do sleep 0.1; done`,
    );
    await assert.rejects(
      destroy(minor),
      refusal(
        status.ABORTED,
        'IMAGE_IN_USE',
        /mounted on \/image for process \d+ \((?:sleep|unshare|sh)\)/,
      ),
    );
    await vm.sh(`kill $(cat /tmp/holder); modprobe loop && losetup -r /dev/loop7 ${image}`);
    await assert.rejects(
      destroy(minor),
      refusal(status.ABORTED, 'IMAGE_IN_USE', /part of \/dev\/loop7/),
    );
    await vm.sh('losetup -d /dev/loop7');
    // A stream that nobody reads any more.
    const reading = api.stream(
      DataServiceService.readBlocks,
      ReadBlocksRequest.fromPartial({ minor }),
    );
    await reading.messages.next();
    await assert.rejects(destroy(minor), refusal(status.ABORTED, 'IMAGE_IN_USE', /by a stream to/));
    reading.cancel();
    await destroy(minor);
  });

  it('runs hooks around a snapshot, and takes none when one fails', async () => {
    await configure(
      [
        'hooks:',
        '  pre_snapshot:',
        '    - command: [/bin/sh, -c, "echo pre $ELIO_MOUNT_POINTS >> /tmp/hooks; test ! -e /tmp/fail"]',
        '  post_snapshot:',
        '    - command: [/bin/sh, -c, "echo post $ELIO_SNAPSHOT >> /tmp/hooks"]',
        '',
      ].join('\n'),
    );
    await vm.sh('rm -f /tmp/hooks /tmp/fail; kill -HUP $(cat /run/eliod.pid)');
    await until(
      'the configuration was read',
      async () => (await vm.run('grep "configuration loaded" /var/log/eliod.log')).status === 0,
    );
    const { minor } = await setUp();
    assert.equal(await vm.sh('cat /tmp/hooks'), 'pre /t\npost taken\n');
    await destroy(minor);
    await vm.sh('touch /tmp/fail; rm /tmp/hooks');
    await assert.rejects(
      setUp(),
      refusal(status.FAILED_PRECONDITION, 'HOOK_FAILED', /exited with 1; no snapshot/),
    );
    assert.equal(await vm.sh('cat /tmp/hooks'), 'pre /t\npost failed\n');
    await vm.sh('rm /tmp/fail; ! ls /t/cow 2> /dev/null');
    await configure('hooks: {pre_snapshot: 7}\n');
    await vm.sh('kill -HUP $(cat /run/eliod.pid)');
    await until(
      'the bad file was told',
      async () => (await vm.run('grep "agent.yaml:1" /var/log/eliod.log')).status === 0,
    );
    await setUp();
    assert.equal(await vm.sh('tail -1 /tmp/hooks'), 'post taken\n');
    await configure('');
  });

  it('lets each role call what the table says, and nobody anything else', async () => {
    const definitions = loadFileDescriptorSetFromBuffer(
      readFileSync(join(repository, 'dist', 'elio.binpb')),
    );
    const methods = Object.values(definitions)
      .flatMap((d) => ('format' in d ? [] : Object.values(d)))
      .filter(({ path }) => path.startsWith('/elio.v1.'));
    assert.ok(methods.length > 15);
    const nothing = Buffer.alloc(0);
    const raw = (bytes: Buffer): Buffer => bytes;
    const codeOf = (client: Client, path: string, requestStream: boolean): Promise<status> =>
      new Promise((resolve) => {
        // A request without any field; each method takes it as a bad one, or answers.
        const options = { deadline: Date.now() + 60_000 };
        const upload = requestStream
          ? client.makeBidiStreamRequest(path, raw, raw, new Metadata(), options)
          : undefined;
        upload?.end();
        const call =
          upload ??
          client.makeServerStreamRequest(path, raw, raw, nothing, new Metadata(), options);
        call.on('data', () => undefined);
        call.on('error', () => undefined);
        call.on('status', ({ code }) => {
          resolve(code);
        });
        // A watcher that may watch would wait for ever.
        if (path.endsWith('WatchEvents'))
          setTimeout(() => {
            call.cancel();
          }, 3000);
      });
    for (const role of roles) {
      const own = new Api(host, fleet().tls, role);
      for (const { path, requestStream } of methods) {
        const code = await codeOf(own.client, path, requestStream);
        const denied = code === status.PERMISSION_DENIED;
        assert.equal(denied, !mayCall(role, path), `${role} ${path}: ${status[code]}`);
      }
      const unknown = await codeOf(own.client, '/elio.v1.SnapshotService/Format', false);
      assert.ok([status.PERMISSION_DENIED, status.UNIMPLEMENTED].includes(unknown));
      own.close();
    }
    assert.equal(
      methods.length,
      Object.keys(LEAST_ROLE).filter((p) => p.startsWith('/elio.')).length,
    );
    await vm.sh(
      `grep '"code":"PERMISSION_DENIED"' /var/log/eliod.log | grep '"identity":"spiffe://elio.test/elio/viewer/viewer"' | grep -q '"peer":"'`,
    );
  });

  it('remembers the answer to a request over its own restart', async () => {
    const requestId = randomUUID();
    const first = await setUp({ requestId });
    await restartAgent();
    const again = await setUp({ requestId });
    assert.deepEqual(again, first);
    const { snapshots } = await api.call(SnapshotServiceService.listSnapshots, {
      pageSize: 0,
      pageToken: '',
    });
    assert.equal(snapshots.length, 1);
    assert.equal(snapshots[0]?.cookie?.nonce, first.cookie?.nonce);
  });

  it('tells devices with their stable ids and why not, and takes a stable id for a path', async () => {
    await vm.sh(`wipefs -qa ${spare}; echo ',,L' | sfdisk -q ${spare}; udevadm settle`);
    const part = `${spare}1`;
    await mountExt4(vm, part, '/p', '-b 4096');
    // As LVM names its volumes.
    await vm.sh(`mkdir /dev/group && ln -s ${part} /dev/group/volume`);
    const { blockDevices } = await api.call(HostServiceService.listBlockDevices, {});
    const find = (path: string): (typeof blockDevices)[number] => {
      const device = blockDevices.find((d) => d.path === path);
      assert.ok(device, path);
      return device;
    };
    const partition = find(part);
    assert.deepEqual(
      [partition.kind, partition.parent, partition.refusal],
      ['partition', spare, ''],
    );
    assert.ok(partition.aliases.includes('/dev/group/volume'), partition.aliases.join());
    assert.match(find(spare).refusal, /no filesystem of it is mounted/);
    const { stableId: id } = partition;
    assert.match(id, /^PARTUUID=[0-9a-f]{8}-01$/);
    const snapshot = await setUp({ blockDevice: id, cowFile: '/p/cow' });
    assert.equal(snapshot.blockDevice, part);
    assert.equal(snapshot.stableId, id);
    await assert.rejects(
      setUp({ blockDevice: 'PARTUUID=none' }),
      refusal(status.NOT_FOUND, 'PATH_NOT_FOUND', /has the stable id/),
    );
    await destroy(snapshot.minor);
    await vm.sh('umount /p && rm -r /dev/group');
  });

  it('works when the module comes after it, and says what is missing until then', async () => {
    await vm.sh(unloadModule);
    await assert.rejects(
      setUp(),
      refusal(status.UNAVAILABLE, 'MODULE_NOT_LOADED', /modprobe elastio-snap/),
    );
    const without = await api.call(HostServiceService.getHost, {});
    assert.deepEqual(
      without.problems.map(({ reason }) => reason),
      ['MODULE_NOT_LOADED'],
    );
    const fetchText = (path: string): Promise<string> =>
      vm.sh(
        `node -e "fetch('http://127.0.0.1:9443${path}').then(async (r) => console.log(r.status, await r.text()))"`,
      );
    assert.match(await fetchText('/healthz'), /^503 .*MODULE_NOT_LOADED/);
    await vm.sh('insmod /opt/elio/elastio-snap.ko');
    const { minor } = await setUp();
    const host = await api.call(HostServiceService.getHost, {});
    assert.deepEqual(host.problems, []);
    for (const capability of ['allocated-blocks', 'change-map', 'events', 'lease', 'stable-id'])
      assert.ok(host.capabilities.includes(capability), capability);
    assert.match(await fetchText('/healthz'), /^200/);
    const metrics = await fetchText('/metrics');
    assert.match(
      metrics,
      new RegExp(`elio_snapshot_state{minor="${minor}",block_device="${origin}"} 4`),
    );
    assert.match(
      metrics,
      /elio_calls_total\{method="\/elio.v1.SnapshotService\/SetupSnapshot",code="OK"\}/,
    );
    assert.match(metrics, /elio_certificate_expires_seconds [1-9]/);
  });

  it('takes new certificates while a stream runs, and stays with the last good ones', async () => {
    const { minor } = await setUp();
    const reading = api.stream(
      DataServiceService.readBlocks,
      ReadBlocksRequest.fromPartial({ minor }),
    );
    await reading.messages.next();
    const log = async (what: string): Promise<void> =>
      until(what, async () => (await vm.run(`grep -q '${what}' /var/log/eliod.log`)).status === 0);
    await vm.sh('cp -r /etc/elio/tls /tmp/tls; echo no key > /etc/elio/tls/agent.key');
    await log('certificates not reloaded');
    const other = new Api(host, fleet().tls);
    await other.call(HostServiceService.getHost, {});
    other.close();
    await vm.sh('cp /tmp/tls/agent.key /etc/elio/tls/agent.key');
    await log('certificates loaded');
    let count = 0;
    for await (const message of reading.messages) count += message.content ? 1 : 0;
    assert.ok(count > 0);
  });

  it('lets no client have more connections, or make more calls, than its limits', async () => {
    await configure('limits: {connections_per_client: 3, calls_per_second: 5}\n');
    await restartAgent();
    const clients = Array.from({ length: 6 }, () => new Api(host, fleet().tls, 'viewer'));
    const results = await Promise.allSettled(
      clients.map((client) => client.call(HostServiceService.getHost, {})),
    );
    const fine = results.filter(({ status: s }) => s === 'fulfilled').length;
    assert.ok(fine >= 1 && fine <= 3, String(fine));
    for (const client of clients.slice(1)) client.close();
    const [viewer] = clients;
    assert.ok(viewer);
    const calls = await Promise.allSettled(
      Array.from({ length: 200 }, () => viewer.call(HostServiceService.getHost, {})),
    );
    const reasons = calls.flatMap((r) =>
      r.status === 'rejected' && r.reason instanceof ApiError ? [r.reason.reason] : [],
    );
    assert.ok(reasons.includes('TOO_MANY_CALLS'), reasons.join());
    viewer.close();
    // Others are not concerned.
    await api.call(HostServiceService.getHost, {});
    await configure('');
    await restartAgent();
  });

  /** Memory of the agent in KiB: what it uses now, or the most that it ever did. */
  async function memoryKib(which: 'VmRSS' | 'VmHWM'): Promise<number> {
    return Number(await vm.sh(`awk '/^${which}/ { print $2 }' /proc/$(cat /run/eliod.pid)/status`));
  }

  it('needs 150 MiB at most for 24 devices and four streams to slow readers', async () => {
    const disk = (await vm.sh(`readlink -f ${vm.disk('many')}`)).trim();
    const parts = Array.from({ length: 24 }, (_, i) => `${disk}${String(i + 1)}`);
    const table = ['label: gpt', ...parts.map(() => 'size=32MiB'), ''].join('\n');
    await vm.sh(`sfdisk -q ${disk} && udevadm settle`, { stdin: table });
    await vm.sh(
      `for i in $(seq 24); do ${mkfs('ext4', `${disk}$i`)} && mkdir -p /m$i && mount ${disk}$i /m$i || exit 1; done`,
    );
    // What an image has to tell: no zeros, which streams leave out.
    await vm.sh('for i in 1 2 3 4; do head -c 16M /dev/urandom > /m$i/data; done; sync');
    await restartAgent();
    const minors: number[] = [];
    for (const [i, blockDevice] of parts.entries()) {
      const cowFile = `/m${String(i + 1)}/cow`;
      const { minor } = await setUp({ blockDevice, cowFile, cowSizeBytes: BigInt(3 * MIB) });
      minors.push(minor);
    }
    const readSlowly = async (minor: number): Promise<number> => {
      const client = new Api(host, fleet().tls);
      const { messages } = client.stream(
        DataServiceService.readBlocks,
        ReadBlocksRequest.fromPartial({ minor }),
      );
      let count = 0;
      for await (const message of messages) {
        count += message.content ? 1 : 0;
        await sleep(250);
      }
      client.close();
      return count;
    };
    const counts = await Promise.all(minors.slice(0, 4).map(readSlowly));
    assert.ok(
      counts.every((count) => count >= 16),
      String(counts),
    );
    const peakMib = (await memoryKib('VmHWM')) / 1024;
    assert.ok(peakMib <= 150, `${peakMib.toFixed(0)} MiB`);
    for (const minor of minors) await destroy(minor);
    await vm.sh('umount /m[0-9]*');
  });

  it('tells how far the verification of a restore is, and ends it', async () => {
    const restores = RestoreServiceService;
    const { restoreId } = await api.call(
      restores.beginRestore,
      BeginRestoreRequest.fromPartial({
        targetDevice: vm.disk('many'),
        sizeBytes: BigInt(800 * MIB),
      }),
    );
    const far = (): Promise<GetRestoreResponse> => api.call(restores.getRestore, { restoreId });
    assert.equal((await far()).verifiedBytes, 0n);
    const committed = assert.rejects(
      api.call(restores.commitRestore, { restoreId, sha256Tree: '' }),
      refusal(status.CANCELLED, 'RESTORE_ABORTED', /unusable/),
    );
    await until('something was verified', async () => (await far()).verifiedBytes > 0n);
    await api.call(restores.abortRestore, { restoreId });
    await committed;
    await assert.rejects(far(), refusal(status.NOT_FOUND, 'NO_SUCH_RESTORE'));
  });

  it('tells the checksums of what the target of a restore holds', async () => {
    const target = vm.disk('many');
    await vm.sh(
      `head -c 3M /dev/urandom | dd of=${target} bs=1M oflag=direct iflag=fullblock status=none`,
    );
    const { restoreId } = await api.call(
      RestoreServiceService.beginRestore,
      BeginRestoreRequest.fromPartial({ targetDevice: target, sizeBytes: BigInt(2 * MIB + 512) }),
    );
    const { messages } = api.stream(RestoreServiceService.listTargetDigests, { restoreId });
    let digests = '';
    for await (const { sha256 } of messages) digests += sha256.toString('hex');
    const wanted = await vm.sh(
      `for part in '0 1048576' '1048576 1048576' '2097152 512'; do set -- $part; dd if=${target} bs=512 skip=$1 count=$2 iflag=skip_bytes,count_bytes status=none | sha256sum | cut -c -64; done`,
    );
    assert.equal(digests, wanted.replaceAll('\n', ''));
    await api.call(RestoreServiceService.abortRestore, { restoreId });
  });

  it('keeps nothing of streams that are given up', async () => {
    const { minor } = await setUp();
    const measure = async (): Promise<{ kib: number; files: number }> => ({
      kib: await memoryKib('VmRSS'),
      files: Number(await vm.sh('ls /proc/$(cat /run/eliod.pid)/fd | wc -l')),
    });
    const cancel = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const { messages, cancel: giveUp } = api.stream(
          DataServiceService.readBlocks,
          ReadBlocksRequest.fromPartial({ minor }),
        );
        await messages.next();
        giveUp();
        await assert.rejects(async () => {
          while ((await messages.next()).done !== true);
        });
      }
    };
    await cancel(20);
    const before = await measure();
    await cancel(rounds(60, 1000));
    await until('no image is open', async () => (await measure()).files <= before.files);
    const after = await measure();
    assert.ok(after.kib < before.kib + 32 * 1024, JSON.stringify([before, after]));
  });
});
