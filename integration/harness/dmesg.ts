// SPDX-License-Identifier: Apache-2.0

/** What the kernel prints when something is wrong; none of it may appear while a test runs. */
const complaints =
  /\bBUG\b|WARNING:|\bOops\b|Kernel panic|general protection|KASAN|UBSAN|refcount_t|blocked for more than|rcu.*\bstall|possible (?:circular|recursive|irq)|inconsistent lock state|suspicious RCU|bad unlock balance|held lock freed|sleeping function called|trying to register non-static key|turning off the locking correctness validator|ODEBUG disabled/;

/** Data races are found in all of the kernel; those count that name a function or an object of the driver's. */
const ours = /\besnap_|elastio_snap/;
/** A frame of the driver's, also after it was unloaded: an address where modules are. */
const oursInBacktrace = /\besnap_|elastio_snap|\] 0xffffffffc[0-9a-f]{7}\b/;

const linesAfterComplaint = 40;
const endOfReport = /={20,}/;

/** The lines of a report that begins there, up to the bar of "=" that ends it. */
function reportFrom(lines: readonly string[], first: number): string {
  const rest = lines.slice(first, first + linesAfterComplaint);
  const end = rest.findIndex((line) => endOfReport.test(line));
  return rest.slice(0, end < 0 ? rest.length : end).join('\n');
}

/** jbd2 does not look whether there was memory for its entry in /proc, and takes it away all the same when it ends. */
const missesProcEntry = /\bremove_proc_entry\b[^]*\bjbd2_journal_destroy\b/;

/** 5.10 warns ("bdi-(unknown) not registered") where a file of a disk that was pulled out becomes dirty. */
const dirtiesPulledOut = /WARNING: .*fs\/fs-writeback\.c:\d+ __mark_inode_dirty\b/;

/** Does a complaint with this first line say something of the driver, or of what it may have done to others? */
function counts(line: string, report: string): boolean {
  if (line.includes('BUG: KCSAN')) return ours.test(report);
  return !missesProcEntry.test(report) && !dirtiesPulledOut.test(line);
}

/** The first complaint in a kernel log with the lines that follow it, or undefined for a clean log. */
export function findComplaint(log: string): string | undefined {
  const lines = log.split('\n');
  const first = lines.findIndex(
    (line, at) => complaints.test(line) && counts(line, reportFrom(lines, at)),
  );
  return first < 0 ? undefined : lines.slice(first, first + linesAfterComplaint).join('\n');
}

/** Has this complaint to do with the driver? */
export function namesDriver(complaint: string): boolean {
  return ours.test(complaint);
}

/**
 * The kernel replaces the first instruction of a function that is hooked, with a breakpoint in between. An emulated processor can
 * go on executing the breakpoint when it is gone (QEMU's emulation invalidates a translation before it stores what replaces it, and
 * another thread can translate the old code once more in between): the kernel then dies of an int3 that is nobody's, or runs into
 * it for ever at the function's first byte. No machine does that.
 */
const emulatorFault = /\bint3: 0000\b|soft lockup - CPU[^]{0,3000}?RIP: 0010:\w+\+0x0\//;

/** Has the emulator, and nobody else, made the guest with this log die or hang? */
export function isEmulatorFault(log: string): boolean {
  return emulatorFault.test(log);
}

/** A processor of the guest does nothing any more: an emulated one can lose the interrupt of its timer. */
const stall = /\brcu: INFO: \w+ (?:self-)?detected stall|\bsoft lockup\b/;

/** Does nothing move any more in the guest with this log? */
export function isStalled(log: string): boolean {
  return stall.test(log);
}

/** The kernel (6.1) forgets the name of a slab cache that it could not make an object of sysfs for. */
const kernelsOwn = /\bkobject_set_name_vargs\b[^]*\bsysfs_slab_add\b/;

/** What is in kmemleak's list that the driver has allocated, or undefined. */
export function findLeak(list: string): string | undefined {
  const objects = list.split(/^(?=unreferenced object)/m);
  const found = objects.filter(
    (object) => oursInBacktrace.test(object) && !kernelsOwn.test(object),
  );
  return found.length === 0 ? undefined : found.join('');
}
