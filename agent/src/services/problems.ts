// SPDX-License-Identifier: Apache-2.0
// What keeps a host from being backed up, for GetHost, health checks and metrics.
import type { Problem } from '../../../proto/gen/elio/v1/host.js';
import type { Snapshot } from '../../../proto/gen/elio/v1/types.js';
import { failureMessage } from '../driver/failures.js';
import { EXPIRY_WARNING_MS } from '../server/certificates.js';

export interface HostFacts {
  /** Empty: the module is not loaded. */
  moduleVersion: string;
  agentVersion: string;
  snapshots: readonly Snapshot[];
  certificateExpires: Date | undefined;
  /** Why there is no TCP although there are certificates; empty: there is, or there are none. */
  certificateFault: string;
  nowMs: number;
}

export function problemsOf(facts: HostFacts): Problem[] {
  const problems: Problem[] = [];
  const { moduleVersion, agentVersion, certificateExpires, certificateFault } = facts;
  if (moduleVersion === '') {
    problems.push({
      reason: 'MODULE_NOT_LOADED',
      message: 'the kernel module is not loaded, nothing is tracked: run `modprobe elastio-snap`',
    });
  } else if (moduleVersion !== agentVersion) {
    problems.push({
      reason: 'VERSION_MISMATCH',
      message: `the module is version ${moduleVersion}, the agent ${agentVersion}: install both of one version; an updated module is used after a restart of the host`,
    });
  }
  for (const { minor, blockDevice, error } of facts.snapshots) {
    if (error === 0) continue;
    problems.push({
      reason: 'SNAPSHOT_FAILED',
      message: `snapshot ${String(minor)} of ${blockDevice} has failed: ${failureMessage(error)}`,
    });
  }
  if (certificateExpires && certificateExpires.getTime() - facts.nowMs < EXPIRY_WARNING_MS) {
    problems.push({
      reason: 'CERTIFICATE_EXPIRES',
      message: `the agent's certificate, or its CA's, expires on ${certificateExpires.toISOString()}: put a new one in its place`,
    });
  }
  if (certificateFault !== '') {
    problems.push({
      reason: 'CERTIFICATE_EXPIRES',
      message: `the agent's certificates cannot be used, it serves this host only: ${certificateFault}: put others in their place`,
    });
  }
  return problems;
}
