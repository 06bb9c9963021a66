// SPDX-License-Identifier: Apache-2.0
// write-set.js DIRECTORY SEED SIZE ROUNDS [--full]: backs up a volume after so many rounds of changes into a set, as `elioctl
// backup` does, so that tests can break it.
// write-set.js DIRECTORY prune KEEP: prunes the set.
import type { Blocks } from '../../backup/blocks.js';
import { lengthOf } from '../../backup/blocks.js';
import { atStep } from '../../backup/steps.js';
import { prune } from '../prune.js';
import { planPrune } from '../retention.js';
import { BackupSet } from '../set.js';
import { SetTarget } from '../set-target.js';
import { cookieOf, ORIGIN, volumeAfter } from './volume.js';

const [directory = '', second = '', third = '', fourth = '', fifth = ''] = process.argv.slice(2);
const never = new AbortController().signal;

async function* watched(blocks: AsyncIterable<Blocks>, half: number): AsyncGenerator<Blocks> {
  let covered = 0;
  for await (const piece of blocks) {
    yield piece;
    covered += lengthOf(piece);
    if (covered >= half) atStep('half-streamed');
  }
}

if (second === 'prune') {
  const set = await BackupSet.open(directory, 'write');
  await prune(set, planPrune(set.backups, { keepLast: Number(third) }, new Date()), never);
  await set.close();
} else {
  const rounds = Number(fourth);
  const volume = volumeAfter(Number(second), Number(third), rounds);
  const target = await SetTarget.open(directory, fifth === '--full');
  await target.checkMayWrite(ORIGIN);
  const cookie = cookieOf(rounds + 1);
  if (target.base) await target.writeIncrement(watched(volume.increment(), 1), ORIGIN, cookie);
  else {
    const { sizeBytes } = volume;
    await target.writeFull(watched(volume.full(), sizeBytes / 2), sizeBytes, ORIGIN, cookie);
  }
  atStep('committed');
  await target.close();
}
