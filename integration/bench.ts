// SPDX-License-Identifier: Apache-2.0
// bench.js [--resume] [PART...]: speed, as ratios measured in one run; all parts, or those that are named. The figures of README come
// from here; build/bench/PART.json holds all that were measured. With --resume a part that was measured of the same module and programs
// is not measured again.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { agentLatencyTarget, measureAgentLatency } from './bench/agent-latency.js';
import { changeListTargets, measureChangeList } from './bench/change-list.js';
import {
  freezeTargetMs,
  measureFreezeTimes,
  type FreezeTimes,
  type Spread,
} from './bench/freeze-time.js';
import { helpTimeTarget, measureHelpTime } from './bench/help-time.js';
import { lockLoad, measureLockContention } from './bench/lock-contention.js';
import { measureProcessors } from './bench/processors.js';
import { measureRestoreRate } from './bench/restore-rate.js';
import { measureSizes } from './bench/size.js';
import {
  incrementalTarget,
  measureIncrementalTime,
  measureStreamRate,
  streamRateTarget,
} from './bench/stream-rate.js';
import { table } from './bench/table.js';
import { measureTrackers } from './bench/trackers.js';
import { measureWriteRates, pendingMib, targets, type WriteRates } from './bench/write-rate.js';
import { fingerprint, repository } from './harness/cache.js';
import { defaultKernel } from './harness/debian.js';
import { buildModule } from './harness/payload.js';
import { say } from './harness/process.js';

/** What was measured: figures for programs, and in words. */
interface Measured {
  figures: unknown;
  words: string;
}

function missed(met: boolean): string {
  return met ? '' : ': missed';
}

async function helpTime(): Promise<Measured> {
  const figures = await measureHelpTime();
  const { ratio } = figures;
  const limit = `at most ${helpTimeTarget.toFixed(1)}${missed(ratio <= helpTimeTarget)}`;
  const words = `\`elioctl --help\` takes ${ratio.toFixed(2)} times the processor time of \`node -e 0\` (${limit}).`;
  return { figures, words };
}

async function changeList(): Promise<Measured> {
  const figures = await measureChangeList();
  const { extents, seconds, mib } = figures;
  const timeLimit = `at most ${changeListTargets.seconds.toFixed(1)}${missed(seconds <= changeListTargets.seconds)}`;
  const memoryLimit = `at most ${String(changeListTargets.mib)}${missed(mib <= changeListTargets.mib)}`;
  const words = `A list of ${String(extents)} changes of 1 TiB took the agent ${seconds.toFixed(1)} s (${timeLimit}) and ${mib.toFixed(0)} MiB of memory (${memoryLimit}).`;
  return { figures, words };
}

async function agentLatency(directory: string): Promise<Measured> {
  const figures = await measureAgentLatency(directory);
  const { ratio } = figures;
  const limit = `at most ${agentLatencyTarget.toFixed(1)}${missed(ratio <= agentLatencyTarget)}`;
  const words = `GetSnapshot of 50 clients at once takes ${ratio.toFixed(2)} times what an empty call takes (${limit}).`;
  return { figures, words };
}

function writeRateTable(rates: readonly WriteRates[]): string {
  type Key =
    'firstWrite' | 'sequentialFirstWrite' | 'rewrite' | 'incremental' | 'idle' | 'imageRead';
  type More =
    'untrackedNeighbour' | 'extraReadsPerRewrite' | 'sectorsPerFirstWrite' | 'blocksPerStoreWrite';
  const goalOf = (of: WriteRates, key: Key | More): string => {
    const goal = targets[of.device]?.[key];
    if (goal === undefined) return '';
    const least = key === 'extraReadsPerRewrite' || key === 'sectorsPerFirstWrite';
    const met = least ? of[key] <= goal : of[key] >= goal;
    return ` (${String(goal)}${met ? '' : ', missed'})`;
  };
  const own = (what: string, key: Key | More): string[] => [
    what,
    ...rates.map((of) => `${of[key].toFixed(3)}${goalOf(of, key)}`),
  ];
  const other = (what: string, of: (of: WriteRates) => number | undefined): string[] => [
    what,
    ...rates.map((each) => of(each)?.toFixed(3) ?? ''),
  ];
  const rows = [
    own('first write', 'firstWrite'),
    other('first write: ceiling', ({ ceiling }) => ceiling),
    other(
      'first write: dm-snapshot, 4 KiB chunks',
      ({ dmSnapshot }) => dmSnapshot['4']?.firstWrite,
    ),
    other(
      'first write: dm-snapshot, 64 KiB chunks',
      ({ dmSnapshot }) => dmSnapshot['64']?.firstWrite,
    ),
    own('first write, 1 MiB sequential', 'sequentialFirstWrite'),
    other('first write, 1 MiB sequential: ceiling', ({ sequentialCeiling }) => sequentialCeiling),
    own('rewrite', 'rewrite'),
    other('rewrite: dm-snapshot, 4 KiB chunks', ({ dmSnapshot }) => dmSnapshot['4']?.rewrite),
    other('rewrite: dm-snapshot, 64 KiB chunks', ({ dmSnapshot }) => dmSnapshot['64']?.rewrite),
    own('incremental', 'incremental'),
    own('another, untracked device', 'untrackedNeighbour'),
    own('module loaded, nothing tracked', 'idle'),
    own('image, sequential read', 'imageRead'),
    own('extra reads per rewrite', 'extraReadsPerRewrite'),
    other('extra reads per incremental write', (of) => of.extraReadsPerIncrementalWrite),
    other('extra writes per incremental write', (of) => of.extraWritesPerIncrementalWrite),
    own('sectors moved per sector first written', 'sectorsPerFirstWrite'),
    other('sectors moved per sector rewritten', ({ sectorsPerRewrite }) => sectorsPerRewrite),
    other('sectors moved per sector, incremental', (of) => of.sectorsPerIncrementalWrite),
    own('blocks per write to the store', 'blocksPerStoreWrite'),
    other('difference of the two rounds, at most', ({ difference }) => difference),
  ];
  return table([['', ...rates.map(({ device }) => device)], ...rows]);
}

