// SPDX-License-Identifier: Apache-2.0
// What the agent itself finds wrong with its host.
import type { Problem } from '../../../proto/gen/elio/v1/host.js';
import { note, wrong, type Finding } from './finding.js';

/** Found by doctor as well, with more to say of it. */
const SAID_ELSEWHERE = ['MODULE_NOT_LOADED', 'VERSION_MISMATCH'];

/** `certificatesSeen`: the agent's certificates were looked at already. */
export function problemFindings(
  problems: readonly Problem[],
  certificatesSeen: boolean,
): Finding[] {
  return problems.flatMap(({ reason, message }) => {
    if (SAID_ELSEWHERE.includes(reason)) return [];
    switch (reason) {
      case 'SNAPSHOT_FAILED':
        return [wrong('snapshot', message, 'elioctl backup does so; or elioctl destroy')];
      case 'CERTIFICATE_EXPIRES':
        if (certificatesSeen) return [];
        return [note("agent's certificate", message, 'then systemctl reload eliod')];
      default:
        return [wrong(reason, message, '')];
    }
  });
}
