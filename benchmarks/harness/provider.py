"""A fast fake provider: the answers of the 2FA API when all is well, after a set time.

    python -m benchmarks.harness.provider PORT [RECEIPTS_URL USER PASSWORD]

One epoll loop over hand-written HTTP/1.1. It serves two calls, `POST /2fa/2/pin` and
`POST /2fa/2/pin/ID/verify` (the correct code is CODE), and can push a delivery report for each code to
RECEIPTS_URL. It also receives webhooks (`/_webhook`) and traces (`/v1/traces`). Benchmarks control it on the
same port: `POST /_set` (latencies, reports), `GET /_counts`, `GET /_arrivals`, `POST /_reset`.
`otpqueue simulator` is the faithful one, and slower.
"""

from __future__ import annotations

import base64
import heapq
import http.client
import json
import queue
import re
import select
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

CODE = "123456"
REPORT_DELAY_S = 0.5
_REPORTS_AT_ONCE = 200

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_TO = re.compile(rb'"to": *"\+?([0-9]+)"')
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_SENT = (
    b'{"pinId":"%s","to":"%s","ncStatus":"NC_DESTINATION_REACHABLE","smsStatus":"MESSAGE_SENT"'
    b',"externalMessageId":"%s"}'
)
_RIGHT = b'{"pinId":"%s","msisdn":"0","verified":true,"attemptsRemaining":0}'
_WRONG = b'{"pinId":"%s","msisdn":"0","verified":false,"attemptsRemaining":9,"pinError":"WRONG_PIN"}'
_CODE_IN_BODY = b'"' + CODE.encode() + b'"'


class Provider:
    """The answers, and a record of what was asked."""

    def __init__(self, reports: Reports | None) -> None:
        self._reports, self._reporting = reports, False
        self._send_s, self._verify_s, self._webhook_s = 0.1, 0.02, 0.01
        self._arrivals: list[tuple[bytes, float]] = []
        self._numbers: set[bytes] = set()
        self._doubles = self._checks = self._webhooks = 0
        self._ids = time.time_ns() // 1_000_000

    def answer(self, head: bytes, body: bytes) -> tuple[float, bytes]:
        """Return after how many seconds to answer a call, and how."""
        method, path = head.split(b" ", 2)[:2]
        if path.startswith(b"/2fa/2/pin?") or path == b"/2fa/2/pin":
            return self._send_s, self._send(body)
        if path.startswith(b"/2fa/2/pin/") and path.endswith(b"/verify"):
            self._checks += 1
            answer = _RIGHT if _CODE_IN_BODY in body else _WRONG
            text = answer % path.split(b"/")[4]
            return self._verify_s, _OK % (len(text), text)
        if path == b"/_webhook":
            self._webhooks += 1
            return self._webhook_s, _OK % (2, b"{}")
        if path == b"/v1/traces":
            return 0, _OK % (2, b"{}")
        return 0, self._control(method + b" " + path, body)

    def _send(self, body: bytes) -> bytes:
        found = _TO.search(body)
        if found is None:
            return _NOT_FOUND
        number, now = found[1], time.monotonic()
        self._arrivals.append((number, now))
        if number in self._numbers:
            self._doubles += 1
        self._numbers.add(number)
        self._ids += 1
        pin_id = b"%X" % self._ids
        if self._reporting and self._reports is not None:
            self._reports.add(pin_id.decode(), now)
        text = _SENT % (pin_id, number, pin_id)
        return _OK % (len(text), text)

    def _set(
        self,
        *,
        send_s: float | None = None,
        verify_s: float | None = None,
        webhook_s: float | None = None,
        report: bool | None = None,
    ) -> None:
        self._send_s = self._send_s if send_s is None else send_s
        self._verify_s = self._verify_s if verify_s is None else verify_s
        self._webhook_s = self._webhook_s if webhook_s is None else webhook_s
        self._reporting = self._reporting if report is None else report

    def _control(self, call: bytes, body: bytes) -> bytes:
        if call == b"POST /_set":
            self._set(**json.loads(body))
            text = b"{}"
        elif call == b"POST /_reset":
            self._arrivals.clear()
            self._numbers.clear()
            self._doubles = self._checks = self._webhooks = 0
            text = b"{}"
        elif call == b"GET /_counts":
            counts = {"sent": len(self._arrivals), "doubles": self._doubles, "checks": self._checks}
            text = json.dumps(counts | {"webhooks": self._webhooks}).encode()
        elif call == b"GET /_arrivals":
            text = b"\n".join(b"%s %.6f" % one for one in self._arrivals)
        else:
            return _NOT_FOUND
        return _OK % (len(text), text)


