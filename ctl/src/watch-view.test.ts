// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { Snapshot } from '../../proto/gen/elio/v1/types.js';
import { TrackerState } from '../../proto/gen/elio/v1/types.js';
import { stubSnapshot } from './testing/stub-agent.js';
import { tableLines, WatchHistory, type WatchRow } from './watch-view.js';

function look(history: WatchHistory, atMs: number, snapshot: Partial<Snapshot>): WatchRow[] {
  return history.look([{ host: 'db1', answer: [stubSnapshot(0, snapshot)] }], atMs);
}

function rate(rows: readonly WatchRow[]): number | undefined {
  const [row] = rows;
  return row && 'bytesPerSecond' in row ? row.bytesPerSecond : undefined;
}

describe('what watch shows', () => {
  it('is how much has changed a second since the look before', () => {
    const history = new WatchHistory();
    assert.equal(rate(look(history, 1000, { nrChangedBlocks: 100n })), undefined);
    assert.equal(rate(look(history, 3000, { nrChangedBlocks: 150n })), (50 * 4096) / 2);
    assert.equal(rate(look(history, 3500, { nrChangedBlocks: 150n })), 0);
  });

  it('has no rate between two snapshots, or after a host was gone', () => {
    const history = new WatchHistory();
    look(history, 1000, { nrChangedBlocks: 100n });
    const cookie = { uuid: 'e86eb4fe68e84b7d90a477e02d1311a3', seqId: 2n, nonce: '' };
    assert.equal(rate(look(history, 2000, { cookie, nrChangedBlocks: 5n })), undefined);
    history.look([{ host: 'db1', failure: new Error('gone') }], 3000);
    assert.equal(rate(look(history, 4000, { cookie, nrChangedBlocks: 5n })), undefined);
  });

  it('draws how full a COW file is where something is copied', () => {
    const line = (snapshot: Partial<Snapshot>): string =>
      tableLines(look(new WatchHistory(), 0, snapshot), {})[1] ?? '';
    assert.match(line({}), /snapshot +\[#### {6}] +43 % +100 +-$/);
    assert.match(line({ nrChangedBlocks: 1534n }), /\[######### ] +99 %/);
    assert.match(line({ nrChangedBlocks: 1536n, error: -27 }), /failed \(-27\) +\[#{10}] +100 %/);
    const state = TrackerState.TRACKER_STATE_ACTIVE_INCREMENTAL;
    assert.match(line({ state, cowUsedBytes: 0n }), /incremental +- +100 +-$/);
  });

  it('is cut to the width of a terminal', () => {
    const rows = look(new WatchHistory(), 0, {});
    assert.deepEqual(tableLines(rows, { width: 12 }), ['HOST  MINOR ', 'db1   0     ']);
  });
});
