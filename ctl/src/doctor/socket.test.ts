// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { groupId, socketFindings, type SocketFacts } from './socket.js';

describe('doctor, of the socket', () => {
  it('finds the group among others', () => {
    assert.equal(groupId('root:x:0:\nelioadm:x:7:\nelio:x:998:ada,bob\n'), 998);
    assert.equal(groupId('root:x:0:\n'), undefined);
  });

  it('says when the socket is missing, none, or for the wrong people', () => {
    const good: SocketFacts = { isSocket: true, mode: 0o660, gid: 998 };
    const verdict = (found: SocketFacts | undefined, group: number | undefined): string =>
      socketFindings('/run/elio/agent.sock', found, group)
        .map((finding) => `${finding.verdict}: ${finding.message}`)
        .join();
    assert.match(verdict(good, 998), /^ok/);
    assert.match(verdict(undefined, 998), /^wrong.*not there/);
    assert.match(verdict({ ...good, isSocket: false }, 998), /^wrong.*no socket/);
    assert.match(verdict(good, undefined), /^note.*no group elio/);
    assert.match(verdict({ ...good, gid: 0 }, 998), /^note.*group 0 and mode 0660/);
    assert.match(verdict({ ...good, mode: 0o666 }, 998), /^note.*mode 0666/);
  });
});
