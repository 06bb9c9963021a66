// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { artifact, fingerprint, repository } from './cache.js';
import { kernelRoot } from './debian.js';
import { asRoot, checkCommand, runCommand, say } from './process.js';

const moduleScript = join(repository, 'integration', 'harness', 'image', 'module.sh');
const udevRules = join(repository, 'agent', 'packaging', '10-elio-snap.rules');
const guest = join(repository, 'integration', 'guest');
const rescue = join(repository, 'build', 'rescue', 'elio-rescue');

/**
 * The fault point (driver/fault.h) that the tests' driver is to have switched on, or 'none' for a driver that has them; from
 * ELIO_FAULT. Without it the driver has no fault points.
 */
export const fault = process.env['ELIO_FAULT'];

const testModules = ['elio-test.ko', 'ceiling.ko'];

/** Builds the driver for a kernel and returns the path of its .ko, which the tests' modules lie beside; rejects with the compiler's output. */
export async function buildModule(kernel: string): Promise<string> {
  const inputs = [
    await kernelRoot(kernel),
    await fingerprint(moduleScript),
    await fingerprint(join(repository, 'driver')),
    await fingerprint(join(guest, 'module')),
  ];
  const makeArguments = ['W=1', ...(fault === undefined ? [] : ['FAULTS=1'])];
  inputs.push(...makeArguments);
  const directory = await artifact(`module-${kernel}`, inputs, async (out) => {
    say(`building elastio-snap.ko for kernel ${kernel}`);
    const warnings = warningsIn(await compileModule(kernel, out, makeArguments));
    if (warnings.length > 0)
      throw new Error(`the compiler for kernel ${kernel} warns:\n${warnings.join('\n')}`);
  });
  return join(directory, 'elastio-snap.ko');
}

/** The warnings and errors in what a compiler has printed. */
export function warningsIn(output: string): string[] {
  return output.split('\n').filter((line) => /\bwarning:|\berror:/.test(line));
}

/** Compiles the driver and the tests' modules for a kernel into a directory; `makeArguments` go to its make. Returns what make printed. */
export async function compileModule(
  kernel: string,
  directory: string,
  makeArguments: readonly string[] = [],
): Promise<string> {
  const argv = [
    'bash',
    moduleScript,
    await kernelRoot(kernel),
    repository,
    directory,
    ...makeArguments,
  ];
  const { status, stdout, stderr } = await runCommand(asRoot(argv));
  if (status !== 0)
    throw new Error(`the module does not build for kernel ${kernel}:\n${stdout}${stderr}`);
  return `${stdout}${stderr}`;
}

/** The key pairs of the guests' ssh: `client` (authorised as root) and `host`. Made once per cache, worth nothing elsewhere. */
export async function sshKeys(): Promise<string> {
  return artifact('ssh-keys', [], async (directory) => {
    for (const name of ['client', 'host']) {
      await checkCommand([
        'ssh-keygen',
        '-q',
        '-t',
        'ed25519',
        '-N',
        '',
        '-C',
        name,
        '-f',
        join(directory, name),
      ]);
    }
  });
}

/** The image of the production node_modules, mounted at /opt/elio/node_modules. */
export async function packagesImage(): Promise<string> {
  const lock = join(repository, 'package-lock.json');
  const directory = await artifact('packages', [await fingerprint(lock)], async (out) => {
    say('installing the production npm packages for the test machines');
    const stage = join(out, 'stage');
    await mkdir(stage);
    for (const name of ['package.json', 'package-lock.json']) {
      await copyFile(join(repository, name), join(stage, name));
    }
    await checkCommand(['npm', 'ci', '--omit=dev', '--no-audit', '--no-fund', '--prefix', stage], {
      cwd: stage,
    });
    await makeImage(join(stage, 'node_modules'), join(out, 'packages.ext4'));
    await rm(stage, { recursive: true });
  });
  return join(directory, 'packages.ext4');
}

