"""A certificate authority of its own for tests, and what it signs, as the PEM files that Kafka and ganwatch read."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


class Authority:
    """Signs certificates; `cafile` is what its friends trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.cafile = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.cafile)

    def server(self, *hosts: str) -> Path:
        """Key and chain in one file: a key store as Kafka's type PEM wants it."""
        certificate = self._ca.issue_cert(*hosts)
        file = self._folder / "server.pem"
        chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        file.write_bytes(_key(certificate, NoEncryption()) + chain)
        return file

    def client(self, name: str, password: str) -> tuple[Path, Path]:
        """Certificate and key; the key is encrypted."""
        certificate = self._ca.issue_cert(f"{name}.test", common_name=name)  # Java refuses one without any host
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
        files[1].write_bytes(_key(certificate, BestAvailableEncryption(password.encode())))
        return files


def _key(certificate: trustme.LeafCert, encryption: KeySerializationEncryption) -> bytes:
    """The private key in PKCS #8, the only form that Kafka reads."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
