// SPDX-License-Identifier: Apache-2.0
// Many small reads one after the other are spent on waiting for each: so several are on their way.

/** What is read ahead at most. */
const MAX_TASKS = 256;
const MAX_BYTES = 16 << 20;

/**
 * Begins a task for each item, and yields what the tasks give in the order of the items. So many run at a time that what they hold,
 * of which `bytesOf` tells how much it is, stays small. The first failure ends it.
 */
export async function* readAhead<T, R>(
  items: AsyncIterable<T>,
  bytesOf: (item: T) => number,
  task: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const running: { result: Promise<R>; bytes: number }[] = [];
  let bytes = 0;
  const isFull = (more: number): boolean =>
    running.length >= MAX_TASKS || (running.length > 0 && bytes + more > MAX_BYTES);
  for await (const item of items) {
    const more = bytesOf(item);
    while (isFull(more)) {
      const first = running.shift();
      if (!first) break;
      yield await first.result;
      bytes -= first.bytes;
    }
    const result = task(item);
    // It is awaited in its turn, if one before it has not failed.
    result.catch(() => undefined);
    running.push({ result, bytes: more });
    bytes += more;
  }
  for (const { result } of running) yield await result;
}
