// SPDX-License-Identifier: Apache-2.0

const POLYNOMIAL = 0xa001;

const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
  return crc;
});

/** Continues the CRC-16 (ARC, without inversion) that ext4 had before it had CRC-32C. */
export function crc16(register: number, data: Buffer): number {
  let crc = register;
  for (const byte of data) crc = (crc >>> 8) ^ (table[(crc ^ byte) & 0xff] ?? 0);
  return crc;
}
