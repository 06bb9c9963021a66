// SPDX-License-Identifier: Apache-2.0
// The agent and clients that send what nobody would: every method of the API with structured random messages, bytes that are no
// messages, calls that are given up, connections that are no TLS. ELIO_SEED chooses others, ELIO_LENGTH=long makes 20 000 calls.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Client, credentials, Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer, type AnyDefinition } from '@grpc/proto-loader';
import { randomNumbers } from '../../agent/src/testing/random.js';
import { repository } from '../harness/cache.js';
import { RemoteElioctl } from '../harness/elioctl.js';
import type { FleetHost } from '../harness/fleet.js';
import { rounds } from '../harness/length.js';
import { useFleet } from '../harness/scenario.js';
import { mountExt4 } from './driver.js';

const seed = Number(process.env['ELIO_SEED'] ?? 1);
const calls = rounds(150, 20_000);
const connections = rounds(40, 1000);
const deadlineMs = 60_000;
const next = randomNumbers(seed);

/** A field of a message as descriptor.proto tells it. */
interface Field {
  name: string;
  label: string;
  type: string;
  typeName: string;
}

interface Method {
  path: string;
  requestStream: boolean;
  responseStream: boolean;
  fields: readonly Field[];
  serialize: (message: object) => Buffer;
}

const definitions = loadFileDescriptorSetFromBuffer(
  readFileSync(join(repository, 'dist', 'elio.binpb')),
  { longs: String, enums: String },
);

function fieldsOf(definition: AnyDefinition | undefined): readonly Field[] {
  if (!definition || !('type' in definition)) return [];
  return (definition.type as { field?: readonly Field[] }).field ?? [];
}

/** Every method of the API. */
const methods: readonly Method[] = Object.values(definitions).flatMap((definition) =>
  'format' in definition
    ? []
    : Object.values(definition)
        .filter((method) => method.path.startsWith('/elio.'))
        .map((method) => ({
          path: method.path,
          requestStream: method.requestStream,
          responseStream: method.responseStream,
          fields: fieldsOf(method.requestType),
          serialize: method.requestSerialize,
        })),
);

function pick<T>(values: readonly T[]): T {
  return values[next(values.length)] as T;
}

function oddText(devices: readonly string[]): string {
  return pick([
    '',
    '.',
    '/',
    '/dev/null',
    '/t/cow',
    '/t/data/../cow',
    '/t/\n',
    '/t/\0',
    '/'.repeat(5000),
    'ü'.repeat(300),
    '\ud800',
    '00000000-0000-0000-0000-000000000000',
    'f'.repeat(64),
    ...devices,
    ...devices,
  ]);
}

const oddNumbers = ['0', '1', '2', '4095', '4096', '65536', '4294967295', '9007199254740993'];
const smallTypes = ['TYPE_UINT32', 'TYPE_INT32', 'TYPE_FIXED32', 'TYPE_SINT32', 'TYPE_ENUM'];

function oddValue(field: Field, devices: readonly string[], depth: number): unknown {
  switch (field.type) {
    case 'TYPE_STRING':
      return oddText(devices);
    case 'TYPE_BYTES':
      return Buffer.alloc(pick([0, 1, 4096, 4097, (1 << 20) + 1]), next(256));
    case 'TYPE_BOOL':
      return next(2) === 0;
    case 'TYPE_MESSAGE': {
      const name = field.typeName.replace(/^\./, '');
      const definition =
        definitions[name] ?? definitions[`elio.v1.${name.split('.').at(-1) ?? ''}`];
      return depth > 3 ? {} : oddMessage(fieldsOf(definition), devices, depth + 1);
    }
    default:
      if (smallTypes.includes(field.type)) return Number(pick(oddNumbers.slice(0, -1)));
      return pick([...oddNumbers, '18446744073709551615', '9223372036854775808']);
  }
}

function oddMessage(fields: readonly Field[], devices: readonly string[], depth = 0): object {
  const message: Record<string, unknown> = {};
  for (const field of fields) {
    if (next(5) === 0) continue;
    const name = field.name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    message[name] =
      field.label === 'LABEL_REPEATED'
        ? Array.from({ length: next(4) }, () => oddValue(field, devices, depth))
        : oddValue(field, devices, depth);
  }
  return message;
}

/** A message of the method's type; or one with bytes that are others; or none. */
function oddRequest(method: Method, devices: readonly string[]): { bytes: Buffer; sound: boolean } {
  const kind = next(8);
  if (kind === 0)
    return { bytes: Buffer.from(Array.from({ length: next(200) }, () => next(256))), sound: false };
  if (kind === 1) return { bytes: Buffer.alloc(pick([0, 5 << 20])), sound: false };
  const bytes = method.serialize(oddMessage(method.fields, devices));
  if (kind > 2 || bytes.length === 0) return { bytes, sound: true };
  bytes.writeUInt8(next(256), next(bytes.length));
  return { bytes, sound: false };
}

const raw = (bytes: Buffer): Buffer => bytes;

