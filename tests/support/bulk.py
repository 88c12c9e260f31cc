"""A backend for large bodies that keeps nothing: it sends, or counts, and says how far it is.

GET /down/N sends N bytes with a Content-Length, GET /chunked/N the same in
chunks; a PUT or POST is read to its end and answered with the number of bytes.
"""

from __future__ import annotations

import socket
import threading

BLOCK = bytes(range(256)) * 256  # 64 KiB, so that a body cannot be mistaken for zeros
_READ = 262_144


class BulkServer:
    """`sent` and `received` are the body bytes of all requests so far."""

    def __init__(self) -> None:
        self.sent = self.received = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            while self._one(sock):
                pass
        except OSError:
            pass  # the gateway closed, as some tests want it to
        finally:
            sock.close()

    def _one(self, sock: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(_READ)
            if not more:
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        method, target = head.split(b" ")[:2]
        if method == b"GET":
            kind, size = target.split(b"/")[1:3]
            self._send(sock, int(size), kind == b"chunked")
            return True
        length = [ln for ln in head.lower().split(b"\r\n") if ln.startswith(b"content-length:")]
        done = self._count(sock, body, int(length[0][15:]) if length else None)
        answer = str(done).encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        return True

    def _send(self, sock: socket.socket, size: int, chunked: bool) -> None:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        sock.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        left = size
        while left:
            block = BLOCK[: min(left, len(BLOCK))]
            sock.sendall(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            left -= len(block)
            self.sent += len(block)
        if chunked:
            sock.sendall(b"0\r\n\r\n")

    def _count(self, sock: socket.socket, body: bytes, length: int | None) -> int:
        """The body's bytes on the wire; of chunked bodies with their framing."""
        done, tail = len(body), body[-5:]
        self.received += done
        while done < length if length is not None else tail != b"0\r\n\r\n":
            more = sock.recv(_READ)
            if not more:
                raise ConnectionResetError
            done += len(more)
            tail = (tail + more)[-5:]
            self.received += len(more)
        return done
