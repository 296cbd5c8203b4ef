// CUDA C on a CPU: gives the generated subset of CUDA C its meaning in C++, to test it without a GPU.
//
// One block runs at a time, on one thread of the system. Each CUDA thread is a fiber, which runs until
// it waits for others. The order is greedy: a warp goes on until it waits for the whole block, then
// the lowest runnable warp does, so that warps drift as far apart as they can; backwards, the
// highest, and the last block comes first. Both orders together show what a missing barrier breaks.
//
// Blocks that have to be resident at once are so: each runs until it ends or waits for all others
// (`meet_all_blocks`), then the next one does, with shared memory of its own. So a block that does
// not wait goes through all of its kernel before the next one begins.
//
// Shared memory holds 0xff bytes (nan) before each block. What can't be meant ends the launch with a
// message: a barrier that not all threads reach, lanes that disagree about a warp's operation or
// are missing from it, memory outside of all buffers (pages that can't be touched surround them), an
// index outside of an array. It shows no more than these orders do: there is no weak memory here.
#pragma once
#include <csetjmp>
#include <csignal>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <type_traits>
#include <utility>
#if defined(__x86_64__) && !defined(ON_CPU_PORTABLE)
#define ON_CPU_SWITCH 1  // fibers change by a few instructions, not by two calls of the system
#else
#include <ucontext.h>
#endif

// All of this that is no template is compiled once (with ON_CPU_RUNTIME), and linked to each text.
#ifdef ON_CPU_RUNTIME
#define ON_CPU_FUNCTION __attribute__((visibility("hidden")))
#define ON_CPU_DATA __attribute__((visibility("hidden")))
#else
#define ON_CPU_FUNCTION extern inline __attribute__((gnu_inline, visibility("hidden")))
#define ON_CPU_DATA extern __attribute__((visibility("hidden")))
#endif

