// What warp groups do (`groups.cu` of the compiler has the instructions), in C++ over cuda_on_cpu.h.
//
// A bulk copy reaches shared memory when no thread can go on without it; in backward order the last one
// comes first. What it will overwrite is nan from its start on. Products are made, and their operands
// read, when they are waited for; their sums are nan until then. So a wait that is missing shows, be it
// for what is read or for what may be written again.
#pragma once
#include <vector>

#include "primitives.h"
#include "tensor_map.h"

typedef unsigned long long Bits;
typedef Bits Signal;

namespace on_cpu {
constexpr unsigned GROUP = 128, MOST_SIGNALS = 64, MOST_SUMS = 4, MOST_PRODUCTS = 64;
constexpr unsigned REGISTERS = 64 << 10, SHARED_START = 1024;  // where a block's own memory begins

struct SignalState {
  Signal *place;
  unsigned arrivals, missing;  // of threads in each phase, and until this one is over
  long bytes;                  // that are expected and have not come
  volatile uint32_t phase;
  bool there_for_copies;
};
struct BoxCopy {
  char *to;
  const TensorMap *map;
  int at[5];
  SignalState *signal;
};
struct Product {
  int sums;  // which of the thread's
  Bits left, right;
  int columns, group;
  bool left_turned, right_turned, halves;
};
struct PendingSums {
  float *place;
  int columns, pending;
  float values[128];
};
struct Producing {  // of one thread
  Product waiting[MOST_PRODUCTS];
  PendingSums sums[MOST_SUMS];
  unsigned count, started;
  int group, begun, registers;
};
struct Groups {
  SignalState signals[MOST_SIGNALS];
  unsigned signals_used;
  std::vector<BoxCopy> copies;
  Producing threads[MOST_THREADS];
  std::vector<Product> started[MOST_THREADS / GROUP];  // that any warp of a group has started
};
ON_CPU_DATA Groups groups;

ON_CPU_FUNCTION void groups_begin() {
  forget_copies();
  groups.signals_used = 0;
  groups.copies.clear();
  for (unsigned k = 0; k < state.threads; k++) {
    Producing &p = groups.threads[k];
    p.count = p.started = p.group = p.begun = p.registers = 0;
    for (PendingSums &s : p.sums) s.pending = 0;
  }
  for (auto &each : groups.started) each.clear();
}

ON_CPU_FUNCTION void groups_end() {
  state.current = nullptr;
  if (!groups.copies.empty()) fail("a block ends, and %zu boxes are on their way", groups.copies.size());
  unsigned registers = 0;
  for (unsigned k = 0; k < state.threads; k++) {
    const Producing &p = groups.threads[k];
    registers += p.registers;
    if (p.count) fail("thread %u ends, and has not waited for products", k);
    if (p.started != groups.threads[k / GROUP * GROUP].started)
      fail("not all warps of group %u make its products", k / GROUP);
    if (p.registers != groups.threads[k / GROUP * GROUP].registers)
      fail("not all warps of group %u have as many registers", k / GROUP);
  }
  if (registers > REGISTERS) fail("all threads have %u registers", registers);
}

ON_CPU_FUNCTION bool arrived();
#ifdef ON_CPU_RUNTIME
static bool has_groups =
    (block_begins = groups_begin, block_ends = groups_end, something_arrives = arrived, true);
#endif

// Signals

ON_CPU_FUNCTION SignalState *signal_at(Signal *place, int line) {
  for (unsigned k = 0; k < groups.signals_used; k++)
    if (groups.signals[k].place == place) return &groups.signals[k];
  fail("there is no signal where one is used, line %d", line);
}

ON_CPU_FUNCTION void begin(Signal *place, unsigned arrivals, int line) {
  if (!is_shared(place, 8) || (uintptr_t)place % 8) fail("a signal is not in shared memory, line %d", line);
  for (unsigned k = 0; k < groups.signals_used; k++)
    if (groups.signals[k].place == place) fail("a signal begins twice, line %d", line);
  if (groups.signals_used == MOST_SIGNALS) fail("there are more than %u signals", MOST_SIGNALS);
  SignalState &s = groups.signals[groups.signals_used++];
  s.place = place;
  s.arrivals = s.missing = arrivals;
  s.bytes = 0;
  s.phase = 0;
  s.there_for_copies = false;
}

ON_CPU_FUNCTION void settle(SignalState *s) {
  if (s->missing || s->bytes) return;
  s->missing = s->arrivals;
  s->phase = s->phase + 1;
}

ON_CPU_FUNCTION void arrives(Signal *place, unsigned bytes, int line) {
  SignalState *s = signal_at(place, line);
  if (!s->missing) fail("more threads arrive at a signal than it waits for, line %d", line);
  s->missing--;
  s->bytes += bytes;
  settle(s);
}

ON_CPU_FUNCTION void await(Signal *place, int phase, int line) {
  SignalState *s = signal_at(place, line);
  uint32_t seen = s->phase;
  if ((int)seen - phase > 1 || phase > (int)seen)
    fail("phase %d is awaited and phase %u goes on, line %d", phase, seen, line);
  if ((seen & 1) == (phase & 1)) wait(&s->phase, seen, line);
}

// Bulk copies

ON_CPU_FUNCTION char *turned_place(char *at) {
  uintptr_t offset = at - state.dynamic_shared;
  return state.dynamic_shared + (offset ^ (offset >> 7 & 7) << 4);
}

template <class F> inline void each_of_box(const BoxCopy &copy, F told) {
  const TensorMap &m = *copy.map;
  uint64_t elements = 1;
  for (unsigned k = 0; k < m.rank; k++) elements *= m.box[k];
  for (uint64_t e = 0; e < elements; e++) {
    uint64_t left = e, offset = 0;
    bool inside = true;
    for (unsigned k = 0; k < m.rank; k++) {
      int64_t at = copy.at[k] + (int64_t)(left % m.box[k]);
      left /= m.box[k];
      inside &= at >= 0 && at < (int64_t)m.sizes[k];
      offset += at * m.strides[k];
    }
    told(turned_place(copy.to + e * m.size), inside ? (const char *)m.place + offset : nullptr);
  }
}

ON_CPU_FUNCTION unsigned bytes_of(const TensorMap &m) {
  unsigned bytes = m.size;
  for (unsigned k = 0; k < m.rank; k++) bytes *= m.box[k];
  return bytes;
}

ON_CPU_FUNCTION void start_box(
    void *to, const TensorMap &map, Signal *place, std::initializer_list<int> at) {
  if (map.known != A_TENSOR_MAP) fail("what is copied is no tensor map");
  if (map.rank != at.size()) fail("a box has %zu indices of %d", at.size(), map.rank);
  unsigned bytes = bytes_of(map);
  if (!is_shared(to, bytes)) fail("a box does not go to shared memory");
  if (((char *)to - state.dynamic_shared) % 1024) fail("a box is not aligned");
  BoxCopy copy = {(char *)to, &map, {}, signal_at(place, 0)};
  if (!copy.signal->there_for_copies) fail("copies don't see their signal yet");
  int k = 0;
  for (int each : at) copy.at[k++] = each;
  memset(to, 0xff, bytes);
  groups.copies.push_back(copy);
}

ON_CPU_FUNCTION bool arrived() {
  if (groups.copies.empty()) return false;
  auto which = state.backwards ? groups.copies.end() - 1 : groups.copies.begin();
  BoxCopy copy = *which;
  groups.copies.erase(which);
  unsigned size = copy.map->size;
  each_of_box(copy, [size](char *to, const char *from) {
    if (from) memcpy(to, from, size);
    else memset(to, 0, size);
  });
  copy.signal->bytes -= bytes_of(*copy.map);
  settle(copy.signal);
  return true;
}

// Products

struct Panel {  // as a descriptor says
  Bits bits;
  bool turned, halves;
  unsigned place(int k) const {  // in bits 0 … 13, 16 … 29 and 32 … 45, in packs of 16 bytes
    return (unsigned)(bits >> k & 0x3fff) << 4;
  }
  float at(int m, int k) const {
    unsigned start = place(0) - SHARED_START, beside = place(16), lines = place(32);
    unsigned offset = turned ? m / 64 * beside + m % 64 * 2 + k / 8 * lines + k % 8 * 128
                             : m / 8 * lines + m % 8 * 128 + k * 2;
    const char *found = turned_place(state.dynamic_shared + start + offset);
    if (!is_shared(found, 2)) fail("a product reads outside of shared memory");
    uint16_t digits;
    memcpy(&digits, found, 2);
    return halves ? f16_value(digits) : same_bits<float>((unsigned)digits << 16);
  }
};

ON_CPU_FUNCTION void same_for_all(Bits a, Bits b, int line) {
  struct Both {
    Bits a, b;
  };
  Slots slots = exchange(ALL_LANES, Both{a, b}, line);
  Both first = value_of<Both>(slots, 0);
  if (first.a != a || first.b != b) fail("lanes of a group disagree, line %d", line);
}

ON_CPU_FUNCTION int sums_at(Producing &p, float *place, int columns, int line) {
  int unused = -1;
  for (int k = 0; k < (int)MOST_SUMS; k++) {
    PendingSums &s = p.sums[k];
    if (s.pending && s.place == place && s.columns == columns) return k;
    if (!s.pending) unused = k;
  }
  if (unused < 0) fail("a thread has more than %u sums, line %d", MOST_SUMS, line);
  PendingSums &s = p.sums[unused];
  s.place = place;
  s.columns = columns;
  memcpy(s.values, place, columns * 2);
  memset(place, 0xff, columns * 2);
  return unused;
}

ON_CPU_FUNCTION void start_product(
    float *sums, Bits left, Bits right, int columns, bool left_turned, bool right_turned, bool halves,
    int line) {
  Producing &p = groups.threads[state.current->number];
  same_for_all(left, right, line);
  if (p.begun != 1) fail("products don't begin here: registers may have changed, line %d", line);
  for (Bits each : {left, right})
    if (each >> 62 != 1 || each >> 49 & 7) fail("lines of a panel are not of 128 bytes, line %d", line);
  if (p.count == MOST_PRODUCTS) fail("%u products wait", MOST_PRODUCTS);
  Product made = {0, left, right, columns, p.group, left_turned, right_turned, halves};
  auto &before = groups.started[state.current->number / GROUP];
  if (p.started == before.size()) before.push_back(made);
  if (before[p.started].left != left || before[p.started].right != right)
    fail("warps of a group disagree, line %d", line);
  p.started++;
  made.sums = sums_at(p, sums, columns, line);
  p.sums[made.sums].pending++;
  p.waiting[p.count++] = made;
}

ON_CPU_FUNCTION void make_product(Producing &p, const Product &made) {
  PendingSums &s = p.sums[made.sums];
  Panel left = {made.left, made.left_turned, made.halves};
  Panel right = {made.right, made.right_turned, made.halves};
  int warp = state.current->number % GROUP / WARP, lane = lane_here();
  float rows[2][16];
  for (int half = 0; half < 2; half++)
    for (int k = 0; k < 16; k++) rows[half][k] = left.at(16 * warp + 8 * half + lane / 4, k);
  for (int column = lane % 4 * 2; column < made.columns; column += column % 2 ? 7 : 1) {
    float values[16];
    for (int k = 0; k < 16; k++) values[k] = right.at(column, k);
    for (int half = 0; half < 2; half++) {
      float &sum = s.values[column / 8 * 4 + half * 2 + column % 2];
      for (int k = 0; k < 16; k++) sum += rows[half][k] * values[k];
    }
  }
  if (--s.pending == 0) memcpy(s.place, s.values, s.columns * 2);
}

ON_CPU_FUNCTION void wait_for_made(unsigned pending, int line) {
  Producing &p = groups.threads[state.current->number];
  unsigned kept = 0;
  for (unsigned k = 0; k < p.count; k++) {
    if (p.waiting[k].group + (int)pending < p.group)
      make_product(p, p.waiting[k]);
    else
      p.waiting[kept++] = p.waiting[k];
  }
  p.count = kept;
  p.begun = 0;
  exchange(ALL_LANES, 0, line);
}

ON_CPU_FUNCTION void set_registers(int count, int line) {
  if (count % 8 || count < 24 || count > 256) fail("%d registers, line %d", count, line);
  same_for_all(count, 0, line);
  groups.threads[state.current->number].registers = count;
}
}  // namespace on_cpu

