"""Wires between nodes: binary WebSocket messages over TLS 1.3 with a certificate made for this run.

The certificate proves nothing by itself: the handshake signs its hash. Compression is off and message sizes are bounded
before aiohttp buffers them. It knows neither frames nor peers.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, ClientWSTimeout, WebSocketError, WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chain.primitives import Hash
from node.acceptor import Acceptor
from p2p.errors import RemoteProtocolError
from p2p.limits import Limits
from p2p.messages import FRAME_BYTES_MAX

CLOSE_TIMEOUT_S = 0.3
WRITE_BUFFER_BYTES = 256 * 1024
PATH = "/p2p"


@dataclass(frozen=True, slots=True)
class Wire:
    """One WebSocket; `certificate_hash` is SHA-256 of the responder's certificate as this end sees it."""

    socket: web.WebSocketResponse | ClientWebSocketResponse
    address: str
    certificate_hash: Hash

    async def receive(self) -> bytes | None:
        """Return the next message, None when the wire is closed; raises RemoteProtocolError when it is not binary."""
        message = await self.socket.receive()
        if message.type is WSMsgType.BINARY:
            return bytes(message.data)
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
            return None
        if message.type is WSMsgType.ERROR and not isinstance(message.data, WebSocketError):
            return None
        raise RemoteProtocolError(
            "websocket", f"found {message.type.name} {message.data!r:.80}, expected a binary message"
        )

    async def send(self, data: bytes) -> None:
        """Send one message; returns when the buffer has room. Raises OSError when the wire is broken."""
        try:
            await self.socket.send_bytes(data)
        except (ClientError, RuntimeError) as error:
            raise ConnectionError(str(error)) from error

    async def close(self) -> None:
        """Close, at once if the other end does not answer."""
        await self.socket.close()


class Listener:
    """Accepts wires and hands each to a callback, which keeps it open by not returning."""

    def __init__(self, limits: Limits) -> None:
        """Make the run's certificate; a TCP connection has as long as a handshake to become a WebSocket."""
        self._handshake_timeout_s = limits.handshake_ms / 1000
        self._acceptor = Acceptor(limits)
        self._context, self._certificate_hash = _make_server_tls()
        self._upgraded: set[object] = set()
        self._sockets: set[web.WebSocketResponse] = set()
        self._http: web.Server | None = None

    async def start(self, host: str, port: int, on_wire: Callable[[Wire], Awaitable[None]]) -> int:
        """Listen and return the port; raises OSError when it is taken."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._handle(request, on_wire)

        self._http = web.Server(handle, access_log=None)
        return await self._acceptor.start(host, port, self._begin)

    async def stop(self) -> None:
        """Stop listening and close every accepted connection."""
        await self._acceptor.stop()
        if self._http is None:
            return
        await asyncio.gather(*(socket.close() for socket in self._sockets), return_exceptions=True)
        await self._http.shutdown(CLOSE_TIMEOUT_S)

    async def _begin(self, connection: socket.socket) -> None:
        """Shake hands over TLS; whoever fails is hung up on."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_timeout_s,
            )
        except OSError:
            connection.close()

    def _make_protocol(self) -> asyncio.Protocol:
        assert self._http is not None
        protocol = self._http()

        def drop_idle() -> None:
            if protocol not in self._upgraded:
                protocol.force_close()

        asyncio.get_running_loop().call_later(self._handshake_timeout_s, drop_idle)
        return protocol

    async def _handle(self, request: web.BaseRequest, on_wire: Callable[[Wire], Awaitable[None]]) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            autoping=False,
            compress=False,
            max_msg_size=FRAME_BYTES_MAX + 1,
            writer_limit=WRITE_BUFFER_BYTES,
        )
        if request.path != PATH or not socket.can_prepare(request):
            return web.Response(status=404)
        await socket.prepare(request)
        self._upgraded.add(request.protocol)
        self._sockets.add(socket)
        try:
            await on_wire(Wire(socket, request.remote or "", self._certificate_hash))
        finally:
            self._sockets.discard(socket)
            self._upgraded.discard(request.protocol)
        return socket


class Dialler:
    """Opens wires."""

    def __init__(self) -> None:
        """Accept any certificate: the handshake checks it."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._session: ClientSession | None = None

    async def dial(self, host: str, port: int, timeout_s: float) -> Wire:
        """Connect; raises OSError (TimeoutError too) when there is no node."""
        if self._session is None:
            self._session = ClientSession()
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            async with asyncio.timeout(timeout_s):
                socket = await self._session.ws_connect(
                    f"wss://{place}{PATH}",
                    ssl=self._context,
                    timeout=ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                    autoping=False,
                    compress=0,
                    max_msg_size=FRAME_BYTES_MAX + 1,
                )
        except ClientError as error:
            raise ConnectionError(str(error)) from error
        tls = socket.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if certificate is None:
            await socket.close()
            raise ConnectionError(f"{place} shows no certificate")
        remote = socket.get_extra_info("peername")
        return Wire(socket, remote[0] if remote else host, Hash(sha256(certificate).digest()))

    async def stop(self) -> None:
        """Close every connection that was opened."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _make_server_tls() -> tuple[ssl.SSLContext, Hash]:
    """Return a TLS 1.3 context with a fresh self-signed certificate, and the certificate's SHA-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mathesis")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The ssl module loads certificates from files alone; these live for a moment in a folder only we can read.
    with TemporaryDirectory() as folder:
        path = Path(folder) / "node.pem"
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
        context.load_cert_chain(path)
    return context, Hash(sha256(certificate.public_bytes(Encoding.DER)).digest())
