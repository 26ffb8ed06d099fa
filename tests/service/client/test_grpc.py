"""gRPC gives the client what HTTP gives it: scores, failures and refusals, also beside servers of HTTP."""

import asyncio
import signal
from pathlib import Path

import numpy as np
import pytest
import trustme

from service.client import AsyncClient, Client, Options, RefusedError, Result, UnavailableError
from service.security.api_keys import add_key
from tests.live import LiveService
from tests.service.client.events import (
    EVENTS,
    HALF,
    IN_PARTS,
    N_PARTS,
    ONE_BY_ONE,
    PART_EVENTS,
    check,
    events_with,
    reload,
)
from tests.service.client.foreign import closed_url
from tests.service.reload.models import make, put
from tests.service.security.certificates import CertificateFiles
from tests.service.server.exchange import LONG_TIMEOUTS, Connection, begin
from tests.service.server.rpc.client import grpc_service

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_scores_of_both_protocols_beside_each_other(live: LiveService, model_path: Path) -> None:
    """Parts go to servers of gRPC and of HTTP in turn; one that is killed in the middle is replaced by the other."""
    with grpc_service(model_path) as (service, address):
        with Client(f"grpc://{address}", options=IN_PARTS) as client:
            result = client.score(EVENTS, working_point="loose")
            check(result, model_path)
            assert (result.counts.requests, result.counts.retries) == (N_PARTS, 0)
            assert result.working_point is not None
            assert result.working_point.threshold == 2.0

        def kill() -> None:
            service.signal(signal.SIGKILL)
            service.process.wait()

        with Client(f"grpc://{address}", live.base_url, options=ONE_BY_ONE) as client:
            result = client.score(events_with(kill))
            check(result, model_path)
            assert result.counts.retries > 0


def test_what_the_service_refuses(model_path: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A wrong request or key is sent once, and named with the status that HTTP has."""
    key = add_key("me", tmp_path / "keys")
    with grpc_service(model_path, "--api-keys", str(tmp_path / "keys")) as (_, address):
        url, good = f"grpc://{address}", Options(api_key=key)
        for options, events, point, status, words in (
            (Options(), EVENTS, None, 401, "give an API key"),
            (good, np.ones((3, 6)), None, 400, "correct the events"),
            (good, EVENTS, "losse", 400, "expected one of loose, tight"),
        ):
            with subtests.test(words=words), Client(url, options=options) as client:
                with pytest.raises(RefusedError, match=words) as raised:
                    client.score(events, working_point=point)
                assert raised.value.status == status
                assert str(raised.value).startswith(f"{url} refused events[0:{len(events)}]: {status}: ")
        with Client(url, options=good) as client:
            check(client.score(EVENTS), model_path)


def test_an_overloaded_server_is_asked_again(model_path: Path) -> None:
    """The pause that the service names is honoured, and the part scored once there is room."""
    limits = ("--max-inflight-events", str(PART_EVENTS), *LONG_TIMEOUTS)
    with grpc_service(model_path, *limits) as (service, address), Connection(service) as other:
        last = begin(other, PART_EVENTS)

        async def main() -> Result:
            async with AsyncClient(f"grpc://{address}", options=ONE_BY_ONE) as client:
                scoring = asyncio.create_task(client.score(EVENTS))
                await asyncio.sleep(0.5)
                assert not scoring.done()
                other.send(last)
                return await scoring

        result = asyncio.run(main())
        check(result, model_path)
        assert result.counts.retries >= 1


def test_no_server_and_one_that_hangs(model_path: Path) -> None:
    """No server listens, or one does not respond: the error says which."""
    absent = closed_url().replace("http:", "grpc:")
    with Client(absent, options=Options(retries=1)) as client, pytest.raises(UnavailableError, match="UNAVAILABLE: "):
        client.score(EVENTS)
    with grpc_service(model_path) as (service, address):
        service.signal(signal.SIGSTOP)
        try:
            late = pytest.raises(UnavailableError, match=f"grpc://{address}: no response within 0.3 s")
            with Client(f"grpc://{address}", options=Options(request_s=0.3, retries=1)) as client, late:
                client.score(EVENTS)
        finally:
            service.signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_model_that_is_replaced_in_the_middle(tmp_path: Path) -> None:
    """The whole call is scored by the new model."""
    first, second = (make(tmp_path / f"model{place}.onnx", 4.0**place) for place in range(2))
    served = tmp_path / "served.onnx"
    put(first, served)
    with grpc_service(served) as (service, address), Client(f"grpc://{address}", options=ONE_BY_ONE) as client:
        result = client.score(events_with(reload(service, second, served)))
        check(result, second.path)
        assert result.counts.rescored == HALF


def test_certificates(model_path: Path, tmp_path: Path) -> None:
    """Server and client prove who they are over grpcs; without, there is no connection."""
    authority = trustme.CA()
    files = CertificateFiles.issue(authority, tmp_path)
    own, own_key, leaf = tmp_path / "own.pem", tmp_path / "own_key.pem", authority.issue_cert("client")
    own.write_bytes(leaf.cert_chain_pems[0].bytes())
    own_key.write_bytes(leaf.private_key_pem.bytes())
    with grpc_service(model_path, *files.flags, "--tls-client-ca", str(files.client_ca)) as (_, address):
        url = f"grpcs://{address}"
        with Client(url, options=Options(ca=files.client_ca, certificate=own, key=own_key)) as client:
            check(client.score(EVENTS), model_path)
        for options in (Options(retries=1), Options(retries=1, ca=files.client_ca)):
            with Client(url, options=options) as client, pytest.raises(UnavailableError, match="UNAVAILABLE: "):
                client.score(EVENTS)
