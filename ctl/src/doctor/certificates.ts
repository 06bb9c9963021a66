// SPDX-License-Identifier: Apache-2.0
// Certificates: are they there, do they belong together, how long are they valid?
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isErrnoException } from '../../../agent/src/errors.js';
import { messageOf } from '../errors.js';
import { note, ok, wrong, type Finding } from './finding.js';

const DAY_MS = 86_400_000;
const SOON_DAYS = 30;

/** Files in PEM. */
export interface CertificatePaths {
  ca: string;
  certificate: string;
  key: string;
}

interface Material {
  ca: X509Certificate[];
  /** The certificate itself, then those that lead to the CA. */
  chain: X509Certificate[];
  key: KeyObject;
}

function parseCertificates(pem: string): X509Certificate[] {
  const texts = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (texts.length === 0) throw new Error('there is no certificate in PEM in it');
  return texts.map((text) => new X509Certificate(text));
}

/** Reads the three files; instead of what cannot be used there is a finding. */
async function readMaterial(paths: CertificatePaths, subject: string): Promise<Material | Finding> {
  const take = async <T>(path: string, parse: (pem: string) => T): Promise<T> => {
    try {
      return parse(await readFile(path, 'utf8'));
    } catch (error) {
      if (isErrnoException(error) && error.code === 'ENOENT')
        throw new Unusable(`${path} is not there`);
      throw new Unusable(
        `${path}: ${messageOf(error)}`,
        isErrnoException(error) && error.code === 'EACCES',
      );
    }
  };
  try {
    return {
      ca: await take(paths.ca, parseCertificates),
      chain: await take(paths.certificate, parseCertificates),
      key: await take(paths.key, createPrivateKey),
    };
  } catch (error) {
    if (!(error instanceof Unusable)) throw error;
    return error.forbidden
      ? note(subject, error.message, 'run doctor as root')
      : wrong(
          subject,
          error.message,
          `put it there; \`elioctl certs\` makes some to try things out`,
        );
  }
}

class Unusable extends Error {
  constructor(
    message: string,
    readonly forbidden = false,
  ) {
    super(message);
  }
}

/** How long one certificate is still valid. */
function validity(certificate: X509Certificate, subject: string, now: number): Finding {
  const end = new Date(certificate.validTo);
  const day = end.toISOString().slice(0, 10);
  const days = Math.floor((end.getTime() - now) / DAY_MS);
  const renew = 'have a new one issued; eliod takes it up with systemctl reload eliod';
  if (new Date(certificate.validFrom).getTime() > now) {
    return wrong(
      subject,
      `it is not valid yet, only from ${certificate.validFrom}`,
      'set the clock',
    );
  }
  if (end.getTime() < now) return wrong(subject, `it expired on ${day}`, renew);
  if (days < SOON_DAYS)
    return note(subject, `it expires in ${String(days)} days, on ${day}`, renew);
  return ok(subject, `valid until ${day}`);
}

/** What is to be said of a CA, a certificate by it, and its key. */
export async function examineCertificates(
  paths: CertificatePaths,
  subject: string,
  now = Date.now(),
): Promise<Finding[]> {
  const material = await readMaterial(paths, subject);
  if ('verdict' in material) return [material];
  const { ca, chain, key } = material;
  const [own] = chain;
  if (!own) return [];
  if (!own.checkPrivateKey(key)) {
    return [
      wrong(subject, `${paths.key} is not the key of ${paths.certificate}`, 'put both there again'),
    ];
  }
  const issuers = [...ca, ...chain.slice(1)];
  if (!issuers.some((issuer) => own.checkIssued(issuer) && own.verify(issuer.publicKey))) {
    return [
      wrong(
        subject,
        `${paths.certificate} is not signed by a CA in ${paths.ca}`,
        'have it issued by that CA, or put the right CA there',
      ),
    ];
  }
  const authorities = ca.map((one) => validity(one, `${subject}: CA`, now));
  return [validity(own, subject, now), ...authorities.filter(({ verdict }) => verdict !== 'ok')];
}
