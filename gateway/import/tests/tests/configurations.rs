//! Whole configurations of the kinds that the services document, and what becomes of requests.

use import::{convert, convert_files};

use super::{assert_keys, assert_notes, key, load};

#[test]
fn limits_three_levels_deep_with_names_and_replacements() {
    let conversion = convert(
        r#"
domain: api
descriptors:
  - key: tenant
    descriptors:
      - key: route
        value: export
        rate_limit: {name: Exports a day, unit: day, requests_per_unit: 20}
        descriptors:
          - key: format
            value: pdf
            detailed_metric: true
            rate_limit:
              name: pdf
              replaces: [{name: Exports a day}]
              unit: hour
              requests_per_unit: 2
          - key: format
            value: csv
            rate_limit: {unlimited: yes}
          - key: format
            shadow_mode: yes
            rate_limit: {unit: hour, requests_per_unit: 9}
  - key: tenant
    value: internal
"#,
    )
    .unwrap();
    let export = [("tenant", "t1"), ("route", "export")];
    let with_format = |format| [export[0], export[1], ("format", format)];
    assert_keys(
        &conversion,
        "api",
        &[
            (&export, "policy:exports-a-day:fw:{tenant.route-export|t1}"),
            (&with_format("pdf"), "policy:pdf:fw:{tenant.route-export.format-pdf|t1}"),
            (&with_format("csv"), "tenant.route-export.format-csv"),
            // Only counted.
            (&with_format("xml"), "tenant.route-export.format"),
            // The node of this tenant has no children, so that there is no limit.
            (&[("tenant", "internal"), ("route", "export")], ""),
            (&[("tenant", "t1"), ("route", "import")], ""),
            (&[("tenant", "t1")], ""),
        ],
    );
    assert_eq!(conversion.file.matches("enforce: false").count(), 1, "{}", conversion.file);
    assert_notes(
        &conversion,
        &[
            "line 12: tenant / route=export / format=pdf: `detailed_metric` has no equivalent, and no \
             effect on decisions.",
            "line 15: tenant / route=export / format=pdf: `replaces` has no equivalent: both limits \
             apply to a request with both descriptors, where the service applies this one alone.",
        ],
    );
}

