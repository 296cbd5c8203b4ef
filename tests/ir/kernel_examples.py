"""Kernels and schedules written by hand, as their printers print them."""

CONV = """\
kernel conv_squash<N>(x: f32[N, 1, 32, 32] in, w: f32[6, 1, 5, 5] in, b: f32[6] in,
    y: f32[N, 6, 28, 28] @ (0/16, 1, 2, 3, 0) out) {
  doc "a convolution with its epilogue"
  local a: f32
  outer n<N, o<6, v<28, u<28
  a = sum r<5, s<5: mul(x[n, 0, r + v, s + u], w[o, 0, r, s])
  y[n, o, v, u] = mul(1.7159: f32, tanh(mul(add(a, b[o]), 0.666667)))
}
"""

CONV_SCHEDULE = """\
schedule conv_squash for x86-64-v4 {
  order n, o, v, u
  parallel 2
  chunks min(64, N)
  vector u 16
  tiles o 6, v 2
  reduce r, s
  unroll s
  edge u mask, o clamp, v clamp
  cost 2100*N
}
"""

PRODUCT = """\
kernel product<M, N>(x: f32[M, 99] in, y: f32[99, N] in, z: f32[M, N] out) {
  local a: f32
  outer i<M, j<N
  a = sum k<99: mul(x[i, k], y[k, j])
  z[i, j] = a
}
"""

PRODUCT_SCHEDULE = """\
schedule product for x86-64-v4 {
  order j, i
  parallel 2
  vector j 16
  tiles i 6, j 4
  reduce k
  block 48
  blocks 3
  panel y 112
  edge j mask, i clamp
  fetch z
}
"""

CONV_BACK = """\
kernel conv_back<N>(g: f32[N, 6, 14, 14] in, w: f32[6, 3, 3, 3] in, x: f32[N, 3, 28, 28] out) {
  local a: f32
  outer n<N, c<3, v<28, u<28
  a = sum o<6, v // 2 <= p < min((v // 2) + 1, 14), q<14 where -2*q + u >= 0, 2*q - u + 2 >= 0:
      mul(g[n, o, p, q], w[o, c, -2*p + v, -2*q + u])
  x[n, c, v, u] = a
}
"""

ATTENTION = """\
kernel attention<N, T>(q: f32[N, 12, T, 32] in, k: f32[N, 12, T, 32] in, v: f32[N, 12, T, 32] in,
    keep: bool[N, T] in, y: f32[N, T, 12, 32] out, lse: f32[N, 12, T] out) {
  local s: f32, m: f32, l: f32, a: f32[32], top: f32, scale: f32, p: f32
  outer n<N, h<12, i<T
  m = -inf
  l = 0.0
  a[e] = over e<32: 0.0
  seq j<T carry m, l, a {
    s = sum d<32: mul(q[n, h, i, d], k[n, h, j, d])
    s = select(keep[n, j], mul(s, 0.176777), -inf)
    top = maximum(m, s)
    scale = exp(sub(m, top))
    p = exp(sub(s, top))
    l = fma(l, scale, p)
    a[e] = over e<32: fma(p, v[n, h, j, e], mul(a[e], scale))
    m = top
  }
  y[n, i, h, e] = over e<32: div(a[e], l)
  lse[n, h, i] = add(m, log(l))
}
"""

GATHER = """\
kernel embed<N, V>(ids: i32[N] in, table: f32[V, 64] in, y: f32[N, 64] out) {
  outer n<N, d<64
  y[n, d] = table[ids[n], d]
}
"""

CSR = """\
kernel spmv<C, R, Z>(ptr: i32[R + 1] in, col: i32[Z] in, value: f32[Z] in, x: f32[C] in,
    y: f32[R] out) {
  local a: f32
  outer r<R
  a = sum ptr[r] <= p < ptr[r + 1]: mul(value[p], x[col[p]])
  y[r] = a
}
"""

UPDATE = """\
kernel conv_dw_momentum<N>(gy: f32[N, 6, 28] in, x: f32[N, 32] in, w: f32[6, 5] inout,
    m: f32[6, 5] inout, rate: f32 in) {
  local g: f32
  outer o<6, r<5
  g = sum n<N, v<28: mul(gy[n, o, v], x[n, r + v])
  m[o, r] = {
    speed = fma(m[o, r], 0.9, g)
    speed
  }
  w[o, r] = sub(w[o, r], mul(speed, rate))
}
"""

ODDS = """\
kernel odds<N>(x: u8[N, 30] in, z: f32[9, N] inout, best: i32[N] out, y: f64[N] out,
    sorted: u8[N, 30] out) {
  local acc: f32, wide: f64
  outer n<N
  best[n] = argmax k<30: x[n, k]
  acc = tree sum c<9: z[c, n]
  wide = sum k<30 {
    t0 = cast(x[n, k - 1] else 3, to = f64)
    mul(t0, t0)
  }
  y[n] = where N - n - 2 >= 0: add(select(ge((-n + 5): i64, 0), wide, -0.0), cast(acc, to = f64))
  opaque {
    "for i = 0 to 30 {"
    "  \\"quoted\\""
    "}"
  }
  seq j<30 reverse {
    sorted[n, j] = x[n, j]
  }
}
"""

KERNELS = {"conv": CONV, "conv_back": CONV_BACK, "attention": ATTENTION, "gather": GATHER,
           "csr": CSR, "update": UPDATE, "odds": ODDS}
