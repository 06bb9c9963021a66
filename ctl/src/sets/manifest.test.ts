// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { parseSetManifest, setManifestJsonSchema } from './manifest.js';

const schemaFile = new URL('../../../../docs/backup-manifest.schema.json', import.meta.url);

describe('the manifest of a backup in a set', () => {
  it('is described by the schema in docs/: a build makes it in dist/share/doc/elio-ctl/', () => {
    const documented = JSON.parse(readFileSync(schemaFile, 'utf8')) as unknown;
    assert.deepEqual(JSON.parse(JSON.stringify(setManifestJsonSchema())), documented);
  });

  it('is refused when it is damaged', () => {
    assert.throws(() => parseSetManifest('{"format": 1'));
    assert.throws(() => parseSetManifest('{"format": 1}'));
  });
});
