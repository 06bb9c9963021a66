// SPDX-License-Identifier: Apache-2.0
import { spawn, type ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { copyFile, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { accelerator, instructionClock } from './accelerator.js';
import {
  bootableKernel,
  debianServer,
  defaultKernel,
  initramfs,
  kernelRoot,
  qemu,
  slowness,
  testRoot,
  type Suite,
} from './debian.js';
import { diskArguments, diskPath, type DiskSpec } from './disk.js';
import { findComplaint, findLeak, isStalled, namesDriver } from './dmesg.js';
import { packagesImage, payloadImage, sshKeys } from './payload.js';
import { checkCommand, runCommand, say, type CommandResult } from './process.js';
import { RemoteShell } from './remote-shell.js';
import { systemImage, type InitramfsTool } from './system.js';

export interface VmOptions {
  name: string;
  /** A key of the kernel table, '6.1' by default (or ELIO_KERNEL). */
  kernel?: string;
  /**
   * A Debian as a server has it, with systemd, headers and DKMS: its kernel and its initramfs are those on its root, which is kept
   * over reboots. The payload is in /opt/elio, but not on the PATH. Without it the guest runs the payload's own init.
   */
  debian?: Suite;
  cpus?: number;
  memoryMib?: number;
  /**
   * The guest's clock counts instructions: what it measures is exact, whatever else this machine does. It has one
   * processor then, and runs slowly.
   */
  instructionClock?: boolean;
  disks?: readonly DiskSpec[];
  /**
   * A Debian that boots by itself, with systemd, its own initramfs (by this tool) and the product installed (system.ts),
   * instead of the test root. Its disk is /dev/disk/by-id/virtio-elio-system.
   */
  system?: InitramfsTool;
  /** With `system`: its disk begins as this qcow2 image, instead of the one that is made for tests. */
  systemDisk?: string;
  /** More words for the kernel's command line. */
  kernelArguments?: string;
  /**
   * A kernel that can looks for leaks (`checkLeaks`), which doubles the time that all takes there. For scenarios that set up, refuse
   * and destroy much.
   */
  leakSearch?: boolean;
  /** Ports of the guest to reach from the host, on 127.0.0.1 (see `hostPort`). */
  forwardPorts?: readonly number[];
  /** Gets `serial.log`, `commands.log` and, after `saveLogs`, `dmesg.log`. */
  logDir: string;
}

export interface RunOptions {
  /** 120 seconds by default. The guest's command may go on after it. */
  timeoutMs?: number;
  stdin?: Buffer | string;
}

const bootTimeoutMs = 180_000;
/** An emulated Debian starts a hundred units, one of them at a time when the machine is busy. */
const debianBootTimeoutMs = 600_000;
/** What a debug kernel needs of memory, times what others do. */
const debugMemory = 2;
const runTimeoutMs = 120_000;
const stopTimeoutMs = 20_000;
/** systemd stops one thing after another. */
const shutdownTimeoutMs = 120_000;
const sshPort = 22;
/** A busy emulated guest takes its time over a key exchange. */
const connectTimeoutMs = 60_000;
const connectAttempts = 5;
/** Without what no guest uses: its drivers would take seconds of each boot. */
const machine = 'q35,sata=off,smbus=off';
const directoryPrefix = 'elio-vm-';

const kernelArguments = [
  'console=ttyS0 net.ifnames=0 mitigations=off log_buf_len=8M',
  // Every other clock is a device, and so a call of QEMU: a fifth of a guest's time.
  'tsc=reliable',
  // The first oops ends the guest; QEMU does not reboot it.
  'oops=panic panic=-1',
  // An emulated processor is slow, and shared: only what is stuck for good counts as a stall.
  'rcupdate.rcu_cpu_stall_timeout=60 sysctl.kernel.watchdog_thresh=60 sysctl.kernel.hung_task_timeout_secs=120',
].join(' ');

/** What a guest boots. */
interface Software {
  /** QEMU's arguments for kernel, initramfs and command line. */
  boot: readonly string[];
  /** QEMU's arguments for the disks that belong to it. */
  disks: readonly string[];
}

function bootArguments(kernel: string, initrd: string, words: string): string[] {
  return ['-kernel', kernel, '-initrd', initrd, '-append', `${kernelArguments} ${words}`];
}

/** An image that is shared by all guests: what they write is lost. */
function sharedImage(file: string): string {
  return `file=${file},format=raw,snapshot=on`;
}

/** A disk of this serial number. */
function driveArguments(serial: string, drive: string): string[] {
  return [
    '-drive',
    `if=none,id=${serial},${drive}`,
    '-device',
    `virtio-blk-pci,drive=${serial},serial=${serial}`,
  ];
}

/** The test root and what is under test, on images that stay as they are. */
async function testSoftware(kernel: string, words: string): Promise<Software> {
  // On a fresh machine each takes minutes to make, most of them on one processor.
  const [root, kernelDirectory] = await Promise.all([testRoot(), kernelRoot(kernel)]);
  const images = [
    ['elio-root', join(root, 'root.ext4')],
    ['elio-kernel', join(kernelDirectory, 'modules.ext4')],
    ['elio-payload', await payloadImage(kernel)],
    ['elio-packages', await packagesImage()],
  ] as const;
  return {
    boot: bootArguments(await bootableKernel(kernel), await initramfs(kernel), words),
    disks: images.flatMap(([serial, file]) => driveArguments(serial, sharedImage(file))),
  };
}

/**
 * A Debian on a disk that is this guest's own. It is a raw file: QEMU keeps nothing of it to itself that a guest's power
 * failure would lose.
 */
async function systemSoftware(
  tool: InitramfsTool,
  kernel: string,
  words: string,
  directory: string,
  systemDisk: string | undefined,
): Promise<Software> {
  const image = await systemImage(kernel);
  const file = join(directory, 'elio-system.img');
  const original = systemDisk ?? join(image, 'root.ext4');
  const format = systemDisk === undefined ? 'raw' : 'qcow2';
  await checkCommand(['qemu-img', 'convert', '-f', format, '-O', 'raw', original, file]);
  const root = 'root=/dev/disk/by-id/virtio-elio-system ro';
  return {
    boot: bootArguments(await bootableKernel(kernel), join(image, tool), `${root} ${words}`),
    disks: driveArguments('elio-system', `file=${file},format=raw,cache=unsafe`),
  };
}

/** A Debian server (`debian` of VmOptions) whose root is a file in the guest's own directory. */
async function serverSoftware(
  suite: Suite,
  kernel: string,
  words: string,
  directory: string,
): Promise<Software> {
  const server = await debianServer(suite);
  const root = join(directory, 'elio-root.qcow2');
  const initrd = join(directory, 'initrd');
  const create = ['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw'];
  await checkCommand([...create, '-b', join(server, 'root.ext4'), root]);
  await copyFile(join(server, 'initrd'), initrd);
  const patience = 'systemd.default_device_timeout_sec=300 systemd.default_timeout_start_sec=300';
  return {
    boot: bootArguments(
      join(server, 'vmlinuz'),
      initrd,
      `root=/dev/disk/by-id/virtio-elio-root ${patience} ${words}`,
    ),
    disks: [
      ...driveArguments('elio-root', `file=${root},format=qcow2,cache=unsafe`),
      ...driveArguments('elio-payload', sharedImage(await payloadImage(kernel))),
    ],
  };
}

async function softwareOf(
  options: VmOptions,
  kernel: string,
  directory: string,
): Promise<Software> {
  const isDebug = slowness(kernel) > 1;
  const words = [
    options.kernelArguments ?? '',
    ...(isDebug && options.leakSearch !== true ? ['kmemleak=off'] : []),
    // Who wants the statistics of locks switches them on.
    ...(isDebug ? ['lockdep.lock_stat=0'] : []),
  ].join(' ');
  if (options.debian !== undefined) return serverSoftware(options.debian, kernel, words, directory);
  if (options.system !== undefined)
    return systemSoftware(options.system, kernel, words, directory, options.systemDisk);
  return testSoftware(kernel, words);
}

/** The guest does not come up. */
class BootError extends Error {}

/** A running test machine. It dies with the process that booted it. */
export class Vm {
  #dmesgSeen = 0;
  #stopped = false;
  #boots = 0;
  #bootedOnceMore = false;
  /** Shells in the guest that wait for a command. */
  #idleShells: RemoteShell[] = [];
  private qemu: ChildProcess;
  readonly #slowness: number;

  private constructor(
    readonly options: VmOptions,
    private readonly directory: string,
    private readonly argv: readonly string[],
    /** QEMU's arguments for each disk, in the order in which the guest finds them. */
    private disks: readonly (readonly string[])[],
    private readonly identity: string,
    private readonly ports: ReadonlyMap<number, number>,
  ) {
    this.#slowness = slowness(options.kernel ?? defaultKernel());
    this.qemu = this.#start();
  }

  /** Builds what is missing, boots a guest and returns when it takes commands. */
  static async boot(options: VmOptions): Promise<Vm> {
    const kernel = options.kernel ?? defaultKernel();
    const keys = await sshKeys();
    mkdirSync(options.logDir, { recursive: true });
    const directory = await workDirectory();
    const software = await softwareOf(options, kernel, directory);

    const ports = new Map<number, number>();
    for (const port of [sshPort, ...(options.forwardPorts ?? [])])
      ports.set(port, await freePort());
    const forwards = [...ports].map(
      ([guest, host]) => `,hostfwd=tcp:127.0.0.1:${String(host)}-:${String(guest)}`,
    );
    const argv = ['--pdeathsig', 'KILL', ...(await qemu()), '-machine', machine];
    const exact = options.instructionClock ?? false;
    argv.push(...(exact ? instructionClock : await accelerator(kernel)));
    argv.push('-smp', exact ? '1' : String(options.cpus ?? 2));
    argv.push('-m', String((options.memoryMib ?? 1024) * (slowness(kernel) > 1 ? debugMemory : 1)));
    argv.push('-nodefaults', '-display', 'none', '-no-reboot');
    argv.push(...software.boot);
    argv.push('-serial', `file:${join(options.logDir, 'serial.log')}`);
    argv.push('-device', 'virtio-rng-pci', '-netdev', `user,id=net${forwards.join('')}`);
    argv.push('-device', 'virtio-net-pci,netdev=net');
    const disks = [software.disks];
    for (const disk of options.disks ?? []) disks.push(await diskArguments(disk, directory));

    const vm = new Vm(options, directory, argv, disks, join(keys, 'client'), ports);
    running.add(vm);
    await vm.#waitUntilReady();
    return vm;
  }

  /**
   * Boots the guest again with its disks as they are, or, with `swapDisks`, in the reverse order. It is shut down first as
   * `reboot -f` does, which unmounts nothing; a Debian, or with `orderly`, as systemd does; with `powerCut` not at all.
   */
  async reboot({ powerCut = false, orderly = false, swapDisks = false } = {}): Promise<void> {
    const command = orderly ? 'systemctl reboot' : 'reboot -f';
    if (powerCut) this.qemu.kill('SIGKILL');
    else if (this.options.debian !== undefined) await this.#shutDown();
    else await this.run(command, { timeoutMs: stopTimeoutMs }).catch(() => undefined);
    if (swapDisks) this.disks = [...this.disks].reverse();
    await this.#startAgain();
    await this.#waitUntilReady();
  }

  /** Has a Debian shut down, which can take as long as its slowest service. */
  async #shutDown(): Promise<void> {
    await this.get(
      `/boot/initrd.img-${(await this.sh('uname -r')).trim()}`,
      join(this.directory, 'initrd'),
    );
    await this.run('systemctl reboot').catch(() => undefined);
    for (let waitedMs = 0; !this.#exited() && waitedMs < shutdownTimeoutMs; waitedMs += 100)
      await delay(100);
  }

  /** Starts QEMU anew once it has ended. */
  async #startAgain(): Promise<void> {
    for (let waitedMs = 0; !this.#exited(); waitedMs += 20) {
      if (waitedMs > shutdownTimeoutMs)
        throw new Error(`${this.options.name} does not reboot: see ${this.options.logDir}`);
      await delay(20);
    }
    const serial = join(this.options.logDir, 'serial.log');
    renameSync(serial, join(this.options.logDir, `serial-${String(this.#boots)}.log`));
    this.#dmesgSeen = 0;
    this.#closeShells();
    this.qemu = this.#start();
  }

  #closeShells(): void {
    for (const shell of this.#idleShells.splice(0)) shell.close();
  }

  #start(): ChildProcess {
    this.#boots += 1;
    const log = openSync(join(this.options.logDir, 'qemu.log'), 'w');
    const guest = spawn('setpriv', [...this.argv, ...this.disks.flat()], {
      stdio: ['ignore', log, log],
      env: { ...process.env, TMPDIR: this.directory },
    });
    closeSync(log);
    return guest;
  }

  async #waitUntilReady(): Promise<void> {
    try {
      await this.#comeUp().catch((error: unknown) => this.#bootOnceMore(error));
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /**
   * An emulated processor gets stuck or trips over patched code now and then (a "soft lockup" or an "int3" before anything of
   * ours has run), or never gets to answer: the boot is then done once more, unless the driver had a part in it.
   */
  async #bootOnceMore(error: unknown): Promise<void> {
    if (!(error instanceof BootError) || this.#bootedOnceMore) throw error;
    const complaint = findComplaint(readFileSync(join(this.options.logDir, 'serial.log'), 'utf8'));
    if (complaint !== undefined && namesDriver(complaint)) throw error;
    this.#bootedOnceMore = true;
    say(`${error.message}\n${this.options.name}: booting it once more`);
    this.qemu.kill('SIGKILL');
    await this.#startAgain();
    await this.#comeUp();
  }

  /** The socket of the one connection to this boot that all commands share. */
  get #socket(): string {
    return join(this.directory, `ssh-${String(this.#boots)}`);
  }

  get #ssh(): readonly string[] {
    return ['-F', 'none', '-o', `ControlPath=${this.#socket}`, '-o', 'LogLevel=ERROR'];
  }

  /** Runs a shell command as root in the guest. Rejects only when the guest is gone or the time is over. */
  async run(command: string, options: RunOptions = {}): Promise<CommandResult> {
    this.#requireRunning();
    const timeoutMs = (options.timeoutMs ?? runTimeoutMs) * this.#slowness;
    const startMs = Date.now();
    const result =
      options.stdin === undefined
        ? await this.#runInShell(command, timeoutMs)
        : await runCommand(['ssh', ...this.#ssh, 'root@guest', command], {
            timeoutMs,
            stdin: options.stdin,
          });
    const seconds = ((Date.now() - startMs) / 1000).toFixed(1);
    const text = `$ ${command}\n${result.stdout}${result.stderr}[${String(result.status)}, ${seconds} s]\n`;
    await writeFile(join(this.options.logDir, 'commands.log'), text, {
      flag: 'a',
    });
    if (result.status === 255) {
      await delay(500);
      this.#requireRunning();
    }
    return result;
  }

  /** Runs a command in a shell that has nothing else to do. */
  async #runInShell(command: string, timeoutMs: number): Promise<CommandResult> {
    let shell = this.#idleShells.pop();
    if (!shell || shell.lost)
      shell = new RemoteShell(['ssh', ...this.#ssh, 'root@guest', 'exec bash']);
    const result = await shell.run(command, timeoutMs);
    if (!shell.lost) this.#idleShells.push(shell);
    return result;
  }

  /** Runs a shell command that has to succeed; returns its stdout, rejects with its stderr. */
  async sh(command: string, options: RunOptions = {}): Promise<string> {
    const { status, stdout, stderr } = await this.run(command, options);
    if (status !== 0) {
      throw new Error(
        `in ${this.options.name}, status ${String(status)}: ${command}\n${stdout}${stderr}`.trimEnd(),
      );
    }
    return stdout;
  }

  /** Copies a file or directory of the host into the guest. */
  async put(localPath: string, guestPath: string): Promise<void> {
    await this.#copy(localPath, `root@guest:${guestPath}`);
  }

  /** Copies a file or directory of the guest to the host. */
  async get(guestPath: string, localPath: string): Promise<void> {
    await this.#copy(`root@guest:${guestPath}`, localPath);
  }

  /** The path of a scratch disk in the guest. */
  disk(name: string): string {
    const disk = this.options.disks?.find((candidate) => candidate.name === name);
    if (!disk) throw new Error(`${this.options.name} was booted without a disk "${name}"`);
    return diskPath(disk);
  }

  /** The port on 127.0.0.1 that leads to a port of the guest named in `forwardPorts`. */
  hostPort(guestPort: number): number {
    const port = this.ports.get(guestPort);
    if (port === undefined)
      throw new Error(
        `${this.options.name} was booted without forwarding port ${String(guestPort)}`,
      );
    return port;
  }

  /** QEMU's process id. */
  get pid(): number {
    return this.qemu.pid ?? 0;
  }

  /** The arguments of ssh that reach this guest, for an interactive session. */
  get sshArguments(): readonly string[] {
    return [...this.#ssh, 'root@guest'];
  }

  /** Rejects when the kernel has complained since the last call (or the boot): BUG, WARNING, stall, hung task and the like. */
  async checkDmesg(): Promise<void> {
    const log = (await this.sh(`dmesg | tail -n +${String(this.#dmesgSeen + 1)}`)).trimEnd();
    if (log !== '') this.#dmesgSeen += log.split('\n').length;
    const complaint = findComplaint(log);
    if (complaint !== undefined)
      throw new Error(`the kernel of ${this.options.name} complained:\n${complaint}`);
  }

  /** Rejects when a kernel that looks for leaks has found one of the driver's, or has given up looking. */
  async checkLeaks(): Promise<void> {
    if (this.options.leakSearch !== true) return;
    // What was freed a moment ago, or is in a register, is found by one scan and not by the next.
    const list = await this.sh(
      'list=/sys/kernel/debug/kmemleak; test ! -e $list || { echo scan > $list && sleep 6 && echo scan > $list && cat $list; }',
    );
    const leak = findLeak(list);
    if (leak !== undefined) throw new Error(`${this.options.name} has leaked:\n${leak}`);
  }

  /** Writes the guest's kernel log to the log directory, if the guest still answers. */
  async saveLogs(): Promise<void> {
    if (this.#exited()) return;
    const { stdout } = await this.run('dmesg');
    await writeFile(join(this.options.logDir, 'dmesg.log'), stdout);
  }

  /** Powers the guest off, and kills it if that takes too long. May be called twice. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    if (!this.#exited() && existsSync(this.#socket)) {
      await this.run('poweroff -f', { timeoutMs: stopTimeoutMs }).catch(() => undefined);
      for (let waitedMs = 0; !this.#exited() && waitedMs < stopTimeoutMs; waitedMs += 100)
        await delay(100);
    }
    this.kill();
    while (!this.#exited()) await delay(20);
    running.delete(this);
  }

  /** Ends the guest at once, as a power failure would, and removes its disks. */
  kill(): void {
    this.#stopped = true;
    this.#closeShells();
    this.qemu.kill('SIGKILL');
    rmSync(this.directory, { recursive: true, force: true });
  }

  #exited(): boolean {
    return this.qemu.exitCode !== null || this.qemu.signalCode !== null;
  }

  #requireRunning(): void {
    if (this.#exited()) throw new Error(this.#lastWords());
  }

  /** What is known of a guest that has ended. */
  #lastWords(): string {
    const serial = readFileSync(join(this.options.logDir, 'serial.log'), 'utf8');
    const output = readFileSync(join(this.options.logDir, 'qemu.log'), 'utf8');
    const why = findComplaint(serial) ?? `${output}${serial.split('\n').slice(-20).join('\n')}`;
    return `the test machine ${this.options.name} is gone:\n${why}`;
  }

  async #comeUp(): Promise<void> {
    await this.#waitForBoot();
    await this.#connect();
  }

  async #waitForBoot(): Promise<void> {
    const serial = join(this.options.logDir, 'serial.log');
    const { debian, system } = this.options;
    const isDebian = debian !== undefined || system !== undefined;
    const limitMs = (isDebian ? debianBootTimeoutMs : bootTimeoutMs) * this.#slowness;
    for (let waitedMs = 0; waitedMs < limitMs; waitedMs += 200) {
      await delay(200);
      if (this.#exited()) throw new BootError(this.#lastWords());
      const log = existsSync(serial) ? await readFile(serial, 'utf8') : '';
      if (log.includes('elio: guest ready')) return;
      // To boot once more takes less than to wait; a second time it is waited for, should the machine be that slow.
      if (isStalled(log) && !this.#bootedOnceMore)
        throw new BootError(`${this.options.name} stands still on its way up: see ${serial}`);
    }
    throw new BootError(
      `${this.options.name} did not boot within ${String(limitMs)} ms: see ${serial}`,
    );
  }

  /** Opens the one connection that all commands share. */
  async #connect(): Promise<void> {
    const options = [
      'StrictHostKeyChecking=no',
      'UserKnownHostsFile=/dev/null',
      'IdentitiesOnly=yes',
    ];
    const argv = ['--pdeathsig', 'KILL', 'ssh', ...this.#ssh, '-M', '-N', '-i', this.identity];
    for (const option of options) argv.push('-o', option);
    argv.push('-p', String(this.hostPort(sshPort)), 'root@127.0.0.1');
    let said = '';
    for (let attempt = 0; attempt < connectAttempts; attempt++) {
      if (attempt > 0) await delay(1000);
      const master = spawn('setpriv', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
      master.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
      for (
        let waitedMs = 0;
        master.exitCode === null && waitedMs < connectTimeoutMs;
        waitedMs += 100
      ) {
        if (existsSync(this.#socket)) return;
        await delay(100);
      }
      master.kill('SIGKILL');
      if (this.#exited()) throw new BootError(this.#lastWords());
    }
    const serial = readFileSync(join(this.options.logDir, 'serial.log'), 'utf8');
    throw new BootError(
      `${this.options.name} booted but does not answer on ssh (${said.trim()}): ${serial.slice(-500)}`,
    );
  }

  async #copy(source: string, target: string): Promise<void> {
    this.#requireRunning();
    const argv = ['scp', '-r', '-p', '-q', ...this.#ssh, source, target];
    const result = await runCommand(argv, { timeoutMs: runTimeoutMs });
    if (result.status !== 0)
      throw new Error(`cannot copy ${source} to ${target}: ${result.stderr}`);
  }
}

const running = new Set<Vm>();

process.on('exit', () => {
  for (const vm of running) vm.kill();
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(130));
}

/** A directory for a guest's disks and socket; those that a killed run left behind are removed. */
async function workDirectory(): Promise<string> {
  for (const entry of readdirSync(tmpdir())) {
    const [, owner] = /^elio-vm-(\d+)-/.exec(entry) ?? [];
    if (owner !== undefined && !existsSync(`/proc/${owner}`))
      rmSync(join(tmpdir(), entry), { recursive: true, force: true });
  }
  return mkdtemp(join(tmpdir(), `${directoryPrefix}${String(process.pid)}-`));
}

/** A TCP port of 127.0.0.1 that nobody listens on. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (address !== null && typeof address === 'object') resolve(address.port);
        else reject(new Error('no free TCP port'));
      });
    });
  });
}
