// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificates } from '../certificates.js';
import { examineCertificates, type CertificatePaths } from './certificates.js';

const DAY_MS = 86_400_000;

describe('doctor, of certificates', function () {
  this.timeout(60_000);
  let directory = '';
  let paths: CertificatePaths;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'elio-certificates-'));
    for (const name of ['one', 'other']) await makeCertificates(join(directory, name), ['db1'], 90);
    paths = {
      ca: join(directory, 'one', 'ca.crt'),
      certificate: join(directory, 'one', 'db1.crt'),
      key: join(directory, 'one', 'db1.key'),
    };
  });
  after(() => {
    rmSync(directory, { recursive: true });
  });

  async function found(more: Partial<CertificatePaths>, days = 0): Promise<string> {
    const now = Date.now() + days * DAY_MS;
    const findings = await examineCertificates({ ...paths, ...more }, 'agent', now);
    return findings.map(({ verdict, message }) => `${verdict}: ${message}`).join('\n');
  }

  it('says how long they are valid, from 30 days before the end on', async () => {
    assert.match(await found({}), /^ok: valid until 20\d\d-\d\d-\d\d$/);
    assert.match(await found({}, 59), /^ok/);
    assert.match(await found({}, 61), /^note: it expires in 28 days/);
    assert.match(await found({}, 61), /\nnote: it expires/, 'the CA');
    assert.match(await found({}, 91), /^wrong: it expired/);
    assert.match(await found({}, -2), /^wrong: it is not valid yet/);
  });

  it('says when they do not belong together', async () => {
    const key = join(directory, 'one', 'viewer.key');
    assert.match(await found({ key }), /^wrong: .*viewer\.key is not the key of .*db1\.crt$/);
    const ca = join(directory, 'other', 'ca.crt');
    assert.match(await found({ ca }), /^wrong: .*db1\.crt is not signed by a CA in .*other/);
  });

  it('says when they are missing, or none', async () => {
    assert.match(await found({ key: '/missing.key' }), /^wrong: \/missing\.key is not there$/);
    const text = join(directory, 'text');
    writeFileSync(text, 'text\n');
    assert.match(await found({ ca: text }), /^wrong: .*no certificate in PEM/);
    assert.match(await found({ key: text }), /^wrong: .*text: /);
  });
});
