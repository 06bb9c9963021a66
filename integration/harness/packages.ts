// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { artifact, fingerprint, repository } from './cache.js';
import { checkCommand, say } from './process.js';

/** The directory of the Debian packages of what is under test, of another version than the source's if given. */
export async function debianPackages(version?: string): Promise<string> {
  const packaging = join(repository, 'agent', 'packaging');
  const sources = ['bundle', 'proto', 'elio.binpb'].map((part) => join('dist', part));
  sources.push(
    join('agent', 'rescue'),
    join('dist', 'share'),
    'driver',
    'proto',
    'package.json',
    'package-lock.json',
  );
  const inputs = await Promise.all([
    fingerprint(packaging),
    ...sources.map((path) => fingerprint(join(repository, path))),
  ]);
  const given = version === undefined ? [] : [version];
  return artifact('debian-packages', [...inputs, ...given], async (out) => {
    say(`making Debian packages${version === undefined ? '' : ` of version ${version}`}`);
    await checkCommand(['bash', join(packaging, 'deb', 'build.sh'), out, ...given], {
      // Small is not what they have to be.
      env: { ...process.env, DPKG_DEB_COMPRESSOR_LEVEL: '0' },
    });
  });
}
