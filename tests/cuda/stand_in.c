// A stand-in for NVIDIA's driver: its memory is the host's, a module is a library that runs kernels on
// a CPU (cuda_on_cpu.h). A stream does what it is given as late as it may: when somebody waits for it,
// or for what waits for it. So what is read too early, or written again too soon, has the wrong bytes.
// What is not here returns CUDA_ERROR_NOT_SUPPORTED; the tests make these entries from their names.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tensor_map.h"

enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NO_DEVICE = 100, BAD_IMAGE = 200, NO_CONTEXT = 201,
       NO_BINARY = 209, NOT_FOUND = 500, FAULT = 700, TOO_LARGE = 720, NOT_SUPPORTED = 801, CAPTURED = 900 };
typedef uint64_t Address;

// What tests set and read.
size_t stand_in_memory = (size_t)8 << 30, stand_in_used;
int stand_in_devices = 1, stand_in_backwards;
long stand_in_launches, stand_in_graphs, stand_in_graph_launches;
long stand_in_room = 2;  // blocks that a processor holds at once
char stand_in_message[512];
// What was asked of it since `stand_in_log_size` was set to 0, a letter each: a Kernel, one whose blocks
// are Resident, a Graph, a Copy,
// an Event, a stream Waits for an event, the host Awaits one, or Synchronizes.
char stand_in_log[1 << 16];
long stand_in_log_size;
static void note(char what) {
  if (stand_in_log_size < sizeof stand_in_log) stand_in_log[stand_in_log_size++] = what;
}
static int settle_all(void);

// NVRTC asks the driver that is loaded for tables of its own, and does without.
int cuGetExportTable(const void **table, const void *id) {
  *table = 0;
  return NOT_SUPPORTED;
}

int cuInit(unsigned flags) { return stand_in_devices ? OK : NO_DEVICE; }
int cuDriverGetVersion(int *v) { return *v = 13000, OK; }
int cuDeviceGetCount(int *n) { return *n = stand_in_devices, OK; }
int cuDeviceGet(int *d, int at) { return at ? 101 : (*d = 0, OK); }
int cuDeviceGetName(char *to, int n, int d) { return snprintf(to, n, "stand-in"), OK; }
int cuDeviceComputeCapability(int *a, int *b, int d) { return *a = 8, *b = 0, OK; }
int cuDeviceTotalMem_v2(size_t *n, int d) { return *n = stand_in_memory, OK; }
int cuDeviceGetAttribute(int *to, int which, int d) {
  return *to = which == 75 ? 8 : which == 16 ? 108 : which == 95 ? 1 : 0, OK;
}

static char the_context;
static _Thread_local void *contexts[64];
static _Thread_local int depth;
int cuDevicePrimaryCtxRetain(void **c, int d) { return *c = &the_context, OK; }
int cuDevicePrimaryCtxRelease_v2(int d) { return OK; }
int cuDevicePrimaryCtxSetFlags_v2(int d, unsigned flags) { return OK; }
int cuCtxPushCurrent_v2(void *c) { return depth == 64 ? INVALID : (contexts[depth++] = c, OK); }
int cuCtxPopCurrent_v2(void **c) {
  if (!depth) return NO_CONTEXT;
  *c = contexts[--depth];
  return OK;
}
int cuCtxGetCurrent(void **c) { return *c = depth ? contexts[depth - 1] : NULL, OK; }
int cuCtxGetDevice(int *d) { return depth ? (*d = 0, OK) : NO_CONTEXT; }
int cuCtxSynchronize(void) { return note('S'), depth ? settle_all() : NO_CONTEXT; }
int cuCtxGetApiVersion(void *c, unsigned *v) { return *v = 13000, OK; }
int cuCtxDetach(void *c) { return OK; }

