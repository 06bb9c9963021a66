// SPDX-License-Identifier: Apache-2.0
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fleet, type FleetOptions } from './fleet.js';
import { Vm, type VmOptions } from './vm.js';

/** Building roots, kernel module and images on a fresh machine is part of the first boot. */
const bootTimeoutMs = 30 * 60_000;
const checkTimeoutMs = 120_000;
/** A kernel that looks for leaks does so at the end. */
const stopTimeoutMs = 10 * 60_000;

/** Test machines of one mocha suite. */
interface Machines {
  vms: readonly Vm[];
  stop(): Promise<void>;
}

/**
 * Starts machines for the mocha suite that calls this, checks their kernel logs after every test and stops them at the
 * end. Returns a getter: they exist only while tests run.
 */
function useMachines<T extends Machines>(start: () => Promise<T>): () => T {
  let machines: T | undefined;
  let failed = false;

  before(async function () {
    this.timeout(bootTimeoutMs);
    machines = await start();
  });
  afterEach(async function () {
    this.timeout(checkTimeoutMs);
    failed ||= this.currentTest?.state === 'failed';
    try {
      for (const vm of machines?.vms ?? []) await vm.checkDmesg();
    } catch (error) {
      failed = true;
      throw error;
    }
  });
  after(async function () {
    this.timeout(stopTimeoutMs);
    try {
      for (const vm of machines?.vms ?? []) await vm.checkLeaks();
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      if (failed) for (const vm of machines?.vms ?? []) await vm.saveLogs().catch(() => undefined);
      await machines?.stop();
    }
  });
  return () => {
    if (!machines) throw new Error('test machines exist only inside before, it and after');
    return machines;
  };
}

function logDirectory(name: string): string {
  return join(process.env['ELIO_LOG_DIR'] ?? tmpdir(), name);
}

/** One test machine for the mocha suite that calls this. */
export function useVm(options: Partial<VmOptions> = {}): () => Vm {
  const name = options.name ?? 'vm';
  const machines = useMachines(async () => {
    const vm = await Vm.boot({ ...options, name, logDir: options.logDir ?? logDirectory(name) });
    return { vms: [vm], vm, stop: () => vm.stop() };
  });
  return () => machines().vm;
}

/** Test machines with module and agent for the mocha suite that calls this. */
export function useFleet(options: Omit<FleetOptions, 'directory'>): () => Fleet {
  const machines = useMachines(async () => {
    const fleet = await Fleet.start({ ...options, directory: logDirectory('fleet') });
    return { vms: fleet.hosts.map(({ vm }) => vm), fleet, stop: () => fleet.stop() };
  });
  return () => machines().fleet;
}
