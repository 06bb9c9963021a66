// SPDX-License-Identifier: Apache-2.0
// The manual page's commands that change something, on one host or many.
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { confirm } from '../confirm.js';
import { hostDevice, hostPath, SLOW_CALL_MS, type Connection } from '../connection.js';
import { DONE } from '../hosts/results.js';
import { runOnHosts, type TaskOptions } from '../hosts/task.js';
import { SNAPSHOT } from '../snapshots.js';
import {
  planDestroy,
  planReconfigure,
  planReload,
  planRenewLease,
  planSetup,
  planTransitionToIncremental,
  planTransitionToSnapshot,
} from './plans.js';

export type ChangeOptions = TaskOptions;

export interface CacheOptions extends ChangeOptions {
  c: bigint;
}

export interface LeaseOptions extends ChangeOptions {
  /** Seconds; 0: none. */
  lease?: number;
}

export interface TransitionOptions extends LeaseOptions {
  f: bigint;
}

export interface ReloadOptions extends CacheOptions {
  i?: true;
}

export interface SetupOptions extends ReloadOptions, TransitionOptions {}

export interface DestroyOptions extends ChangeOptions {
  yes?: true;
}

export async function setupSnapshot(
  command: Command,
  device: string,
  cowFile: string,
  minor: number,
  options: SetupOptions,
): Promise<void> {
  const requestOf = (connection: Connection) => ({
    blockDevice: hostDevice(connection, device, 'block device'),
    cowFile: hostPath(connection, cowFile, 'cow file'),
    minor,
    cowSizeBytes: options.f,
    cacheSizeBytes: options.c,
    ignoreErrors: options.i === true,
    requestId: randomUUID(),
    leaseSeconds: options.lease ?? 0,
  });
  await runOnHosts(command, options, {
    run: async (connection) => {
      const request = requestOf(connection);
      return (await connection.snapshots.setupSnapshot(request, SLOW_CALL_MS)).snapshot;
    },
    plan: async (connection) => planSetup(connection, requestOf(connection)),
    form: SNAPSHOT,
  });
}

export async function reload(
  command: Command,
  mode: 'snapshot' | 'incremental',
  device: string,
  cowFile: string,
  minor: number,
  options: ReloadOptions,
): Promise<void> {
  const requestOf = (connection: Connection) => ({
    blockDevice: hostDevice(connection, device, 'block device'),
    cowFile,
    minor,
    cacheSizeBytes: options.c,
    ignoreErrors: options.i === true,
    requestId: randomUUID(),
  });
  await runOnHosts(command, options, {
    run: async (connection) => {
      const { snapshots } = connection;
      const request = requestOf(connection);
      const answer =
        mode === 'snapshot'
          ? await snapshots.reloadSnapshot(request)
          : await snapshots.reloadIncremental(request);
      return answer.snapshot;
    },
    plan: async (connection) => planReload(connection, mode, requestOf(connection)),
    form: SNAPSHOT,
  });
}

export async function transitionToIncremental(
  command: Command,
  minor: number,
  options: ChangeOptions,
): Promise<void> {
  await runOnHosts(command, options, {
    run: async (connection) => {
      const request = { minor, requestId: randomUUID() };
      return (await connection.snapshots.transitionToIncremental(request, SLOW_CALL_MS)).snapshot;
    },
    plan: (connection) => planTransitionToIncremental(connection, minor),
    form: SNAPSHOT,
  });
}

export async function transitionToSnapshot(
  command: Command,
  cowFile: string,
  minor: number,
  options: TransitionOptions,
): Promise<void> {
  const requestOf = (connection: Connection) => ({
    minor,
    cowFile: hostPath(connection, cowFile, 'cow file'),
    cowSizeBytes: options.f,
    requestId: randomUUID(),
    leaseSeconds: options.lease ?? 0,
  });
  await runOnHosts(command, options, {
    run: async (connection) => {
      const request = requestOf(connection);
      return (await connection.snapshots.transitionToSnapshot(request, SLOW_CALL_MS)).snapshot;
    },
    plan: async (connection) => planTransitionToSnapshot(connection, requestOf(connection)),
    form: SNAPSHOT,
  });
}

export async function renewLease(
  command: Command,
  minor: number,
  options: LeaseOptions,
): Promise<void> {
  const request = { minor, leaseSeconds: options.lease };
  await runOnHosts(command, options, {
    run: async (connection) => (await connection.snapshots.renewLease(request)).snapshot,
    plan: (connection) => planRenewLease(connection, request),
    form: SNAPSHOT,
  });
}

/** How many hosts a question names; the others it counts. */
const NAMED_HOSTS = 8;

function hostsText(hosts: readonly string[]): string {
  const named = hosts.slice(0, NAMED_HOSTS).join(', ');
  return hosts.length > NAMED_HOSTS ? `${named}, ...` : named;
}

export async function destroy(
  command: Command,
  minor: number,
  options: DestroyOptions,
): Promise<void> {
  await runOnHosts(command, options, {
    run: async (connection) =>
      connection.snapshots.destroySnapshot({ minor, requestId: randomUUID() }, SLOW_CALL_MS),
    plan: (connection) => planDestroy(connection, minor),
    // The manual page's command never asks; that of a whole fleet is not the manual page's.
    confirm: async (hosts) => {
      if (hosts.length === 1 || options.yes === true) return;
      await confirm({
        warning: `Snapshot ${String(minor)} will be destroyed on ${String(hosts.length)} hosts (${hostsText(hosts)})`,
        agreement: String(hosts.length),
        agreementName: 'the number of hosts',
      });
    },
    form: DONE,
  });
}

export async function reconfigure(
  command: Command,
  minor: number,
  options: CacheOptions,
): Promise<void> {
  const request = { minor, cacheSizeBytes: options.c, requestId: '' };
  await runOnHosts(command, options, {
    run: async (connection) => {
      const once = { ...request, requestId: randomUUID() };
      return (await connection.snapshots.reconfigureSnapshot(once, SLOW_CALL_MS)).snapshot;
    },
    plan: (connection) => planReconfigure(connection, request),
    form: SNAPSHOT,
  });
}
