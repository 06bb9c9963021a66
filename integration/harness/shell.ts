// SPDX-License-Identifier: Apache-2.0
// shell.js [--kernel K] [--memory MIB] [--cpus N] [--disk NAME:MIB[:zero]]... [-- COMMAND]: boots a test machine with the
// payload and runs COMMAND in it, or gives an interactive shell; exits with its status.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { repository } from './cache.js';
import type { DiskSpec } from './disk.js';
import { say } from './process.js';
import { Vm } from './vm.js';

function parseDisk(text: string): DiskSpec {
  const match = /^([a-z0-9-]{1,20}):(\d+)(:zero)?$/.exec(text);
  if (!match) throw new Error(`--disk ${text}: expected NAME:MIB or NAME:MIB:zero`);
  return {
    name: match[1] ?? '',
    sizeMib: Number(match[2]),
    fill: match[3] === undefined ? 'pattern' : 'zero',
  };
}

/** Runs ssh with this terminal's input and output; resolves with its status. */
function attach(vm: Vm, command: readonly string[]): Promise<number> {
  const args = [...(command.length === 0 ? ['-t'] : []), ...vm.sshArguments, ...command];
  const ssh = spawn('ssh', args, { stdio: 'inherit' });
  return new Promise((resolve) =>
    ssh.once('exit', (code) => {
      resolve(code ?? 1);
    }),
  );
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: 'string' },
    memory: { type: 'string', default: '1024' },
    cpus: { type: 'string', default: '2' },
    disk: { type: 'string', multiple: true, default: [] },
  },
});
const logDir = join(repository, 'build', 'vm', `shell-${String(process.pid)}`);
const vm = await Vm.boot({
  name: 'shell',
  ...(values.kernel === undefined ? {} : { kernel: values.kernel }),
  cpus: Number(values.cpus),
  memoryMib: Number(values.memory),
  disks: values.disk.map(parseDisk),
  logDir,
});
say(`booted; the serial log is ${join(logDir, 'serial.log')}`);
let status = await attach(vm, positionals);
try {
  await vm.checkDmesg();
} catch (error) {
  say(String(error));
  status ||= 1;
}
await vm.stop();
process.exit(status);
