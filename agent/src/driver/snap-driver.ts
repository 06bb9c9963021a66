// SPDX-License-Identifier: Apache-2.0
import { open, readFile } from 'node:fs/promises';
import koffi from 'koffi';
import { RunList } from '../changes/run-list.js';
import { ioctl, SystemError } from '../os/ioctl.js';
import { Semaphore } from '../os/semaphore.js';
import {
  CAP_CHANGES,
  CHANGED,
  CHANGES,
  CHANGES_MAX,
  CONTROL_PATH,
  INFO,
  IOCTL,
  PATH_MAX,
  reconfigureParams,
  reloadParams,
  setupParams,
  TRACKERS_PATH,
  transitionParams,
  VERSION,
  type IoctlName,
} from './layout.js';

/** What ELASTIO_SNAP_INFO tells. Sizes are bytes. */
export interface TrackerInfo {
  minor: number;
  flags: number;
  state: bigint;
  error: number;
  cacheSizeBytes: bigint;
  cowSizeBytes: bigint;
  seqId: bigint;
  uuid: string;
  /** From the root of the origin's filesystem. */
  cowFile: string;
  blockDevice: string;
  version: bigint;
  nrChangedBlocks: bigint;
  ignoreErrors: boolean;
}

export interface ReloadParameters {
  blockDevice: string;
  cowFile: string;
  minor: number;
  cacheSizeBytes: bigint;
  ignoreErrors: boolean;
}

export interface SetupParameters extends ReloadParameters {
  cowSizeMib: bigint;
}

/** The driver's ioctls, one method each. Rejects with IoctlError. */
export interface SnapDriver {
  setup(parameters: SetupParameters): Promise<void>;
  reload(name: 'RELOAD_SNAP' | 'RELOAD_INC', parameters: ReloadParameters): Promise<void>;
  transitionToIncremental(minor: number): Promise<void>;
  transitionToSnapshot(minor: number, cowFile: string, cowSizeMib: bigint): Promise<void>;
  destroy(minor: number): Promise<void>;
  reconfigure(minor: number, cacheSizeBytes: bigint): Promise<void>;
  info(minor: number): Promise<TrackerInfo>;
  /** Those of all trackers, ascending. */
  minors(): Promise<number[]>;
  freeMinor(): Promise<number>;
  /**
   * Blocks that have changed since snapshot `seqId` of tracker `uuid`, ascending: the current snapshot, or, while that is
   * in snapshot mode, the one before it. ESTALE when the driver does not know them (any more).
   */
  changedBlocks(minor: number, uuid: string, seqId: bigint): Promise<RunList>;
  /** What the module can do beyond the ioctls that its predecessors have: "change-map". */
  capabilities(): Promise<string[]>;
}

/** An ioctl that failed; `code` is the errno's name. */
export class IoctlError extends Error {
  constructor(
    readonly ioctlName: IoctlName,
    readonly code: string,
  ) {
    super(`${ioctlName}: ${code}`);
    this.name = 'IoctlError';
  }
}

/** The control device is not there: the module is not loaded. */
export class ModuleNotLoadedError extends Error {}

const UINT32_MAX = 0xffffffff;
const UINT64_MAX = (1n << 64n) - 1n;

// koffi wraps numbers that are out of range, and silently so.
function uint32(value: number, name: string): number {
  if (!Number.isInteger(value) || value < 0 || value > UINT32_MAX) {
    throw new RangeError(`${name} ${String(value)} is not an unsigned 32-bit number`);
  }
  return value;
}

function uint64(value: bigint, name: string): bigint {
  if (value < 0n || value > UINT64_MAX) {
    throw new RangeError(`${name} ${String(value)} is not an unsigned 64-bit number`);
  }
  return value;
}

function cString(value: string, name: string): string {
  if (value.includes('\0')) throw new RangeError(`${name} holds a NUL character`);
  return value;
}

function text(buffer: Buffer, offset: number): string {
  const end = buffer.indexOf(0, offset);
  return buffer.toString(
    'utf8',
    offset,
    Math.min(end < 0 ? buffer.length : end, offset + PATH_MAX),
  );
}

function parseInfo(b: Buffer): TrackerInfo {
  return {
    minor: b.readUInt32LE(INFO.minor),
    flags: b.readUInt32LE(INFO.flags),
    state: b.readBigUInt64LE(INFO.state),
    error: b.readInt32LE(INFO.error),
    cacheSizeBytes: b.readBigUInt64LE(INFO.cache_size),
    cowSizeBytes: b.readBigUInt64LE(INFO.cow_size),
    seqId: b.readBigUInt64LE(INFO.seqid),
    uuid: b.toString('hex', INFO.uuid, INFO.uuid + 16),
    cowFile: text(b, INFO.cow),
    blockDevice: text(b, INFO.bdev),
    version: b.readBigUInt64LE(INFO.version),
    nrChangedBlocks: b.readBigUInt64LE(INFO.nr_changed_blocks),
    ignoreErrors: b.readUInt8(INFO.ignore_errors) !== 0,
  };
}

/** Runs an ioctl of the driver. Rejects with IoctlError or ModuleNotLoadedError. */
type RunIoctl = (name: IoctlName, arg: unknown) => Promise<void>;

/** Through the control device, opened for each call as the driver's own library does. */
async function runIoctl(name: IoctlName, arg: unknown): Promise<void> {
  const control = await open(CONTROL_PATH, 'r').catch((error: unknown) => {
    throw new ModuleNotLoadedError(`cannot open ${CONTROL_PATH}`, { cause: error });
  });
  try {
    await ioctl(control.fd, IOCTL[name], arg, name);
  } catch (error) {
    if (error instanceof SystemError) throw new IoctlError(name, error.code);
    throw error;
  } finally {
    await control.close();
  }
}

