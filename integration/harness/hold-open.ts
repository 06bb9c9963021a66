// SPDX-License-Identifier: Apache-2.0
import type { Vm } from './vm.js';

/** Starts a process that has a device of the guest open until it is killed; its number, once it has. */
export async function holdOpen(vm: Vm, device: string): Promise<string> {
  const hold = `sleep 1000 < ${device} > /dev/null 2>&1 & echo $!`;
  return (await vm.sh(`${hold}; until fuser -s ${device}; do sleep 0.1; done`)).trim();
}
