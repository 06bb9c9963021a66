#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// eliod: everything is put together here, and nowhere else.
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Problem } from '../../proto/gen/elio/v1/host.js';
import { readArguments, USAGE } from './arguments.js';
import { ConfigError, loadConfig, type Config } from './config.js';
import { KernelSnapDriver } from './driver/snap-driver.js';
import { EventLog } from './events/event-log.js';
import { Monitor } from './events/monitor.js';
import { createLog } from './log.js';
import { notifyServiceManager } from './os/ioctl.js';
import { openDirect } from './os/direct-io.js';
import { moduleVersion } from './os/module.js';
import { Metrics } from './server/metrics.js';
import { AgentServer } from './server/server.js';
import { Allocations } from './services/allocations.js';
import { ChangeService } from './services/change-service.js';
import { DataService } from './services/data-service.js';
import { EventService } from './services/event-service.js';
import { Hooks } from './services/hooks.js';
import { HostService } from './services/host-service.js';
import { problemsOf } from './services/problems.js';
import { RememberedTrackers } from './services/remembered-trackers.js';
import { RestoreService } from './services/restore-service.js';
import { SnapshotService } from './services/snapshot-service.js';
import { Streams } from './services/streams.js';
import { imageDevice, Trackers } from './services/trackers.js';
import { ChainStore } from './state/chains.js';
import { Leases } from './state/leases.js';
import { RequestLog } from './state/requests.js';
import { AGENT_VERSION } from './version.js';

/** So often the trackers are looked at, besides whenever a call changes them. */
const LOOK_MS = 2_000;

async function run(config: Config, configPath: string | undefined): Promise<void> {
  const log = createLog(config.log_level);
  const hooks = new Hooks(config.hooks, log);
  const streams = new Streams();
  const events = new EventLog();
  const requests = new RequestLog(config.state_directory);
  const chains = new ChainStore(join(config.state_directory, 'chains'));
  const leases = new Leases(
    join(config.state_directory, 'leases.json'),
    async ({ uuid, seqId }, durationSeconds, first) => {
      const known = monitor.known.find(({ snapshot }) => snapshot.cookie?.uuid === uuid);
      if (first && known) {
        const { minor, blockDevice } = known.snapshot;
        log.warn('a lease has ended', { minor, blockDevice, durationSeconds });
        const event = { $case: 'leaseEnded' as const, value: { durationSeconds } };
        events.append({ minor, blockDevice, event });
      }
      await snapshots.endOfLease({ uuid, seqId }).catch((error: unknown) => {
        log.warn('a lease has ended, and its snapshot goes on for now', { error: String(error) });
      });
    },
  );
  const trackers = new Trackers(new KernelSnapDriver(), chains, leases);
  const openImage = (minor: number): Promise<FileHandle> => openDirect(imageDevice(minor));
  const allocations = new Allocations(openImage, (image) =>
    trackers.checkStillThatImage(image.minor, image),
  );
  const remembered = new RememberedTrackers(trackers, log);
  const changed = async (): Promise<void> => {
    await remembered.update();
    // The caller need not wait until all the others have been looked at, too.
    void monitor.look();
  };
  const snapshots = new SnapshotService(trackers, requests, hooks, streams, changed);
  const monitor: Monitor = new Monitor(() => snapshots.all(), events);
  const restores = new RestoreService(trackers, requests);
  const problems = async (): Promise<Problem[]> =>
    problemsOf({
      moduleVersion: await moduleVersion(),
      agentVersion: AGENT_VERSION,
      snapshots: monitor.known.map(({ snapshot }) => snapshot),
      certificateExpires: server.certificateExpires,
      certificateFault: server.certificateFault,
      nowMs: Date.now(),
    });
  const metrics = new Metrics({
    version: AGENT_VERSION,
    monitor,
    openConnections: () => server.openConnections,
    activeStreams: () => streams.count,
    certificateExpires: () => server.certificateExpires,
    problems,
  });
  const server: AgentServer = new AgentServer(log, config.limits, metrics.observeCall, {
    snapshots,
    hosts: new HostService(trackers, AGENT_VERSION, problems),
    changes: new ChangeService(trackers, allocations, streams),
    data: new DataService(trackers, allocations, streams, openImage, metrics.countSent),
    events: new EventService(monitor, events),
    restores,
  });
  await remembered.begin();
  await leases.load();
  await monitor.look();
  await server.addReflection();
  await server.listenLocally(config.socket);
  if (config.tcp === 'on') await server.listenTcp(config.listen, config.tls);
  else if (config.tcp === 'auto') await server.listenTcpOnceUsable(config.listen, config.tls);
  const http = config.metrics === 'off' ? undefined : await metrics.listen(config.metrics);

  let chainsAreTidy = false;
  const look = async (): Promise<void> => {
    await monitor.look();
    // Without the module nobody knows.
    chainsAreTidy ||= await trackers.endLostChains().catch(() => false);
    allocations.keepOnly(
      monitor.known.flatMap(({ snapshot: { minor, cookie, imageDevice: image } }) =>
        cookie && image !== '' ? [{ minor, uuid: cookie.uuid, seqId: cookie.seqId }] : [],
      ),
    );
    server.setHealth(await problems());
  };
  await look();
  const looking = setInterval(() => void look(), LOOK_MS);

  // What can change while streams run; the rest needs a restart.
  const reload = async (): Promise<void> => {
    await server.reloadCertificates();
    try {
      const { log_level: level, hooks: hooksConfig } = await loadConfig(configPath);
      log.level = level;
      hooks.configure(hooksConfig);
      log.info('configuration loaded: log_level and hooks');
    } catch (error) {
      log.error('configuration not loaded; the last good one stays', { error: String(error) });
    }
  };
  process.on('SIGHUP', () => void reload());
  let stopping = false;
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    log.info('stopping', { signal });
    notifyServiceManager('STOPPING=1');
    clearInterval(looking);
    events.close();
    http?.close();
    await server.stop();
    await restores.close();
    leases.close();
    // Others may have set up or destroyed something, without the agent.
    await remembered.update();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => void stop(signal));
  notifyServiceManager('READY=1');
  log.info('ready', { version: AGENT_VERSION });
}

async function main(): Promise<void> {
  const { config, help, version } = readArguments(process.argv.slice(2));
  if (help) process.stdout.write(`${USAGE}\n`);
  else if (version) process.stdout.write(`${AGENT_VERSION}\n`);
  else await run(await loadConfig(config), config);
}

main().catch((error: unknown) => {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`eliod: ${error instanceof ConfigError ? error.message : text}\n`);
  process.exit(1);
});
