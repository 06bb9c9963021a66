// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { copyFile, writeFile } from 'node:fs/promises';
import type { Log } from '../log.js';
import { Scratch, tool } from '../testing/filesystem-image.js';
import { until } from '../testing/until.js';
import { AwaitedCertificates } from './certificates.js';

describe('certificates that are awaited', () => {
  let scratch: Scratch;
  let awaited: AwaitedCertificates;
  let uses = 0;
  let said: string[] = [];

  before(async () => {
    scratch = await Scratch.make();
    for (const name of ['agent', 'other']) {
      const out = ['-keyout', scratch.path(`${name}.pem`), '-out', scratch.path(`${name}.crt`)];
      const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
      await tool(['openssl', 'req', '-x509', '-subj', `/CN=${name}`, ...kind, ...out]);
    }
  });
  after(() => scratch.remove());
  beforeEach(() => {
    uses = 0;
    said = [];
    const certificate = scratch.path('agent.crt');
    const say = (level: string) => (text: string) => said.push(`${level} ${text}`);
    const log = { info: say('info'), error: say('error') } as unknown as Log;
    const use = (): Promise<void> => {
      uses += 1;
      return uses > 1 ? Promise.reject(new Error('used twice')) : Promise.resolve();
    };
    const tls = { ca: certificate, certificate, key: scratch.path('agent.key') };
    awaited = new AwaitedCertificates(tls, log, use);
  });
  afterEach(() => {
    awaited.close();
  });

  it('are used once they can be, after those that are not there or cannot', async () => {
    await awaited.begin();
    assert.deepEqual(said, ['info no TCP: there are no certificates']);
    assert.equal(awaited.fault, '');
    await copyFile(scratch.path('other.pem'), scratch.path('agent.key'));
    await until('the files were read', () => said.length === 2);
    assert.match(awaited.fault, /agent.key is not the key of .*agent.crt/);
    assert.match(said[1] ?? '', /^error no TCP: the certificates cannot be used/);
    await copyFile(scratch.path('agent.pem'), scratch.path('agent.key'));
    await until('they are used', () => uses === 1);
    assert.equal(awaited.fault, '');
    await awaited.reload();
    assert.deepEqual([uses, said.length], [1, 2]);
  });

  it('wait for the listener, too, and say what it lacks', async () => {
    await writeFile(scratch.path('agent.key'), 'no key');
    await awaited.begin();
    uses = 1;
    await copyFile(scratch.path('agent.pem'), scratch.path('agent.key'));
    await until('they were tried', () => awaited.fault.includes('used twice'));
    uses = -1;
    await awaited.reload();
    assert.deepEqual([uses, awaited.fault], [0, '']);
  });

  it('do not keep whoever waits for them from going on', async () => {
    await writeFile(scratch.path('agent.key'), 'no key');
    await awaited.begin();
    assert.notEqual(awaited.fault, '');
    await copyFile(scratch.path('agent.pem'), scratch.path('agent.key'));
    await awaited.reload();
    assert.deepEqual([uses, awaited.fault], [1, '']);
  });
});
