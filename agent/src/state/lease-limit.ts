// SPDX-License-Identifier: Apache-2.0

/** A week: a lease that is longer protects nobody. */
export const MAX_LEASE_SECONDS = 604_800;
