// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { credentials, Server, ServerCredentials, type ServiceError } from '@grpc/grpc-js';
import {
  BeginRestoreRequest,
  RestoreServiceClient,
  RestoreServiceService,
  WriteBlocksRequest,
  type BeginRestoreResponse,
  type GetRestoreResponse,
} from '../../../proto/gen/elio/v1/restore.js';
import type { SnapDriver } from '../driver/snap-driver.js';
import type { DeviceWriter } from '../os/direct-io.js';
import { ChainStore } from '../state/chains.js';
import { Leases } from '../state/leases.js';
import { RequestLog } from '../state/requests.js';
import { until } from '../testing/until.js';
import { RestoreService } from './restore-service.js';
import { Trackers } from './trackers.js';

const TARGET = '/dev/vdb';

/** Restores to devices that nothing speaks against. */
class AnyTarget extends RestoreService {
  protected override checkTarget(device: string): Promise<string> {
    return Promise.resolve(device);
  }
}

describe('a restore', () => {
  const claimed = new Set<string>();
  let server: Server;
  let client: RestoreServiceClient;
  let nowMs = 0;

  before(async () => {
    const claim = (target: string): Promise<DeviceWriter> => {
      if (claimed.has(target)) {
        return Promise.reject(Object.assign(new Error('open'), { code: 'EBUSY' }));
      }
      claimed.add(target);
      const close = (): Promise<void> => {
        claimed.delete(target);
        return Promise.resolve();
      };
      const zero = (): Promise<void> => Promise.resolve();
      return Promise.resolve({ close, zero } as unknown as DeviceWriter);
    };
    server = new Server();
    const leases = new Leases('', () => Promise.resolve());
    const trackers = new Trackers({} as SnapDriver, new ChainStore(''), leases);
    const service = new AnyTarget(trackers, new RequestLog(''), claim, () => nowMs);
    server.addService(RestoreServiceService, service.handlers());
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    client = new RestoreServiceClient(`127.0.0.1:${port}`, credentials.createInsecure());
  });
  after(() => {
    client.close();
    server.forceShutdown();
  });

  const begin = (targetDevice = TARGET): Promise<BeginRestoreResponse> =>
    new Promise((resolve, reject) => {
      const request = BeginRestoreRequest.fromPartial({ targetDevice, sizeBytes: 1n << 20n });
      client.beginRestore(request, (error, answer) => {
        if (error) reject(error);
        else resolve(answer);
      });
    });
  const get = (restoreId: string): Promise<GetRestoreResponse> =>
    new Promise((resolve, reject) => {
      client.getRestore({ restoreId }, (error, answer) => {
        if (error) reject(error);
        else resolve(answer);
      });
    });
  const refusal =
    (message: RegExp) =>
    (error: ServiceError): boolean => {
      assert.match(error.details, message);
      return true;
    };

  it('whose client has gone gives its target to the next one', async () => {
    const { restoreId: lost } = await begin();
    const { restoreId: other } = await begin('/dev/vdc');
    nowMs += 11_000;
    const { restoreId } = await begin();
    await assert.rejects(get(lost), refusal(/no restore/));
    assert.equal((await get(restoreId)).targetDevice, TARGET);
    assert.equal((await get(other)).targetDevice, '/dev/vdc');
  });

  it('keeps its target while its client makes a pause, or writes', async () => {
    const { restoreId } = await begin('/dev/vdd');
    nowMs += 9_000;
    await get(restoreId);
    nowMs += 9_000;
    await assert.rejects(begin('/dev/vdd'), refusal(/another restore to \/dev\/vdd/));
    const call = client.writeBlocks(() => undefined);
    const value = { offsetBytes: 0n, lengthBytes: 4096n };
    call.write(WriteBlocksRequest.fromPartial({ restoreId, content: { $case: 'hole', value } }));
    await until('it is written', async () => (await get(restoreId)).writtenBytes > 0n);
    nowMs += 60_000;
    await assert.rejects(begin('/dev/vdd'), refusal(/another restore to \/dev\/vdd/));
    call.cancel();
    nowMs += 11_000;
    await until('the agent has noticed', () =>
      begin('/dev/vdd').then(
        () => true,
        () => false,
      ),
    );
  });
});
