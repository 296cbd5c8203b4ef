// What the primitives of formulas mean where C has no operator for them. It needs no header, so that
// NVRTC, nvcc and a C++ compiler with CUDA's words defined take it as it is.
//
// Index arithmetic is of 32 bits, which GPUs do several times faster, unless a buffer is too large for
// that: then the same text is compiled with WIDE_INDICES.
typedef long long Wide;
#ifdef WIDE_INDICES
typedef Wide Index;
#else
typedef int Index;
#endif

template <class T, int N> struct __align__(sizeof(T) * N <= 16 ? sizeof(T) * N : 16) Pack {
  T at[N];  // neighbours that are read or written at once
};

template <class T> __device__ __forceinline__ T larger(T a, T b) { return a > b ? a : b; }
template <class T> __device__ __forceinline__ T smaller(T a, T b) { return a < b ? a : b; }

// The larger, or nan if either is nan; of zeros, b.
template <class T> __device__ __forceinline__ T float_larger(T a, T b) {
  const T chosen = a > b ? a : b;
  return a != a ? a : chosen;
}
template <class T> __device__ __forceinline__ T float_smaller(T a, T b) {
  const T chosen = a < b ? a : b;
  return a != a ? a : chosen;
}

// Floored quotient and remainder of integers, both 0 for a divisor of 0; nothing overflows.
template <class T> __device__ __forceinline__ T floor_quotient(T a, T b) {
  if (b == 0) return 0;
  if (b == T(-1)) return T(0ull - (unsigned long long)a);
  const T plain = a / b, rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? plain - 1 : plain;
}
template <class T> __device__ __forceinline__ T floor_rest(T a, T b) {
  if (b == 0 || b == T(-1)) return 0;
  const T rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
template <> __device__ __forceinline__ unsigned char floor_quotient(unsigned char a, unsigned char b) {
  return b ? a / b : 0;
}
template <> __device__ __forceinline__ unsigned char floor_rest(unsigned char a, unsigned char b) {
  return b ? a % b : 0;
}

// The same of numbers that are not negative.
__device__ __forceinline__ int quotient(int a, int b) {
  return b ? (int)((unsigned)a / (unsigned)b) : 0;
}
__device__ __forceinline__ int rest(int a, int b) {
  return b ? (int)((unsigned)a % (unsigned)b) : 0;
}
__device__ __forceinline__ Wide quotient(Wide a, Wide b) {
  return b ? (Wide)((unsigned long long)a / (unsigned long long)b) : 0;
}
__device__ __forceinline__ Wide rest(Wide a, Wide b) {
  return b ? (Wide)((unsigned long long)a % (unsigned long long)b) : 0;
}

__device__ __forceinline__ float rounded_down(float x) { return floorf(x); }
__device__ __forceinline__ double rounded_down(double x) { return floor(x); }
__device__ __forceinline__ float rounded(float x) { return rintf(x); }  // halves to even
__device__ __forceinline__ double rounded(double x) { return rint(x); }
__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }
__device__ __forceinline__ float size_of(float x) { return fabsf(x); }
__device__ __forceinline__ double size_of(double x) { return fabs(x); }
__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }
__device__ __forceinline__ float with_sign(float x, float y) { return copysignf(x, y); }
__device__ __forceinline__ double with_sign(double x, double y) { return copysign(x, y); }

// Floored quotient and remainder of floats; exact while the quotient is below 2^24 (2^53). a / b may
// round up to a whole number: then the remainder, exact by a fused operation, has the wrong sign.
template <class T> struct Divided {
  T quotient, rest;
};
template <class T> __device__ __forceinline__ Divided<T> divided(T a, T b) {
  const T quotient = rounded_down(a / b), plain = fused(-quotient, b, a);
  const T rest = quotient == 0 ? a : plain;  // b may be infinite
  const bool off = (rest < 0) != (b < 0) && (rest < 0 || rest > 0);
  return {off ? quotient - 1 : quotient, off ? rest + b : rest};
}
template <class T> __device__ __forceinline__ T float_quotient(T a, T b) {
  return divided(a, b).quotient;
}
template <class T> __device__ __forceinline__ T float_rest(T a, T b) {
  const T rest = divided(a, b).rest;
  return rest == 0 ? with_sign(T(0), b) : rest;
}

// x * 2^n, by two powers that are normal numbers. What is smaller than a normal number is 0: floats
// are compiled so, doubles are not.
__device__ __forceinline__ float power_of_two(int n) { return __int_as_float((n + 127) << 23); }
__device__ __forceinline__ float scaled(float x, float n) {
  const float near = n < 252 ? n : 252;
  const int whole = (int)(near > -252 ? near : -252), half = whole >> 1;
  return x * power_of_two(half) * power_of_two(whole - half);
}
__device__ __forceinline__ double power_of_two(long long n) {
  return __longlong_as_double((n + 1023) << 52);
}
__device__ __forceinline__ double scaled(double x, double n) {
  const double near = n < 2044 ? n : 2044;
  const long long whole = (long long)(near > -2044 ? near : -2044), half = whole >> 1;
  const double made = x * power_of_two(half) * power_of_two(whole - half);
  return fabs(made) < 0x1p-1022 ? 0 * made : made;
}

// Towards 0, the nearest that the type has for what is outside of it; 0 for nan.
template <class To, class From>
__device__ __forceinline__ To saturated(From x, From low, From limit, To least, To most) {
  if (!(x >= low)) return x != x ? To(0) : least;
  return x >= limit ? most : (To)x;
}

// A double as a float towards 0, the last bit set where that is not exact: what is rounded again to
// fewer digits then comes out as if rounded once.
__device__ __forceinline__ float rounded_to_odd(double x) {
  const float near = (float)x;
  const int bits = __float_as_int(near);
  if ((double)near == x || x != x) return near;
  const bool above = x < 0 ? (double)near < x : (double)near > x;
  return __int_as_float((above ? bits - 1 : bits) | 1);
}

// Numbers of 16 bits: floats that have only their digits, in memory as their bits.
__device__ __forceinline__ float bf16_value(unsigned short bits) {
  return __int_as_float((int)((unsigned)bits << 16));
}
#ifndef CUDA_ON_CPU
__device__ __forceinline__ unsigned short bf16_bits(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
__device__ __forceinline__ float f16_value(unsigned short bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
__device__ __forceinline__ unsigned short f16_bits(float x) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
#endif
__device__ __forceinline__ unsigned short bf16_bits(double x) { return bf16_bits(rounded_to_odd(x)); }
__device__ __forceinline__ unsigned short f16_bits(double x) { return f16_bits(rounded_to_odd(x)); }
