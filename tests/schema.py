"""Prints for each YAML file whether it is valid by a JSON Schema: `schema.py SCHEMA FILE...`.

The validator and the reader of YAML are not those of the gateway.
"""

import json
import sys

import jsonschema_rs
import yaml

schema, *files = sys.argv[1:]
with open(schema, encoding="utf-8") as text:
    validator = jsonschema_rs.validator_for(json.load(text))
for file in files:
    with open(file, encoding="utf-8") as text:
        errors = [error.message for error in validator.iter_errors(yaml.safe_load(text))]
    print("valid" if not errors else f"invalid: {errors[0]}")
