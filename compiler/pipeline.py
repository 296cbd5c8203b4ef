"""The order of the passes, and why each stands where it stands. Order is written nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from dlc.compiler.levels import FUSED, LOOPS, MODULE, PROGRAM, Compiled
from dlc.compiler.llvm.codegen import Begun, begin_code
from dlc.compiler.llvm.program import Begin, Functions
from dlc.compiler.llvm.target import Target, emit_assembly
from dlc.compiler.llvm.target import target as find_target
from dlc.compiler.options import GPU, Options, check_precision
from dlc.compiler.passes.apply_schedules import apply_schedules
from dlc.compiler.passes.chain_products import chain_products
from dlc.compiler.passes.choose_layouts import choose_layouts
from dlc.compiler.passes.choose_schedules import choose_schedules
from dlc.compiler.passes.decompose import decompose
from dlc.compiler.passes.differentiate import differentiate
from dlc.compiler.passes.eliminate_common import eliminate_common
from dlc.compiler.passes.eliminate_dead import eliminate_dead
from dlc.compiler.passes.emit import emit
from dlc.compiler.passes.fold_constants import fold_constants
from dlc.compiler.passes.fuse import fuse
from dlc.compiler.passes.fuse_updates import fuse_updates
from dlc.compiler.passes.gather_products import gather_products
from dlc.compiler.passes.hoist_from_loops import hoist_from_loops
from dlc.compiler.passes.inline import inline_structure
from dlc.compiler.passes.interchange_loops import interchange_loops
from dlc.compiler.passes.lower import lower
from dlc.compiler.passes.lower_precision import lower_precision
from dlc.compiler.passes.name_sizes import name_sizes
from dlc.compiler.passes.order_steps import order_steps
from dlc.compiler.passes.pack_inputs import pack_inputs
from dlc.compiler.passes.pack_operands import pack_operands
from dlc.compiler.passes.plan_memory import plan_memory
from dlc.compiler.passes.rematerialise import rematerialise
from dlc.compiler.passes.reuse_operands import reuse_operands
from dlc.compiler.passes.simplify import simplify
from dlc.compiler.passes.sink_constants import sink_constants
from dlc.compiler.passes.split_reductions import split_reductions
from dlc.compiler.passes.turn_operands import turn_operands
from dlc.compiler.runner import GRAPH, Observer, Pass, Step, run_passes
from dlc.ir.diagnostics import Diagnostic, UserError
from dlc.ir.graph import Graph
from dlc.ir.program import Program
from dlc.ir.types import F32


def graph_passes(options: Options) -> tuple[Pass, ...]:
    """From the program as it was checked to the one that is fused."""
    return (
        Pass("name_sizes", name_sizes, GRAPH, GRAPH,
             "before any pass that makes indices: a size of the user's may be called as one"),
        Pass("inline", inline_structure, GRAPH, GRAPH,
             "first: what is called many times is seen in its place; optimizers stay calls"),
        Pass("hoist_from_loops", hoist_from_loops, GRAPH, GRAPH,
             "before differentiate: what stands outside of a loop has its gradient outside too"),
        Pass("gather_products", partial(gather_products, options=options), GRAPH, GRAPH,
             "before differentiate: gradients are of the small product too"),
        Pass("differentiate", differentiate, GRAPH, GRAPH,
             "before all that asks who reads a value: gradients read most of them again"),
        Pass("eliminate_dead", eliminate_dead, GRAPH, GRAPH,
             "gradients that nobody asked for (of data, of labels) cost no more visits"),
        Pass("decompose", decompose, GRAPH, GRAPH,
             "after differentiate: such an op has a better gradient than its parts"),
        Pass("sink_constants", sink_constants, GRAPH, GRAPH,
             "after differentiate, whose bodies capture constants; in bodies they fold"),
        Pass("fold_constants", fold_constants, GRAPH, GRAPH,
             "rules of simplify look for numbers"),
        Pass("simplify", simplify, GRAPH, GRAPH,
             "after differentiate, which needs stop_gradient and makes factors and sums of one"),
        Pass("eliminate_common", eliminate_common, GRAPH, GRAPH,
             "after simplify: more is equal in normal form"),
        Pass("lower_precision", partial(lower_precision, options=options), GRAPH, GRAPH,
             "after simplify, which may drop products; rounded weights leave the loops next"),
        Pass("hoist_from_loops", hoist_from_loops, GRAPH, GRAPH,
             "again, for loops that differentiate made; few products read moved weights now"),
        Pass("turn_operands", partial(turn_operands, options=options), GRAPH, GRAPH,
             "after the last that moves operands of products out of loops, or folds transposes"),
        Pass("eliminate_dead", eliminate_dead, GRAPH, GRAPH,
             "what simplify left without readers would be fused and computed"),
    )


GRAPH_PASSES: Final = graph_passes(Options())


def passes(options: Options, begin: Begin | None = None) -> tuple[Pass, ...]:
    """All passes, from a Graph to a module of LLVM IR, or of CUDA C.

    `begin` is told parts of a large module of LLVM IR as soon as they are there, while the loops of
    other kernels are made: then the time of `emit` is that of `apply_schedules`.
    """
    functions = None if begin is None else Functions(_target(options), begin, options.once)
    own = _for_gpu(options) if options.is_gpu else _for_cpu(options, functions)
    return (
        *graph_passes(options),
        Pass("rematerialise", partial(rematerialise, options=options), GRAPH, GRAPH,
             "after the last pass that would merge a copy with what it is of"),
        Pass("chain_products", partial(chain_products, options=options), GRAPH, GRAPH,
             "after rematerialise: these copies are no matter of what is kept"),
        Pass("eliminate_dead", eliminate_dead, GRAPH, GRAPH,
             "what is computed again where it is read may have no reader left"),
        Pass("split_reductions", partial(split_reductions, options=options), GRAPH, GRAPH,
             "after simplify, which would merge the parts again"),
        Pass("pack_inputs", partial(pack_inputs, options=options), GRAPH, GRAPH,
             "before fuse: a copy may become part of what makes the input"),
        Pass("fuse", partial(fuse, options=options), GRAPH, FUSED,
             "decides what lies in memory"),
        *own.layouts,
        Pass("lower", partial(lower, options=options), FUSED, PROGRAM,
             "kernels and launches; from here on order is fixed"),
        Pass("order_steps", partial(order_steps, options=options), PROGRAM, PROGRAM,
             "before all that asks when memory is last read"),
        Pass("reuse_operands", reuse_operands, PROGRAM, PROGRAM,
             "after order_steps, which decides where a value dies; before kernels are scheduled"),
        *own.schedules,
        Pass("fuse_updates", fuse_updates, PROGRAM, PROGRAM,
             "after schedules, which decide how a gradient is made; its memory is gone"),
        *own.launches,
        Pass("plan_memory", partial(plan_memory, options=options), PROGRAM, PROGRAM,
             "after lower: lifetimes are counted in launches"),
        Pass("apply_schedules", own.apply, PROGRAM, LOOPS,
             "the same for every target"),
        *own.code,
    )


class _Own(NamedTuple):
    """The passes that are a target's own, by the place where they stand."""

    layouts: tuple[Pass, ...]
    schedules: tuple[Pass, ...]
    launches: tuple[Pass, ...]
    apply: Callable[[Program], Program]
    code: tuple[Pass, ...]


