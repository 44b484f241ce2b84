"""Named tuples of arrays, passed between compiled kernels by reference.

numba passes a named tuple by value: a fleet of sixteen arrays is over a hundred arguments to every call, which costs
compilation and the calls dearly. Here a kernel gets the address of one structure, filled where Python calls in and
never written again; what is read from it is marked so, for LLVM to read it once. Kernels and interpreted runs notice
nothing. Must not be used for tuples that a kernel makes, unpacks or indexes: attributes only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.typing.templates import AttributeTemplate
from numba.core.typing.typeof import typeof, typeof_impl
from numba.extending import NativeValue, infer_getattr, lower_getattr_generic, register_model, unbox

_known: set[type] = set()


class Bundle(types.Type):
    """The type of a reference to a named tuple whose members have these types."""

    def __init__(self, named_tuple: Any, members: tuple[Any, ...]) -> None:
        self.fields: tuple[str, ...] = named_tuple._fields
        self.members = members
        self.by_value = types.NamedTuple(members, named_tuple)
        super().__init__(name=f"Bundle({self.by_value.name})")

    @property
    def mangling_args(self) -> tuple[str, tuple[()]]:
        """A short name for symbols, different where any member's type is."""
        return f"Bundle{hashlib.sha256(self.name.encode()).hexdigest()[:16]}", ()


@register_model(Bundle)
class _BundleModel(PrimitiveModel):
    def __init__(self, manager: Any, bundle: Bundle) -> None:
        super().__init__(manager, bundle, manager[bundle.by_value].get_value_type().as_pointer())


@unbox(Bundle)
def _unbox_bundle(bundle: Bundle, value: Any, context: Any) -> NativeValue:
    """Read Python's named tuple into a structure that lives as long as the call."""
    native = context.unbox(bundle.by_value, value)
    address = cgutils.alloca_once_value(context.builder, native.value)
    return NativeValue(address, cleanup=native.cleanup, is_error=native.is_error)


@infer_getattr
class _BundleAttribute(AttributeTemplate):
    key = Bundle

    def generic_resolve(self, bundle: Bundle, attribute: str) -> Any:
        return bundle.members[bundle.fields.index(attribute)] if attribute in bundle.fields else None


@lower_getattr_generic(Bundle)
def _read_member(context: Any, builder: Any, bundle: Bundle, address: Any, attribute: str) -> Any:
    index = bundle.fields.index(attribute)
    kind = context.get_value_type(bundle.members[index])
    return _read(builder, cgutils.gep_inbounds(builder, address, 0, index), kind)


def _read(builder: Any, address: Any, kind: Any) -> Any:
    """Load a value part by part: LLVM then drops the parts that nobody uses, and keeps the others over every store."""
    if isinstance(kind, ir.LiteralStructType | ir.ArrayType):
        parts = kind.elements if isinstance(kind, ir.LiteralStructType) else [kind.element] * kind.count
        whole = ir.Constant(kind, ir.Undefined)
        for index, part in enumerate(parts):
            value = _read(builder, cgutils.gep_inbounds(builder, address, 0, index), part)
            whole = builder.insert_value(whole, value, index)
        return whole
    value = builder.load(address)
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


def pass_by_reference(function: Callable[..., Any]) -> None:
    """Pass the named tuples among a kernel's parameters by reference, in every kernel."""
    for annotation in function.__annotations__.values():
        kind = function.__globals__.get(annotation, annotation) if isinstance(annotation, str) else annotation
        if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields") and kind not in _known:
            _known.add(kind)
            typeof_impl.register(kind)(_bundle_of)


def _bundle_of(value: Any, context: Any) -> Bundle:
    return Bundle(type(value), tuple(typeof(member, context.purpose) for member in value))
