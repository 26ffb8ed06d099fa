"""A client of the service: scores NumPy arrays of events at one or more servers.

It imports nothing else of the service, except the scorer of a fallback when needed.
"""

from service.client.client import AsyncClient as AsyncClient
from service.client.client import Client as Client
from service.client.errors import ClientError as ClientError
from service.client.errors import EventsError as EventsError
from service.client.errors import ModelError as ModelError
from service.client.errors import RefusedError as RefusedError
from service.client.errors import TlsError as TlsError
from service.client.errors import UnavailableError as UnavailableError
from service.client.options import Options as Options
from service.client.result import Counts as Counts
from service.client.result import Result as Result
from service.client.result import WorkingPoint as WorkingPoint
