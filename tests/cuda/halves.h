// What a GPU's instructions for numbers of 16 bits do (`f16_value`, `f16_bits` and `bf16_bits` of the
// compiler's prelude), in C++ over cuda_on_cpu.h. Denormals of 16 bits are numbers as any.
#pragma once

inline unsigned short bf16_bits(float x) {
  unsigned bits = same_bits<unsigned>(x);
  return x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float f16_value(unsigned short bits) {
  unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, digits = bits & 1023;
  if (exponent == 31) return same_bits<float>(sign | 0x7f800000u | digits << 13);
  if (exponent) return same_bits<float>(sign | (exponent + 112) << 23 | digits << 13);
  float value = (float)digits * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -value : value;
}

inline unsigned short f16_bits(float x) {
  unsigned bits = same_bits<unsigned>(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000u) return sign | 0x7fff;  // nan
  if (size >= 0x477ff000u) return sign | 0x7c00;  // rounds to more than the largest
  if (size >= 0x38800000u) return sign | (size - 0x38000000u + 0xfff + (size >> 13 & 1)) >> 13;
  if (size < 0x33000000u) return sign;  // at most half of the smallest
  unsigned shift = 126 - (size >> 23), digits = (size & 0x7fffffu) | 0x800000u;
  unsigned whole = digits >> shift, rest = digits & ((1u << shift) - 1), half = 1u << (shift - 1);
  return sign | (whole + (rest > half || (rest == half && (whole & 1))));
}
