// Blocks that are resident at once wait for each other (a cooperative launch sees to it that they are).
#ifndef CUDA_ON_CPU
static __device__ unsigned blocks_here = 0;

// No block goes on before all are here, and then each reads what any has written before: who arrives
// makes known what its block has written (release), who goes on forgets what its processor's cache
// held before (acquire). All together add 2^31, of which the first block adds what others do not: so
// the upper bit changes when the last one comes, the others are 0 again, and no launch has to clear
// them for the next.
static __device__ __forceinline__ void meet_all_blocks() {
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned own = blockIdx.x ? 1 : 0x80000000u - (gridDim.x - 1);
    unsigned before, now;
    asm volatile("atom.add.release.gpu.global.u32 %0, [%1], %2;"
                 : "=r"(before) : "l"(&blocks_here), "r"(own) : "memory");
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(&blocks_here) : "memory");
    } while (((before ^ now) & 0x80000000u) == 0);
  }
  __syncthreads();
}
#endif
