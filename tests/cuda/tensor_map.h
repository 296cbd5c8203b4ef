// How an array lies in memory and the boxes that are copied of it: what a GPU's driver makes of it, in a
// form of the tests' own, for the driver that stands in (C) and for kernels on a CPU (C++).
#pragma once
#include <stdint.h>
#include <string.h>

typedef struct TensorMap {
  uint64_t place, sizes[5], strides[5];  // in elements, and in bytes
  uint32_t box[5];
  uint16_t rank, size;  // of an element, in bytes
  uint32_t known;       // a number that nothing else has
} __attribute__((aligned(64))) TensorMap;
enum { A_TENSOR_MAP = 0x9a9a1234 };

// As `cuTensorMapEncodeTiled`: what it would refuse, and all but 128-byte lines, is INVALID (1).
static inline int make_tensor_map(
    TensorMap *map, int kind, unsigned rank, void *place, const uint64_t *sizes,
    const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave, int swizzle,
    int promotion, int fill) {
  const int bf16 = 9, f16 = 6, swizzle_128 = 3;
  uint64_t size = kind == bf16 || kind == f16 ? 2 : 0;
  if ((uintptr_t)map % 64 || !size || rank < 2 || rank > 5 || (uintptr_t)place % 16) return 1;
  if (interleave || swizzle != swizzle_128 || promotion < 0 || promotion > 3 || fill) return 1;
  TensorMap made = {(uint64_t)(uintptr_t)place};
  made.rank = (uint16_t)rank, made.size = (uint16_t)size, made.known = A_TENSOR_MAP;
  for (unsigned k = 0; k < rank; k++) {
    if (!sizes[k] || sizes[k] > 1ull << 32 || !box[k] || box[k] > 256 || steps[k] != 1) return 1;
    made.sizes[k] = sizes[k];
    made.box[k] = box[k];
    made.strides[k] = k ? strides[k - 1] : size;
    if (k && (strides[k - 1] % 16 || strides[k - 1] >= 1ull << 40)) return 1;
  }
  if (box[0] * size != 128) return 1;
  *map = made;
  return 0;
}
