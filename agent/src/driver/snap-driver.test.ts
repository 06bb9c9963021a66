// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import type { IoctlName } from './layout.js';
import { KernelSnapDriver } from './snap-driver.js';

describe('the ioctls of the driver', () => {
  it('wait for those that change something only if the driver would let them wait', async () => {
    const begun: IoctlName[] = [];
    const held: (() => void)[] = [];
    const driver = new KernelSnapDriver((name) => {
      begun.push(name);
      if (['INFO', 'GET_FREE', 'VERSION'].includes(name)) return Promise.resolve();
      return new Promise((resolve) => held.push(resolve));
    });
    const slow = [
      driver.transitionToSnapshot(0, '/cow', 8n),
      driver.destroy(1),
      driver.reconfigure(2, 0n),
      driver.transitionToIncremental(3),
    ];
    await turn();
    assert.deepEqual(begun.splice(0), ['TRANSITION_SNAP', 'DESTROY']);
    await Promise.all([driver.info(0), driver.info(1), driver.freeMinor(), driver.capabilities()]);
    assert.deepEqual(begun.splice(0).sort(), ['GET_FREE', 'INFO', 'INFO', 'VERSION']);
    held.shift()?.();
    await slow[0];
    await turn();
    assert.deepEqual(begun.splice(0), ['RECONFIGURE']);
    for (const release of held.splice(0)) release();
    await turn();
    for (const release of held) release();
    await Promise.all(slow);
    assert.deepEqual(begun, ['TRANSITION_INC']);
  });
});
