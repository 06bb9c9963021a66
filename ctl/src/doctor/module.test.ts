// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { GetHostResponse } from '../../../proto/gen/elio/v1/host.js';
import {
  kernelFinding,
  moduleFindings,
  readKernelSecurity,
  remoteSignatureFindings,
  signatureFindings,
  TESTED_SERIES,
  type KernelSecurity,
} from './module.js';

const host = GetHostResponse.fromPartial({
  kernelRelease: '6.1.0-56-amd64',
  architecture: 'x86_64',
  agentVersion: '0.1.0',
  moduleVersion: '0.1.0',
});

describe('doctor, of the module', () => {
  it('says whether it is there, and of another version than the agent', () => {
    const verdict = (moduleVersion: string): string | undefined =>
      moduleFindings({ ...host, moduleVersion })[0]?.verdict;
    assert.equal(verdict('0.1.0'), 'ok');
    assert.equal(verdict('0.0.9'), 'note');
    assert.equal(verdict(''), 'wrong');
  });

  it('reads what the kernel tells of Secure Boot, lockdown and the signature', async () => {
    const root = mkdtempSync(join(tmpdir(), 'elio-doctor-'));
    const put = (path: string, content: string | Buffer): void => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), content);
    };
    const nothing = { secureBoot: 'unknown', lockdown: 'unknown', moduleUnsigned: false };
    assert.deepEqual(await readKernelSecurity(root), nothing);
    const variable = 'sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c';
    put(variable, Buffer.from([6, 0, 0, 0, 1]));
    put('sys/kernel/security/lockdown', 'none [integrity] confidentiality\n');
    put('sys/module/elastio_snap/taint', 'OE\n');
    const strict = { secureBoot: 'on', lockdown: 'integrity', moduleUnsigned: true };
    assert.deepEqual(await readKernelSecurity(root), strict);
    put(variable, Buffer.from([6, 0, 0, 0, 0]));
    put('sys/module/elastio_snap/taint', 'O\n');
    const lax = { secureBoot: 'off', lockdown: 'integrity', moduleUnsigned: false };
    assert.deepEqual(await readKernelSecurity(root), lax);
    rmSync(root, { recursive: true });
  });

  it('says what an unsigned module comes to', () => {
    const verdict = (more: Partial<KernelSecurity>, loaded: boolean): string | undefined => {
      const security: KernelSecurity = {
        secureBoot: 'off',
        lockdown: 'none',
        moduleUnsigned: false,
        ...more,
      };
      return signatureFindings(security, loaded)[0]?.verdict;
    };
    assert.equal(verdict({}, true), 'ok');
    assert.equal(verdict({ moduleUnsigned: true }, true), 'note');
    assert.equal(verdict({ moduleUnsigned: true, secureBoot: 'on' }, true), 'wrong');
    assert.equal(verdict({ moduleUnsigned: true, lockdown: 'integrity' }, true), 'wrong');
    assert.equal(verdict({}, false), 'ok');
    assert.equal(verdict({ secureBoot: 'unknown', lockdown: 'unknown' }, false), 'ok');
    assert.equal(verdict({ secureBoot: 'on' }, false), 'note');
    assert.equal(verdict({ lockdown: 'confidentiality' }, false), 'note');
  });

  it('says of another host what its agent tells, and nothing where it does not', () => {
    const verdict = (more: Partial<GetHostResponse>): string | undefined =>
      remoteSignatureFindings({ ...host, capabilities: ['events'], ...more })[0]?.verdict;
    assert.equal(verdict({ capabilities: [] }), undefined);
    assert.equal(verdict({ moduleSigner: 'DKMS' }), 'ok');
    assert.equal(verdict({ moduleSignatureRequired: true, moduleSigner: 'DKMS' }), 'ok');
    assert.equal(verdict({ moduleSignatureRequired: true }), 'wrong');
    assert.equal(verdict({}), 'note');
  });

  it('calls a kernel tested when README does, and no other', () => {
    const readme = join(import.meta.dirname, '..', '..', '..', '..', 'README.md');
    const [head = ''] = /^\| Filesystem .*$/m.exec(readFileSync(readme, 'utf8')) ?? [];
    const releases = head.split('|').map((cell) => cell.trim());
    const tested = releases.filter((release) => /^\d/.test(release));
    assert.deepEqual(
      tested.map((release) => /^\d+\.\d+/.exec(release)?.[0]),
      TESTED_SERIES,
    );
    for (const kernelRelease of tested)
      assert.equal(kernelFinding({ ...host, kernelRelease }).verdict, 'ok', kernelRelease);
    for (const kernelRelease of ['6.2.0-1-amd64', '6.1.0-generic', '61.2-amd64', '6.10-amd64'])
      assert.equal(kernelFinding({ ...host, kernelRelease }).verdict, 'note', kernelRelease);
    assert.equal(kernelFinding({ ...host, architecture: 'aarch64' }).verdict, 'note');
  });
});
