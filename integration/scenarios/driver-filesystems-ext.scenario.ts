// SPDX-License-Identifier: Apache-2.0
// Every form of ext2, ext3 and ext4: those that are tracked, and the files on them that are not.
import { useVm } from '../harness/scenario.js';
import { mkfs } from './driver.js';
import {
  disks,
  encrypt,
  itRefuses,
  itTracks,
  trim,
  useDriver,
  type Form,
  type Refusal,
} from './filesystem.js';

// Blocks of 1 KiB make extents that begin and end inside a block of the driver's; ext2 and ext3 cannot allocate without
// writing.
const forms: readonly Form[] = [
  { name: 'ext2', type: 'ext2', mkfs: '-b 4096' },
  { name: 'ext3 with blocks of 1 KiB', type: 'ext3', mkfs: '-b 1024' },
  { name: 'ext4 with blocks of 1 KiB', type: 'ext4', mkfs: '-b 1024' },
  {
    name: 'ext4 that discards what is free',
    type: 'ext4',
    mkfs: '-b 4096',
    mount: 'discard',
    also: trim,
  },
  { name: 'ext4 with bigalloc', type: 'ext4', mkfs: '-b 4096 -O bigalloc -C 65536' },
  { name: 'ext4 without a journal', type: 'ext4', mkfs: '-b 4096 -O ^has_journal' },
  {
    name: 'ext4 with an encrypted directory',
    type: 'ext4',
    mkfs: '-b 4096 -O encrypt',
    // Without inline encryption in the kernel it encrypts as ever.
    mount: 'inlinecrypt',
    prepare: encrypt,
    also: 'head -c 300K /dev/urandom > secret/new$RANDOM; head -c 300K /dev/urandom | dd of=secret/file conv=notrunc status=none',
  },
  { name: 'ext4 on sectors of 4096 bytes', type: 'ext4', mkfs: '', sectorBytes: 4096 },
];

const ext4 = mkfs('ext4', 'ORIGIN');
const journalled = 'its data is journalled';

const refusals: readonly Refusal[] = [
  {
    name: 'data=journal as an option',
    make: `${ext4} && mount -o data=journal ORIGIN /t`,
    cow: '/t/cow',
    reason: journalled,
  },
  {
    name: 'data=journal as the default of the filesystem',
    make: `${ext4} && tune2fs -o journal_data ORIGIN > /dev/null && mount ORIGIN /t`,
    cow: '/t/cow',
    reason: journalled,
  },
  {
    name: 'a file whose data is journalled',
    make: `${ext4} && mount ORIGIN /t && mkdir /t/journalled && chattr +j /t/journalled`,
    cow: '/t/journalled/cow',
    reason: journalled,
  },
  {
    name: 'an encrypted file',
    make: `${mkfs('ext4', 'ORIGIN', '-O encrypt')} && mount ORIGIN /t && cd /t && ${encrypt}`,
    cow: '/t/secret/cow',
    reason: 'it is encrypted',
  },
];

describe('ext2, ext3 and ext4', () => {
  const vm = useVm({ name: 'ext', cpus: 1, disks });

  useDriver(vm);
  for (const form of forms) itTracks(form, vm);
  for (const refusal of refusals) itRefuses(refusal, vm);
});
