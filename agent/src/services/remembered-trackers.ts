// SPDX-License-Identifier: Apache-2.0
import { failureMessage } from '../driver/failures.js';
import { STATE } from '../driver/layout.js';
import type { TrackerInfo } from '../driver/snap-driver.js';
import { AgentError } from '../errors.js';
import type { Log } from '../log.js';
import { Semaphore } from '../os/semaphore.js';
import { stableId } from '../os/stable-ids.js';
import {
  formatReloadList,
  readReloadList,
  RELOAD_LIST_PATH,
  writeReloadList,
  type ReloadEntry,
} from '../state/reload-list.js';

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Remembers what the driver tracks, so that elio-rescue can announce it at the next boot.
 *
 * The list follows the driver: it is written after each call that changes something. When the agent or the machine stops
 * between the two, it is one call behind, and that is safe, because the driver takes nobody's word for a tracker: the COW
 * file has to have been closed as the current one of its mode, on a filesystem that has not changed since. So, after
 *
 * - a set-up or a reload: nobody announces the tracker, and there is none;
 * - a transition: the mode is the other one, or the COW file an old one, which is not closed as the current one is: refused;
 * - the end of an active tracker: its COW file is gone: refused;
 * - the end of another one, whose COW file stays: it comes back if nothing has changed since, and is right then.
 *
 * In each case the next backup is a full at worst, and no change is missed. In the other order, list first, a call that
 * the driver refuses would lose a tracker that goes on. The same holds where the initramfs reads a list that is older than
 * the last transaction of the filesystem's journal.
 */
export class RememberedTrackers {
  private readonly slots = new Semaphore(1);
  /** The list as it was last written. */
  private written = '';
  /** Devices that were said to be without an identity. */
  private readonly nameless = new Set<string>();

  constructor(
    private readonly trackers: { list(): Promise<TrackerInfo[]> },
    private readonly log: Pick<Log, 'info' | 'warn'>,
    private readonly path = RELOAD_LIST_PATH,
    private readonly idOf: (blockDevice: string) => Promise<string | undefined> = stableId,
  ) {}

  /** Says what was tracked when the list was last written and is not any more; then the list is what the driver has. */
  async begin(): Promise<void> {
    try {
      const infos = await this.trackers.list();
      for (const entry of await this.readList()) await this.compare(entry, infos);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      // The list stays: what it names can be announced once the module is there, before it is mounted.
      this.log.warn(`nothing is tracked: ${error.message}`);
      return;
    }
    await this.update();
  }

  /**
   * To be called when the driver's trackers may have changed. Does not reject: what the caller has done is done, and a
   * list that is behind costs a full backup.
   */
  async update(): Promise<void> {
    await this.slots.run(async () => {
      try {
        const entries = await this.entries();
        const text = formatReloadList(entries);
        if (text === this.written) return;
        this.written = '';
        await writeReloadList(this.path, entries);
        this.written = text;
      } catch (error) {
        this.log.warn(
          `${this.path} cannot be written (${messageOf(error)}): after a reboot the next backups are fulls`,
        );
      }
    });
  }

  private async readList(): Promise<ReloadEntry[]> {
    try {
      return await readReloadList(this.path);
    } catch (error) {
      this.log.warn(
        `${this.path} cannot be used (${messageOf(error)}): what was tracked before is not known`,
      );
      return [];
    }
  }

  private async compare(entry: ReloadEntry, infos: readonly TrackerInfo[]): Promise<void> {
    const info = infos.find(({ minor }) => minor === entry.minor);
    const { minor } = entry;
    if (info === undefined || (await this.idOf(info.blockDevice)) !== entry.device) {
      this.log.warn(
        `the next backup of ${entry.device} is a full: it was tracked and is not any more (was it destroyed, or not reloaded at boot? journalctl -b -u elio-reload -k tells)`,
        { minor, device: entry.device },
      );
    } else if (info.error !== 0) {
      this.log.warn(
        `the next backup of ${info.blockDevice} is a full: it has failed: ${failureMessage(info.error)}`,
        {
          minor,
          device: entry.device,
          error: info.error,
        },
      );
    } else {
      this.log.info(`${info.blockDevice} is still tracked`, { minor, device: entry.device });
    }
  }

  /** What is worth a reload: not what has failed already. */
  private async entries(): Promise<ReloadEntry[]> {
    const entries: ReloadEntry[] = [];
    for (const info of await this.trackers.list()) {
      if (info.error !== 0) continue;
      const device = await this.idOf(info.blockDevice);
      if (device === undefined) {
        this.warnOfNameless(info);
        continue;
      }
      entries.push({
        mode: (info.state & STATE.SNAPSHOT) === 0n ? 'incremental' : 'snapshot',
        minor: info.minor,
        device,
        cowFile: info.cowFile,
        cacheSizeBytes: info.cacheSizeBytes,
        ignoreErrors: info.ignoreErrors,
      });
    }
    return entries;
  }

  private warnOfNameless({ minor, blockDevice }: TrackerInfo): void {
    if (this.nameless.has(blockDevice)) return;
    this.nameless.add(blockDevice);
    this.log.warn(
      `${blockDevice} has no identity that outlives a reboot (a serial number, say): after one its next backup is a full`,
      { minor },
    );
  }
}