def _for_cpu(options: Options, functions: Functions | None) -> _Own:
    """Layouts, schedules and code of a CPU."""
    apply = apply_schedules if functions is None else partial(apply_schedules, made=functions.add)
    return _Own(
        (Pass("choose_layouts", partial(choose_layouts, options=options), FUSED, FUSED,
              "after fuse: only what lies in memory has a layout"),),
        (Pass("choose_schedules", partial(choose_schedules, options=options), PROGRAM, PROGRAM,
              "after choose_layouts, whose strides decide which index is the vector's"),
         Pass("pack_operands", partial(pack_operands, options=options), PROGRAM, PROGRAM,
              "after choose_schedules, which says what a kernel costs without copies"),),
        (Pass("interchange_loops", partial(interchange_loops, options=options), PROGRAM, PROGRAM,
              "after fuse_updates, the last to change launches; memory is planned for threads that "
              "are at different steps"),),
        apply,
        (Pass("emit", partial(emit, options=options, functions=functions), LOOPS, MODULE,
              "last: prints what was decided"),),
    )


def _for_gpu(options: Options) -> _Own:
    """Schedules and code of a GPU, where all values are in row-major order."""
    from dlc.compiler.passes.choose_gpu_schedules import choose_gpu_schedules
    from dlc.compiler.passes.emit_cuda import emit_cuda
    from dlc.compiler.passes.join_copies import join_copies
    from dlc.compiler.passes.keep_resident import keep_resident
    from dlc.compiler.passes.launch_together import launch_together

    return _Own(
        (),
        (Pass("join_copies", join_copies, PROGRAM, PROGRAM,
              "after order_steps, which says what is between a copy and a kernel before it"),
         Pass("choose_gpu_schedules", partial(choose_gpu_schedules, options=options), PROGRAM,
              PROGRAM, "after reuse_operands: what launches share decides what is aligned"),),
        (Pass("launch_together", partial(launch_together, options=options), PROGRAM, PROGRAM,
              "after fuse_updates, the last to change launches; memory is planned for them so"),
         Pass("keep_resident", partial(keep_resident, options=options), PROGRAM, PROGRAM,
              "after launch_together: what is beside each other need not meet"),),
        apply_schedules,
        (Pass("emit_cuda", partial(emit_cuda, options=options), LOOPS, MODULE,
              "last: prints what was decided"),),
    )


