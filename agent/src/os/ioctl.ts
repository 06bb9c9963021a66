// SPDX-License-Identifier: Apache-2.0
// ioctl(2), getsockopt(SO_PEERCRED) and sd_notify(3) through koffi.
import { constants } from 'node:os';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

// Declared without "...": a variadic function cannot be called asynchronously, and on the platforms
// that the driver runs on the call is the same.
const ioctlFunction = libc.func('int ioctl(int fd, unsigned long request, _Inout_ void *arg)');
const getsockoptFunction = libc.func(
  'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
);

/** Names by number. Node.js does not know ENOTBLK. */
export const ERRNO_NAMES: ReadonlyMap<number, string> = new Map([
  ...Object.entries(constants.errno).map(([name, n]): [number, string] => [n, name]),
  [15, 'ENOTBLK'],
]);

/** A failed system call; `code` is the errno's name, such as EBUSY. */
export class SystemError extends Error {
  readonly code: string;
  constructor(
    readonly syscall: string,
    readonly errno: number,
  ) {
    const code = ERRNO_NAMES.get(errno) ?? `errno ${String(errno)}`;
    super(`${syscall}: ${code}`);
    this.name = 'SystemError';
    this.code = code;
  }
}

/**
 * Runs an ioctl on a thread of the pool; it may sleep. `arg` is a Buffer that is read and written in
 * place, or what koffi.as() made. Rejects with SystemError.
 */
export function ioctl(fd: number, request: number, arg: unknown, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, result: number): void => {
      // The errno of this call is only there inside the callback.
      const errno = koffi.errno();
      if (error) reject(error);
      else if (result < 0) reject(new SystemError(name, errno));
      else resolve();
    };
    ioctlFunction.async(fd, request, arg, done);
  });
}

export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** Who is at the other end of a unix socket. */
export function peerCredentials(fd: number): PeerCredentials {
  const value = Buffer.alloc(12);
  const length = [value.length];
  if (getsockoptFunction(fd, SOL_SOCKET, SO_PEERCRED, value, length) !== 0) {
    throw new SystemError('getsockopt', koffi.errno());
  }
  return {
    pid: value.readInt32LE(0),
    uid: value.readUInt32LE(4),
    gid: value.readUInt32LE(8),
  };
}

/** Tells the service manager about our state; does nothing without one. */
export function notifyServiceManager(state: string): void {
  if (process.env['NOTIFY_SOCKET'] === undefined) return;
  const systemd = koffi.load('libsystemd.so.0');
  systemd.func('int sd_notify(int unset_environment, const char *state)')(0, state);
}
