"""What can become of an admitted request: the outcomes that its event may have.

A price may name further ones (`outcomes`); refusals are counted as
`blocked:LIMIT` or `refused:CODE` and are no events.
"""

from __future__ import annotations

CHARGED = "charged"
FREE = "free"  # it went as it should, and came to nothing
NOT_CHARGED = "not_charged"  # `charge_when` did not hold
CONTINUED = "continued"  # a further interval of an open WebSocket
CLIENT_GONE = "client_gone"  # after the backend had the whole request
UPLOAD_ABORTED = "upload_aborted"  # before that
BODY_ERROR = "body_error"
UPSTREAM_ERROR = "upstream_error"
UPSTREAM_TIMEOUT = "upstream_timeout"
UPSTREAM_UNREACHABLE = "upstream_unreachable"
GATEWAY_ERROR = "gateway_error"

# The backend or the gateway failed the caller, or never had the whole request.
UNCHARGED = frozenset(
    (UPSTREAM_ERROR, UPSTREAM_TIMEOUT, UPSTREAM_UNREACHABLE, UPLOAD_ABORTED, BODY_ERROR,
     GATEWAY_ERROR)
)  # fmt: skip
OUTCOMES = UNCHARGED | {CHARGED, FREE, NOT_CHARGED, CONTINUED, CLIENT_GONE}
