"""How compiled kernels are put together: each is lowered once, and everything an entry needs is optimised once.

numba optimises and emits every function it compiles, and again in each of its callers. Our kernels form one deep tree
under few entries, so that costs more than all else. Here a kernel that another kernel calls is typed and lowered only;
LLVM inlines, drops and optimises when the entry is finished, knowing that nobody else will ever call what is inside.
Operators of the same types are resolved once. Decides nothing about what a kernel computes.

Built on numba's compiler and library classes, which it does not promise to keep: pyproject.toml bounds its version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from llvmlite import binding
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.typing.context import Context


class _PlainLibrary(JITCodeLibrary):
    """Code as it was lowered: function passes are left to the entry."""

    def add_llvm_module(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout
        self._final_module.link_in(module)


class _InnerLibrary(_PlainLibrary):
    """Code that only becomes part of entries: not linked with what it calls, not optimised, not emitted."""

    @property
    def codegen(self) -> Any:
        return self

    def set_env(self, name: str, env: object) -> None:
        """No machine code is there yet to be given its environment; kernels without Python objects need none."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"
        self._finalize_dynamic_globals()
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        self._ensure_finalized()
        return self._final_module

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0


class _EntryLibrary(_PlainLibrary):
    """An entry and every kernel under it: one module, optimised as a whole."""

    def finalize(self) -> None:
        self._linking_libraries = list(_everything_under(self))
        super().finalize()

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == binding.Linkage.linkonce_odr:
                function.linkage = "internal"  # nobody else calls it: it may vanish into its caller, or lose arguments
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


def _everything_under(library: JITCodeLibrary) -> dict[JITCodeLibrary, None]:
    """What a library calls, directly or not, once each. A library of numba's own holds what it calls already."""
    found: dict[JITCodeLibrary, None] = {}
    waiting = [library]
    while waiting:
        for called in waiting.pop()._linking_libraries:
            if called not in found:
                found[called] = None
                if isinstance(called, _InnerLibrary):
                    waiting.append(called)
    return found


class _RememberingContext(Context):
    """numba's typing context that resolves a built-in function or operator once for each choice of argument types.

    Literals count as their type (`a + 1` is `a + b`) wherever numba itself would try that first."""

    known: ClassVar[dict[Any, Any]] = {}

    @classmethod
    def around(cls, context: Context) -> _RememberingContext:
        """The same context, all its state shared, with a memory."""
        remembering: _RememberingContext = object.__new__(cls)
        remembering.__dict__ = context.__dict__
        return remembering

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        function = func if isinstance(func, types.Type) else self._lookup_global(func)
        if type(function) is not types.Function or kws:
            return super().resolve_function_type(func, args, kws)
        if not any(template.prefer_literal for template in function.templates):
            args = tuple(types.unliteral(argument) for argument in args)
        key = (function, tuple(args))
        if key not in self.known:
            self.known[key] = super().resolve_function_type(func, args, kws)
        return self.known[key]


class Watch:
    """Who is told of each kernel compiled: `finished` is called once for each."""

    finished: ClassVar[Callable[[], None]] = staticmethod(lambda: None)


class EntryCompiler(Compiler):
    """numba's pipeline for a kernel that Python calls."""

    library: type[_PlainLibrary] = _EntryLibrary

    def __init__(self, typingctx: Context, *rest: Any) -> None:
        super().__init__(_RememberingContext.around(typingctx), *rest)

    def compile_extra(self, func: Any) -> Any:
        self.state.library = self.library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        result = super().compile_extra(func)
        Watch.finished()
        return result


class InnerCompiler(EntryCompiler):
    """numba's pipeline for a kernel on its way into an entry."""

    library = _InnerLibrary


def call_from_kernels(entry: Any, make_inner: Callable[[], Any]) -> None:
    """Let kernels that call `entry` get its inner twin, made when first called so: a warm start needs none.

    It is typed without literals: `f(0)` and `f(1)` are one function."""
    made: list[Any] = []

    def inner() -> Any:
        if not made:
            made.append(make_inner())
            fold = made[0]._compiler.fold_argument_types

            def folded(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
                signature, given = fold(arguments, keywords)
                return signature, tuple(types.unliteral(argument) for argument in given)

            made[0]._compiler.fold_argument_types = folded
        return made[0]

    entry.get_call_template = lambda arguments, keywords: inner().get_call_template(arguments, keywords)
    entry.get_overload = lambda signature: inner().get_overload(signature)
