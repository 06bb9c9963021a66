// SPDX-License-Identifier: Apache-2.0
// Which agents a command line names, and how each is reached.
import { CliError, EXIT } from '../errors.js';
import { formatHostAddress, parseHostAddress } from './address.js';
import { Inventory, type HostSettings } from './inventory.js';
import { expandRanges } from './ranges.js';

/** An agent on another host. */
export interface Target {
  /** Its name in messages and results. */
  label: string;
  /** HOST:PORT. */
  address: string;
  /** Its certificate is for this name; undefined: for the host in the address. */
  certifiedName: string | undefined;
  /** Files of certificates and key; what is undefined is the same for all hosts. */
  tls: Pick<HostSettings, 'ca' | 'cert' | 'key'>;
  /** Block devices that the inventory names for backups. */
  devices?: string[];
}

export interface HostSelection {
  host: readonly string[];
  inventory?: string | undefined;
  group: readonly string[];
}

/** The hosts of --host and --group, or all of the inventory, each once and in that order; none: the agent on this host. */
export function selectTargets(selection: HostSelection): Target[] {
  const inventory =
    selection.inventory === undefined ? undefined : Inventory.read(selection.inventory);
  if (!inventory && selection.group.length > 0) {
    throw new CliError('--group needs --inventory FILE', EXIT.usage);
  }
  const names = selection.host.flatMap((text) => expanded(text));
  for (const group of selection.group) {
    const hosts = inventory?.hostsOf(group);
    if (!hosts) {
      throw new CliError(
        `--group ${group}: the inventory has no such group, only ${inventory?.groupNames.join(', ') ?? ''}`,
        EXIT.usage,
      );
    }
    names.push(...hosts);
  }
  const named = selection.host.length > 0 || selection.group.length > 0;
  if (inventory && !named) names.push(...inventory.hosts);
  if (names.length === 0 && inventory) {
    throw new CliError(`${selection.inventory ?? ''}: no host is left to talk to`, EXIT.usage);
  }
  return [...new Set(names)].map((name) => {
    const settings = inventory?.settingsOf(name);
    if (inventory && !settings) {
      throw new CliError(`--host ${name}: the inventory has no such host`, EXIT.usage);
    }
    return targetOf(name, settings);
  });
}

function expanded(text: string): string[] {
  try {
    return expandRanges(text);
  } catch (error) {
    if (error instanceof RangeError) throw new CliError(`--host: ${error.message}`, EXIT.usage);
    throw error;
  }
}

function targetOf(label: string, settings: HostSettings | undefined): Target {
  const address = parseHostAddress(settings?.address ?? label);
  if (!address) {
    throw new CliError(
      `--host: ${JSON.stringify(settings?.address ?? label)} is no HOST or HOST:PORT`,
      EXIT.usage,
    );
  }
  const { ca, cert, key, devices } = settings ?? {};
  return {
    label,
    address: formatHostAddress({ host: address.host, port: address.port ?? settings?.port }),
    certifiedName: settings?.address === undefined ? undefined : label,
    tls: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) },
    ...(devices && { devices }),
  };
}
