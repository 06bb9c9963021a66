// SPDX-License-Identifier: Apache-2.0
// Metrics for Prometheus, and health for whoever speaks only HTTP.
import { createServer, type Server } from 'node:http';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { secondsLeft, type Monitor } from '../events/monitor.js';
import type { Problem } from '../../../proto/gen/elio/v1/host.js';
import type { CallObserver } from './guard.js';

const CALL_SECONDS = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600];

/** What is measured when it is asked for. */
export interface MetricSources {
  version: string;
  monitor: Monitor;
  openConnections: () => number;
  activeStreams: () => number;
  certificateExpires: () => Date | undefined;
  problems: () => Promise<Problem[]>;
}

/** The agent's metrics. The names are those of agent/packaging/grafana-dashboard.json; labels have few values. */
export class Metrics {
  private readonly registry = new Registry();
  private readonly calls: Counter;
  private readonly callSeconds: Histogram;
  private readonly sentBytes: Counter;

  constructor(private readonly sources: MetricSources) {
    const registers = [this.registry];
    collectDefaultMetrics({ register: this.registry });
    this.calls = new Counter({
      name: 'elio_calls_total',
      help: 'gRPC calls that have ended',
      labelNames: ['method', 'code'],
      registers,
    });
    this.callSeconds = new Histogram({
      name: 'elio_call_seconds',
      help: 'How long gRPC calls took',
      labelNames: ['method'],
      buckets: CALL_SECONDS,
      registers,
    });
    this.sentBytes = new Counter({
      name: 'elio_image_read_bytes_total',
      help: 'Bytes of images that were read for streams',
      registers,
    });
    const gauge = (name: string, help: string, read: () => number): void => {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read());
        },
      });
    };
    gauge('elio_connections', 'Open connections of clients', sources.openConnections);
    gauge('elio_streams', 'Streams that read an image', sources.activeStreams);
    gauge('elio_certificate_expires_seconds', 'When the certificate expires (Unix time)', () => {
      const expires = sources.certificateExpires();
      return expires === undefined ? 0 : expires.getTime() / 1000;
    });
    new Gauge({
      name: 'elio_build_info',
      help: 'Always 1; the label tells the version of the agent',
      labelNames: ['version'],
      registers,
    }).set({ version: sources.version }, 1);
    new Gauge({
      name: 'elio_problems',
      help: 'What keeps the host from being backed up, by reason',
      labelNames: ['reason'],
      registers,
      async collect() {
        this.reset();
        for (const { reason } of await sources.problems()) this.inc({ reason });
      },
    });
    this.addTrackers();
  }

  private addTrackers(): void {
    const labelNames = ['minor', 'block_device'];
    const { monitor } = this.sources;
    type Observed = Monitor['known'][number];
    const perTracker = (name: string, help: string, value: (o: Observed) => number): void => {
      new Gauge({
        name,
        help,
        labelNames,
        registers: [this.registry],
        collect() {
          this.reset();
          for (const o of monitor.known) {
            const { minor, blockDevice } = o.snapshot;
            this.set({ minor: String(minor), block_device: blockDevice }, value(o));
          }
        },
      });
    };
    perTracker(
      'elio_snapshot_state',
      'State of the tracker, in the numbers of TrackerState',
      ({ snapshot }) => snapshot.state,
    );
    perTracker(
      'elio_snapshot_error',
      'Negative errno of a tracker that failed',
      ({ snapshot }) => snapshot.error,
    );
    perTracker('elio_snapshot_changed_blocks', 'Blocks changed since the snapshot', (o) =>
      Number(o.snapshot.nrChangedBlocks),
    );
    perTracker('elio_snapshot_cow_used_bytes', 'Bytes of the COW file in use', (o) =>
      Number(o.snapshot.cowUsedBytes),
    );
    perTracker('elio_snapshot_cow_size_bytes', 'Limit of the COW file', (o) =>
      Number(o.snapshot.cowSizeBytes),
    );
    perTracker(
      'elio_snapshot_overflow_seconds',
      'Until the COW file overflows at the present rate of writing',
      secondsLeft,
    );
    perTracker(
      'elio_snapshot_lease_seconds',
      'Until the lease ends; -1: there is none',
      ({ snapshot }) => snapshot.lease?.remainingSeconds ?? -1,
    );
  }

  /** For the guard: a call has ended. */
  readonly observeCall: CallObserver = (method, code, durationMs) => {
    this.calls.inc({ method, code });
    this.callSeconds.observe({ method }, durationMs / 1000);
  };

  readonly countSent = (bytes: number): void => {
    this.sentBytes.inc(bytes);
  };

  /** Serves /metrics and /healthz (200, or 503 with the problems as JSON) on "HOST:PORT". */
  async listen(address: string): Promise<Server> {
    const server = createServer((request, response) => {
      const send = (code: number, type: string, text: string): void => {
        response.writeHead(code, { 'content-type': type }).end(text);
      };
      const answer = async (): Promise<void> => {
        if (request.url === '/metrics') {
          send(200, this.registry.contentType, await this.registry.metrics());
        } else if (request.url === '/healthz') {
          const problems = await this.sources.problems();
          send(problems.length === 0 ? 200 : 503, 'application/json', JSON.stringify({ problems }));
        } else {
          send(404, 'text/plain', 'there is /metrics and /healthz\n');
        }
      };
      answer().catch((error: unknown) => {
        send(500, 'text/plain', `${String(error)}\n`);
      });
    });
    const [host = '', port = ''] = address.split(/:(?=\d+$)/);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(Number(port), host.replace(/^\[|\]$/g, ''), resolve);
    });
    return server;
  }
}
