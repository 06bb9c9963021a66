// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GetFreeMinorResponse } from '../../../proto/gen/elio/v1/snapshot.js';
import { RequestLog } from './requests.js';

describe('request ids', () => {
  let directory = '';
  let log: RequestLog;
  let runs = 0;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-requests-'));
    log = new RequestLog(directory);
    runs = 0;
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  function call(id: string, method = 'Method'): Promise<GetFreeMinorResponse> {
    return log.once(id, method, GetFreeMinorResponse, async () => {
      runs += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      return { minor: runs };
    });
  }

  it('make a call safe to repeat, at the same time, later, and after a restart', async () => {
    const id = randomUUID();
    assert.deepEqual(await Promise.all([call(id), call(id)]), [{ minor: 1 }, { minor: 1 }]);
    assert.deepEqual(await call(id), { minor: 1 });
    log = new RequestLog(directory);
    assert.deepEqual(await call(id), { minor: 1 });
    assert.deepEqual(await call(randomUUID()), { minor: 2 });
  });

  it('are optional', async () => {
    assert.deepEqual(await call(''), { minor: 1 });
    assert.deepEqual(await call(''), { minor: 2 });
  });

  it('have to be UUIDs, and belong to one method', async () => {
    await assert.rejects(call('7'), /not a UUID/);
    const id = randomUUID();
    await call(id);
    await assert.rejects(call(id, 'Other'), /was used for Method/);
  });

  it('do not keep a failure', async () => {
    const id = randomUUID();
    const fail = (): Promise<never> => Promise.reject(new Error('busy'));
    await assert.rejects(log.once(id, 'Method', GetFreeMinorResponse, fail), /busy/);
    assert.deepEqual(await call(id), { minor: 1 });
  });

  it('are forgotten when many others came', async () => {
    const id = randomUUID();
    await call(id);
    for (let n = 0; n < 256; n += 1) {
      await log.once(randomUUID(), 'Method', GetFreeMinorResponse, () =>
        Promise.resolve({ minor: 0 }),
      );
    }
    assert.deepEqual(await call(id), { minor: 2 });
  });
});
