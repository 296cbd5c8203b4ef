// What warp groups do (four warps each): they multiply matrices that lie in shared memory, to where bulk
// copies bring them, and tell each other by signals what is there. Instructions of sm_90a.
//
// Panels lie as copies of boxes with lines of 128 bytes lay them: line l has its pack p of 16 bytes at
// p ^ l % 8, so that eight lines of a column are in different banks. They begin at multiples of 1024.
enum Digits { BF16, F16 };
typedef unsigned long long Bits;
#ifndef CUDA_ON_CPU
typedef Bits Signal;
struct __align__(64) TensorMap {  // how an array lies in memory, and the boxes that are copied of it
  Bits at[16];
};

// A signal has phases: one is over when so many threads have arrived, and all bytes that they expect.
__device__ __forceinline__ void begin_signal(Signal *s, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;"
               :: "r"(shared_address(s)), "r"(arrivals) : "memory");
}
// What this thread has begun is there for copies too.
__device__ __forceinline__ void signals_are_there() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void arrive(Signal *s) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(s)) : "memory");
}
__device__ __forceinline__ void arrive_expecting(Signal *s, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               :: "r"(shared_address(s)), "r"(bytes) : "memory");
}
// Until the phase with this number is over; it is the one that goes on, or the one before.
__device__ __forceinline__ void await_phase(Signal *s, int phase) {
  asm volatile("{\n.reg .pred over;\nagain:\n"
               "mbarrier.try_wait.parity.shared::cta.b64 over, [%0], %1;\n@!over bra again;\n}"
               :: "r"(shared_address(s)), "r"(phase & 1) : "memory");
}

// Starts to copy a box of an array, zeros where it is outside; its bytes arrive at a signal.
__device__ __forceinline__ void copy_box(
    void *to, const TensorMap &map, Signal *s, int a, int b) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%3, %4}], [%2];"
               :: "r"(shared_address(to)), "l"(&map), "r"(shared_address(s)), "r"(a), "r"(b)
               : "memory");
}
__device__ __forceinline__ void copy_box(
    void *to, const TensorMap &map, Signal *s, int a, int b, int c) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%3, %4, %5}], [%2];"
               :: "r"(shared_address(to)), "l"(&map), "r"(shared_address(s)), "r"(a), "r"(b), "r"(c)
               : "memory");
}
__device__ __forceinline__ void copy_box(
    void *to, const TensorMap &map, Signal *s, int a, int b, int c, int d) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%3, %4, %5, %6}], [%2];"
               :: "r"(shared_address(to)), "l"(&map), "r"(shared_address(s)), "r"(a), "r"(b), "r"(c),
                  "r"(d) : "memory");
}
__device__ __forceinline__ void copy_box(
    void *to, const TensorMap &map, Signal *s, int a, int b, int c, int d, int e) {
  asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];"
               :: "r"(shared_address(to)), "l"(&map), "r"(shared_address(s)), "r"(a), "r"(b), "r"(c),
                  "r"(d), "r"(e) : "memory");
}

// The registers that each thread of a group has from here on.
template <int count> __device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(count));
}
template <int count> __device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(count));
}

// What was in registers is there for products; those that are started become a group; a wait until at
// most so many groups go on.
__device__ __forceinline__ void products_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void products_end_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int pending> __device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(pending) : "memory");
}
// Starts to add the product of 64 rows and so many columns to sums, 16 places of their sum. A factor is
// `turned` if its lines do not lie along the sum.
template <Digits digits, int columns, bool left_turned, bool right_turned>
__device__ void multiply_rows(float *sums, Bits left, Bits right);
#endif

// Where a factor lies: 8 lines are 1024 bytes; of a turned one, 64 rows (or columns) `beside` bytes.
__device__ __forceinline__ Bits panel_at(const void *place, unsigned beside) {
  return (Bits)((shared_address(place) & 0x3ffff) >> 4) | (Bits)(beside >> 4) << 16 |
         (Bits)(1024 >> 4) << 32 | 1ull << 62;
}
