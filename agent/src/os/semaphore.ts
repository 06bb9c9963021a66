// SPDX-License-Identifier: Apache-2.0

/** At most `slots` holders at once, first come first served. */
export class Semaphore {
  private readonly waiting: (() => void)[] = [];
  constructor(private slots: number) {}

  /** Resolves with the function that gives the slot back. */
  async acquire(): Promise<() => void> {
    if (this.slots > 0) this.slots -= 1;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    let released = false;
    return () => {
      if (released) return;
      released = true;
      const next = this.waiting.shift();
      if (next) next();
      else this.slots += 1;
    };
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    const release = await this.acquire();
    try {
      return await task();
    } finally {
      release();
    }
  }
}

/** One task at a time for each key. */
export class KeyedMutex<K> {
  private readonly locks = new Map<K, { semaphore: Semaphore; users: number }>();

  async run<T>(key: K, task: () => Promise<T>): Promise<T> {
    const lock = this.locks.get(key) ?? { semaphore: new Semaphore(1), users: 0 };
    this.locks.set(key, lock);
    lock.users += 1;
    try {
      return await lock.semaphore.run(task);
    } finally {
      lock.users -= 1;
      if (lock.users === 0) this.locks.delete(key);
    }
  }
}

/**
 * Answers a question for all who have asked before it was put: while one is being answered, those who come wait for the next one
 * together. Nobody gets an answer that is older than his question.
 */
export class Batches<K, T> {
  private readonly running = new Map<K, Promise<unknown>>();
  private readonly next = new Map<K, Promise<T>>();

  constructor(private readonly ask: (key: K) => Promise<T>) {}

  get(key: K): Promise<T> {
    const waiting = this.next.get(key);
    if (waiting) return waiting;
    const before = this.running.get(key) ?? Promise.resolve();
    const answer = before.then(() => {
      this.next.delete(key);
      return this.ask(key);
    });
    this.next.set(key, answer);
    const settled = answer.then(
      () => undefined,
      () => undefined,
    );
    this.running.set(key, settled);
    void settled.then(() => {
      if (this.running.get(key) === settled) this.running.delete(key);
    });
    return answer;
  }
}
