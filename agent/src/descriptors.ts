// SPDX-License-Identifier: Apache-2.0

/** dist/elio.binpb, which the build makes of the protos: as far from here as from where the agent is bundled (`dist/bundle/bin`). */
export const DESCRIPTORS = new URL('../../elio.binpb', import.meta.url);
