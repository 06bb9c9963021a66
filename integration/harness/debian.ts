// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { artifact, fingerprint, repository } from './cache.js';
import { asRoot, checkCommand, say } from './process.js';

/** A release of Debian that the packages are for. */
export type Suite = 'bullseye' | 'bookworm' | 'trixie';

const imageScripts = join(repository, 'integration', 'harness', 'image');

/** Which Debian suite a kernel is taken from; `release` is the suite itself or its backports. */
export interface KernelSource {
  suite: string;
  release: string;
  /** Of the kernel's packages; amd64, the standard one, when left out. */
  flavour?: string;
  /** Built from Debian's source of this version, with the checks of the flavour. */
  debug?: string;
}

/** Every kernel the product is built and tested for. */
export const kernels: Readonly<Record<string, KernelSource>> = {
  '5.10': { suite: 'bullseye', release: 'bullseye' },
  '6.1': { suite: 'bookworm', release: 'bookworm' },
  '6.1-cloud': { suite: 'bookworm', release: 'bookworm', flavour: 'cloud-amd64' },
  '6.12': { suite: 'bookworm', release: 'bookworm-backports' },
  '7.x': { suite: 'trixie', release: 'trixie-backports' },
};

/** Kernels that look for errors themselves (integration/harness/image/debug-kernel*). */
export const debugKernels: Readonly<Record<string, KernelSource>> = {
  '6.1-kasan': { suite: 'bookworm', release: 'bookworm', debug: '6.1', flavour: 'kasan' },
  '6.1-kcsan': { suite: 'bookworm', release: 'bookworm', debug: '6.1', flavour: 'kcsan' },
};

/** How many times as long everything takes with this kernel. */
export function slowness(kernel: string): number {
  return kernelSource(kernel).debug === undefined ? 1 : 6;
}

/** The kernels of the standard flavour: `make test` knows no others. */
export function standardKernels(): string[] {
  return Object.keys(kernels).filter((kernel) => kernels[kernel]?.flavour === undefined);
}

/** The kernel to use when none is named: ELIO_KERNEL, otherwise Debian 12's. */
export function defaultKernel(): string {
  return process.env['ELIO_KERNEL'] ?? '6.1';
}

/** Looks a kernel up in the table; the error names the choices. */
export function kernelSource(kernel: string): KernelSource {
  const all = { ...kernels, ...debugKernels };
  const source = all[kernel];
  if (!source) {
    throw new Error(`unknown kernel "${kernel}": choose one of ${Object.keys(all).join(', ')}`);
  }
  return source;
}

/** The directory that holds `root.ext4`, the root filesystem of every guest. */
export async function testRoot(): Promise<string> {
  const script = join(imageScripts, 'test-root.sh');
  return artifact('test-root', [await fingerprint(script)], async (directory) => {
    say('making the root filesystem of the test machines (trixie), about 2 minutes');
    await bootstrap(script, directory, 'trixie', 'trixie', []);
  });
}

/** The directory that holds `root`, a Debian (trixie) with systemd that system.ts makes guests of. */
export async function systemRoot(): Promise<string> {
  const script = join(imageScripts, 'system-root.sh');
  return artifact('system-root', [await fingerprint(script)], async (directory) => {
    say('making a Debian with systemd (trixie), about 2 minutes');
    await bootstrap(script, directory, 'trixie', 'trixie', []);
  });
}

/**
 * The directory of a kernel: `root` (its suite with compiler and headers), `vmlinuz`, `modules.ext4` and `release` (the
 * name that `uname -r` prints).
 */
export async function kernelRoot(kernel: string): Promise<string> {
  const { suite, release, flavour = 'amd64', debug } = kernelSource(kernel);
  if (debug !== undefined) return debugKernelRoot(kernel, suite, debug, flavour);
  const script = join(imageScripts, 'kernel-root.sh');
  const inputs = [suite, release, flavour, await fingerprint(script)];
  return artifact(`kernel-${kernel}`, inputs, async (directory) => {
    say(`making the build root of kernel ${kernel} (${release}), about 2 minutes`);
    await bootstrap(script, directory, suite, release, [suite, release, flavour]);
  });
}

/** The directory of a kernel that is built here. */
async function debugKernelRoot(
  kernel: string,
  suite: string,
  version: string,
  flavour: string,
): Promise<string> {
  const files = ['.sh', '.modules', '.config', `-${flavour}.config`].map((ending) =>
    join(imageScripts, `debug-kernel${ending}`),
  );
  const inputs = [suite, version, flavour, ...(await Promise.all(files.map(fingerprint)))];
  return artifact(`kernel-${kernel}`, inputs, async (directory) => {
    say(`building kernel ${kernel} from Debian's source, about half an hour`);
    const [script = ''] = files;
    await bootstrap(script, directory, suite, suite, [suite, version, flavour]);
  });
}

/**
 * The kernel that QEMU boots: it enters the unpacked one at once (CONFIG_PVH), since to unpack it takes an emulated processor half of
 * a boot.
 */
