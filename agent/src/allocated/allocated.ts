// SPDX-License-Identifier: Apache-2.0
// Which blocks of an image the filesystem has allocated, read from the image itself, without mounting it.
import { blocksOf, type ChangeMap } from '../changes/change-map.js';
import { readExt4Allocated } from './ext4.js';
import { isExt4 } from './ext4-superblock.js';
import type { ImageReader } from './image-reader.js';
import { insist } from './unknown.js';
import { readXfsAllocated } from './xfs.js';
import { isXfs } from './xfs-superblock.js';

/** Where both kinds of filesystems have told what they are. */
const START_SIZE = 2048;

/**
 * The blocks that are allocated or do not belong to the filesystem. The image has to be that of a filesystem that was frozen or
 * unmounted. Rejects with AllocationUnknownError when that cannot be told for sure.
 */
export async function readAllocated(image: ImageReader): Promise<ChangeMap> {
  insist(image.sizeBytes >= START_SIZE, 'it is too small');
  const start = await image.read(0, START_SIZE);
  const nrBlocks = blocksOf(BigInt(image.sizeBytes));
  const [ext4, xfs] = [isExt4(start), isXfs(start)];
  insist(!(ext4 && xfs), 'it begins like two filesystems');
  insist(ext4 || xfs, 'it has no filesystem of a known kind: ext2, ext3, ext4 and XFS are known');
  return xfs ? readXfsAllocated(image, nrBlocks) : readExt4Allocated(image, nrBlocks);
}
