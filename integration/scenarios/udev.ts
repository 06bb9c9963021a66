// SPDX-License-Identifier: Apache-2.0
// Control of the guest's udevd.

/**
 * The shell's words that have udevd do something, such as "reload", which it may be told twice: up to 257 at least it
 * ignores a message that comes between its accept() of the sender and its SO_PASSCRED, in one of some hundred times.
 */
export function udevControl(order: string): string {
  return `udevadm control --${order} && udevadm control --${order}`;
}
