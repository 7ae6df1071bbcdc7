"""A load test of the HTTP API with Locust: pip install locust, then

    locust -f locustfile.py --host=http://localhost:8000

and http://localhost:8089, or without the page:

    locust -f locustfile.py --host=http://localhost:8000 \\
      --headless --users 100 --spawn-rate 10 --run-time 5m

A denial is no failure, whether its status is 200 or 429; an answer that contradicts itself is.
"""

import random

from locust import FastHttpUser, between, task

IDENTIFIERS = 1_000
LIMIT, WINDOW_SECONDS = 100, 60


class ApiUser(FastHttpUser):
    """Sends checks for many identifiers, with one of the algorithms."""

    abstract = True
    algorithm = ""
    wait_time = between(0.01, 0.1)

    @property
    def quota(self):
        return {"algorithm": self.algorithm, "limit": LIMIT, "window_seconds": WINDOW_SECONDS}

    @task(20)
    def check(self):
        self.ask(f"user_{random.randrange(IDENTIFIERS)}", "check")

    @task(5)
    def check_of_a_busy_one(self):
        """Sends more checks than the limit allows, so that some are denied."""
        self.ask("busy", "check (busy)")

    @task(2)
    def status(self):
        identifier = f"user_{random.randrange(IDENTIFIERS)}"
        path = f"/rate-limit/status/{identifier}"
        name = f"status, {self.algorithm}"
        with self.client.get(path, params=self.quota, name=name, catch_response=True) as response:
            if error := error_of_status(response, identifier):
                response.failure(error)

    def ask(self, identifier, name):
        with self.client.post(
            "/rate-limit/check",
            json={"identifier": identifier, **self.quota},
            name=f"{name}, {self.algorithm}",
            catch_response=True,
        ) as response:
            if error := error_of_check(response):
                response.failure(error)
            else:
                response.success()


class TokenBucketUser(ApiUser):
    algorithm = "token_bucket"


class SlidingWindowUser(ApiUser):
    algorithm = "sliding_window"


def error_of_check(response):
    """Returns the error of an answer to a check, or `None`."""
    if response.status_code not in (200, 429):
        return f"status {response.status_code}"
    answer = response.json()
    if not 0 <= answer["remaining"] <= LIMIT:
        return f"{answer['remaining']} of {LIMIT} remain"
    if answer["allowed"]:
        return "allowed, and to wait" if answer["retry_after"] is not None else None
    if not 0 < answer["retry_after"] <= WINDOW_SECONDS:
        return f"denied for {answer['retry_after']} s"
    return None if "Retry-After" in response.headers else "denied without Retry-After"


def error_of_status(response, identifier):
    """Returns the error of a status, or `None`."""
    if response.status_code != 200:
        return f"status {response.status_code}"
    answer = response.json()
    if answer["identifier"] != identifier or not 0 <= answer["requests_used"] <= LIMIT:
        return f"unexpected {answer}"
    return None
