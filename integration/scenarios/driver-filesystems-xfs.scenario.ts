// SPDX-License-Identifier: Apache-2.0
// Every form of XFS that is tracked, and filesystems and devices that are not.
import { defaultKernel } from '../harness/debian.js';
import { useVm } from '../harness/scenario.js';
import { mkfs } from './driver.js';
import {
  disks,
  itRefuses,
  itTracks,
  trim,
  useDriver,
  type Form,
  type Refusal,
} from './filesystem.js';

/**
 * The log of a live XFS cannot be recovered in a read-only device, and its uuid is in use. After a freeze there is nothing
 * in the log that is missing elsewhere.
 */
const image = 'norecovery,nouuid';

const forms: readonly Form[] = [
  {
    name: 'XFS with reflink, which discards what is free',
    type: 'xfs',
    mkfs: '-m reflink=1',
    mount: 'discard',
    image,
    also: `cp --reflink=always data shared$RANDOM; ${trim}`,
  },
  {
    name: 'XFS without reflink and with blocks of 1 KiB',
    type: 'xfs',
    mkfs: '-m reflink=0 -b size=1024',
    image,
  },
  {
    name: 'XFS with an external log',
    type: 'xfs',
    mkfs: '-l logdev=SECOND,size=16m',
    mount: 'logdev=SECOND',
    // Any log will do where none is recovered, and its own is in use.
    image: `${image},logdev=THIRD`,
    fsck: '-l SECOND',
    tellsMounts: false,
  },
  {
    name: 'XFS with sectors of 4096 bytes on a disk with 512',
    type: 'xfs',
    mkfs: '-s size=4096',
    image,
  },
  { name: 'XFS on sectors of 4096 bytes', type: 'xfs', mkfs: '', image, sectorBytes: 4096 },
];

/** Only newer kernels mount an XFS whose blocks are larger than a page. */
const largeBlocks: Refusal = {
  name: 'blocks of 8 KiB',
  make: `${mkfs('xfs', 'SECOND', '-b size=8192 -m reflink=0,rmapbt=0')} && mount SECOND /t`,
  cow: '/t/cow',
  reason: 'filesystem blocks of 8192 bytes are not supported',
};

const realtime = mkfs('xfs', 'ORIGIN', '-m reflink=0,rmapbt=0 -d rtinherit=1 -r rtdev=SECOND');

const refusals: readonly Refusal[] = [
  ...(['6.12', '7.x'].includes(defaultKernel()) ? [largeBlocks] : []),
  {
    name: 'a file on the realtime device of an XFS',
    make: `${realtime} && mount -o rtdev=SECOND ORIGIN /t`,
    cow: '/t/cow',
    reason: 'it is on a realtime device',
  },
  {
    name: 'vfat',
    make: 'mkfs.vfat ORIGIN > /dev/null && mount ORIGIN /t',
    cow: '/t/cow',
    reason: 'filesystem vfat is not supported',
  },
  {
    name: 'btrfs',
    make: 'mkfs.btrfs -qf SECOND 2> /dev/null && mount SECOND /t',
    cow: '/t/cow',
    reason: 'filesystem btrfs is not supported',
  },
  {
    name: 'a device with DAX',
    make: `modprobe -a nd_e820 nd_pmem && udevadm settle && ${mkfs('ext4', '/dev/pmem0', '-b 4096')} && mount /dev/pmem0 /t && mkdir /t/dax && chattr +x /t/dax`,
    cow: '/t/cow',
    reason: 'files on it can be written without bios (DAX)',
  },
];

describe('XFS, and what is not supported', () => {
  // A part of the memory as a device, which has DAX.
  const vm = useVm({
    name: 'xfs',
    cpus: 1,
    kernelArguments: 'memmap=32M!512M',
    disks,
  });

  useDriver(vm);
  for (const form of forms) itTracks(form, vm);
  for (const refusal of refusals) itRefuses(refusal, vm);
});
