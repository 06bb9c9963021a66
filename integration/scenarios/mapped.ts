// SPDX-License-Identifier: Apache-2.0
// Mapped devices of the guest, whose tables change below what is mounted from them.
import type { Vm } from '../harness/vm.js';

/** The arguments of dmsetup for a table by which a device is a disk as it is. */
export function linear(disk: string): string {
  return `--table "0 $(blockdev --getsz ${disk}) linear ${disk} 0"`;
}

/** Gives a mapped device another table, without freezing its filesystem; `table` as arguments of dmsetup. */
export async function loadTable(vm: Vm, name: string, table: string): Promise<void> {
  await vm.sh(
    `dmsetup suspend --nolockfs ${name} && dmsetup load ${name} ${table} && dmsetup resume ${name}`,
  );
}
