// SPDX-License-Identifier: Apache-2.0
import { access } from 'node:fs/promises';
import type { Command } from 'commander';
import { loadConfig } from '../../../agent/src/config.js';
import type { Color } from '../color.js';
import {
  clientTlsPaths,
  globalOptions,
  socketPath,
  type Connection,
  type GlobalOptions,
} from '../connection.js';
import { examineCertificates } from '../doctor/certificates.js';
import { refusalFindings, spaceFindings, stackFindings } from '../doctor/devices.js';
import { note, ok, wrong, type Finding } from '../doctor/finding.js';
import {
  kernelFinding,
  moduleFindings,
  readKernelSecurity,
  remoteSignatureFindings,
  signatureFindings,
} from '../doctor/module.js';
import { problemFindings } from '../doctor/problems.js';
import { examineSocket } from '../doctor/socket.js';
import { CliError, EXIT, messageOf } from '../errors.js';
import { throwFailures } from '../hosts/results.js';
import { askHostsOf } from '../hosts/task.js';
import type { OutputForm } from '../options.js';
import { formatTable, paintRows } from '../output.js';

export interface DoctorOptions {
  output: OutputForm;
}

/** What the agent tells, and for this host what elioctl can see itself. */
async function examineHost(connection: Connection): Promise<Finding[]> {
  const host = await connection.hosts.getHost({});
  const { blockDevices } = await connection.hosts.listBlockDevices({});
  const loaded = host.moduleVersion !== '';
  const signature = connection.local
    ? signatureFindings(await readKernelSecurity(), loaded)
    : remoteSignatureFindings(host);
  return [
    ...moduleFindings(host),
    ...signature,
    kernelFinding(host),
    ...problemFindings(host.problems, connection.local),
    ...refusalFindings(blockDevices),
    ...stackFindings(blockDevices),
    ...(connection.local ? await spaceFindings(blockDevices) : []),
  ];
}

/** The certificates with which this host's agent serves others. */
async function examineAgentCertificates(): Promise<Finding[]> {
  const subject = "agent's certificate";
  let config: Awaited<ReturnType<typeof loadConfig>>;
  try {
    config = await loadConfig(undefined);
  } catch (error) {
    return [wrong("agent's configuration", messageOf(error), 'correct it')];
  }
  const { tcp, tls } = config;
  const there = await access(tls.certificate).then(
    () => true,
    () => false,
  );
  if (tcp === 'off' || (tcp === 'auto' && !there)) {
    return [ok(subject, 'none in use: the agent serves this host only')];
  }
  return examineCertificates(tls, subject);
}

/** This host can be looked at even when its agent does not answer. */
async function examine(connection: Connection, options: GlobalOptions): Promise<Finding[]> {
  if (!connection.local) return examineHost(connection);
  const asked = examineHost(connection).catch((error: unknown) => [
    wrong('agent', messageOf(error), 'journalctl -u eliod tells more'),
  ]);
  const path = socketPath(options);
  const parts = [asked, examineSocket(path), examineAgentCertificates()];
  return (await Promise.all(parts)).flat();
}

/** What this client shows to other hosts, once for each set of certificates. */
async function examineClient(options: GlobalOptions): Promise<Finding[]> {
  const subject = "client's certificate";
  const findings = clientTlsPaths(options).map(async ({ ca, cert, key }) => {
    if (ca === undefined || cert === undefined || key === undefined) {
      return [note(subject, 'there is none: no agent will answer', 'give --ca, --cert and --key')];
    }
    return examineCertificates({ ca, certificate: cert, key }, subject);
  });
  return (await Promise.all(findings)).flat();
}

const COLORS: Readonly<Record<Finding['verdict'], Color | undefined>> = {
  ok: undefined,
  note: 'yellow',
  wrong: 'red',
};

export async function doctor(command: Command, options: DoctorOptions): Promise<void> {
  const globals = globalOptions(command);
  const client = await examineClient(globals);
  const answers = await askHostsOf(command, (connection) => examine(connection, globals));
  const found = [
    ...client.map((finding) => ({ host: 'this client', ...finding })),
    ...answers.flatMap(({ host, answer }) =>
      (answer ?? []).map((finding) => ({ host, ...finding })),
    ),
  ];
  const rows = found.map((f) => [f.host, f.verdict, f.subject, f.message, f.remedy]);
  const header = ['HOST', 'VERDICT', 'SUBJECT', 'FOUND', 'REMEDY'];
  const text =
    options.output === 'json'
      ? JSON.stringify(found)
      : paintRows(formatTable(header, rows), (i) => {
          const finding = found[i];
          return finding && COLORS[finding.verdict];
        });
  if (found.length > 0) process.stdout.write(`${text}\n`);
  throwFailures(answers);
  const faults = found.filter(({ verdict }) => verdict === 'wrong');
  if (faults.length > 0) {
    throw new CliError(
      `something is wrong: ${faults.map((f) => `${f.subject} (${f.host})`).join(', ')}`,
      EXIT.failed,
    );
  }
}
