// SPDX-License-Identifier: Apache-2.0
// TCP: a certificate says who is at the other end.
import type { AddressInfo } from 'node:net';
import { createServer, type Server as TlsServer, type TLSSocket } from 'node:tls';
import type { Config } from '../config.js';
import type { Log } from '../log.js';
import { ReloadingCertificates, secureContextOf } from './certificates.js';
import type { Connections } from './connections.js';
import { identityOfCertificate } from './roles.js';

const HANDSHAKE_TIMEOUT_MS = 10_000;

/** "HOST:PORT", "[IPv6]:PORT" or ":PORT". */
function parseAddress(address: string): { host: string | undefined; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(address);
  if (!match) throw new Error(`listen ${JSON.stringify(address)} is not HOST:PORT`);
  const host = match[1] ?? match[2] ?? '';
  return { host: host === '' ? undefined : host, port: Number(match[3]) };
}

/** Listens for clients that prove who they are: mTLS of version 1.2 or later. */
export class TcpListener {
  private constructor(
    private readonly server: TlsServer,
    readonly certificates: ReloadingCertificates,
  ) {}

  static async open(
    connections: Connections,
    address: string,
    tls: Config['tls'],
    maxConnections: number,
    log: Log,
  ): Promise<TcpListener> {
    const certificates = await ReloadingCertificates.open(tls, log);
    const server = createServer(
      {
        ...secureContextOf(certificates.material),
        requestCert: true,
        rejectUnauthorized: true,
        ALPNProtocols: ['h2'],
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      },
      (socket: TLSSocket) => {
        const peer = `${socket.remoteAddress ?? ''}:${String(socket.remotePort ?? '')}`;
        socket.on('error', (error: Error) =>
          log.debug('connection', { peer, error: error.message }),
        );
        const identity = identityOfCertificate(socket.getPeerCertificate().subjectaltname);
        connections.admit(socket, identity, peer);
      },
    );
    server.maxConnections = maxConnections;
    server.on('tlsClientError', (error, socket) => {
      const peer = `${socket.remoteAddress ?? ''}:${String(socket.remotePort ?? '')}`;
      log.warn('connection refused', { peer, error: error.message });
    });
    server.on('drop', (data?: { remoteAddress?: string }) => {
      log.warn('connection refused: too many', { peer: data?.remoteAddress ?? '' });
    });
    // Connections that stand keep what they began with.
    certificates.onReload((material) => {
      server.setSecureContext(secureContextOf(material));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(parseAddress(address), resolve);
    }).catch((error: unknown) => {
      certificates.close();
      throw error;
    });
    return new TcpListener(server, certificates);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** No new connections; those that stand are the gRPC server's to end. */
  close(): void {
    this.server.close();
    this.certificates.close();
  }
}