// Memory ends at a page that can't be touched, and is full of 0xff.
typedef struct Piece {
  char *base, *place;
  size_t mapped, size;
  struct Piece *next;
} Piece;
static Piece *pieces;
int cuMemAlloc_v2(Address *to, size_t size) {
  if (!depth) return NO_CONTEXT;
  if (!size) return INVALID;
  if (stand_in_used + size > stand_in_memory) return NO_MEMORY;
  size_t padded = (size + 255) / 256 * 256, whole = (padded + 4095) / 4096 * 4096;
  char *base = mmap(NULL, whole + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED || mprotect(base + whole, 4096, PROT_NONE)) return NO_MEMORY;
  memset(base, 0xff, whole);
  Piece *p = malloc(sizeof *p);
  *p = (Piece){base, base + whole - padded, whole + 4096, size, pieces};
  pieces = p;
  stand_in_used += size;
  *to = (Address)p->place;
  return OK;
}
int cuMemFree_v2(Address place) {
  if (!depth) return NO_CONTEXT;
  settle_all();
  for (Piece **at = &pieces; *at; at = &(*at)->next)
    if ((Address)(*at)->place == place) {
      Piece *p = *at;
      *at = p->next;
      stand_in_used -= p->size;
      munmap(p->base, p->mapped);
      free(p);
      return OK;
    }
  return INVALID;
}
int cuMemGetInfo_v2(size_t *unused, size_t *all) {
  return *all = stand_in_memory, *unused = stand_in_memory - stand_in_used, OK;
}
static int is_ours(Address place, size_t size) {
  for (Piece *p = pieces; p; p = p->next)
    if ((Address)p->place <= place && place + size <= (Address)p->place + p->size) return 1;
  return 0;
}
int cuPointerGetAttribute(void *to, int which, Address place) {
  return which == 9 && is_ours(place, 1) ? (*(int *)to = 0, OK) : INVALID;
}
int cuMemHostAlloc(void **to, size_t size, unsigned flags) {
  return *to = aligned_alloc(4096, (size + 4095) / 4096 * 4096), *to ? OK : NO_MEMORY;
}
int cuMemFreeHost(void *p) { return settle_all(), free(p), OK; }

// Streams, and graphs of what they are given: a kernel, a copy, or to have waited for an event.
typedef struct Function {
  const char *(*run)(unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, size_t, int, void **);
  unsigned most_shared;
  int maps;  // tensor maps, which are its first arguments
} Function;
typedef struct Event Event;
typedef struct Part {
  Function *function;
  unsigned sizes[6], shared, resident;
  char *arguments;
  size_t count;
  void *to;
  const void *from;
  Event *event;
  long turn;
  int owned;
  struct Part *next;
} Part;
typedef struct Graph {
  Part *first, **last;
} Graph;
typedef struct Stream {
  Graph *recorded;
  Part *first, **last;  // what it has not done yet
  long put, done;
  int status;
  struct Stream *next;
} Stream;
struct Event {  // is past when its stream has done so many parts
  Stream *stream;
  long turn;
};
static Stream *streams;
static Stream plain = {.last = &plain.first};  // of others: the one that has no name

