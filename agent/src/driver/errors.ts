// SPDX-License-Identifier: Apache-2.0
// What a failed ioctl means: errno -> gRPC status -> reason.
import { status } from '@grpc/grpc-js';
import { AgentError } from '../errors.js';
import type { IoctlName } from './layout.js';
import { IoctlError, ModuleNotLoadedError } from './snap-driver.js';

interface Meaning {
  code: status;
  reason: string;
  /** What failed, why, and what to do. */
  message: string;
}

/** What a message names. */
export interface IoctlSubject {
  minor?: number;
  device?: string;
  cowFile?: string;
}

const { ABORTED, ALREADY_EXISTS, DATA_LOSS, FAILED_PRECONDITION } = status;
const { INTERNAL, INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED } = status;
const { RESOURCE_EXHAUSTED, UNAVAILABLE } = status;

/** Of the calls that make a tracker. */
const NEW_TRACKER: Readonly<Record<string, Meaning>> = {
  ENOTBLK: {
    code: INVALID_ARGUMENT,
    reason: 'NOT_A_BLOCK_DEVICE',
    message: '{device} is not a block device',
  },
  ENXIO: {
    code: NOT_FOUND,
    reason: 'NO_SUCH_DEVICE',
    message: '{device} has no driver: the device is not there',
  },
  EBUSY: {
    code: ALREADY_EXISTS,
    reason: 'MINOR_IN_USE',
    message:
      'minor {minor} is in use: leave the minor out, or take what `elioctl get-free-minor` prints',
  },
  ENODEV: {
    code: FAILED_PRECONDITION,
    reason: 'CANNOT_TRACK',
    message:
      '{device} cannot be tracked: it is gone, or the kernel can track nothing any more until it is restarted; see the kernel log',
  },
};

const RELOAD: Readonly<Record<string, Meaning>> = {
  ENOENT: {
    code: NOT_FOUND,
    reason: 'PATH_NOT_FOUND',
    message: '{device} does not exist',
  },
  ...NEW_TRACKER,
  EINVAL: {
    code: FAILED_PRECONDITION,
    reason: 'RELOAD_REFUSED',
    message:
      '{device} is mounted for writing, or in use otherwise: unmount it, reload, and mount it again',
  },
  EOPNOTSUPP: {
    code: FAILED_PRECONDITION,
    reason: 'UNSUPPORTED',
    message: '{device} cannot be tracked: see the kernel log for the reason',
  },
};

/** Every errno of every ioctl; `DEFAULT` holds for those that have no row of their own. */
export const ERROR_TABLE: Readonly<
  Record<IoctlName | 'DEFAULT', Readonly<Record<string, Meaning>>>
