// SPDX-License-Identifier: Apache-2.0
// Every sub-command through a real agent and the real module, and what bad input gets: the right gRPC status with details,
// the exit code of its class, one line that says what to do, and nothing left behind.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  Client,
  credentials,
  Metadata,
  status,
  type ChannelCredentials,
  type ServiceError,
} from '@grpc/grpc-js';
import { fromGrpc } from '../../ctl/src/grpc-errors.js';
import {
  ChangeServiceClient,
  type ListChangedExtentsResponse,
} from '../../proto/gen/elio/v1/change.js';
import { SnapshotServiceClient } from '../../proto/gen/elio/v1/snapshot.js';
import { ErrorInfo } from '../../proto/gen/google/rpc/error_details.js';
import { Status } from '../../proto/gen/google/rpc/status.js';
import { RemoteElioctl } from '../harness/elioctl.js';
import { startAgent, unloadModule } from '../harness/fleet.js';
import { checkCommand } from '../harness/process.js';
import { useFleet } from '../harness/scenario.js';
import type { Vm } from '../harness/vm.js';
import { mountExt4, tests } from './driver.js';

const exit = { failed: 1, usage: 2, notFound: 4, state: 5, unreachable: 6, busy: 7 };

describe('elioctl', () => {
  const fleet = useFleet({
    count: 1,
    disks: [
      { name: 'data', sizeMib: 128 },
      { name: 'other', sizeMib: 64 },
      { name: 'readonly', sizeMib: 32 },
      { name: 'bare', sizeMib: 32 },
    ],
  });
  let vm: Vm;
  let elioctl: RemoteElioctl;
  let data = '';

  /** Runs a command that has to fail with an exit code, and returns the one line that it says. */
  async function refused(exitCode: number, ...words: readonly string[]): Promise<string> {
    const { status: code, stdout, stderr } = await elioctl.run(words);
    const what = `elioctl ${words.join(' ')}: ${stdout}${stderr}`;
    assert.equal(code, exitCode, what);
    assert.equal(stdout, '', what);
    assert.match(stderr, /^elioctl: .+\n$/, what);
    assert.equal(stderr.indexOf('\n'), stderr.length - 1, `more than one line: ${what}`);
    return stderr;
  }

  async function assertNothingLeft(): Promise<void> {
    assert.equal(await elioctl.check('list', '--output', 'json'), '[]\n');
    assert.equal(
      await vm.sh('ls -A /t/data /t/other | grep -v lost+found'),
      '/t/data:\n\n/t/other:\n',
    );
    assert.equal(await vm.sh('ls /dev/elastio-snap* | cat'), '/dev/elastio-snap-ctl\n');
  }

  before(async () => {
    const [host] = fleet().hosts;
    assert.ok(host);
    vm = host.vm;
    elioctl = new RemoteElioctl(host.address, fleet().tls);
    data = vm.disk('data');
    await mountExt4(vm, data, '/t/data');
    await mountExt4(vm, vm.disk('other'), '/t/other');
    await mountExt4(vm, vm.disk('readonly'), '/t/readonly');
    await vm.sh('mount -o remount,ro /t/readonly');
    // A client without a role; made now, so that it is valid by the guest's clock, too, when it is used.
    const ca = fleet().tls.ca;
    const openssl = ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=x'];
    openssl.push('-CA', ca, '-CAkey', certificate('ca.key'));
    openssl.push('-out', certificate('nobody.crt'), '-keyout', certificate('nobody.key'));
    await checkCommand(openssl);
  });

  afterEach(async () => {
    await vm.run(
      `for n in 0 2 3 5; do ${tests}/ioctl-tool destroy $n; done; cd /t/data && rm -rf cow* dir file link mine`,
    );
  });

  function certificate(name: string): string {
    return join(fleet().tls.ca, '..', name);
  }

  describe('sub-commands of the manual page', () => {
    it('take a device through a whole life', async () => {
      assert.equal(await elioctl.check('get-free-minor'), '0\n');
      assert.equal(
        await elioctl.check('setup-snapshot', '-f', '16', '-c', '4', data, '/t/data/cow1', '0'),
        '',
      );
      assert.equal(await elioctl.check('get-free-minor'), '1\n');
      const canonical = (await vm.sh(`readlink -f ${data}`)).trim();
      const text = await elioctl.check('info', '0');
      const info = JSON.parse(text) as Record<string, unknown>;
      assert.deepEqual(Object.keys(info), [
        'minor',
        'cow_file',
        'block_device',
        'max_cache',
        'fallocate',
        'seq_id',
        'uuid',
        'version',
        'nr_changed_blocks',
        'state',
        'ignore_snap_errors',
        'cow_on_bdev',
      ]);
      const { uuid } = info;
      assert.match(String(uuid), /^[0-9a-f]{32}$/);
      assert.deepEqual(
        { ...info, uuid: undefined, nr_changed_blocks: undefined },
        {
          minor: 0,
          cow_file: '/cow1',
          block_device: canonical,
          max_cache: 4 << 20,
          fallocate: 16 << 20,
          seq_id: 1,
          uuid: undefined,
          version: 1,
          nr_changed_blocks: undefined,
          state: 3,
          ignore_snap_errors: 0,
          cow_on_bdev: true,
        },
      );
      assert.match(text, /^\{\n\t"minor": 0,\n\t"cow_file": "\/cow1",\n/);

      await elioctl.check('reconfigure', '-c', '8', '0');
      await elioctl.check('transition-to-incremental', '0');
      await vm.sh('echo changed > /t/data/file && sync');
      await elioctl.check('transition-to-snapshot', '-f', '12', '/t/data/cow2', '0');
      const second = JSON.parse(await elioctl.check('info', '0')) as Record<string, unknown>;
      assert.deepEqual(
        [
          second['seq_id'],
          second['uuid'],
          second['state'],
          second['cow_file'],
          second['max_cache'],
        ],
        [2, uuid, 3, '/cow2', 8 << 20],
      );
      assert.equal(second['fallocate'], 12 << 20);
      assert.match(await elioctl.check('list'), new RegExp(canonical));
      await elioctl.check('destroy', '0');
      await vm.sh('test -s /t/data/cow1 && ! test -e /t/data/cow2 && rm /t/data/cow1 /t/data/file');
      await assertNothingLeft();
    });

    it('announce a device that is mounted later, and say when it is too late', async () => {
      assert.match(
        await refused(exit.state, 'reload-snapshot', data, '/cow', '0'),
        /mounted.*unmount/,
      );
      await elioctl.check('setup-snapshot', data, '/t/data/cow', '0');
      await vm.sh(`umount /t/data && ${unloadModule} && insmod /opt/elio/elastio-snap.ko`);
      await elioctl.check('reload-snapshot', '-c', '7', data, '/cow', '0');
      const announced = JSON.parse(await elioctl.check('info', '0')) as Record<string, unknown>;
      assert.deepEqual(announced, {
        minor: 0,
        cow_file: '/cow',
        block_device: data,
        max_cache: 7 << 20,
        state: 5,
        ignore_snap_errors: 0,
        cow_on_bdev: true,
      });
      assert.match(await elioctl.check('list'), /unverified snapshot/);
      await vm.sh(`mount ${data} /t/data`);
      const active = JSON.parse(await elioctl.check('info', '0')) as Record<string, unknown>;
      assert.deepEqual([active['state'], active['seq_id'], active['error']], [3, 1, undefined]);
      await elioctl.check('destroy', '0');
      await assertNothingLeft();
    });

    it('tell what happens, and give a snapshot a lease', async () => {
      await elioctl.check('setup-snapshot', '--lease', '600', data, '/t/data/cow', '0');
      const leaseOf = async (): Promise<number | undefined> => {
        const list = await elioctl.check('list', '--output', 'json');
        const [only] = JSON.parse(list) as { lease: { duration_seconds: number } | null }[];
        return only?.lease?.duration_seconds;
      };
      assert.equal(await leaseOf(), 600);
      assert.match(
        await elioctl.check('renew-lease', '--dry-run', '--lease', '7200', '0'),
        /have a lease that ends 2 h after it was last used/,
      );
      await elioctl.check('renew-lease', '0');
      assert.equal(await leaseOf(), 600);
      await elioctl.check('renew-lease', '--lease', '0', '0');
      assert.equal(await leaseOf(), undefined);
      const first = await elioctl.check('events', '--count', '1', '--output', 'json');
      const event = JSON.parse(first) as Record<string, unknown>;
      assert.deepEqual(
        [event['event'], event['from'], event['to'], event['minor']],
        ['state_changed', 'none', 'snapshot', 0],
      );
      await elioctl.check('transition-to-incremental', '0');
      const token = String(event['resume_token']);
      const next = await elioctl.check('events', '--count', '1', '--resume-token', token);
      assert.match(next, /^20\S+Z \S+ 0 \/dev\/\S+ state: snapshot -> incremental\n$/);
      assert.match(await refused(exit.state, 'renew-lease', '0'), /snapshot/);
      assert.match(
        await refused(exit.usage, 'events', '--resume-token', 'other.1'),
        /begin anew|without a token/,
      );
      await elioctl.check('destroy', '0');
      await assertNothingLeft();
    });

    it('show what ignoring errors is set to', async () => {
      await elioctl.check('setup-snapshot', '-i', data, '/t/data/cow', '3');
      const info = JSON.parse(await elioctl.check('info', '3')) as Record<string, unknown>;
      assert.equal(info['ignore_snap_errors'], 1);
      assert.equal(info['max_cache'], 314572800);
      await elioctl.check('destroy', '3');
      await assertNothingLeft();
    });

    it('work on the host itself, over the unix socket', async () => {
      assert.equal(await vm.sh(`cd /t/data && elioctl setup-snapshot ${data} cow 5`), '');
      assert.match(await vm.sh('elioctl list'), /\/cow/);
      await vm.sh('elioctl destroy 5');
      await assertNothingLeft();
    });

    it('tell what can be written past a device, and that the module is missing', async () => {
      const stacked = `modprobe loop; truncate -s 16M /tmp/file && losetup /dev/loop0 /tmp/file && mkfs.ext4 -q /dev/loop0 && mkdir /loop && mount /dev/loop0 /loop`;
      await vm.sh(stacked);
      assert.match(
        await elioctl.check('doctor'),
        /note +\/dev\/loop0 +it is made of \/tmp\/file: what is written there, and not through \/dev\/loop0, is not seen/,
      );
      await vm.sh(`umount /loop && losetup -d /dev/loop0 && ${unloadModule}`);
      const { status: code, stdout, stderr } = await elioctl.run(['doctor']);
      assert.equal(code, exit.failed);
      assert.match(stdout, /wrong +kernel module +not loaded/);
      assert.match(stderr, /^elioctl: something is wrong: kernel module/);
      await vm.sh('insmod /opt/elio/elastio-snap.ko');
    });

    it('update an image without an agent', async () => {
      const extents = (name: string): Promise<string> =>
        vm.sh(`${tests}/imagecheck extents /t/data/${name} > /tmp/${name}`);
      await elioctl.check('setup-snapshot', '-f', '16', data, '/t/data/cow1', '0');
      await extents('cow1');
      await vm.sh('cp --sparse=never /dev/elastio-snap0 /t/image', { timeoutMs: 300_000 });
      await elioctl.check('transition-to-incremental', '0');
      await vm.sh('head -c 3M /dev/urandom > /t/data/file && sync');
      await elioctl.check('transition-to-snapshot', '-f', '16', '/t/data/cow2', '0');
      await extents('cow2');
      const output = await vm.sh('update-img /dev/elastio-snap0 /t/data/cow1 /t/image');
      assert.match(output, /\b0 errors/);
      // Each image hides its own COW file; everything else is the same.
      await vm.sh(`${tests}/imagecheck same /dev/elastio-snap0 /t/image /tmp/cow1 /tmp/cow2`);
      await vm.sh('e2fsck -fn /t/image && modprobe loop && mount -o ro,loop /t/image /mnt');
      await vm.sh('cmp /mnt/file /t/data/file && umount /mnt');
      const wrong = await vm.run('update-img /dev/elastio-snap0 /t/data/file /t/image');
      assert.equal(wrong.status, 1);
      assert.match(wrong.stderr, /^update-img: .+\n$/);
      await elioctl.check('destroy', '0');
      await vm.sh('rm /t/image /t/data/cow1 /t/data/file');
      await assertNothingLeft();
    });
  });

  describe('bad input', () => {
    it('is refused before anything exists', async () => {
      await vm.sh('mkdir /t/data/dir && echo mine > /t/data/mine && ln -s mine /t/data/link');
      const cow = '/t/data/cow';
      const cases: [number, RegExp, ...string[]][] = [
        [exit.notFound, /no snapshot 7/, 'info', '7'],
        [exit.notFound, /no snapshot 7/, 'destroy', '7'],
        [exit.notFound, /no snapshot 7/, 'transition-to-incremental', '7'],
        [exit.notFound, /no snapshot 7/, 'transition-to-snapshot', cow, '7'],
        [exit.notFound, /no snapshot 7/, 'reconfigure', '-c', '10', '7'],
        [exit.usage, /minor 200 is out of range/, 'info', '200'],
        [exit.usage, /decimal number/, 'info', '0x7'],
        [exit.usage, /minor/, 'info'],
        [exit.usage, /MiB, not bytes/, 'setup-snapshot', '-c', '314572800', data, cow, '0'],
        [exit.notFound, /does not exist/, 'setup-snapshot', '/dev/missing', cow, '0'],
        [exit.usage, /not a block device/, 'setup-snapshot', '/t/data/mine', cow, '0'],
        [exit.usage, /not mounted/, 'setup-snapshot', vm.disk('bare'), cow, '0'],
        [exit.usage, /read-only/, 'setup-snapshot', vm.disk('readonly'), '/t/readonly/cow', '0'],
        [exit.usage, /is a directory/, 'setup-snapshot', data, '/t/data/dir', '0'],
        [exit.usage, /is not on/, 'setup-snapshot', data, '/t/other/cow', '0'],
        [exit.usage, /symbolic link/, 'setup-snapshot', data, '/t/data/link', '0'],
        [exit.state, /not touched/, 'setup-snapshot', data, '/t/data/mine', '0'],
        [exit.notFound, /does not exist/, 'setup-snapshot', data, '/t/data/no/cow', '0'],
        [exit.failed, /no space/, 'setup-snapshot', '-f', '4G', data, cow, '0'],
        [exit.usage, /at least \d+ MiB/, 'setup-snapshot', '-f', '1', data, cow, '0'],
        [exit.usage, /path/, 'setup-snapshot', data, `/t/data/${'x'.repeat(5000)}`, '0'],
        [exit.usage, /too long/, 'setup-snapshot', data, `/t/data/${'x'.repeat(4000)}`, '0'],
        [exit.usage, /absolute/, 'setup-snapshot', data, 'cow', '0'],
      ];
      for (const [code, message, ...words] of cases)
        assert.match(await refused(code, ...words), message);
      assert.equal(await vm.sh('cat /t/data/mine'), 'mine\n');
      await vm.sh('rm -r /t/data/dir /t/data/mine /t/data/link');
      await assertNothingLeft();
    });

    it('is refused while a tracker exists, which goes on', async () => {
      await elioctl.check('setup-snapshot', data, '/t/data/cow', '2');
      const other = vm.disk('other');
      assert.match(
        await refused(exit.state, 'setup-snapshot', other, '/t/other/cow', '2'),
        /minor 2 is in use/,
      );
      assert.match(
        await refused(exit.usage, 'setup-snapshot', data, '/t/data/cow2', '3'),
        /tracked already/,
      );
      assert.match(
        await refused(exit.state, 'transition-to-snapshot', '/t/data/cow2', '2'),
        /incremental mode/,
      );
      await vm.sh(
        'exec 9< /dev/elastio-snap2; sleep 600 < /dev/null > /dev/null 2>&1 & echo $! > /run/holder',
      );
      assert.match(await refused(exit.busy, 'destroy', '2'), /in use .*process/);
      await vm.sh('kill $(cat /run/holder)');
      await elioctl.check('transition-to-incremental', '2');
      assert.match(await refused(exit.state, 'transition-to-incremental', '2'), /snapshot mode/);
      const transitions: [RegExp, ...string[]][] = [
        [/is not on .* below \/t\/data/, '/t/other/cow', '2'],
        [/at least \d+ MiB/, '-f', '1', '/t/data/cow2', '2'],
      ];
      for (const [message, ...words] of transitions) {
        for (const how of [[], ['--dry-run']])
          assert.match(
            await refused(exit.usage, 'transition-to-snapshot', ...how, ...words),
            message,
          );
      }
      assert.match(await elioctl.check('info', '2'), /"state": 2,/);
      await elioctl.check('destroy', '2');
      await assertNothingLeft();
    });

    it('has a gRPC status with reason, ioctl and errno', async () => {
      const { ca, cert, key } = fleet().tls;
      const client = new SnapshotServiceClient(
        elioctl.address,
        credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(cert)),
      );
      const error = await new Promise<ServiceError | null>((resolve) => {
        client.destroySnapshot({ minor: 9, requestId: '' }, resolve);
      });
      client.close();
      assert.ok(error);
      assert.equal(error.code, status.NOT_FOUND);
      const [bytes] = error.metadata.get('grpc-status-details-bin');
      assert.ok(Buffer.isBuffer(bytes));
      const [detail] = Status.decode(bytes).details;
      assert.ok(detail);
      const { reason, domain, metadata } = ErrorInfo.decode(detail.value);
      assert.deepEqual(
        { reason, domain, metadata },
        {
          reason: 'NO_SUCH_TRACKER',
          domain: 'elio',
          metadata: { ioctl: 'INFO', errno: 'ENOENT', minor: '9' },
        },
      );
    });
  });

  describe('what controllers call', () => {
    function channel(): ChannelCredentials {
      const { ca, cert, key } = fleet().tls;
      return credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(cert));
    }

    it('streams the extents that changed between two snapshots', async () => {
      await elioctl.check('setup-snapshot', '-f', '16', data, '/t/data/cow1', '0');
      const [before] = JSON.parse(await elioctl.check('list', '--output', 'json')) as {
        cookie: { uuid: string; seq_id: number; nonce: string };
      }[];
      assert.ok(before);
      await elioctl.check('transition-to-incremental', '0');
      await vm.sh(
        'dd if=/dev/urandom of=/t/data/file bs=1M count=2 oflag=direct status=none; sync',
      );
      await vm.sh(`${tests}/imagecheck extents /t/data/file > /tmp/file`);
      await elioctl.check('transition-to-snapshot', '-f', '16', '/t/data/cow2', '0');
      const client = new ChangeServiceClient(elioctl.address, channel());
      const { uuid, seq_id: seqId, nonce } = before.cookie;
      const call = client.listChangedExtents({
        minor: 0,
        since: { uuid, seqId: BigInt(seqId), nonce },
        startingOffsetBytes: 0n,
        maxResults: 3,
      });
      const changed: [number, number][] = [];
      for await (const message of call as AsyncIterable<ListChangedExtentsResponse>) {
        assert.ok(message.extents.length <= 3);
        assert.equal(message.volumeSizeBytes, 128n << 20n);
        assert.equal(message.cookie?.seqId, 2n);
        for (const { offsetBytes, lengthBytes } of message.extents) {
          const [last = 0, length = 0] = changed.at(-1) ?? [];
          assert.ok(Number(offsetBytes) >= last + length, 'ascending, not overlapping');
          changed.push([Number(offsetBytes), Number(lengthBytes)]);
        }
      }
      client.close();
      const written = (await vm.sh('cat /tmp/file')).trim().split('\n');
      for (const line of written) {
        const [first = NaN, count = NaN] = line.split(' ').map((n) => Number(n) * 512);
        const covered = changed.some(([at, n]) => at <= first && first + count <= at + n);
        assert.ok(covered, line);
      }
      await elioctl.check('destroy', '0');
      await vm.sh('rm /t/data/cow1 /t/data/file');
      await assertNothingLeft();
    });

    it('answers health checks, and tells its API by reflection', async () => {
      const client = new Client(elioctl.address, channel());
      const asIs = (bytes: Buffer): Buffer => bytes;
      const health = await new Promise<Buffer | undefined>((resolve) => {
        const path = '/grpc.health.v1.Health/Check';
        client.makeUnaryRequest(path, asIs, asIs, Buffer.alloc(0), (_, answer) => {
          resolve(answer);
        });
      });
      // Field 1, status: 1 = SERVING.
      assert.deepEqual(health, Buffer.from([8, 1]));
      const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
      const call = client.makeBidiStreamRequest(path, asIs, asIs);
      // Field 7, list_services, of any content.
      call.end(Buffer.from([0x3a, 0]));
      let services = '';
      for await (const answer of call as AsyncIterable<Buffer>)
        services += answer.toString('latin1');
      client.close();
      for (const name of ['Snapshot', 'Host', 'Change', 'Data', 'Restore'])
        assert.ok(services.includes(`elio.v1.${name}Service`), name);
    });
  });

  describe('who may', () => {
    /** The reason with which a call is refused, '' when it succeeds, 'none' when it does not reach the agent. */
    async function reasonFor(channel: ChannelCredentials): Promise<string> {
      const client = new SnapshotServiceClient(elioctl.address, channel);
      const error = await new Promise<ServiceError | null>((resolve) => {
        const options = { deadline: Date.now() + 30_000 };
        client.destroySnapshot({ minor: 9, requestId: '' }, new Metadata(), options, resolve);
      });
      client.close();
      if (!error) return '';
      if (error.code === status.UNAVAILABLE) return 'none';
      return fromGrpc(error, 'the agent').reason;
    }

    function channelOf(ca: string, name?: string): ChannelCredentials {
      return name === undefined
        ? credentials.createSsl(readFileSync(ca))
        : credentials.createSsl(
            readFileSync(ca),
            readFileSync(certificate(`${name}.key`)),
            readFileSync(certificate(`${name}.crt`)),
          );
    }

    it('is decided by the role in the certificate', async () => {
      const ca = fleet().tls.ca;
      assert.equal(await reasonFor(channelOf(ca, 'admin')), 'NO_SUCH_TRACKER');
      assert.equal(await reasonFor(channelOf(ca, 'operator')), 'NO_SUCH_TRACKER');
      assert.equal(await reasonFor(channelOf(ca, 'viewer')), 'ROLE_TOO_LOW');
      assert.equal(await reasonFor(channelOf(ca, 'nobody')), 'NO_ROLE');
      // The agent's own certificate is none of a client.
      assert.equal(await reasonFor(channelOf(ca, 'elio-1')), 'none');
      assert.equal(await reasonFor(channelOf(ca)), 'none');
      assert.equal(await reasonFor(credentials.createInsecure()), 'none');
    });

    it('is told in one line', async () => {
      const tls = {
        ...fleet().tls,
        cert: certificate('viewer.crt'),
        key: certificate('viewer.key'),
      };
      const viewer = new RemoteElioctl(elioctl.address, tls);
      const { status: code, stderr } = await viewer.run(['destroy', '0']);
      assert.equal(code, exit.unreachable);
      assert.match(stderr, /^elioctl: .*role viewer.*\n$/);
      assert.equal((await viewer.run(['list'])).status, 0);
    });

    it('has to be of the same CA', async () => {
      const foreign = join(fleet().tls.ca, '..', 'foreign');
      await elioctl.check('certs', '--out', foreign);
      const tls = {
        ca: fleet().tls.ca,
        cert: join(foreign, 'admin.crt'),
        key: join(foreign, 'admin.key'),
      };
      const stranger = new RemoteElioctl(elioctl.address, tls);
      const { status: code, stderr } = await stranger.run(['list']);
      assert.equal(code, exit.unreachable);
      assert.match(stderr, /^elioctl: .*(trust|certificate).*\n$/);
    });

    it('needs the group elio on the unix socket', async () => {
      await vm.sh('getent group elio || groupadd -r elio');
      await vm.sh(
        'kill $(cat /run/eliod.pid); while kill -0 $(cat /run/eliod.pid); do sleep 0.2; done 2> /dev/null',
      );
      await startAgent(vm);
      const asNobody = 'setpriv --reuid nobody --regid nogroup';
      const outsider = await vm.run(`${asNobody} --clear-groups elioctl list`);
      assert.equal(outsider.status, exit.unreachable);
      assert.match(outsider.stderr, /^elioctl: .*\n$/);
      await vm.sh(`${asNobody} --groups elio elioctl list`);
    });
  });

  describe('without module or agent', () => {
    it('says which of them is missing', async () => {
      await vm.sh(unloadModule);
      assert.match(await refused(exit.unreachable, 'list'), /module is not loaded.*modprobe/);
      await vm.sh('insmod /opt/elio/elastio-snap.ko');
      await assertNothingLeft();
      await vm.sh(
        'kill $(cat /run/eliod.pid); while kill -0 $(cat /run/eliod.pid); do sleep 0.2; done 2> /dev/null',
      );
      assert.match(await refused(exit.unreachable, 'list'), /is eliod running/);
      const local = await vm.run('elioctl list');
      assert.equal(local.status, exit.unreachable);
      assert.match(local.stderr, /^elioctl: .*is eliod running.*\n$/);
      await startAgent(vm);
      await assertNothingLeft();
    });
  });
});