STAGES: Final = {"graph": "", "fused": "choose_layouts", "kernels": "pack_operands",
                 "memory": "apply_schedules", "loops": "apply_schedules", "llvm": "emit",
                 "cuda": "emit_cuda"}
DEFAULT_GPU: Final = "cuda:sm_80"


def compile_graph(graph: Graph, options: Options | None = None) -> tuple[bytes, dict[str, object]]:
    """The object code of a function, and the manifest that says how it is called."""
    return begin_graph(graph, options)()


def compile_cuda(graph: Graph, options: Options) -> Compiled:
    """The CUDA C of a function, for a target as in `cuda:sm_80`, and the manifest that says what to
    launch."""
    return _run(graph, _for_target(options), None)


def compile_cuda_told(graph: Graph, options: Options) -> tuple[Compiled, Program]:
    """As `compile_cuda`; and the program that its launches are of."""
    steps: list[Step] = []
    module = _run(graph, _for_target(options), steps.append)
    program = steps[-1].before
    assert isinstance(program, Program)
    return module, program


def begin_graph(
    graph: Graph, options: Options | None = None
) -> Callable[[], tuple[bytes, dict[str, object]]]:
    """As `compile_graph`, up to the work of LLVM, which goes on in threads; what is returned waits
    for it."""
    options = _for_target(options or Options())
    begun = Begun(_target(options))
    module = _run(graph, options, None, begun.begin)
    wait = begin_code(module, _target(options), None, begun)
    return lambda: (wait(), module.manifest)


def compile_timed(
    graph: Graph, options: Options | None = None
) -> tuple[bytes, dict[str, object], Program]:
    """As `compile_graph`, of code that takes the time of its launches (see `llvm/timed.py`); and
    the program that these launches are of."""
    options = replace(_for_target(options or Options()), timed=True)
    steps: list[Step] = []
    module = _run(graph, options, steps.append)
    program = steps[-1].before
    assert isinstance(program, Program)
    return begin_code(module, _target(options))(), module.manifest, program