> = {
  DEFAULT: {
    ENOENT: {
      code: NOT_FOUND,
      reason: 'NO_SUCH_TRACKER',
      message: 'there is no snapshot {minor}: `elioctl list` shows those that exist',
    },
    EINVAL: {
      code: INVALID_ARGUMENT,
      reason: 'MINOR_OUT_OF_RANGE',
      message: 'minor {minor} is out of range: the module parameter max_snap_devices is the limit',
    },
    EBUSY: {
      code: ABORTED,
      reason: 'IMAGE_IN_USE',
      message: 'the image of snapshot {minor} is in use: unmount it or close it, then try again',
    },
    EPERM: {
      code: PERMISSION_DENIED,
      reason: 'NOT_PERMITTED',
      message: 'the driver refused: the agent needs CAP_SYS_ADMIN',
    },
    EACCES: {
      code: PERMISSION_DENIED,
      reason: 'NOT_PERMITTED',
      message: 'the path cannot be used: permission denied',
    },
    ENAMETOOLONG: {
      code: INVALID_ARGUMENT,
      reason: 'NAME_TOO_LONG',
      message: 'a name in the path is too long: most filesystems take 255 bytes',
    },
    ENOMEM: {
      code: RESOURCE_EXHAUSTED,
      reason: 'OUT_OF_MEMORY',
      message: 'the kernel is out of memory: try again later',
    },
    ENODEV: {
      code: FAILED_PRECONDITION,
      reason: 'DEVICE_GONE',
      message: 'the filesystem of snapshot {minor} is gone: destroy it and set it up again',
    },
    EIO: {
      code: DATA_LOSS,
      reason: 'IO_ERROR',
      message: 'a device gave an I/O error: see the kernel log',
    },
    ETIMEDOUT: {
      code: ABORTED,
      reason: 'DEVICE_SILENT',
      message:
        'the disk did not answer all of its requests in time, and nothing was changed: see the kernel log, then try again',
    },
    EFAULT: {
      code: INTERNAL,
      reason: 'BAD_CALL',
      message: 'the driver could not read the call: agent and module do not match',
    },
  },
  SETUP_SNAP: {
    ENOENT: {
      code: NOT_FOUND,
      reason: 'PATH_NOT_FOUND',
      message: '{device} or the directory of {cow_file} does not exist',
    },
    ...NEW_TRACKER,
    EEXIST: {
      code: ALREADY_EXISTS,
      reason: 'COW_FILE_EXISTS',
      message: '{cow_file} exists and is not a COW file: it was not touched; give another path',
    },
    EISDIR: {
      code: INVALID_ARGUMENT,
      reason: 'COW_FILE_IS_DIRECTORY',
      message: '{cow_file} is a directory: give the path of a file',
    },
    ENOTDIR: {
      code: INVALID_ARGUMENT,
      reason: 'PATH_NOT_FOUND',
      message: 'a part of the path {cow_file} is not a directory',
    },
    ELOOP: {
      code: INVALID_ARGUMENT,
      reason: 'COW_FILE_IS_SYMLINK',
      message: '{cow_file} is a symbolic link: give the real path',
    },
    EROFS: {
      code: FAILED_PRECONDITION,
      reason: 'READ_ONLY',
      message: 'the filesystem of {cow_file} is read-only',
    },
    EPERM: {
      code: FAILED_PRECONDITION,
      reason: 'COW_FILE_IN_USE',
      message: '{cow_file} is in use by a snapshot, or the agent lacks CAP_SYS_ADMIN',
    },
    ENOSPC: {
      code: RESOURCE_EXHAUSTED,
      reason: 'NO_SPACE',
      message: 'there is no space for {cow_file}: free some, or give a smaller COW file (-f)',
    },
    EFBIG: {
      code: INVALID_ARGUMENT,
      reason: 'COW_FILE_TOO_BIG',
      message: 'a COW file of that size does not fit the filesystem: give a smaller one (-f)',
    },
    EINVAL: {
      code: INVALID_ARGUMENT,
      reason: 'SETUP_REFUSED',
      message: '{device} cannot be set up: see the kernel log for the reason',
    },
    EOPNOTSUPP: {
      code: FAILED_PRECONDITION,
      reason: 'UNSUPPORTED',
      message: '{device} or its filesystem cannot be tracked: see the kernel log for the reason',
    },
  },
  RELOAD_SNAP: RELOAD,
  RELOAD_INC: RELOAD,
  DESTROY: {},
  TRANSITION_INC: {
    EINVAL: {
      code: FAILED_PRECONDITION,
      reason: 'WRONG_STATE',
      message:
        'snapshot {minor} is not in snapshot mode, or it has failed: `elioctl info {minor}` shows its state',
    },
    EFBIG: {
      code: RESOURCE_EXHAUSTED,
      reason: 'COW_FULL',
      message:
        'the COW file of snapshot {minor} was full: destroy it, set it up with a larger one (-f) and take a full backup',
    },
  },
  TRANSITION_SNAP: {
    EINVAL: {
      code: FAILED_PRECONDITION,
      reason: 'WRONG_STATE',
      message:
        'snapshot {minor} is not in incremental mode, or it has failed: `elioctl info {minor}` shows its state',
    },
    EPERM: {
      code: FAILED_PRECONDITION,
      reason: 'COW_FILE_IN_USE',
      message: '{cow_file} is in use by a snapshot: give another path',
    },
    EBUSY: {
      code: ABORTED,
      reason: 'FILESYSTEM_BUSY',
      message:
        'the filesystem of snapshot {minor} is frozen or being thawed by another process, somebody has {cow_file} open, or it is in snapshot mode already and its image is open: look at `elioctl info {minor}`, then try again',
    },
  },
  RECONFIGURE: {
    EINVAL: {
      code: FAILED_PRECONDITION,
      reason: 'WRONG_STATE',
      message: 'snapshot {minor} has failed: destroy it',
    },
  },
  INFO: {},
  VERSION: {},
  CHANGES: {},
  GET_FREE: {
    ENOENT: {
      code: RESOURCE_EXHAUSTED,
      reason: 'NO_FREE_MINOR',
      message:
        'all minors are in use: destroy a snapshot, or raise the module parameter max_snap_devices',
    },
  },
};

/** What TRANSITION_SNAP says of the tracker, not of the COW file that it makes. */
const OF_THE_TRACKER = ['ENOENT', 'ENODEV'];

/** TRANSITION_SNAP makes a COW file as SETUP_SNAP does: the same errors mean the same. */
function meaningOf(name: IoctlName, code: string): Meaning | undefined {
  const shared =
    name === 'TRANSITION_SNAP' && !OF_THE_TRACKER.includes(code)
      ? ERROR_TABLE.SETUP_SNAP[code]
      : undefined;
  return ERROR_TABLE[name][code] ?? shared ?? ERROR_TABLE.DEFAULT[code];
}

/** The failure of an ioctl, for the caller of an RPC. Other errors are handed through. */
export function driverError(error: unknown, subject: IoctlSubject): unknown {
  if (error instanceof ModuleNotLoadedError) {
    return new AgentError(
      UNAVAILABLE,
      'MODULE_NOT_LOADED',
      'the kernel module is not loaded: run `modprobe elastio-snap` on the host',
    );
  }
  if (error instanceof RangeError) {
    return new AgentError(INVALID_ARGUMENT, 'BAD_ARGUMENT', error.message);
  }
  if (!(error instanceof IoctlError)) return error;
  const meaning = meaningOf(error.ioctlName, error.code) ?? {
    code: INTERNAL,
    reason: 'UNEXPECTED_ERRNO',
    message: `the driver gave ${error.code}: see the kernel log`,
  };
  const names: Record<string, string> = {
    minor: subject.minor === undefined ? '' : String(subject.minor),
    device: subject.device ?? '',
    cow_file: subject.cowFile ?? '',
  };
  const message = meaning.message.replace(/\{(\w+)\}/g, (_, name: string) => names[name] ?? '');
  const metadata: Record<string, string> = { ioctl: error.ioctlName, errno: error.code };
  for (const [name, value] of Object.entries(names)) if (value !== '') metadata[name] = value;
  return new AgentError(meaning.code, meaning.reason, message, metadata);
}
