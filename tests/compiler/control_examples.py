"""Functions with loops and branches, as text: each shows something that lowering must get right."""

from __future__ import annotations

EXAMPLES = {
    "a cell with a product": """
graph cell(%h: f32[N, 5], %x: f32[N, 3], %w: f32[3, 5], %u: f32[5, 5]) -> (f32[N, 5], f32[N, 5]) {
  %p = contract %x, %w {indices = ["n", "k", "c"], extents = [N, 3, 5], maps = [[n, k], [k, c]], out = [n, c], dims = [N, 5]} : f32[N, 5]
  %q = contract %h, %u {indices = ["n", "k", "c"], extents = [N, 5, 5], maps = [[n, k], [k, c]], out = [n, c], dims = [N, 5]} : f32[N, 5]
  %s = add %p, %q : f32[N, 5]
  %t = tanh %s : f32[N, 5]
  return %t, %s
}
graph f(%xs: f32[T, N, 3], %w: f32[3, 5], %u: f32[5, 5]) -> (f32[N, 5], f32[T, N, 5]) {
  %zero = constant {dtype = f32, value = 0.0} : f32
  %h = broadcast %zero {dims = [N, 5], axes = []} : f32[N, 5]
  %last, %all = scan %h, %xs, %w, %u with cell {carried = 1, items = 1, length = T, reverse = REVERSE} : f32[N, 5], f32[T, N, 5]
  return %last, %all
}
""",
    "carries of many types": """
graph body(%a: f64[2], %b: bool, %c: i32, %d: u8[3], %e: f16[2], %x: i32, %k: i32) -> (f64[2], bool, i32, u8[3], f16[2], i32, bool) {
  %f = cast %x {to = f64} : f64
  %g = broadcast %f {dims = [2], axes = []} : f64[2]
  %a2 = add %a, %g : f64[2]
  %b2 = lt %x, %k : bool
  %c2 = add %c, %x : i32
  %u = cast %x {to = u8} : u8
  %v = broadcast %u {dims = [3], axes = []} : u8[3]
  %d2 = add %d, %v : u8[3]
  %a1 = cast %a {to = f32} : f32[2]
  %e1 = cast %a1 {to = f16} : f16[2]
  %e2 = add %e, %e1 : f16[2]
  return %a2, %b2, %c2, %d2, %e2, %c, %b
}
graph f(%a: f64[2], %b: bool, %c: i32, %d: u8[3], %e: f16[2], %xs: i32[T], %k: i32) -> (f64[2], bool, i32, u8[3], f16[2], i32[T], bool[T]) {
  %r:7 = scan
}
""".replace("%r:7 = scan", """%r1, %r2, %r3, %r4, %r5, %r6, %r7 = scan %a, %b, %c, %d, %e, %xs, %k with body {carried = 5, items = 1, length = T, reverse = REVERSE} : f64[2], bool, i32, u8[3], f16[2], i32[T], bool[T]
  return %r1, %r2, %r3, %r4, %r5, %r6, %r7"""),
    "swapped and unchanged carries": """
graph body(%a: f32[4], %b: f32[4], %c: f32[4], %x: f32[4]) -> (f32[4], f32[4], f32[4], f32[4], f32[4], f32[4]) {
  return %b, %a, %c, %x, %x, %b
}
graph f(%a: f32[4], %b: f32[4], %c: f32[4], %xs: f32[T, 4]) -> (f32[4], f32[4], f32[4], f32[T, 4], f32[T, 4], f32[T, 4]) {
  %d, %e, %g, %h, %i, %j = scan %a, %b, %c, %xs with body {carried = 3, items = 1, length = T, reverse = REVERSE} : f32[4], f32[4], f32[4], f32[T, 4], f32[T, 4], f32[T, 4]
  return %d, %e, %g, %h, %i, %j
}
""",
    "one value for all": """
graph body(%a: f32[2, 3], %b: f32[2, 3], %x: f32[3]) -> (f32[2, 3], f32[2, 3], f32[2, 3], f32[6], f32[2, 3]) {
  %y = broadcast %x {dims = [2, 3], axes = [1]} : f32[2, 3]
  %s = add %a, %y : f32[2, 3]
  %flat = reshape %s {dims = [6]} : f32[6]
  %one = constant {dtype = f32, value = 1.0} : f32
  %ones = broadcast %one {dims = [2, 3], axes = []} : f32[2, 3]
  return %s, %s, %s, %flat, %ones
}
graph f(%a: f32[2, 3], %xs: f32[T, 3]) -> (f32[2, 3], f32[2, 3], f32[T, 2, 3], f32[T, 6], f32[T, 2, 3], f32[2, 3]) {
  %d, %e, %g, %h, %i = scan %a, %a, %xs with body {carried = 2, items = 1, length = T, reverse = REVERSE} : f32[2, 3], f32[2, 3], f32[T, 2, 3], f32[T, 6], f32[T, 2, 3]
  return %d, %e, %g, %h, %i, %d
}
""",
    "items that are views and results": """
graph twice(%h: f32[3], %x: f32[3]) -> (f32[3], f32[3]) {
  %s = add %h, %x : f32[3]
  return %s, %s
}
graph f(%xs: f32[3*T], %h: f32[3]) -> (f32[3], f32[T, 3], f32[3*T], f32[3, T]) {
  %rows = reshape %xs {dims = [T, 3]} : f32[T, 3]
  %a, %as = scan %h, %rows with twice {carried = 1, items = 1, length = T, reverse = REVERSE} : f32[3], f32[T, 3]
  %b, %bs = scan %a, %as with twice {carried = 1, items = 1, length = T, reverse = false} : f32[3], f32[T, 3]
  %flat = reshape %bs {dims = [3*T]} : f32[3*T]
  %turned = transpose %bs {order = [1, 0]} : f32[3, T]
  return %b, %as, %flat, %turned
}
""",
    "a loop in a loop": """
graph inner(%h: f32[3], %x: f32, %k: f32[3]) -> (f32[3], f32[3]) {
  %y = broadcast %x {dims = [3], axes = []} : f32[3]
  %m = mul %h, %k : f32[3]
  %s = add %m, %y : f32[3]
  return %s, %h
}
graph outer(%h: f32[3], %row: f32[N], %k: f32[3]) -> (f32[3], f32[N, 3], f32[3]) {
  %a, %b = scan %h, %row, %k with inner {carried = 1, items = 1, length = N, reverse = REVERSE} : f32[3], f32[N, 3]
  %c, %d = scan %a, %row, %a with inner {carried = 1, items = 1, length = N, reverse = false} : f32[3], f32[N, 3]
  %e = add %a, %c : f32[3]
  return %e, %b, %c
}
graph f(%x: f32[T, N], %k: f32[3]) -> (f32[3], f32[T, N, 3], f32[T, 3]) {
  %zero = constant {dtype = f32, value = 0.5} : f32
  %h = broadcast %zero {dims = [3], axes = []} : f32[3]
  %a, %b, %c = scan %h, %x, %k with outer {carried = 1, items = 1, length = T, reverse = REVERSE} : f32[3], f32[T, N, 3], f32[T, 3]
  return %a, %b, %c
}
""",
    "a loop as long as its numbers say": """
graph test(%n: i32, %sum: f32, %limit: f32) -> (bool) {
  %more = lt %sum, %limit : bool
  return %more
}
graph body(%n: i32, %sum: f32, %limit: f32) -> (i32, f32) {
  %one = constant {dtype = i32, value = 1} : i32
  %m = add %n, %one : i32
  %half = constant {dtype = f32, value = 1.5} : f32
  %next = add %sum, %half : f32
  return %m, %next
}
graph turn(%count: i32, %x: f32, %limit: f32) -> (i32, f32) {
  %n, %sum = while %count, %x, %limit with test, body {carried = 2} : i32, f32
  return %n, %sum
}
graph f(%xs: f32[T], %limit: f32) -> (i32, f32[T], i32, f32) {
  %zero = constant {dtype = i32, value = 0} : i32
  %two = constant {dtype = f32, value = 2.0} : f32
  %a, %b = while %zero, %two, %limit with test, body {carried = 2} : i32, f32
  %n, %ys = scan %zero, %xs, %limit with turn {carried = 1, items = 1, length = T, reverse = REVERSE} : i32, f32[T]
  return %n, %ys, %a, %b
}
""",
    "branches in a loop": """
graph up(%x: f32[4], %h: f32[4]) -> (f32[4], f32[4], f32[4]) {
  %s = add %x, %h : f32[4]
  return %s, %x, %s
}
graph down(%x: f32[4], %h: f32[4]) -> (f32[4], f32[4], f32[4]) {
  %two = constant {dtype = f32, value = 2.0} : f32
  %twos = broadcast %two {dims = [4], axes = []} : f32[4]
  return %h, %h, %twos
}
graph turn(%h: f32[4], %x: f32[4], %limit: f32) -> (f32[4], f32[4], f32[4]) {
  %m = reduce_max %x {axes = [0]} : f32
  %fits = lt %m, %limit : bool
  %a, %b, %c = if %fits, %x, %h with up, down : f32[4], f32[4], f32[4]
  return %a, %b, %c
}
graph f(%h: f32[4], %xs: f32[T, 4], %limit: f32, %flag: bool) -> (f32[4], f32[T, 4], f32[T, 4], f32[4], f32[4]) {
  %a, %b, %c = scan %h, %xs, %limit with turn {carried = 1, items = 1, length = T, reverse = REVERSE} : f32[4], f32[T, 4], f32[T, 4]
  %d, %e, %g = if %flag, %h, %a with up, down : f32[4], f32[4], f32[4]
  return %a, %b, %c, %d, %g
}
""",
    "variables around a loop": """
graph body(%w: f32[3], %m: f32[3], %x: f32[3]) -> (f32[3], f32[3]) {
  %g = sub %w, %x : f32[3]
  %n = add %m, %g : f32[3]
  %v = sub %w, %n : f32[3]
  return %v, %n
}
graph sum(%s: f32[3], %x: f32[3], %w: f32[3]) -> (f32[3]) {
  %p = mul %x, %w : f32[3]
  %t = add %s, %p : f32[3]
  return %t
}
graph f(%xs: f32[T, 3], %w: f32[3] var, %m: f32[3] var, %c: f32[3] var, %d: f32[3] var) -> (f32[3], f32[3]) {
  %w1, %m1 = scan %w, %m, %xs with body {carried = 2, items = 1, length = T, reverse = REVERSE} : f32[3], f32[3]
  %c1 = add %c, %w1 : f32[3]
  %s = scan %c, %xs, %w with sum {carried = 1, items = 1, length = T, reverse = false} : f32[3]
  %d1 = scan %d, %xs, %c with sum {carried = 1, items = 1, length = T, reverse = false} : f32[3]
  return %s, %w
  update "w" = %w1
  update "m" = %m1
  update "c" = %c1
  update "d" = %d1
}
""",
    "sums over a batch in a loop": """
graph body(%h: f32[4], %x: f32[N, 4]) -> (f32[4], f32) {
  %s = contract %x {indices = ["n", "k"], extents = [N, 4], maps = [[n, k]], out = [k], dims = [4]} : f32[4]
  %t = add %h, %s : f32[4]
  %m = reduce_max %t {axes = [0]} : f32
  %p = softmax %t {axis = 0} : f32[4]
  return %p, %m
}
graph f(%x: f32[T, N, 4], %h: f32[4]) -> (f32[4], f32[T]) {
  %a, %b = scan %h, %x with body {carried = 1, items = 1, length = T, reverse = REVERSE} : f32[4], f32[T]
  return %a, %b
}
""",
}
