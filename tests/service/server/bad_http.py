"""Bytes that are no HTTP/1.1, or that two servers could read in two ways; and bytes that only look as if they were.

It does not know how they are sent.
"""

from typing import NamedTuple

from tests.service.api.bad_input import MAX_HEADER_BYTES, MAX_URL_BYTES

EVENT = b'{"features": [1, 2, 3, 4, 5]}'
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"1d\r\n" + EVENT + b"\r\n0\r\n\r\n"
SIZE = b"Content-Length: 29"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: h2c")
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


class Shape(NamedTuple):
    """Bytes in the place of a request: `detail` is a piece of the message of their refusal."""

    name: str
    sent: bytes
    detail: str = "HTTP"
    statuses: tuple[int, ...] = (400,)


def post(*lines: bytes, body: bytes = EVENT, version: bytes = b"1.1", host: bytes = b"Host: a\r\n") -> bytes:
    """Write a request to score with these further headers, which say how long it is."""
    head = b"POST /score HTTP/%b\r\n%bContent-Type: application/json\r\n" % (version, host)
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def get(target: bytes, *lines: bytes) -> bytes:
    """Write a request without a body."""
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: a", *lines, b"", b""])


def chunked(body: bytes, *lines: bytes) -> bytes:
    """Write a request to score whose body is these chunks."""
    return post(CHUNKED, *lines, body=body)


