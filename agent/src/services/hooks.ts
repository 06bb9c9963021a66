// SPDX-License-Identifier: Apache-2.0
// Commands of the administrator around a snapshot: freeze a database, let it go again.
import { status } from '@grpc/grpc-js';
import { z } from 'zod';
import { AgentError } from '../errors.js';
import type { Log } from '../log.js';
import { runCommand } from '../os/run-command.js';

const hookSchema = z.strictObject({
  /** Program and arguments; no shell. */
  command: z.array(z.string().min(1)).min(1),
  timeout_seconds: z.number().positive().max(3600).default(30),
  /** Origins that it is for, as the driver names them; all when left out. */
  block_devices: z.array(z.string()).optional(),
});

/** Only the configuration file can declare hooks: nobody runs a command on a host through the API. */
export const hooksSchema = z.strictObject({
  pre_snapshot: z.array(hookSchema).default([]),
  post_snapshot: z.array(hookSchema).default([]),
});

type Hook = z.infer<typeof hookSchema>;
export type HooksConfig = z.infer<typeof hooksSchema>;

/** What a hook is told about the snapshot, in ELIO_* variables. */
export interface HookSubject {
  blockDevice: string;
  minor: number;
  mountPoints: readonly string[];
}

export class Hooks {
  constructor(
    private config: HooksConfig,
    private readonly log: Log,
  ) {}

  /** Takes another configuration; a snapshot that is under way ends with what it began with. */
  configure(config: HooksConfig): void {
    this.config = config;
  }

  /**
   * Runs `snapshot` between the hooks. When a pre hook fails nothing is taken. The post hooks run whatever happened, so
   * that nothing stays frozen; what fails in them is logged and does not undo a snapshot.
   */
  async around<T>(subject: HookSubject, snapshot: () => Promise<T>): Promise<T> {
    const { pre_snapshot: pre, post_snapshot: post } = this.config;
    const concerns = (hook: Hook): boolean =>
      hook.block_devices?.includes(subject.blockDevice) ?? true;
    let result = 'failed';
    try {
      for (const hook of pre.filter(concerns)) await this.run('pre_snapshot', hook, subject, '');
      const value = await snapshot();
      result = 'taken';
      return value;
    } finally {
      for (const hook of post.filter(concerns)) {
        await this.run('post_snapshot', hook, subject, result).catch((error: unknown) => {
          this.log.error('hook', { error: String(error) });
        });
      }
    }
  }

  private async run(
    phase: string,
    hook: Hook,
    subject: HookSubject,
    outcome: string,
  ): Promise<void> {
    const startedMs = performance.now();
    const environment = {
      ELIO_HOOK: phase,
      ELIO_BLOCK_DEVICE: subject.blockDevice,
      ELIO_MINOR: String(subject.minor),
      ELIO_MOUNT_POINTS: subject.mountPoints.join(':'),
      ...(outcome === '' ? {} : { ELIO_SNAPSHOT: outcome }),
    };
    const result = await runCommand(hook.command, environment, hook.timeout_seconds * 1000);
    const command = hook.command.join(' ');
    const durationMs = Math.round(performance.now() - startedMs);
    this.log.info('hook', { phase, command, durationMs, ...result });
    if (result.status === 0) return;
    const why = result.timedOut
      ? `it took longer than ${String(hook.timeout_seconds)} s and was killed`
      : result.reason || `it exited with ${String(result.status)}`;
    throw new AgentError(
      status.FAILED_PRECONDITION,
      'HOOK_FAILED',
      `the ${phase} hook "${command}" failed: ${why}${phase === 'pre_snapshot' ? '; no snapshot was taken' : ''}: see the agent's log for what it printed`,
      { device: subject.blockDevice, hook: command },
    );
  }
}
