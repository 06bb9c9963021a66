// SPDX-License-Identifier: Apache-2.0
// Which devices of which hosts are backed up. The hosts are asked before anything is done: a device that has two names is found out.
import type { BlockDevice } from '../../../proto/gen/elio/v1/host.js';
import { matchDevice, noSuchDevice } from '../backup/origin.js';
import type { Connection, Host } from '../connection.js';
import { CliError, EXIT } from '../errors.js';
import { askAll, type AskOptions, type HostAnswer } from '../hosts/ask.js';

/** A device that is to be backed up, or what keeps it from that. */
export interface Candidate {
  host: Host;
  /** As the user names it, or as it is called for as long as it lives; null: it is not known. */
  device: string | null;
  failure?: Error | undefined;
}

/** What a host tells about itself. */
interface Survey {
  /** Is the same for two names of one host, until it boots. */
  bootId: string;
  blockDevices: readonly BlockDevice[];
}

async function surveyOf(connection: Connection): Promise<Survey> {
  const { bootId } = await connection.hosts.getHost({});
  const { blockDevices } = await connection.hosts.listBlockDevices({});
  return { bootId, blockDevices };
}

/** Its own name of a device-mapper device, else what it is known by over reboots, else its path. */
export function lastingName({ path, aliases, stableId }: BlockDevice): string {
  const [mapper] = aliases.filter((alias) => alias.startsWith('/dev/mapper/')).sort();
  return mapper ?? (stableId === '' ? path : stableId);
}

/** Without a list all devices count that are mounted for writing and can be tracked, or are. */
export function isBackedUpUnasked(device: BlockDevice): boolean {
  const { mountPoints, readOnly, minor, refusal } = device;
  return mountPoints.length > 0 && !readOnly && (minor !== undefined || refusal === '');
}

/** Whose name came first for each device of the fleet. */
class Claims {
  private readonly names = new Map<string, string>();

  /** Notes a device under a name; returns what it is called already, if it is. */
  claim(host: Host, { bootId }: Survey, device: BlockDevice, name: string): string | undefined {
    const id = JSON.stringify([bootId === '' ? host.label : bootId, device.path]);
    const known = this.names.get(id);
    if (known === undefined) this.names.set(id, `${name} of ${host.label}`);
    return known;
  }
}

function candidatesOf(
  host: Host,
  survey: Survey,
  wanted: readonly string[] | undefined,
  claims: Claims,
): Candidate[] {
  const { blockDevices } = survey;
  const names = wanted ?? blockDevices.filter(isBackedUpUnasked).map(lastingName);
  if (names.length === 0) {
    const failure = new CliError(
      `${host.label}: no block device there is mounted for writing and can be tracked: see elioctl devices, or take the host out of the inventory`,
      EXIT.notFound,
    );
    return [{ host, device: null, failure }];
  }
  return names.map((name) => {
    const device = matchDevice(blockDevices, name);
    if (!device) return { host, device: name, failure: noSuchDevice(host.label, name) };
    const known = claims.claim(host, survey, device, name);
    if (known === undefined) return { host, device: name };
    const failure = new CliError(
      `${host.label}: ${name} is the same device as ${known} (${device.path}): name it once`,
      EXIT.usage,
    );
    return { host, device: name, failure };
  });
}

/**
 * All devices of the hosts that are to be backed up, in the order of the hosts. `devices`: those of every host, whatever the
 * inventory says. Never rejects because of one host.
 */
export async function findCandidates(
  hosts: readonly Host[],
  devices: readonly string[] | undefined,
  options: AskOptions,
): Promise<Candidate[]> {
  const ask = async (host: Host): Promise<Survey> => {
    const connection = host.connect();
    try {
      return await surveyOf(connection);
    } finally {
      connection.close();
    }
  };
  const answers = await askAll(hosts, ask, options);
  const claims = new Claims();
  return hosts.flatMap((host, i) => {
    const wanted = devices ?? host.devices;
    const { answer, failure }: Partial<HostAnswer<Survey>> = answers[i] ?? {};
    if (answer) return candidatesOf(host, answer, wanted, claims);
    return (wanted ?? [null]).map((device) => ({ host, device, failure }));
  });
}
