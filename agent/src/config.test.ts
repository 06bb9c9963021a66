// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseConfig } from './config.js';

const sample = join(import.meta.dirname, '..', '..', '..', 'agent', 'packaging', 'agent.yaml');

describe('configuration', () => {
  it('has defaults for all of it', () => {
    const config = parseConfig('', 'x');
    assert.equal(config.socket, '/run/elio/agent.sock');
    assert.equal(config.listen, '0.0.0.0:7443');
    assert.equal(config.tls.ca, '/etc/elio/tls/ca.crt');
  });

  it('has a sample that names every key with its default', () => {
    const text = readFileSync(sample, 'utf8').replace(/^#(?=\s*[a-z_]+:)/gm, '');
    assert.deepEqual(parseConfig(text, sample), parseConfig('', sample));
    assert.ok(text.includes('log_level: info'));
  });

  it('takes values', () => {
    const config = parseConfig('tcp: on\ntls:\n  ca: /x\n', 'x');
    assert.equal(config.tcp, 'on');
    assert.equal(config.tls.ca, '/x');
    assert.equal(config.tls.key, '/etc/elio/tls/agent.key');
  });

  it('names file and line of what is wrong', () => {
    assert.throws(() => parseConfig('tcp: on\nsokcet: /x\n', 'a.yaml'), /a\.yaml:2:.*sokcet/);
    assert.throws(() => parseConfig('tls:\n  ca: /x\n  cert: /y\n', 'a.yaml'), /a\.yaml:3:.*cert/);
    assert.throws(() => parseConfig('\n\ntcp: maybe\n', 'a.yaml'), /a\.yaml:3:/);
    assert.throws(() => parseConfig('tcp: [on\n', 'a.yaml'), /a\.yaml:\d+:/);
    assert.throws(() => parseConfig('- a\n', 'a.yaml'), /a\.yaml:1:/);
  });
});
