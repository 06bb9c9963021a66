// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { z } from 'zod';
import { AgentError, isErrnoException } from '../errors.js';
import { writeFileAtomically } from '../os/atomic-file.js';

/** Answers kept; a repetition comes soon or not at all. */
const ANSWERS_KEPT = 256;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

const answersSchema = z.array(z.object({ id: z.string(), method: z.string(), answer: z.string() }));

/** How an answer is kept as bytes: the codec that ts-proto makes for each message. */
export interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** First answers by request_id, so that a call can be repeated safely, also after a restart. */
export class RequestLog {
  private readonly path: string;
  private answers: z.infer<typeof answersSchema> | undefined;
  private readonly running = new Map<string, Promise<unknown>>();

  constructor(directory: string) {
    this.path = join(directory, 'requests.json');
  }

  private async load(): Promise<z.infer<typeof answersSchema>> {
    if (this.answers) return this.answers;
    try {
      this.answers = answersSchema.parse(JSON.parse(await readFile(this.path, 'utf8')));
    } catch (error) {
      if (!isErrnoException(error) || error.code !== 'ENOENT') throw error;
      this.answers = [];
    }
    return this.answers;
  }

  /** Runs `task`, or gives the answer that the same id got before. An empty id: always runs. */
  async once<T>(id: string, method: string, codec: Codec<T>, task: () => Promise<T>): Promise<T> {
    if (id === '') return task();
    if (!UUID.test(id)) {
      throw new AgentError(
        status.INVALID_ARGUMENT,
        'BAD_REQUEST_ID',
        `request_id ${JSON.stringify(id)} is not a UUID`,
      );
    }
    const known = (await this.load()).find((entry) => entry.id === id);
    if (known && known.method !== method) {
      throw new AgentError(
        status.INVALID_ARGUMENT,
        'REQUEST_ID_REUSED',
        `request_id ${id} was used for ${known.method}: take a new one`,
      );
    }
    if (known) return codec.decode(Buffer.from(known.answer, 'base64'));
    const key = `${method} ${id}`;
    const running = this.running.get(key) as Promise<T> | undefined;
    if (running) return running;
    const run = this.runAndKeep(id, method, codec, task);
    this.running.set(key, run);
    try {
      return await run;
    } finally {
      this.running.delete(key);
    }
  }

  private async runAndKeep<T>(
    id: string,
    method: string,
    codec: Codec<T>,
    task: () => Promise<T>,
  ): Promise<T> {
    const message = await task();
    const answer = Buffer.from(codec.encode(message).finish()).toString('base64');
    const answers = await this.load();
    answers.push({ id, method, answer });
    answers.splice(0, Math.max(0, answers.length - ANSWERS_KEPT));
    await writeFileAtomically(this.path, JSON.stringify(answers));
    return message;
  }
}
