// SPDX-License-Identifier: Apache-2.0
// As `reboot`, with an initramfs by dracut: of root.
import { useVm } from '../harness/scenario.js';
import { assertTracked, backUp, copyOfRoot, putTools, root, setUp, write } from './reboots.js';

describe('tracking over reboots with an initramfs by dracut', function () {
  this.timeout(60 * 60_000);
  const vm = useVm({ name: 'reboot-dracut', cpus: 1, system: 'dracut', disks: [copyOfRoot] });

  it('misses no change of root', async () => {
    await putTools(vm());
    await setUp(vm(), root);
    await write(vm(), root, 1);
    await vm().reboot({ orderly: true, swapDisks: true });
    await assertTracked(vm(), [root]);
    await write(vm(), root, 2);
    await backUp(vm(), root, 1);
  });
});
