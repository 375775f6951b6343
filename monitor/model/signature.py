"""Signed bundles: who holds a key vouches for a manifest, and through its digests for every file. Ed25519 (RFC 8032).

A signature lies beside the manifest in a file of its own, so neither the bundle nor its version depends on it. It says who made
a model, not which one is to score: the log of promotions is not signed, and who may write to the registry may still go back to
an older signed version.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from monitor.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE = "signature.json"
FORMAT = "ganwatch.signature/1"
_KEY_BYTES = 32


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `signature.json`.

    Attributes:
        format: `ganwatch.signature/1`.
        public_key: of who signed; raw, base64.
        signature: of the manifest's SHA-256, see `_message`; base64.
    """

    format: str
    public_key: str
    signature: str


def make_keys(file: Path) -> tuple[Path, str]:
    """Makes a key pair: the private key in a new PEM file that only its owner can read, the public one in `<file>.pub`.

    Returns:
        The file of the public key, and the key itself in base64.

    Raises:
        ConfigError: a file exists or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = file.with_name(f"{file.name}.pub")
    _write_new(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return public, _base64(key.public_key().public_bytes_raw())


def _write_new(file: Path, content: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as target:
            target.write(content)
    except OSError as error:
        raise ConfigError(str(file), f"cannot be written: {error.strerror}") from error


def read_signing_key(file: str | Path) -> Ed25519PrivateKey:
    """The private key in a PEM file.

    Raises:
        ConfigError: there is none that can be used.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(Path(file).read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"signing_key {file}", f"cannot be read: {error.strerror}") from error
    except (ValueError, TypeError):  # their words could be about the content
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"signing_key {file}", "holds no Ed25519 key without a password; `ganwatch models new-key` makes one"
        )
    return key


def read_trusted_keys(entries: Sequence[str]) -> frozenset[str]:
    """Public keys, base64, from PEM files or from the keys themselves.

    Raises:
        ConfigError: names the entry that is neither.
    """
    return frozenset(_read_public_key(entry) for entry in entries)


def _read_public_key(entry: str) -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    raw = _from_base64(entry)
    if raw is not None and len(raw) == _KEY_BYTES:
        return _base64(raw)
    try:
        key = load_pem_public_key(Path(entry).read_bytes())
    except OSError as error:
        problem = f"is neither a public key of {_KEY_BYTES} bytes in base64 nor a file: {error.strerror}"
        raise ConfigError(f"trusted_keys {entry}", problem) from error
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"trusted_keys {entry}", "holds no Ed25519 public key in PEM form")
    return _base64(key.public_bytes_raw())


def sign(sha256: str, key: Ed25519PrivateKey) -> bytes:
    """The content of `signature.json` for the manifest of this SHA-256 (hex)."""
    signature = Signature(
        format=FORMAT,
        public_key=_base64(key.public_key().public_bytes_raw()),
        signature=_base64(key.sign(_message(sha256))),
    )
    return msgspec.json.format(msgspec.json.encode(signature), indent=1)


def signer_of(file: object, content: bytes, sha256: str) -> str:
    """The public key (base64) that signed the manifest of this SHA-256 (hex).

    Args:
        file: where the signature lies, for errors.
        content: the signature.
        sha256: of the manifest as it is.

    Raises:
        BundleError: the signature is damaged, or belongs to another manifest.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        stated = msgspec.json.decode(content, type=Signature)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(file, f"cannot be understood: {error}") from error
    if stated.format != FORMAT:
        raise BundleError(file, "is of another format version", expected=FORMAT, found=stated.format)
    key, signature = _from_base64(stated.public_key), _from_base64(stated.signature)
    if key is None or len(key) != _KEY_BYTES or signature is None:
        raise BundleError(file, "cannot be understood: key or signature is no base64 of the right length")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, _message(sha256))
    except (InvalidSignature, ValueError) as error:
        problem = "does not fit the manifest: one of the two was changed after the model was signed; publish it again from its source"
        raise BundleError(file, problem) from error
    return _base64(key)


def require_trust(file: object, content: bytes | None, sha256: str, trusted: frozenset[str]) -> None:
    """Lets a manifest pass that one of the trusted keys signed; any, where no key is named.

    Args:
        file: where the signature lies, for errors.
        content: the signature; None where there is none.
        sha256: of the manifest as it is, hex.
        trusted: public keys, base64.

    Raises:
        BundleError: it is not signed, or was changed, or somebody else signed it.
    """
    if not trusted:
        return
    if content is None:
        raise BundleError(
            file,
            "is missing: the model is not signed, and trusted_keys asks for it; if you trust this model, "
            "`ganwatch models sign VERSION --signing-key FILE`",
        )
    signer = signer_of(file, content, sha256)
    if signer not in trusted:
        raise BundleError(
            file,
            "is by a key that is not among trusted_keys; add the key if you trust who holds it",
            expected=" or ".join(sorted(trusted)),
            found=signer,
        )


def _message(sha256: str) -> bytes:
    """What is signed; the prefix keeps the signature from meaning anything elsewhere."""
    return f"{FORMAT} {sha256}".encode()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # also for letters beyond ASCII
        return None
