// SPDX-License-Identifier: Apache-2.0
import type { ShowProgress } from '../progress.js';
import type { Pacer } from './pacer.js';

/** Whom a backup tells how it gets on, and who holds it back. */
export interface BackupWatch {
  /** Takes what is good to know, and is in the result. */
  note(message: string): void;
  /** Takes what somebody should look at. */
  warn(message: string): void;
  showProgress: ShowProgress;
  /** The limit on what the host sends; undefined: none. */
  pacer?: Pacer | undefined;
}
