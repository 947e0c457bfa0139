"""HTTP caching as pure functions of (heads, now, rules): RFC 9111 and its kin, one section a file. No I/O, no clock.

| file | what | RFC |
|---|---|---|
| effective | the request that all rules read | 9110 7.6.1 |
| outcome | the table of outcomes and reasons, Cache-Status | 9211 |
| entry | times and flags of a stored response | 9111 4.2 |
| rules | profiles and route rules | |
| structured, cache_control | the directives | 9651, 9111 5.2, 9213 |
| dates, age, freshness | how old, and how long fresh | 9110 5.6.7, 9111 4.2 |
| key, vary | which stored response | 9111 2, 4.1 |
| facts, template, storable | what is stored, and what is known of it | 9111 3 |
| marks | for how long a key that could not be stored is marked | |
| reuse | what may be served, fresh or stale | 9111 4, 5861 |
| conditional, ranges | 304, 412, 206, 416 | 9110 13, 14, 9111 3.3, 3.4 |
| packing | what is packed already | 9110 8.4 |
| update, invalidation | 304 and HEAD bring up to date, unsafe methods drop | 9111 3.2, 4.3, 4.4 |
"""

from flyby.policy.age import age_value, initial_age_ms
from flyby.policy.cache_control import (
    CacheControl,
    parse_cache_control,
    parse_targeted,
    request_control,
    response_control,
)
from flyby.policy.conditional import evaluate, strong_validator, validators_for
from flyby.policy.dates import format_http_date, parse_http_date
from flyby.policy.effective import Effective, effective_request
from flyby.policy.entry import STORED_FORMAT, EntryFlag, Request, Response, Times
from flyby.policy.facts import REQUEST_FACTS, RESPONSE_FACTS, RESPONSE_VALUES, Facts, facts_of, has_content
from flyby.policy.freshness import HEURISTIC_STATUSES, TIME_FIELDS, Stamps, stamps_of
from flyby.policy.invalidation import SAFE_METHODS, UNSAFE_METHODS, invalidation_targets, is_unsafe, resolve
from flyby.policy.key import UNKEYED, drop_unkeyed, filter_cookies, forwarded_path, has_dot_segments, primary_key
from flyby.policy.marks import mark_for
from flyby.policy.outcome import Outcome, Reason, cache_status
from flyby.policy.packing import worth_packing
from flyby.policy.ranges import (
    MAX_PARTS,
    UNSATISFIABLE,
    ContentRange,
    Join,
    combine,
    completion_fields,
    if_range_matches,
    multipart,
    parse_content_range,
    parse_range,
    serve_partial,
)
from flyby.policy.reuse import (
    Reuse,
    allowed_for,
    current_age_s,
    guessed,
    may_join,
    only_if_cached,
    reuse,
    stale_on_error_allowed,
)
from flyby.policy.rules import PROFILES, CacheRules, Names, Profile
from flyby.policy.storable import Plan, storable, stored_fields, times
from flyby.policy.structured import parse_dictionary
from flyby.policy.tags import MAX_TAG, MAX_TAGS, TAG_FIELDS, is_tag, named_tags, response_tags
from flyby.policy.template import Source, Template, plan_template, template_for
from flyby.policy.update import HeadEffect, freshen, head_effect, validates
from flyby.policy.vary import FieldValues, language_key, stored_language_key, variant_key, vary_names

__all__ = [
    "HEURISTIC_STATUSES",
    "MAX_PARTS",
    "MAX_TAG",
    "MAX_TAGS",
    "PROFILES",
    "REQUEST_FACTS",
    "RESPONSE_FACTS",
    "RESPONSE_VALUES",
    "SAFE_METHODS",
    "STORED_FORMAT",
    "TAG_FIELDS",
    "TIME_FIELDS",
    "UNKEYED",
    "UNSAFE_METHODS",
    "UNSATISFIABLE",
    "CacheControl",
    "CacheRules",
    "ContentRange",
    "Effective",
    "EntryFlag",
    "Facts",
    "FieldValues",
    "HeadEffect",
    "Join",
    "Names",
    "Outcome",
    "Plan",
    "Profile",
    "Reason",
    "Request",
    "Response",
    "Reuse",
    "Source",
    "Stamps",
    "Template",
    "Times",
    "age_value",
    "allowed_for",
    "cache_status",
    "combine",
    "completion_fields",
    "current_age_s",
    "drop_unkeyed",
    "effective_request",
    "evaluate",
    "facts_of",
    "filter_cookies",
    "format_http_date",
    "forwarded_path",
    "freshen",
    "guessed",
    "has_content",
    "has_dot_segments",
    "head_effect",
    "if_range_matches",
    "initial_age_ms",
    "invalidation_targets",
    "is_tag",
    "is_unsafe",
    "language_key",
    "mark_for",
    "may_join",
    "multipart",
    "named_tags",
    "only_if_cached",
    "parse_cache_control",
    "parse_content_range",
    "parse_dictionary",
    "parse_http_date",
    "parse_range",
    "parse_targeted",
    "plan_template",
    "primary_key",
    "request_control",
    "resolve",
    "response_control",
    "response_tags",
    "reuse",
    "serve_partial",
    "stale_on_error_allowed",
    "stamps_of",
    "storable",
    "stored_fields",
    "stored_language_key",
    "strong_validator",
    "template_for",
    "times",
    "validates",
    "validators_for",
    "variant_key",
    "vary_names",
    "worth_packing",
]
