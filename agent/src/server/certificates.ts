// SPDX-License-Identifier: Apache-2.0
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { watch, type FSWatcher } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { experimental } from '@grpc/grpc-js';
import type { Config } from '../config.js';
import type { Log } from '../log.js';

type CaListener = experimental.CaCertificateUpdateListener;
type IdentityListener = experimental.IdentityCertificateUpdateListener;

interface Material {
  ca: Buffer;
  certificate: Buffer;
  key: Buffer;
}

/** Files are replaced one by one: so long after the last change they are read. */
const SETTLE_MS = 500;

/** Reads the three files and proves that they belong together. */
export async function readMaterial(tls: Config['tls']): Promise<Material> {
  const [ca, certificate, key] = await Promise.all([
    readFile(tls.ca),
    readFile(tls.certificate),
    readFile(tls.key),
  ]);
  const parsed = new X509Certificate(certificate);
  new X509Certificate(ca);
  if (!parsed.checkPrivateKey(createPrivateKey(key))) {
    throw new Error(`${tls.key} is not the key of ${tls.certificate}`);
  }
  if (new Date(parsed.validTo) < new Date()) {
    throw new Error(`${tls.certificate} has expired on ${parsed.validTo}`);
  }
  return { ca, certificate, key };
}

/**
 * Gives the server its certificates, and new ones when the files change; connections that stand are
 * not touched. Files that do not fit together leave the last good set in use.
 */
export class ReloadingCertificates implements experimental.CertificateProvider {
  private readonly caListeners = new Set<CaListener>();
  private readonly identityListeners = new Set<IdentityListener>();
  private readonly watchers: FSWatcher[] = [];
  private timer: NodeJS.Timeout | undefined;

  private constructor(
    private readonly tls: Config['tls'],
    private readonly log: Log,
    private material: Material,
  ) {}

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

  private reloadSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.reload(), SETTLE_MS).unref();
  }

  /** Reads the files anew; a bad set is logged and not used. */
  async reload(): Promise<void> {
    try {
      this.material = await readMaterial(this.tls);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.log.error('certificates not reloaded; the last good ones stay', { error: message });
      return;
    }
    for (const listener of this.caListeners) this.tellCa(listener);
    for (const listener of this.identityListeners) this.tellIdentity(listener);
    this.log.info('certificates loaded');
  }

  private tellCa(listener: CaListener): void {
    listener({ caCertificate: this.material.ca });
  }

  private tellIdentity(listener: IdentityListener): void {
    listener({ certificate: this.material.certificate, privateKey: this.material.key });
  }

  addCaCertificateListener(listener: CaListener): void {
    this.caListeners.add(listener);
    process.nextTick(() => {
      this.tellCa(listener);
    });
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.identityListeners.add(listener);
    process.nextTick(() => {
      this.tellIdentity(listener);
    });
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.identityListeners.delete(listener);
  }

  close(): void {
    clearTimeout(this.timer);
    for (const watcher of this.watchers) watcher.close();
  }
}
