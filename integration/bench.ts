// SPDX-License-Identifier: Apache-2.0
// Speed, as ratios measured in one run. The figures of README come from here; build/bench/bench.json holds all of them.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { changeListTargets, measureChangeList } from './bench/change-list.js';
import { agentLatencyTarget, measureAgentLatency } from './bench/agent-latency.js';
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

const directory = join(repository, 'build', 'bench');
rmSync(directory, { recursive: true, force: true });
mkdirSync(directory, { recursive: true });

function row(rates: WriteRates): string {
  const target = targets[rates.device] ?? {};
  const cell = (key: 'firstWrite' | 'rewrite' | 'incremental' | 'extraReadsPerRewrite'): string => {
    const goal = target[key] ?? 0;
    const met = key === 'extraReadsPerRewrite' ? rates[key] <= goal : rates[key] >= goal;
    return `${rates[key].toFixed(3)} (${goal.toFixed(2)}${met ? '' : ' missed'})`;
  };
  const cells = [cell('firstWrite'), cell('rewrite'), cell('incremental')];
  cells.push(cell('extraReadsPerRewrite'), rates.untrackedNeighbour.toFixed(3));
  return `| ${[rates.device, ...cells].join(' | ')} |`;
}

function missed(met: boolean): string {
  return met ? '' : ': missed';
}

say('measuring how long elioctl --help takes');
const helpTime = await measureHelpTime();
say('measuring a list of a million changes');
const changeList = await measureChangeList();
say('measuring what GetSnapshot takes beside an empty call');
const agentLatency = await measureAgentLatency(join(directory, 'agent-latency'));
say('measuring write rates with the instruction clock, about 10 minutes');
const writeRates = await measureWriteRates(join(directory, 'write-rate'));
say('measuring the stream rate over mTLS');
const streamRate = await measureStreamRate(join(directory, 'stream-rate'));
say('measuring an incremental backup beside a full one of 1 GiB');
const incremental = await measureIncrementalTime(join(directory, 'incremental'));
say('measuring restores over distances');
const restoreRates = await measureRestoreRate(join(directory, 'restore-rate'));
const results = {
  helpTime,
  changeList,
  agentLatency,
  writeRates,
  streamRate,
  incremental,
  restoreRates,
};
const json = JSON.stringify(results, undefined, 2);
writeFileSync(join(directory, 'bench.json'), `${json}\n`);
const incrementalLimit = incrementalTarget(incremental.fullSeconds);
console.log(`
4 KiB random writes, direct, depth 16, relative to the same device untracked (in brackets: at least)

| device | first write | rewrite | incremental | extra reads per rewrite | another, untracked device |
| --- | --- | --- | --- | --- | --- |
${writeRates.map(row).join('\n')}

An image streams at ${streamRate.ratio.toFixed(2)} of the rate of the same messages out of memory (at least ${streamRateTarget.toFixed(2)}${missed(streamRate.ratio >= streamRateTarget)}): ${streamRate.imageMibPerSecond.toFixed(1)} and ${streamRate.memoryMibPerSecond.toFixed(1)} MiB/s from an emulated machine, for ${streamRate.imageCpuSecondsPerGib.toFixed(0)} and ${streamRate.memoryCpuSecondsPerGib.toFixed(0)} s of processor time per GiB there.
A full backup of ${incremental.fullMib.toFixed(0)} MiB took ${incremental.fullSeconds.toFixed(1)} s, the incremental one of 1 % changed blocks (${incremental.changedMib.toFixed(1)} MiB) ${incremental.incrementalSeconds.toFixed(1)} s (at most ${incrementalLimit.toFixed(1)}${missed(incremental.incrementalSeconds <= incrementalLimit)}).
A restore of 64 MiB, verified: ${restoreRates.map(({ roundTripMs, mibPerSecond }) => `${mibPerSecond.toFixed(1)} MiB/s at ${String(roundTripMs)} ms`).join(', ')} of round-trip time beside the emulated network's own.
A list of ${String(changeList.extents)} changes of 1 TiB took the agent ${changeList.seconds.toFixed(1)} s (at most ${changeListTargets.seconds.toFixed(1)}${missed(changeList.seconds <= changeListTargets.seconds)}) and ${changeList.mib.toFixed(0)} MiB of memory (at most ${String(changeListTargets.mib)}${missed(changeList.mib <= changeListTargets.mib)}).
\`elioctl --help\` takes ${helpTime.ratio.toFixed(2)} times the processor time of \`node -e 0\` (at most ${helpTimeTarget.toFixed(1)}${missed(helpTime.ratio <= helpTimeTarget)}).
GetSnapshot of 50 clients at once takes ${agentLatency.ratio.toFixed(2)} times what an empty call takes (at most ${agentLatencyTarget.toFixed(1)}${missed(agentLatency.ratio <= agentLatencyTarget)}).`);
