// SPDX-License-Identifier: Apache-2.0
// A throw-away CA, made with the openssl program.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { isErrnoException } from '../../agent/src/errors.js';
import { CliError, EXIT, messageOf } from './errors.js';

const CLIENT_ROLES = ['viewer', 'operator', 'admin'] as const;
const DOMAIN = 'elio.test';

async function openssl(...args: string[]): Promise<void> {
  try {
    await promisify(execFile)('openssl', args);
  } catch (error) {
    if (isErrnoException(error) && error.code === 'ENOENT') {
      throw new CliError('the program openssl is missing: apt-get install openssl');
    }
    throw new CliError(`openssl failed: ${messageOf(error)}`);
  }
}

/** Makes DIRECTORY/NAME.crt and NAME.key (P-256), signed by the CA in that directory or, without a CA, by itself. */
async function makeCertificate(
  directory: string,
  name: string,
  extensions: readonly string[],
  days: number,
  ca?: string,
): Promise<void> {
  const config = join(directory, 'openssl.cnf');
  const lines = ['[req]', 'distinguished_name=dn', 'prompt=no', 'x509_extensions=ext', '[dn]'];
  await writeFile(config, [...lines, `CN=${name}`, '[ext]', ...extensions, ''].join('\n'));
  const path = (suffix: string): string => join(directory, `${name}.${suffix}`);
  const args = ['req', '-x509', '-config', config, '-newkey', 'ec', '-nodes'];
  args.push('-pkeyopt', 'ec_paramgen_curve:prime256v1', '-days', String(days));
  args.push('-keyout', path('key'), '-out', path('crt'));
  if (ca !== undefined) {
    args.push('-CA', join(directory, `${ca}.crt`), '-CAkey', join(directory, `${ca}.key`));
  }
  await openssl(...args);
  await rm(config);
}

/**
 * Fills a directory with ca, one certificate of an agent for each host, and one of a client for each role. Files: NAME.crt
 * and NAME.key (mode 0600). A failure leaves nothing.
 */
export async function makeCertificates(
  out: string,
  hosts: readonly string[],
  days: number,
): Promise<void> {
  for (const host of hosts) {
    if (!/^[A-Za-z0-9.:_-]+$/.test(host)) {
      throw new CliError(`${JSON.stringify(host)} is no host name`, EXIT.usage);
    }
  }
  if (await stat(out).catch(() => undefined)) {
    throw new CliError(`${out} exists: give a new directory, or delete it`, EXIT.usage);
  }
  const parent = dirname(out);
  await mkdir(parent, { recursive: true });
  const directory = await mkdtemp(join(parent, '.certs-'));
  try {
    const leaf = ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature'];
    const authority = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign'];
    await makeCertificate(directory, 'ca', authority, days);
    for (const host of hosts) {
      const own = isIP(host) === 0 ? `DNS:${host}` : `IP:${host}`;
      const names = `subjectAltName=${own},DNS:localhost,IP:127.0.0.1`;
      const extensions = [...leaf, 'extendedKeyUsage=serverAuth', names];
      await makeCertificate(directory, host, extensions, days, 'ca');
    }
    for (const role of CLIENT_ROLES) {
      const name = `subjectAltName=URI:spiffe://${DOMAIN}/elio/${role}/${role}`;
      const extensions = [...leaf, 'extendedKeyUsage=clientAuth', name];
      await makeCertificate(directory, role, extensions, days, 'ca');
    }
    await rename(directory, out);
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}
