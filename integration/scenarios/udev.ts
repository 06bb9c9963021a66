// SPDX-License-Identifier: Apache-2.0
// Control of the guest's udevd.

/**
 * The shell's words that have udevd do something, such as "reload", which it may be told twice: systemd 257 ignores a
 * message that comes between its accept() of the sender and its setting of SO_PASSCRED, and nobody is told.
 */
export function udevControl(order: string): string {
  return `udevadm control --${order} && udevadm control --${order}`;
}
