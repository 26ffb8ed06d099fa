"""Well-formed requests whose heads ask for what there is not, and what the message must say of each.

It does not know how they are sent.
"""

from service.server.limits import MAX_HEADERS
from tests.service.api.bad_input import MAX_HEADER_BYTES, MAX_URL_BYTES, SCORE, SCORE_BATCH, Case

EVENT = b'{"features": [1, 2, 3, 4, 5]}'
BATCH = b'{"events": [[1, 2, 3, 4, 5]]}'
TYPE = ("Content-Type", "application/json")
FORMATS = "expected one of application/json, application/msgpack, application/octet-stream, application/x-npy"
LIKE_HEALTH = ("/health", "/model", "/metrics", "/docs", "/schema", "/schema/openapi.json")

METHODS = [
    *[
        Case(f"{method} {path}", f"{path} does not take {method}, expected ", 405, method, path)
        for path in LIKE_HEALTH
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND")
    ],
    *[
        Case(f"{method} {path}", f"{path} does not take {method}, expected ", 405, method, path)
        for path in (SCORE, SCORE_BATCH)
        for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "QUERY", "LOCK")
    ],
    Case("a GET with a body", "/score does not take GET", 405, "GET", SCORE, (TYPE,), EVENT),
    Case("a POST of the page", "/ does not take POST", 405, "POST", "/", (TYPE,), EVENT),
    Case("a PUT with a body", "/score/batch does not take PUT", 405, "PUT", SCORE_BATCH, (TYPE,), BATCH),
]

ROUTES = [
    Case(f"{method} of no route, {name}", detail or f"{path} is not a route", 404, method, path, (TYPE,), body)
    for method, body in (("GET", b""), ("POST", EVENT))
    for name, path, detail in [
        ("unknown", "/nowhere", ""),
        ("below a route", "/score/one", ""),
        ("below a batch", "/score/batch/1", ""),
        ("of another case", "/Score", ""),
        ("with a suffix", "/score.json", ""),
        ("with dots", "/x/../score", ""),
        ("with a dot", "/./score", ""),
        ("with encoded dots", "/%2e%2e/score", "/../score is not a route"),
        ("with an encoded NUL", "/score%00", "is not a route"),
        ("with an encoded line's end", "/score%0d%0aX:%20y", "is not a route"),
        ("with an encoded question mark", "/score%3fworking_point=loose", "/score?working_point=loose is not a route"),
        ("not UTF-8", "/%ff%fe", "is not a route"),
        ("half encoded", "/score%2", "/score%2 is not a route"),
        ("wrongly encoded", "/score%zz", "/score%zz is not a route"),
        ("with a semicolon", "/score;v=1", ""),
        ("with a script", "/<script>alert(1)</script>", ""),
        ("with a template", "/{7*7}", ""),
        ("with a backslash", "/score\\batch", ""),
        ("with quotes", "/score\"'", ""),
        ("with an overlong slash", "/score%c0%afbatch", "is not a route"),
        ("with an encoded hash", "/score%23", "/score# is not a route"),
        ("with a host", "//a/score", ""),
        ("of all, as OPTIONS has it", "*", ""),
        ("to a file", "/etc/passwd", ""),
        ("to a file above", "/docs/../../etc/passwd", ""),
        ("below the docs", "/docs/x", ""),
        ("of the longest URL", "/" + "x" * (MAX_URL_BYTES - 1), "/xxx"),
    ]
]

ROUTES.append(Case("GET of no route, below the schema", "/schema/x is not a route", 404, "GET", "/schema/x"))

QUERIES = [
    Case(f"{path}?{query[:40]}", detail, 400, "POST", f"{path}?{query}", (TYPE,), body)
    for path, body in ((SCORE, EVENT), (SCORE_BATCH, BATCH))
    for query, detail in [
        ("working_point=lose", "working_point is 'lose', expected one of loose, tight"),
        ("working_point=", "working_point is '', expected one of loose, tight"),
        ("working_point", "working_point is '', expected one of loose, tight"),
        ("working_point=LOOSE", "working_point is 'LOOSE', expected one of loose, tight"),
        ("working_point=loose+", "working_point is 'loose ', expected one of loose, tight"),
        ("working_point=loose%00", "working_point is 'loose\\x00', expected one of loose, tight"),
        ("working_point=%FF", "expected one of loose, tight"),
        ("working_point=loose,tight", "working_point is 'loose,tight', expected one of loose, tight"),
        ("working_point=2.0", "working_point is '2.0', expected one of loose, tight"),
        ("working_point=" + "x" * 900, "working_point is 'xxx"),
        ("working_point=loose&working_point=loose", "working_point is given 2 times, expected once"),
        ("working_point=loose&working_point=tight", "working_point is given 2 times, expected once"),
        ("WORKING_POINT=loose", "unknown query parameter 'WORKING_POINT', expected working_point"),
        ("working_point[]=loose", "unknown query parameter 'working_point[]', expected working_point"),
        ("=loose", "unknown query parameter '', expected working_point"),
        ("verbose", "unknown query parameter 'verbose', expected working_point"),
        ("working_point=loose&verbose=1", "unknown query parameter 'verbose', expected working_point"),
        ("a=1&" * 200, "unknown query parameter 'a', expected working_point"),
        ("x" * 900, "unknown query parameter 'xxx"),
        ("?working_point=loose", "unknown query parameter '?working_point', expected working_point"),
        ("%ff=%fe", "unknown query parameter "),
    ]
] + [
    Case(f"{SCORE_BATCH}?{query[:40]}", detail, 400, "POST", f"{SCORE_BATCH}?{query}", (TYPE,), BATCH)
    for query, detail in [
        ("events=99", " events, expected 99, as query parameter events says"),
        ("events=-1", "query parameter events is '-1', expected a whole number"),
        ("events=", "query parameter events is '', expected a whole number"),
        ("events=1e1", "query parameter events is '1e1', expected a whole number"),
        ("events=" + "9" * 99, "expected a whole number"),
        ("events=1&working_point=loose&events=1", "query parameter events is given 2 times, expected once"),
    ]
]

