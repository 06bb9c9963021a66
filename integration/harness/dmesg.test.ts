// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { findComplaint, findLeak, isEmulatorFault, isStalled } from './dmesg.js';

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
  ]) {
    it(`finds "${line}"`, () => {
      const log = `[    1.000000] ordinary\n[    2.000000] ${line}\n[    2.000001] details`;
      assert.equal(findComplaint(log), `[    2.000000] ${line}\n[    2.000001] details`);
    });
  }

  const race = (place: string): string =>
    [
      '==================================================================',
      `BUG: KCSAN: data-race in ${place} / xas_load`,
      `write to 0xffff888003a6b500 of 8 bytes by task 312 on cpu 1:`,
      ` ${place}+0x4f/0x90`,
      '==================================================================',
      'elastio_snap: what follows is of another report',
    ].join('\n');

  it("finds a data race of the driver's, and of nobody else's", () => {
    assert.match(findComplaint(race('esnap_bitmap_test')) ?? '', /^BUG: KCSAN/);
    assert.equal(findComplaint(race('jbd2_journal_dirty_metadata')), undefined);
  });

  it("leaves out that jbd2 takes away what it never made, and nobody else's like it", () => {
    const log = (frame: string): string =>
      `WARNING: CPU: 0 PID: 2521 at fs/proc/generic.c:734 remove_proc_entry+0x253/0x430\nCall Trace:\n ${frame}+0x10/0x20`;
    assert.equal(findComplaint(log('jbd2_journal_destroy')), undefined);
    assert.equal(findComplaint(log('esnap_proc_exit')), log('esnap_proc_exit'));
  });

  it('leaves out a write to a disk that was pulled out, and nothing else there', () => {
    const log = (name: string): string =>
      `[   13.9] bdi-(unknown) not registered\n[   13.9] WARNING: CPU: 0 PID: 267 at fs/fs-writeback.c:2335 ${name}+0x24b/0x300`;
    assert.equal(findComplaint(log('__mark_inode_dirty')), undefined);
    assert.ok(findComplaint(log('wb_queue_work')));
  });

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

describe('findLeak', () => {
  const leak = (frame: string): string =>
    `unreferenced object 0xffff888005d71800 (size 512):\n  comm "mount", pid 312, jiffies 4294911225\n  backtrace:\n    [<0000000063a6f1a1>] ${frame}\n`;
  const others = leak('ext4_fill_super+0x12/0x90 [ext4]');

  it('finds what the driver has allocated, also when it was unloaded since', () => {
    for (const frame of ['esnap_epoch_create+0x40/0x2f0 [elastio_snap]', '0xffffffffc0a1b2c3'])
      assert.equal(findLeak(`${others}${leak(frame)}${others}`), leak(frame));
    assert.equal(findLeak(others), undefined);
    assert.equal(findLeak(''), undefined);
  });

  it('leaves out the name that the kernel forgets of a cache that could not be made', () => {
    const frames = (...names: string[]): string =>
      leak([...names, 'esnap_image_create+0x157/0x8a0 [elastio_snap]'].join('\n    [<00>] '));
    assert.equal(
      findLeak(frames('kobject_set_name_vargs+0x44/0x120', 'sysfs_slab_add+0x1a9/0x230')),
      undefined,
    );
    for (const other of ['kobject_set_name_vargs+0x44/0x120', 'sysfs_slab_add+0x1a9/0x230'])
      assert.equal(findLeak(frames(other)), frames(other));
  });
});

describe('isEmulatorFault', () => {
  const lockup = (place: string): string =>
    `watchdog: BUG: soft lockup - CPU#0 stuck for 134s! [stamper:346]\nModules linked in: ext4\nRIP: 0010:${place}\nCall Trace:`;

  it('knows a breakpoint that is hit when it is gone, from everything else', () => {
    assert.ok(isEmulatorFault('Oops: int3: 0000 [#1] PREEMPT SMP NOPTI'));
    assert.ok(isEmulatorFault('int3: 0000 [#1] PREEMPT SMP NOPTI'));
    assert.ok(isEmulatorFault(lockup('submit_bio_noacct+0x0/0x420')));
    assert.ok(!isEmulatorFault(lockup('esnap_copy_wait+0x40/0x90 [elastio_snap]')));
    assert.ok(!isEmulatorFault('Oops: 0000 [#1] SMP\nRIP: 0010:submit_bio_noacct+0x0/0x420'));
  });
});

describe('isStalled', () => {
  it('knows a processor that has stopped, from what is said of one that goes on', () => {
    assert.ok(isStalled('[   80.9] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:'));
    assert.ok(isStalled('[   80.9] rcu: INFO: rcu_sched self-detected stall on CPU'));
    assert.ok(isStalled('[  134.2] watchdog: BUG: soft lockup - CPU#0 stuck for 134s!'));
    assert.ok(!isStalled('[    5.6] \tRCU CPU stall warnings timeout set to 60'));
    assert.ok(!isStalled('[    5.6] rcu: Preemptible hierarchical RCU implementation.'));
  });
});
