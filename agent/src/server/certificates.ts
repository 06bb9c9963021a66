// SPDX-License-Identifier: Apache-2.0
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { watch, type FSWatcher } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { SecureContextOptions } from 'node:tls';
import type { Config } from '../config.js';
import type { Log } from '../log.js';

interface Material {
  ca: Buffer;
  certificate: Buffer;
  key: Buffer;
  /** When the first of them expires. */
  expires: Date;
}

/** Files are replaced one by one: so long after the last change they are read. */
const SETTLE_MS = 500;
const DAY_MS = 24 * 60 * 60 * 1000;
/** So long before it expires a certificate is warned of, once a day. */
export const EXPIRY_WARNING_MS = 30 * DAY_MS;

/** Reads the three files and proves that they belong together. */
export async function readMaterial(tls: Config['tls']): Promise<Material> {
  const [ca, certificate, key] = await Promise.all([
    readFile(tls.ca),
    readFile(tls.certificate),
    readFile(tls.key),
  ]);
  const own = new X509Certificate(certificate);
  if (!own.checkPrivateKey(createPrivateKey(key))) {
    throw new Error(`${tls.key} is not the key of ${tls.certificate}`);
  }
  if (new Date(own.validTo) < new Date()) {
    throw new Error(`${tls.certificate} has expired on ${own.validTo}`);
  }
  const ends = [own, new X509Certificate(ca)].map(({ validTo }) => new Date(validTo).getTime());
  return { ca, certificate, key, expires: new Date(Math.min(...ends)) };
}

export function secureContextOf({ ca, certificate, key }: Material): SecureContextOptions {
  return { ca, cert: certificate, key, minVersion: 'TLSv1.2' };
}

/**
 * The certificates of a listener, read anew when the files change. Files that do not fit together leave the last good set in use.
 */
export class ReloadingCertificates {
  private readonly watchers: FSWatcher[] = [];
  private listener: (material: Material) => void = () => undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly daily: NodeJS.Timeout;

  private constructor(
    private readonly tls: Config['tls'],
    private readonly log: Log,
    private current: Material,
  ) {
    this.warn();
    this.daily = setInterval(() => {
      this.warn();
    }, DAY_MS).unref();
  }

  static async open(tls: Config['tls'], log: Log): Promise<ReloadingCertificates> {
    const certificates = new ReloadingCertificates(tls, log, await readMaterial(tls));
    const directories = new Set([tls.ca, tls.certificate, tls.key].map((path) => dirname(path)));
    for (const directory of directories) {
      const watcher = watch(directory, { persistent: false }, () => {
        certificates.reloadSoon();
      });
      watcher.on('error', (error) => log.warn('certificate directory', { error: error.message }));
      certificates.watchers.push(watcher);
    }
    return certificates;
  }

  get material(): Material {
    return this.current;
  }

  /** Calls `listener` with each new set. */
  onReload(listener: (material: Material) => void): void {
    this.listener = listener;
  }

  private warn(): void {
    const { expires } = this.current;
    if (expires.getTime() - Date.now() > EXPIRY_WARNING_MS) return;
    this.log.warn('a certificate expires soon: put a new one in its place, it is taken by itself', {
      certificate: this.tls.certificate,
      expires: expires.toISOString(),
    });
  }

  private reloadSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.reload(), SETTLE_MS).unref();
  }

  /** Reads the files anew; a bad set is logged and not used. */
  async reload(): Promise<void> {
    try {
      const material = await readMaterial(this.tls);
      this.listener(material);
      this.current = material;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.log.error('certificates not reloaded; the last good ones stay', { error: message });
      return;
    }
    this.log.info('certificates loaded', { expires: this.current.expires.toISOString() });
    this.warn();
  }

  close(): void {
    clearTimeout(this.timer);
    clearInterval(this.daily);
    for (const watcher of this.watchers) watcher.close();
  }
}
