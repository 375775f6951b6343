"""Signed bundles: whose models are used, what is refused and why, on every kind of registry."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from monitor.champion import load_champion
from monitor.errors import BundleError, ConfigError
from monitor.model.registry import Registry
from monitor.model.signature import SIGNATURE, make_keys, read_signing_key, read_trusted_keys
from monitor.settings import load_settings
from tests.machines import FEATURES_TOML


@dataclass(frozen=True)
class Keys:
    """A key pair in files."""

    private: str
    public: str
    text: str


@pytest.fixture
def new_keys(tmp_path: Path) -> Callable[[str], Keys]:
    def make(name: str) -> Keys:
        public, text = make_keys(tmp_path / f"{name}.pem")
        return Keys(str(tmp_path / f"{name}.pem"), str(public), text)

    return make


@pytest.fixture
def ours(new_keys: Callable[[str], Keys]) -> Keys:
    return new_keys("ours")


@pytest.fixture
def theirs(new_keys: Callable[[str], Keys]) -> Keys:
    return new_keys("theirs")


def test_a_model_that_a_trusted_key_signed_is_used(registry_url: str, bundles: list[Path], ours: Keys) -> None:
    version = Registry(registry_url, signing_key=ours.private).publish(bundles[0])
    reader = Registry(registry_url, trusted_keys=[ours.public])
    assert reader.load("machines", version).version == version
    assert (reader.fetch("machines", version) / SIGNATURE).exists()
    assert reader.signer("machines", version) == ours.text
    assert reader.promote("machines", version, author="human", reason="signed").champion == version


def test_a_model_that_nobody_signed_is_refused_with_the_remedy(
    registry: Registry, registry_url: str, bundles: list[Path], ours: Keys
) -> None:
    version = registry.publish(bundles[0])
    reader = Registry(registry_url, trusted_keys=[ours.text])
    for call in (reader.load, reader.fetch):
        with pytest.raises(BundleError) as caught:
            call("machines", version)
        assert caught.value.file == f"{registry_url}/models/machines/{version}/{SIGNATURE}"
        assert caught.value.problem.startswith("is missing: the model is not signed, and trusted_keys asks for it; ")
        assert "`ganwatch models sign VERSION --signing-key FILE`" in caught.value.problem
    assert reader.signer("machines", version) is None
    assert reader.fetch_manifest("machines", version).model == "machines"  # it can be looked at


def test_a_model_that_is_signed_later_is_used(
    registry: Registry, registry_url: str, bundles: list[Path], ours: Keys
) -> None:
    version = registry.publish(bundles[0])
    Registry(registry_url, signing_key=ours.private).sign("machines", version)
    assert Registry(registry_url, trusted_keys=[ours.text]).load("machines", version).version == version


def test_a_model_that_somebody_else_signed_is_refused_with_both_keys(
    registry_url: str, bundles: list[Path], ours: Keys, theirs: Keys
) -> None:
    version = Registry(registry_url, signing_key=theirs.private).publish(bundles[0])
    with pytest.raises(BundleError, match="is by a key that is not among trusted_keys; add the key if") as caught:
        Registry(registry_url, trusted_keys=[ours.text]).load("machines", version)
    assert (caught.value.expected, caught.value.found) == (ours.text, theirs.text)
    both = Registry(registry_url, trusted_keys=[ours.text, theirs.public])
    assert both.load("machines", version).version == version


def test_no_model_that_is_not_trusted_becomes_champion_or_challenger(
    local: Registry, bundles: list[Path], tmp_path: Path, ours: Keys
) -> None:
    versions = [local.publish(bundle) for bundle in bundles[:2]]
    for version in versions:
        local.promote("machines", version, author="human", reason="before keys were asked for")
    guarded = Registry(str(tmp_path / "registry"), trusted_keys=[ours.text])
    calls: list[Callable[[], object]] = [
        lambda: guarded.promote("machines", versions[0], author="human", reason=""),
        lambda: guarded.promote_after("machines", versions[0], champion=versions[1], author="gate", reason=""),
        lambda: guarded.challenge("machines", versions[0], author="gate", reason=""),
        lambda: guarded.rollback("machines", author="human", reason=""),
    ]
    for call in calls:
        with pytest.raises(BundleError, match="the model is not signed"):
            call()
    assert len(guarded.promotions("machines")) == 2


def test_a_signature_of_another_model_fits_no_other(
    local: Registry, bundles: list[Path], tmp_path: Path, ours: Keys
) -> None:
    url = str(tmp_path / "registry")
    signed = Registry(url, signing_key=ours.private).publish(bundles[0])
    other = local.publish(bundles[1])
    folder = tmp_path / "registry" / "models" / "machines"
    (folder / other / SIGNATURE).write_bytes((folder / signed / SIGNATURE).read_bytes())
    for call in (Registry(url, trusted_keys=[ours.text]).load, local.signer):
        with pytest.raises(
            BundleError, match=r"signature\.json: does not fit the manifest: one of the two was changed"
        ):
            call("machines", other)


def test_a_changed_manifest_is_refused_even_when_its_folder_is_renamed_to_fit(
    bundles: list[Path], tmp_path: Path, ours: Keys
) -> None:
    url = str(tmp_path / "registry")
    version = Registry(url, signing_key=ours.private).publish(bundles[0])
    folder = tmp_path / "registry" / "models" / "machines" / version
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"efficient_gan"', b'"efficient_gam"'))
    forged = Registry(url).publish(folder)  # the registry itself names it after its digest
    assert Registry(url).load("machines", forged).manifest.detector == "efficient_gam"
    with pytest.raises(BundleError, match="does not fit the manifest"):
        Registry(url, trusted_keys=[ours.text]).load("machines", forged)


def test_a_changed_file_of_a_signed_model_is_refused(bundles: list[Path], tmp_path: Path, ours: Keys) -> None:
    url = str(tmp_path / "registry")
    version = Registry(url, signing_key=ours.private).publish(bundles[0])
    file = tmp_path / "registry" / "models" / "machines" / version / "calibration.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"calibration\.npz: was changed after it was written"):
        Registry(url, trusted_keys=[ours.text]).load("machines", version)


def damaged(content: bytes, change: dict[str, str]) -> bytes:
    return json.dumps(json.loads(content) | change).encode()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"signature": base64.b64encode(b"x" * 64).decode()}, "does not fit the manifest"),
        ({"signature": base64.b64encode(b"x" * 63).decode()}, "does not fit the manifest"),
        ({"signature": "é"}, "cannot be understood: key or signature is no base64"),
        ({"public_key": base64.b64encode(b"k" * 31).decode()}, "cannot be understood: key or signature is no base64"),
        ({"public_key": base64.b64encode(b"\xff" * 32).decode()}, "does not fit the manifest"),
        ({"format": "ganwatch.signature/9"}, "is of another format version"),
        ({"more": "of it"}, "cannot be understood"),
    ],
)
def test_a_damaged_signature_is_refused(
    bundles: list[Path], tmp_path: Path, ours: Keys, change: dict[str, str], problem: str
) -> None:
    url = str(tmp_path / "registry")
    version = Registry(url, signing_key=ours.private).publish(bundles[0])
    file = tmp_path / "registry" / "models" / "machines" / version / SIGNATURE
    file.write_bytes(damaged(file.read_bytes(), change))
    with pytest.raises(BundleError, match=problem) as caught:
        Registry(url, trusted_keys=[ours.text]).load("machines", version)
    assert caught.value.file == str(file)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_signature_at_all_is_refused(
    bundles: list[Path], tmp_path: Path, ours: Keys, content: bytes
) -> None:
    url = str(tmp_path / "registry")
    version = Registry(url, signing_key=ours.private).publish(bundles[0])
    (tmp_path / "registry" / "models" / "machines" / version / SIGNATURE).write_bytes(content)
    with pytest.raises(BundleError, match=r"signature\.json: cannot be understood: "):
        Registry(url, trusted_keys=[ours.text]).load("machines", version)


def test_the_version_does_not_depend_on_the_signature(
    local: Registry, bundles: list[Path], tmp_path: Path, ours: Keys, theirs: Keys
) -> None:
    unsigned = local.publish(bundles[0])
    for keys in (ours, theirs):
        held = Registry(str(tmp_path / "registry"), signing_key=keys.private)
        assert held.publish(bundles[0]) == unsigned
        assert held.signer("machines", unsigned) == keys.text
    assert local.publish(bundles[0]) == unsigned
    assert local.signer("machines", unsigned) == theirs.text  # publishing it again without a key leaves that as it is


def test_a_signature_is_carried_from_one_registry_to_another(
    registry: Registry, registry_url: str, bundles: list[Path], tmp_path: Path, ours: Keys
) -> None:
    laboratory = Registry(str(tmp_path / "laboratory"), signing_key=ours.private)
    version = registry.publish(laboratory.fetch("machines", laboratory.publish(bundles[0])))
    assert Registry(registry_url, trusted_keys=[ours.text]).load("machines", version).version == version


def test_the_daemon_s_loading_asks_for_the_signature(
    local: Registry, bundles: list[Path], tmp_path: Path, ours: Keys
) -> None:
    (tmp_path / "features.toml").write_text(FEATURES_TOML)
    url = str(tmp_path / "registry")
    version = local.publish(bundles[0])
    local.promote("machines", version, author="human", reason="")
    env = {"GANWATCH_REGISTRY": url, "GANWATCH_SCHEMA_PATH": str(tmp_path / "features.toml")}
    assert load_champion(load_settings(env=env)).version == version
    settings = load_settings(env=env | {"GANWATCH_TRUSTED_KEYS": f"{ours.public}, {ours.text}"})
    with pytest.raises(BundleError, match="the model is not signed"):
        load_champion(settings)
    Registry(url, signing_key=ours.private).sign("machines", version)
    assert load_champion(settings).version == version


def test_only_its_owner_can_read_a_new_private_key_and_none_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "signing.pem"
    public, text = make_keys(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_trusted_keys([str(public)]) == read_trusted_keys([text]) == {text}
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=r"signing\.pem: cannot be written: File exists"):
        make_keys(file)
    assert file.read_bytes() == before


def test_what_is_no_signing_key_is_a_wrong_setting_and_is_not_shown(tmp_path: Path, ours: Keys) -> None:
    key, secret = Ed25519PrivateKey.generate(), "planted-secret-2Hd"
    rsa = generate_private_key(65537, 2048)
    contents = {
        "public": Path(ours.public).read_bytes(),
        "locked": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "rsa": rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "garbage": secret.encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ConfigError, match="holds no Ed25519 key without a password; `ganwatch models new-key`"
        ) as caught:
            Registry(str(tmp_path), signing_key=str(tmp_path / name))
        assert secret not in str(caught.value)
    with pytest.raises(ConfigError, match="signing_key absent: cannot be read: No such file or directory"):
        read_signing_key("absent")


def test_what_is_no_public_key_is_a_wrong_setting(tmp_path: Path, ours: Keys) -> None:
    rsa = generate_private_key(65537, 2048).public_key()
    (tmp_path / "rsa.pub").write_bytes(rsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for entry in (ours.private, str(tmp_path / "rsa.pub")):
        with pytest.raises(ConfigError, match="holds no Ed25519 public key in PEM form"):
            Registry(str(tmp_path), trusted_keys=[entry])
    for entry in ("absent.pub", base64.b64encode(b"k" * 31).decode()):
        with pytest.raises(ConfigError, match="is neither a public key of 32 bytes in base64 nor a file: No such file"):
            Registry(str(tmp_path), trusted_keys=[ours.text, entry])


def test_without_a_key_nothing_is_signed(local: Registry, bundles: list[Path]) -> None:
    version = local.publish(bundles[0])
    with pytest.raises(ConfigError, match="signing_key: names no key to sign with"):
        local.sign("machines", version)
    assert local.signer("machines", version) is None
