"""The admin API of a running gateway, as the command line asks it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from gateway.api.control import Control, read_control
from gateway.cli.options import Failed

TIMEOUT_S = 120.0  # an audit of a hundred million events
PREFIX = "/admin/v1"
# What an answer means that another one may follow: by another process whose token is another
# one, or as soon as the store is back.
AWAY = (401, 503)


class Away(Failed):
    """No answer just now; the gateway may be starting anew."""


class RemoteOffice:
    """Implements gateway.cli.office.Office over HTTP."""

    def __init__(self, data_dir: Path, control: Control, operator: str) -> None:
        self._data_dir = data_dir
        self._control = control
        self._operator = operator

    def renew(self) -> None:
        """Ask whoever runs on the same data now; nothing changes while nobody does."""
        try:
            self._control = read_control(self._data_dir) or self._control
        except (OSError, ValueError) as exc:
            raise Failed(str(exc)) from None

    def is_there(self) -> bool:
        """Whether the gateway of this control answers, and knows its token.

        Raises Failed where it answers that its store is away: it is there, and nothing else
        can take the command.
        """
        try:
            status, text = self._ask("GET", f"{PREFIX}/accounts?limit=1", None, {})
            if status == 503:
                problem = json.loads(text)
                if problem["code"] == "store_unavailable":
                    raise Failed(str(problem["detail"]))
        except (OSError, http.client.HTTPException, ValueError, TypeError, LookupError):
            return False
        return status == 200

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str = "",
    ) -> dict[str, Any]:
        target = PREFIX + path + (f"?{urlencode(query)}" if query else "")
        more = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        try:
            status, text = self._ask(method, target, body, more)
            document = json.loads(text)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            what = str(exc) or type(exc).__name__
            raise Away(f"the gateway at {self._control.url} does not answer: {what}") from None
        if status >= 400:
            kind = Away if status in AWAY else Failed
            raise kind(str(document.get("detail", f"status {status}")))
        assert isinstance(document, dict), "every answer is an object"
        return document

    def _ask(
        self, method: str, target: str, body: Mapping[str, Any] | None, more: Mapping[str, str]
    ) -> tuple[int, bytes]:
        connection = self._connection()
        data = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, target, data, {**self._headers(), **more})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._control.token}",
            "X-Operator": self._operator,
            "Connection": "close",
        }

    def _connection(self) -> http.client.HTTPConnection:
        where = urlsplit(self._control.url)
        host = where.hostname or "127.0.0.1"
        if where.scheme == "http":
            return http.client.HTTPConnection(host, where.port, timeout=TIMEOUT_S)
        # Exactly the certificate that the gateway itself named is trusted, by any name.
        context = ssl.create_default_context(cadata=self._control.certificate)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return http.client.HTTPSConnection(host, where.port, timeout=TIMEOUT_S, context=context)
