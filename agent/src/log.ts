// SPDX-License-Identifier: Apache-2.0
import winston from 'winston';

export type Log = winston.Logger;

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** JSON lines on standard output, for journald. */
export function createLog(level: LogLevel): Log {
  const { combine, json, timestamp } = winston.format;
  return winston.createLogger({
    level,
    format: combine(timestamp(), json()),
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- its types come from two packages
    transports: new winston.transports.Console(),
  });
}
