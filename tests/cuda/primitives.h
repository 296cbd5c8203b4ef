// What tensor cores and copies that go on by themselves do (`tensor.cu` of the compiler has the
// instructions), in C++ over cuda_on_cpu.h. A copy reaches shared memory only when it is waited for,
// and what it will overwrite is nan until then, so that a missing wait shows.
#pragma once
#include "halves.h"

struct Words {
  unsigned at[4];
};
struct Sums {
  float at[4];
};

namespace on_cpu {
constexpr unsigned MOST_COPIES = 256;
struct Copy {
  void *to;
  char bytes[16];
  unsigned size, group;
};
struct Copies {
  Copy waiting[MOST_COPIES];
  unsigned count, group;  // how many wait, and the number of the open group
};
ON_CPU_DATA Copies copies[MOST_THREADS];

ON_CPU_FUNCTION void forget_copies() {
  for (unsigned k = 0; k < state.threads; k++) copies[k].count = copies[k].group = 0;
}

ON_CPU_FUNCTION void no_copy_waits() {
  for (unsigned k = 0; k < state.threads; k++)
    if (copies[k].count) fail("%u copies wait while blocks meet", copies[k].count);
}
#ifdef ON_CPU_RUNTIME
static bool copies_are_kept = (block_begins = forget_copies, block_waits = no_copy_waits, true);
#endif

ON_CPU_FUNCTION bool is_shared(const void *p, size_t size) {
  const char *at = (const char *)p;
  bool fixed = __start_cuda_shared && at >= __start_cuda_shared && at + size <= __stop_cuda_shared;
  return fixed || (at >= state.dynamic_shared && at + size <= state.shared_end);
}

ON_CPU_FUNCTION void start_copy(void *to, const void *from, unsigned size, bool keep) {
  Copies &c = copies[state.current->number];
  if ((uintptr_t)to % size || (keep && (uintptr_t)from % size))
    fail("a copy of %u bytes is not aligned", size);
  if (!is_shared(to, size)) fail("a copy does not go to shared memory");
  if (c.count == MOST_COPIES) fail("%u copies wait", MOST_COPIES);
  Copy &copy = c.waiting[c.count++];
  copy.to = to;
  copy.size = size;
  copy.group = c.group;
  memset(copy.bytes, 0, size);
  if (keep) memcpy(copy.bytes, from, size);
  memset(to, 0xff, size);
}

ON_CPU_FUNCTION void finish_copies(unsigned pending) {
  Copies &c = copies[state.current->number];
  unsigned kept = 0;
  for (unsigned k = 0; k < c.count; k++) {
    if (c.waiting[k].group + pending < c.group)
      memcpy(c.waiting[k].to, c.waiting[k].bytes, c.waiting[k].size);
    else
      c.waiting[kept++] = c.waiting[k];
  }
  c.count = kept;
}

ON_CPU_FUNCTION Words matrices(const void *row, bool turned, int line) {
  if (!is_shared(row, 16)) fail("a matrix is not in shared memory, line %d", line);
  if ((uintptr_t)row % 16) fail("a row of a matrix is not aligned, line %d", line);
  Slots slots = exchange(ALL_LANES, (uint64_t)row, line);
  Words words;
  for (int m = 0; m < 4; m++) {
    uint16_t pair[2];
    for (int k = 0; k < 2; k++) {
      int across = lane_here() / 4, along = lane_here() % 4 * 2 + k;
      const uint16_t *start = (const uint16_t *)slots[m * 8 + (turned ? along : across)][0];
      pair[k] = start[turned ? across : along];
    }
    memcpy(&words.at[m], pair, 4);
  }
  return words;
}

struct Bf16 {
  static constexpr int IN_WORD = 2;
  static float of(unsigned word, int at) {
    return same_bits<float>(at ? word & 0xffff0000u : word << 16);
  }
};
struct F16 {
  static constexpr int IN_WORD = 2;
  static float of(unsigned word, int at) { return f16_value((unsigned short)(word >> at * 16)); }
};
struct Tf32 {
  static constexpr int IN_WORD = 1;
  static float of(unsigned word, int) { return same_bits<float>(word & 0xffffe000u); }
};

struct Fragments {
  unsigned a[4], b[2];
};

// d += a b: of a word and lane each operand has the elements that the instruction says.
template <class T>
inline Sums multiply(int line, unsigned a, unsigned b, unsigned c, unsigned d, unsigned x, unsigned y,
                     float p, float q, float r, float s) {
  constexpr int HALF = 4 * T::IN_WORD;  // of the places of the sum
  Slots slots = exchange(ALL_LANES, Fragments{{a, b, c, d}, {x, y}}, line);
  Sums sums = {{p, q, r, s}};
  for (int i = 0; i < 4; i++) {
    int row = lane_here() / 4 + i / 2 * 8, column = lane_here() % 4 * 2 + i % 2;
    for (int k = 0; k < 2 * HALF; k++) {
      int lane = k % HALF / T::IN_WORD, at = k % T::IN_WORD;
      Fragments left = value_of<Fragments>(slots, row % 8 * 4 + lane);
      Fragments right = value_of<Fragments>(slots, column * 4 + lane);
      sums.at[i] += T::of(left.a[row / 8 + k / HALF * 2], at) * T::of(right.b[k / HALF], at);
    }
  }
  return sums;
}
}  // namespace on_cpu

template <int bytes> inline void copy_bytes(void *to, const void *from, bool keep) {
  on_cpu::start_copy(to, from, bytes, keep);
}
inline void copies_end_group() { on_cpu::copies[on_cpu::state.current->number].group++; }
template <int pending> inline void wait_for_copies() { on_cpu::finish_copies(pending); }
inline unsigned tf32_bits(float x) {
  unsigned bits = same_bits<unsigned>(x);
  if (x != x) return 0x7fffffffu;
  return (bits + 0x1000) & 0xffffe000u;
}
inline unsigned two_bf16(float first, float second) {
  return bf16_bits(first) | (unsigned)bf16_bits(second) << 16;
}
inline unsigned two_f16(float first, float second) {
  return f16_bits(first) | (unsigned)f16_bits(second) << 16;
}
#define load_matrices(row) on_cpu::matrices(row, false, __LINE__)
#define load_matrices_turned(row) on_cpu::matrices(row, true, __LINE__)
#define multiply_bf16(...) on_cpu::multiply<on_cpu::Bf16>(__LINE__, __VA_ARGS__)
#define multiply_f16(...) on_cpu::multiply<on_cpu::F16>(__LINE__, __VA_ARGS__)
#define multiply_tf32(...) on_cpu::multiply<on_cpu::Tf32>(__LINE__, __VA_ARGS__)
