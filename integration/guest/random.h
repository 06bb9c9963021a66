/* SPDX-License-Identifier: Apache-2.0 */
// Numbers that look random, always the same ones for a seed.
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

static uint64_t random_state;

static inline void seed_random(uint64_t seed)
{
	random_state = (seed * 2 + 1) * 0x9e3779b97f4a7c15;
}

static inline uint64_t random64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1d;
}

// A number in [0, limit).
static inline uint64_t below(uint64_t limit)
{
	return (random64() >> 16) % limit;
}

#endif
