"""Forward authentication, beside a check by the same policies."""

import base64
import hmac
import json
import secrets
import time

from .services import CHECK, POLICIES, POLICY, Gateway, http_request

CHECKED = "gateway over Redis, a check by a policy for addresses"
WITHOUT_TOKEN = "gateway over Redis, forward authentication"
WITH_TOKEN = "gateway over Redis, forward authentication, a cached token"
# The gateway keeps the claims of so many tokens and more.
IDENTIFIERS = 1_000
ISSUER, AUDIENCE = "https://login.example", "shop"


class PolicyGateway(Gateway):
    """A gateway that authenticates end users, and is asked for a check by a policy."""

    identifiers = IDENTIFIERS

    def __init__(self, name, base, redis_url, **options):
        self.secret = secrets.token_bytes(32)
        self.expiry = int(time.time()) + 86_400
        key = {"kty": "oct", "alg": "HS256", "k": base64url(self.secret)}
        settings = {
            "POLICIES_FILE": str(POLICIES / "forward-auth.yaml"),
            "TRUSTED_PROXIES": "127.0.0.1",
            "IDENTITY_JWKS_FILE": "keys.json",
            "IDENTITY_ISSUER": ISSUER,
            "IDENTITY_AUDIENCE": AUDIENCE,
        }
        files = {"keys.json": json.dumps({"keys": [key]})}
        super().__init__(name, base, redis_url, POLICY, settings, files=files, **options)

    def request(self, number):
        body = json.dumps({"attributes": {"client.ip": address(number)}}, separators=(",", ":"))
        headers = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json"}
        return http_request("POST", CHECK, headers, body)


class ForwardAuth(PolicyGateway):
    """A gateway that a proxy asks about the requests of end users."""

    def request(self, number):
        return http_request("GET", "/authz/forward-auth", self.headers(number))

    def headers(self, number):
        """Returns the headers as Traefik and Caddy send them."""
        return {
            "Host": f"127.0.0.1:{self.port}",
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
            "Accept": "application/json",
            "X-Forwarded-For": address(number),
            "X-Forwarded-Host": "shop.example",
            "X-Forwarded-Method": "GET",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Uri": f"/v1/orders/{number}?fields=all",
        }


class ForwardAuthWithToken(ForwardAuth):
    """The same for end users with a token each."""

    def headers(self, number):
        return super().headers(number) | {"Authorization": f"Bearer {self.token(number)}"}

    def token(self, number):
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"user_{number}",
            "exp": self.expiry,
            "scope": "openid profile orders:read orders:write",
            "email": f"user_{number}@shop.example",
        }
        parts = [{"alg": "HS256", "typ": "JWT"}, claims]
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        signature = hmac.digest(self.secret, signed.encode(), "sha256")
        return f"{signed}.{base64url(signature)}"


def address(number):
    return f"10.0.{number // 256}.{number % 256}"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def starts(url, **options):
    """Returns the starts of the gateways."""
    return [
        lambda: PolicyGateway(CHECKED, CHECKED, url, **options),
        lambda: ForwardAuth(WITHOUT_TOKEN, CHECKED, url, **options),
        lambda: ForwardAuthWithToken(WITH_TOKEN, CHECKED, url, **options),
    ]
