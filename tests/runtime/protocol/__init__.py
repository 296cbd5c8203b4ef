"""The pool's emitted code, run in every order that its threads may take.

`code` reads the LLVM IR, `threads` runs one thread up to what others see, `machine` runs several on
one memory with the stores that wait in x86 and ARM processors, `explore` visits every state.
"""