/** The driver answers these at once, whatever else it does. */
const LOOKS: readonly IoctlName[] = ['INFO', 'GET_FREE', 'VERSION'];

/** The driver of this host's kernel. */
export class KernelSnapDriver implements SnapDriver {
  // Each call takes a thread of the pool: what changes something, or waits for that, for as long as a freeze takes.
  private readonly changing = new Semaphore(2);
  private readonly looking = new Semaphore(2);

  constructor(private readonly run: RunIoctl = runIoctl) {}

  private call(name: IoctlName, arg: unknown): Promise<void> {
    const slots = LOOKS.includes(name) ? this.looking : this.changing;
    return slots.run(() => this.run(name, arg));
  }

  private callMinor(name: IoctlName, minor: number): Promise<void> {
    const arg = Buffer.alloc(4);
    arg.writeUInt32LE(uint32(minor, 'minor'));
    return this.call(name, arg);
  }

  setup(p: SetupParameters): Promise<void> {
    const arg = {
      bdev: cString(p.blockDevice, 'block device'),
      cow: cString(p.cowFile, 'COW file'),
      cow_size_mib: uint64(p.cowSizeMib, 'COW size'),
      cache_size: uint64(p.cacheSizeBytes, 'cache size'),
      minor: uint32(p.minor, 'minor'),
      ignore_errors: p.ignoreErrors ? 1 : 0,
    };
    return this.call('SETUP_SNAP', koffi.as(arg, koffi.pointer(setupParams)));
  }

  reload(name: 'RELOAD_SNAP' | 'RELOAD_INC', p: ReloadParameters): Promise<void> {
    const arg = {
      bdev: cString(p.blockDevice, 'block device'),
      cow: cString(p.cowFile, 'COW file'),
      cache_size: uint64(p.cacheSizeBytes, 'cache size'),
      minor: uint32(p.minor, 'minor'),
      ignore_errors: p.ignoreErrors ? 1 : 0,
    };
    return this.call(name, koffi.as(arg, koffi.pointer(reloadParams)));
  }

  transitionToIncremental(minor: number): Promise<void> {
    return this.callMinor('TRANSITION_INC', minor);
  }

  transitionToSnapshot(minor: number, cowFile: string, cowSizeMib: bigint): Promise<void> {
    const arg = {
      cow: cString(cowFile, 'COW file'),
      cow_size_mib: uint64(cowSizeMib, 'COW size'),
      minor: uint32(minor, 'minor'),
    };
    return this.call('TRANSITION_SNAP', koffi.as(arg, koffi.pointer(transitionParams)));
  }

  destroy(minor: number): Promise<void> {
    return this.callMinor('DESTROY', minor);
  }

  reconfigure(minor: number, cacheSizeBytes: bigint): Promise<void> {
    const arg = {
      cache_size: uint64(cacheSizeBytes, 'cache size'),
      minor: uint32(minor, 'minor'),
    };
    return this.call('RECONFIGURE', koffi.as(arg, koffi.pointer(reconfigureParams)));
  }

  async info(minor: number): Promise<TrackerInfo> {
    const arg = Buffer.alloc(INFO.size);
    arg.writeUInt32LE(uint32(minor, 'minor'));
    await this.call('INFO', arg);
    return parseInfo(arg);
  }

  async minors(): Promise<number[]> {
    const json = await readFile(TRACKERS_PATH, 'utf8').catch((error: unknown) => {
      throw new ModuleNotLoadedError(`cannot read ${TRACKERS_PATH}`, { cause: error });
    });
    const { devices } = JSON.parse(json) as { devices: { minor: number }[] };
    return devices.map(({ minor }) => minor);
  }

  async freeMinor(): Promise<number> {
    const arg = Buffer.alloc(4);
    await this.call('GET_FREE', arg);
    return arg.readInt32LE();
  }

  async capabilities(): Promise<string[]> {
    const arg = Buffer.alloc(VERSION.size);
    await this.call('VERSION', arg);
    const bits = arg.readBigUInt64LE(VERSION.capabilities);
    return (bits & CAP_CHANGES) === 0n ? [] : ['change-map'];
  }

  async changedBlocks(minor: number, uuid: string, seqId: bigint): Promise<RunList> {
    const runs = new RunList();
    const extents = Buffer.alloc(CHANGES_MAX * CHANGED.size);
    const arg = Buffer.alloc(CHANGES.size);
    arg.write(uuid, CHANGES.uuid, 'hex');
    arg.writeBigUInt64LE(uint64(seqId, 'seq_id'), CHANGES.seqid);
    arg.writeBigUInt64LE(koffi.address(extents), CHANGES.extents);
    arg.writeUInt32LE(CHANGES_MAX, CHANGES.max_extents);
    arg.writeUInt32LE(uint32(minor, 'minor'), CHANGES.minor);
    do {
      await this.call('CHANGES', arg);
      const end = arg.readUInt32LE(CHANGES.nr_extents) * CHANGED.size;
      for (let at = 0; at < end; at += CHANGED.size) {
        const first = Number(extents.readBigUInt64LE(at + CHANGED.first));
        runs.add(first, Number(extents.readBigUInt64LE(at + CHANGED.nr)));
      }
    } while (arg.readUInt32LE(CHANGES.complete) === 0);
    return runs;
  }
}
