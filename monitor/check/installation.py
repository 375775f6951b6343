"""The libraries that read and write Kafka's batches: each is used once, since an import alone does not show a broken build."""

from __future__ import annotations

from collections.abc import Callable

from monitor.check.trials import Trials
from monitor.errors import ConfigError

# The check value that every description of CRC-32C gives for these nine digits.
_DIGITS, _CRC32C = b"123456789", 0xE3069283
_SAMPLE = b'{"load": 0.5}' * 100


def try_installation(trials: Trials) -> None:
    """Checksums and codecs; snappy is named where it is there, since it is no part of the installation."""
    trials.attempt("checksums", _try_checksums, remedy="install ganwatch anew, or `pip install crc32c`")
    trials.attempt(
        "codecs",
        _try_codecs,
        remedy="install ganwatch anew, or `pip install` the package of that name (zstd: zstandard)",
    )


def _try_checksums() -> tuple[bool, str]:
    try:
        import crc32c
    except ImportError as error:
        raise ConfigError(
            "installation", "the package crc32c is missing; without it a record costs ten times as much"
        ) from error
    found = crc32c.crc32c(_DIGITS)
    if found != _CRC32C:
        raise ConfigError("installation", f"the package crc32c computes {found:#x} where {_CRC32C:#x} is right")
    return True, f"crc32c {'with the processor' if crc32c.hardware_based else 'in C'}"


def _try_codecs() -> tuple[bool, str]:
    from kafka import codec

    required = {
        "gzip": (codec.has_gzip(), codec.gzip_encode, codec.gzip_decode),
        "lz4": (codec.has_lz4(), codec.lz4_encode, codec.lz4_decode),
        "zstd": (codec.has_zstd(), codec.zstd_encode, codec.zstd_decode),
    }
    broken = [name for name, (there, encode, decode) in required.items() if not (there and _survives(encode, decode))]
    if broken:
        raise ConfigError("installation", f"batches compressed with {', '.join(broken)} cannot be read")
    snappy = "snappy too" if codec.has_snappy() else "not snappy (`pip install python-snappy` where producers use it)"
    return True, f"{', '.join(required)}; {snappy}"


def _survives(encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes]) -> bool:
    return bytes(decode(encode(_SAMPLE))) == _SAMPLE
