// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import { CliError, EXIT } from '../errors.js';
import { askAll } from './ask.js';

describe('a question to many hosts', () => {
  const hosts = Array.from({ length: 10 }, (_, i) => ({ label: `h${String(i)}` }));

  it('is asked of a bounded number at a time, and answered in their order', async () => {
    let asking = 0;
    let most = 0;
    let answered = 0;
    const ask = async ({ label }: { label: string }): Promise<string> => {
      asking += 1;
      most = Math.max(most, asking);
      for (let i = Number(label.slice(1)); i < 10; i += 1) await setImmediate();
      asking -= 1;
      if (label === 'h3') throw new CliError('no', EXIT.busy);
      return label.toUpperCase();
    };
    const answers = await askAll(hosts, ask, { parallel: 4, onAnswer: () => (answered += 1) });
    assert.equal(most, 4);
    assert.equal(answered, 10);
    assert.deepEqual(
      answers.map(({ host, answer, failure }) => [host, answer ?? failure?.message]),
      hosts.map(({ label }) => [label, label === 'h3' ? 'no' : label.toUpperCase()]),
    );
  });

  it('is not asked of any further host after an interrupt', async () => {
    const controller = new AbortController();
    const asked: string[] = [];
    const ask = async ({ label }: { label: string }): Promise<string> => {
      asked.push(label);
      await setImmediate();
      controller.abort();
      return label;
    };
    const answers = await askAll(hosts, ask, { parallel: 2, signal: controller.signal });
    assert.deepEqual(asked, ['h0', 'h1']);
    assert.deepEqual(
      answers.map(({ failure }) => (failure instanceof CliError ? failure.exitCode : undefined)),
      [undefined, undefined, ...Array.from({ length: 8 }, () => EXIT.interrupted)],
    );
  });
});