class Reports:
    """Pushes delivery reports, in batches, from a thread of its own."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = urlsplit(url)
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._due: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        threading.Thread(target=self._push_all, daemon=True).start()

    def add(self, message_id: str, sent_at: float) -> None:
        """Have a message reported as delivered a little later."""
        self._due.put((message_id, sent_at))

    def _push_all(self) -> None:
        batch: list[str] = []
        while True:
            message_id, sent_at = self._due.get()
            batch.append(message_id)
            wait_s = sent_at + REPORT_DELAY_S - time.monotonic()
            if wait_s > 0 or len(batch) == _REPORTS_AT_ONCE or self._due.empty():
                time.sleep(max(0.05, wait_s))
                self._push(batch)
                batch = []

    def _push(self, batch: list[str]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        status = {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"}
        price = {"pricePerMessage": 0.01, "currency": "EUR"}
        results = [{"messageId": one, "doneAt": now, "status": status, "price": price} for one in batch]
        headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
        try:
            connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=10)
            connection.request("POST", self._url.path, json.dumps({"results": results}), headers)
            status_code = connection.getresponse().status
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            print(f"delivery reports were not taken: {error!r}", file=sys.stderr)
        else:
            if status_code != 200:
                print(f"delivery reports were answered with {status_code}", file=sys.stderr)


def serve(port: int, provider: Provider) -> None:
    """Answer until the process is ended."""
    listening = socket.create_server(("127.0.0.1", port), backlog=4096)
    listening.setblocking(False)
    epoll = select.epoll()
    epoll.register(listening.fileno(), select.EPOLLIN)
    open_: dict[int, tuple[socket.socket, bytes]] = {}
    due: list[tuple[float, int, int, socket.socket, bytes]] = []
    serial = 0
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, number, peer, text = heapq.heappop(due)
            if open_.get(number, (None,))[0] is peer:
                _write(peer, text)
        for number, _ in epoll.poll(max(0.0, due[0][0] - now) if due else 1.0):
            if number == listening.fileno():
                _accept(listening, epoll, open_)
                continue
            peer, data = open_[number]
            try:
                received = peer.recv(65536)
            except OSError:
                received = b""
            if not received:
                epoll.unregister(number)
                peer.close()
                del open_[number]
                continue
            data += received
            while whole := _whole(data):
                head, body, data = whole
                latency_s, text = provider.answer(head, body)
                if latency_s:
                    serial += 1
                    heapq.heappush(due, (time.monotonic() + latency_s, serial, number, peer, text))
                else:
                    _write(peer, text)
            open_[number] = (peer, data)


def _whole(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    length = _LENGTH.search(data, 0, end + 2)
    size = end + 4 + (int(length[1]) if length else 0)
    return (data[:end], data[end + 4 : size], data[size:]) if len(data) >= size else None


def _accept(listening: socket.socket, epoll: select.epoll, open_: dict[int, Any]) -> None:
    try:
        while True:
            peer, _ = listening.accept()
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            epoll.register(peer.fileno(), select.EPOLLIN)
            open_[peer.fileno()] = (peer, b"")
    except BlockingIOError:
        return


def _write(peer: socket.socket, text: bytes) -> None:
    try:
        sent = peer.send(text)
        if sent < len(text):  # the list of arrivals is larger than what a socket takes at once
            peer.setblocking(True)
            peer.sendall(text[sent:])
            peer.setblocking(False)
    except OSError:
        return  # it has hung up; its end is read in the loop


def main(arguments: list[str]) -> None:
    """Serve on the port given."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    reports = Reports(*arguments[1:]) if len(arguments) > 1 else None
    serve(int(arguments[0]), Provider(reports))


if __name__ == "__main__":
    main(sys.argv[1:])
