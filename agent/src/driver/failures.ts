// SPDX-License-Identifier: Apache-2.0
// Why a tracker has failed: the errors that docs/driver-contract.md lists.
import { ERRNO_NAMES } from '../os/ioctl.js';

const REMEDY = 'destroy it, set it up again and take a full backup';

const CAUSES: Readonly<Record<string, string>> = {
  EFBIG: `the COW file overflowed, or the origin has grown: ${REMEDY}, with a larger COW file (-f)`,
  ENOMEM: `the kernel had no memory to hold what was to be saved: ${REMEDY}`,
  EIO: `a device gave an I/O error, or the blocks of the COW file were written by somebody else: see the kernel log, then ${REMEDY}`,
  ENODEV: `the origin is gone, or has another medium: ${REMEDY}`,
  ETIMEDOUT: `a part of the origin did not answer for two minutes: see the kernel log, then ${REMEDY}`,
  ENOENT: `its COW file is not there: ${REMEDY}`,
  EINVAL: `its COW file was not closed, is damaged, or belongs to another origin: ${REMEDY}`,
  ESTALE: `the origin was written where nobody looked (another kernel, no module, another tracker, hibernation): ${REMEDY}`,
  EOPNOTSUPP: `its filesystem cannot tell whether it was written elsewhere: ${REMEDY}`,
};

/** Why a tracker failed and what to do; `error` is the negative errno that the driver tells. */
export function failureMessage(error: number): string {
  const code = ERRNO_NAMES.get(-error) ?? `errno ${String(-error)}`;
  return `${CAUSES[code] ?? `see the kernel log, then ${REMEDY}`} (${code})`;
}
