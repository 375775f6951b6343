"""The seeds: sound and poisonous inputs of every target, and pieces worth inserting into them."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from monitor.model.bundle import FILES, MANIFEST
from monitor.model.registry import Registry
from monitor.settings import Settings
from tests import machines
from tests.monitor.raw_records import POISON
from training.preprocessing import fit_preprocessor

JSON_TOKENS = (
    b'{"v":', b'"c":', b'"b":', b'"n":{"x":', b'"k":', b"null", b"true", b"NaN", b"-Infinity", b"1e400", b"1e-400", b"1e22",
    b"9007199254740993", b"170141183460469231731687303715884105728", b"-0.0", b"5.0", b"\\u0076", b"\\ud800", b"\\udc00",
    b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xff", b"\\", b'"', b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\r", b"\x00",
    b'"load":', b'"motor":{"current_a":', b'"temperature_c":', b'"pieces":', b'"mode":"drill"', b'"cooling":', b"[[[[[[[[",
    b'"label":', b'"2026-03-01T08:00:00+01:00"', b'"timestamp":',
)  # fmt: skip
GZIP_TOKENS = (b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x08", b"\x03\x00")
CSV_TOKENS = (
    b",", b'"', b'""', b"\n", b"\r\n", b"\xef\xbb\xbf", b"NA", b"NaN", b"inf", b"1e999",
    b"v,c,b,n.x,n.k", b"\x00", b"\xff", b"0x1", b"1_0", b"TRUE", b"*", b"^v$",
)  # fmt: skip
TOML_TOKENS = (
    b"name = ", b"features = [", b"{ name = ", b'kind = "numeric"', b'kind = "categorical"', b'kind = "boolean"',
    b'missing = "reject"', b"timestamp = { field = ", b'format = "epoch_ms"', b'timezone = "Europe/Berlin"', b"[[features]]",
    b"true", b"nan", b"inf", b"0x7fffffffffffffff", b"1979-05-27T07:32:00Z", b'"""', b"'''", b"\\u0000", b"\x00", b"=",
    b"max_rows", b"threshold", b"SASL_SSL", b"exactly_once", b"[[[[[[[[", b"../../../../dev/zero",
)  # fmt: skip
NPY_TOKENS = (
    b"\x93NUMPY\x01\x00", b"'descr': '<f4'", b"'|O'", b"'shape': (", b"99999999999,", b"(-1,)", b"'fortran_order': True",
    b'"kind": "numeric"', b'"values": [', b'"sd": ', b"1e308", b"null", b'"clip": ', b"[[[[[[[[", b"'<U0'", b"'V0'",
)  # fmt: skip


@dataclass(frozen=True)
class BundlePart:
    """What of a bundle an input replaces.

    Attributes:
        file: of the bundle.
        member: of the archive, or None for the whole file.
    """

    file: str
    member: str | None = None


BUNDLE_PARTS = (
    BundlePart(MANIFEST),
    BundlePart("preprocess.json"),
    BundlePart("calibration.npz"),
    BundlePart("calibration.npz", "scores.npy"),
    BundlePart("calibration.npz", "tail.npy"),
    BundlePart("golden.npz"),
    BundlePart("golden.npz", "records.npy"),
    BundlePart("golden.npz", "ends.npy"),
    BundlePart("golden.npz", "X.npy"),
    BundlePart("golden.npz", "raw_score.npy"),
    BundlePart("scorer.tflite"),
)


def records() -> Sequence[bytes]:
    """Single records, sound and poisonous; one is packed as no record may be."""
    packed = [gzip.compress(b'{"v":1}', mtime=0), zlib.compress(b'{"v":1}'), zlib.compress(b'{"v":1}', 0)]
    return [*packed, *(value for value in POISON if value is not None)]


def readings() -> Sequence[bytes]:
    """Records of machines, and poison."""
    return [*machines.as_json(machines.readings(20, seed=4, anomalies=5)), *records()]