#define CUDA_ON_CPU 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __restrict__ __restrict
// Static shared memory lies in a section of its own, so that it can be filled before each block.
#define __shared__ static __attribute__((section("cuda_shared")))
extern "C" {
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace on_cpu {
constexpr unsigned WARP = 32, MOST_THREADS = 1024, ALL_LANES = 0xffffffffu;
constexpr unsigned MOST_RESIDENT = 8192;  // threads of blocks that are resident at once
enum { BACKWARDS = 1, RESIDENT = 2 };     // how a launch is run
constexpr size_t STACK = 256 << 10, PAGE = 4096, STATIC_SHARED = 48 << 10, ALL_SHARED = 227 << 10;

struct Fiber {
  void *stack_pointer;
  char *stack;
  dim3 thread;
  unsigned number;
  bool ended;
  const volatile uint32_t *waits_for;  // until this differs from `seen`
  uint32_t seen;
#ifndef ON_CPU_SWITCH
  ucontext_t context;
#endif
};

// One operation of a warp, among lanes that share a mask: values are laid down, then read by all.
struct Exchange {
  uint32_t arrived, mask;
  volatile uint32_t generation;
  int line;
  uint64_t slots[2][WARP][4];
};

// A block that is resident while others run.
struct Block {
  unsigned living, arrived;
  uint32_t generation;
  int barrier_line, meeting;  // the line where it waits for all blocks, or 0
  char *shared;
};

struct State {
  Fiber *all_fibers, *fibers, *current;  // those of the block that runs are a part of all
  Exchange *all_exchanges, *exchanges;   // one for each lane that may be the lowest of a mask
  unsigned threads, living, arrived, stacks;
  volatile uint32_t generation;  // of the block's barrier
  int barrier_line, meeting;     // the line where its threads wait for all blocks, or 0
  bool resident;
  dim3 block, block_size, grid_size;
  char *dynamic_shared, *shared_end;
  void *main_stack;
  bool backwards;
  void (*kernel)(void **);
  void **arguments;
  char message[512];
  sigjmp_buf out;
#ifndef ON_CPU_SWITCH
  ucontext_t main_context;
#endif
};
ON_CPU_DATA State state;
ON_CPU_DATA Block *resident_blocks;
ON_CPU_DATA char *resident_shared, *signal_stack;  // shared memory of all resident blocks

[[noreturn]] ON_CPU_FUNCTION void fail(const char *format, ...) {
  va_list given;
  va_start(given, format);
  int used = vsnprintf(state.message, sizeof state.message, format, given);
  va_end(given);
  if (used >= 0 && used < (int)sizeof state.message && state.current)
    snprintf(state.message + used, sizeof state.message - used, ", block (%u, %u, %u), thread %u",
             state.block.x, state.block.y, state.block.z, state.current->number);
  siglongjmp(state.out, 1);
}

#ifdef ON_CPU_SWITCH
extern "C" void on_cpu_switch(void **save, void *to);
asm(".text\n.p2align 4\n.weak on_cpu_switch\n.hidden on_cpu_switch\n"
    ".type on_cpu_switch,@function\non_cpu_switch:\n"
    " pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    " movq %rsp,(%rdi)\n movq %rsi,%rsp\n"
    " popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
ON_CPU_FUNCTION void go(Fiber *from, Fiber *to) {
  state.current = to;
  on_cpu_switch(from ? &from->stack_pointer : &state.main_stack,
                to ? to->stack_pointer : state.main_stack);
}
#else
ON_CPU_FUNCTION void go(Fiber *from, Fiber *to) {
  state.current = to;
  swapcontext(from ? &from->context : &state.main_context,
              to ? &to->context : &state.main_context);
}
#endif

ON_CPU_FUNCTION bool runnable(const Fiber &f) {
  return !f.ended && (!f.waits_for || *f.waits_for != f.seen);
}

ON_CPU_FUNCTION Fiber *first_runnable(unsigned start, unsigned count) {
  for (unsigned k = 0; k < count; k++) {
    Fiber &f = state.fibers[start + (state.backwards ? count - 1 - k : k)];
    if (runnable(f)) return &f;
  }
  return nullptr;
}

__forceinline__ unsigned lanes_of(unsigned warp_start) {
  return state.threads - warp_start < WARP ? state.threads - warp_start : WARP;
}

ON_CPU_FUNCTION Fiber *next_fiber(unsigned number) {
  unsigned start = number / WARP * WARP;
  Fiber *f = first_runnable(start, lanes_of(start));
  return f ? f : first_runnable(0, state.threads);
}

// What goes on by itself has a step done, as late as it may: when no thread can go on. False if nothing
// is on its way.
ON_CPU_DATA bool (*something_arrives)();

ON_CPU_FUNCTION Fiber *next_when_there_is_one(unsigned number) {
  Fiber *next = next_fiber(number);
  while (!next && something_arrives && something_arrives()) next = next_fiber(number);
  return next;
}

ON_CPU_FUNCTION void wait(const volatile uint32_t *word, uint32_t seen, int line) {
  Fiber *me = state.current;
  me->waits_for = word;
  me->seen = seen;
  Fiber *next = next_when_there_is_one(me->number);
  if (!next) fail("all threads wait, line %d: not all reach a barrier, or an operation of a warp", line);
  if (next != me) go(me, next);
  me->waits_for = nullptr;
}

ON_CPU_FUNCTION void run_thread() {
  Fiber *me = state.current;
  state.kernel(state.arguments);
  me->ended = true;
  state.living--;
  if (state.arrived && state.arrived == state.living) {  // who has returned is not waited for
    state.arrived = 0;
    if (state.meeting) go(me, nullptr);
    state.generation = state.generation + 1;
  }
  Fiber *next = state.living ? next_when_there_is_one(me->number) : nullptr;
  if (!next && state.living) fail("a thread returned, and the others wait for it");
  go(me, next);
  abort();
}

ON_CPU_FUNCTION void arrive_at(int line) {
  if (!state.arrived)
    state.barrier_line = line;
  else if (state.barrier_line != line)
    fail("threads wait at two barriers, lines %d and %d", state.barrier_line, line);
}

ON_CPU_FUNCTION void barrier(int line) {
  arrive_at(line);
  uint32_t seen = state.generation;
  if (++state.arrived == state.living) {
    state.arrived = 0;
    state.generation = seen + 1;
  } else {
    wait(&state.generation, seen, line);
  }
}

// The last thread of a block gives way to other blocks; when all are here, all go on.
ON_CPU_FUNCTION void meet_all_blocks(int line) {
  if (!state.resident) fail("blocks wait for each other that need not be resident, line %d", line);
  arrive_at(line);
  uint32_t seen = state.generation;
  state.meeting = line;
  if (++state.arrived < state.living) return wait(&state.generation, seen, line);
  state.arrived = 0;
  Fiber *me = state.current;
  me->waits_for = &state.generation;
  me->seen = seen;
  go(me, nullptr);
  me->waits_for = nullptr;
}

typedef const uint64_t (*Slots)[4];

template <class T> inline Slots exchange(unsigned mask, T value, int line) {
  static_assert(sizeof(T) <= 32, "an operation of a warp passes at most 32 bytes");
  Fiber *me = state.current;
  unsigned lane = me->number % WARP, start = me->number - lane, count = lanes_of(start);
  if (!(mask >> lane & 1)) fail("a lane is not in its own mask, line %d", line);
  if (count < WARP && mask != ALL_LANES && mask >> count)
    fail("a mask names lanes that the block has not, line %d", line);
  Exchange &e = state.exchanges[start + __builtin_ctz(mask)];
  if (!e.arrived) {
    e.mask = mask;
    e.line = line;
  } else if (e.mask != mask || e.line != line) {
    fail("lanes of a warp disagree: masks %x and %x, lines %d and %d", e.mask, mask, e.line, line);
  }
  unsigned expected = count < WARP ? mask & ((1u << count) - 1) : mask;
  uint32_t seen = e.generation;
  memcpy(e.slots[seen & 1][lane], &value, sizeof value);
  e.arrived |= 1u << lane;
  if (e.arrived == expected) {
    e.arrived = 0;
    e.generation = seen + 1;
  } else {
    wait(&e.generation, seen, line);
  }
  return e.slots[seen & 1];
}

template <class T> __forceinline__ T value_of(Slots slots, unsigned lane) {
  T value;
  memcpy(&value, slots[lane], sizeof value);
  return value;
}

template <class T> inline T shuffle(unsigned mask, T value, int from, int line) {
  unsigned lane = state.current->number % WARP, source = from < 0 || from > 31 ? lane : from;
  Slots slots = exchange(mask, value, line);
  if (!(mask >> source & 1) || source >= lanes_of(state.current->number - lane))
    fail("a lane reads from lane %u, which takes no part, line %d", source, line);
  return value_of<T>(slots, source);
}

ON_CPU_FUNCTION unsigned ballot(unsigned mask, bool vote, int line) {
  Slots slots = exchange(mask, (int)vote, line);
  unsigned found = 0;
  for (unsigned lane = 0; lane < WARP; lane++)
    if (mask >> lane & 1 && value_of<int>(slots, lane)) found |= 1u << lane;
  return found;
}

__forceinline__ int lane_here() { return state.current->number % WARP; }

// The pieces of a launch.

// Memory of at least `size` bytes, and its end, after which comes a page that can't be touched.
ON_CPU_FUNCTION char *with_guard(size_t size) {
  size_t whole = (size + PAGE - 1) / PAGE * PAGE;
  void *memory = mmap(nullptr, whole + PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect((char *)memory + whole, PAGE, PROT_NONE)) fail("no memory");
  return (char *)memory + whole;
}

ON_CPU_FUNCTION void make_stacks(unsigned count) {
  if (!state.all_fibers) {
    state.all_fibers = new Fiber[MOST_RESIDENT]();
    state.all_exchanges = new Exchange[MOST_RESIDENT]();
  }
  for (; state.stacks < count; state.stacks++) {
    char *end = with_guard(PAGE + STACK);
    mprotect(end - STACK - PAGE, PAGE, PROT_NONE);  // stacks grow down
    state.all_fibers[state.stacks].stack = end - STACK;
  }
}

// Gives back the memory of all launches: a process may have few mappings.
ON_CPU_FUNCTION void release() {
  for (; state.stacks; state.stacks--)
    munmap(state.all_fibers[state.stacks - 1].stack - PAGE, STACK + 2 * PAGE);
  delete[] state.all_fibers;
  delete[] state.all_exchanges;
  if (state.shared_end) munmap(state.shared_end - (ALL_SHARED + PAGE - 1) / PAGE * PAGE, ALL_SHARED + PAGE);
  free(resident_blocks);
  free(resident_shared);
  free(signal_stack);
  state = State();
  resident_blocks = nullptr;
  resident_shared = signal_stack = nullptr;
}

ON_CPU_FUNCTION void start_fiber(Fiber &f) {
  f.ended = false;
  f.waits_for = nullptr;
#ifdef ON_CPU_SWITCH
  void **top = (void **)(f.stack + STACK);
  *--top = nullptr;
  *--top = (void *)run_thread;
  for (int k = 0; k < 6; k++) *--top = nullptr;
  f.stack_pointer = top;
#else
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = STACK;
  f.context.uc_link = nullptr;
  makecontext(&f.context, run_thread, 0);
#endif
}

ON_CPU_DATA void (*block_begins)();  // set by what keeps more for each thread
ON_CPU_DATA void (*block_waits)();   // which sees to it that it keeps nothing while others run
ON_CPU_DATA void (*block_ends)();    // and says what is wrong with its end

// The block that runs from here on is the one with this number, which has the fibers from there on.
ON_CPU_FUNCTION void enter(uint64_t number, uint64_t fibers) {
  const dim3 grid = state.grid_size;
  state.block = dim3(number % grid.x, number / grid.x % grid.y, number / ((uint64_t)grid.x * grid.y));
  state.fibers = state.all_fibers + fibers;
  state.exchanges = state.all_exchanges + fibers;
}

ON_CPU_FUNCTION void start_block(uint64_t number, uint64_t fibers, size_t dynamic) {
  enter(number, fibers);
  state.living = state.threads;
  state.arrived = state.meeting = 0;
  if (dynamic) memset(state.dynamic_shared, 0xff, dynamic);
  if (__start_cuda_shared) memset(__start_cuda_shared, 0xff, __stop_cuda_shared - __start_cuda_shared);
  if (block_begins) block_begins();
  for (unsigned k = 0; k < state.threads; k++) {
    Fiber &f = state.fibers[k];
    f.number = k;
    f.thread = dim3(k % state.block_size.x, k / state.block_size.x % state.block_size.y,
                    k / (state.block_size.x * state.block_size.y));
    start_fiber(f);
    state.exchanges[k].arrived = 0;
  }
}

// Until the block has ended, or waits for all others.
ON_CPU_FUNCTION void run_block() {
  go(nullptr, next_fiber(state.backwards ? state.threads - 1 : 0));
  if (!state.living && block_ends) block_ends();
}

// What a block has while others run.
ON_CPU_FUNCTION void copy_shared(char *kept, size_t dynamic, bool back) {
  size_t fixed = __start_cuda_shared ? __stop_cuda_shared - __start_cuda_shared : 0;
  char *parts[2] = {state.dynamic_shared, __start_cuda_shared};
  size_t sizes[2] = {dynamic, fixed};
  for (int k = 0; k < 2; kept += sizes[k++])
    if (sizes[k]) memcpy(back ? parts[k] : kept, back ? kept : parts[k], sizes[k]);
}

ON_CPU_FUNCTION void leave(Block &b, size_t dynamic) {
  b.living = state.living;
  b.arrived = state.arrived;
  b.generation = state.generation;
  b.barrier_line = state.barrier_line;
  b.meeting = state.living ? state.meeting : 0;
  if (state.living && block_waits) block_waits();
  copy_shared(b.shared, dynamic, false);
}

ON_CPU_FUNCTION void go_on(Block &b, size_t dynamic) {
  state.living = b.living;
  state.arrived = b.arrived;
  state.generation = b.generation + 1;  // all blocks have met
  state.barrier_line = b.barrier_line;
  state.meeting = 0;
  copy_shared(b.shared, dynamic, true);
}

// All blocks, from meeting to meeting. All of them wait at the same place, or have ended.
ON_CPU_FUNCTION void run_resident(Block *blocks, uint64_t count, size_t dynamic) {
  for (bool first = true, living = true; living; first = false) {
    int line = -1;
    living = false;
    for (uint64_t k = 0; k < count; k++) {
      uint64_t at = state.backwards ? count - 1 - k : k;
      if (first) {
        start_block(at, at * state.threads, dynamic);
      } else {
        enter(at, at * state.threads);
        go_on(blocks[at], dynamic);
      }
      run_block();
      state.current = state.fibers;  // of whom a message tells
      leave(blocks[at], dynamic);
      if (line >= 0 && blocks[at].meeting != line)
        fail(line && blocks[at].meeting ? "blocks wait for all others in lines %d and %d"
                                        : "a block has ended, others wait for it, line %d",
             line ? line : blocks[at].meeting, blocks[at].meeting);
      line = blocks[at].meeting;
      living |= line != 0;
    }
  }
}

ON_CPU_FUNCTION void on_signal(int signal, siginfo_t *info, void *) {
  if (signal == SIGSEGV || signal == SIGBUS)
    fail("memory outside of all buffers is touched, at %p", info->si_addr);
  fail("an index is outside of its array");  // -fsanitize-undefined-trap-on-error
}

struct Signals {
  static constexpr int KINDS[3] = {SIGSEGV, SIGBUS, SIGILL};
  struct sigaction before[3];
  stack_t stack_before;
  Signals() {
    if (!signal_stack) signal_stack = (char *)malloc(STACK);
    stack_t own = {};
    own.ss_sp = signal_stack;
    own.ss_size = STACK;
    sigaltstack(&own, &stack_before);
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int k = 0; k < 3; k++) sigaction(KINDS[k], &action, &before[k]);
  }
  ~Signals() {
    for (int k = 0; k < 3; k++) sigaction(KINDS[k], &before[k], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

// Denormals count as 0, as GPUs are told to take floats.
struct Flushing {
#ifdef __x86_64__
  unsigned before = __builtin_ia32_stmxcsr();
  Flushing() { __builtin_ia32_ldmxcsr(before | 0x8040); }
  ~Flushing() { __builtin_ia32_ldmxcsr(before); }
#elif defined(__aarch64__)
  unsigned long before;
  Flushing() {
    asm volatile("mrs %0, fpcr" : "=r"(before));
    asm volatile("msr fpcr, %0" ::"r"(before | 1ul << 24));
  }
  ~Flushing() { asm volatile("msr fpcr, %0" ::"r"(before)); }
#endif
};

ON_CPU_FUNCTION void begin(dim3 grid, dim3 block, size_t dynamic) {
  uint64_t threads = (uint64_t)block.x * block.y * block.z;
  uint64_t resident = state.resident ? threads * grid.x * grid.y * grid.z : threads;
  if (threads < 1 || threads > MOST_THREADS) fail("a block has %lu threads", (unsigned long)threads);
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    fail("a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
  if (dynamic > ALL_SHARED) fail("%zu bytes of shared memory", dynamic);
  if (state.resident && resident > MOST_RESIDENT)
    fail("%lu threads that are resident at once", (unsigned long)resident);
  make_stacks((unsigned)resident);
  state.threads = (unsigned)threads;
  state.block_size = block;
  state.grid_size = grid;
  // Dynamic shared memory ends at a guard page.
  if (!state.shared_end) state.shared_end = with_guard(ALL_SHARED);
  state.dynamic_shared = state.shared_end - (dynamic + 15) / 16 * 16;
}

// Runs a kernel; gives what went wrong, or "".
ON_CPU_FUNCTION const char *launch(dim3 grid, dim3 block, size_t dynamic, int how, void (*kernel)(void **),
                          void **arguments) {
  state.kernel = kernel;
  state.arguments = arguments;
  state.backwards = how & BACKWARDS;
  state.resident = how & RESIDENT;
  state.message[0] = 0;
  state.current = nullptr;
  Signals caught;
  Flushing flushing;
  if (sigsetjmp(state.out, 1)) {
    state.current = nullptr;
    return state.message;
  }
  begin(grid, block, dynamic);
  uint64_t count = (uint64_t)grid.x * grid.y * grid.z;
  if (state.resident) {
    size_t fixed = __start_cuda_shared ? __stop_cuda_shared - __start_cuda_shared : 0;
    resident_blocks = (Block *)realloc(resident_blocks, count * sizeof(Block));
    resident_shared = (char *)realloc(resident_shared, count * (fixed + dynamic) + 1);
    for (uint64_t k = 0; k < count; k++)
      resident_blocks[k].shared = resident_shared + k * (fixed + dynamic);
    run_resident(resident_blocks, count, dynamic);
    return state.message;
  }
  for (uint64_t k = 0; k < count; k++) {
    start_block(state.backwards ? count - 1 - k : k, 0, dynamic);
    run_block();
  }
  return state.message;
}

// Calls a function with arguments that are given by their addresses. One function for all of them: kernels
// of many nodes have hundreds.
template <class T> inline std::remove_const_t<T> argument(void *place) {
  std::remove_const_t<T> value;
  memcpy((void *)&value, place, sizeof value);
  return value;
}
template <class... A, size_t... K>
inline void call(void (*f)(A...), void **given, std::index_sequence<K...>) {
  f(argument<A>(given[K])...);
}
template <class... A> inline void call(void (*f)(A...), void **given) {
  call(f, given, std::index_sequence_for<A...>());
}
// How many arguments, the first ones, are larger than a pointer.
template <class... A> inline int large_arguments(void (*)(A...)) {
  return (0 + ... + (sizeof(A) > sizeof(void *)));
}
}  // namespace on_cpu

#define threadIdx (on_cpu::state.current->thread)
#define blockIdx (on_cpu::state.block)
#define blockDim (on_cpu::state.block_size)
#define gridDim (on_cpu::state.grid_size)
#define warpSize 32
#define __syncthreads() on_cpu::barrier(__LINE__)
#define meet_all_blocks() on_cpu::meet_all_blocks(__LINE__)
#define __syncwarp(...) ((void)on_cpu::exchange(on_cpu::ALL_LANES __VA_OPT__(&) __VA_ARGS__, 0, __LINE__))
#define __shfl_sync(mask, v, from) on_cpu::shuffle(mask, v, from, __LINE__)
#define __shfl_xor_sync(mask, v, bit) on_cpu::shuffle(mask, v, on_cpu::lane_here() ^ (bit), __LINE__)
#define __shfl_down_sync(mask, v, by) on_cpu::shuffle(mask, v, on_cpu::lane_here() + (int)(by), __LINE__)
#define __shfl_up_sync(mask, v, by) on_cpu::shuffle(mask, v, on_cpu::lane_here() - (int)(by), __LINE__)
#define __ballot_sync(mask, vote) on_cpu::ballot(mask, vote, __LINE__)
#define __any_sync(mask, vote) (on_cpu::ballot(mask, vote, __LINE__) != 0)
#define __all_sync(mask, vote) (on_cpu::ballot(mask, !(vote), __LINE__) == 0)
#define DYNAMIC_SHARED(T, name) T *name = (T *)on_cpu::state.dynamic_shared

template <class To, class From> __forceinline__ To same_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "the same bits of another size");
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
__forceinline__ float __int_as_float(int x) { return same_bits<float>(x); }
__forceinline__ int __float_as_int(float x) { return same_bits<int>(x); }
__forceinline__ double __longlong_as_double(long long x) { return same_bits<double>(x); }
__forceinline__ long long __double_as_longlong(double x) { return same_bits<long long>(x); }

#ifdef ON_CPU_RUNTIME
extern "C" void on_cpu_release() { on_cpu::release(); }
#endif
#define ON_CPU_ENTRY(kernel)                                                                      \
  extern "C" const char *kernel##_on_cpu(unsigned gx, unsigned gy, unsigned gz, unsigned bx,      \
                                         unsigned by, unsigned bz, size_t dynamic, int how,       \
                                         void **arguments) {                                      \
    return on_cpu::launch(dim3(gx, gy, gz), dim3(bx, by, bz), dynamic, how,                       \
                          [](void **given) { on_cpu::call(kernel, given); }, arguments);          \
  }                                                                                               \
  extern "C" int kernel##_large_arguments() { return on_cpu::large_arguments(kernel); }
