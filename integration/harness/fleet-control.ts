// SPDX-License-Identifier: Apache-2.0
// fleet-control.js start COUNT [DIRECTORY]: starts a fleet in the background and prints its FleetDescription.
// fleet-control.js stop [DIRECTORY]: ends it. Its files are in DIRECTORY, which is build/fleet unless said otherwise.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { repository } from './cache.js';
import { Fleet } from './fleet.js';
import { say } from './process.js';

const [command, ...words] = process.argv.slice(2);
const count = command === 'stop' ? 0 : Number(words.shift());
const directory = resolve(words[0] ?? join(repository, 'build', 'fleet'));
const descriptionFile = join(directory, 'fleet.json');
const pidFile = join(directory, 'keeper.pid');
const logFile = join(directory, 'keeper.log');

/** The process that keeps the fleet, if it is really the one we started: a pid alone may belong to another by now. */
function keeper(): number | undefined {
  if (!existsSync(pidFile)) return undefined;
  const pid = Number(readFileSync(pidFile, 'utf8'));
  const commandLine = `/proc/${pid}/cmdline`;
  if (!existsSync(commandLine)) return undefined;
  const words = readFileSync(commandLine, 'utf8').split('\0');
  return words.includes(import.meta.filename) && words.includes(directory) ? pid : undefined;
}

async function start(): Promise<void> {
  if (!Number.isInteger(count) || count < 1) throw new Error('VMS must be a number of at least 1');
  if (keeper() !== undefined)
    throw new Error('a fleet is running already: end it with "make fleet-stop"');
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const log = openSync(logFile, 'w');
  const child = spawn(process.execPath, [import.meta.filename, 'keep', String(count), directory], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  child.unref();
  writeFileSync(pidFile, String(child.pid));
  say(`starting ${count} test machines; the log is ${logFile}`);
  while (!existsSync(descriptionFile)) {
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`the fleet did not start:\n${readFileSync(logFile, 'utf8')}`);
    }
    await delay(200);
  }
  process.stdout.write(readFileSync(descriptionFile));
}

/** Keeps the fleet until a signal ends this process, and the machines with it. */
async function keep(): Promise<void> {
  const fleet = await Fleet.start({ count, directory });
  writeFileSync(`${descriptionFile}.new`, `${JSON.stringify(fleet.description, undefined, 2)}\n`);
  await rename(`${descriptionFile}.new`, descriptionFile);
  // The machines end before this process does: nobody else could wait for them.
  process.removeAllListeners('SIGTERM');
  await once(process, 'SIGTERM');
  await fleet.stop();
}

async function stop(): Promise<void> {
  const pid = keeper();
  if (pid === undefined) {
    say('no fleet is running');
    return;
  }
  process.kill(pid, 'SIGTERM');
  while (keeper() !== undefined) await delay(200);
  rmSync(pidFile);
  say('the fleet is stopped');
}

try {
  if (command === 'start') await start();
  else if (command === 'keep') await keep();
  else if (command === 'stop') await stop();
  else throw new Error('usage: fleet-control.js start COUNT [DIRECTORY] | stop [DIRECTORY]');
  process.exit(0);
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
