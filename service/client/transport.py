"""A server that scores rows by the protocol of its URL, one class per protocol."""

import asyncio
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from service.client.errors import ClientError, RefusedError, RetriableError, TlsError
from service.client.options import Options
from service.client.parts import ROW, Part
from service.client.result import Reply

KEEP_ALIVE_S: Final = 60
"""Seconds for which an idle connection is kept: less than the servers' default."""

RETRIED_STATUSES: Final = {408, 429, 500, 502, 503, 504}
"""Statuses caused by timeouts, load or a proxy, and not by the request."""

SHOWN_CHARACTERS: Final = 300


class Server(Protocol):
    """A server that scores."""

    url: str

    async def score(self, rows: NDArray[np.float32], part: Part, working_point: str | None) -> Reply:
        """Score the rows (n, n_features) of a part once; raises RetriableError, RefusedError and TlsError."""

    async def close(self) -> None:
        """Close its connections."""


def connect(url: str, options: Options) -> Server:
    """Return the server at an `http:`, `https:`, `unix:`, `grpc:` or `grpcs:` URL, which connects on demand.

    Raises ValueError for another URL, or if gRPC is not installed, and TlsError for certificates that cannot be read.
    """
    parts = urlsplit(url)
    is_tcp = bool(parts.hostname) and parts.port != 0  # raises for an invalid port
    if is_tcp and parts.scheme in {"grpc", "grpcs"}:
        try:
            from service.client.open_inference import GrpcServer
        except ModuleNotFoundError as error:
            raise ValueError(f"{url} needs the package {error.name}: pip install 'lhc-anomaly[grpc]'") from error
        return GrpcServer(url, options)
    if (is_tcp and parts.scheme in {"http", "https"}) or (parts.scheme == "unix" and parts.path and not parts.netloc):
        return HttpServer(url, options)
    raise ValueError(f"{url!r} is not a server URL, expected http(s)://HOST:PORT, grpc(s)://HOST:PORT or unix:PATH")


class HttpServer:
    """A server of the native HTTP API, on TCP or a Unix domain socket, with persistent connections."""

    def __init__(self, url: str, options: Options) -> None:
        self.url = url
        self._request_s = options.request_s
        self._hint = ""
        if url.startswith("https:") and options.certificate is None:  # the connection may end before the reason is read
            self._hint = " (a client certificate may be asked for: give certificate and key)"
        socket = url.removeprefix("unix:") if url.startswith("unix:") else None
        transport = httpx.AsyncHTTPTransport(
            verify=_tls(options) if url.startswith("https:") else False,
            trust_env=False,
            uds=socket,
            limits=httpx.Limits(
                max_connections=options.in_flight,
                max_keepalive_connections=options.in_flight,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
        )
        headers = {"Content-Type": "application/octet-stream", "Accept-Encoding": "identity"}
        if options.api_key is not None:
            headers["Authorization"] = f"Bearer {options.api_key}"
        self._client = httpx.AsyncClient(
            transport=transport,
            base_url=url if socket is None else "http://localhost",
            headers=headers,
            timeout=httpx.Timeout(options.request_s, connect=options.connect_s),
            trust_env=False,  # ignore proxies of the environment, which are for the internet
        )

    async def score(self, rows: NDArray[np.float32], part: Part, working_point: str | None) -> Reply:
        """Send the rows as raw bytes, with their number, by which a server detects a wrong number of features."""
        query = {"events": str(len(rows))} | ({} if working_point is None else {"working_point": working_point})
        try:
            async with asyncio.timeout(self._request_s):
                response = await self._client.post("/score/batch", params=query, content=rows.tobytes())
        except TimeoutError:
            raise RetriableError(f"no response within {self._request_s:g} s") from None
        except httpx.ConnectTimeout:
            raise RetriableError(f"no connection within {self._client.timeout.connect:g} s") from None
        except httpx.TransportError as error:
            reason = _root(error)
            if isinstance(reason, ssl.SSLError) and not isinstance(reason, ssl.SSLEOFError | ssl.SSLZeroReturnError):
                raise TlsError(
                    f"{self.url}: {_text(reason)}; check that the server speaks HTTPS, and ca, certificate and key"
                ) from error
            raise RetriableError(f"{_text(reason)}{self._hint}") from error
        if response.status_code in RETRIED_STATUSES:
            raise RetriableError(f"{response.status_code}: {_detail(response)}", _retry_after_s(response))
        if response.status_code != HTTPStatus.OK:
            raise RefusedError(self.url, part.as_sent, response.status_code, _detail(response))
        return self._read(response, part, working_point)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _read(self, response: httpx.Response, part: Part, working_point: str | None) -> Reply:
        n_events, model = part.stop - part.start, response.headers.get("Model-Version")
        threshold = response.headers.get("Score-Threshold")
        if model is None or len(response.content) != n_events * ROW.itemsize or (working_point and threshold is None):
            raise ClientError(
                f"{self.url}: a response of {len(response.content)} bytes to {part} from model {model}, "
                f"expected {n_events} float32 scores with Model-Version: check that the URL is that of the service"
            )
        scores = np.frombuffer(response.content, ROW)
        return Reply(scores, model, None if threshold is None else float(threshold))


def _tls(options: Options) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None and options.key is not None:
            context.load_cert_chain(options.certificate, options.key)
    except OSError as error:
        files = [str(path) for path in (options.ca, options.certificate, options.key) if path is not None]
        raise TlsError(f"{', '.join(files)}: {_text(error)}; expected PEM files that belong together") from error
    return context


def _detail(response: httpx.Response) -> str:
    """Return the server's message of an error, in the form of the service or of a proxy."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:SHOWN_CHARACTERS].strip() or response.reason_phrase


def _retry_after_s(response: httpx.Response) -> float | None:
    """Read Retry-After, in seconds or as the date that proxies may send; None if missing or invalid."""
    text = response.headers.get("Retry-After", "")
    try:
        return float(text) if text.isdecimal() else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # a date without a zone cannot be subtracted
        return None


def _root(error: BaseException) -> BaseException:
    """Return the system's or TLS error that caused an error; the error itself if there is none."""
    found, seen = error, error
    while (seen := seen.__cause__ or seen.__context__) is not None:  # type: ignore[assignment]
        if isinstance(seen, OSError):
            found = seen
    return found


def _text(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error) or type(error).__name__
