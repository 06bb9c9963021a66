// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { Destination } from '../backup/destination.js';
import { findDevice } from '../backup/origin.js';
import { checkDigests, compareWithImage } from '../backup/verify.js';
import { hostDevice, withConnection } from '../connection.js';
import { CliError, EXIT } from '../errors.js';
import { interruptible } from '../interrupt.js';
import type { OutputForm } from '../options.js';

export interface VerifyOptions {
  output: OutputForm;
}

async function compareWithDevice(
  command: Command,
  destination: Destination,
  device: string,
): Promise<void> {
  await withConnection(command, async (connection) => {
    const path = hostDevice(connection, device, 'block device');
    const { minor } = await findDevice(connection, path);
    if (minor === undefined) {
      throw new CliError(`${device} is not tracked: there is no image`, EXIT.state);
    }
    await interruptible((signal) => compareWithImage(connection, minor, destination, signal));
  });
}

export async function verify(
  command: Command,
  file: string,
  device: string | undefined,
  options: VerifyOptions,
): Promise<void> {
  const destination = await Destination.open(file, 'read');
  try {
    await interruptible((signal) => checkDigests(destination, signal));
    if (device !== undefined) await compareWithDevice(command, destination, device);
    const { sizeBytes, cookie } = destination.requireManifest();
    let text = `${file} is whole: its content is what its manifest says`;
    if (device !== undefined) text = `${file} equals the image of ${device}, block by block`;
    if (options.output === 'json') {
      text = JSON.stringify({
        file,
        size_bytes: sizeBytes,
        cookie,
        compared_with: device ?? null,
      });
    }
    process.stdout.write(`${text}\n`);
  } finally {
    await destination.close();
  }
}
