/* SPDX-License-Identifier: Apache-2.0 */
// SipHash-2-4 (Aumasson and Bernstein), the checksum of a COW file's header.
#ifndef SIPHASH_H
#define SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t siphash_rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static inline void siphash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = siphash_rotate(v[1], 13) ^ v[0];
	v[0] = siphash_rotate(v[0], 32);
	v[2] += v[3];
	v[3] = siphash_rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = siphash_rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = siphash_rotate(v[1], 17) ^ v[2];
	v[2] = siphash_rotate(v[2], 32);
}

static inline uint64_t siphash_2_4(const void *data, size_t length, uint64_t key0, uint64_t key1)
{
	uint64_t v[4] = {
		key0 ^ 0x736f6d6570736575, key1 ^ 0x646f72616e646f6d,
		key0 ^ 0x6c7967656e657261, key1 ^ 0x7465646279746573,
	};

	for (size_t done = 0; done <= length; done += 8) {
		size_t n = length - done < 8 ? length - done : 8;
		uint64_t word = n < 8 ? (uint64_t)length << 56 : 0;

		memcpy(&word, (const uint8_t *)data + done, n);
		v[3] ^= word;
		siphash_round(v);
		siphash_round(v);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		siphash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
