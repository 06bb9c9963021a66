// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { attributeId, isStableId, stableId } from './stable-ids.js';

describe('stable ids', () => {
  let directory = '';
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'elio-ids-'));
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  async function idWith(attributes: Record<string, string>): Promise<string | undefined> {
    for (const [file, value] of Object.entries(attributes)) {
      const path = join(directory, file);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, value);
    }
    return attributeId(directory);
  }

  it('are what sysfs tells of a device, without the white space around it', async () => {
    assert.equal(await idWith({}), undefined);
    assert.equal(await idWith({ serial: 'data\n' }), 'SERIAL=data');
    assert.equal(await idWith({ 'device/wwid': 't10.ATA     X  \n' }), 'WWID=t10.ATA     X');
    assert.equal(await idWith({ wwid: 'eui.01\n' }), 'WWID=eui.01');
    assert.equal(await idWith({ 'md/uuid': '1-2\n' }), 'MD_UUID=1-2');
    assert.equal(await idWith({ 'dm/uuid': 'LVM-abc\n' }), 'DM_UUID=LVM-abc');
  });

  it('are not there for a mapped device that was made by hand', async () => {
    assert.equal(await idWith({ 'dm/uuid': '\n' }), undefined);
  });

  it('are not there for what is no block device', async () => {
    assert.equal(await stableId(directory), undefined);
    assert.equal(await stableId(join(directory, 'missing')), undefined);
  });

  it('are told from paths', () => {
    for (const id of ['PARTUUID=0f0f-01', 'DM_UUID=LVM-abc', 'SERIAL=a=b'])
      assert.ok(isStableId(id), id);
    for (const path of ['/dev/vdb', '/dev/disk/by-id/a=b', 'UUID=5e5e', 'SERIAL', ''])
      assert.ok(!isStableId(path), path);
  });
});