ACCEPTS = [
    Case(f"{path} Accept: {accept[:40]}", detail, 406, "POST", path, (TYPE, ("Accept", accept)), body)
    for path, body in ((SCORE, EVENT), (SCORE_BATCH, BATCH))
    for accept, detail in [
        ("text/html", f'Accept is "text/html", {FORMATS}'),
        ("text/*", f'Accept is "text/*", {FORMATS}'),
        ("application/xml, text/plain;q=0.3", FORMATS),
        ("garbage", f'Accept is "garbage", {FORMATS}'),
        ("*", f'Accept is "*", {FORMATS}'),
        ("*/*;q=0", f'Accept is "*/*;q=0", {FORMATS}'),
        ("application/*;q=0", FORMATS),
        ("application/json;q=0", FORMATS),
        ("application/json;q=2", FORMATS),
        ("application/json;q=-1", FORMATS),
        ("application/json;q=nan", FORMATS),
        ("application/json;q=1e400", FORMATS),
        ("application/json;q=", FORMATS),
        (";q=1", FORMATS),
        ("\xff/\xfe", FORMATS),
        ("a/b," * 1500, "Accept has 6000 bytes, expected at most 1024"),
    ]
]

CONTENT_TYPES = [
    Case(f"{path} Content-Type: {given[:40]}", detail, 415, "POST", path, (("Content-Type", given),), body)
    for path, body in ((SCORE, EVENT), (SCORE_BATCH, BATCH))
    for given, detail in [
        ("text/plain", f'Content-Type is "text/plain", {FORMATS}'),
        ("text/json", f'Content-Type is "text/json", {FORMATS}'),
        ("", FORMATS),
        ("json", f'Content-Type is "json", {FORMATS}'),
        ("*/*", FORMATS),
        ("application/*", FORMATS),
        ("application/jsonx", FORMATS),
        ("application/json/x", FORMATS),
        ("application/ json", FORMATS),
        ('"application/json"', FORMATS),
        (";application/json", FORMATS),
        ("application/json, application/json", FORMATS),
        ("application/problem+json", FORMATS),
        ("application/x-www-form-urlencoded", FORMATS),
        ("multipart/form-data; boundary=x", FORMATS),
        ("application/gzip", FORMATS),
        ("application/x-numpy", FORMATS),
        ("\xff\xfe", FORMATS),
        ("x" * 3000, "Content-Type has 3000 bytes, expected at most 1024"),
    ]
]

PARAMETERS = [
    Case(f"{path} {given}", f"expected {expected}", 415, "POST", path, (("Content-Type", given),), body)
    for path, body in ((SCORE, EVENT), (SCORE_BATCH, BATCH))
    for given, expected in [
        ("application/octet-stream; dtype=float64", "application/octet-stream; dtype=float32, or without dtype"),
        ('application/octet-stream;a=b; DType="FLOAT64"', "application/octet-stream; dtype=float32, or without dtype"),
        ("application/octet-stream; byteorder=big", "application/octet-stream; byteorder=little, or without byteorder"),
        ("application/json; charset=utf-16", "application/json; charset=utf-8, or without charset"),
    ]
]

CODINGS = [
    Case(f"{path} {coding}", "Content-Encoding", 415, "POST", path, (TYPE, ("Content-Encoding", coding)), body)
    for path, body in ((SCORE, EVENT), (SCORE_BATCH, BATCH))
    for coding in ("gzip", "deflate", "br", "zstd", "x-gzip", "gzip, gzip", "identity, gzip", "unknown", "GZIP")
]

LONG, BOTH_TYPES = "x" * MAX_HEADER_BYTES, (TYPE, ("Content-Type", "application/msgpack"))
TWO_TYPES = "Content-Type is given as application/json and as application/msgpack, expected one"
OTHER = [
    Case("no Content-Type", f"the request has no Content-Type, {FORMATS}", 415, "POST", SCORE, (), EVENT),
    Case("no Content-Type and no body", "the request has no Content-Type", 415, "POST", SCORE_BATCH),
    Case("two Content-Types", TWO_TYPES, 415, "POST", SCORE, BOTH_TYPES, EVENT),
    Case("a URL that is too long", str(MAX_URL_BYTES), 414, "GET", "/" + "x" * MAX_URL_BYTES),
    Case("a query that is too long", str(MAX_URL_BYTES), 414, "POST", "/score?" + "x" * MAX_URL_BYTES, (TYPE,), EVENT),
    *[
        Case(name, detail, 431, "GET", "/health", headers)
        for name, detail, headers in [
            ("a header that is too long", str(MAX_HEADER_BYTES), (("X", LONG),)),
            ("a header's name that is too long", str(MAX_HEADER_BYTES), ((LONG, ""),)),
            ("very many headers", f"{MAX_HEADERS} headers", tuple((f"x{n}", "y") for n in range(2000))),
            ("very many empty headers", f"{MAX_HEADERS} headers", (("x", ""),) * 4000),
            ("a header of a megabyte", str(MAX_HEADER_BYTES), (("X", "x" * 2**20),)),
        ]
    ],
    Case("a long header before a body", str(MAX_HEADER_BYTES), 431, "POST", SCORE, (TYPE, ("X", LONG)), EVENT),
]

CASES = [*METHODS, *ROUTES, *QUERIES, *ACCEPTS, *CONTENT_TYPES, *PARAMETERS, *CODINGS, *OTHER]
