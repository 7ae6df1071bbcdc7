//! The limits that a check has of its own.

use limiter::{Algorithm, Units};
use policies::{Kind, identity::id_of};
use store::{Charge, LimitCheck, LimitsCheck};

use crate::{
    limits::NamedLimits,
    request::{
        field_error::BrokenRule,
        fields::{Defaults, Fields, Invalid},
        input::Input,
        quota_fields::{LIMITS, QUOTA_FIELDS},
        value,
    },
};

/// Maximum size of the name of a limit in bytes. The minimum is 1.
pub(crate) const MAX_NAME_BYTES: usize = 63;

impl Fields<'_> {
    /// Reads a check of several limits of one identifier. Limits with equal names are one limit with
    /// the sum of the costs.
    pub(crate) fn inline_limits(&mut self, defaults: Defaults) -> Result<NamedLimits, Invalid> {
        let identifier = self.required("identifier", value::identifier);
        let of_each = QUOTA_FIELDS.into_iter().filter(|name| self.has(name));
        let of_each: Vec<_> = of_each.collect();
        let mut is_valid = of_each.is_empty();
        for name in of_each {
            self.add_error(name, only_without_limits(name));
        }
        if self.optional("force", value::boolean)? == Some(true) {
            is_valid = false;
            self.add_error("force", only_without_limits("force"));
        }
        let cost = self.optional("cost", value::cost)?;
        let id = id_of(identifier?.as_bytes());
        let mut limits = NamedLimits {
            names: Vec::new(),
            lease_names: Vec::new(),
            check: LimitsCheck { limits: Vec::new(), leases: Vec::new(), fail_mode: None },
        };
        for (position, json) in self.list("limits", &LIMITS)?.into_iter().enumerate() {
            let added = self.item("limits", position, json, |fields| {
                fields.add_limit(&mut limits, &id, cost, defaults)
            });
            is_valid &= added.is_ok();
        }
        is_valid.then_some(limits).ok_or(Invalid)
    }

    /// Reads one of the limits. `cost` is that of the whole check: a cost of 0 takes nothing of any
    /// limit, and another cost is that of limits that have none of their own.
    fn add_limit(
        &mut self,
        limits: &mut NamedLimits,
        id: &str,
        cost: Option<u32>,
        defaults: Defaults,
    ) -> Result<(), Invalid> {
        let name = self.required("name", name);
        let quota = self.quota(defaults);
        let own = self.optional("cost", value::units);
        if self.optional("force", value::boolean)? == Some(true) {
            return Err(self.add_error("force", only_without_limits("force")));
        }
        let (name, quota, own) = (name?, quota?, own?.map(Units::get));
        let cost = if cost == Some(0) { 0 } else { own.or(cost).unwrap_or(1) };
        let place = limits.names.iter().position(|known| *known == name);
        let known = place.map_or(0, |place| limits.check.limits[place].cost);
        if place.is_some_and(|place| limits.check.limits[place].quota != quota) {
            return Err(self.add_error("name", other_numbers()));
        }
        let (cost, capacity) = (known.saturating_add(cost), quota.capacity().get());
        if cost > capacity {
            return Err(self.add_error("cost", value::above_capacity(capacity)));
        }
        match place {
            Some(place) => limits.check.limits[place].cost = cost,
            None => {
                let key = format!("inline:{name}:{}:{{{id}}}", key_word(quota.algorithm()));
                let charge = Charge::Granted;
                limits.check.limits.push(LimitCheck { key, quota, cost, charge });
                limits.names.push(name);
            }
        }
        Ok(())
    }
}

/// Reads the name of a limit.
fn name(value: &Input<'_>) -> Result<String, BrokenRule> {
    let name = value::text(value, MAX_NAME_BYTES)?;
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_valid = |byte: u8| is_word(byte) || b"_.-".contains(&byte);
    if name.bytes().all(is_valid) && name.bytes().next().is_some_and(is_word) {
        return Ok(name);
    }
    let rule =
        "Value error, a name has the characters a-z 0-9 _ . - and begins with one of a-z 0-9";
    Err(BrokenRule::new("value_error", rule))
}

fn key_word(algorithm: Algorithm) -> &'static str {
    let kind = match algorithm {
        Algorithm::TokenBucket => Kind::TokenBucket,
        Algorithm::SlidingWindow => Kind::SlidingWindow,
        Algorithm::FixedWindow => Kind::FixedWindow,
    };
    kind.key_word()
}

