// SPDX-License-Identifier: Apache-2.0
// The layouts of TypeScript against the C header, which a compiler is asked about.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import {
  BLOCK_SIZE,
  CHANGED,
  CAP_CHANGES,
  CHANGES,
  CHANGES_MAX,
  VERSION,
  CONTROL_PATH,
  COW_CLEAN,
  COW_HEADER,
  COW_INDEX_OFFSET,
  COW_MAGIC,
  COW_ON_BDEV,
  COW_SECTION_ENTRIES,
  IMAGE_PREFIX,
  INFO,
  IOCTL,
  PATH_MAX,
  TRACKERS_PATH,
  reconfigureParams,
  reloadParams,
  setupParams,
  STATE,
  transitionParams,
} from './layout.js';

const uapi = join(import.meta.dirname, '..', '..', '..', '..', 'driver', 'uapi');

/** Values of C expressions, and of C strings, as the header makes them. */
function evaluate(expressions: readonly string[], strings: readonly string[]): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'elio-layout-'));
  try {
    const lines = [
      '#include <stddef.h>',
      '#include <stdio.h>',
      '#include "elastio-snap.h"',
      'int main(void)',
      '{',
      ...expressions.map((e) => `\tprintf("%llu\\n", (unsigned long long)(${e}));`),
      ...strings.map((s) => `\tputs(${s});`),
      '}',
      '',
    ];
    const source = join(directory, 'layout.c');
    const program = join(directory, 'layout');
    writeFileSync(source, lines.join('\n'));
    execFileSync('gcc', ['-I', uapi, '-o', program, source]);
    return execFileSync(program, { encoding: 'utf8' }).trimEnd().split('\n');
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe("layout of the driver's interface", () => {
  function check(pairs: readonly (readonly [string, number | bigint])[]): void {
    const values = evaluate(
      pairs.map(([expression]) => expression),
      [],
    );
    assert.equal(values.length, pairs.length);
    pairs.forEach(([expression, value], i) => {
      assert.equal(BigInt(values[i] ?? -1), BigInt(value), expression);
    });
  }

  it('has the numbers of the ioctls', () => {
    check(Object.entries(IOCTL).map(([name, n]) => [`ELASTIO_SNAP_${name}`, n] as const));
  });

  const structures = {
    elastio_snap_setup_params: setupParams,
    elastio_snap_reload_params: reloadParams,
    elastio_snap_transition_params: transitionParams,
    elastio_snap_reconfigure_params: reconfigureParams,
  };
  for (const [name, type] of Object.entries(structures)) {
    it(`has struct ${name}`, () => {
      const { members } = koffi.type(type);
      const offsets = Object.entries(members ?? {});
      assert.ok(offsets.length >= 2);
      check([
        [`sizeof(struct ${name})`, koffi.sizeof(type)],
        ...offsets.map(
          ([member, { offset }]) => [`offsetof(struct ${name}, ${member})`, offset] as const,
        ),
      ]);
    });
  }

  it('has the structures that are read and written as bytes', () => {
    const offsets = (struct: string, layout: Record<string, number>): [string, number][] =>
      Object.entries(layout).map(([member, offset]) =>
        member === 'size'
          ? [`sizeof(struct ${struct})`, offset]
          : [`offsetof(struct ${struct}, ${member})`, offset],
      );
    check([
      ...offsets('elastio_snap_info', INFO),
      ...offsets('elastio_snap_cow_header', COW_HEADER),
      ...offsets('elastio_snap_changes_params', CHANGES),
      ...offsets('elastio_snap_changed', CHANGED),
      ...offsets('elastio_snap_version', VERSION),
    ]);
  });

  it('has the constants', () => {
    check([
      ['ELASTIO_SNAP_STATE_SNAPSHOT', STATE.SNAPSHOT],
      ['ELASTIO_SNAP_STATE_ACTIVE', STATE.ACTIVE],
      ['ELASTIO_SNAP_STATE_UNVERIFIED', STATE.UNVERIFIED],
      ['ELASTIO_SNAP_COW_ON_BDEV', COW_ON_BDEV],
      ['ELASTIO_SNAP_CHANGES_MAX', CHANGES_MAX],
      ['ELASTIO_SNAP_CAP_CHANGES', CAP_CHANGES],
      ['ELASTIO_SNAP_PATH_MAX', PATH_MAX],
      ['ELASTIO_SNAP_BLOCK_SIZE', BLOCK_SIZE],
      ['ELASTIO_SNAP_COW_MAGIC', COW_MAGIC],
      ['ELASTIO_SNAP_COW_CLEAN', COW_CLEAN],
      ['ELASTIO_SNAP_HEADER_SIZE', COW_INDEX_OFFSET],
      ['ELASTIO_SNAP_SECTION_ENTRIES', COW_SECTION_ENTRIES],
    ]);
    const paths = [
      'ELASTIO_SNAP_CTL_PATH',
      '"/dev/" ELASTIO_SNAP_IMAGE_NAME',
      '"/proc/" ELASTIO_SNAP_INFO_PROC',
    ];
    assert.deepEqual(evaluate([], paths), [CONTROL_PATH, IMAGE_PREFIX, TRACKERS_PATH]);
  });
});
