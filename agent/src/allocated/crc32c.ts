// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli), the checksum of ext4's and XFS's metadata. Node's zlib has only the other CRC-32.

const POLYNOMIAL = 0x82f6_3b78;
/** Bytes at a time, each through a table of its own. */
const SLICES = 8;

const tables = makeTables();

function makeTables(): Uint32Array {
  const made = new Uint32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
    made[byte] = crc;
  }
  for (let at = 256; at < made.length; at += 1) {
    const before = made[at - 256] ?? 0;
    made[at] = (before >>> 8) ^ (made[before & 0xff] ?? 0);
  }
  return made;
}

/**
 * Continues a CRC-32C over more bytes. What goes in and comes out is the register itself, without the inversion at the end, as ext4
 * keeps it.
 */
export function crc32cRegister(register: number, data: Buffer): number {
  // Indexes of a typed array that are in range: what the fallbacks stand for never happens.
  const table = tables;
  const whole = data.length - (data.length % SLICES);
  let crc = register;
  let at = 0;
  for (; at < whole; at += SLICES) {
    const low = crc ^ data.readInt32LE(at);
    const high = data.readInt32LE(at + 4);
    crc =
      (table[0x700 + (low & 0xff)] ?? 0) ^
      (table[0x600 + ((low >>> 8) & 0xff)] ?? 0) ^
      (table[0x500 + ((low >>> 16) & 0xff)] ?? 0) ^
      (table[0x400 + (low >>> 24)] ?? 0) ^
      (table[0x300 + (high & 0xff)] ?? 0) ^
      (table[0x200 + ((high >>> 8) & 0xff)] ?? 0) ^
      (table[0x100 + ((high >>> 16) & 0xff)] ?? 0) ^
      (table[high >>> 24] ?? 0);
  }
  for (; at < data.length; at += 1) {
    crc = (crc >>> 8) ^ (table[(crc ^ (data[at] ?? 0)) & 0xff] ?? 0);
  }
  return crc >>> 0;
}

/** The usual CRC-32C of bytes, as XFS keeps it. */
export function crc32c(...parts: readonly Buffer[]): number {
  return ~parts.reduce(crc32cRegister, 0xffff_ffff) >>> 0;
}