/**
 * The image of what is under test, mounted at /opt/elio: compiled TypeScript, module, test programs, wrappers, init. It
 * is made anew when one of them has changed. A module that does not build is left out, with its errors on stderr.
 */
export async function payloadImage(kernel: string): Promise<string> {
  const keys = await sshKeys();
  const testPrograms = await guestPrograms();
  const module = await moduleIfItBuilds(kernel);
  const dist = join(repository, 'dist');
  const parts = ['agent', 'ctl', 'bundle', 'proto', 'elio.binpb'].filter((part) =>
    existsSync(join(dist, part)),
  );
  const inputs = await Promise.all([
    fingerprint(keys),
    fingerprint(testPrograms),
    fingerprint(udevRules),
    fingerprint(rescue),
    fingerprint(join(repository, 'package.json')),
    fingerprint(join(guest, 'root')),
    module === undefined ? 'no module' : fingerprint(module),
    ...parts.map((part) => fingerprint(join(dist, part))),
  ]);
  const directory = await artifact(`payload-${kernel}`, inputs, async (out) => {
    const stage = join(out, 'stage');
    await cp(join(guest, 'root'), stage, { recursive: true });
    for (const name of await readdir(join(stage, 'bin')))
      await chmod(join(stage, 'bin', name), 0o755);
    await copyFile(rescue, join(stage, 'bin', 'elio-rescue'));
    for (const name of ['node_modules', 'dist', 'ssh']) await mkdir(join(stage, name));
    for (const part of parts)
      await cp(join(dist, part), join(stage, 'dist', part), {
        recursive: true,
      });
    await copyFile(join(repository, 'package.json'), join(stage, 'package.json'));
    await copyFile(join(keys, 'host'), join(stage, 'ssh', 'host'));
    await copyFile(join(keys, 'client.pub'), join(stage, 'ssh', 'authorized_keys'));
    await copyFile(udevRules, join(stage, '10-elio-snap.rules'));
    await cp(testPrograms, join(stage, 'tests'), { recursive: true });
    if (module !== undefined) {
      await copyFile(module, join(stage, 'elastio-snap.ko'));
      for (const testModule of testModules)
        await copyFile(join(dirname(module), testModule), join(stage, 'tests', testModule));
    }
    await makeImage(stage, join(out, 'payload.ext4'));
    await rm(stage, { recursive: true });
  });
  return join(directory, 'payload.ext4');
}

async function moduleIfItBuilds(kernel: string): Promise<string | undefined> {
  try {
    return await buildModule(kernel);
  } catch (error) {
    say(`the test machine boots without the module: ${String(error)}`);
    return undefined;
  }
}

let programs: Promise<string> | undefined;

/** The directory of the compiled static test programs of integration/guest; compiled once, whoever asks at the same time. */
export function guestPrograms(): Promise<string> {
  programs ??= compileGuestPrograms();
  return programs;
}

async function compileGuestPrograms(): Promise<string> {
  const build = join(repository, 'build', 'guest');
  await mkdir(build, { recursive: true });
  const result = await runCommand(['make', '-s', '-C', guest, `OUT=${build}`]);
  if (result.status !== 0) throw new Error(`the test programs do not compile:\n${result.stderr}`);
  return build;
}

/** Makes an ext4 image of a directory, with room for what the guest writes beside it. */
async function makeImage(directory: string, image: string): Promise<void> {
  const used = Number.parseInt(await checkCommand(['du', '-sk', '--apparent-size', directory]), 10);
  const sizeKib = Math.ceil(used * 1.3) + 64 * 1024;
  await writeFile(image, '');
  await checkCommand(['truncate', '-s', `${String(sizeKib)}K`, image]);
  const options = ['-q', '-O', '^has_journal', '-E', 'root_owner=0:0', '-d', directory];
  await checkCommand(['/sbin/mkfs.ext4', ...options, image]);
}