/** Makes one call and resolves with its status. Some are given up after a moment. */
function call(client: Client, method: Method, requests: readonly Buffer[]): Promise<status> {
  const options = { deadline: Date.now() + deadlineMs };
  const metadata = new Metadata();
  const path = next(20) === 0 ? `${method.path}${pick(['', 'x', '/'])}` : method.path;
  return new Promise((resolve) => {
    let givenUp: NodeJS.Timeout | undefined;
    const finish = (code: status): void => {
      clearTimeout(givenUp);
      resolve(code);
    };
    const callback = (error: ServiceError | null): void => {
      finish(error ? error.code : status.OK);
    };
    const first = requests[0] ?? Buffer.alloc(0);
    if (method.responseStream) {
      const stream = client.makeServerStreamRequest(path, raw, raw, first, metadata, options);
      givenUp = setTimeout(() => {
        stream.cancel();
      }, next(3000));
      stream.on('data', () => undefined);
      stream.on('error', () => undefined);
      stream.on('status', ({ code }) => {
        finish(code);
      });
    } else if (method.requestStream) {
      const stream = client.makeClientStreamRequest(path, raw, raw, metadata, options, callback);
      stream.on('error', () => undefined);
      for (const request of requests) stream.write(request);
      if (next(4) === 0) stream.cancel();
      else stream.end();
    } else {
      const unary = client.makeUnaryRequest(path, raw, raw, first, metadata, options, callback);
      if (next(10) === 0)
        givenUp = setTimeout(() => {
          unary.cancel();
        }, next(200));
    }
  });
}

/** What the API promises to answer with. UNKNOWN would be an exception that nobody foresaw. */
const promised = new Set([
  status.OK,
  status.CANCELLED,
  status.INVALID_ARGUMENT,
  status.NOT_FOUND,
  status.ALREADY_EXISTS,
  status.RESOURCE_EXHAUSTED,
  status.FAILED_PRECONDITION,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNIMPLEMENTED,
  status.DATA_LOSS,
]);

describe('the agent and clients that send what nobody would', () => {
  const fleet = useFleet({
    count: 1,
    disks: [
      { name: 'data', sizeMib: 64 },
      { name: 'spare', sizeMib: 64 },
    ],
  });
  let host: FleetHost;
  let elioctl: RemoteElioctl;
  let pid = '';

  before(async () => {
    const [only] = fleet().hosts;
    assert.ok(only);
    host = only;
    elioctl = new RemoteElioctl(host.address, fleet().tls);
    await mountExt4(host.vm, host.vm.disk('data'), '/t', '-b 4096');
    pid = (await host.vm.sh('cat /run/eliod.pid')).trim();
  });

  async function residentKib(): Promise<number> {
    return Number(await host.vm.sh(`awk '/^VmRSS/ { print $2 }' /proc/${pid}/status`));
  }

  /** The same process, and it does its work. */
  async function checkAlive(): Promise<void> {
    await host.vm.sh(`kill -0 ${pid}`);
    const snapshots = JSON.parse(await elioctl.check('list', '--output', 'json')) as {
      minor: number;
    }[];
    for (const { minor } of snapshots) await elioctl.check('destroy', String(minor));
    await elioctl.check('setup-snapshot', host.vm.disk('data'), '/t/cow-alive', '0');
    await host.vm.sh('cmp -n 4096 /dev/elastio-snap0 /dev/elastio-snap0');
    await elioctl.check('destroy', '0');
  }

  it(`answers ${String(calls)} calls with the statuses that the API promises, seed ${String(seed)}`, async function () {
    this.timeout(3 * 3600 * 1000);
    const { ca, cert, key } = fleet().tls;
    const client = new Client(
      host.address,
      credentials.createSsl(readFileSync(ca), readFileSync(key), readFileSync(cert)),
      {
        'grpc.max_receive_message_length': 8 << 20,
        'grpc.max_send_message_length': -1,
        'grpc.ssl_target_name_override': host.name,
      },
    );
    const devices = [host.vm.disk('data'), host.vm.disk('spare')];
    const counts = new Map<status, number>();
    try {
      const before = await residentKib();
      for (let i = 0; i < calls; i++) {
        const method = pick(methods);
        const requests = Array.from({ length: method.requestStream ? next(4) : 1 }, () =>
          oddRequest(method, devices),
        );
        const code = await call(
          client,
          method,
          requests.map(({ bytes }) => bytes),
        );
        // What is no message grpc-js itself answers with INTERNAL.
        const allowed =
          promised.has(code) ||
          (code === status.INTERNAL && requests.some(({ sound }) => !sound)) ||
          (code === status.INTERNAL && requests.length === 0);
        assert.ok(allowed, `call ${String(i)}, ${method.path}: ${status[code]}`);
        counts.set(code, (counts.get(code) ?? 0) + 1);
      }
      for (const code of [status.OK, status.INVALID_ARGUMENT, status.NOT_FOUND])
        assert.ok((counts.get(code) ?? 0) > 0, `no call ended with ${status[code]}`);
      const grown = (await residentKib()) - before;
      assert.ok(grown < 100 << 10, `the agent has grown by ${String(grown)} KiB`);
    } finally {
      client.close();
    }
    await checkAlive();
  });

  it(`outlives ${String(connections)} connections that are no TLS`, async function () {
    this.timeout(3600 * 1000);
    const [name = '', port = ''] = host.address.split(':');
    for (let i = 0; i < connections; i++) {
      await new Promise<void>((resolve) => {
        const socket = connect(Number(port), name, () => {
          socket.write(
            pick([
              Buffer.from(Array.from({ length: 1 + next(2000) }, () => next(256))),
              Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
              // The beginning of a client's hello that promises more than follows.
              Buffer.from([
                22,
                3,
                1,
                2,
                0,
                1,
                0,
                1,
                252,
                3,
                3,
                ...Array.from({ length: 40 }, () => next(256)),
              ]),
            ]),
          );
          setTimeout(() => socket.destroy(), next(200));
        });
        socket.on('error', () => undefined);
        socket.once('close', () => {
          resolve();
        });
      });
    }
    const descriptors = Number(await host.vm.sh(`ls /proc/${pid}/fd | wc -l`));
    assert.ok(descriptors < 100, `${String(descriptors)} descriptors are open`);
    await checkAlive();
  });
});