fn only_without_limits(name: &str) -> BrokenRule {
    BrokenRule::new("value_error", format!("Value error, {name} is for checks without limits"))
}

fn other_numbers() -> BrokenRule {
    let rule = "Value error, limits with equal names must have equal algorithms and numbers";
    BrokenRule::new("value_error", rule)
}

#[cfg(test)]
mod tests {
    use limiter::{Units, Window};
    use serde_json::{Value, json};

    use super::{Defaults, Fields};
    use crate::error::Error;

    const DEFAULTS: Defaults =
        Defaults { limit: Units::new(100).unwrap(), window: Window::from_millis(60_000).unwrap() };

    /// The location and the message of each error.
    type Errors = Vec<(Value, String)>;

    /// Returns the key and the cost of each limit, or the errors.
    fn read(body: &Value) -> Result<Vec<(String, u32)>, Errors> {
        let body = body.to_string();
        let mut fields = Fields::from_body(body.as_bytes()).unwrap();
        let limits = fields.inline_limits(DEFAULTS);
        match fields.finish(limits) {
            Ok(limits) => {
                Ok(limits.check.limits.into_iter().map(|limit| (limit.key, limit.cost)).collect())
            }
            Err(Error::Invalid(errors)) => {
                Err(errors.iter().map(|error| (json!(error.loc), error.msg.to_string())).collect())
            }
            Err(error) => panic!("{error:?} has no errors of fields"),
        }
    }

    #[test]
    fn each_limit_has_a_key_of_its_own_and_equal_ones_have_the_sum_of_the_costs() {
        let limits = json!([
            { "name": "rate" },
            { "name": "day", "algorithm": "fixed_window", "period": "day", "cost": 5 },
            { "name": "rate", "cost": 2 },
            { "name": "0.a_b-c", "algorithm": "sliding_window" },
        ]);
        for (cost, costs) in
            [(Value::Null, [3, 5, 1]), (json!(7), [9, 5, 7]), (json!(0), [0, 0, 0])]
        {
            let mut body = json!({ "identifier": "a {b}|~", "limits": limits, "burst": null });
            if !cost.is_null() {
                body["cost"] = cost;
            }
            let keys = [
                "inline:rate:tb:{a%20%7Bb%7D%7C~}",
                "inline:day:fw:{a%20%7Bb%7D%7C~}",
                "inline:0.a_b-c:sw:{a%20%7Bb%7D%7C~}",
            ];
            let expected = keys.map(str::to_owned).into_iter().zip(costs).collect();
            assert_eq!(read(&body), Ok(expected));
        }
        let long = json!({ "identifier": "}".repeat(256), "limits": [{ "name": "n" }] });
        let key = &read(&long).unwrap()[0].0;
        assert!(key.starts_with("inline:n:tb:{~") && key.len() < 60, "{key}");
    }

    #[test]
    fn invalid_limits_name_their_rules() {
        let limits = json!([
            { "name": "A" }, { "name": "-a" }, {}, { "name": "n".repeat(64) }, 7,
            { "name": "a", "cost": 0 }, { "name": "a", "cost": 101 },
            { "name": "b", "cost": 60 }, { "name": "b", "cost": 60 },
            { "name": "b", "limit": 99 }, { "name": "b", "algorithm": "sliding_window" },
        ]);
        let body = json!({ "identifier": "i", "limits": limits, "limit": 5, "force": true });
        let errors = read(&body).unwrap_err();
        let places: Vec<_> = errors.iter().map(|(place, _)| place.to_string()).collect();
        let place =
            |position: usize, name: &str| json!(["body", "limits", position, name]).to_string();
        let expected = [
            json!(["body", "limit"]).to_string(),
            json!(["body", "force"]).to_string(),
            place(0, "name"),
            place(1, "name"),
            place(2, "name"),
            place(3, "name"),
            json!(["body", "limits", 4]).to_string(),
            place(5, "cost"),
            place(6, "cost"),
            place(8, "cost"),
            place(9, "name"),
            place(10, "name"),
        ];
        assert_eq!(places, expected);
        let equal = "Value error, limits with equal names must have equal algorithms and numbers";
        assert_eq!(errors[10].1, equal);
        assert_eq!(errors[0].1, "Value error, limit is for checks without limits");
        let many = json!({ "identifier": "i", "limits": vec![json!({ "name": "a" }); 17] });
        assert_eq!(read(&many).unwrap_err()[0].0, json!(["body", "limits"]));
    }
}
