"""Limits the requests of a Python application by the policies of a ratelimit gateway."""

from .limiter import AsyncRateLimiter, Attributes, RateLimiter, Verdict

__all__ = ["AsyncRateLimiter", "Attributes", "RateLimiter", "Verdict"]
