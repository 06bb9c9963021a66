#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// eliod: everything is put together here, and nowhere else.
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ConfigError, loadConfig, type Config } from './config.js';
import { KernelSnapDriver } from './driver/snap-driver.js';
import { createLog } from './log.js';
import { notifyServiceManager } from './os/ioctl.js';
import { AgentServer } from './server/server.js';
import { ChangeService } from './services/change-service.js';
import { DataService } from './services/data-service.js';
import { HostService } from './services/host-service.js';
import { RememberedTrackers } from './services/remembered-trackers.js';
import { RestoreService } from './services/restore-service.js';
import { SnapshotService } from './services/snapshot-service.js';
import { Trackers } from './services/trackers.js';
import { ChainStore } from './state/chains.js';
import { RequestLog } from './state/requests.js';
import { AGENT_VERSION } from './version.js';

async function wantsTcp(config: Config): Promise<boolean> {
  if (config.tcp !== 'auto') return config.tcp === 'on';
  const files = Object.values(config.tls);
  const missing = await Promise.all(
    files.map((path) =>
      access(path).then(
        () => false,
        () => true,
      ),
    ),
  );
  return !missing.includes(true);
}

async function run(config: Config): Promise<void> {
  const log = createLog(config.log_level);
  const chains = new ChainStore(join(config.state_directory, 'chains'));
  const requests = new RequestLog(config.state_directory);
  const trackers = new Trackers(new KernelSnapDriver(), chains);
  const remembered = new RememberedTrackers(trackers, log);
  await remembered.begin();
  const restores = new RestoreService(trackers, requests);
  const server = new AgentServer(log, {
    snapshots: new SnapshotService(trackers, requests, remembered),
    hosts: new HostService(trackers, AGENT_VERSION),
    changes: new ChangeService(trackers),
    data: new DataService(trackers),
    restores,
  });
  await server.addReflection();
  await server.listenLocally(config.socket);
  if (await wantsTcp(config)) await server.listenTcp(config.listen, config.tls);
  else log.info('no TCP: there are no certificates', { certificate: config.tls.certificate });

  process.on('SIGHUP', () => void server.reloadCertificates());
  let stopping = false;
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    log.info('stopping', { signal });
    notifyServiceManager('STOPPING=1');
    await server.stop();
    await restores.close();
    // Others may have set up or destroyed something, without the agent.
    await remembered.update();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => void stop(signal));
  notifyServiceManager('READY=1');
  log.info('ready', { version: AGENT_VERSION });
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: 'string' } } });
  await run(await loadConfig(values.config));
}

main().catch((error: unknown) => {
  const expected = error instanceof ConfigError || !(error instanceof Error);
  process.stderr.write(`eliod: ${expected ? String(error) : (error.stack ?? error.message)}\n`);
  process.exit(1);
});
