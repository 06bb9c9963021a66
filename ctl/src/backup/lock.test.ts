// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackupLock } from './lock.js';

describe('BackupLock', () => {
  let directory = '';
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'elio-lock-'));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  it('is shared by readers who come and go, and leaves no file', async () => {
    const backup = join(directory, 'backup.img');
    const read = async (): Promise<void> => {
      for (let i = 0; i < 20; i += 1) {
        const lock = await BackupLock.acquire(backup, 'shared');
        await lock.release();
      }
    };
    await Promise.all([read(), read(), read()]);
    assert.equal(existsSync(`${backup}.lock`), false);
  });

  it('stays shared when it cannot become exclusive', async () => {
    const backup = join(directory, 'backup.img');
    const lock = await BackupLock.acquire(backup, 'shared');
    const other = await BackupLock.acquire(backup, 'shared');
    const task = (): Promise<void> => Promise.reject(new Error('not alone'));
    await assert.rejects(lock.exclusively(task), /is held by another elioctl/);
    assert.equal(lock.isLost, false);
    await other.release();
    await assert.rejects(BackupLock.acquire(backup, 'exclusive'), /is in use by another elioctl/);
    await lock.release();
    assert.equal(existsSync(`${backup}.lock`), false);
  });

  it('is refused while another has it for itself', async () => {
    const backup = join(directory, 'backup.img');
    const lock = await BackupLock.acquire(backup, 'exclusive');
    await assert.rejects(BackupLock.acquire(backup, 'shared'), /is in use by another elioctl/);
    await lock.release();
  });
});
