"""A certificate authority of its own for tests, and what it signs, as the PEM files that Kafka and ganwatch read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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

    def server(self, *hosts: str, valid_days: int = 30) -> Path:
        """Key and chain in one file: a key store as Kafka's type PEM wants it. One valid for -1 day expired yesterday."""
        begin, end = _validity(valid_days)
        certificate = self._ca.issue_cert(*hosts, not_before=begin, not_after=end)
        file = self._folder / f"server{valid_days:+}.pem"
        chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        file.write_bytes(_key(certificate, NoEncryption()) + chain)
        return file

    def client(self, name: str, password: str, valid_days: int = 30) -> tuple[Path, Path]:
        """Certificate and key; the key is encrypted."""
        begin, end = _validity(valid_days)
        host = f"{name}.test"  # Java refuses a certificate without any
        certificate = self._ca.issue_cert(host, common_name=name, not_before=begin, not_after=end)
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
        files[1].write_bytes(_key(certificate, BestAvailableEncryption(password.encode())))
        return files


def _validity(days: int) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return now - timedelta(days=30), now + timedelta(days=days)


def _key(certificate: trustme.LeafCert, encryption: KeySerializationEncryption) -> bytes:
    """The private key in PKCS #8, the only form that Kafka reads."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
