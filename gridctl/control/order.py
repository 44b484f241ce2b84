"""What an operator asked of `gridctl up`, checked as a whole before anything starts.

Decides which combinations of addresses, keys and TLS are safe enough to begin with. Reads nothing but the files the
order names.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from gridctl.answers.shared_place import check_packages, keys_of, place_of
from gridctl.broker.plan import BOARD_ROWS, Settings
from gridctl.control.listening import Address
from gridctl.errors import InputError, UsageError
from gridctl.rollout.desired import Timing

MOST_WORKERS = 256
WORKER_PROGRAM = ("-P", "-m", "gridctl.gateway.worker")
ADMIN_PORT_FLAG = "--admin"


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate chain and its key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Shared:
    """A server that gateways share exact answers on, and the file with the key they share."""

    url: str
    key_file: Path


@dataclass(frozen=True, slots=True)
class Order:
    """One `gridctl up`. `settings` is what the gateway is told; `admin` is an address of the admin API beside its
    Unix socket in the live folder.

    `sync` is how often sites' agents ask, and how long they may be silent. `recordings` None: nothing is recorded.
    `renews_salt`: prompts are hashed anew from now on. `shared` is where exact answers are kept together with other
    gateways. A ready worker that has not said that it lives for
    `stuck_after_s` is ended. `program` is what a worker runs, after the interpreter."""

    database: Path
    grid: str
    listen: Address
    admin: Address | None = None
    workers: int = 1
    backends: int = BOARD_ROWS
    grace_s: float = 30.0
    tls: Tls | None = None
    insecure: bool = False
    require_key: bool = False
    log_requests: bool = False
    recordings: Path | None = None
    renews_salt: bool = False
    shared: Shared | None = None
    stuck_after_s: float = 30.0
    sync: Timing = field(default_factory=Timing)
    settings: Settings = field(default_factory=Settings)
    program: tuple[str, ...] = WORKER_PROGRAM


def check_order(order: Order, keys: int) -> None:
    """Refuse what must not start. `keys` is how many client keys are active. Raises UsageError, InputError."""
    if not 1 <= order.workers <= MOST_WORKERS:
        raise UsageError(f"{order.workers} workers", where="--workers", fix=f"1 to {MOST_WORKERS}, at most one a core")
    if not 1 <= order.backends <= 1 << 16:
        raise UsageError(f"room for {order.backends} engines", where="--backends", fix="1 to 65536")
    if not 0 <= order.grace_s <= 86_400:
        raise UsageError(f"a grace of {order.grace_s:g} s", where="--grace", fix="0 to 86400 seconds")
    if order.tls is not None:
        server_context(order.tls)
    if order.shared is not None:
        check_packages()
        place_of(order.shared.url)
        keys_of(order.shared.key_file)
    _check_listen(order, keys)
    if order.admin is not None and not order.admin.is_private and order.tls is None:
        raise InputError(
            "the admin API would be open to the network without TLS",
            where=ADMIN_PORT_FLAG,
            fix="give --tls-cert and --tls-key, or keep it on this machine and reach it through ssh -L",
        )


def server_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 or newer with that certificate. Raises InputError naming the file that will not do."""
    for flag, path in (("--tls-cert", tls.certificate), ("--tls-key", tls.key)):
        if not os.access(path, os.R_OK):
            raise InputError("the file cannot be read", where=f"{flag} {path}", fix="check the path and its rights")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password of our own OpenSSL would ask for one at the terminal.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        raise InputError(
            f"the certificate and its key cannot be used: {getattr(error, 'reason', None) or error}",
            where=f"--tls-cert {tls.certificate} --tls-key {tls.key}",
            fix="give a PEM certificate chain and its own PEM key, without a passphrase",
        ) from None
    return context


def _check_listen(order: Order, keys: int) -> None:
    if order.listen.is_private:
        if not order.settings.anonymous and not keys:
            raise InputError(
                "every caller needs a key, and there is none",
                where="--require-key",
                fix="make one: gridctl token create NAME; or leave --require-key out on loopback",
            )
        return
    where = f"--listen {order.listen.host}:{order.listen.port}"
    if order.insecure:
        return
    if order.tls is None:
        raise InputError(
            "requests and keys would cross the network unencrypted",
            where=where,
            fix="give --tls-cert and --tls-key; behind a proxy that ends TLS: --insecure",
        )
    if order.settings.anonymous:
        raise InputError(
            "anybody who reaches this address could use the engines",
            where=f"{where} --anonymous",
            fix="leave --anonymous out and give callers keys (gridctl token create NAME), or say --insecure",
        )
    if not keys:
        raise InputError(
            "callers from the network need a key, and there is none",
            where=where,
            fix="make one: gridctl token create NAME",
        )
