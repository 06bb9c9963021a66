// SPDX-License-Identifier: Apache-2.0
// Numbers and tables for a person.
import { paint, type Color } from './color.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** 1536n -> "1.5 KiB". */
export function formatBytes(bytes: bigint): string {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 ? 0 : 1)} ${UNITS[unit] ?? ''}`;
}

/** 90 -> "90 s", 600 -> "10 min", 7200 -> "2 h"; what is left over is rounded down. */
export function formatDuration(seconds: number): string {
  if (seconds < 120) return `${String(Math.floor(seconds))} s`;
  if (seconds < 7200) return `${String(Math.floor(seconds / 60))} min`;
  return `${String(Math.floor(seconds / 3600))} h`;
}

/** Columns as wide as their widest cell, without a line end after the last row. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const all = [header, ...rows];
  const widths = header.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0)));
  return all
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Colours the lines of a table that goes to stdout, each by the number of its row; the head has none. */
export function paintRows(table: string, colorOf: (row: number) => Color | undefined): string {
  return table
    .split('\n')
    .map((line, i) => {
      const color = i === 0 ? undefined : colorOf(i - 1);
      return color ? paint(color, line) : line;
    })
    .join('\n');
}
