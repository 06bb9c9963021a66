// SPDX-License-Identifier: Apache-2.0
// Speed, as ratios measured in one run. The figures of README come from here; build/bench/bench.json holds all of them.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentLatencyTarget, measureAgentLatency } from './bench/agent-latency.js';
import { helpTimeTarget, measureHelpTime } from './bench/help-time.js';
import { measureStreamRate } from './bench/stream-rate.js';
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

say('measuring how long elioctl --help takes');
const helpTime = await measureHelpTime();
say('measuring what GetSnapshot takes beside an empty call');
const agentLatency = await measureAgentLatency(join(directory, 'agent-latency'));
say('measuring write rates with the instruction clock, about 10 minutes');
const writeRates = await measureWriteRates(join(directory, 'write-rate'));
say('measuring the stream rate over mTLS');
const streamRate = await measureStreamRate(join(directory, 'stream-rate'));
const json = JSON.stringify({ helpTime, agentLatency, writeRates, streamRate }, undefined, 2);
writeFileSync(join(directory, 'bench.json'), `${json}\n`);
console.log(`
4 KiB random writes, direct, depth 16, relative to the same device untracked (in brackets: at least)

| device | first write | rewrite | incremental | extra reads per rewrite | another, untracked device |
| --- | --- | --- | --- | --- | --- |
${writeRates.map(row).join('\n')}

A full backup streamed ${streamRate.sentMib.toFixed(0)} MiB at ${streamRate.mibPerSecond.toFixed(1)} MiB/s from an emulated machine.
\`elioctl --help\` takes ${helpTime.ratio.toFixed(2)} times the processor time of \`node -e 0\` (at most ${helpTimeTarget.toFixed(1)}${helpTime.ratio <= helpTimeTarget ? '' : ': missed'}).
GetSnapshot of 50 clients at once takes ${agentLatency.ratio.toFixed(2)} times what an empty call takes (at most ${agentLatencyTarget.toFixed(1)}${agentLatency.ratio <= agentLatencyTarget ? '' : ': missed'}).`);
