// SPDX-License-Identifier: Apache-2.0
// The NBD protocol, as far as this client speaks it: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md.
// All numbers are big-endian.

export const INIT_MAGIC = 0x4e42444d41474943n;
export const OPTION_MAGIC = 0x49484156454f5054n;
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

/** Flags of the handshake, the same in both directions. */
export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const OPTION = { go: 7, structuredReply: 8, setMetaContext: 10 } as const;
export const OPTION_REPLY = { ack: 1, info: 3, metaContext: 4 } as const;
/** Replies to options from here on are errors. */
export const OPTION_ERROR = 0x80000000;
export const INFO_EXPORT = 0;

export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, zero: 6, status: 7 } as const;
export const REPLY = { none: 0, data: 1, hole: 2, status: 5 } as const;
/** Chunks of a structured reply with this bit are errors. */
export const REPLY_ERROR = 0x8000;
/** The last chunk of a structured reply. */
export const REPLY_DONE = 1;

/** The context of qemu-nbd --allocation-depth: 0 not in the image, 1 in it, more in one of its backing files. */
export const ALLOCATION_DEPTH = 'qemu:allocation-depth';

const REQUEST_SIZE = 28;

/** A request; the cookie is below 2^32. Offset and length are bytes. */
export function request(command: number, cookie: number, offset: number, length: number): Buffer {
  const header = Buffer.alloc(REQUEST_SIZE);
  header.writeUInt32BE(REQUEST_MAGIC, 0);
  header.writeUInt16BE(command, 6);
  header.writeUInt32BE(cookie, 12);
  header.writeBigUInt64BE(BigInt(offset), 16);
  header.writeUInt32BE(length, 24);
  return header;
}

export function option(code: number, data: Buffer): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(OPTION_MAGIC, 0);
  header.writeUInt32BE(code, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

function lengthAndText(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}

/** Chooses the export without a name, and asks for nothing more than its size. */
export function goOption(): Buffer {
  return option(OPTION.go, Buffer.concat([lengthAndText(''), Buffer.alloc(2)]));
}

export function metaContextOption(context: string): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(1);
  const data = Buffer.concat([lengthAndText(''), count, lengthAndText(context)]);
  return option(OPTION.setMetaContext, data);
}

/** Errors travel as the numbers of Linux. */
const ERROR_NAMES: Readonly<Record<number, string>> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  108: 'ESHUTDOWN',
};

/** A request that the server refused; `code` is the errno's name, such as ENOSPC. */
export class NbdError extends Error {
  readonly code: string;

  constructor(what: string, errno: number) {
    const code = ERROR_NAMES[errno] ?? `errno ${String(errno)}`;
    super(`${what}: ${code}`);
    this.name = 'NbdError';
    this.code = code;
  }
}
