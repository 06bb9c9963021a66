// SPDX-License-Identifier: Apache-2.0
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { existsSync, watch, type FSWatcher } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { Config } from '../config.js';
import { isErrnoException } from '../errors.js';
import type { Log } from '../log.js';
import { Semaphore } from '../os/semaphore.js';

interface Material {
  ca: Buffer;
  certificate: Buffer;
  key: Buffer;
  /** When the first of them expires. */
  expires: Date;
}

/** Files are replaced one by one: so long after the last change they are read. */
const SETTLE_MS = 500;
/** So often certificates that cannot be used are tried again. */
const RETRY_MS = 60_000;
const DAY_MS = 24 * 60 * 60 * 1000;
/** So long before it expires a certificate is warned of, once a day. */
export const EXPIRY_WARNING_MS = 30 * DAY_MS;

/** Reads the three files and proves that they belong together. */
async function readMaterial(tls: Config['tls']): Promise<Material> {
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
  const material = { ca, certificate, key, expires: new Date(Math.min(...ends)) };
  // What is sound may still be refused: a key that is too short.
  createSecureContext(secureContextOf(material));
  return material;
}

export function secureContextOf({ ca, certificate, key }: Material): SecureContextOptions {
  return { ca, cert: certificate, key, minVersion: 'TLSv1.2' };
}

/** Calls `changed` when the files have changed, and have settled. Returns what ends that. */
function watchFiles(tls: Config['tls'], log: Log, changed: () => Promise<void>): () => void {
  let timer: NodeJS.Timeout | undefined;
  const directories = new Set([tls.ca, tls.certificate, tls.key].map((path) => dirname(path)));
  const watchers: FSWatcher[] = [];
  const stop = (): void => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
  };
  try {
    for (const directory of [...directories].filter(existsSync)) {
      const watcher = watch(directory, { persistent: false }, () => {
        clearTimeout(timer);
        timer = setTimeout(() => void changed(), SETTLE_MS).unref();
      });
      watcher.on('error', (error) => log.warn('certificate directory', { error: error.message }));
      watchers.push(watcher);
    }
  } catch (error) {
    stop();
    throw error;
  }
  return stop;
}

/** Certificates that need not be there, or may be unusable: they are used once they can be. */
export class AwaitedCertificates {
  private readonly attempts = new Semaphore(1);
  private stopWaiting: (() => void) | undefined;
  private reason = '';
  private told = '';

  /** `use` is called until it does not reject. */
  constructor(
    private readonly tls: Config['tls'],
    private readonly log: Log,
    private readonly use: () => Promise<void>,
  ) {}

  /** Why those that are there cannot be used; empty: there are none, or they are used. */
  get fault(): string {
    return this.reason;
  }

  /** Uses them, or begins to wait. Rejects when `use` does. */
  async begin(): Promise<void> {
    const stopWatching = this.watch();
    // A clock that is set, a port that is free, a directory that is made: nothing tells of these.
    const timer = setInterval(() => void this.reload(), RETRY_MS).unref();
    this.stopWaiting = () => {
      clearInterval(timer);
      stopWatching();
    };
    await this.attempt();
  }

  private watch(): () => void {
    try {
      return watchFiles(this.tls, this.log, () => this.reload());
    } catch (error) {
      this.log.warn('certificate directory', { error: String(error) });
      return () => undefined;
    }
  }

  /** Reads the files anew. */
  async reload(): Promise<void> {
    await this.attempt().catch((error: unknown) => {
      this.tell(error);
    });
  }

  private attempt(): Promise<void> {
    return this.attempts.run(async () => {
      if (!this.stopWaiting) return;
      try {
        await readMaterial(this.tls);
      } catch (error) {
        this.tell(error);
        return;
      }
      await this.use();
      this.reason = '';
      this.close();
    });
  }

  /** Each reason once, however often it is tried. */
  private tell(error: unknown): void {
    const { certificate } = this.tls;
    const areMissing = isErrnoException(error) && error.code === 'ENOENT';
    const text = error instanceof Error ? error.message : String(error);
    if (text === this.told) return;
    this.told = text;
    this.reason = areMissing ? '' : text;
    if (areMissing) this.log.info('no TCP: there are no certificates', { certificate });
    else
      this.log.error('no TCP: the certificates cannot be used; once they can it begins by itself', {
        certificate,
        error: text,
      });
  }

  close(): void {
    this.stopWaiting?.();
    this.stopWaiting = undefined;
  }
}

/**
 * The certificates of a listener, read anew when the files change. Files that do not fit together leave the last good set in use.
 */
export class ReloadingCertificates {
  private listener: (material: Material) => void = () => undefined;
  private readonly stopWatching: () => void;
  private readonly daily: NodeJS.Timeout;

  private constructor(
    private readonly tls: Config['tls'],
    private readonly log: Log,
    private current: Material,
  ) {
    // First what may fail: it is tried again, and nothing of it is to be left.
    this.stopWatching = watchFiles(tls, log, () => this.reload());
    this.warn();
    this.daily = setInterval(() => {
      this.warn();
    }, DAY_MS).unref();
  }

  static async open(tls: Config['tls'], log: Log): Promise<ReloadingCertificates> {
    return new ReloadingCertificates(tls, log, await readMaterial(tls));
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
    clearInterval(this.daily);
    this.stopWatching();
  }
}