def samples() -> Sequence[bytes]:
    """JSON lines."""
    sound = machines.as_json(machines.readings(30, seed=3))
    mixed = [b'{"v":1,"c":"a","b":true,"n":{"x":1.5,"k":"u"},"label":0}', b'{"v":null,"c":7,"n":null}']
    return [b"\n".join(sound), b"\n".join(mixed), b"\n".join(records()), *records()]


def gzipped() -> Sequence[bytes]:
    """The same, compressed."""
    return [gzip.compress(sample, mtime=0) for sample in samples()[:2]]


def csv_files() -> Sequence[bytes]:
    """CSV files."""
    sound = machines.readings(20, seed=2).write_csv().encode()
    return [
        sound,
        b'v,c,b,n.x,n.k,label\n1,a,true,1.5,u,0\n,,,,,\n2,"b,c",false,-1e3,"x ""y""",1\n',
        b"\xef\xbb\xbfv,c,b,n.x,n.k,label\r\n1,a,TRUE,NA,007,x\r\n\r\n",
        b"v;c;b\n1;2;3\n", b"v,v\n1,2\n", b'v,c\n"1,2\n', b"v\n\xff\n", b"", b"\n\n", b"a,b\n1\n", b"a,b\n1,2,3\n",
    ]  # fmt: skip


def schemas() -> Sequence[bytes]:
    """`features.toml`, sound and not."""
    return [
        machines.FEATURES_TOML.encode(),
        b'name = "x"\n[[features]]\nname = "a.b"\nkind = "numeric"\nmissing = "reject"\n[timestamp]\nfield = "t"\nformat = "epoch_ms"\n',
        b'name = "x"\nfeatures = [{ name = "a", kind = "numeric" }, { name = "a.b", kind = "boolean" }]\n',
        b'name = "x"\nfeatures = [{ name = "a.b", kind = "array", shape = [2, 3] }, { name = "c", kind = "array", shape = [9] }]\n',
        b"name = 1\nfeatures = 1\n", b"", b"[[[", b"a = [" * 200, b'name = "x"\ntimestamp = { field = "t", timezone = "../etc" }\n',
    ]  # fmt: skip


def settings_files() -> Sequence[bytes]:
    """A document of settings with every key in it, single problems, and the environment behind a zero byte."""
    defaults = Settings()
    lines = [f"{name} = {_as_toml(value)}" for name, value in defaults.model_dump().items() if value is not None]
    secret = b'security_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\nsasl_password = "p"\n'
    return [
        "\n".join(lines).encode(), secret, b"\0MAX_ROWS=7\nTHRESHOLD=nan\n", b"max_rows = 0\nunknown = 1\n\0LOG_LEVEL=loud",
        b'delivery = "exactly_once"\n', b'alerts_topic = "features"\n', b"max_wait_s = inf\n",
    ]  # fmt: skip


def _as_toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)


def bundle_parts() -> Sequence[bytes]:
    """Each part of the committed bundle behind the byte that names it."""
    registry = Registry(str(machines.REGISTRY))
    folder = registry.fetch("machines", registry.champion("machines"))
    parts = [bytes([place]) + _content(folder, part) for place, part in enumerate(BUNDLE_PARTS)]
    preprocessor = fit_preprocessor(machines.readings(500, seed=1), machines.SCHEMA)
    return [*parts, bytes([BUNDLE_PARTS.index(BundlePart("preprocess.json"))]) + preprocessor.to_json()]


def bundle_contents(folder: Path, part: BundlePart, content: bytes) -> dict[str, bytes]:
    """The files of a bundle, with one part of them replaced."""
    contents = {name: _file(folder / name) for name in FILES}
    if part.member is None:
        return contents | {part.file: content}
    return contents | {part.file: _with_member(contents[part.file], part.member, content)}


@cache
def _file(path: Path) -> bytes:
    return path.read_bytes()


def _content(folder: Path, part: BundlePart) -> bytes:
    if part.member is None:
        return _file(folder / part.file)
    with zipfile.ZipFile(folder / part.file) as archive:
        return archive.read(part.member)


def _with_member(archive: bytes, member: str, content: bytes) -> bytes:
    """The archive with another content of one member, and the checksum that belongs to it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name == member else old.read(name))
    return buffer.getvalue()
