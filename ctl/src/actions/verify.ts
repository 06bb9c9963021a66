// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { findDevice } from '../backup/origin.js';
import type { BackupContent } from '../backup/target.js';
import { compareWithImage } from '../backup/verify.js';
import { hostDevice, withConnection } from '../connection.js';
import { CliError, EXIT } from '../errors.js';
import { interruptible } from '../interrupt.js';
import type { OutputForm } from '../options.js';
import { progressBar } from '../progress.js';
import { openBackup } from '../sets/source.js';

export interface VerifyOptions {
  output: OutputForm;
}

async function compareWithDevice(
  command: Command,
  content: BackupContent,
  device: string,
): Promise<void> {
  await withConnection(command, async (connection) => {
    const path = hostDevice(connection, device, 'block device');
    const { minor } = await findDevice(connection, path);
    if (minor === undefined) {
      throw new CliError(`${device} is not tracked: there is no image`, EXIT.state);
    }
    await interruptible((signal) =>
      compareWithImage(connection, minor, content, signal, progressBar),
    );
  });
}

export async function verify(
  command: Command,
  file: string,
  device: string | undefined,
  options: VerifyOptions,
): Promise<void> {
  const { content, close } = await openBackup(file);
  try {
    await interruptible((signal) => content.check(signal));
    if (device !== undefined) await compareWithDevice(command, content, device);
    const { sizeBytes, cookie } = content;
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
    await close();
  }
}