async function writeRate(directory: string): Promise<Measured> {
  const figures = await measureWriteRates(directory);
  const words = `4 KiB random writes, direct, depth 16, relative to the same device untracked (in brackets: the goal), with pending_max_mib=${String(pendingMib)}

${writeRateTable(figures)}
`;
  return { figures, words };
}

async function freezeTime(directory: string): Promise<Measured> {
  const figures = await measureFreezeTimes(directory);
  const text = ({ p50, p99 }: Spread): string => `${p50.toFixed(2)} / ${p99.toFixed(2)}`;
  const row = (what: string, of: (of: FreezeTimes) => string): string[] => [
    what,
    ...figures.map(of),
  ];
  const frozen = (what: string, key: 'setupFreeze' | 'transitionFreeze'): string[] =>
    row(what, (of) => {
      const met = of[key].p99 <= of.byHand.p99 + freezeTargetMs;
      return `${text(of[key])}${missed(met)}`;
    });
  const rows = [
    row('frozen by hand', ({ byHand }) => text(byHand)),
    frozen('frozen by a set-up', 'setupFreeze'),
    frozen('frozen by a transition to a snapshot', 'transitionFreeze'),
    row('set-up', ({ setup }) => text(setup)),
    row('transition to incremental', ({ toIncremental }) => text(toIncremental)),
    row('transition to a snapshot', ({ toSnapshot }) => text(toSnapshot)),
    row('destroy', ({ destroy }) => text(destroy)),
  ];
  const words = `Beside two writers, in ms, p50 / p99 of ${String(figures[0]?.byHand.count)} (goal: frozen for ${String(freezeTargetMs)} ms longer than by hand at most, p99)

${table([['', ...figures.map(({ device }) => device)], ...rows])}
`;
  return { figures, words };
}

async function trackers(directory: string): Promise<Measured> {
  const figures = await measureTrackers(directory);
  const rows = figures.map((of) => [
    String(of.trackers),
    ...[of.firstWrite, of.rewrite, of.incremental].map((ratio) => ratio.toFixed(3)),
  ]);
  const words = `4 KiB random writes to several RAM disks at once, each with a tracker, relative to the same disks untracked

${table([['trackers', 'first write', 'rewrite', 'incremental'], ...rows])}
`;
  return { figures, words };
}

async function lockContention(directory: string): Promise<Measured> {
  const figures = await measureLockContention(directory);
  const rows = figures.flatMap(({ phase, locks }) =>
    locks.map((of) => [
      phase,
      of.lock,
      String(of.acquisitions),
      String(of.contentions),
      of.waitedMs.toFixed(1),
      of.heldMs.toFixed(1),
    ]),
  );
  const words = `The driver's locks while ${String(lockLoad.trackers)} tracked RAM disks are written by ${String(lockLoad.processors)} processors, on a kernel with checks

${table([['', 'lock', 'taken', 'waited for', 'waited, ms', 'held, ms'], ...rows])}
`;
  return { figures, words };
}

async function processors(directory: string): Promise<Measured> {
  const figures = await measureProcessors(directory);
  const rows = (['firstWrite', 'rewrite', 'incremental'] as const).map((key) => [
    { firstWrite: 'first write', rewrite: 'rewrite', incremental: 'incremental' }[key],
    ...figures.map((of) => of[key].toFixed(3)),
  ]);
  const heads = figures.map((of) => `${String(of.processors)} processors, ${of.device}`);
  const words = `4 KiB random writes of a writer on each processor, without the instruction clock, medians of ${String(figures[0]?.rounds)} rounds

${table([['', ...heads], ...rows])}
`;
  return { figures, words };
}

async function size(directory: string): Promise<Measured> {
  const figures = await measureSizes(directory);
  const rows = figures.map((of) => [
    of.sizeGib.toFixed(0),
    ...[of.setupMs, of.toIncrementalMs, of.toSnapshotMs, of.destroyMs].map((ms) => ms.toFixed(0)),
    of.emptyMib.toFixed(1),
    of.fullMib.toFixed(1),
  ]);
  const head = [
    'GiB',
    'set-up, ms',
    'to incremental, ms',
    'to snapshot, ms',
    'destroy, ms',
    'memory, MiB',
    'memory with a change in every region, MiB',
  ];
  return { figures, words: `By size of the origin\n\n${table([head, ...rows])}\n` };
}