def in_chunks(body: bytes, n_bytes: int) -> bytes:
    """Write a body in chunks of so many bytes."""
    pieces = [body[start : start + n_bytes] for start in range(0, len(body), n_bytes)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


WRONG_LENGTHS = (
    *(
        b"",
        b" ",
        b" -29",
        b" +29",
        b" 0x1d",
        b" 29.0",
        b" 2 9",
        b" 29, 29",
        b" 29,",
        b" 29;",
        b" twenty-nine",
        b" \xb29",
    ),
    *(b" 29\x00", b" 2\xef\xbc\x99", b" 18446744073709551616", b" 18446744073709551645", b" " + b"9" * 4000),
)
LENGTHS = [
    Shape(f"Content-Length {given.decode('latin-1')!r}", post(b"Content-Length:" + given)) for given in WRONG_LENGTHS
]

WRONG_ENCODINGS = (
    *(
        b"",
        b" identity",
        b" gzip",
        b" xchunked",
        b" chunkedx",
        b" chunked, identity",
        b" chunked, gzip",
        b" \x0bchunked",
    ),
    *(b' "chunked"', b" chunked;q=1", b" chunked\x00", b" chunked, chunked", b" chunked chunked"),
)
HIDING = b"0\r\n\r\n" + HEALTH
FRAMINGS = [
    Shape("both framings", post(SIZE, CHUNKED, body=CHUNKS)),
    Shape("both framings, the other way around", post(CHUNKED, SIZE, body=CHUNKS)),
    Shape("both framings, hiding a request in the chunks", post(b"Content-Length: 5", CHUNKED, body=HIDING)),
    Shape("both framings, hiding a request by its length", post(CHUNKED, b"Content-Length: 5", body=HIDING)),
    Shape("two equal lengths", post(SIZE, SIZE)),
    Shape("two lengths, the first shorter", post(b"Content-Length: 0", SIZE)),
    Shape("two lengths, the second shorter", post(SIZE, b"Content-Length: 0")),
    Shape("chunks in HTTP/1.0", post(CHUNKED, body=CHUNKS, version=b"1.0")),
    *[
        Shape(f"Transfer-Encoding {given.decode('latin-1')!r}", post(b"Transfer-Encoding:" + given, body=CHUNKS))
        for given in WRONG_ENCODINGS
    ],
    *[
        Shape(
            f"Transfer-Encoding {given!r}", post(b"Transfer-Encoding: %b, chunked" % given, body=CHUNKS), "", (400, 501)
        )
        for given in (b"gzip", b"identity", b"unknown")
    ],
    Shape("Transfer-Encoding twice", post(CHUNKED, CHUNKED, body=CHUNKS)),
    Shape("Transfer-Encoding twice, then identity", post(CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS)),
    Shape("Transfer-Encoding before a space", post(b"Transfer-Encoding : chunked", body=CHUNKS)),
    Shape("Transfer-Encoding folded", post(b"Transfer-Encoding:\r\n chunked", body=CHUNKS)),
    Shape("Transfer-Encoding behind a bare CR", post(b"X: y\rTransfer-Encoding: chunked", body=CHUNKS)),
    Shape("Transfer-Encoding behind a bare LF", post(b"X: y\nTransfer-Encoding: chunked", body=CHUNKS)),
]

CHUNK_SHAPES = [
    *[
        Shape(f"chunk: {name}", chunked(start + EVENT + b"\r\n0\r\n\r\n"))
        for name, start in [
            ("a negative size", b"-1d\r\n"),
            ("a plus", b"+1d\r\n"),
            ("0x", b"0x1d\r\n"),
            ("no size", b"\r\n"),
            ("no hexadecimal size", b"size\r\n"),
            ("a space before the size", b" 1d\r\n"),
            ("a space behind the size", b"1d \r\n"),
            ("a size above 2^64", b"1000000000000001d\r\n"),
            ("a size shorter than the chunk", b"1c\r\n"),
            ("a bare LF behind the size", b"1d\n"),
            ("a bare CR behind the size", b"1d\r"),
            ("a control byte in an extension", b"1d;a=\x01\r\n"),
            ("a bare LF in an extension", b"1d;a=\nb\r\n"),
        ]
    ],
    *[
        Shape(f"chunk: {name}", chunked(b"1d\r\n" + EVENT + end), detail, statuses)
        for name, end, detail, statuses in [
            ("a size of nothing behind the chunk", b"0\r\n\r\n", "HTTP", (400,)),
            ("a bare LF behind the chunk", b"\n0\r\n\r\n", "HTTP", (400,)),
            ("a bare LF behind the last size", b"\r\n0\n\n", "HTTP", (400,)),
            ("a trailer without a colon", b"\r\n0\r\nX y\r\n\r\n", "HTTP", (400,)),
            ("a folded trailer", b"\r\n0\r\nX: y\r\n z\r\n\r\n", "HTTP", (400,)),
            ("a length in the trailers", b"\r\n0\r\n" + SIZE + b"\r\n\r\n", "HTTP", (400,)),
            ("a long trailer", b"\r\n0\r\nX: " + b"y" * 2**20 + b"\r\n\r\n", "what follows the body", (431,)),
            ("many trailers", b"\r\n0\r\n" + b"X: y\r\n" * 2**18 + b"\r\n", "what follows the body", (431,)),
        ]
    ],
    Shape("chunk: very long extensions", chunked(b"1d;" + b"a" * 2**20 + CHUNKS[2:]), "", (400, 413, 431)),
]

HEADERS = [
    Shape(f"header: {name}", post(line, SIZE))
    for name, line in [
        ("a folded line", b"X: y\r\n z"),
        ("a folded line of tabs", b"X: y\r\n\tz"),
        ("a space before the colon", b"X : y"),
        ("a tab before the colon", b"X\t: y"),
        ("a space before the name", b" X: y"),
        ("a space in the name", b"X Y: z"),
        ("no colon", b"X"),
        ("no name", b": y"),
        ("a NUL in the name", b"X\x00: y"),
        ("a NUL in the value", b"X: y\x00z"),
        ("a control byte in the value", b"X: y\x01z"),
        ("an escape in the value", b"X: y\x1b[31mz"),
        ("a DEL in the value", b"X: y\x7fz"),
        ("a bare CR in the value", b"X: y\rz: 1"),
        ("a bare LF in the value", b"X: y\nz: 1"),
        ("a bare LF at the end", b"X: y\n"),
        ("a byte above ASCII in the name", b"X\xff: y"),
        ("a bracket in the name", b"X(): y"),
        ("a quote in the name", b'"X": y'),
        ("the length with a space before the colon", b"Content-Length : 0"),
    ]
]

HOSTS = [
    Shape("no Host", post(SIZE, host=b""), "0 Host headers"),
    Shape("no Host to upgrade", post(SIZE, *UPGRADE, host=b""), "0 Host headers"),
    Shape("two Hosts", post(b"Host: b", SIZE), "2 Host headers"),
    Shape("two equal Hosts", post(b"Host: a", SIZE), "Host"),
    Shape("three Hosts", post(b"host: a", b"HOST: a", SIZE), "Host"),
    *[
        Shape(f"Host {given!r}", post(SIZE, host=b"Host: %b\r\n" % given.encode()), "Host")
        for given in ("a b", "a/b", "a, b", "http://a", "user@a", "a?b", "a#b", "a:port", "[::1", "a\tb")
    ],
]

LINES = [
    Shape(f"request line: {name}", line + b"\r\nHost: a\r\n\r\n", "", (400, 501, 505))
    for name, line in [
        ("nothing but a method", b"GET"),
        ("no target", b"GET HTTP/1.1"),
        ("no version", b"GET /health"),
        ("a word for a version", b"GET /health HTTP"),
        ("HTTP/0.9", b"GET /health HTTP/0.9"),
        ("HTTP/1.2", b"GET /health HTTP/1.2"),
        ("HTTP/1.10", b"GET /health HTTP/1.10"),
        ("HTTP/1", b"GET /health HTTP/1"),
        ("HTTP/2.0", b"GET /health HTTP/2.0"),
        ("HTTP/3.7", b"GET /health HTTP/3.7"),
        ("HTTP/-1.1", b"GET /health HTTP/-1.1"),
        ("http/1.1", b"GET /health http/1.1"),
        ("HTPP/1.1", b"GET /health HTPP/1.1"),
        ("a word behind the version", b"GET /health HTTP/1.1 x"),
        ("a lower-case method", b"get /health HTTP/1.1"),
        ("an unknown method", b"BREW /health HTTP/1.1"),
        ("a method that is not quite one", b"GETS /health HTTP/1.1"),
        ("a very long method", b"G" * 5000 + b" /health HTTP/1.1"),
        ("a method in quotes", b'"GET" /health HTTP/1.1'),
        ("a space before the method", b" GET /health HTTP/1.1"),
        ("a tab for a space", b"GET\t/health\tHTTP/1.1"),
        ("a space in the target", b"GET /he alth HTTP/1.1"),
        ("a NUL in the target", b"GET /he\x00alth HTTP/1.1"),
        ("a control byte in the target", b"GET /he\x01alth HTTP/1.1"),
        ("a DEL in the target", b"GET /he\x7falth HTTP/1.1"),
        ("UTF-8 in the target", "GET /sant\xe9 HTTP/1.1".encode()),
        ("a byte above ASCII in the query", b"GET /health?\xff HTTP/1.1"),
        ("a target without a slash", b"GET health HTTP/1.1"),
        ("a target that starts with a percent sign", b"GET %2fhealth HTTP/1.1"),
        ("an authority for a target", b"GET a:80 HTTP/1.1"),
        ("a target of a scheme alone", b"GET http:// HTTP/1.1"),
        ("a target with a wrong port", b"GET http://a:99999999/health HTTP/1.1"),
        ("a query for a target", b"GET ?x HTTP/1.1"),
        ("a fragment for a target", b"GET #x HTTP/1.1"),
        ("a target without a host", b"GET http:///health HTTP/1.1"),
        ("a long target without a host", b"GET http:///" + b"x" * (MAX_URL_BYTES - 8) + b" HTTP/1.1"),
        ("two carriage returns", b"GET /health HTTP/1.1\r"),
        ("CONNECT to an authority", b"CONNECT a:80 HTTP/1.1"),
    ]
]

OTHERS = [
    Shape("line feeds alone", HEALTH.replace(b"\r\n", b"\n")),
    Shape("carriage returns alone", HEALTH.replace(b"\r\n", b"\r")),
    Shape("a header before the request line", b"Host: a\r\n" + HEALTH),
    Shape("a folded line before all headers", HEALTH.replace(b"Host", b" X: y\r\nHost")),
    Shape("NULs", bytes(100)),
    Shape("random bytes", bytes(range(128, 256))),
    Shape("TLS", bytes.fromhex("16030100f4010000f00303") + bytes(240)),
    Shape("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)),
    Shape("a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    Shape("an SMTP client", b"EHLO a\r\n"),
    Shape("an SSH client", b"SSH-2.0-OpenSSH_9.2\r\n"),
    Shape("a Redis client", b"*1\r\n$4\r\nPING\r\n"),
    Shape("a body without a head", EVENT + b"\r\n\r\n"),
    Shape("text where a request should begin", b"surplus\r\n\r\n"),
    Shape("digits where a request should begin", b"123 / HTTP/1.1\r\n\r\n"),
    Shape("a URL longer than a head", get(b"/" + b"x" * MAX_HEADER_BYTES * 2), "expected at most", (414, 431)),
    Shape("a URL a little too long", get(b"/" + b"x" * MAX_URL_BYTES), str(MAX_URL_BYTES), (414,)),
    Shape("a URL a little too long to upgrade", get(b"/" + b"x" * MAX_URL_BYTES, *UPGRADE), str(MAX_URL_BYTES), (414,)),
    Shape("a header too long", get(b"/health", b"X: " + b"y" * MAX_HEADER_BYTES), str(MAX_HEADER_BYTES), (431,)),
    Shape("a header of megabytes", get(b"/health", b"X: " + b"y" * 2**21), str(MAX_HEADER_BYTES), (431,)),
    Shape("headers of megabytes", get(b"/health", *[b"X: y"] * 2**18), "100 headers", (431,)),
]

SHAPES = [*LENGTHS, *FRAMINGS, *CHUNK_SHAPES, *HEADERS, *HOSTS, *LINES, *OTHERS]

HTTP2 = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAB")
HARMLESS = [
    Shape("a plain length", post(SIZE)),
    Shape("zeros before the length", post(b"Content-Length: 0029")),
    Shape("spaces around the length", post(b"Content-Length: \t 29 \t ")),
    Shape("no space behind the colon", post(b"content-length:29")),
    Shape("empty lines before the request", b"\r\n\r\n" + post(SIZE)),
    Shape("the absolute form", post(SIZE).replace(b"/score", b"http://a/score")),
    Shape("the absolute form with a port", post(SIZE).replace(b"/score", b"http://a:8000/score")),
    Shape("an encoded letter in the path", post(SIZE).replace(b"/score", b"/%73core")),
    Shape("an empty query", post(SIZE).replace(b"/score", b"/score?")),
    Shape("an IPv6 host", post(SIZE, host=b"Host: [::1]:8000\r\n")),
    Shape("an empty host", post(SIZE, host=b"Host:\r\n")),
    Shape("bytes above ASCII in a value", post(b"X: \xc3\xa9\xff", SIZE)),
    Shape("an empty value", post(b"X:", SIZE)),
    Shape("cookies that are none", post(b"Cookie: =;;==; \xff", SIZE)),
    Shape("an unknown expectation", post(b"Expect: tea", SIZE)),
    Shape("an upgrade that was not asked for", post(b"Upgrade: h2c", SIZE)),
    Shape("chunks", chunked(CHUNKS)),
    Shape("chunks in capitals", post(b"TRANSFER-ENCODING: CHUNKED", body=CHUNKS.replace(b"1d", b"1D"))),
    Shape("chunks with extensions", chunked(b'1d;a=b;c="d e"\r\n' + EVENT + b"\r\n0;e\r\n\r\n")),
    Shape("chunks with zeros before their sizes", chunked(b"0000001d\r\n" + EVENT + b"\r\n0000\r\n\r\n")),
    Shape("chunks with trailers", chunked(b"1d\r\n" + EVENT + b"\r\n0\r\nX: y\r\nContent-Type: text/html\r\n\r\n")),
    Shape("chunks of seven bytes", chunked(in_chunks(EVENT, 7))),
    Shape("chunks of a byte", chunked(in_chunks(EVENT, 1))),
    Shape("an upgrade to HTTP/2, as Java's client asks", post(*HTTP2, SIZE)),
    Shape("an upgrade to WebSocket", post(b"Connection: Upgrade", b"Upgrade: websocket", SIZE)),
    Shape("an upgrade with chunks", chunked(CHUNKS, *UPGRADE)),
    Shape("HTTP/1.0", post(SIZE, version=b"1.0")),
    Shape("HTTP/1.0 without a host", post(SIZE, version=b"1.0", host=b"")),
    Shape("HTTP/1.0 that stays", post(b"Connection: keep-alive", SIZE, version=b"1.0")),
    Shape("a client that leaves", post(b"Connection: close", SIZE)),
]
"""What looks odd and is right: each is the event that is scored."""