inline unsigned shared_address(const void *p) {
  return (unsigned)((const char *)p - on_cpu::state.dynamic_shared) + on_cpu::SHARED_START;
}
#define begin_signal(s, arrivals) on_cpu::begin(s, arrivals, __LINE__)
inline void signals_are_there() {
  for (unsigned k = 0; k < on_cpu::groups.signals_used; k++)
    on_cpu::groups.signals[k].there_for_copies = true;
}
#define arrive(s) on_cpu::arrives(s, 0, __LINE__)
#define arrive_expecting(s, bytes) on_cpu::arrives(s, bytes, __LINE__)
#define await_phase(s, phase) on_cpu::await(s, phase, __LINE__)
template <class... At>
inline void copy_box(void *to, const TensorMap &map, Signal *s, At... at) {
  on_cpu::start_box(to, map, s, {(int)at...});
}
template <int count> inline void fewer_registers() { on_cpu::set_registers(count, __builtin_LINE()); }
template <int count> inline void more_registers() { on_cpu::set_registers(count, __builtin_LINE()); }
inline void products_begin() { on_cpu::groups.threads[on_cpu::state.current->number].begun = 1; }
inline void products_end_group() { on_cpu::groups.threads[on_cpu::state.current->number].group++; }
template <int pending> inline void wait_for_products(int line = __builtin_LINE()) {
  on_cpu::wait_for_made(pending, line);
}
template <int digits, int columns, bool left_turned, bool right_turned>
inline void multiply_rows(float *sums, Bits left, Bits right, int line = __builtin_LINE()) {
  on_cpu::start_product(sums, left, right, columns, left_turned, right_turned, digits == 1, line);
}
#ifdef ON_CPU_RUNTIME
extern "C" int on_cpu_tensor_map(
    void *map, int kind, unsigned rank, void *place, const uint64_t *sizes, const uint64_t *strides,
    const uint32_t *box, const uint32_t *steps, int interleave, int swizzle, int promotion, int fill) {
  return make_tensor_map((TensorMap *)map, kind, rank, place, sizes, strides, box, steps, interleave,
                         swizzle, promotion, fill);
}
#endif
