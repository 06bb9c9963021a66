// SPDX-License-Identifier: Apache-2.0
// Backups of what the filesystem has allocated: a target that had something else on it before is whole all the same.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import {
  ChangeServiceService,
  ListAllocatedExtentsRequest,
} from '../../proto/gen/elio/v1/change.js';
import {
  DataServiceService,
  ReadBlocksRequest,
  type ReadBlocksHeader,
} from '../../proto/gen/elio/v1/data.js';
import { SetupSnapshotRequest, SnapshotServiceService } from '../../proto/gen/elio/v1/snapshot.js';
import type { Cookie, Extent, Snapshot } from '../../proto/gen/elio/v1/types.js';
import { piecesIn } from '../../agent/src/services/stream-pieces.js';
import { Api, ApiError } from '../harness/api.js';
import { useFleet } from '../harness/scenario.js';
import type { Vm } from '../harness/vm.js';
import { mountExt4, mountXfs } from './driver.js';

const MIB = 1024 * 1024;
const sizeMib = 128;

/** A part of a volume: with its data, or without them because they are all zero or were skipped. */
interface Part {
  kind: 'data' | 'hole' | 'skipped';
  offset: number;
  length: number;
  data: Buffer;
}

interface Backup {
  header: ReadBlocksHeader;
  parts: Part[];
}

