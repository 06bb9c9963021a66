// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { arch, hostname, machine, release, totalmem } from 'node:os';
import type {
  BlockDevice,
  GetHostResponse,
  HostServiceServer,
  ListBlockDevicesResponse,
  Problem,
} from '../../../proto/gen/elio/v1/host.js';
import { IMAGE_PREFIX } from '../driver/layout.js';
import { IoctlError, ModuleNotLoadedError } from '../driver/snap-driver.js';
import {
  deviceAliases,
  holdersOf,
  listBlockDevices,
  lowerDevices,
  placeOf,
  readSwaps,
  type BlockDeviceEntry,
} from '../os/block-devices.js';
import { maxSnapshots, moduleSigner, moduleVersion, needsSignature } from '../os/module.js';
import { readMounts } from '../os/mounts.js';
import { readStableIds } from '../os/stable-ids.js';
import { unary } from '../server/rpc.js';
import { refusalOf } from './refusal.js';
import type { Trackers } from './trackers.js';

/** What this agent can do that the first one could not. */
const CAPABILITIES = ['allocated-blocks', 'events', 'lease', 'stable-id'];

async function firstLine(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n', 1)[0] ?? '';
}

/** Tells about the machine. */
export class HostService {
  constructor(
    private readonly trackers: Trackers,
    private readonly agentVersion: string,
    private readonly problems: () => Promise<Problem[]>,
  ) {}

  handlers(): HostServiceServer {
    return {
      getHost: unary(() => this.getHost()),
      listBlockDevices: unary(() => this.listBlockDevices()),
    };
  }

  private async getHost(): Promise<GetHostResponse> {
    return {
      hostname: hostname(),
      kernelRelease: release(),
      architecture: machine() || arch(),
      agentVersion: this.agentVersion,
      moduleVersion: await moduleVersion(),
      machineId: await firstLine('/etc/machine-id'),
      bootId: await firstLine('/proc/sys/kernel/random/boot_id'),
      capabilities: [...CAPABILITIES, ...(await this.driverCapabilities())],
      maxSnapshots: await maxSnapshots(),
      moduleSignatureRequired: await needsSignature(),
      moduleSigner: await moduleSigner(),
      problems: await this.problems(),
      memoryBytes: BigInt(totalmem()),
    };
  }

  private async driverCapabilities(): Promise<string[]> {
    try {
      return await this.trackers.driver.capabilities();
    } catch (error) {
      // Not loaded, or older than the question.
      if (error instanceof IoctlError || error instanceof ModuleNotLoadedError) return [];
      throw error;
    }
  }

  private async listBlockDevices(): Promise<ListBlockDevicesResponse> {
    const mounts = await readMounts();
    const aliases = await deviceAliases();
    const stableIds = await readStableIds();
    const swaps = await readSwaps();
    // Without the module there is nothing tracked, and the devices are there all the same.
    const trackers = await this.trackers.list().catch(() => []);
    const minors = new Map(trackers.map((t) => [t.blockDevice, t.minor]));
    const devices = (await listBlockDevices()).filter((d) => !d.path.startsWith(IMAGE_PREFIX));
    const describe = async (d: BlockDeviceEntry): Promise<BlockDevice> => {
      const here = mounts.filter((m) => m.device === d.device);
      const place = await placeOf(d.path);
      const facts = {
        filesystem: here[0]?.filesystem ?? '',
        readOnly: d.readOnly || (here.length > 0 && here.every((m) => m.readOnly)),
        minor: minors.get(d.path),
        zoned: place.zoned,
        swap: swaps.includes(d.path),
        holders: await holdersOf(d.path),
      };
      return {
        path: d.path,
        sizeBytes: d.sizeBytes,
        filesystem: facts.filesystem,
        mountPoints: here.filter((m) => m.root === '/').map((m) => m.mountPoint),
        readOnly: facts.readOnly,
        minor: facts.minor,
        aliases: aliases.get(d.path) ?? [],
        lowerDevices: await lowerDevices(d.path).catch(() => []),
        stableId: stableIds.get(d.path) ?? '',
        kind: place.kind,
        parent: place.parent,
        refusal: refusalOf(facts),
      };
    };
    return { blockDevices: await Promise.all(devices.map(describe)) };
  }
}