async function streamRate(directory: string): Promise<Measured> {
  const figures = await measureStreamRate(directory);
  const { ratio, imageMibPerSecond, memoryMibPerSecond } = figures;
  const { imageCpuSecondsPerGib, memoryCpuSecondsPerGib } = figures;
  const limit = `at least ${streamRateTarget.toFixed(2)}${missed(ratio >= streamRateTarget)}`;
  const words = `An image streams at ${ratio.toFixed(2)} of the rate of the same messages out of memory (${limit}): ${imageMibPerSecond.toFixed(1)} and ${memoryMibPerSecond.toFixed(1)} MiB/s from an emulated machine, for ${imageCpuSecondsPerGib.toFixed(0)} and ${memoryCpuSecondsPerGib.toFixed(0)} s of processor time per GiB there.`;
  return { figures, words };
}

async function incremental(directory: string): Promise<Measured> {
  const figures = await measureIncrementalTime(directory);
  const { fullMib, fullSeconds, incrementalMib, incrementalSeconds } = figures;
  const most = incrementalTarget(fullSeconds);
  const limit = `at most ${most.toFixed(1)}${missed(incrementalSeconds <= most)}`;
  const words = `A full backup of ${fullMib.toFixed(0)} MiB to a set took ${fullSeconds.toFixed(1)} s, the incremental one of 1 % changed blocks (${incrementalMib.toFixed(0)} MiB) ${incrementalSeconds.toFixed(1)} s (${limit}).`;
  return { figures, words };
}

async function restoreRate(directory: string): Promise<Measured> {
  const figures = await measureRestoreRate(directory);
  const rates = figures.map(
    ({ roundTripMs, mibPerSecond }) =>
      `${mibPerSecond.toFixed(1)} MiB/s at ${String(roundTripMs)} ms`,
  );
  const words = `A restore of 64 MiB, verified: ${rates.join(', ')} of round-trip time beside the emulated network's own.`;
  return { figures, words };
}

interface Part {
  what: string;
  measure: (directory: string) => Promise<Measured>;
  /** Not among all parts: it needs a kernel that takes half an hour to build. */
  byNameOnly?: boolean;
}

const parts: Record<string, Part> = {
  'help-time': { what: 'how long elioctl --help takes', measure: helpTime },
  'change-list': { what: 'a list of a million changes', measure: changeList },
  'agent-latency': { what: 'what GetSnapshot takes beside an empty call', measure: agentLatency },
  'write-rate': {
    what: 'write rates with the instruction clock, about 20 minutes',
    measure: writeRate,
  },
  'freeze-time': { what: 'for how long a snapshot freezes the filesystem', measure: freezeTime },
  processors: {
    what: 'write rates on several processors, without the instruction clock',
    measure: processors,
  },
  trackers: { what: 'several trackers at once', measure: trackers },
  'lock-contention': {
    what: "who waits for the driver's locks, on a debug kernel",
    measure: lockContention,
    byNameOnly: true,
  },
  size: { what: 'what the size of an origin costs', measure: size },
  'stream-rate': { what: 'the stream rate over mTLS', measure: streamRate },
  incremental: {
    what: 'incremental backups beside full ones of 1 GiB, about 7 minutes',
    measure: incremental,
  },
  'restore-rate': { what: 'restores over distances', measure: restoreRate },
};

/** Of the module and the programs that are measured. */
async function measuredOf(): Promise<string> {
  const inputs = [
    await buildModule(defaultKernel()),
    join(repository, 'dist'),
    join(repository, 'integration', 'guest'),
  ];
  return (await Promise.all(inputs.map(fingerprint))).join(' ');
}

/** What is kept of a part. */
interface Kept extends Measured {
  of: string;
}

function earlier(file: string, of: string): Kept | undefined {
  if (!existsSync(file)) return undefined;
  const kept = JSON.parse(readFileSync(file, 'utf8')) as Kept;
  return kept.of === of ? kept : undefined;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { resume: { type: 'boolean' } },
});
const usual = Object.keys(parts).filter((name) => parts[name]?.byNameOnly !== true);
const names = positionals.length > 0 ? positionals : usual;
const all = join(repository, 'build', 'bench');
const results: string[] = [];
const of = await measuredOf();
for (const name of names) {
  const part = parts[name];
  if (!part) throw new Error(`there is no part "${name}": ${Object.keys(parts).join(', ')}`);
  const directory = join(all, name);
  const kept = values.resume === true ? earlier(`${directory}.json`, of) : undefined;
  if (kept) {
    say(`${part.what}: measured in an earlier run`);
    results.push(kept.words);
    continue;
  }
  say(`measuring ${part.what}`);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const measured: Kept = { of, ...(await part.measure(directory)) };
  writeFileSync(`${directory}.json`, `${JSON.stringify(measured, undefined, 2)}\n`);
  results.push(measured.words);
}
console.log(`\n${results.join('\n')}`);
