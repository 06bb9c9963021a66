// SPDX-License-Identifier: Apache-2.0
// Numbers and sizes that a person types. Each error names its argument.
import { InvalidArgumentError } from 'commander';
import { MAX_LEASE_SECONDS } from '../../agent/src/state/lease-limit.js';

const MAX_MINOR = 255;
const MIB = 1n << 20n;
const UNITS: Readonly<Record<string, bigint>> = { K: 1n << 10n, M: MIB, G: 1n << 30n };
const UINT64_MAX = (1n << 64n) - 1n;

/** A minor: decimal, whatever zeros it begins with. */
export function parseMinor(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('a minor is a decimal number.');
  const minor = Number(text);
  if (minor > MAX_MINOR) {
    throw new InvalidArgumentError(`a minor is at most ${String(MAX_MINOR)}.`);
  }
  return minor;
}

/** A size in MiB, or with a suffix K, M or G (powers of 1024); in bytes. */
export function parseSize(text: string): bigint {
  const match = /^(\d+)([KMG]?)$/i.exec(text);
  if (!match) {
    throw new InvalidArgumentError('a size is a decimal number of MiB, or has a suffix K, M or G.');
  }
  const bytes = BigInt(match[1] ?? '') * (UNITS[(match[2] ?? '').toUpperCase()] ?? MIB);
  if (bytes > UINT64_MAX) throw new InvalidArgumentError('the size is too large.');
  return bytes;
}

/** No host has so much memory to spare; what old scripts passed in bytes is more. */
const CACHE_LIMIT = 1n << 40n;

/** The limit of an index cache, typed as a size; in bytes. */
export function parseCache(text: string): bigint {
  const bytes = parseSize(text);
  if (bytes >= CACHE_LIMIT) {
    throw new InvalidArgumentError('a cache is less than 1 TiB: the unit is MiB, not bytes.');
  }
  return bytes;
}

/** A slower host would take days, and its snapshot's lease might end between two messages. */
const LEAST_BANDWIDTH = 64n << 10n;

/** A limit in bytes per second, typed as a size. */
export function parseBandwidth(text: string): number {
  const bytes = parseSize(text);
  if (bytes < LEAST_BANDWIDTH) {
    throw new InvalidArgumentError('a bandwidth is at least 64K, in bytes per second.');
  }
  return Number(bytes);
}

/** A number of at least 1. */
export function parseCount(text: string): number {
  const count = Number(text);
  if (!/^\d{1,4}$/.test(text) || count === 0) {
    throw new InvalidArgumentError('expected a number of at least 1.');
  }
  return count;
}

/** A time of at least a tenth of a second. */
export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!/^\d{1,5}(?:\.\d+)?$/.test(text) || seconds < 0.1) {
    throw new InvalidArgumentError('expected a number of seconds, at least 0.1.');
  }
  return seconds;
}

/** A lease in whole seconds, a week at most; 0: none. */
export function parseLease(text: string): number {
  const seconds = Number(text);
  if (!/^\d+$/.test(text) || seconds > MAX_LEASE_SECONDS) {
    throw new InvalidArgumentError(
      `expected a whole number of seconds, at most ${String(MAX_LEASE_SECONDS)} (a week).`,
    );
  }
  return seconds;
}
