// SPDX-License-Identifier: Apache-2.0
import { styleText } from 'node:util';

export type Color = 'red' | 'yellow' | 'green';

/** Colours a text that goes to stdout: on a terminal that has colours, unless NO_COLOR forbids it. */
export function paint(color: Color, text: string): string {
  // Node.js looks at NO_COLOR, FORCE_COLOR and TERM itself.
  return process.stdout.isTTY && process.stdout.hasColors() ? styleText(color, text) : text;
}