static int settle(Stream *s, long turn);
static int run(const Part *p) {
  if (p->event) return p->event->stream ? settle(p->event->stream, p->turn) : OK;
  if (!p->function) return memmove(p->to, p->from, p->count), OK;
  void *places[512];
  size_t maps = p->function->maps, start = maps * sizeof(TensorMap), count = maps + (p->count - start) / 8;
  if (count > 512 || p->count < start) return INVALID;
  for (size_t k = 0; k < count; k++)
    places[k] = p->arguments + (k < maps ? sizeof(TensorMap) * k : start + 8 * (k - maps));
  const unsigned *n = p->sizes;
  stand_in_launches++;
  const char *said = p->function->run(n[0], n[1], n[2], n[3], n[4], n[5], p->shared, stand_in_backwards + 2 * p->resident, places);
  if (!*said) return OK;
  snprintf(stand_in_message, sizeof stand_in_message, "%s", said);
  return FAULT;
}
static int settle(Stream *s, long turn) {
  while (s->first && s->done < turn) {
    Part *p = s->first;
    s->first = p->next;
    if (!s->first) s->last = &s->first;
    s->done++;
    int status = s->status ? s->status : run(p);
    if (status) s->status = status;
    if (p->owned) free(p->arguments);
    free(p);
  }
  int status = s->status;
  s->status = OK;  // a driver would say it again, whatever it is asked: here other tests go on
  return status;
}
static int settle_all(void) {
  int status = settle(&plain, plain.put);
  for (Stream *s = streams; s; s = s->next) {
    int found = settle(s, s->put);
    if (!status) status = found;
  }
  return status;
}
static void append(Part ***last, const Part *part) {
  Part *kept = malloc(sizeof *part);
  *kept = *part;
  kept->next = NULL;
  **last = kept;
  *last = &kept->next;
}
static int put(Stream *s, Part part) {
  if (!depth) return NO_CONTEXT;
  if (!s) return run(&part);
  if (part.function) {
    char *kept = malloc(part.count + 1);
    part.arguments = memcpy(kept, part.arguments, part.count);
    part.owned = !s->recorded;
  }
  append(s->recorded ? &s->recorded->last : &s->last, &part);
  if (!s->recorded) s->put++;
  return OK;
}
int cuStreamCreate(Stream **to, unsigned flags) {
  Stream *s = calloc(1, sizeof *s);
  s->last = &s->first;
  s->next = streams;
  return *to = streams = s, OK;
}
int cuStreamDestroy_v2(Stream *s) {
  settle(s, s->put);
  for (Stream **at = &streams; *at; at = &(*at)->next)
    if (*at == s) return *at = s->next, OK;  // events may ask it still
  return INVALID;
}
int cuStreamSynchronize(Stream *s) {
  note('S');
  if (!s) return settle_all();
  return s->recorded ? CAPTURED : settle(s, s->put);
}
int cuEventCreate(Event **to, unsigned flags) { return *to = calloc(1, sizeof(Event)), OK; }
int cuEventDestroy_v2(Event *e) { return OK; }  // a stream may wait for it still
int cuEventRecord(Event *e, Stream *s) {
  note('E');
  if ((uintptr_t)s <= 2) s = &plain;
  return *e = (Event){s, s->put}, OK;
}
int cuEventSynchronize(Event *e) { return note('A'), e->stream ? settle(e->stream, e->turn) : OK; }
int cuEventQuery(Event *e) { return !e->stream || e->stream->done >= e->turn ? OK : 600; }
int cuEventElapsedTime_v2(float *to, Event *a, Event *b) { return *to = 1, OK; }
int cuStreamWaitEvent(Stream *s, Event *e, unsigned flags) {
  note('W');
  if ((uintptr_t)s <= 2) s = &plain;
  return put(s, (Part){.event = e, .turn = e->turn});
}
int cuStreamBeginCapture_v2(Stream *s, int mode) {
  if (!s || s->recorded) return INVALID;
  Graph *graph = calloc(1, sizeof *graph);
  graph->last = &graph->first;
  s->recorded = graph;
  return OK;
}
int cuStreamEndCapture(Stream *s, void **graph) {
  *graph = s->recorded;
  s->recorded = NULL;
  return OK;
}
int cuGraphInstantiateWithFlags(void **to, void *graph, unsigned long long flags) {
  Graph *kept = malloc(sizeof *kept);
  *kept = *(Graph *)graph;
  stand_in_graphs++;
  return *to = kept, OK;
}
int cuGraphDestroy(void *graph) { return free(graph), OK; }
int cuGraphExecDestroy(void *graph) { return stand_in_graphs--, OK; }
int cuGraphLaunch(Graph *graph, Stream *s) {
  note('G');
  stand_in_graph_launches++;
  for (Part *p = graph->first; p; p = p->next) {
    append(&s->last, p);
    s->put++;
  }
  return OK;
}

static int copy(void *to, const void *from, size_t n, Stream *s) {
  note('C');
  return put(s, (Part){.to = to, .from = from, .count = n});
}
static int copy_in(Address to, const void *from, size_t n, Stream *s) {
  return is_ours(to, n) ? copy((void *)to, from, n, s) : INVALID;
}
static int copy_out(void *to, Address from, size_t n, Stream *s) {
  return is_ours(from, n) ? copy(to, (void *)from, n, s) : INVALID;
}
int cuMemcpyHtoD_v2(Address to, const void *from, size_t n) { return copy_in(to, from, n, NULL); }
int cuMemcpyDtoH_v2(void *to, Address from, size_t n) { return copy_out(to, from, n, NULL); }
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t n, void *s) { return copy_in(to, from, n, s); }
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t n, void *s) { return copy_out(to, from, n, s); }
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t n, void *s) {
  return is_ours(from, n) ? copy_in(to, (void *)from, n, s) : INVALID;
}

