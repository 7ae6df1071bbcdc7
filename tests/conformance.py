"""Rules that an OpenAPI document has no way to say.

They are between fields, or about decimals, which `multipleOf` gets wrong in binary fractions. A
request that matches the document is refused if it breaks one of them. That is no failure as long
as the refusal names nothing else.
"""

import schemathesis

RULES = (
    "Decimal input should have no more than 3 decimal places",
    "Input should be less than or equal to the capacity, ",
    "Input should be less than or equal to the window, ",
    "Value error, burst is for token_bucket only",
    "Value error, resolution_seconds is for sliding_window only",
    "Value error, period is for fixed_window only",
    "Value error, timezone is for ",
    "Value error, starts is for ",
    "Value error, window_seconds is for windows without a period only",
    "Value error, a time zone has a name such as Europe/Berlin",
    "Value error, a day starts at ",
    "Value error, a week starts at ",
    "Value error, a month starts at ",
    "Value error, a year starts at ",
    # The document counts characters.
    "String should have at most ",
    "Value error, a lease cannot be called FENCED",
    "Value error, cost must be at most the limit, ",
    "Value error, limits of one identifier must have different algorithms",
    "Value error, all limits have actual, or none has",
    "Value error, limits with equal names must have equal algorithms and numbers",
    # The file of policies has their names, and the rules for names of attributes.
    "Value error, force is for checks without policies",
    "Value error, policy needs POLICIES_FILE",
    "Value error, attributes needs POLICIES_FILE",
    "Value error, policy is for checks without ",
    "Value error, attributes is for checks without ",
    "Value error, there is no policy `",
    "Value error, an attribute must be ",
    "Value error, the attribute `",
    "Value error, `jwt.*` must come from a token",
    "Value error, the limit `",
    "Value error, release must be the token of a check",
    # The bound is of all checks together.
    "Value error, all checks together must have at most ",
)

REFUSAL_OF_A_VALID_REQUEST = "ST202"


ACCEPTANCE_OF_AN_INVALID_REQUEST = "ST201"

COSTS = range(0, 1_000_000_001)

# Of an identifier.
BYTES = range(1, 257)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether a failure counts."""
    if response.status_code == 405 and (case.path_parameters or {}).get("identifier") == "":
        # The path is that of another operation.
        return False
    if failure.code == ACCEPTANCE_OF_AN_INVALID_REQUEST:
        # Policies clamp a cost and ignore a token that is no text, because the end user can have
        # chosen them, and need no identifier.
        exceptions = (has_clamped_cost, has_ignored_token, is_judged_by_policies)
        return not any(holds(check) for check in checks_of(case.body) for holds in exceptions)
    if failure.code != REFUSAL_OF_A_VALID_REQUEST or response.status_code != 422:
        return True
    if any(map(has_null_policy, checks_of(case.body))):
        # Null is a field that is left out, so that other fields are required.
        return False
    return not all(map(is_of_rule, response.json()["detail"]))


def checks_of(body):
    """The objects of a body that are checks: the body, and those of a batch."""
    if not isinstance(body, dict):
        return []
    checks = body.get("checks")
    checks = [body, *(checks if isinstance(checks, list) else [])]
    return [check for check in checks if isinstance(check, dict)]


def has_clamped_cost(check):
    """Whether a check has a whole cost outside the bounds."""
    cost = check.get("cost")
    return isinstance(cost, (int, float)) and cost == int(cost) and int(cost) not in COSTS


def has_ignored_token(check):
    """Whether a check has a token that is no text."""
    return not isinstance(check.get("token"), (str, type(None)))


def is_judged_by_policies(check):
    """Whether only policies can decide a check: an identifier is an attribute of any length."""
    identifier = check.get("identifier") or ""
    if "checks" in check or not isinstance(identifier, str):
        return False
    return len(identifier.encode(errors="surrogatepass")) not in BYTES


def is_of_rule(fault):
    """Whether the document has no way to say the rule that a request breaks."""
    # A limit needs an identifier if the whole request has none.
    lacks_identifier = fault["msg"] == "Field required" and fault["loc"][1:2] == ["limits"]
    return lacks_identifier or fault["msg"].startswith(RULES)


def has_null_policy(check):
    """Whether a check has fields of policies, and all of them are null."""
    fields = [name for name in ("policy", "attributes") if name in check]
    return fields != [] and all(check[name] is None for name in fields)