describe('what is allocated', () => {
  const fleet = useFleet({
    count: 1,
    disks: [
      { name: 'origin', sizeMib },
      { name: 'target', sizeMib },
    ],
  });
  let vm: Vm;
  let api: Api;
  let directory = '';
  let origin = '';
  let target = '';

  before(async () => {
    const [only] = fleet().hosts;
    assert.ok(only);
    vm = only.vm;
    api = new Api(only, fleet().tls);
    directory = await mkdtemp(join(tmpdir(), 'elio-allocated-'));
    origin = (await vm.sh(`readlink -f ${vm.disk('origin')}`)).trim();
    target = vm.disk('target');
  });
  after(async () => {
    api.close();
    await rm(directory, { recursive: true, force: true });
  });
  afterEach(async () => {
    const { snapshots } = await api.call(SnapshotServiceService.listSnapshots, {
      pageSize: 0,
      pageToken: '',
    });
    for (const { minor } of snapshots)
      await api.call(SnapshotServiceService.destroySnapshot, { minor, requestId: '' });
    await vm.run('umount /r; umount /t');
  });

  async function setUp(): Promise<Snapshot> {
    const request = SetupSnapshotRequest.fromPartial({
      blockDevice: origin,
      cowFile: '/t/cow1',
      cowSizeBytes: BigInt(12 * MIB),
    });
    const { snapshot } = await api.call(SnapshotServiceService.setupSnapshot, request);
    assert.ok(snapshot);
    return snapshot;
  }

  async function allocatedExtents(minor: number): Promise<Extent[]> {
    // Several messages, whatever there is.
    const request = ListAllocatedExtentsRequest.fromPartial({ minor, maxResults: 5 });
    const { messages } = api.stream(ChangeServiceService.listAllocatedExtents, request);
    const extents: Extent[] = [];
    for await (const message of messages) {
      assert.equal(message.volumeSizeBytes, BigInt(sizeMib * MIB));
      assert.ok(message.extents.length <= 5);
      extents.push(...message.extents);
    }
    return extents;
  }

  async function read(minor: number, since?: Cookie): Promise<Backup> {
    const request = ReadBlocksRequest.fromPartial({
      minor,
      allocatedOnly: true,
      ...(since && { since }),
    });
    const { messages } = api.stream(DataServiceService.readBlocks, request);
    let header: ReadBlocksHeader | undefined;
    const parts: Part[] = [];
    for await (const { content } of messages) {
      assert.ok(content);
      if (content.$case === 'header') {
        header = content.value;
        continue;
      }
      for (const piece of piecesIn(content)) {
        const data = piece.kind === 'data' ? piece.data : Buffer.alloc(0);
        const length = piece.kind === 'data' ? data.length : piece.length;
        parts.push({ kind: piece.kind, offset: piece.offset, length, data });
      }
    }
    assert.ok(header);
    let end = 0;
    for (const { offset, length } of parts) {
      assert.ok(offset >= end, `${offset} comes after ${end}`);
      end = offset + length;
    }
    const sum = (of: readonly Part[]): number => of.reduce((all, { length }) => all + length, 0);
    assert.equal(sum(parts), Number(header.totalBytes));
    assert.equal(sum(parts.filter(({ kind }) => kind === 'skipped')), Number(header.skippedBytes));
    return { header, parts };
  }

  /** Writes data and holes to the target; what was skipped stays as it is there. */
  async function restore({ parts }: Backup): Promise<void> {
    const file = join(directory, 'data');
    await writeFile(file, Buffer.concat(parts.map(({ data }) => data)));
    await vm.put(file, '/tmp/data');
    const commands: string[] = [];
    let at = 0;
    for (const { kind, offset, length, data } of parts) {
      const source = kind === 'data' ? `/tmp/data skip=${at}` : '/dev/zero';
      at += data.length;
      if (kind === 'skipped') continue;
      commands.push(
        `dd if=${source} of=${target} seek=${offset} count=${length} bs=1M iflag=skip_bytes,count_bytes,fullblock oflag=seek_bytes conv=notrunc status=none`,
      );
    }
    await vm.sh('cat > /tmp/restore', { stdin: `set -e\n${commands.join('\n')}\nsync\n` });
    await vm.sh(`sh /tmp/restore && blockdev --flushbufs ${target} && rm /tmp/data`);
  }

  /** Makes files, deletes some of them, and notes the sums of those that stay. */
  async function write(name: string): Promise<void> {
    await vm.sh(`set -e; cd /t; mkdir ${name}; cp -r /etc ${name}/kept
      for n in $(seq 10); do head -c ${1 + name.length}M /dev/urandom > ${name}/gone$n; test $((n % 4)) != 0 || sync; rm ${name}/gone$n; done
      for n in $(seq 40); do head -c $((n * 5000)) /dev/urandom > ${name}/file$n; done
      sync; for n in $(seq 1 3 40); do rm ${name}/file$n; done
      fallocate -l 3M ${name}/reserved; head -c 30000 /dev/urandom >> ${name}/file2
      find . -type f ! -name 'cow*' ! -name '.elio*' | sort | xargs sha256sum > /tmp/sums`);
  }

  const forms = [
    {
      name: 'ext4',
      make: () => mountExt4(vm, origin, '/t'),
      mount: 'mount -o ro',
      fsck: () => `e2fsck -fn ${target}`,
    },
    {
      name: 'ext4 with blocks of 1 KiB and clusters',
      make: () => mountExt4(vm, origin, '/t', '-b 1024 -O bigalloc -C 16384'),
      mount: 'mount -o ro',
      fsck: () => `e2fsck -fn ${target}`,
    },
    {
      name: 'XFS',
      make: () => mountXfs(vm, origin, '/t'),
      mount: 'mount -o ro,norecovery,nouuid',
      // Its log has the records of the freeze.
      fsck: () => `mount -o nouuid ${target} /r && umount /r && xfs_repair -n ${target}`,
    },
  ];
  for (const { name, make, mount, fsck } of forms) {
    it(`${name}: a full and an incremental of it restore over something else`, async () => {
      await vm.sh('mkdir -p /r');
      await make();
      await write('first');
      const { minor, cookie } = await setUp();
      assert.ok(cookie);
      // What the image must not have.
      await vm.sh('rm -r /t/first/kept && head -c 3M /dev/urandom > /t/later && sync');

      const extents = await allocatedExtents(minor);
      const full = await read(minor);
      assert.equal(full.header.allocatedUnknownReason, '');
      assert.ok(full.header.allocatedKnown);
      assert.equal(full.header.totalBytes, BigInt(sizeMib * MIB));
      const skipped = full.parts.filter(({ kind }) => kind === 'skipped');
      assert.ok(full.header.skippedBytes > BigInt(32 * MIB), String(full.header.skippedBytes));
      for (const { offset, length } of skipped) {
        const inside = extents.find(
          (e) =>
            Number(e.offsetBytes) < offset + length &&
            Number(e.offsetBytes + e.lengthBytes) > offset,
        );
        assert.equal(inside, undefined, `byte ${offset}`);
      }
      await vm.sh(`dd if=/dev/urandom of=${target} bs=1M count=${sizeMib} status=none`);
      const noise = await vm.sh(
        `dd if=${target} bs=4096 count=1 iflag=skip_bytes skip=${skipped[0]?.offset ?? 0} status=none | sha256sum`,
      );
      await restore(full);
      assert.equal(
        await vm.sh(
          `dd if=${target} bs=4096 count=1 iflag=skip_bytes skip=${skipped[0]?.offset ?? 0} status=none | sha256sum`,
        ),
        noise,
      );
      await vm.sh(
        `${mount} ${target} /r && cd /r && sha256sum --quiet -c /tmp/sums && cd / && umount /r`,
      );

      await api.call(SnapshotServiceService.transitionToIncremental, { minor, requestId: '' });
      await write('second');
      await api.call(SnapshotServiceService.transitionToSnapshot, {
        minor,
        cowFile: '/t/cow2',
        cowSizeBytes: BigInt(12 * MIB),
        requestId: '',
        leaseSeconds: 0,
      });
      const increment = await read(minor, cookie);
      assert.ok(increment.header.allocatedKnown, increment.header.allocatedUnknownReason);
      assert.ok(increment.header.skippedBytes > 0n);
      assert.ok(increment.header.totalBytes < full.header.totalBytes);
      await restore(increment);
      await vm.sh(
        `${mount} ${target} /r && cd /r && sha256sum --quiet -c /tmp/sums && cd / && umount /r`,
      );
      await vm.sh(fsck());
    });
  }

  it('is all of it, with the reason, where the filesystem cannot tell', async () => {
    await mountExt4(vm, origin, '/t', '-O ^has_journal');
    const { minor } = await setUp();
    const { header, parts } = await read(minor);
    assert.ok(!header.allocatedKnown);
    assert.match(header.allocatedUnknownReason, /without a journal/);
    assert.equal(header.totalBytes, BigInt(sizeMib * MIB));
    assert.equal(header.skippedBytes, 0n);
    assert.ok(parts.every(({ kind }) => kind !== 'skipped'));
    await assert.rejects(allocatedExtents(minor), (error: unknown) => {
      assert.ok(error instanceof ApiError);
      assert.deepEqual(
        [error.code, error.reason],
        [status.FAILED_PRECONDITION, 'ALLOCATED_UNKNOWN'],
      );
      return true;
    });
  });
});
