// What tensor cores and copies that go on by themselves do: instructions of GPUs from sm_80 on.
#ifndef CUDA_ON_CPU
#define DYNAMIC_SHARED(T, name) extern __shared__ __align__(1024) T name[]
struct Words {
  unsigned at[4];
};
struct Sums {
  float at[4];
};

__device__ __forceinline__ unsigned shared_address(const void *p) {
  return (unsigned)__cvta_generic_to_shared(p);
}
// Starts to copy into shared memory; zeros, and the source is not touched, where it is not to be kept.
template <int bytes>
__device__ __forceinline__ void copy_bytes(void *to, const void *from, bool keep) {
  const int read = keep ? bytes : 0;
  if (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(to)), "l"(from), "r"(read) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;"
                 :: "r"(shared_address(to)), "l"(from), "r"(read), "n"(bytes) : "memory");
}
__device__ __forceinline__ void copies_end_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int pending> __device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" :: "n"(pending) : "memory");
}

// Four matrices of 8 rows of 16 bytes; each lane says where a row begins.
__device__ __forceinline__ Words load_matrices(const void *row) {
  Words w;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(w.at[0]), "=r"(w.at[1]), "=r"(w.at[2]), "=r"(w.at[3])
               : "r"(shared_address(row)) : "memory");
  return w;
}
__device__ __forceinline__ Words load_matrices_turned(const void *row) {
  Words w;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(w.at[0]), "=r"(w.at[1]), "=r"(w.at[2]), "=r"(w.at[3])
               : "r"(shared_address(row)) : "memory");
  return w;
}

// The nearest number of tf32 (10 digits after the first), halves away from 0.
__device__ __forceinline__ unsigned tf32_bits(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
// Two numbers, rounded, as neighbours in a word: the first one below.
__device__ __forceinline__ unsigned two_bf16(float first, float second) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
  return bits;
}
__device__ __forceinline__ unsigned two_f16(float first, float second) {
  unsigned bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
  return bits;
}
#define MULTIPLY(name, shape, type)                                                               \
  __device__ __forceinline__ Sums multiply_##name(                                                \
      unsigned a, unsigned b, unsigned c, unsigned d, unsigned x, unsigned y, float p, float q,   \
      float r, float s) {                                                                         \
    Sums made;                                                                                    \
    asm("mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 "                           \
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"                               \
        : "=f"(made.at[0]), "=f"(made.at[1]), "=f"(made.at[2]), "=f"(made.at[3])                  \
        : "r"(a), "r"(b), "r"(c), "r"(d), "r"(x), "r"(y), "f"(p), "f"(q), "f"(r), "f"(s));        \
    return made;                                                                                  \
  }
MULTIPLY(bf16, "m16n8k16", "bf16")
MULTIPLY(f16, "m16n8k16", "f16")
MULTIPLY(tf32, "m16n8k8", "tf32")
#undef MULTIPLY
#endif
