"""A Django application whose requests are limited by the policies of a gateway."""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["ratelimit_gateway_client.django.rate_limit"],
    RATE_LIMIT={
        "url": os.environ.get("RATELIMIT_URL", "http://localhost:8000"),
        # While the gateway does not decide: True serves every request, and False answers 503.
        "fail_open": {"true": True, "false": False}[os.environ["FAIL_OPEN"]],
        "api_key": os.environ.get("RATELIMIT_API_KEY"),
    },
)


def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"hello": "world"})


urlpatterns = [path("", home)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
