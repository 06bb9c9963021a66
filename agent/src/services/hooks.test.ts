// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../log.js';
import { Hooks, hooksSchema } from './hooks.js';

const subject = { blockDevice: '/dev/vdb', minor: 2, mountPoints: ['/a', '/b c'] };

describe('hooks', () => {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-hooks-'));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** Hooks whose commands are shell scripts; what they print with "say" is in `told`. */
  function hooks(pre: readonly object[], post: readonly object[]): Hooks {
    const config = hooksSchema.parse({ pre_snapshot: pre, post_snapshot: post });
    const log = createLog('error');
    log.silent = true;
    return new Hooks(config, log);
  }
  const script = (text: string): string[] => ['/bin/sh', '-c', text];
  const say = (text: string): string[] => script(`echo "${text}" >> ${join(directory, 'said')}`);
  const told = async (): Promise<string[]> =>
    (await readFile(join(directory, 'said'), 'utf8').catch(() => '')).split('\n').slice(0, -1);

  it('run before and after the snapshot of the devices that they are for, and know about it', async () => {
    const around = hooks(
      [
        { command: say('$ELIO_HOOK $ELIO_BLOCK_DEVICE $ELIO_MINOR $ELIO_MOUNT_POINTS') },
        { command: say('not for it'), block_devices: ['/dev/vdc'] },
      ],
      [{ command: say('$ELIO_HOOK $ELIO_SNAPSHOT') }],
    );
    const answer = await around.around(subject, async () => {
      assert.equal((await told()).length, 1);
      return 7;
    });
    assert.equal(answer, 7);
    assert.deepEqual(await told(), ['pre_snapshot /dev/vdb 2 /a:/b c', 'post_snapshot taken']);
  });

  it('prevent the snapshot when one before it fails, and still let go', async () => {
    const around = hooks(
      [{ command: script('echo no >&2; exit 3') }],
      [{ command: say('$ELIO_SNAPSHOT') }],
    );
    let taken = false;
    await assert.rejects(
      around.around(subject, () => {
        taken = true;
        return Promise.resolve();
      }),
      { reason: 'HOOK_FAILED', message: /exited with 3; no snapshot was taken/ },
    );
    assert.ok(!taken);
    assert.deepEqual(await told(), ['failed']);
  });

  it('are killed with all that they started when their time is over', async () => {
    const around = hooks([{ command: script('sleep 1000 & wait'), timeout_seconds: 0.2 }], []);
    await assert.rejects(
      around.around(subject, () => Promise.resolve()),
      {
        reason: 'HOOK_FAILED',
        message: /longer than 0.2 s/,
      },
    );
  });

  it('that cannot be started, or fail after the snapshot, say so and undo nothing', async () => {
    const missing = hooks([{ command: ['/no/such/program'] }], []);
    await assert.rejects(
      missing.around(subject, () => Promise.resolve()),
      {
        reason: 'HOOK_FAILED',
        message: /ENOENT/,
      },
    );
    const after = hooks([], [{ command: script('exit 1') }, { command: say('the next one') }]);
    assert.equal(await after.around(subject, () => Promise.resolve(1)), 1);
    assert.deepEqual(await told(), ['the next one']);
  });
});
