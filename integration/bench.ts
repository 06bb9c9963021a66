// SPDX-License-Identifier: Apache-2.0
// bench.js [PART...]: speed, as ratios measured in one run; all parts, or those that are named. The figures of README come from here;
// build/bench/PART.json holds all that were measured.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentLatencyTarget, measureAgentLatency } from './bench/agent-latency.js';
import { changeListTargets, measureChangeList } from './bench/change-list.js';
import { helpTimeTarget, measureHelpTime } from './bench/help-time.js';
import { measureRestoreRate } from './bench/restore-rate.js';
import {
  incrementalTarget,
  measureIncrementalTime,
  measureStreamRate,
  streamRateTarget,
} from './bench/stream-rate.js';
import { measureWriteRates, targets, type WriteRates } from './bench/write-rate.js';
import { repository } from './harness/cache.js';
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
    own('rewrite', 'rewrite'),
    other('rewrite: dm-snapshot, 4 KiB chunks', ({ dmSnapshot }) => dmSnapshot['4']?.rewrite),
    other('rewrite: dm-snapshot, 64 KiB chunks', ({ dmSnapshot }) => dmSnapshot['64']?.rewrite),
    own('incremental', 'incremental'),
    own('another, untracked device', 'untrackedNeighbour'),
    own('module loaded, nothing tracked', 'idle'),
    own('image, sequential read', 'imageRead'),
    own('extra reads per rewrite', 'extraReadsPerRewrite'),
    own('sectors moved per sector first written', 'sectorsPerFirstWrite'),
    own('blocks per write to the store', 'blocksPerStoreWrite'),
  ];
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const head = ['', ...rates.map(({ device }) => device)];
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

async function writeRate(directory: string): Promise<Measured> {
  const figures = await measureWriteRates(directory);
  const words = `4 KiB random writes, direct, depth 16, relative to the same device untracked (in brackets: the goal)

${writeRateTable(figures)}
`;
  return { figures, words };
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

const parts: Record<string, { what: string; measure: (directory: string) => Promise<Measured> }> = {
  'help-time': { what: 'how long elioctl --help takes', measure: helpTime },
  'change-list': { what: 'a list of a million changes', measure: changeList },
  'agent-latency': { what: 'what GetSnapshot takes beside an empty call', measure: agentLatency },
  'write-rate': {
    what: 'write rates with the instruction clock, about 15 minutes',
    measure: writeRate,
  },
  'stream-rate': { what: 'the stream rate over mTLS', measure: streamRate },
  incremental: {
    what: 'incremental backups beside full ones of 1 GiB, about 6 minutes',
    measure: incremental,
  },
  'restore-rate': { what: 'restores over distances', measure: restoreRate },
};

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(parts);
const all = join(repository, 'build', 'bench');
const results: string[] = [];
for (const name of names) {
  const part = parts[name];
  if (!part) throw new Error(`there is no part "${name}": ${Object.keys(parts).join(', ')}`);
  say(`measuring ${part.what}`);
  const directory = join(all, name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const { figures, words } = await part.measure(directory);
  writeFileSync(`${directory}.json`, `${JSON.stringify(figures, undefined, 2)}\n`);
  results.push(words);
}
console.log(`\n${results.join('\n')}`);
