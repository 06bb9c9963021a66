// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { repository } from './cache.js';
import type { DiskSpec } from './disk.js';
import { checkCommand } from './process.js';
import { Vm } from './vm.js';

export interface FleetOptions {
  /** How many hosts. */
  count: number;
  kernel?: string;
  /** Disks of each host; by default `data` and `spare`, 1 GiB each. */
  disks?: readonly DiskSpec[];
  /** More ports of each host that can be reached, besides the agent's. */
  forwardPorts?: readonly number[];
  /** Gets the certificates and a directory of logs for each host. */
  directory: string;
}

/** A test machine on which the agent runs. */
export interface FleetHost {
  /** `elio-1` and so on; also the host name in the agent's certificate. */
  name: string;
  /** HOST:PORT of the agent. */
  address: string;
  vm: Vm;
}

/** Paths of the certificates with which a client reaches every host of a fleet as admin. */
export interface ClientTls {
  ca: string;
  cert: string;
  key: string;
}

/** What a client has to know of a fleet; this is what `make fleet` prints. */
export interface FleetDescription {
  hosts: { name: string; address: string; disks: Record<string, string>; sshCommand: string }[];
  tls: ClientTls;
}

export const agentPort = 7443;
const agentStartTimeoutMs = 120_000;
const defaultDisks: readonly DiskSpec[] = [
  { name: 'data', sizeMib: 1024 },
  { name: 'spare', sizeMib: 1024 },
];

/** Test machines with module and agent, reached over mTLS. They die with the process that started them. */
export class Fleet {
  private constructor(
    readonly hosts: readonly FleetHost[],
    readonly tls: ClientTls,
  ) {}

  /** Boots the hosts and returns when every agent takes connections; on an error nothing is left running. */
  static async start(options: FleetOptions): Promise<Fleet> {
    const names = Array.from({ length: options.count }, (_, index) => `elio-${index + 1}`);
    const certificates = join(options.directory, 'tls');
    await makeCertificates(certificates, names);
    const results = await Promise.allSettled(
      names.map((name) => startHost(name, options, certificates)),
    );
    const hosts = results.flatMap((result) =>
      result.status === 'fulfilled' ? [result.value] : [],
    );
    const failure = results.find((result) => result.status === 'rejected');
    if (failure) {
      await Promise.all(hosts.map(({ vm }) => vm.stop()));
      throw failure.reason;
    }
    return new Fleet(hosts, clientTls(certificates));
  }

  get description(): FleetDescription {
    const hosts = this.hosts.map(({ name, address, vm }) => ({
      name,
      address,
      disks: Object.fromEntries(
        (vm.options.disks ?? []).map((disk) => [disk.name, vm.disk(disk.name)]),
      ),
      sshCommand: ['ssh', ...vm.sshArguments].join(' '),
    }));
    return { hosts, tls: this.tls };
  }

  async stop(): Promise<void> {
    await Promise.all(this.hosts.map(({ vm }) => vm.stop()));
  }
}

/** A throw-away CA, one certificate of an agent for each name, and clients' certificates, made by elioctl itself. */
export async function makeCertificates(directory: string, names: readonly string[]): Promise<void> {
  const elioctl = join(repository, 'dist', 'bundle', 'bin', 'elioctl.mjs');
  const hosts = names.flatMap((name) => ['--name', name]);
  await checkCommand([process.execPath, elioctl, 'certs', '--out', directory, ...hosts]);
}

/** The certificates of an agent, from the directory that makeCertificates() has filled. */
export async function putCertificates(vm: Vm, certificates: string, name: string): Promise<void> {
  await vm.put(join(certificates, 'ca.crt'), '/etc/elio/tls/ca.crt');
  await vm.put(join(certificates, `${name}.crt`), '/etc/elio/tls/agent.crt');
  await vm.put(join(certificates, `${name}.key`), '/etc/elio/tls/agent.key');
}

/** The admin's certificates out of that directory. */
export function clientTls(certificates: string): ClientTls {
  return {
    ca: join(certificates, 'ca.crt'),
    cert: join(certificates, 'admin.crt'),
    key: join(certificates, 'admin.key'),
  };
}

/** HOST:PORT of the agent of a machine that forwards `agentPort`. */
export function addressOf(vm: Vm): string {
  return `127.0.0.1:${String(vm.hostPort(agentPort))}`;
}

async function startHost(
  name: string,
  options: FleetOptions,
  certificates: string,
): Promise<FleetHost> {
  const vm = await Vm.boot({
    name,
    // Two emulated processors that wait for each other while neither has a real one cost nearly twice the time.
    cpus: 1,
    ...(options.kernel === undefined ? {} : { kernel: options.kernel }),
    disks: options.disks ?? defaultDisks,
    forwardPorts: [agentPort, ...(options.forwardPorts ?? [])],
    logDir: join(options.directory, name),
  });
  try {
    await vm.sh(`hostname ${name} && insmod /opt/elio/elastio-snap.ko && mkdir -p /etc/elio/tls`);
    await putCertificates(vm, certificates, name);
    await startAgent(vm);
    return { name, address: addressOf(vm), vm };
  } catch (error) {
    await vm.stop();
    throw error;
  }
}

/** Starts eliod in a guest, `through` another program if given, and waits until it listens. Its log is /var/log/eliod.log there. */
export async function startAgent(vm: Vm, through = ''): Promise<void> {
  await vm.sh(
    `setsid ${through} eliod < /dev/null > /var/log/eliod.log 2>&1 & echo $! > /run/eliod.pid`,
  );
  // One command for the whole wait: in an emulated guest each of them takes a good part of a second.
  const waited = await vm.run(
    `until [ -n "$(ss -Hltn 'sport = :${agentPort}')" ]; do kill -0 $(cat /run/eliod.pid) || exit 1; sleep 1; done`,
    { timeoutMs: agentStartTimeoutMs },
  );
  if (waited.status === 0) return;
  throw new Error(
    `the agent of ${vm.options.name} does not start:\n${await vm.sh('cat /var/log/eliod.log')}`,
  );
}

/** A command that unloads the module: an agent that asks the driver something just then holds it for that moment. */
export const unloadModule =
  '{ for try in 1 2 3 4 5 6 7 8 9; do rmmod elastio-snap 2> /dev/null && break; sleep 0.3; done; ! test -d /sys/module/elastio_snap; }';
