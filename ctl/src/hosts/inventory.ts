// SPDX-License-Identifier: Apache-2.0
// An inventory: the hosts of a fleet, in groups that may nest. The file is itself a group, the one of all hosts.
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { CliError, EXIT, messageOf } from '../errors.js';
import { isDeviceName } from '../device-name.js';
import { YamlFile } from '../yaml-file.js';
import { parseHostAddress } from './address.js';
import { expandRanges } from './ranges.js';

/** Block devices that `fleet backup` backs up: paths or stable ids. */
const devicesSchema = z
  .array(
    z.string().refine(isDeviceName, {
      error: 'a block device is an absolute path, or a stable id such as PARTUUID=...',
    }),
  )
  .min(1, 'name a device, or leave the list out')
  .refine((names) => new Set(names).size === names.length, 'a device is there twice');

const settings = {
  port: z.int().min(1).max(65535).optional(),
  ca: z.string().optional(),
  cert: z.string().optional(),
  key: z.string().optional(),
  devices: devicesSchema.optional(),
};

/** A name alone is a host without settings. */
const hostSchema = z.preprocess(
  (value) => (typeof value === 'string' ? { name: value } : value),
  z.strictObject({ name: z.string(), address: z.string().optional(), ...settings }),
);

interface Group extends Omit<z.infer<typeof hostSchema>, 'name' | 'address'> {
  hosts: z.infer<typeof hostSchema>[];
  groups: Record<string, Group>;
}

const groupSchema: z.ZodType<Group> = z.strictObject({
  hosts: z.array(hostSchema).default([]),
  groups: z
    .record(
      z.string(),
      z.lazy(() => groupSchema),
    )
    .default({}),
  ...settings,
});

/** How a host is reached, and what is backed up of it; what is not there the command line or its defaults say. */
export interface HostSettings {
  address?: string;
  port?: number;
  ca?: string;
  cert?: string;
  key?: string;
  devices?: string[];
}

const KEYS = ['address', 'port', 'ca', 'cert', 'key', 'devices'] as const;

function settingsOf(source: Partial<Record<keyof HostSettings, unknown>>): HostSettings {
  const given = KEYS.filter((key) => source[key] !== undefined);
  return Object.fromEntries(given.map((key) => [key, source[key]]));
}

export class Inventory {
  private readonly settings = new Map<string, HostSettings>();
  private readonly groups = new Map<string, Set<string>>();
  private readonly defaults: HostSettings;

  private constructor(private readonly file: YamlFile<Group>) {
    const { value } = file;
    this.defaults = settingsOf(value);
    this.add({ hosts: value.hosts, groups: value.groups }, [], {});
  }

  /** Throws a CliError that names file and line of what is wrong. */
  static parse(text: string, path: string): Inventory {
    return new Inventory(YamlFile.parse(text, path, groupSchema));
  }

  static read(path: string): Inventory {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      throw new CliError(`--inventory: ${messageOf(error)}`, EXIT.usage);
    }
    return Inventory.parse(text, path);
  }

  /** All hosts, in the order of the file. */
  get hosts(): string[] {
    return [...this.settings.keys()];
  }

  /** The hosts of a group and of the groups in it; undefined when there is no such group. */
  hostsOf(group: string): string[] | undefined {
    const hosts = this.groups.get(group);
    return hosts && [...hosts];
  }

  get groupNames(): string[] {
    return [...this.groups.keys()];
  }

  /** The settings of a host: its own, then those of the groups around it from the inside out. Undefined: not in the file. */
  settingsOf(host: string): HostSettings | undefined {
    const own = this.settings.get(host);
    return own && this.withPaths({ ...this.defaults, ...own });
  }

  /** Paths in an inventory count from its directory: it can be used from anywhere. */
  private withPaths(given: HostSettings): HostSettings {
    const directory = dirname(this.file.path);
    const absolute = { ...given };
    for (const key of ['ca', 'cert', 'key'] as const) {
      const path = given[key];
      if (path !== undefined) absolute[key] = resolve(directory, path);
    }
    return absolute;
  }

  /** Takes up the hosts of a group at a path of the file, and returns their names. */
  private add(group: Group, path: readonly PropertyKey[], around: HostSettings): string[] {
    const inherited = { ...around, ...settingsOf(group) };
    const names = group.hosts.flatMap((host, i) => {
      const at = [...path, 'hosts', i];
      const expanded = this.expand(host.name, at);
      if (expanded.length > 1 && host.address !== undefined) {
        throw this.file.error([...at, 'address'], `${host.name}: several hosts have one address`);
      }
      for (const name of expanded) this.merge(name, { ...inherited, ...settingsOf(host) }, at);
      return expanded;
    });
    for (const [name, inner] of Object.entries(group.groups)) {
      const at = [...path, 'groups', name];
      if (this.groups.has(name)) throw this.file.error(at, `the group ${name} is there twice`);
      const members = new Set<string>();
      this.groups.set(name, members);
      for (const host of this.add(inner, at, inherited)) {
        members.add(host);
        names.push(host);
      }
    }
    return names;
  }

  private expand(pattern: string, at: readonly PropertyKey[]): string[] {
    let names: string[];
    try {
      names = expandRanges(pattern);
    } catch (error) {
      throw this.file.error(at, messageOf(error));
    }
    const bad = names.find((name) => parseHostAddress(name)?.host !== name);
    if (bad === undefined) return names;
    throw this.file.error(
      at,
      `${JSON.stringify(bad)} is no name of a host: a range is written db[01:12], a port is a key of its own`,
    );
  }

  /** A host may be in several groups, if they do not contradict each other. */
  private merge(name: string, given: HostSettings, at: readonly PropertyKey[]): void {
    const known = this.settings.get(name) ?? {};
    for (const key of KEYS) {
      const [before, now] = [known[key], given[key]];
      if (before === undefined || now === undefined || String(before) === String(now)) continue;
      throw this.file.error(
        at,
        `${name} has two values of ${key}: ${String(before)} and ${String(now)}`,
      );
    }
    this.settings.set(name, { ...known, ...given });
  }
}
