"""The messages of a Chakra execution trace, and files of them: the door to protobuf.

Names, numbers and types of fields are those of version 1.0.0 of MLCommons Chakra (github.com/mlcommons/chakra,
schema/protobuf/et_def.proto), of which we have what we write or read; protobuf keeps other fields apart. A file has one
GlobalMetadata and then its nodes, each after its length as a varint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torussim.errors import FileError

VERSION = "1.0.0"
TYPES = ("INVALID_NODE", "METADATA_NODE", "MEM_LOAD_NODE", "MEM_STORE_NODE", "COMP_NODE", "COMM_SEND_NODE", "COMM_RECV_NODE",
         "COMM_COLL_NODE")
COLLECTIVES = ("ALL_REDUCE", "REDUCE", "ALL_GATHER", "GATHER", "SCATTER", "BROADCAST", "ALL_TO_ALL", "REDUCE_SCATTER",
               "REDUCE_SCATTER_BLOCK", "BARRIER")
MAX_NODES = 200_000  # of one file
_SCALARS = {"double": 3, "float": 5, "int32": 7, "int64": 9, "uint32": 11, "uint64": 13, "sint32": 15, "sint64": 17,
            "fixed32": 19, "fixed64": 21, "sfixed32": 23, "sfixed64": 25, "bool": 27, "string": 29,
            "bytes": 31}  # numbers of fields; of lists: one more


@dataclass(frozen=True)
class Node:
    """A node of a trace; times in whole microseconds. `attributes`: by name, of Python's types; lists of them as tuples."""

    id: int
    name: str
    type: str  # one of TYPES
    after: tuple[int, ...] = ()  # nodes that it depends on
    start_us: int = 0
    duration_us: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Typed:
    """The value of an attribute with the type that it has in the file: "int64", "uint64", "double", "bool_list", ..."""

    type: str
    value: Any


def check_library() -> None:
    """Raise FileError if protobuf is not installed."""
    try:
        import google.protobuf  # noqa: F401
    except ImportError:
        raise FileError("Chakra execution traces need protobuf: pip install 'torussim[chakra]'", code="missing-library") from None


def written(nodes: Iterable[Node], about: Mapping[str, Typed]) -> bytes:
    """Return a file of nodes, whose attributes are Typed."""
    types = _types()
    parts = [_delimited(types["GlobalMetadata"](version=VERSION, attr=[_attribute(types, *one) for one in about.items()]))]
    for node in nodes:
        made = types["Node"](id=node.id, name=node.name, type=TYPES.index(node.type), data_deps=node.after,
                             start_time_micros=node.start_us, duration_micros=node.duration_us)
        made.attr.extend(_attribute(types, *one) for one in node.attributes.items())
        parts.append(_delimited(made))
    return b"".join(parts)


def read(data: bytes) -> tuple[dict[str, Any], list[Node]]:
    """Return the attributes of a file's metadata and its nodes, in their order. Raise FileError if it is no Chakra trace."""
    check_library()
    types, nodes = _types(), list[Node]()
    messages = _messages(data)
    first = _parsed(types["GlobalMetadata"], next(messages, b""), "its first message is no GlobalMetadata")
    if not first.version and not first.attr:
        raise FileError("no Chakra execution trace: its first message has no version and no attributes", code="value")
    seen = set[int]()
    for message in messages:
        if len(nodes) == MAX_NODES:
            raise FileError(f"more than {MAX_NODES:,} nodes: give a trace of one step", code="limit")
        node = _parsed(types["Node"], message, f"message {len(nodes) + 2} is no node")
        if node.id in seen:
            raise FileError(f"two nodes have the number {node.id}", code="duplicate")
        seen.add(node.id)
        kind = TYPES[node.type] if node.type < len(TYPES) else TYPES[0]
        after = tuple(dict.fromkeys((*node.data_deps, *node.ctrl_deps)))
        nodes.append(Node(node.id, node.name, kind, after, node.start_time_micros, node.duration_micros, _values(node.attr)))
    if not nodes:
        raise FileError("a Chakra execution trace without nodes", code="value")
    return _values(first.attr), nodes


def _delimited(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    size, found = len(data), bytearray()
    while size > 127:
        found.append(size & 127 | 128)
        size >>= 7
    return bytes([*found, size]) + data


def _messages(data: bytes) -> Iterator[bytes]:
    """Yield the messages of a file. Raise FileError where one ends beyond the file."""
    at = 0
    while at < len(data):
        size = shift = 0
        while True:
            if at == len(data) or shift > 28:
                raise FileError("no Chakra execution trace: it has no length in front of each message", code="value")
            byte = data[at]
            size, shift, at = size | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                break
        if at + size > len(data):
            raise FileError("no Chakra execution trace, or one that was cut off: a message ends beyond the file", code="value")
        yield data[at:at + size]
        at += size


def _parsed(kind: Any, data: bytes, otherwise: str) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(data)
    except DecodeError:
        raise FileError(f"no Chakra execution trace: {otherwise}", code="value") from None


def _attribute(types: Mapping[str, Any], name: str, given: Typed) -> Any:
    if given.type.endswith("_list"):
        values = types[given.type.title().replace("_", "")](values=given.value)
        return types["AttributeProto"](name=name, **{given.type: values})
    return types["AttributeProto"](name=name, **{f"{given.type}_val": given.value})


def _values(attributes: Any) -> dict[str, Any]:
    found = dict[str, Any]()
    for attribute in attributes:
        which = attribute.WhichOneof("value")
        value: Any = getattr(attribute, which) if which else None
        found[attribute.name] = tuple(value.values) if which and which.endswith("_list") else value
    return found


@cache
def _types() -> dict[str, Any]:
    """Return the classes of the messages, by name, made of the schema's facts."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="torussim/chakra.proto", package="torussim.chakra", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, str, bool]) -> Any:
        made = file.message_type.add(name=name)
        for label, number, kind, repeated in fields:
            own = not hasattr(kinds, f"TYPE_{kind.upper()}")
            made.field.add(name=label, number=number, label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
                           type=kinds.TYPE_MESSAGE if own else getattr(kinds, f"TYPE_{kind.upper()}"),
                           type_name=f".torussim.chakra.{kind}" if own else None)
        return made
    for kind in _SCALARS:
        message(f"{kind.title()}List", ("values", 1, kind, True))
    one_of = [(f"{kind}_val", number, kind, False) for kind, number in _SCALARS.items()]
    one_of += [(f"{kind}_list", number + 1, f"{kind.title()}List", False) for kind, number in _SCALARS.items()]
    attribute = message("AttributeProto", ("name", 1, "string", False), ("doc_string", 2, "string", False), *one_of)
    attribute.oneof_decl.add(name="value")
    for part in attribute.field[2:]:
        part.oneof_index = 0
    message("GlobalMetadata", ("version", 1, "string", False), ("attr", 2, "AttributeProto", True))
    message("Node", ("id", 1, "uint64", False), ("name", 2, "string", False), ("type", 3, "int32", False),
            ("ctrl_deps", 4, "uint64", True), ("data_deps", 5, "uint64", True), ("start_time_micros", 6, "uint64", False),
            ("duration_micros", 7, "uint64", False), ("attr", 10, "AttributeProto", True))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [one.name for one in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"torussim.chakra.{name}")) for name in names}
