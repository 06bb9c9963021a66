// SPDX-License-Identifier: Apache-2.0
// What came of the backups of a fleet, for people and for scripts.
import type { BackupResult } from '../backup/backup.js';
import { EXIT, messageOf, UnreachableError } from '../errors.js';
import { exitCodeOf } from '../hosts/results.js';
import { formatBytes, formatTable, paintRows } from '../output.js';
import type { Outcome } from './carry-out.js';
import type { FleetLayout } from './layout.js';

export const RESULTS = ['ok', 'failed', 'unreachable', 'interrupted'] as const;

export function resultOf({ failure }: Outcome<unknown>): (typeof RESULTS)[number] {
  if (!failure) return 'ok';
  if (failure instanceof UnreachableError) return 'unreachable';
  return exitCodeOf(failure) === EXIT.interrupted ? 'interrupted' : 'failed';
}

/** What every row has, whatever was done. */
function headOf(outcome: Outcome<unknown>, layout: FleetLayout): object {
  const { host, device } = outcome;
  return {
    host,
    device,
    result: resultOf(outcome),
    directory: device === null ? null : layout.set(host, device),
  };
}

function tailOf({ failure }: Outcome<unknown>): object {
  return {
    exit_status: failure ? exitCodeOf(failure) : EXIT.ok,
    message: failure ? messageOf(failure) : null,
  };
}

/** A row as scripts see it. Sizes are bytes; what is not known is null. */
export function backupJson(outcome: Outcome<BackupResult>, layout: FleetLayout): object {
  const { answer, seconds } = outcome;
  return {
    ...headOf(outcome, layout),
    block_device: answer?.device ?? null,
    type: answer?.type ?? null,
    reason: answer?.reason ?? null,
    id: answer?.id ?? null,
    parent: answer?.parent ?? null,
    file: answer?.file ?? null,
    sent_bytes: answer?.sent_bytes ?? null,
    covered_bytes: answer?.covered_bytes ?? null,
    volume_bytes: answer?.volume_bytes ?? null,
    seconds,
    ...tailOf(outcome),
  };
}

export function planJson(outcome: Outcome<string>, layout: FleetLayout): object {
  const plan = outcome.answer ?? null;
  return { ...headOf(outcome, layout), plan, ...tailOf(outcome) };
}

function tableOf<T>(
  outcomes: readonly Outcome<T>[],
  columns: readonly string[],
  cells: (outcome: Outcome<T>) => readonly string[],
): string {
  const rows = outcomes.map((outcome) => [
    outcome.host,
    outcome.device ?? '-',
    resultOf(outcome),
    ...cells(outcome),
  ]);
  return paintRows(formatTable(['HOST', 'DEVICE', 'RESULT', ...columns], rows), (i) =>
    outcomes[i]?.failure ? 'red' : undefined,
  );
}

export function backupTable(outcomes: readonly Outcome<BackupResult>[]): string {
  return tableOf(outcomes, ['TYPE', 'SENT', 'SECONDS', 'ID', 'REASON'], (outcome) => {
    const { answer, failure, seconds } = outcome;
    return [
      answer?.type ?? '-',
      answer ? formatBytes(BigInt(answer.sent_bytes)) : '-',
      seconds.toFixed(1),
      answer?.id === undefined || answer.id === null ? '-' : String(answer.id),
      failure ? messageOf(failure) : (answer?.reason ?? ''),
    ];
  });
}

export function planTable(outcomes: readonly Outcome<string>[]): string {
  return tableOf(outcomes, ['PLAN'], ({ answer, failure }) => [
    failure ? messageOf(failure) : (answer ?? ''),
  ]);
}