def compile_told(
    graph: Graph, options: Options, told: Callable[[str, str, float], None]
) -> tuple[bytes, dict[str, object]]:
    """As `compile_graph`; tells the seconds of each pass, of verifying, and of what LLVM does.

    `told` is given a group (`pass`, `verify` or `LLVM`), a name, and the seconds.
    """
    options = _for_target(options)

    def observe(step: Step) -> None:
        told("pass", step.name, step.seconds)
        if step.verify_seconds:
            told("verify", f"after {step.name}", step.verify_seconds)

    module = _run(graph, options, observe)
    code = begin_code(module, _target(options), partial(told, "LLVM"))()
    return code, module.manifest


def dump_graph(graph: Graph, stage: str, options: Options | None = None) -> str:
    """The text of a stage (one of `STAGES`, `asm` or `cubin`), or of what the pass of that name
    gives. The stages of a GPU are those of a common one, if the options have none.

    UserError for a name that is neither.
    """
    options = options or Options()
    if stage in ("cuda", "cubin") and not options.is_gpu:
        options = replace(options, target=DEFAULT_GPU)
    options = _for_target(options)
    if stage == "graph":
        return GRAPH.text(graph)
    if stage == "cubin":
        from dlc.compiler.cuda.nvrtc import told_resources

        return told_resources(_run(graph, options, None).text, options.target.removeprefix(GPU))
    if stage == "asm" and not options.is_gpu:
        return emit_assembly(_run(graph, options, None).text, _target(options))
    stages = STAGES | ({"kernels": "choose_gpu_schedules"} if options.is_gpu else {})
    wanted = stages.get(stage, stage)
    names = [p.name for p in passes(options)]
    if wanted not in names:
        known = f"stages are {', '.join(STAGES)}, asm, cubin; passes are {', '.join(names)}"
        raise UserError((Diagnostic(
            "bad-setting", f"there is no stage or pass called {stage}", help=known),))
    last = len(names) - 1 - names[::-1].index(wanted)
    steps: list[Step] = []
    run_passes(passes(options)[:last + 1], graph, observer=steps.append)
    made = steps[-1].after
    if stage == "memory":
        from dlc.compiler.footprint import report
        from dlc.compiler.traffic import told, traffic

        program, sizes = _with_sizes(made, options)
        return f"{report(program, sizes)}\n{told(traffic(program, sizes))}\n"
    return steps[-1].level.text(made)


def plan(graph: Graph, options: Options) -> tuple[Program, dict[str, int]]:
    """The program with its memory planned and its loops made, and the likely sizes of symbols."""
    options = _for_target(options)
    steps: list[Step] = []
    run_passes(passes(options)[:-1], graph, observer=steps.append)
    return _with_sizes(steps[-1].after, options)


def _with_sizes(made: object, options: Options) -> tuple[Program, dict[str, int]]:
    assert isinstance(made, Program)
    return made, {name: options.hint(name) for name in made.symbols}


def dump_all(graph: Graph, options: Options | None = None) -> Iterator[tuple[str, str]]:
    """Every pass in order with the program after it, and the assembly at the end."""
    options = _for_target(options or Options())
    steps: list[Step] = []
    yield "graph", GRAPH.text(graph)
    module = _run(graph, options, steps.append)
    for step in steps:
        yield step.name, step.text()
    if not options.is_gpu:
        yield "asm", emit_assembly(module.text, _target(options))


def _run(
    graph: Graph, options: Options, observer: Observer | None, begin: Begin | None = None
) -> Compiled:
    verify = "each" if options.verify else "ends"
    module = run_passes(passes(options, begin), graph, verify=verify, observer=observer)  # type: ignore[arg-type]
    assert isinstance(module, Compiled)
    return module


def _target(options: Options) -> Target:
    return find_target(options.target, options.features)


def _for_target(options: Options) -> Options:
    """Options with the lanes and registers of their target; a warp has the lanes of a GPU."""
    check_precision(options.precision, options.is_gpu)
    if options.is_gpu:
        from dlc.compiler.loops.threads import WARP

        return replace(options, lanes=WARP, registers=255)
    target = _target(options)
    return replace(options, lanes=target.lanes(F32), registers=target.registers)
