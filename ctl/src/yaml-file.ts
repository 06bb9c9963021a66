// SPDX-License-Identifier: Apache-2.0
// A YAML file that a person writes: what is wrong in it is told with its line.
import { isMap, isNode, isSeq, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { CliError, EXIT } from './errors.js';

type Path = readonly PropertyKey[];

/** What a YAML text holds, and where. */
export class YamlFile<T> {
  private constructor(
    readonly path: string,
    readonly value: T,
    private readonly lineOf: (path: Path) => number,
  ) {}

  /** Throws a CliError that names file and line when the text does not follow the schema. */
  static parse<T>(text: string, path: string, schema: z.ZodType<T>): YamlFile<T> {
    const counter = new LineCounter();
    const document = parseDocument(text, { lineCounter: counter });
    const lineAt = (offset: number): number => counter.linePos(offset).line;
    const [syntax] = document.errors;
    if (syntax) throw fault(path, lineAt(syntax.pos[0]), syntax.message);
    const lineOf = (keys: Path): number => lineAt(offsetOf(document.contents, keys));
    const result = schema.safeParse((document.toJS() as unknown) ?? {});
    if (result.success) return new YamlFile(path, result.data, lineOf);
    const [issue] = result.error.issues;
    const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
    const line = lineOf([...(issue?.path ?? []), ...unknown]);
    const where = issue?.path.map(String).join('.') ?? '';
    const message = issue?.message ?? 'not valid';
    throw fault(path, line, where === '' ? message : `${where}: ${message}`);
  }

  /** An error at what is at a path of keys and indexes. */
  error(path: Path, message: string): CliError {
    return fault(this.path, this.lineOf(path), message);
  }
}

function fault(file: string, line: number, message: string): CliError {
  return new CliError(`${file}:${String(line)}: ${message.split('\n', 1)[0] ?? ''}`, EXIT.usage);
}

/** Where a path of keys and indexes is in the text, or the nearest thing above it that is there. */
function offsetOf(root: unknown, path: Path): number {
  let node: unknown = root;
  let offset = 0;
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => String(key) === String(step));
      if (!pair) break;
      offset = startOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = startOf(node) ?? offset;
    } else break;
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? node.range?.[0] : undefined;
}
