// SPDX-License-Identifier: Apache-2.0
// What a list of a million changes costs the agent, on this machine: from the driver's extents to the messages. The driver itself is
// not here, and neither is the network.
import { join } from 'node:path';
import { repository } from '../harness/cache.js';
import { checkCommand } from '../harness/process.js';

export interface ChangeList {
  extents: number;
  seconds: number;
  /** Most memory that the process had beyond what it began with. */
  mib: number;
}

export const changeListTargets = { seconds: 3, mib: 100 };

export async function measureChangeList(): Promise<ChangeList> {
  const program = join(repository, 'dist', 'integration', 'bench', 'list-changes.js');
  return JSON.parse(await checkCommand([process.execPath, program])) as ChangeList;
}
