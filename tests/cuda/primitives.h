// What tensor cores and asynchronous copies do, with two bodies: PTX on a GPU, C++ over
// cuda_on_cpu.h. A copy reaches shared memory only when it is waited for, and what it will overwrite is
// nan until then, so that a missing wait shows.
#pragma once
#ifndef CUDA_ON_CPU
__device__ __forceinline__ unsigned shared_address(const void *p) {
  return (unsigned)__cvta_generic_to_shared(p);
}
__device__ __forceinline__ void copy_16(void *to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}
__device__ __forceinline__ void copies_end_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int pending> __device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
__device__ __forceinline__ void load_matrices_4(unsigned *r, const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrices_2_turned(unsigned *r, const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void multiply_16_8_16_bf16(float *d, const unsigned *a,
                                                      const unsigned *b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
namespace on_cpu {
constexpr unsigned MOST_COPIES = 256;
struct Copy {
  void *to;
  char bytes[16];
  unsigned group;
};
struct Copies {
  Copy waiting[MOST_COPIES];
  unsigned count, group;  // how many wait, and the number of the open group
};
static Copies copies[MOST_THREADS];

inline void forget_copies() {
  for (unsigned k = 0; k < state.threads; k++) copies[k].count = copies[k].group = 0;
}

inline void start_copy(void *to, const void *from) {
  block_begins = forget_copies;
  Copies &c = copies[state.current->number];
  if ((uintptr_t)to % 16 || (uintptr_t)from % 16) fail("a copy of 16 bytes is not aligned");
  if (c.count == MOST_COPIES) fail("%u copies wait", MOST_COPIES);
  Copy &copy = c.waiting[c.count++];
  copy.to = to;
  copy.group = c.group;
  memcpy(copy.bytes, from, 16);
  memset(to, 0xff, 16);
}

inline void finish_copies(unsigned pending) {
  Copies &c = copies[state.current->number];
  unsigned kept = 0;
  for (unsigned k = 0; k < c.count; k++) {
    if (c.waiting[k].group + pending < c.group)
      memcpy(c.waiting[k].to, c.waiting[k].bytes, 16);
    else
      c.waiting[kept++] = c.waiting[k];
  }
  c.count = kept;
}

inline void load_matrices(unsigned *r, const void *row, int count, bool turned, int line) {
  Slots slots = exchange(ALL_LANES, (uint64_t)row, line);
  int lane = lane_here();
  for (int m = 0; m < count; m++) {
    uint16_t pair[2];
    for (int k = 0; k < 2; k++) {
      int across = lane / 4, along = lane % 4 * 2 + k;
      if (turned) {
        int other = across;
        across = along;
        along = other;
      }
      const uint16_t *start = (const uint16_t *)slots[m * 8 + across][0];
      if ((uintptr_t)start % 16) fail("a row of a matrix is not aligned, line %d", line);
      pair[k] = start[along];
    }
    memcpy(&r[m], pair, 4);
  }
}

inline float half_of(unsigned pair, int upper) {
  return __int_as_float(upper ? pair & 0xffff0000u : pair << 16);
}

struct Fragments {
  unsigned a[4], b[2];
};

inline void multiply(float *d, const unsigned *a, const unsigned *b, int line) {
  Fragments own;
  memcpy(own.a, a, sizeof own.a);
  memcpy(own.b, b, sizeof own.b);
  Slots slots = exchange(ALL_LANES, own, line);
  for (int i = 0; i < 4; i++) {
    int row = lane_here() / 4 + (i >= 2 ? 8 : 0), column = lane_here() % 4 * 2 + (i & 1);
    for (int k = 0; k < 16; k++) {
      Fragments left = value_of<Fragments>(slots, row % 8 * 4 + k % 8 / 2);
      Fragments right = value_of<Fragments>(slots, column * 4 + k % 8 / 2);
      d[i] += half_of(left.a[(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)], k & 1) *
              half_of(right.b[k >= 8], k & 1);
    }
  }
}
}  // namespace on_cpu
#define copy_16(to, from) on_cpu::start_copy(to, from)
#define copies_end_group() ((void)on_cpu::copies[on_cpu::state.current->number].group++)
template <int pending> inline void wait_for_copies() { on_cpu::finish_copies(pending); }
#define load_matrices_4(r, row) on_cpu::load_matrices(r, row, 4, false, __LINE__)
#define load_matrices_2_turned(r, row) on_cpu::load_matrices(r, row, 2, true, __LINE__)
#define multiply_16_8_16_bf16(d, a, b) on_cpu::multiply(d, a, b, __LINE__)
#endif
