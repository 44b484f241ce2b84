"""Certificate: the TLS context that a worker serves with, and its renewal while it serves."""

from __future__ import annotations

import ssl
import sys


def server_context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with that certificate; None without one."""
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password=lambda: b"")
    return context


def renew(context: ssl.SSLContext | None, certificate: str | None, key: str | None) -> None:
    """Serve what lies in the files now to connections from here on; control has looked that both fit together."""
    if context is None or certificate is None:
        return
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        print(f"gridctl gateway: {certificate}: not renewed: {error}", file=sys.stderr)  # noqa: T201