#[test]
fn the_first_pattern_that_matches_hides_the_others() {
    let conversion = convert(
        r#"
domain: web
descriptors:
  - key: path
    value: /v1/health
  - key: path
    value: /v1/*/items
    rate_limit: {unit: second, requests_per_unit: 5}
  - key: path
    value: /v1/*
    rate_limit: {unit: second, requests_per_unit: 50}
    descriptors:
      - key: user
        value: bot*
        share_threshold: true
        rate_limit: {unit: minute, requests_per_unit: 1}
      - key: user
        value: bot-trusted
        rate_limit: {unit: minute, requests_per_unit: 100}
  - key: path
    value: /v1/admin*
    rate_limit: {unit: second, requests_per_unit: 1}
  - key: path
    rate_limit: {unit: second, requests_per_unit: 500}
"#,
    )
    .unwrap();
    let path = |path| [("path", path)];
    let with_user = |path, user| [("path", path), ("user", user)];
    assert_keys(
        &conversion,
        "web",
        &[
            (&path("/v1/a/items"), "policy:rate:fw:{path-v1-items|/v1/a/items}"),
            (&path("/v1/a"), "policy:rate:fw:{path-v1|/v1/a}"),
            // The pattern before it matches first, as in the service.
            (&path("/v1/admin"), "policy:rate:fw:{path-v1|/v1/admin}"),
            // Its node has no limit: neither the patterns nor the key alone apply.
            (&path("/v1/health"), "path-v1-health"),
            (&path("/other"), "policy:rate:fw:{path|/other}"),
            (&with_user("/v1/a", "bot7"), "policy:rate:fw:{path-v1.user-bot|/v1/a}"),
            (&with_user("/v1/a", "bot-trusted"), "policy:rate:fw:{path-v1.user-bot-trusted|/v1/a}"),
            // The first pattern and the exact value have no limits below them.
            (&with_user("/v1/a/items", "bot7"), "path-v1-items.user-bot"),
            (&with_user("/v1/health", "bot-trusted"), "path-v1-health.user-bot"),
            (&with_user("/other", "bot7"), ""),
        ],
    );
}

#[test]
fn a_directory_has_a_file_for_each_domain() {
    let file = |name: &str, domain: &str, rest: &str| {
        let text = format!(
            "domain: {domain}\ndescriptors:\n  - key: user\n    rate_limit: {{unit: hour, \
             requests_per_unit: 5}}\n{rest}"
        );
        (name.to_owned(), text)
    };
    let shop = file("shop.yaml", "shop", "");
    let mail = file("mail.yaml", "mail", "    value_to_metric: true\n");
    let conversion = convert_files(&[shop.clone(), mail]).unwrap();
    assert_keys(&conversion, "shop", &[(&[("user", "ann")], "policy:rate:fw:{user|ann}")]);
    assert_keys(&conversion, "mail", &[(&[("user", "ann")], "policy:rate:fw:{user-2|ann}")]);
    assert_keys(&conversion, "other", &[(&[("user", "ann")], "")]);
    let note = "mail.yaml, line 5: user: `value_to_metric` has no equivalent, and no effect on \
                decisions.";
    assert_notes(&conversion, &[note]);
    let first = |note: &&String| note.starts_with("First match");
    assert_eq!(conversion.notes.iter().filter(first).count(), 1);

    for (wrong, reason) in [
        (file("again.yaml", "shop", ""), "again.yaml: several files must each have a domain"),
        (file("bad.yaml", "mail", "x: ["), "bad.yaml: not valid YAML"),
        (("l.yaml".to_owned(), "- {namespace: a}".to_owned()), "l.yaml: several files must each"),
    ] {
        let error = convert_files(&[shop.clone(), wrong]).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn nothing_of_a_tree_is_dropped_without_a_note() {
    let conversion = convert(
        r#"
domain: api
owner: platform
descriptors:
  - key: user
    quota_mode: true
    metadata: {team: a}
    descriptors: {key: route}
    rate_limit: {unit: minute, requests_per_unit: 3, unit_multiplier: 5}
  - key: plan
    rate_limit: {unit: minute}
"#,
    )
    .unwrap();
    assert_notes(
        &conversion,
        &[
            "line 3: the configuration: `owner` has no equivalent.",
            "line 6: user: `quota_mode` has no equivalent: the limit denies by itself, where the \
             service denies only if all limits with `quota_mode` do.",
            "line 7: user: `metadata` has no equivalent, and no effect on decisions.",
            "line 5: user: left out: `descriptors` is no list.",
            "line 9: user: `unit_multiplier` has no equivalent.",
            "line 11: plan: left out: `requests_per_unit` is no number.",
        ],
    );
}

#[test]
fn conditions_of_cel_become_clauses() {
    let conversion = convert(
        r#"
- namespace: api
  name: Uploads of a tenant
  max_value: 100
  seconds: 60
  conditions:
    - "descriptors[0]['req.path'].startsWith('/upload/')"
    - "descriptors[0]['req.method'] in ['PUT', 'POST']"
  variables: ["descriptors[0]['auth.tenant']", "descriptors[0].region"]
- namespace: api
  name: Images
  max_value: 7
  seconds: 3600
  conditions: ["descriptors[0].file.endsWith('.png') && has(descriptors[0].user)"]
  variables: ["descriptors[0].user"]
- namespace: api
  name: Beta
  max_value: 0
  seconds: 1
  conditions: ["descriptors[0].agent.contains('beta*')"]
  variables: []
- namespace: api
  max_value: 5
  seconds: 10
  conditions: ["descriptors[0].agent.startsWith('x')", "descriptors[0].agent != 'xy'"]
  variables: []
- namespace: api
  max_value: 5
  seconds: 10
  conditions: "descriptors[0].a == 'b'"
- namespace: api
  max_value: 5
  seconds: 10
  variables: ["descriptors[0].a + descriptors[0].b"]
- namespace: api
  max_value: 5
  seconds: 10
  conditions: ["descriptors[1].a == 'b'"]
"#,
    )
    .unwrap();
    let upload = [("req.path", "/upload/x/y"), ("req.method", "PUT")];
    let of = |tenant| [upload[0], upload[1], ("auth.tenant", tenant), ("region", "eu")];
    let named = "policy:uploads-of-a-tenant:fw:{api.req.method-put-post.req.path-upload|t1|eu}";
    assert_keys(
        &conversion,
        "api",
        &[
            (&of("t1"), named),
            // Without a variable the limit does not apply.
            (&upload, ""),
            (&[("req.path", "/upload/x"), ("req.method", "GET")], ""),
            (&[("file", "a/b.png"), ("user", "u")], "policy:images:fw:{api.file.png.user|u}"),
            (&[("file", "b.png")], ""),
            (&[("agent", "my beta* 2")], "api.agent-beta"),
            (&[("agent", "my beta 2")], ""),
        ],
    );
    let policies = load(&conversion);
    assert_eq!(key(&policies, &[("domain", "other"), ("agent", "beta*")]), "");
    assert_notes(
        &conversion,
        &[
            "line 22: limit 4: left out: the condition `descriptors[0].agent != 'xy'` has no \
             equivalent together with the others.",
            "line 27: limit 5: left out: `conditions` is no list.",
            "line 31: limit 6: left out: the variable `descriptors[0].a + descriptors[0].b` has no \
             equivalent.",
            "line 35: limit 7: left out: the condition `descriptors[1].a == 'b'` has no equivalent.",
        ],
    );
}
