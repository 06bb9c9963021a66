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
 * measure FILES RW BLOCK_SIZE MIB: has all files read or written at once; prints the run's duration in ns and the reads, read
 * sectors, writes and written sectors of nullb0 during it. The duration is fio's own, plus the time from its end until no device
 * has written anything for a quarter of a second, without that quarter.
 */
const functions = `
stat() { awk '{ print $1, $3, $5, $7 }' /sys/block/nullb0/stat; }
all() { cat /sys/block/nullb*/stat | awk '{ printf "%s ", $5 }'; }
measure() {
  before=$(stat)
  case $2 in *write) kind=write ;; *) kind=read ;; esac
  jobs=
  for file in $1; do jobs="$jobs --name=$file --filename=$file"; done
  runtime=$(fio --rw=$2 --bs=$3 --size=$4M --direct=1 --ioengine=libaio --iodepth=16 --randseed=1 --group_reporting \\
    --output-format=json --fallocate=none $jobs | awk -F: "/\\"$kind\\" : [{]/ { w = 1 } w && /\\"runtime\\"/ { print \\$2 + 0; exit }")
  ended=$(date +%s%N); last=$ended; seen=$(all)
  while now=$(date +%s%N); [ $((now - last)) -lt 250000000 ]; do
    is=$(all); [ "$is" = "$seen" ] || { seen=$is; last=$now; }
  done
  set -- $before $(stat)
  echo $((runtime * 1000000 + last - ended)) $(($5 - $1)) $(($6 - $2)) $(($7 - $3)) $(($8 - $4))
}
format() { mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0,nodiscard $1; }
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

/** Measures one run over files, whose names are separated by spaces. */
export async function run(
  vm: Vm,
  files: string,
  rw = 'randwrite',
  size = '4k',
  mib = fileMib,
): Promise<Run> {
  const output = await sh(vm, `measure '${files}' ${rw} ${size} ${String(mib)}`);
  const [ns = NaN, reads = NaN, readSectors = NaN, written = NaN, writtenSectors = NaN] = output
    .trim()
    .split(' ')
    .map(Number);
  return { ns, reads, readSectors, writes: written, writtenSectors };
}
