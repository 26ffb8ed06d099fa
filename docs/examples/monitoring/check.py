"""Check a running service, for cron or a monitoring system: status 0 if it is well, 2 and a line that says why if not.

python check.py http://localhost:8000
"""

import json
import sys
import urllib.error
import urllib.request

WELL, CRITICAL = 0, 2


def get(url: str) -> str:
    """Get a page; raises OSError, with the reason that the service gives in its response."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        raise OSError(f"{url}: {error.code} {json.loads(error.read())['detail']}") from error
    except urllib.error.URLError as error:
        raise OSError(f"{url}: {error.reason}") from error


def main() -> int:
    """Ask for health and metrics, and look for refused reloads."""
    url = sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://localhost:8000"
    try:
        get(f"{url}/health")
        metrics = get(f"{url}/metrics").splitlines()
    except OSError as error:
        print(f"CRITICAL: {error}")
        return CRITICAL
    refused = [line for line in metrics if line.startswith("anomaly_last_reload_successful{") and line.endswith(" 0.0")]
    if refused:
        print(f"CRITICAL: a new file was refused: {', '.join(refused)}")
        return CRITICAL
    served = sum(float(line.rpartition(" ")[2]) for line in metrics if line.startswith("anomaly_requests_total{"))
    print(f"OK: {served:.0f} requests")
    return WELL


if __name__ == "__main__":
    sys.exit(main())