export async function bootableKernel(kernel: string): Promise<string> {
  const root = await kernelRoot(kernel);
  const vmlinuz = join(root, 'vmlinuz');
  // What a debug kernel checks memory with is not ready at that entry point.
  if (kernelSource(kernel).debug !== undefined) return vmlinuz;
  const script = join(imageScripts, 'uncompressed-kernel.sh');
  const inputs = [root, await fingerprint(script)];
  const directory = await artifact(`vmlinux-${kernel}`, inputs, async (out) => {
    await checkCommand(['bash', script, out, vmlinuz]);
  });
  return join(directory, 'vmlinux');
}

/** The initramfs that brings up a guest with a kernel. */
export async function initramfs(kernel: string): Promise<string> {
  const root = await kernelRoot(kernel);
  const scripts = ['initramfs.sh', 'initramfs-init'].map((name) => join(imageScripts, name));
  const inputs = [root, ...(await Promise.all(scripts.map(fingerprint)))];
  const directory = await artifact(`initramfs-${kernel}`, inputs, async (out) => {
    await checkCommand(['bash', join(imageScripts, 'initramfs.sh'), out, root], { env: withSbin });
  });
  return join(directory, 'initramfs');
}

/**
 * The directory of a Debian as a server has it: `root.ext4`, and copies of the kernel and the initramfs that are on it, `vmlinuz`
 * and `initrd`.
 */
export async function debianServer(suite: Suite): Promise<string> {
  const script = join(imageScripts, 'debian.sh');
  const unit = join(repository, 'integration', 'guest', 'debian');
  const inputs = [suite, await fingerprint(script), await fingerprint(unit)];
  return artifact(`debian-${suite}`, inputs, async (directory) => {
    say(`making a root filesystem with systemd (${suite}), about 2 minutes`);
    await bootstrap(script, directory, suite, suite, [suite]);
  });
}

/** The command that starts QEMU, the same one on every machine. */
export async function qemu(): Promise<readonly string[]> {
  const script = join(imageScripts, 'qemu.sh');
  const directory = await artifact('qemu', [await fingerprint(script)], async (out) => {
    say('fetching QEMU (of trixie), a quarter of a minute');
    await bootstrap(script, out, 'trixie', 'trixie', []);
  });
  const root = join(directory, 'root', 'usr');
  const data = ['qemu', 'seabios'].flatMap((name) => ['-L', join(root, 'share', name)]);
  const program = join(root, 'bin', 'qemu-system-x86_64');
  const libraries = ['lib', join('lib', 'x86_64-linux-gnu')].map((name) => join(root, name));
  return [
    join(directory, 'qemu-system-x86_64'),
    '--library-path',
    libraries.reverse().join(':'),
    program,
    ...data,
  ];
}

/** The path of the kernel's checkpatch.pl, one version for every machine. */
export async function checkpatch(): Promise<string> {
  const script = join(imageScripts, 'checkpatch.sh');
  const directory = await artifact('checkpatch', [await fingerprint(script)], async (out) => {
    say('fetching checkpatch (with the kernel source), about a minute');
    await bootstrap(script, out, 'bookworm', 'bookworm', []);
  });
  return join(directory, 'checkpatch.pl');
}

/** The environment with the directories of the tools that ordinary users do not have on their PATH. */
const withSbin = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

async function bootstrap(
  script: string,
  directory: string,
  suite: string,
  release: string,
  args: readonly string[],
): Promise<void> {
  const sources = join(directory, 'sources.list');
  const options = join(directory, 'apt.conf');
  await writeFile(sources, await aptSources(suite, release));
  await writeFile(options, await aptOptions());
  await checkCommand(asRoot(['bash', script, directory, sources, options, ...args]), {
    env: withSbin,
  });
}

/** Package sources of a suite on the mirror that this machine's own apt uses. */
async function aptSources(suite: string, release: string): Promise<string> {
  const format = '$(RELEASE) $(COMPONENT) $(REPO_URI)';
  const targets = await checkCommand([
    'apt-get',
    'indextargets',
    '--format',
    format,
    'Created-By: Packages',
  ]);
  const { VERSION_CODENAME: own } = Object.fromEntries(
    (await checkCommand(['cat', '/etc/os-release'])).split('\n').map((line) => line.split('=')),
  ) as Record<string, string | undefined>;
  const mirrors = new Map(
    targets
      .split('\n')
      .map((line) => line.split(' '))
      .filter(([, component]) => component === 'main')
      .map(([name, , uri]) => [name, uri]),
  );
  const main = mirrors.get(own);
  if (own === undefined || main === undefined) {
    throw new Error(
      'no Debian mirror in the apt configuration of this machine: the test machines are built from Debian packages',
    );
  }
  const lines = [`deb ${main} ${suite} main`, `deb ${main} ${suite}-updates main`];
  const security = mirrors.get(`${own}-security`);
  if (security !== undefined) lines.push(`deb ${security} ${suite}-security main`);
  if (release !== suite) lines.push(`deb ${main} ${release} main`);
  return `${lines.join('\n')}\n`;
}

/** How this machine's apt reaches its mirror (proxies, date checks), in the form of apt.conf. */
async function aptOptions(): Promise<string> {
  const lines = (await checkCommand(['apt-config', 'dump', 'Acquire'])).split('\n');
  const wanted = lines.filter((line) => /^Acquire::(Check-|Retries|ForceIPv|https?::)/.test(line));
  return [...wanted, 'Acquire::Languages "none";', ''].join('\n');
}
