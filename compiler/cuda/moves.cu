// What the runtime moves between places of the GPU, beside the kernels of programs. No header is needed.
typedef long long Wide;

// The elements of an array of any strides, one after another: sizes n and strides s in bytes, the
// first axis first. `bytes` are those of an element.
extern "C" __global__ void pack_array(
    const char *from, char *to, Wide elements, Wide bytes, Wide n0, Wide n1, Wide n2, Wide n3, Wide n4,
    Wide n5, Wide s0, Wide s1, Wide s2, Wide s3, Wide s4, Wide s5) {
  const Wide sizes[6] = {n0, n1, n2, n3, n4, n5}, strides[6] = {s0, s1, s2, s3, s4, s5};
  const Wide step = (Wide)gridDim.x * blockDim.x;
  for (Wide at = (Wide)blockIdx.x * blockDim.x + threadIdx.x; at < elements; at += step) {
    Wide left = at, start = 0;
#pragma unroll
    for (int axis = 5; axis >= 0; axis--) {
      start += left % sizes[axis] * strides[axis];
      left /= sizes[axis];
    }
    for (Wide k = 0; k < bytes; k++) to[at * bytes + k] = from[start + k];
  }
}

// Copies by as many threads as there are: 16 bytes at a time where both ends allow it.
static __device__ __forceinline__ void move(char *to, const char *from, Wide bytes) {
  struct __align__(16) Part {
    Wide at[2];
  };
  const Wide step = (Wide)gridDim.x * blockDim.x, first = (Wide)blockIdx.x * blockDim.x + threadIdx.x;
  const bool whole = ((Wide)to | (Wide)from) % 16 == 0;
  const Wide parts = whole ? bytes / 16 : 0;
  for (Wide at = first; at < parts; at += step) ((Part *)to)[at] = ((const Part *)from)[at];
  for (Wide at = parts * 16 + first; at < bytes; at += step) to[at] = from[at];
}

// Steps that are fed on the GPU go by a book: how many are done, 0, the row of this step in the part
// of the rows that is here, and then where this part is for each argument, and all rows of each result.

// The row of this step, to where the step reads it.
extern "C" __global__ void feed_row(const Wide *book, char *to, Wide array, Wide bytes) {
  move(to, (const char *)book[array] + book[2] * bytes, bytes);
}

// A result of this step, to its row.
extern "C" __global__ void keep_row(const Wide *book, const char *from, Wide array, Wide bytes) {
  move((char *)book[array] + book[0] * bytes, from, bytes);
}

// The end of a step, if no check has failed: then no later step counts. `draws` are counted on if the
// step draws random numbers.
extern "C" __global__ void end_step(Wide *book, const Wide *failed, Wide *draws, Wide counts) {
  if (*failed) return;
  book[0]++;
  book[2]++;
  if (counts) draws[1]++;
}

// What a GPU can multiply and add: 16 chains in each thread, of `turns` multiply-adds.
extern "C" __global__ void multiply_adds(float *out, Wide turns) {
  float chains[16];
  const float x = out[0];
#pragma unroll
  for (int k = 0; k < 16; k++) chains[k] = (float)k;
  for (Wide turn = 0; turn < turns; turn++) {
#pragma unroll
    for (int k = 0; k < 16; k++) chains[k] = fmaf(chains[k], x, x);
  }
  float sum = 0;
#pragma unroll
  for (int k = 0; k < 16; k++) sum += chains[k];
  out[1 + (Wide)blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
