"""Sealed numbers and keyed hashes."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.store.vault import Vault

OLD, NEW, HASH = b"o" * 32, b"n" * 32, b"h" * 32
NUMBER = "+447700900123"


@pytest.fixture
def vault() -> Vault:
    """Return a vault with one key."""
    return Vault(sealing_keys={"old": OLD}, hashing_key=HASH)


@given(st.text("+0123456789", min_size=1, max_size=20), st.uuids())
def test_sealed_number_opens(number: str, row_id: UUID) -> None:
    """What was sealed for a row opens for that row, and does not show in the sealed bytes."""
    vault = Vault(sealing_keys={"old": OLD}, hashing_key=HASH)

    key_id, sealed = vault.seal(number, row_id=row_id)

    assert key_id == "old"
    assert vault.unseal(sealed, key_id=key_id, row_id=row_id) == number
    if len(number) > 4:
        assert number.encode() not in sealed


def test_same_number_never_seals_alike(vault: Vault) -> None:
    """Two sealed copies of a number differ, because each has a fresh nonce."""
    row_id = uuid4()

    sealed = {vault.seal(NUMBER, row_id=row_id)[1] for _ in range(100)}

    assert len(sealed) == 100
    assert len({one[:12] for one in sealed}) == 100


def test_sealed_number_of_another_row_does_not_open(vault: Vault) -> None:
    """A sealed number that was copied to another row is worthless there."""
    key_id, sealed = vault.seal(NUMBER, row_id=uuid4())

    with pytest.raises(InvalidTag):
        vault.unseal(sealed, key_id=key_id, row_id=uuid4())


@pytest.mark.parametrize("at", [0, 11, 12, -1])
def test_tampered_bytes_do_not_open(vault: Vault, at: int) -> None:
    """A changed bit anywhere is noticed."""
    row_id = uuid4()
    key_id, sealed = vault.seal(NUMBER, row_id=row_id)
    changed = bytearray(sealed)
    changed[at] ^= 1

    with pytest.raises(InvalidTag):
        vault.unseal(bytes(changed), key_id=key_id, row_id=row_id)


def test_keys_rotate_by_list(vault: Vault) -> None:
    """The first key seals, the others still open; a key that was taken out opens nothing any more."""
    row_id = uuid4()
    key_id, sealed = vault.seal(NUMBER, row_id=row_id)
    rotated = Vault(sealing_keys={"new": NEW, "old": OLD}, hashing_key=HASH)

    assert rotated.unseal(sealed, key_id=key_id, row_id=row_id) == NUMBER
    assert rotated.seal(NUMBER, row_id=row_id)[0] == "new"
    with pytest.raises(KeyError):
        Vault(sealing_keys={"new": NEW}, hashing_key=HASH).unseal(sealed, key_id=key_id, row_id=row_id)
    with pytest.raises(InvalidTag):
        Vault(sealing_keys={"old": NEW}, hashing_key=HASH).unseal(sealed, key_id=key_id, row_id=row_id)


def test_hashes_differ_by_kind(vault: Vault) -> None:
    """One text as number, session, address and API key has four hashes."""
    text = "203.0.113.7"

    hashes = {
        vault.number_hash(text),
        vault.session_hash(text),
        vault.address_hash(text),
        vault.key_hash(text),
    }

    assert len(hashes) == 4


def test_hashes_find_again_and_depend_on_the_key(vault: Vault) -> None:
    """The same text has the same hash under one key, another under another."""
    other = Vault(sealing_keys={"old": OLD}, hashing_key=b"x" * 32)

    assert vault.number_hash(NUMBER) == vault.number_hash(NUMBER)
    assert vault.number_hash(NUMBER) != vault.number_hash(NUMBER + "4")
    assert vault.number_hash(NUMBER) != other.number_hash(NUMBER)
    assert len(vault.number_hash(NUMBER)) == 32


def test_nothing_has_no_hash(vault: Vault) -> None:
    """No session is no hash, which is another thing than an empty session."""
    assert vault.session_hash(None) is None
    assert vault.address_hash(None) is None
    assert vault.session_hash("") is not None


def test_vault_prints_no_key(vault: Vault) -> None:
    """Printing the vault shows nothing."""
    assert "oooo" not in repr(vault)
    assert "hhhh" not in str(vault)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:0db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_an_address_stands_for_its_subscriber(vault: Vault, one: str, other: str, same: bool) -> None:
    """An IPv4 address is one subscriber. Of IPv6 a /64 is one."""
    assert (vault.address_hash(one) == vault.address_hash(other)) is same


def test_what_limits_are_counted_by(vault: Vault) -> None:
    """A count has a hash of all its parts in order, which is no hash that the tables hold."""
    parts = (b"client", vault.number_hash("+447700900123"))

    found = vault.limit_hash(*parts)

    assert len({found, vault.limit_hash(*reversed(parts)), vault.limit_hash(b"".join(parts))}) == 3
    assert found not in parts[1].hex()
    assert vault.number_hash("+447700900123").hex()[:32] != found


def test_two_look_up_keys() -> None:
    """Stored hashes use the first key, look-ups use both, and each hash identifies its key."""
    old = Vault(sealing_keys={"old": OLD}, hashing_key=HASH)
    both = Vault(sealing_keys={"old": OLD}, hashing_key=b"i" * 32, other_hashing_keys=[HASH])

    assert both.number_hash(NUMBER) != old.number_hash(NUMBER)
    assert both.number_hashes(NUMBER) == [both.number_hash(NUMBER), old.number_hash(NUMBER)]
    assert both.session_hashes("s") == [both.session_hash("s"), old.session_hash("s")]
    assert both.address_hashes("::1") == [both.address_hash("::1"), old.address_hash("::1")]
    assert both.key_hashes("oq") == [both.key_hash("oq"), old.key_hash("oq")]
    assert both.session_hashes(None) is both.address_hashes(None) is None
    assert both.marks[1:] == old.marks
    for vault in (old, both):
        hashes = [vault.number_hash(NUMBER), vault.session_hash("s") or b"", vault.key_hash("oq")]
        assert {one[:2] for one in hashes} == {vault.marks[0]}
        assert {len(one) for one in hashes} == {32}


def test_ambiguous_look_up_keys_are_refused() -> None:
    """Two keys with one mark would be taken for one another."""
    with pytest.raises(ValueError, match="look alike"):
        Vault(sealing_keys={"old": OLD}, hashing_key=HASH, other_hashing_keys=[HASH])
