// SPDX-License-Identifier: Apache-2.0
// Where an agent is: a name or an address, and a port.
import { isIPv6 } from 'node:net';

export const DEFAULT_PORT = 7443;

export interface HostAddress {
  host: string;
  port: number | undefined;
}

/** H, H:PORT, [V6], [V6]:PORT or V6; undefined when the text is none of them. */
export function parseHostAddress(text: string): HostAddress | undefined {
  if (isIPv6(text)) return { host: text, port: undefined };
  const match = /^(?:\[([^\]]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(text);
  if (!match) return undefined;
  const [, v6, name = '', digits] = match;
  if (v6 !== undefined && !isIPv6(v6)) return undefined;
  const port = digits === undefined ? undefined : Number(digits);
  if (port !== undefined && (port < 1 || port > 65535)) return undefined;
  return { host: v6 ?? name, port };
}

/** As gRPC takes it. */
export function formatHostAddress({ host, port }: HostAddress): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${String(port ?? DEFAULT_PORT)}`;
}
