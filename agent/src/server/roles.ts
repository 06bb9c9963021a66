// SPDX-License-Identifier: Apache-2.0
// Who may do what. The table is that of the comments in proto/elio/v1; a test compares the two.

const ROLES = ['viewer', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

export interface Identity {
  role: Role;
  /** For logs: who it is, as the transport proved it. */
  name: string;
}

/** gRPC path -> least role. What is not here nobody may call. */
export const LEAST_ROLE: Readonly<Record<string, Role>> = {
  '/elio.v1.SnapshotService/SetupSnapshot': 'operator',
  '/elio.v1.SnapshotService/ReloadSnapshot': 'operator',
  '/elio.v1.SnapshotService/ReloadIncremental': 'operator',
  '/elio.v1.SnapshotService/TransitionToIncremental': 'operator',
  '/elio.v1.SnapshotService/TransitionToSnapshot': 'operator',
  '/elio.v1.SnapshotService/DestroySnapshot': 'operator',
  '/elio.v1.SnapshotService/ReconfigureSnapshot': 'operator',
  '/elio.v1.SnapshotService/GetSnapshot': 'viewer',
  '/elio.v1.SnapshotService/ListSnapshots': 'viewer',
  '/elio.v1.SnapshotService/GetFreeMinor': 'viewer',
  '/elio.v1.SnapshotService/RenewLease': 'operator',
  '/elio.v1.SnapshotService/DeleteOldCowFile': 'operator',
  '/elio.v1.HostService/GetHost': 'viewer',
  '/elio.v1.HostService/ListBlockDevices': 'viewer',
  '/elio.v1.ChangeService/ListChangedExtents': 'operator',
  '/elio.v1.ChangeService/ListAllocatedExtents': 'operator',
  '/elio.v1.DataService/ReadBlocks': 'operator',
  '/elio.v1.EventService/WatchEvents': 'viewer',
  '/elio.v1.RestoreService/BeginRestore': 'admin',
  '/elio.v1.RestoreService/ListTargetDigests': 'admin',
  '/elio.v1.RestoreService/WriteBlocks': 'admin',
  '/elio.v1.RestoreService/CommitRestore': 'admin',
  '/elio.v1.RestoreService/GetRestore': 'admin',
  '/elio.v1.RestoreService/AbortRestore': 'admin',
  '/grpc.health.v1.Health/Check': 'viewer',
  '/grpc.health.v1.Health/Watch': 'viewer',
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo': 'viewer',
  '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo': 'viewer',
};

export function mayCall(role: Role, path: string): boolean {
  const least = LEAST_ROLE[path];
  return least !== undefined && ROLES.indexOf(role) >= ROLES.indexOf(least);
}

/** Calls that change something: each leaves an audit line. */
export function isMutating(path: string): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return (
    LEAST_ROLE[path] !== undefined &&
    LEAST_ROLE[path] !== 'viewer' &&
    !/^(Get|List|Read)/.test(name)
  );
}

/** The URI of a client certificate: spiffe://<domain>/elio/<role>/<name>. */
const SPIFFE = /^spiffe:\/\/[a-z0-9._-]+\/elio\/([a-z]+)\/([A-Za-z0-9._-]+)$/;

/**
 * The identity in a certificate's subjectAltName, as Node prints it: "URI:spiffe://..., DNS:...".
 * Exactly one URI may name a role.
 */
export function identityOfCertificate(subjectAltName: string | undefined): Identity | undefined {
  const names = subjectAltName ?? '';
  // Node quotes a name with something in it that could be mistaken for a separator: ours have nothing of the kind.
  if (names.includes('"')) return undefined;
  const uris = names.split(', ').filter((name) => name.startsWith('URI:'));
  const matches = uris.flatMap((uri) => SPIFFE.exec(uri.slice('URI:'.length)) ?? []);
  if (uris.length !== 1 || matches.length === 0) return undefined;
  const role = ROLES.find((known) => known === matches[1]);
  return role && { role, name: matches[0] ?? '' };
}
