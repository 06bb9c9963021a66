// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { ErrorInfo } from '../../../proto/gen/google/rpc/error_details.js';
import { Status } from '../../../proto/gen/google/rpc/status.js';
import { AgentError, toServiceError } from '../errors.js';
import { ERRNO_NAMES } from '../os/ioctl.js';
import { driverError, ERROR_TABLE } from './errors.js';
import type { IoctlName } from './layout.js';
import { IoctlError, ModuleNotLoadedError } from './snap-driver.js';

const subject = { minor: 7, device: '/dev/vdb', cowFile: '/mnt/cow' };

function meaning(name: IoctlName, code: string): AgentError {
  const error = driverError(new IoctlError(name, code), subject);
  assert.ok(error instanceof AgentError);
  return error;
}

describe('errors of the driver', () => {
  for (const [name, rows] of Object.entries(ERROR_TABLE)) {
    for (const [code, row] of Object.entries(rows)) {
      it(`say what ${code} of ${name} means`, () => {
        assert.ok([...ERRNO_NAMES.values()].includes(code), code);
        const ioctl = (name === 'DEFAULT' ? 'INFO' : name) as IoctlName;
        const error = meaning(ioctl, code);
        assert.equal(error.code, row.code);
        assert.equal(error.reason, row.reason);
        assert.match(error.reason, /^[A-Z][A-Z0-9_]+[A-Z0-9]$/);
        assert.doesNotMatch(error.message, /[{}\n]/);
        const wire = toServiceError(error);
        const [bytes] = wire.metadata.get('grpc-status-details-bin');
        assert.ok(Buffer.isBuffer(bytes));
        const details = Status.decode(bytes);
        assert.equal(details.code, row.code);
        assert.equal(details.details.length, 1);
        const info = ErrorInfo.decode(details.details[0]?.value ?? Buffer.alloc(0));
        assert.deepEqual(info, {
          reason: row.reason,
          domain: 'elio',
          metadata: { ioctl, errno: code, minor: '7', device: '/dev/vdb', cow_file: '/mnt/cow' },
        });
      });
    }
  }

  it('tell a transition to snapshot about its COW file as they tell a set-up', () => {
    assert.equal(meaning('TRANSITION_SNAP', 'EEXIST').reason, 'COW_FILE_EXISTS');
    assert.equal(meaning('TRANSITION_SNAP', 'ENOSPC').reason, 'NO_SPACE');
    assert.equal(meaning('TRANSITION_SNAP', 'ENOENT').reason, 'NO_SUCH_TRACKER');
    assert.equal(meaning('TRANSITION_SNAP', 'ENODEV').reason, 'DEVICE_GONE');
    assert.equal(meaning('TRANSITION_SNAP', 'EINVAL').reason, 'WRONG_STATE');
  });

  it('keep an errno that nobody foresaw', () => {
    const error = meaning('DESTROY', 'EXDEV');
    assert.equal(error.code, status.INTERNAL);
    assert.match(error.message, /EXDEV/);
  });

  it('say that the module is not loaded, or an argument is out of range', () => {
    const missing = driverError(new ModuleNotLoadedError('x'), subject);
    assert.ok(missing instanceof AgentError && missing.reason === 'MODULE_NOT_LOADED');
    const range = driverError(new RangeError('minor -1'), subject);
    assert.ok(range instanceof AgentError && range.code === status.INVALID_ARGUMENT);
    const other = new Error('other');
    assert.equal(driverError(other, subject), other);
  });
});
