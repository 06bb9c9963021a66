// SPDX-License-Identifier: Apache-2.0
import { availableParallelism } from 'node:os';

/** As many processors as a guest may have, two to eight: more than there are here would wait for each other. */
export const mostProcessors = Math.min(8, Math.max(2, availableParallelism()));
