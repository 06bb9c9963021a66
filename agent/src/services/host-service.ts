// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { arch, hostname, machine, release } from 'node:os';
import type {
  BlockDevice,
  GetHostResponse,
  HostServiceServer,
  ListBlockDevicesResponse,
} from '../../../proto/gen/elio/v1/host.js';
import { IMAGE_PREFIX } from '../driver/layout.js';
import {
  deviceAliases,
  listBlockDevices,
  lowerDevices,
  type BlockDeviceEntry,
} from '../os/block-devices.js';
import { readMounts } from '../os/mounts.js';
import { unary } from '../server/rpc.js';
import type { Trackers } from './trackers.js';

async function firstLine(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n', 1)[0] ?? '';
}

/** Tells about the machine. */
export class HostService {
  constructor(
    private readonly trackers: Trackers,
    private readonly agentVersion: string,
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
      moduleVersion: await firstLine('/sys/module/elastio_snap/version'),
      machineId: await firstLine('/etc/machine-id'),
      bootId: await firstLine('/proc/sys/kernel/random/boot_id'),
    };
  }

  private async listBlockDevices(): Promise<ListBlockDevicesResponse> {
    const mounts = await readMounts();
    const aliases = await deviceAliases();
    // Without the module there is nothing tracked, and the devices are there all the same.
    const trackers = await this.trackers.list().catch(() => []);
    const minors = new Map(trackers.map((t) => [t.blockDevice, t.minor]));
    const devices = (await listBlockDevices()).filter((d) => !d.path.startsWith(IMAGE_PREFIX));
    const describe = async (d: BlockDeviceEntry): Promise<BlockDevice> => {
      const here = mounts.filter((m) => m.device === d.device);
      return {
        path: d.path,
        sizeBytes: d.sizeBytes,
        filesystem: here[0]?.filesystem ?? '',
        mountPoints: here.filter((m) => m.root === '/').map((m) => m.mountPoint),
        readOnly: d.readOnly || (here.length > 0 && here.every((m) => m.readOnly)),
        minor: minors.get(d.path),
        aliases: aliases.get(d.path) ?? [],
        lowerDevices: await lowerDevices(d.path).catch(() => []),
      };
    };
    return { blockDevices: await Promise.all(devices.map(describe)) };
  }
}
