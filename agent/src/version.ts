// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';

const manifest = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
) as { version: string };

export const AGENT_VERSION = manifest.version;
