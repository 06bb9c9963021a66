// SPDX-License-Identifier: Apache-2.0
// What a benchmark does to null_blk's disks in a guest with the instruction clock, and how long it takes.
import type { Vm } from '../harness/vm.js';

/** The size of a test file. */
export const fileMib = 48;
const timeoutMs = 10 * 60_000;

/** null_blk's parameters, by the name of the device in the tables. */
export const latencies: Readonly<Record<string, string>> = {
  RAM: 'irqmode=0',
  '100 us': 'irqmode=2 completion_nsec=100000',
};

/**
 * measure KIND FIO_WORD...: runs fio; prints the duration in ns of what it did of this kind (read, write), and the reads, read
 * sectors, writes and written sectors of nullb0 meanwhile. The duration is fio's own, plus the time from its end until no device
 * has written anything for a quarter of a second, without that quarter.
 */
const functions = `
stat() { awk '{ print $1, $3, $5, $7 }' /sys/block/nullb0/stat; }
all() { cat /sys/block/nullb*/stat | awk '{ printf "%s ", $5 }'; }
measure() {
  sync # or the journal's next commit falls into the measurement, or not
  before=$(stat); kind=$1; shift
  runtime=$(fio --randseed=1 --group_reporting --output-format=json --fallocate=none "$@" |
    awk -F: "/\\"$kind\\" : [{]/ { w = 1 } w && /\\"runtime\\"/ { print \\$2 + 0; exit }")
  ended=$(date +%s%N); last=$ended; seen=$(all)
  while now=$(date +%s%N); [ $((now - last)) -lt 250000000 ]; do
    is=$(all); [ "$is" = "$seen" ] || { seen=$is; last=$now; }
  done
  set -- $before $(stat)
  echo $((runtime * 1000000 + last - ended)) $(($5 - $1)) $(($6 - $2)) $(($7 - $3)) $(($8 - $4))
}
format() { mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$@"; }
fill() { dd if=/dev/urandom of=$1 bs=1M count=${fileMib} oflag=direct status=none; sync; }
`;

/** What `measure` prints. */
export interface Run {
  ns: number;
  reads: number;
  readSectors: number;
  writes: number;
  writtenSectors: number;
}

/** Runs a script that may use the functions above. */
export async function sh(vm: Vm, script: string): Promise<string> {
  return vm.sh(`${functions}\n${script}`, { timeoutMs });
}

/** Measures what fio does of a kind. */
export async function runFio(vm: Vm, kind: 'read' | 'write', words: string): Promise<Run> {
  const output = await sh(vm, `measure ${kind} ${words}`);
  const [ns = NaN, reads = NaN, readSectors = NaN, written = NaN, writtenSectors = NaN] = output
    .trim()
    .split(' ')
    .map(Number);
  if (!(ns > 0)) throw new Error(`no duration of "fio ${words}": ${output}`);
  return { ns, reads, readSectors, writes: written, writtenSectors };
}

/** Measures one run past the page cache, 16 pieces at a time, over files whose names are separated by spaces, each so many times. */
export function run(
  vm: Vm,
  files: string,
  rw: 'randwrite' | 'write' | 'read' = 'randwrite',
  size = '4k',
  mib = fileMib,
  passes = 1,
): Promise<Run> {
  const jobs = files.split(' ').map((file) => `--name=${file} --filename=${file}`);
  const words = `--rw=${rw} --bs=${size} --size=${mib}M --loops=${passes} --direct=1 --ioengine=libaio --iodepth=16 ${jobs.join(' ')}`;
  return runFio(vm, rw === 'read' ? 'read' : 'write', words);
}