int cuModuleLoadDataEx(void **to, const void *image, unsigned n, void *options, void *values) {
  // The image is the name of a library, which says by its first letter that it is one.
  const char *path = image;
  if (*path != '/') return NO_BINARY;
  *to = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  return *to ? OK : BAD_IMAGE;
}
int cuModuleUnload(void *module) {
  settle_all();
  void (*release)(void) = (void (*)(void))dlsym(module, "on_cpu_release");
  if (release) release();
  dlclose(module);
  return OK;
}
int cuModuleGetFunction(void **to, void *module, const char *name) {
  char full[512];
  snprintf(full, sizeof full, "%s_on_cpu", name);
  Function *f = calloc(1, sizeof *f);
  f->most_shared = 48 << 10;
  *(void **)&f->run = dlsym(module, full);
  snprintf(full, sizeof full, "%s_large_arguments", name);
  int (*large)(void) = (int (*)(void))dlsym(module, full);
  f->maps = large ? large() : 0;
  return *to = f, f->run ? OK : NOT_FOUND;
}
int cuFuncSetAttribute(Function *f, int which, int value) {
  if (which != 8 || value < 0 || value > 227 << 10) return INVALID;
  return f->most_shared = value, OK;
}
int cuFuncSetBlockShape(void *f, int x, int y, int z) { return OK; }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *to, Function *f, int threads, size_t shared) {
  return *to = shared <= f->most_shared ? stand_in_room : 0, OK;
}
int cuLaunchCooperativeKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                              unsigned by, unsigned bz, unsigned shared, void *stream, void **given) {
  Part part = {.function = function, .sizes = {gx, gy, gz, bx, by, bz}, .shared = shared, .resident = 1};
  note('R');
  if (gx * gy * gz > 108 * stand_in_room) return TOO_LARGE;
  // How many arguments there are a driver knows from the kernel; here a call ends in memory of its own.
  uint64_t kept[512];
  while (part.count < 512 && given[part.count]) {
    kept[part.count] = *(uint64_t *)given[part.count];
    part.count++;
  }
  part.arguments = (char *)kept;
  part.count *= 8;
  return shared <= function->most_shared ? put(stream, part) : INVALID;
}
int cuLaunchKernel(Function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **given, void **extra) {
  Part part = {.function = function, .sizes = {gx, gy, gz, bx, by, bz}, .shared = shared};
  note('K');
  for (; extra && *extra; extra += 2) {
    if (*extra == (void *)1) part.arguments = extra[1];
    if (*extra == (void *)2) part.count = *(size_t *)extra[1];
  }
  return part.arguments && shared <= function->most_shared ? put(stream, part) : INVALID;
}

long stand_in_tensor_maps;
int cuTensorMapEncodeTiled(
    void *to, int kind, unsigned rank, void *place, const uint64_t *sizes, const uint64_t *strides,
    const uint32_t *box, const uint32_t *steps, int interleave, int swizzle, int promotion, int fill) {
  stand_in_tensor_maps++;
  if (!is_ours((Address)place, 1)) return INVALID;
  return make_tensor_map(to, kind, rank, place, sizes, strides, box, steps, interleave, swizzle,
                         promotion, fill);
}

int cuGetErrorString(int status, const char **to) {
  static char text[600];
  const char *said = status == NO_DEVICE  ? "no CUDA-capable device is detected"
                     : status == NO_BINARY ? "no kernel image is available for execution on the device"
                     : status == FAULT     ? stand_in_message
                     : status == NO_MEMORY ? "out of memory"
                                           : NULL;
  if (said)
    snprintf(text, sizeof text, "%s", said);
  else
    snprintf(text, sizeof text, "status %d of the stand-in", status);
  return *to = text, OK;
}
int cuGetErrorName(int status, const char **to) { return *to = "STAND_IN", OK; }
