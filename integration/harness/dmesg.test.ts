// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { findComplaint } from './dmesg.js';

describe('findComplaint', () => {
  for (const line of [
    'BUG: kernel NULL pointer dereference, address: 0000000000000010',
    'kernel BUG at fs/inode.c:611!',
    'WARNING: CPU: 0 PID: 311 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110',
    'Oops: 0000 [#1] PREEMPT SMP NOPTI',
    'general protection fault, probably for non-canonical address 0xdead000000000100',
    'INFO: task fio:412 blocked for more than 120 seconds.',
    'rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:',
    'watchdog: BUG: soft lockup - CPU#1 stuck for 134s!',
    'WARNING: possible circular locking dependency detected',
    'kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)',
  ]) {
    it(`finds "${line}"`, () => {
      const log = `[    1.000000] ordinary\n[    2.000000] ${line}\n[    2.000001] details`;
      assert.equal(findComplaint(log), `[    2.000000] ${line}\n[    2.000001] details`);
    });
  }

  it('lets the messages of an ordinary run pass', () => {
    const log = [
      'elastio_snap: loading out-of-tree module taints kernel.',
      'EXT4-fs (vdb): warning: mounting fs with errors, running e2fsck is recommended',
      'rcu: RCU lockdep checking is enabled.',
      'kmemleak: Kernel memory leak detector initialized (mem pool available: 15691)',
      'debug: BUGS are fine',
    ].join('\n');
    assert.equal(findComplaint(log), undefined);
  });
});
